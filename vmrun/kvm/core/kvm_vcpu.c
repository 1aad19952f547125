/* A vCPU: made, run by a host thread of its own, kicked out of the guest, freed. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_core.h"

/* How many exits of instructions under way are served once the machine stops: an access is cut into a few pieces at
 * most, but a string instruction could go on for ever. */
#define MAX_COMPLETIONS 64

#define KVM_EXIT_MEMORY_FAULT_CODE 39 /* KVM_EXIT_MEMORY_FAULT, newer than some <linux/kvm.h> */

void vmr_kvm_count(uint64_t *counter) { __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED); }

/* ---- exits ------------------------------------------------------------------------------------------------------- */

int vmr_kvm_fall(vmr_kvm_vcpu *k, vmr_exit *exit, uint32_t code, const void *data, uint32_t count, const char *text) {
  const uint32_t room = sizeof k->fault.data / sizeof k->fault.data[0];
  k->fault.code = code;
  k->fault.exit_reason = k->run->exit_reason;
  k->fault.data_count = count < room ? count : room;
  memcpy(k->fault.data, data, k->fault.data_count * sizeof k->fault.data[0]);
  exit->code = code;
  return vmr_vcpu_fall(&k->vcpu, exit, "%s", text);
}

static int leave_for_python(vmr_kvm_vcpu *k, uint8_t *data, vmr_exit *exit) {
  vmr_kvm_count(&k->stats.python);
  k->waiting = true;
  k->slot = data;
  vmr_bus_ask(&k->access, exit);
  return 0;
}

int vmr_kvm_access(vmr_kvm_vcpu *k, uint64_t gpa, uint32_t size, bool write, uint8_t *data, vmr_exit *exit) {
  uint64_t value = 0;
  int outcome;
  if (write) {
    memcpy(&value, data, size); /* little-endian, as every host of this engine */
    outcome = vmr_bus_write(k->vcpu.machine, gpa, size, value, &k->access);
  } else {
    outcome = vmr_bus_read(k->vcpu.machine, gpa, size, &value, &k->access);
    if (outcome == VMR_BUS_NONE) value = ~0ull; /* what a bus without a target reads as */
    memcpy(data, &value, size);
  }
  return outcome == VMR_BUS_PYTHON ? leave_for_python(k, data, exit) : VMR_KVM_AGAIN;
}

static int serve_mmio(vmr_kvm_vcpu *k, vmr_exit *exit) {
  struct kvm_run *run = k->run;
  vmr_kvm_count(&k->stats.mmio);
  uint32_t size = run->mmio.len;
  if (size > sizeof run->mmio.data) size = sizeof run->mmio.data;
  return vmr_kvm_access(k, run->mmio.phys_addr, size, run->mmio.is_write, run->mmio.data, exit);
}

static int system_event(vmr_kvm_vcpu *k, vmr_exit *exit) {
  const struct kvm_run *run = k->run;
  *exit = (vmr_exit){.kind = VMR_EXIT_SYSTEM, .data = vmr_kvm_arch_reason(run)};
  switch (run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN: exit->code = VMR_SYSTEM_POWEROFF; return 0;
    case KVM_SYSTEM_EVENT_RESET: exit->code = VMR_SYSTEM_COLD_REBOOT; return 0;
    default:
      k->fault.suberror = run->system_event.type;
      return vmr_kvm_fall(k, exit, VMR_KVM_GUEST_CRASH, run->system_event.data, run->system_event.ndata,
                          "KVM reports that the guest crashed");
  }
}

int vmr_kvm_unknown_exit(vmr_kvm_vcpu *k, vmr_exit *exit) {
  return vmr_kvm_fall(k, exit, VMR_KVM_UNKNOWN_EXIT, &k->run->hw, 16,
                      "KVM left the guest for a reason that vmrun does not know");
}

