/* A machine's life: made, filled, started, stopped, freed; its vCPUs, its errors, and what its guest did wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

static void free_core(vmr_machine *machine) {
  vmr_bus_fini(machine);
  vmr_regions_fini(machine);
  vmr_tables_fini(machine);
  if (machine->trouble >= 0) close(machine->trouble);
  pthread_mutex_destroy(&machine->readers_lock);
  pthread_mutex_destroy(&machine->change);
  pthread_mutex_destroy(&machine->lock);
  free(machine);
}

int vmr_machine_new(vmr_machine **out) {
  *out = NULL;
  vmr_machine *machine = calloc(1, sizeof *machine);
  if (!machine) return -ENOMEM;
  pthread_mutex_init(&machine->lock, NULL);
  pthread_mutex_init(&machine->change, NULL);
  pthread_mutex_init(&machine->readers_lock, NULL);
  atomic_store(&machine->epoch, 1);
  machine->trouble = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int rc = machine->trouble < 0 ? -errno : vmr_bus_init(machine);
  if (!rc) rc = vmr_regions_init(machine);
  if (!rc) rc = vmr_io_init(machine);
  if (!rc && (rc = vmr_clock_init(machine))) vmr_io_fini(machine);
  if (rc) free_core(machine);
  else *out = machine;
  return rc;
}

int vmr_machine_start(vmr_machine *machine) {
  if (machine->started) return vmr_fail(machine, EBUSY, "the machine has started already");
  int rc = vmr_io_start(machine);
  if (rc) return rc;
  machine->started = true;
  vmr_clock_begin(&machine->clock);
  return 0;
}

void vmr_machine_stop(vmr_machine *machine) {
  atomic_store(&machine->stopping, true);
  uint32_t count = atomic_load(&machine->vcpu_count);
  for (uint32_t i = 0; i < count; i++) vmr_vcpu_kick(machine->vcpus[i]);
}

bool vmr_machine_stopping(const vmr_machine *machine) {
  return atomic_load_explicit(&machine->stopping, memory_order_acquire);
}

void vmr_machine_halt(vmr_machine *machine, int patience_ms) {
  if (machine->halted) return;
  machine->halted = true;
  uint64_t until = patience_ms < 0 ? UINT64_MAX : vmr_host_ns() + (uint64_t)patience_ms * 1000000;
  for (size_t i = machine->on_halt.count; i-- > 0;)
    machine->on_halt.items[i].halt(machine->on_halt.items[i].device, until);
}

void vmr_machine_free(vmr_machine *machine) {
  if (!machine) return;
  vmr_machine_stop(machine);
  vmr_machine_halt(machine, -1);
  vmr_io_end(machine);
  for (size_t i = machine->on_free.count; i-- > 0;) machine->on_free.items[i].call(machine->on_free.items[i].device);
  for (uint32_t i = atomic_load(&machine->vcpu_count); i-- > 0;) machine->vcpus[i]->ops->free(machine->vcpus[i]);
  vmr_state_fini(machine);
  vmr_clock_fini(machine);
  vmr_io_fini(machine);
  free(machine->on_halt.items);
  free(machine->on_free.items);
  free(machine->on_drain.items);
  free_core(machine);
}

/* ---- vCPUs ----------------------------------------------------------------------------------------------------- */

int vmr_vcpu_add(vmr_machine *machine, vmr_vcpu *vcpu) {
  uint32_t count = atomic_load(&machine->vcpu_count);
  if (machine->started) return vmr_fail(machine, EBUSY, "a vCPU cannot join a machine that has started");
  if (count == VMR_VCPUS) return vmr_fail(machine, ENOSPC, "more than %d vCPUs", VMR_VCPUS);
  vcpu->machine = machine;
  vcpu->index = count;
  machine->vcpus[count] = vcpu;
  vmr_reader_add(machine, &vcpu->reader, true);
  atomic_store(&machine->vcpu_count, count + 1);
  return 0;
}

vmr_vcpu *vmr_vcpu_at(const vmr_machine *machine, uint32_t index) {
  return index < vmr_vcpu_count(machine) ? machine->vcpus[index] : NULL;
}

uint32_t vmr_vcpu_count(const vmr_machine *machine) {
  return atomic_load_explicit(&machine->vcpu_count, memory_order_acquire);
}

uint32_t vmr_vcpu_total(vmr_machine *machine) { return vmr_vcpu_count(machine); }

int vmr_vcpu_run(vmr_vcpu *vcpu, vmr_exit *exit) { return vcpu->ops->run(vcpu, exit); }

void vmr_vcpu_kick(vmr_vcpu *vcpu) { vcpu->ops->kick(vcpu); }

int vmr_vcpu_fall(vmr_vcpu *vcpu, vmr_exit *exit, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(vcpu->machine->faults[vcpu->index], VMR_TEXT_BYTES, format, args);
  va_end(args);
  exit->kind = VMR_EXIT_FAULT;
  return 0;
}

const char *vmr_vcpu_fault(vmr_vcpu *vcpu) { return vcpu->machine->faults[vcpu->index]; }

