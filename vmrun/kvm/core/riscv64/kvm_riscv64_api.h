/* KVM on riscv64 as Python sees it. Read by the compiler and by cffi, like core_api.h. */
#ifndef VMR_KVM_RISCV64_API_H
#define VMR_KVM_RISCV64_API_H
#include "kvm_api.h"

/* Where the guest's firmware console goes, and what it reads: host descriptors, -1: not connected. SBI DBCN and the legacy
 * console calls, which KVM hands on. Before the first vCPU runs. */
int vmr_kvm_riscv64_console(vmr_kvm *kvm, int in_fd, int out_fd);
#endif