static int serve(vmr_kvm_vcpu *k, vmr_exit *exit) {
  struct kvm_run *run = k->run;
  switch (run->exit_reason) {
    case KVM_EXIT_MMIO: return serve_mmio(k, exit);
    case KVM_EXIT_SYSTEM_EVENT: return system_event(k, exit);
    case KVM_EXIT_INTR: return VMR_KVM_AGAIN;
    case KVM_EXIT_SHUTDOWN: return vmr_kvm_fall(k, exit, VMR_KVM_TRIPLE_FAULT, &run->hw, 0, "triple fault");
    case KVM_EXIT_INTERNAL_ERROR:
      k->fault.suberror = run->internal.suberror;
      return vmr_kvm_fall(k, exit, VMR_KVM_INTERNAL_ERROR, run->internal.data, run->internal.ndata,
                          "KVM internal error");
    case KVM_EXIT_FAIL_ENTRY:
      return vmr_kvm_fall(k, exit, VMR_KVM_FAILED_ENTRY, &run->fail_entry, 2,
                          "the processor refused to enter the guest");
    default: return vmr_kvm_arch_exit(k, exit);
  }
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static void set_immediate_exit(vmr_kvm_vcpu *k, uint8_t value) {
  __atomic_store_n(&k->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

static int stopped(vmr_exit *exit) {
  *exit = (vmr_exit){.kind = VMR_EXIT_STOPPED};
  return 0;
}

/* KVM_RUN came back with an error. */
static int failed_run(vmr_kvm_vcpu *k, int errnum, bool stopping, vmr_exit *exit) {
  if (errnum == EINTR || errnum == EAGAIN) {
    if (stopping) return stopped(exit);
    if (errnum == EINTR) vmr_kvm_count(&k->stats.interrupted);
    set_immediate_exit(k, 0); /* a stop between here and the next look is seen by that look */
    return VMR_KVM_AGAIN;
  }
  if (errnum == EFAULT && k->run->exit_reason == KVM_EXIT_MEMORY_FAULT_CODE)
    return vmr_kvm_fall(k, exit, VMR_KVM_MEMORY_FAULT, &k->run->hw, 3, "KVM cannot reach the guest's memory");
  /* riscv64 (vcpu_insn.c): an atomic, floating or misaligned access; arm64 (mmio.c): one without a syndrome, as a pair. */
  if (errnum == EOPNOTSUPP || errnum == EIO || errnum == ENOSYS)
    return vmr_kvm_fall(k, exit, VMR_KVM_UNDONE_ACCESS, &k->run->hw, 0, "KVM cannot carry out an access to a device");
  return vmr_fail(k->vcpu.machine, errnum, "KVM_RUN: %s", strerror(errnum));
}

/* Enter the guest once and serve what it left for. Where the machine stops, KVM completes the instruction under way and
 * enters no other: so its registers are whole for a report. */
static int step(vmr_kvm_vcpu *k, vmr_exit *exit) {
  bool stopping = vmr_machine_stopping(k->vcpu.machine);
  if (stopping) {
    set_immediate_exit(k, 1);
    if (k->completions++ == MAX_COMPLETIONS) return stopped(exit);
  }
  int rc = ioctl(k->fd, KVM_RUN, 0);
  vmr_kvm_count(&k->stats.runs);
  if (rc < 0) return failed_run(k, errno, stopping, exit);
  vmr_reader_enter(&k->vcpu.reader);
  rc = serve(k, exit);
  vmr_reader_leave(&k->vcpu.reader);
  return rc;
}

/* An access that left for Python is done, or a piece of it. */
static int complete(vmr_kvm_vcpu *k, vmr_exit *exit) {
  if (!k->waiting) return VMR_KVM_AGAIN;
  if (!vmr_bus_take(&k->access, exit)) { /* Python serves the next piece of it */
    vmr_bus_ask(&k->access, exit);
    return 0;
  }
  k->waiting = false;
  if (!k->access.write) memcpy(k->slot, &k->access.value, k->access.size);
  vmr_reader_enter(&k->vcpu.reader);
  int rc = vmr_kvm_arch_resume(k, exit);
  vmr_reader_leave(&k->vcpu.reader);
  return rc;
}

static void enter(vmr_kvm_vcpu *k) {
  if (!k->known || !pthread_equal(k->thread, pthread_self())) { /* whoever started the thread may have blocked it */
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, vmr_kvm_kick_signal());
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
  }
  pthread_mutex_lock(&k->lock);
  k->thread = pthread_self();
  k->known = k->running = true;
  pthread_mutex_unlock(&k->lock);
}

static void leave(vmr_kvm_vcpu *k) {
  pthread_mutex_lock(&k->lock);
  k->running = false;
  pthread_mutex_unlock(&k->lock);
}

static int vcpu_run(vmr_vcpu *vcpu, vmr_exit *exit) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  enter(k);
  int rc = complete(k, exit);
  while (rc == VMR_KVM_AGAIN) rc = step(k, exit);
  leave(k);
  return rc;
}

/* The flag catches a thread on its way in, the signal one that is in the guest or sleeps for it. */
static void vcpu_kick(vmr_vcpu *vcpu) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  pthread_mutex_lock(&k->lock);
  set_immediate_exit(k, 1);
  if (k->running) pthread_kill(k->thread, vmr_kvm_kick_signal());
  pthread_mutex_unlock(&k->lock);
}

