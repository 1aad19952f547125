/* Inside of the KVM core: shared by its own files alone. */
#ifndef VMR_KVM_CORE_H
#define VMR_KVM_CORE_H
#include <linux/kvm.h>

#include "core.h"
#include "kvm_api.h"

struct vmr_kvm {
  vmr_machine *machine;
  int fd;
  size_t run_bytes;        /* of a vCPU's shared area */
  bool clears_logs;        /* KVM_CLEAR_DIRTY_LOG: reading a log leaves it as it is */
  _Atomic uint32_t owners; /* the machine and each vCPU */
  void *arch;              /* what the architecture keeps of it; the machine frees that (vmr_on_free) */
};

typedef struct vmr_kvm_vcpu {
  vmr_vcpu vcpu;
  vmr_kvm *kvm;
  int fd;
  struct kvm_run *run; /* shared with the kernel */

  pthread_mutex_t lock; /* thread, running */
  pthread_t thread;
  bool known; /* thread is set */
  bool running;

  /* An access that left for Python; it ends at the next run. */
  bool waiting;
  vmr_bus_access access;
  uint8_t *slot;    /* where a value read goes, in the shared area */
  uint32_t element; /* x86: the element of a string access that comes next */

  uint32_t completions; /* exits served while the machine stops */
  vmr_kvm_fault fault;
  vmr_kvm_stats stats;
} vmr_kvm_vcpu;

/* What serving an exit leads to: VMR_KVM_AGAIN enters the guest, 0 leaves with *exit filled, below 0 is -errno. */
#define VMR_KVM_AGAIN 1

static inline vmr_kvm_vcpu *vmr_kvm_vcpu_of(vmr_vcpu *vcpu) { return (vmr_kvm_vcpu *)vcpu; }

/* ioctl that is made again when a signal cuts it short. Its result, or -errno. */
int vmr_kvm_ioctl(int fd, unsigned long request, void *argument);
/* The same with its error recorded under the ioctl's name. */
int vmr_kvm_call(const vmr_kvm *kvm, int fd, unsigned long request, void *argument, const char *name);
#define VMR_VM_CALL(kvm, request, argument) vmr_kvm_call(kvm, (kvm)->fd, request, argument, #request)
#define VMR_VCPU_CALL(vcpu, request, argument) vmr_kvm_call((vcpu)->kvm, (vcpu)->fd, request, argument, #request)
void vmr_kvm_release(vmr_kvm *kvm);
/* Make the machine's memory the VM's slots, now and whenever it changes. */
int vmr_kvm_memory(vmr_kvm *kvm);
int vmr_kvm_kick_signal(void);

void vmr_kvm_count(uint64_t *counter); /* by the vCPU's own thread */
/* Serve one access of the guest on the machine's bus; data lies in the shared area. Leaves for Python where it must. */
int vmr_kvm_access(vmr_kvm_vcpu *vcpu, uint64_t gpa, uint32_t size, bool write, uint8_t *data, vmr_exit *exit);
/* Keep the facts (count words of data) and leave with VMR_EXIT_FAULT. text: one line. */
int vmr_kvm_fall(vmr_kvm_vcpu *vcpu, vmr_exit *exit, uint32_t code, const void *data, uint32_t count, const char *text);
int vmr_kvm_unknown_exit(vmr_kvm_vcpu *vcpu, vmr_exit *exit);

/* ---- what each architecture answers: one folder beside this file each ------------------------------------------- */

/* The exit is none of the common ones: serve it, or call vmr_kvm_unknown_exit. */
int vmr_kvm_arch_exit(vmr_kvm_vcpu *vcpu, vmr_exit *exit);
/* An access that left for Python is complete: serve what else its exit has. */
int vmr_kvm_arch_resume(vmr_kvm_vcpu *vcpu, vmr_exit *exit);
/* The guest's own word on why it ended, out of a system event: what SBI calls a reset reason; 0: none. */
uint64_t vmr_kvm_arch_reason(const struct kvm_run *run);
/* kvm_irq_level.irq for a wired line. */
uint32_t vmr_kvm_arch_line(uint32_t gsi);
/* An interrupt input of the vCPU itself, for a controller outside of the kernel. -EINVAL: there is none of that number. */
int vmr_kvm_arch_input(vmr_kvm_vcpu *vcpu, uint32_t input, vmr_line *line);
#endif
