/* When what was taken out of the bus or of memory can be freed: readers never lock, so writers wait for them.
 *
 * The scheme is epoch-based reclamation. Tables are immutable; a change swaps in a new one and then raises the machine's
 * epoch. A reader notes the epoch as it comes in, before it loads a table, and 0 as it goes out. So a reader whose note
 * is 0 or at least E cannot hold a table that was replaced before the epoch became E:
 * - note 0, seen by the writer after its swap: should the reader come in later, it loads the table after its note, and
 *   in the one order of sequentially consistent operations that is after the swap;
 * - note >= E: the reader loaded the epoch, so it came in after the swap.
 * A hart of the software core stays inside while it executes; between slices it notes the epoch anew (vmr_reader_confirm),
 * and is asked to by vmr_vcpu_ops.quiesce. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "machine.h"

#define SPINS 64u
#define YIELDS 96u
#define NAP_NS 20000L

/* ---- the readers' side -------------------------------------------------------------------------------------------- */

void vmr_reader_add(vmr_machine *machine, vmr_reader *reader, bool on_bus) {
  *reader = (vmr_reader){.machine = machine, .on_bus = on_bus};
  pthread_mutex_lock(&machine->readers_lock);
  reader->next = machine->readers;
  reader->link = &machine->readers;
  if (reader->next) reader->next->link = &reader->next;
  machine->readers = reader;
  pthread_mutex_unlock(&machine->readers_lock);
}

void vmr_reader_drop(vmr_reader *reader) {
  pthread_mutex_lock(&reader->machine->readers_lock);
  *reader->link = reader->next;
  if (reader->next) reader->next->link = reader->link;
  pthread_mutex_unlock(&reader->machine->readers_lock);
}

uint64_t vmr_reader_now(const vmr_reader *reader) { return atomic_load(&reader->machine->epoch); }

void vmr_reader_confirm(vmr_reader *reader, uint64_t now) { atomic_store(&reader->epoch, now); }

void vmr_reader_enter(vmr_reader *reader) {
  atomic_store_explicit(&reader->thread, pthread_self(), memory_order_relaxed);
  vmr_reader_confirm(reader, vmr_reader_now(reader));
}

void vmr_reader_pass(vmr_reader *reader) {
  uint64_t now = vmr_reader_now(reader);
  if (atomic_load_explicit(&reader->epoch, memory_order_relaxed) != now) vmr_reader_confirm(reader, now);
}

void vmr_reader_leave(vmr_reader *reader) {
  atomic_store_explicit(&reader->epoch, 0, memory_order_release);
  if (reader->settle) {
    uint64_t epoch = reader->settle;
    reader->settle = 0;
    vmr_wait_vcpus(reader->machine, epoch);
  }
}

void vmr_visit(vmr_machine *machine, vmr_reader *reader, bool on_bus) {
  vmr_reader_add(machine, reader, on_bus);
  vmr_reader_enter(reader);
}

void vmr_visit_end(vmr_reader *reader) {
  vmr_reader_leave(reader);
  vmr_reader_drop(reader);
}

/* ---- the writers' side -------------------------------------------------------------------------------------------- */

static bool has_passed(const vmr_reader *reader, uint64_t epoch) {
  uint64_t note = atomic_load(&reader->epoch);
  return !note || note >= epoch;
}

/* The calling thread is inside. Another's `thread` may be stale, but never names this thread while it is inside. */
static bool is_own(const vmr_reader *reader) {
  return atomic_load_explicit(&reader->epoch, memory_order_relaxed) &&
         pthread_equal(atomic_load_explicit(&reader->thread, memory_order_relaxed), pthread_self());
}

/* The access to the bus that the calling thread makes now, or NULL. */
static vmr_reader *own_access(vmr_machine *machine) {
  pthread_mutex_lock(&machine->readers_lock);
  vmr_reader *reader = machine->readers;
  while (reader && !(reader->on_bus && is_own(reader))) reader = reader->next;
  pthread_mutex_unlock(&machine->readers_lock);
  return reader;
}

static bool all_passed(vmr_machine *machine, uint64_t epoch) {
  bool passed = true;
  pthread_mutex_lock(&machine->readers_lock);
  for (vmr_reader *reader = machine->readers; reader && passed; reader = reader->next)
    passed = has_passed(reader, epoch);
  pthread_mutex_unlock(&machine->readers_lock);
  return passed;
}

