/* arm64: what the common vCPU loop asks of an architecture. */
#include "kvm_core.h"

#define FIRST_SPI 32 /* of the GIC's interrupt numbers */

int vmr_kvm_arch_exit(vmr_kvm_vcpu *k, vmr_exit *exit) { return vmr_kvm_unknown_exit(k, exit); }

int vmr_kvm_arch_resume(vmr_kvm_vcpu *k, vmr_exit *exit) {
  (void)k, (void)exit;
  return VMR_KVM_AGAIN;
}

/* PSCI gives no reason: the event carries flags (KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2). */
uint64_t vmr_kvm_arch_reason(const struct kvm_run *run) {
  (void)run;
  return 0;
}

uint32_t vmr_kvm_arch_line(uint32_t gsi) {
  return (uint32_t)KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (gsi + FIRST_SPI);
}

/* The GIC is the kernel's: no device drives an input of a vCPU. */
void vmr_kvm_arch_set_irq(vmr_kvm_vcpu *k, uint32_t input, bool level) { (void)k, (void)input, (void)level; }
