/* The bus: windows sorted by address in a table that never changes, so that whoever looks one up takes no lock. A change
 * makes a new table; reader.c says when the old one, or a device, can be freed. */
#include <errno.h>
#include <stdlib.h>

#include "machine.h"

static bool is_width(uint32_t size) { return size == 1 || size == 2 || size == 4 || size == 8; }

static const vmr_bus *bus_of(vmr_machine *machine) { return (const vmr_bus *)atomic_load(&machine->bus); }

/* The last window that begins at or below gpa. Branch-free on the host: a few conditional moves over one array, which is
 * cheaper than a shared last-hit that two harts would bounce between their caches. */
static const vmr_window *find(const vmr_bus *bus, uint64_t gpa, uint32_t size) {
  uint32_t base = 0;
  for (uint32_t left = bus->count; left > 1;) {
    uint32_t half = left / 2;
    base = bus->gpa[base + half] <= gpa ? base + half : base;
    left -= half;
  }
  const vmr_window *window = &bus->windows[base];
  if (!bus->count || gpa < window->gpa) return NULL;
  uint64_t offset = gpa - window->gpa;
  return offset < window->size && size <= window->size - offset ? window : NULL;
}

/* ---- windows come, move and go ------------------------------------------------------------------------------------ */

static vmr_bus *bus_new(const vmr_machine *machine) {
  uint32_t room = machine->window_count;
  vmr_bus *bus = malloc(sizeof *bus + room * (sizeof bus->gpa[0] + sizeof *bus->windows));
  if (!bus) return NULL;
  bus->windows = (vmr_window *)&bus->gpa[room];
  bus->count = 0;
  for (uint32_t i = 0; i < room; i++) {
    const vmr_window *window = machine->windows[i];
    if (window->gpa == VMR_NOWHERE) continue;
    uint32_t at = bus->count++;
    for (; at && bus->windows[at - 1].gpa > window->gpa; at--) bus->windows[at] = bus->windows[at - 1];
    bus->windows[at] = *window;
  }
  for (uint32_t i = 0; i < bus->count; i++) bus->gpa[i] = bus->windows[i].gpa;
  return bus;
}

int vmr_bus_init(vmr_machine *machine) {
  atomic_store(&machine->bus, (vmr_table *)bus_new(machine));
  return atomic_load(&machine->bus) ? 0 : -ENOMEM;
}

void vmr_bus_fini(vmr_machine *machine) {
  for (uint32_t i = 0; i < machine->window_count; i++) free(machine->windows[i]);
}

/* With `change`: window can be at gpa. */
static int check_place(vmr_machine *machine, const vmr_window *window, uint64_t gpa) {
  unsigned long long at = gpa, size = window->size;
  if (!size || (gpa != VMR_NOWHERE && gpa + size - 1 < gpa))
    return vmr_fail(machine, EINVAL, "window [%#llx, +%#llx) is empty or wraps", at, size);
  for (uint32_t i = 0; i < machine->window_count && gpa != VMR_NOWHERE; i++) {
    const vmr_window *other = machine->windows[i];
    if (other == window || other->gpa == VMR_NOWHERE) continue;
    if (gpa <= other->gpa + (other->size - 1) && other->gpa <= gpa + (size - 1))
      return vmr_fail(machine, EEXIST, "window [%#llx, +%#llx) overlaps window [%#llx, +%#llx)", at, size,
                      (unsigned long long)other->gpa, (unsigned long long)other->size);
  }
  return 0;
}

/* With `change`: readers see the windows as they are now. Returns the epoch; 0: out of memory. */
static uint64_t publish(vmr_machine *machine) {
  vmr_bus *bus = bus_new(machine);
  return bus ? vmr_publish(machine, &machine->bus, &bus->table, false) : 0;
}

/* With `change`. */
static int add(vmr_machine *machine, vmr_window *window) {
  if (machine->window_count == VMR_WINDOWS) return vmr_fail(machine, ENOSPC, "more than %d windows", VMR_WINDOWS);
  int rc = check_place(machine, window, window->gpa);
  if (rc) return rc;
  machine->windows[machine->window_count++] = window;
  if (publish(machine)) return 0;
  machine->window_count--;
  return vmr_fail(machine, ENOMEM, "out of memory");
}