static bool vcpus_passed(vmr_machine *machine, uint64_t epoch) {
  uint32_t count = vmr_vcpu_count(machine);
  for (uint32_t i = 0; i < count; i++)
    if (!has_passed(&machine->vcpus[i]->reader, epoch)) return false;
  return true;
}

static void wait_until(vmr_machine *machine, bool (*passed)(vmr_machine *machine, uint64_t epoch), uint64_t epoch) {
  for (uint32_t turn = 0; !passed(machine, epoch); turn++) {
    struct timespec nap = {.tv_nsec = NAP_NS};
    if (turn >= YIELDS) nanosleep(&nap, NULL);
    else if (turn >= SPINS) sched_yield();
  }
}

void vmr_wait_vcpus(vmr_machine *machine, uint64_t epoch) { wait_until(machine, vcpus_passed, epoch); }

/* A waiter that is inside itself, as a callback of the I/O thread, comes to a quiescent point here: two that wait for
 * each other both go on. */
void vmr_wait_readers(vmr_machine *machine, uint64_t epoch) {
  pthread_mutex_lock(&machine->readers_lock);
  for (vmr_reader *reader = machine->readers; reader; reader = reader->next)
    if (is_own(reader)) vmr_reader_pass(reader);
  pthread_mutex_unlock(&machine->readers_lock);
  wait_until(machine, all_passed, epoch);
}

int vmr_may_wait(vmr_machine *machine, const char *what) {
  return own_access(machine) ? vmr_fail(machine, EDEADLK, "%s from inside an access to a device would wait for itself", what) : 0;
}

void vmr_settle(vmr_machine *machine, uint64_t epoch) {
  vmr_reader *access = own_access(machine);
  if (access) access->settle = epoch; /* the vCPUs may be waiting for a lock that the device holds now */
  else vmr_wait_vcpus(machine, epoch);
}

/* ---- tables ------------------------------------------------------------------------------------------------------- */

/* Free the tables that no reader can hold. */
static void reclaim(vmr_machine *machine) {
  uint64_t oldest = UINT64_MAX;
  pthread_mutex_lock(&machine->readers_lock);
  for (vmr_reader *reader = machine->readers; reader; reader = reader->next) {
    uint64_t note = atomic_load(&reader->epoch);
    if (note && note < oldest) oldest = note;
  }
  pthread_mutex_unlock(&machine->readers_lock);
  for (vmr_table **link = &machine->retired; *link;) {
    vmr_table *table = *link;
    if (table->retired_at <= oldest) {
      *link = table->next;
      free(table);
    } else {
      link = &table->next;
    }
  }
}

static void ask_vcpus(vmr_machine *machine, bool forget) {
  for (uint32_t i = 0, count = vmr_vcpu_count(machine); i < count; i++) {
    vmr_vcpu *vcpu = machine->vcpus[i];
    if (vcpu->ops->quiesce) vcpu->ops->quiesce(vcpu, forget);
  }
}

/* To forget is asked before the epoch rises, so that whoever notes the new epoch has the request before it, or has done it.
 * To note the epoch is asked after it has risen, or a note of the old one could be the answer, and the last. */
uint64_t vmr_ask(vmr_machine *machine, bool memory) {
  if (memory) ask_vcpus(machine, true);
  uint64_t epoch = atomic_fetch_add(&machine->epoch, 1) + 1;
  ask_vcpus(machine, false);
  return epoch;
}

uint64_t vmr_publish(vmr_machine *machine, vmr_table_slot *slot, vmr_table *fresh, bool memory) {
  vmr_table *old = atomic_exchange(slot, fresh);
  old->retired_at = vmr_ask(machine, memory);
  old->next = machine->retired;
  machine->retired = old;
  uint64_t epoch = old->retired_at;
  reclaim(machine);
  return epoch;
}

void vmr_tables_fini(vmr_machine *machine) {
  for (vmr_table *table = machine->retired, *next; table; table = next) {
    next = table->next;
    free(table);
  }
  free(atomic_load(&machine->bus));
  free(atomic_load(&machine->map));
}
