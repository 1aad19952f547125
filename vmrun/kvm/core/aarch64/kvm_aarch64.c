/* arm64: how a vCPU is made, and what the common vCPU loop asks of an architecture. */
#include <errno.h>

#include "kvm_core.h"
#include "kvm_aarch64_api.h"

#define FIRST_SPI 32 /* of the GIC's interrupt numbers (Arm IHI 0069, section 2.2) */

int vmr_kvm_arm_vcpu_init(vmr_vcpu *vcpu, uint32_t features, int powered) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  struct kvm_vcpu_init init = {0};
  int rc = VMR_VM_CALL(k->kvm, KVM_ARM_PREFERRED_TARGET, &init);
  if (rc < 0) return rc;
  init.features[0] |= features | 1u << KVM_ARM_VCPU_PSCI_0_2;
  if (!powered) init.features[0] |= 1u << KVM_ARM_VCPU_POWER_OFF;
  rc = VMR_VCPU_CALL(k, KVM_ARM_VCPU_INIT, &init);
  if (rc < 0 || !(features & 1u << KVM_ARM_VCPU_SVE)) return rc;
  int feature = KVM_ARM_VCPU_SVE; /* with every vector length that the host has */
  return VMR_VCPU_CALL(k, KVM_ARM_VCPU_FINALIZE, &feature);
}

/* ---- hooks ------------------------------------------------------------------------------------------------------- */

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
int vmr_kvm_arch_input(vmr_kvm_vcpu *k, uint32_t input, vmr_line *line) {
  (void)k, (void)input, (void)line;
  return -EINVAL;
}
