/* The KVM core's arm64 part, as Python sees it: only in the extension of an arm64 host. */
#ifndef VMR_KVM_AARCH64_API_H
#define VMR_KVM_AARCH64_API_H
#include "kvm_api.h"

/* Give a vCPU its registers: the host's own kind of processor with PSCI and the features whose bits (1 << KVM_ARM_VCPU_*)
 * are set in `features`. powered 0: it waits for PSCI's CPU_ON. Before anything else is asked of a vCPU; again, it is a reset. */
int vmr_kvm_arm_vcpu_init(vmr_vcpu *vcpu, uint32_t features, int powered);
#endif