/* ---- devices' hooks and threads -------------------------------------------------------------------------------- */

static int hook(vmr_machine *machine, vmr_hooks *hooks, vmr_hook item) {
  vmr_hook *grown = realloc(hooks->items, (hooks->count + 1) * sizeof *grown);
  if (!grown) return vmr_fail(machine, ENOMEM, "out of memory");
  hooks->items = grown;
  hooks->items[hooks->count++] = item;
  return 0;
}

int vmr_on_free(vmr_machine *machine, void (*free_device)(void *device), void *device) {
  return hook(machine, &machine->on_free, (vmr_hook){.call = free_device, .device = device});
}

int vmr_on_halt(vmr_machine *machine, void (*halt)(void *device, uint64_t until_ns), void *device) {
  return hook(machine, &machine->on_halt, (vmr_hook){.halt = halt, .device = device});
}

int vmr_on_drain(vmr_machine *machine, bool (*idle)(void *device), void *device) {
  if (machine->started) return vmr_fail(machine, EBUSY, "a device cannot join a machine that has started");
  return hook(machine, &machine->on_drain, (vmr_hook){.idle = idle, .device = device});
}

int vmr_thread_start(vmr_machine *machine, pthread_t *thread, const char *name, void *(*run)(void *), void *opaque) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* a new thread inherits it: signals are for Python's main thread */
  int rc = pthread_create(thread, NULL, run, opaque);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rc) return vmr_fail(machine, rc, "starting thread %s: %s", name, strerror(rc));
  pthread_setname_np(*thread, name);
  return 0;
}

struct vmr_outlet **vmr_outlets(vmr_machine *machine) { return &machine->outlets; }

/* ---- errors ---------------------------------------------------------------------------------------------------- */

/* With the lock: the calling thread's slot; where it has none, NULL, or with take the one that was used longest ago. */
static vmr_error *error_slot(vmr_machine *machine, bool take) {
  vmr_error *oldest = &machine->errors[0];
  for (size_t i = 0; i < VMR_ERROR_THREADS; i++) {
    vmr_error *slot = &machine->errors[i];
    if (slot->turn && pthread_equal(slot->thread, pthread_self())) return slot;
    if (slot->turn < oldest->turn) oldest = slot;
  }
  return take ? oldest : NULL;
}

int vmr_fail(vmr_machine *machine, int errnum, const char *format, ...) {
  pthread_mutex_lock(&machine->lock);
  vmr_error *slot = error_slot(machine, true);
  slot->thread = pthread_self();
  slot->turn = ++machine->failures;
  va_list args;
  va_start(args, format);
  vsnprintf(slot->text, sizeof slot->text, format, args);
  va_end(args);
  pthread_mutex_unlock(&machine->lock);
  return -errnum;
}

const char *vmr_machine_error(vmr_machine *machine) {
  pthread_mutex_lock(&machine->lock);
  const vmr_error *slot = error_slot(machine, false);
  pthread_mutex_unlock(&machine->lock);
  return slot ? slot->text : "";
}

int vmr_machine_trouble(vmr_machine *machine) { return machine->trouble; }

void vmr_host_failed(vmr_machine *machine) {
  uint64_t one = 1;
  ssize_t rc = write(machine->trouble, &one, sizeof one); /* fails only where it is readable already */
  (void)rc;
}

/* Literals with one text may have several addresses, so a slow look compares texts before it takes a new entry. */
static vmr_guest_count *guest_count_slow(vmr_machine *machine, const char *device, const char *what) {
  for (size_t i = 0; i < VMR_GUEST_ERRORS; i++) {
    vmr_guest_count *entry = &machine->guest_errors[i];
    const char *known = atomic_load(&entry->what);
    if (known && !strcmp(known, what) && !strcmp(entry->device, device)) return entry;
    if (!known) {
      entry->device = device;
      atomic_store(&entry->what, what);
      return entry;
    }
  }
  return &machine->guest_errors[VMR_GUEST_ERRORS - 1];
}

void vmr_guest_did_wrong(vmr_machine *machine, const char *device, const char *what) {
  for (size_t i = 0; i < VMR_GUEST_ERRORS; i++) {
    vmr_guest_count *entry = &machine->guest_errors[i];
    const char *known = atomic_load_explicit(&entry->what, memory_order_acquire);
    if (!known) break;
    if (known == what && entry->device == device) {
      atomic_fetch_add_explicit(&entry->count, 1, memory_order_relaxed);
      return;
    }
  }
  pthread_mutex_lock(&machine->lock);
  atomic_fetch_add(&guest_count_slow(machine, device, what)->count, 1);
  pthread_mutex_unlock(&machine->lock);
}

int vmr_guest_error_at(vmr_machine *machine, size_t index, vmr_guest_error *out) {
  if (index >= VMR_GUEST_ERRORS) return -ENOENT;
  vmr_guest_count *entry = &machine->guest_errors[index];
  const char *what = atomic_load(&entry->what);
  if (!what) return -ENOENT;
  *out = (vmr_guest_error){entry->device, what, atomic_load(&entry->count)};
  return 0;
}
