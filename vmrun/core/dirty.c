/* Dirty logs: which pages of a region were written.
 *
 * vCPUs of the software core mark a page when they make a translation for stores to it; so a fetch takes the marks and then
 * has them forget their translations. A store through an older one comes before the fetch returns, and its page is among
 * those reported, since it was marked when the translation was made. Devices mark what they wrote after they wrote it. An
 * engine that hands memory on (KVM) has a log of its own, which is added. */
#include <errno.h>
#include <stdlib.h>

#include "machine.h"

static size_t words_of(const vmr_region *region) { return (region->size / VMR_PAGE + 63) / 64; }

void vmr_dirty_region(vmr_region *region, uint64_t offset, uint64_t size) {
  pthread_mutex_lock(&region->machine->change); /* the log does not end meanwhile */
  vmr_ram ram;
  vmr_region_visible(region, &ram);
  for (uint64_t at = offset & ~(uint64_t)(VMR_PAGE - 1); at < offset + size; at += VMR_PAGE) vmr_ram_mark(&ram, ram.gpa + at);
  pthread_mutex_unlock(&region->machine->change);
}

int vmr_dirty_start(vmr_region *region) {
  vmr_machine *machine = region->machine;
  uint64_t epoch;
  int rc = vmr_may_wait(machine, "a dirty log that begins");
  if (rc) return rc;
  _Atomic uint64_t *dirty = calloc(words_of(region), sizeof *dirty);
  if (!dirty) return vmr_fail(machine, ENOMEM, "out of memory");
  pthread_mutex_lock(&machine->change);
  vmr_region wanted = *region;
  wanted.dirty = dirty;
  rc = region->dirty ? vmr_fail(machine, EEXIST, "the region has a dirty log already")
                     : vmr_region_become(region, wanted, &epoch);
  pthread_mutex_unlock(&machine->change);
  if (rc) free(dirty);
  else vmr_wait_vcpus(machine, epoch); /* from here on they have no translation that the log does not know of */
  return rc;
}

int vmr_dirty_stop(vmr_region *region) {
  vmr_machine *machine = region->machine;
  uint64_t epoch;
  int rc = vmr_may_wait(machine, "a dirty log that ends");
  if (rc) return rc;
  pthread_mutex_lock(&machine->change);
  vmr_region wanted = *region;
  _Atomic uint64_t *dirty = region->dirty;
  wanted.dirty = NULL;
  rc = dirty ? vmr_region_become(region, wanted, &epoch) : 0;
  pthread_mutex_unlock(&machine->change);
  if (rc || !dirty) return rc;
  vmr_wait_readers(machine, epoch);
  free(dirty);
  return 0;
}

/* With `change`. */
static int take(vmr_region *region, uint64_t *bits, size_t count) {
  vmr_machine *machine = region->machine;
  vmr_ram ram;
  vmr_region_visible(region, &ram);
  if (!region->dirty) return vmr_fail(machine, ENOENT, "the region has no dirty log");
  if (count != words_of(region))
    return vmr_fail(machine, EINVAL, "a dirty log of %zu words, not %zu", words_of(region), count);
  for (size_t i = 0; i < count; i++) bits[i] = atomic_exchange(&region->dirty[i], 0);
  return region->mapped ? machine->memory_ops->fetch_dirty(machine->memory_engine, region->slot, &ram, bits) : 0;
}

int vmr_dirty_fetch(vmr_region *region, uint64_t *bits, size_t count) {
  vmr_machine *machine = region->machine;
  int rc = vmr_may_wait(machine, "a dirty log that is fetched");
  if (rc) return rc;
  pthread_mutex_lock(&machine->change);
  rc = take(region, bits, count);
  uint64_t epoch = rc ? 0 : vmr_ask(machine, true);
  pthread_mutex_unlock(&machine->change);
  if (!rc) vmr_wait_vcpus(machine, epoch);
  return rc;
}
