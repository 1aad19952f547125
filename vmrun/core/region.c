/* Regions of guest memory: made, moved, hidden and taken away while vCPUs run. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

#define HUGE (2ull << 20)
#define LARGEST (1ull << 46)

/* ---- the host's memory --------------------------------------------------------------------------------------------- */

/* Map size bytes (of fd, unless that is -1) at a host address that is a multiple of 2 MiB, so that the host may use huge
 * pages where it wants to. */
static uint8_t *map_aligned(uint64_t size, int fd) {
  int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  uint64_t span = size + HUGE;
  uint8_t *raw = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return NULL;
  uint8_t *hva = (uint8_t *)(((uintptr_t)raw + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
  uint8_t *end = hva + size;
  if (mmap(hva, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED) {
    munmap(raw, span);
    return NULL;
  }
  if (hva > raw) munmap(raw, (size_t)(hva - raw));
  if (raw + span > end) munmap(end, (size_t)(raw + span - end));
  return hva;
}

/* A file without a name, whose size nobody can change: who maps it would be killed beyond a new end. */
static int shared_file(uint64_t size) {
  int fd = memfd_create("vmrun-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  if (!ftruncate(fd, (off_t)size) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) return fd;
  int errnum = errno;
  close(fd);
  errno = errnum;
  return -1;
}

static int allocate(vmr_region *region, bool shared) {
  vmr_machine *machine = region->machine;
  if (shared && (region->fd = shared_file(region->size)) < 0) {
    int errnum = errno;
    return vmr_fail(machine, errnum, "the host gave no shared memory: %s", strerror(errnum));
  }
  region->hva = map_aligned(region->size, region->fd);
  if (!region->hva)
    return vmr_fail(machine, ENOMEM, "the host refused to reserve %llu MiB of guest RAM",
                    (unsigned long long)(region->size >> 20));
  /* Advice, so failures are nothing. Huge pages: 6 % less CPU for a Debian boot on the software core, since guest pages
   * lie all over RAM; it costs some 20 MiB of guest RAM that is touched in larger steps. */
  madvise(region->hva, region->size, MADV_HUGEPAGE);
  madvise(region->hva, region->size, MADV_DONTFORK); /* a child process of vmrun has no business in the guest's memory */
  return 0;
}

static void destroy(vmr_region *region) {
  if (region->hva) munmap(region->hva, region->size);
  if (region->fd >= 0) close(region->fd);
  free(region->dirty);
  free(region);
}

/* ---- the map --------------------------------------------------------------------------------------------------------- */

bool vmr_region_visible(const vmr_region *region, vmr_ram *ram) {
  *ram = (vmr_ram){region->gpa, region->size, region->hva, region->kind == VMR_REGION_RAM, region->dirty};
  return region->gpa != VMR_NOWHERE && !region->trapping;
}

/* With `change`: a map of all regions as they are. */
static vmr_map *map_new(vmr_machine *machine) {
  vmr_map *map = malloc(sizeof *map);
  if (!map) return NULL;
  map->generation = ++machine->generation;
  map->count = map->log_count = 0;
  for (uint32_t i = 0; i < VMR_REGIONS; i++) {
    vmr_ram ram;
    if (!machine->regions[i]) continue;
    bool visible = vmr_region_visible(machine->regions[i], &ram);
    if (ram.dirty) map->logs[map->log_count++] = ram;
    if (!visible) continue;
    uint32_t at = map->count++;
    for (; at && map->ram[at - 1].gpa > ram.gpa; at--) map->ram[at] = map->ram[at - 1];
    map->ram[at] = ram;
  }
  return map;
}

int vmr_regions_init(vmr_machine *machine) {
  atomic_store(&machine->map, (vmr_table *)map_new(machine));
  return atomic_load(&machine->map) ? 0 : -ENOMEM;
}

void vmr_regions_fini(vmr_machine *machine) {
  for (uint32_t i = 0; i < VMR_REGIONS; i++)
    if (machine->regions[i]) destroy(machine->regions[i]);
}

/* Give the engine what it has to know, after *region has become what it is. */
static int tell(vmr_region *region) {
  vmr_machine *machine = region->machine;
  const vmr_memory_ops *ops = machine->memory_ops;
  vmr_ram ram;
  bool visible = vmr_region_visible(region, &ram);
  if (!ops || (!visible && !region->mapped)) return 0;
  int rc = visible ? ops->map(machine->memory_engine, region->slot, &ram) : ops->unmap(machine->memory_engine, region->slot);
  if (rc) return rc;
  if (!visible && region->dirty) /* the engine's log has gone with the slot */
    for (uint64_t page = 0; page < region->size / VMR_PAGE; page++) vmr_ram_mark(&ram, ram.gpa + page * VMR_PAGE);
  region->mapped = visible;
  return 0;
}

int vmr_region_become(vmr_region *region, vmr_region wanted, uint64_t *epoch) {
  vmr_region before = *region;
  *region = wanted;
  vmr_map *map = map_new(region->machine);
  int rc = map ? tell(region) : vmr_fail(region->machine, ENOMEM, "out of memory");
  if (rc) {
    free(map);
    *region = before;
    return rc;
  }
  *epoch = vmr_publish(region->machine, &region->machine->map, &map->table, true);
  return 0;
}

int vmr_memory_listen(vmr_machine *machine, const vmr_memory_ops *ops, void *engine) {
  pthread_mutex_lock(&machine->change);
  int rc = machine->memory_ops ? vmr_fail(machine, EEXIST, "the machine's memory has an engine already") : 0;
  if (!rc) machine->memory_ops = ops, machine->memory_engine = engine;
  for (uint32_t i = 0; i < VMR_REGIONS && !rc; i++)
    if (machine->regions[i]) rc = tell(machine->regions[i]);
  if (rc && machine->memory_engine == engine) machine->memory_ops = NULL;
  pthread_mutex_unlock(&machine->change);
  return rc;
}

/* ---- regions come, move and go --------------------------------------------------------------------------------------- */

/* With `change`: region can be at gpa. */
static int check_place(const vmr_region *region, uint64_t gpa) {
  vmr_machine *machine = region->machine;
  unsigned long long at = gpa, size = region->size;
  if (gpa == VMR_NOWHERE) return 0;
  if (gpa % VMR_PAGE || gpa + region->size - 1 < gpa)
    return vmr_fail(machine, EINVAL, "RAM [%#llx, +%#llx) is empty, unaligned to %u or too large", at, size, VMR_PAGE);
  for (uint32_t i = 0; i < VMR_REGIONS; i++) {
    const vmr_region *other = machine->regions[i];
    if (!other || other == region || other->gpa == VMR_NOWHERE) continue;
    if (gpa <= other->gpa + (other->size - 1) && other->gpa <= gpa + (region->size - 1))
      return vmr_fail(machine, EEXIST, "RAM [%#llx, +%#llx) overlaps RAM [%#llx, +%#llx)", at, size,
                      (unsigned long long)other->gpa, (unsigned long long)other->size);
  }
  return 0;
}

/* The kernel would promise more than there is, and kill somebody once the guest touches it. With `change`. */
static int check_host(vmr_machine *machine, uint64_t size) {
  uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE), total = size;
  for (uint32_t i = 0; i < VMR_REGIONS; i++) total += machine->regions[i] ? machine->regions[i]->size : 0;
  if (total <= host) return 0;
  return vmr_fail(machine, ENOMEM, "%llu MiB for the guest, and this host has %llu MiB", (unsigned long long)(total >> 20),
                  (unsigned long long)(host >> 20));
}

/* With `change`. */
static int add(vmr_region *region, bool shared) {
  vmr_machine *machine = region->machine;
  uint32_t slot = 0;
  while (slot < VMR_REGIONS && machine->regions[slot]) slot++;
  if (slot == VMR_REGIONS) return vmr_fail(machine, ENOSPC, "more than %d RAM regions", VMR_REGIONS);
  int rc = check_place(region, region->gpa);
  if (!rc) rc = check_host(machine, region->size);
  if (!rc) rc = allocate(region, shared);
  if (rc) return rc;
  uint64_t epoch;
  region->slot = slot;
  machine->regions[slot] = region;
  rc = vmr_region_become(region, *region, &epoch);
  if (rc) machine->regions[slot] = NULL;
  return rc;
}

int vmr_region_add(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t kind, int shared, vmr_region **out) {
  *out = NULL;
  if (kind > VMR_REGION_FLASH) return vmr_fail(machine, EINVAL, "%u is no kind of memory", kind);
  if (!size || size % VMR_PAGE || size > LARGEST)
    return vmr_fail(machine, EINVAL, "RAM [%#llx, +%#llx) is empty, unaligned to %u or too large", (unsigned long long)gpa,
                    (unsigned long long)size, VMR_PAGE);
  vmr_region *region = malloc(sizeof *region);
  if (!region) return vmr_fail(machine, ENOMEM, "out of memory");
  *region = (vmr_region){.machine = machine, .gpa = gpa, .size = size, .kind = kind, .fd = -1};
  pthread_mutex_lock(&machine->change);
  int rc = add(region, shared);
  pthread_mutex_unlock(&machine->change);
  if (rc) destroy(region);
  else *out = region;
  return rc;
}

int vmr_ram_add(vmr_machine *machine, uint64_t gpa, uint64_t size) {
  vmr_region *region;
  return vmr_region_add(machine, gpa, size, VMR_REGION_RAM, 0, &region);
}

int vmr_region_move(vmr_region *region, uint64_t gpa) {
  vmr_machine *machine = region->machine;
  uint64_t epoch;
  pthread_mutex_lock(&machine->change);
  vmr_region wanted = *region;
  wanted.gpa = gpa;
  int rc = check_place(region, gpa);
  if (!rc) rc = vmr_region_become(region, wanted, &epoch);
  pthread_mutex_unlock(&machine->change);
  if (!rc) vmr_settle(machine, epoch);
  return rc;
}

int vmr_region_trap(vmr_region *region, int trap) {
  vmr_machine *machine = region->machine;
  uint64_t epoch;
  if (region->kind != VMR_REGION_FLASH) return vmr_fail(machine, EINVAL, "only a flash's reads can be trapped");
  pthread_mutex_lock(&machine->change);
  vmr_region wanted = *region;
  wanted.trapping = trap;
  bool changes = wanted.trapping != region->trapping;
  int rc = changes ? vmr_region_become(region, wanted, &epoch) : 0;
  pthread_mutex_unlock(&machine->change);
  if (!rc && changes) vmr_settle(machine, epoch);
  return rc;
}

int vmr_region_remove(vmr_region *region) {
  vmr_machine *machine = region->machine;
  uint64_t epoch;
  int rc = vmr_may_wait(machine, "memory that is removed");
  if (rc) return rc;
  pthread_mutex_lock(&machine->change);
  vmr_region wanted = *region;
  wanted.gpa = VMR_NOWHERE;
  rc = vmr_region_become(region, wanted, &epoch);
  if (!rc) machine->regions[region->slot] = NULL;
  pthread_mutex_unlock(&machine->change);
  if (rc) return rc;
  vmr_wait_readers(machine, epoch);
  destroy(region);
  return 0;
}

/* ---- its bytes --------------------------------------------------------------------------------------------------------- */

int vmr_region_fd(vmr_region *region) { return region->fd >= 0 ? region->fd : -ENOENT; }

void *vmr_region_ptr(vmr_region *region, uint64_t offset, uint64_t size) {
  return offset <= region->size && size <= region->size - offset ? region->hva + offset : NULL;
}

static int outside(vmr_region *region, uint64_t offset, size_t size) {
  return vmr_fail(region->machine, EFAULT, "[%#llx, +%#llx) is not inside the region", (unsigned long long)offset,
                  (unsigned long long)size);
}

int vmr_region_read(vmr_region *region, uint64_t offset, void *data, size_t size) {
  const void *hva = vmr_region_ptr(region, offset, size);
  if (!hva) return outside(region, offset, size);
  memcpy(data, hva, size);
  return 0;
}

int vmr_region_write(vmr_region *region, uint64_t offset, const void *data, size_t size) {
  void *hva = vmr_region_ptr(region, offset, size);
  if (!hva) return outside(region, offset, size);
  memcpy(hva, data, size);
  vmr_dirty_region(region, offset, size);
  return 0;
}