static int vcpu_line(vmr_vcpu *vcpu, uint32_t input, vmr_line *line) {
  return vmr_kvm_arch_input(vmr_kvm_vcpu_of(vcpu), input, line);
}

/* ---- its making and end ------------------------------------------------------------------------------------------ */

static void vcpu_free(vmr_vcpu *vcpu) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  if (k->run != MAP_FAILED) munmap(k->run, k->kvm->run_bytes);
  if (k->fd >= 0) close(k->fd);
  vmr_kvm_release(k->kvm);
  pthread_mutex_destroy(&k->lock);
  free(k);
}

static const vmr_vcpu_ops ops = {.run = vcpu_run, .kick = vcpu_kick, .line = vcpu_line, .free = vcpu_free};

static int open_vcpu(vmr_kvm_vcpu *k, uint32_t id) {
  k->fd = VMR_VM_CALL(k->kvm, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
  if (k->fd < 0) return k->fd;
  k->run = mmap(NULL, k->kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
  if (k->run != MAP_FAILED) return 0;
  int errnum = errno;
  return vmr_fail(k->kvm->machine, errnum, "mmap of a vCPU: %s", strerror(errnum));
}

int vmr_kvm_vcpu_new(vmr_kvm *kvm, uint32_t id, vmr_vcpu **vcpu) {
  *vcpu = NULL;
  vmr_kvm_vcpu *k = calloc(1, sizeof *k);
  if (!k) return vmr_fail(kvm->machine, ENOMEM, "out of memory");
  k->vcpu.ops = &ops;
  k->kvm = kvm;
  k->run = MAP_FAILED;
  k->fd = -1;
  atomic_fetch_add(&kvm->owners, 1);
  pthread_mutex_init(&k->lock, NULL);
  int rc = open_vcpu(k, id);
  if (!rc) rc = vmr_vcpu_add(kvm->machine, &k->vcpu);
  if (rc) {
    vcpu_free(&k->vcpu);
    return rc;
  }
  *vcpu = &k->vcpu;
  return 0;
}

int vmr_kvm_get_mp_state(vmr_vcpu *vcpu, uint32_t *state) {
  struct kvm_mp_state mp;
  int rc = VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_GET_MP_STATE, &mp);
  *state = rc < 0 ? 0 : mp.mp_state;
  return rc;
}

int vmr_kvm_set_mp_state(vmr_vcpu *vcpu, uint32_t state) {
  struct kvm_mp_state mp = {.mp_state = state};
  return VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_SET_MP_STATE, &mp);
}

int vmr_kvm_get_fault(vmr_vcpu *vcpu, vmr_kvm_fault *fault) {
  *fault = vmr_kvm_vcpu_of(vcpu)->fault;
  return 0;
}

int vmr_kvm_get_stats(vmr_vcpu *vcpu, vmr_kvm_stats *stats) {
  vmr_kvm_stats *now = &vmr_kvm_vcpu_of(vcpu)->stats;
  stats->runs = __atomic_load_n(&now->runs, __ATOMIC_RELAXED);
  stats->mmio = __atomic_load_n(&now->mmio, __ATOMIC_RELAXED);
  stats->pio = __atomic_load_n(&now->pio, __ATOMIC_RELAXED);
  stats->python = __atomic_load_n(&now->python, __ATOMIC_RELAXED);
  stats->interrupted = __atomic_load_n(&now->interrupted, __ATOMIC_RELAXED);
  return 0;
}
