/* Guest memory as vCPUs and devices find it: a sorted table of regions that never changes, looked up without a lock.
 * region.c makes a new one when memory changes. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

static const vmr_map *map_of(const vmr_machine *machine) { return (const vmr_map *)atomic_load(&machine->map); }

const vmr_ram *vmr_ram_find(const vmr_machine *machine, uint64_t gpa) {
  const vmr_map *map = map_of(machine);
  const vmr_ram *ram = map->ram;
  for (uint32_t left = map->count; left > 1;) {
    uint32_t half = left / 2;
    ram = ram[half].gpa <= gpa ? ram + half : ram;
    left -= half;
  }
  return map->count && gpa - ram->gpa < ram->size ? ram : NULL;
}

static const vmr_ram *find_all(const vmr_machine *machine, uint64_t gpa, uint64_t size) {
  const vmr_ram *ram = vmr_ram_find(machine, gpa);
  return ram && size <= ram->size - (gpa - ram->gpa) ? ram : NULL;
}

const void *vmr_gpa_ptr(const vmr_machine *machine, uint64_t gpa, uint64_t size) {
  const vmr_ram *ram = find_all(machine, gpa, size);
  return ram ? ram->hva + (gpa - ram->gpa) : NULL;
}

void *vmr_gpa_ptr_for_write(const vmr_machine *machine, uint64_t gpa, uint64_t size) {
  const vmr_ram *ram = find_all(machine, gpa, size);
  return ram && ram->writable ? ram->hva + (gpa - ram->gpa) : NULL;
}

uint64_t vmr_memory_generation(const vmr_machine *machine) { return map_of(machine)->generation; }

/* ---- dirty marks --------------------------------------------------------------------------------------------------- */

void vmr_mark_dirty(const vmr_machine *machine, const void *hva, uint64_t size) {
  const vmr_map *map = map_of(machine);
  for (uint32_t i = 0; i < map->log_count && size; i++) {
    const vmr_ram *ram = &map->logs[i];
    uint64_t offset = (uintptr_t)hva - (uintptr_t)ram->hva;
    if (offset >= ram->size) continue;
    for (uint64_t page = offset / VMR_PAGE; page <= (offset + size - 1) / VMR_PAGE; page++)
      vmr_ram_mark(ram, ram->gpa + page * VMR_PAGE);
  }
}

/* ---- copies -------------------------------------------------------------------------------------------------------- */

bool vmr_gpa_holds(vmr_machine *machine, uint64_t gpa, uint64_t size, bool write) {
  vmr_reader visit;
  vmr_visit(machine, &visit, false);
  bool there = write ? vmr_gpa_ptr_for_write(machine, gpa, size) : vmr_gpa_ptr(machine, gpa, size);
  vmr_visit_end(&visit);
  return there;
}

bool vmr_gpa_read(vmr_machine *machine, uint64_t gpa, void *data, uint64_t size) {
  vmr_reader visit;
  vmr_visit(machine, &visit, false);
  const void *hva = vmr_gpa_ptr(machine, gpa, size);
  if (hva) memcpy(data, hva, size);
  vmr_visit_end(&visit);
  return hva;
}

bool vmr_gpa_write(vmr_machine *machine, uint64_t gpa, const void *data, uint64_t size) {
  vmr_reader visit;
  vmr_visit(machine, &visit, false);
  void *hva = vmr_gpa_ptr_for_write(machine, gpa, size);
  if (hva) {
    memcpy(hva, data, size);
    vmr_mark_dirty(machine, hva, size);
  }
  vmr_visit_end(&visit);
  return hva;
}

static int outside(vmr_machine *machine, uint64_t gpa, uint64_t size) {
  return vmr_fail(machine, EFAULT, "[%#llx, +%#llx) is not RAM", (unsigned long long)gpa, (unsigned long long)size);
}

int vmr_ram_read(vmr_machine *machine, uint64_t gpa, void *data, size_t size) {
  return !size || vmr_gpa_read(machine, gpa, data, size) ? 0 : outside(machine, gpa, size);
}

int vmr_ram_write(vmr_machine *machine, uint64_t gpa, const void *data, size_t size) {
  if (!size) return 0;
  vmr_reader visit;
  vmr_visit(machine, &visit, false);
  uint8_t *hva = (uint8_t *)vmr_gpa_ptr(machine, gpa, size); /* the host may write ROM */
  if (hva) {
    memcpy(hva, data, size);
    vmr_mark_dirty(machine, hva, size);
  }
  vmr_visit_end(&visit);
  return hva ? 0 : outside(machine, gpa, size);
}

static int read_file(vmr_machine *machine, int fd, uint64_t offset, uint8_t *hva, uint64_t size) {
  if (offset > INT64_MAX || size > INT64_MAX - offset)
    return vmr_fail(machine, EINVAL, "file offset %#llx is too large", (unsigned long long)offset);
  while (size) {
    ssize_t got = pread(fd, hva, size < (1u << 30) ? size : (1u << 30), (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      int errnum = errno;
      return vmr_fail(machine, errnum, "reading fd %d into RAM: %s", fd, strerror(errnum));
    }
    if (!got) return vmr_fail(machine, ENODATA, "the file ends %llu bytes early", (unsigned long long)size);
    hva += got, offset += (uint64_t)got, size -= (uint64_t)got;
  }
  return 0;
}

int vmr_ram_load_fd(vmr_machine *machine, uint64_t gpa, int fd, uint64_t offset, uint64_t size) {
  if (!size) return 0;
  vmr_reader visit;
  vmr_visit(machine, &visit, false);
  uint8_t *hva = (uint8_t *)vmr_gpa_ptr(machine, gpa, size);
  int rc = hva ? read_file(machine, fd, offset, hva, size) : outside(machine, gpa, size);
  if (hva) vmr_mark_dirty(machine, hva, size);
  vmr_visit_end(&visit);
  return rc;
}