static int add_copy(vmr_machine *machine, vmr_window given, vmr_window **out) {
  *out = NULL;
  vmr_window *window = malloc(sizeof *window);
  if (!window) return vmr_fail(machine, ENOMEM, "out of memory");
  *window = given;
  pthread_mutex_lock(&machine->change);
  int rc = add(machine, window);
  pthread_mutex_unlock(&machine->change);
  if (rc) free(window);
  else *out = window;
  return rc;
}

int vmr_bus_attach(vmr_machine *machine, uint64_t gpa, uint64_t size, const vmr_bus_ops *ops, void *device,
                   vmr_window **window) {
  return add_copy(machine, (vmr_window){gpa, size, ops, device, ops->min_width, ops->max_width, 0}, window);
}

int vmr_bus_add(vmr_machine *machine, uint64_t gpa, uint64_t size, const vmr_bus_ops *ops, void *device) {
  vmr_window *window;
  return vmr_bus_attach(machine, gpa, size, ops, device, &window);
}

int vmr_bus_claim(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t id, uint32_t min_width, uint32_t max_width,
                  vmr_window **window) {
  *window = NULL;
  if (max_width && (!is_width(min_width) || !is_width(max_width) || min_width > max_width))
    return vmr_fail(machine, EINVAL, "no device takes accesses of %u to %u bytes", min_width, max_width);
  return add_copy(machine, (vmr_window){gpa, size, NULL, NULL, min_width, max_width, id}, window);
}

/* With `change`. */
static int move(vmr_machine *machine, vmr_window *window, uint64_t gpa) {
  int rc = check_place(machine, window, gpa);
  if (rc || gpa == window->gpa) return rc;
  uint64_t before = window->gpa;
  window->gpa = gpa;
  if (publish(machine)) return 0;
  window->gpa = before;
  return vmr_fail(machine, ENOMEM, "out of memory");
}

int vmr_bus_move(vmr_machine *machine, vmr_window *window, uint64_t gpa) {
  pthread_mutex_lock(&machine->change);
  int rc = move(machine, window, gpa);
  pthread_mutex_unlock(&machine->change);
  return rc;
}

/* With `change`. Returns the epoch; 0: out of memory. */
static uint64_t take_out(vmr_machine *machine, vmr_window *window) {
  uint32_t at = 0;
  while (machine->windows[at] != window) at++;
  vmr_window *last = machine->windows[--machine->window_count];
  machine->windows[at] = last;
  uint64_t epoch = publish(machine);
  if (epoch) return epoch;
  machine->windows[at] = window;
  machine->windows[machine->window_count++] = last;
  return 0;
}

int vmr_bus_remove(vmr_machine *machine, vmr_window *window) {
  int rc = vmr_may_wait(machine, "a window that is removed");
  if (rc) return rc;
  pthread_mutex_lock(&machine->change);
  uint64_t epoch = take_out(machine, window);
  pthread_mutex_unlock(&machine->change);
  if (!epoch) return vmr_fail(machine, ENOMEM, "out of memory");
  vmr_wait_readers(machine, epoch);
  free(window);
  return 0;
}

/* ---- accesses ------------------------------------------------------------------------------------------------------ */

/* True where the device takes the access as it is. */
static bool fits(const vmr_window *window, uint64_t offset, uint32_t size) {
  if (!window->max_width) return true;
  return size >= window->min_width && size <= window->max_width && offset % size == 0;
}

static uint64_t low_bytes(uint64_t value, uint32_t size) {
  return size == 8 ? value : value & ((1ull << (size * 8)) - 1);
}

/* How an access that does not fit is made of pieces that do. false: of none; it is dropped, and reads 0. */
static bool repair(vmr_machine *machine, const vmr_window *window, vmr_bus_access *access) {
  if (access->offset % access->size) {
    vmr_guest_did_wrong(machine, "bus", access->write ? "misaligned write of a device register"
                                                      : "misaligned read of a device register");
    return false;
  }
  if (access->size >= window->min_width) {
    access->width = window->max_width;
    return true;
  }
  if (access->write) { /* a read-modify-write would trip over registers that act on reads */
    vmr_guest_did_wrong(machine, "bus", "write narrower than the device register");
    return false;
  }
  access->width = window->min_width;
  access->skip = (uint32_t)(access->offset & (access->width - 1));
  access->offset -= access->skip;
  return access->width <= window->size - access->offset;
}

