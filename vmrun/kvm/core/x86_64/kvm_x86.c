/* x86: what a VM has in the kernel, and the exits that only x86 has. */
#include <errno.h>
#include <string.h>

#include "kvm_core.h"
#include "kvm_x86_api.h"

/* ---- the VM ------------------------------------------------------------------------------------------------------ */

int vmr_kvm_x86_real_mode_pages(vmr_kvm *kvm, uint64_t tss_gpa, uint64_t identity_gpa) {
  int rc = VMR_VM_CALL(kvm, KVM_SET_IDENTITY_MAP_ADDR, &identity_gpa);
  return rc < 0 ? rc : VMR_VM_CALL(kvm, KVM_SET_TSS_ADDR, (void *)(uintptr_t)tss_gpa);
}

int vmr_kvm_x86_irqchip(vmr_kvm *kvm, int split) {
  if (!split) return VMR_VM_CALL(kvm, KVM_CREATE_IRQCHIP, NULL);
  struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP}; /* args[0] = 0: no GSI is kept for an IOAPIC outside */
  return vmr_kvm_call(kvm, kvm->fd, KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP(KVM_CAP_SPLIT_IRQCHIP)");
}

int vmr_kvm_x86_pit(vmr_kvm *kvm) {
  struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
  return VMR_VM_CALL(kvm, KVM_CREATE_PIT2, &config);
}

/* ---- exits ------------------------------------------------------------------------------------------------------- */

/* Port accesses from element `from` on; a string instruction's elements all go to the one port. */
static int serve_io(vmr_kvm_vcpu *k, uint32_t from, vmr_exit *exit) {
  struct kvm_run *run = k->run;
  uint64_t port = VMR_PIO | run->io.port;
  uint8_t *data = (uint8_t *)run + run->io.data_offset;
  for (uint32_t i = from; i < run->io.count; i++) {
    vmr_kvm_count(&k->stats.pio);
    k->element = i + 1;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;
    int rc = vmr_kvm_access(k, port, run->io.size, write, data + (size_t)i * run->io.size, exit);
    if (rc != VMR_KVM_AGAIN) return rc;
  }
  return VMR_KVM_AGAIN;
}

int vmr_kvm_arch_exit(vmr_kvm_vcpu *k, vmr_exit *exit) {
  switch (k->run->exit_reason) {
    case KVM_EXIT_IO: return serve_io(k, 0, exit);
    case KVM_EXIT_HLT: *exit = (vmr_exit){.kind = VMR_EXIT_HALT}; return 0;
    default: return vmr_kvm_unknown_exit(k, exit);
  }
}

int vmr_kvm_arch_resume(vmr_kvm_vcpu *k, vmr_exit *exit) {
  return k->run->exit_reason == KVM_EXIT_IO ? serve_io(k, k->element, exit) : VMR_KVM_AGAIN;
}

uint64_t vmr_kvm_arch_reason(const struct kvm_run *run) {
  (void)run;
  return 0;
}

uint32_t vmr_kvm_arch_line(uint32_t gsi) { return gsi; }

/* The LAPICs are the kernel's: no device drives an input of a vCPU. */
int vmr_kvm_arch_input(vmr_kvm_vcpu *k, uint32_t input, vmr_line *line) {
  (void)k, (void)input, (void)line;
  return -EINVAL;
}
