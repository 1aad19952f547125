/* A VM: made from an open /dev/kvm, with the machine's memory as its slots (kvm_memory.c). */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_core.h"

int vmr_kvm_ioctl(int fd, unsigned long request, void *argument) {
  int rc;
  do
    rc = ioctl(fd, request, argument);
  while (rc < 0 && errno == EINTR);
  return rc < 0 ? -errno : rc;
}

int vmr_kvm_call(const vmr_kvm *kvm, int fd, unsigned long request, void *argument, const char *name) {
  int rc = vmr_kvm_ioctl(fd, request, argument);
  return rc < 0 ? vmr_fail(kvm->machine, -rc, "%s: %s", name, strerror(-rc)) : rc;
}

int vmr_kvm_capability(int kvm_fd, uint32_t capability) {
  return vmr_kvm_ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
}

int vmr_kvm_version(int kvm_fd) { return vmr_kvm_ioctl(kvm_fd, KVM_GET_API_VERSION, NULL); }

/* ---- the signal that makes a vCPU leave the guest ---------------------------------------------------------------- */

int vmr_kvm_kick_signal(void) { return SIGRTMIN; }

static void on_kick(int signal) { (void)signal; } /* that it came is all: KVM_RUN returns */

/* Once it stands, the handler never changes: threads that install it at one time install the same. */
static int install_kick(vmr_machine *machine) {
  struct sigaction now, ours = {.sa_handler = on_kick};
  sigemptyset(&ours.sa_mask);
  if (sigaction(vmr_kvm_kick_signal(), NULL, &now) == 0 && now.sa_handler == on_kick) return 0;
  if (sigaction(vmr_kvm_kick_signal(), &ours, NULL) == 0) return 0;
  int errnum = errno;
  return vmr_fail(machine, errnum, "sigaction: %s", strerror(errnum));
}

/* ---- the VM ------------------------------------------------------------------------------------------------------ */

void vmr_kvm_release(vmr_kvm *kvm) {
  if (atomic_fetch_sub(&kvm->owners, 1) != 1) return;
  close(kvm->fd);
  free(kvm);
}

static void release(void *kvm) { vmr_kvm_release(kvm); }

int vmr_kvm_new(vmr_machine *machine, int kvm_fd, uint64_t type, vmr_kvm **out) {
  *out = NULL;
  int rc = install_kick(machine);
  if (rc) return rc;
  vmr_kvm *kvm = calloc(1, sizeof *kvm);
  if (!kvm) return vmr_fail(machine, ENOMEM, "out of memory");
  *kvm = (vmr_kvm){.machine = machine, .owners = 1, .fd = -1};
  rc = vmr_kvm_call(kvm, kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
  if (rc >= 0) {
    kvm->run_bytes = (size_t)rc;
    rc = vmr_kvm_call(kvm, kvm_fd, KVM_CREATE_VM, (void *)(uintptr_t)type, "KVM_CREATE_VM");
  }
  if (rc < 0) {
    free(kvm);
    return rc;
  }
  kvm->fd = rc; /* close-on-exec: the kernel makes it so */
  rc = vmr_kvm_memory(kvm);
  if (!rc) rc = vmr_on_free(machine, release, kvm);
  if (rc) {
    vmr_kvm_release(kvm);
    return rc;
  }
  *out = kvm;
  return 0;
}