void vmr_bus_ask(const vmr_bus_access *access, vmr_exit *exit) {
  *exit = (vmr_exit){.kind = access->write ? VMR_EXIT_MMIO_WRITE : VMR_EXIT_MMIO_READ,
                     .size = access->width,
                     .gpa = access->gpa - access->skip + access->done,
                     .offset = access->offset,
                     .data = access->write ? low_bytes(access->value >> (access->done * 8), access->width) : 0,
                     .window = access->window};
}

int vmr_bus_take(vmr_bus_access *access, const vmr_exit *exit) {
  if (!access->write) access->value |= low_bytes(exit->data, access->width) >> (access->skip * 8) << (access->done * 8);
  access->done += access->width;
  access->offset += access->width;
  if (access->done < access->size) return 0;
  access->value = low_bytes(access->value, access->size);
  return 1;
}

/* All pieces of an access that a device of C serves. */
static uint64_t serve_pieces(const vmr_window *window, vmr_bus_access *access) {
  vmr_exit piece;
  do {
    vmr_bus_ask(access, &piece);
    if (access->write) window->ops->write(window->device, piece.offset, piece.size, piece.data);
    else piece.data = window->ops->read(window->device, piece.offset, piece.size);
  } while (!vmr_bus_take(access, &piece));
  return access->value;
}

/* What the device does not take as it is, or Python serves. */
static __attribute__((noinline)) int odd(vmr_machine *machine, const vmr_window *window, vmr_bus_access access, uint64_t *value,
                                         vmr_bus_access *left) {
  access.offset = access.gpa - window->gpa;
  access.window = window->id;
  access.width = access.size;
  if (!fits(window, access.offset, access.size) && !repair(machine, window, &access)) return VMR_BUS_DONE;
  if (!window->ops) {
    *left = access;
    return VMR_BUS_PYTHON;
  }
  *value = serve_pieces(window, &access);
  return VMR_BUS_DONE;
}

int vmr_bus_read(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value, vmr_bus_access *left) {
  *value = 0;
  const vmr_window *window = is_width(size) ? find(bus_of(machine), gpa, size) : NULL;
  if (!window) {
    vmr_guest_did_wrong(machine, "bus", "read where no device is");
    return VMR_BUS_NONE;
  }
  uint64_t offset = gpa - window->gpa;
  if (!window->ops || !fits(window, offset, size))
    return odd(machine, window, (vmr_bus_access){.gpa = gpa, .size = size}, value, left);
  *value = low_bytes(window->ops->read(window->device, offset, size), size);
  return VMR_BUS_DONE;
}

int vmr_bus_write(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value, vmr_bus_access *left) {
  const vmr_window *window = is_width(size) ? find(bus_of(machine), gpa, size) : NULL;
  if (!window) {
    vmr_guest_did_wrong(machine, "bus", "write where no device is");
    return VMR_BUS_NONE;
  }
  uint64_t offset = gpa - window->gpa;
  if (!window->ops || !fits(window, offset, size))
    return odd(machine, window, (vmr_bus_access){.gpa = gpa, .size = size, .write = 1, .value = low_bytes(value, size)}, &value, left);
  window->ops->write(window->device, offset, size, low_bytes(value, size));
  return VMR_BUS_DONE;
}

int vmr_bus_begin(vmr_machine *machine, vmr_bus_access *access) {
  vmr_reader visit;
  vmr_visit(machine, &visit, true);
  int outcome = access->write ? vmr_bus_write(machine, access->gpa, access->size, access->value, access)
                              : vmr_bus_read(machine, access->gpa, access->size, &access->value, access);
  vmr_visit_end(&visit);
  return outcome;
}

int vmr_bus_peek(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value) {
  vmr_bus_access access = {.gpa = gpa, .size = size};
  int outcome = vmr_bus_begin(machine, &access);
  *value = access.value;
  return outcome;
}

int vmr_bus_poke(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value) {
  vmr_bus_access access = {.gpa = gpa, .size = size, .write = 1, .value = value};
  return vmr_bus_begin(machine, &access);
}
