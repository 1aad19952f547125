/* The MMIO bus: sorted windows that stand still once the machine has started, so vCPUs look them up without a lock. */
#include <errno.h>
#include <string.h>

#include "machine.h"

/* The last window that begins at or below gpa. Branch-free on the host: at most 7 conditional moves over one array,
 * which is cheaper than a shared last-hit that two harts would bounce between their caches. */
static const vmr_window *find(const vmr_machine *machine, uint64_t gpa, uint32_t size) {
  uint32_t base = 0;
  for (uint32_t left = machine->window_count; left > 1;) {
    uint32_t half = left / 2;
    base = machine->window_gpa[base + half] <= gpa ? base + half : base;
    left -= half;
  }
  const vmr_window *window = &machine->windows[base];
  uint64_t offset = gpa - window->gpa;
  if (!machine->window_count || gpa < window->gpa || offset >= window->size || size > window->size - offset) return NULL;
  return window;
}

static int add(vmr_machine *machine, vmr_window window) {
  if (machine->started) return vmr_fail(machine, EBUSY, "the bus of a machine that has started cannot change");
  unsigned long long gpa = window.gpa, size = window.size;
  if (!size || gpa + size - 1 < gpa) return vmr_fail(machine, EINVAL, "window [%#llx, +%#llx) is empty or wraps", gpa, size);
  if (machine->window_count == VMR_WINDOWS) return vmr_fail(machine, ENOSPC, "more than %d windows", VMR_WINDOWS);
  uint32_t at = 0;
  for (uint32_t i = 0; i < machine->window_count; i++) {
    const vmr_window *other = &machine->windows[i];
    if (gpa <= other->gpa + (other->size - 1) && other->gpa <= gpa + (size - 1))
      return vmr_fail(machine, EEXIST, "window [%#llx, +%#llx) overlaps window [%#llx, +%#llx)", gpa, size,
                      (unsigned long long)other->gpa, (unsigned long long)other->size);
    if (other->gpa < gpa) at = i + 1;
  }
  uint32_t after = machine->window_count - at;
  memmove(&machine->windows[at + 1], &machine->windows[at], after * sizeof(vmr_window));
  memmove(&machine->window_gpa[at + 1], &machine->window_gpa[at], after * sizeof(uint64_t));
  machine->windows[at] = window;
  machine->window_gpa[at] = window.gpa;
  machine->window_count++;
  return 0;
}

int vmr_bus_add(vmr_machine *machine, uint64_t gpa, uint64_t size, const vmr_bus_ops *ops, void *device) {
  return add(machine, (vmr_window){gpa, size, ops, device, 0});
}

int vmr_bus_claim(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t id) {
  return add(machine, (vmr_window){gpa, size, NULL, NULL, id});
}

static bool is_width(uint32_t size) { return size == 1 || size == 2 || size == 4 || size == 8; }

/* True where the device takes the access as it is. */
static bool fits(const vmr_bus_ops *ops, uint64_t offset, uint32_t size) {
  if (!ops->max_width) return true;
  return size >= ops->min_width && size <= ops->max_width && offset % size == 0;
}

static uint64_t low_bytes(uint64_t value, uint32_t size) {
  return size == 8 ? value : value & ((1ull << (size * 8)) - 1);
}

static uint64_t repaired_read(vmr_machine *machine, const vmr_window *window, uint64_t offset, uint32_t size) {
  const vmr_bus_ops *ops = window->ops;
  if (offset % size) {
    vmr_guest_did_wrong(machine, "bus", "misaligned read of a device register");
    return 0;
  }
  if (size < ops->min_width) {
    uint64_t aligned = offset & ~(uint64_t)(ops->min_width - 1);
    if (ops->min_width > window->size - aligned) return 0;
    return low_bytes(ops->read(window->device, aligned, ops->min_width) >> ((offset - aligned) * 8), size);
  }
  uint64_t value = 0;
  for (uint32_t at = 0; at < size; at += ops->max_width)
    value |= low_bytes(ops->read(window->device, offset + at, ops->max_width), ops->max_width) << (at * 8);
  return value;
}

static void repaired_write(vmr_machine *machine, const vmr_window *window, uint64_t offset, uint32_t size, uint64_t value) {
  const vmr_bus_ops *ops = window->ops;
  if (offset % size) {
    vmr_guest_did_wrong(machine, "bus", "misaligned write of a device register");
  } else if (size < ops->min_width) { /* a read-modify-write would trip over registers that act on reads */
    vmr_guest_did_wrong(machine, "bus", "write narrower than the device register");
  } else {
    for (uint32_t at = 0; at < size; at += ops->max_width)
      ops->write(window->device, offset + at, ops->max_width, low_bytes(value >> (at * 8), ops->max_width));
  }
}

int vmr_bus_read(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value, uint32_t *id) {
  *value = 0;
  const vmr_window *window = is_width(size) ? find(machine, gpa, size) : NULL;
  if (!window) {
    vmr_guest_did_wrong(machine, "bus", "read where no device is");
    return VMR_BUS_NONE;
  }
  *id = window->id;
  if (!window->ops) return VMR_BUS_PYTHON;
  uint64_t offset = gpa - window->gpa;
  if (fits(window->ops, offset, size))
    *value = low_bytes(window->ops->read(window->device, offset, size), size);
  else
    *value = repaired_read(machine, window, offset, size);
  return VMR_BUS_DONE;
}

int vmr_bus_write(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value, uint32_t *id) {
  const vmr_window *window = is_width(size) ? find(machine, gpa, size) : NULL;
  if (!window) {
    vmr_guest_did_wrong(machine, "bus", "write where no device is");
    return VMR_BUS_NONE;
  }
  *id = window->id;
  if (!window->ops) return VMR_BUS_PYTHON;
  uint64_t offset = gpa - window->gpa;
  if (fits(window->ops, offset, size))
    window->ops->write(window->device, offset, size, low_bytes(value, size));
  else
    repaired_write(machine, window, offset, size, value);
  return VMR_BUS_DONE;
}

int vmr_bus_peek(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value) {
  uint32_t id;
  return vmr_bus_read(machine, gpa, size, value, &id);
}

int vmr_bus_poke(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value) {
  uint32_t id;
  return vmr_bus_write(machine, gpa, size, value, &id);
}
