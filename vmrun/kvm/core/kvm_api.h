/* The KVM core as Python sees it, on every architecture. Read by the compiler and by cffi, like core_api.h.
 *
 * Sources: Linux Documentation/virt/kvm/api.rst; the ioctl numbers and structures come from <linux/kvm.h>.
 * A text at vmr_machine_error() begins with the name of the ioctl that failed and a colon.
 */
#ifndef VMR_KVM_API_H
#define VMR_KVM_API_H
#include "line_api.h"

typedef struct vmr_kvm vmr_kvm;

/* What an open /dev/kvm answers to KVM_CHECK_EXTENSION, or -errno. */
int vmr_kvm_capability(int kvm_fd, uint32_t capability);
/* KVM_GET_API_VERSION, or -errno. */
int vmr_kvm_version(int kvm_fd);

/* Make a VM for the machine, with the machine's memory as its slots, now and as it changes. kvm_fd, an open /dev/kvm, is
 * not kept. type: KVM_CREATE_VM's argument. The machine frees it. The first VM of a process installs
 * the handler of the signal that kicks vCPUs (SIGRTMIN). */
int vmr_kvm_new(vmr_machine *machine, int kvm_fd, uint64_t type, vmr_kvm **kvm);
/* Make a vCPU. id is the architecture's number for it: on x86 its APIC id, which may leave gaps. */
int vmr_kvm_vcpu_new(vmr_kvm *kvm, uint32_t id, vmr_vcpu **vcpu);

/* A vCPU halts for good: no interrupt controller in the kernel could wake it. */
#define VMR_EXIT_HALT 7

/* Where a vCPU is in its life (KVM_MP_STATE_*). */
int vmr_kvm_get_mp_state(vmr_vcpu *vcpu, uint32_t *state);
int vmr_kvm_set_mp_state(vmr_vcpu *vcpu, uint32_t state);

/* ---- interrupts, and doorbells without an exit ----------------------------------------------------------------- */

/* The kernel's own interrupt controller gives the machine its wired lines: pin n is GSI n. */
int vmr_kvm_wire(vmr_kvm *kvm);
/* It takes the machine's messages; base as in vmr_msi. */
int vmr_kvm_messages(vmr_kvm *kvm, uint64_t base);
/* A signal of eventfd raises gsi: as an edge, or, with a resample eventfd (-1: none), as a level that falls when the
 * guest acknowledges it, which the resample eventfd tells (KVM_IRQFD). attach 0 takes it off. Descriptors stay the
 * caller's. */
int vmr_kvm_irqfd(vmr_kvm *kvm, int eventfd, uint32_t gsi, int resample, int attach);
/* Writes of `size` bytes (0: any) to gpa (VMR_PIO | port: an I/O port) signal eventfd in the kernel; with match, only
 * those that write *match (KVM_IOEVENTFD). attach 0 takes it off. */
int vmr_kvm_ioeventfd(vmr_kvm *kvm, int eventfd, uint64_t gpa, uint32_t size, const uint64_t *match, int attach);
/* Deliver a message-signalled interrupt. -EAGAIN: the guest masks it. */
int vmr_kvm_signal_msi(vmr_kvm *kvm, uint64_t address, uint32_t data);

/* What a GSI leads to: pin of chip (KVM_IRQCHIP_*), or a message where msi is 1. */
typedef struct vmr_kvm_route {
  uint32_t gsi;
  uint32_t msi;
  uint32_t chip;
  uint32_t pin;
  uint64_t address;
  uint32_t data;
} vmr_kvm_route;
/* Replace the whole routing table (KVM_SET_GSI_ROUTING). */
int vmr_kvm_set_routes(vmr_kvm *kvm, const vmr_kvm_route *routes, uint32_t count);

/* ---- registers by number, and devices in the kernel ------------------------------------------------------------- */

/* A register of at most 64 bits by its number (KVM_GET_ONE_REG, KVM_SET_ONE_REG), zero-extended; larger: -EMSGSIZE.
 * -ENOENT: this KVM, or this vCPU, has none of the number. Only while the vCPU is not running. */
int vmr_kvm_get_reg(vmr_vcpu *vcpu, uint64_t id, uint64_t *value);
int vmr_kvm_set_reg(vmr_vcpu *vcpu, uint64_t id, uint64_t value);
/* The numbers of all registers (KVM_GET_REG_LIST). Returns how many, -E2BIG where they are more than capacity. */
int vmr_kvm_reg_list(vmr_vcpu *vcpu, uint64_t *ids, uint32_t capacity);

/* A device that KVM itself serves (KVM_CREATE_DEVICE), of kind KVM_DEV_TYPE_*; the VM owns it. -ENODEV: it has none. */
typedef struct vmr_kvm_device vmr_kvm_device;
int vmr_kvm_device_new(vmr_kvm *kvm, uint32_t kind, vmr_kvm_device **device);
/* 0: KVM has that kind, -ENODEV: it has not. Nothing is made. */
int vmr_kvm_device_test(vmr_kvm *kvm, uint32_t kind);
/* An attribute of a device; value points to what its group says, or is NULL. */
int vmr_kvm_device_set(vmr_kvm_device *device, uint32_t group, uint64_t attribute, const void *value);
int vmr_kvm_device_get(vmr_kvm_device *device, uint32_t group, uint64_t attribute, void *value);
/* The same of a vCPU; has returns 0, or -ENXIO where it does not have the attribute. */
int vmr_kvm_vcpu_attr_set(vmr_vcpu *vcpu, uint32_t group, uint64_t attribute, const void *value);
int vmr_kvm_vcpu_attr_has(vmr_vcpu *vcpu, uint32_t group, uint64_t attribute);

/* ---- reports --------------------------------------------------------------------------------------------------- */

/* Why a vCPU fell over: .code of VMR_EXIT_FAULT. */
#define VMR_KVM_TRIPLE_FAULT 1
#define VMR_KVM_INTERNAL_ERROR 2
#define VMR_KVM_FAILED_ENTRY 3
#define VMR_KVM_UNKNOWN_EXIT 4
#define VMR_KVM_MEMORY_FAULT 5
#define VMR_KVM_GUEST_CRASH 6
#define VMR_KVM_UNDONE_ACCESS 7

/* What KVM said when a vCPU fell over. data: internal.data of an internal error, hardware_entry_failure_reason and cpu
 * of a failed entry, system_event.data of a crash; otherwise the first words of kvm_run's union as they were. */
typedef struct vmr_kvm_fault {
  uint32_t code;        /* VMR_KVM_*, 0: the vCPU is well */
  uint32_t exit_reason; /* KVM_EXIT_* */
  uint32_t suberror;
  uint32_t data_count;
  uint64_t data[16];
} vmr_kvm_fault;
/* Only while the vCPU is not running. */
int vmr_kvm_get_fault(vmr_vcpu *vcpu, vmr_kvm_fault *fault);

typedef struct vmr_kvm_stats {
  uint64_t runs; /* returns of KVM_RUN */
  uint64_t mmio;
  uint64_t pio;         /* one for each port access of a string instruction */
  uint64_t python;      /* of both, those served by Python */
  uint64_t interrupted; /* by kicks and other signals */
} vmr_kvm_stats;
/* A snapshot; any thread. */
int vmr_kvm_get_stats(vmr_vcpu *vcpu, vmr_kvm_stats *stats);
#endif
