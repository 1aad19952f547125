/* riscv64: what the common vCPU loop asks of an architecture. */
#include "kvm_core.h"

int vmr_kvm_arch_exit(vmr_kvm_vcpu *k, vmr_exit *exit) { return vmr_kvm_unknown_exit(k, exit); }

int vmr_kvm_arch_resume(vmr_kvm_vcpu *k, vmr_exit *exit) {
  (void)k, (void)exit;
  return VMR_KVM_AGAIN;
}

/* Linux arch/riscv/kvm/vcpu_sbi.c, kvm_riscv_vcpu_sbi_system_reset. */
uint64_t vmr_kvm_arch_reason(const struct kvm_run *run) {
  return run->system_event.ndata ? run->system_event.data[0] : 0;
}

uint32_t vmr_kvm_arch_line(uint32_t gsi) { return gsi; }

/* A PLIC outside of the kernel drives the supervisor's external interrupt. */
void vmr_kvm_arch_set_irq(vmr_kvm_vcpu *k, uint32_t input, bool level) {
  if (input != VMR_VCPU_IRQ_S_EXT) return;
  struct kvm_interrupt interrupt = {.irq = level ? (uint32_t)KVM_INTERRUPT_SET : (uint32_t)KVM_INTERRUPT_UNSET};
  vmr_kvm_ioctl(k->fd, KVM_INTERRUPT, &interrupt);
}
