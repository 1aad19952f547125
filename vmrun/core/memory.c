/* Guest RAM: anonymous host memory, reserved at once and touched by nobody but the guest. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

#define PAGE 4096u
#define HUGE (2ull << 20)

const vmr_ram *vmr_ram_find(const vmr_machine *machine, uint64_t gpa) {
  for (uint32_t i = 0; i < machine->ram_count; i++)
    if (gpa - machine->ram[i].gpa < machine->ram[i].size) return &machine->ram[i];
  return NULL;
}

const vmr_ram *vmr_ram_at(const vmr_machine *machine, uint32_t index) {
  return index < machine->ram_count ? &machine->ram[index] : NULL;
}

void *vmr_gpa_ptr(const vmr_machine *machine, uint64_t gpa, uint64_t size) {
  const vmr_ram *ram = vmr_ram_find(machine, gpa);
  if (!ram || size > ram->size - (gpa - ram->gpa)) return NULL;
  return ram->hva + (gpa - ram->gpa);
}

/* Map size bytes at a host address that is a multiple of 2 MiB, so that the host may use huge pages where it wants to. */
static uint8_t *map_aligned(uint64_t size) {
  uint64_t span = size + HUGE;
  uint8_t *raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return NULL;
  uint8_t *hva = (uint8_t *)(((uintptr_t)raw + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
  if (hva > raw) munmap(raw, (size_t)(hva - raw));
  uint8_t *end = hva + size;
  if (raw + span > end) munmap(end, (size_t)(raw + span - end));
  return hva;
}

int vmr_ram_add(vmr_machine *machine, uint64_t gpa, uint64_t size) {
  if (machine->started) return vmr_fail(machine, EBUSY, "RAM cannot be added to a machine that has started");
  if (!size || size % PAGE || gpa % PAGE || gpa + size - 1 < gpa || size > (1ull << 46))
    return vmr_fail(machine, EINVAL, "RAM [%#llx, +%#llx) is empty, unaligned to %u or too large",
                    (unsigned long long)gpa, (unsigned long long)size, PAGE);
  if (machine->ram_count == VMR_RAM_REGIONS)
    return vmr_fail(machine, ENOSPC, "more than %d RAM regions", VMR_RAM_REGIONS);
  for (uint32_t i = 0; i < machine->ram_count; i++) {
    const vmr_ram *other = &machine->ram[i];
    if (gpa <= other->gpa + (other->size - 1) && other->gpa <= gpa + (size - 1))
      return vmr_fail(machine, EEXIST, "RAM [%#llx, +%#llx) overlaps RAM [%#llx, +%#llx)", (unsigned long long)gpa,
                      (unsigned long long)size, (unsigned long long)other->gpa, (unsigned long long)other->size);
  }
  /* The kernel would promise more than there is, and kill somebody once the guest touches it. */
  uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE), total = size;
  for (uint32_t i = 0; i < machine->ram_count; i++) total += machine->ram[i].size;
  if (total > host)
    return vmr_fail(machine, ENOMEM, "%llu MiB for the guest, and this host has %llu MiB",
                    (unsigned long long)(total >> 20), (unsigned long long)(host >> 20));
  uint8_t *hva = map_aligned(size);
  if (!hva)
    return vmr_fail(machine, ENOMEM, "the host refused to reserve %llu MiB of guest RAM",
                    (unsigned long long)(size >> 20));
  /* Advice, so failures are nothing. Huge pages: 6 % less CPU for a Debian boot on the software core, since guest pages
   * lie all over RAM; it costs some 20 MiB of guest RAM that is touched in larger steps. */
  madvise(hva, size, MADV_HUGEPAGE);
  madvise(hva, size, MADV_DONTFORK); /* a child process of vmrun has no business in the guest's memory */
  machine->ram[machine->ram_count++] = (vmr_ram){gpa, size, hva};
  return 0;
}

void vmr_ram_fini(vmr_machine *machine) {
  for (uint32_t i = 0; i < machine->ram_count; i++) munmap(machine->ram[i].hva, machine->ram[i].size);
  machine->ram_count = 0;
}

static int outside(vmr_machine *machine, uint64_t gpa, uint64_t size) {
  return vmr_fail(machine, EFAULT, "[%#llx, +%#llx) is not RAM", (unsigned long long)gpa, (unsigned long long)size);
}

int vmr_ram_write(vmr_machine *machine, uint64_t gpa, const void *data, size_t size) {
  if (!size) return 0;
  void *hva = vmr_gpa_ptr(machine, gpa, size);
  if (!hva) return outside(machine, gpa, size);
  memcpy(hva, data, size);
  return 0;
}

int vmr_ram_read(vmr_machine *machine, uint64_t gpa, void *data, size_t size) {
  if (!size) return 0;
  const void *hva = vmr_gpa_ptr(machine, gpa, size);
  if (!hva) return outside(machine, gpa, size);
  memcpy(data, hva, size);
  return 0;
}

int vmr_ram_load_fd(vmr_machine *machine, uint64_t gpa, int fd, uint64_t offset, uint64_t size) {
  if (!size) return 0;
  uint8_t *hva = vmr_gpa_ptr(machine, gpa, size);
  if (!hva) return outside(machine, gpa, size);
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
