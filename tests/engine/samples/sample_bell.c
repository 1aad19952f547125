/* A device of one file, served by C. See sample_bell.py. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core.h"
#include "sample_bell_api.h"

struct vmr_sample_bell {
  vmr_line line;
  uint32_t greeting;
  _Atomic uint8_t rung;
};

static uint64_t bell_read(void *device, uint64_t offset, uint32_t size) {
  (void)size;
  struct vmr_sample_bell *bell = device;
  return offset == VMR_SAMPLE_GREETING ? bell->greeting : 0;
}

static void bell_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  (void)size, (void)value;
  struct vmr_sample_bell *bell = device;
  if (offset != VMR_SAMPLE_BELL) return;
  atomic_store(&bell->rung, 1);
  vmr_line_raise(bell->line);
}

static const vmr_bus_ops bus_ops = {.read = bell_read, .write = bell_write, .min_width = 4, .max_width = 4};

/* One byte that every thread may write needs no lock. */
static const char *state_lock(void *object) {
  (void)object;
  return NULL;
}

static void state_unlock(void *object) { (void)object; }

static void state_loaded(void *object) {
  struct vmr_sample_bell *bell = object;
  vmr_line_set(bell->line, atomic_load(&bell->rung));
}

static const vmr_field fields[] = {VMR_FIELD(struct vmr_sample_bell, rung, 1)};
static const vmr_state_ops state_ops = {"sample-bell", 1, state_lock, state_unlock, NULL, state_loaded};

int vmr_sample_bell_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, uint32_t greeting,
                        vmr_sample_bell **out) {
  *out = NULL;
  struct vmr_sample_bell *bell = calloc(1, sizeof *bell);
  if (!bell) return vmr_fail(machine, ENOMEM, "out of memory");
  *bell = (struct vmr_sample_bell){.line = line, .greeting = greeting};
  int rc = vmr_on_free(machine, free, bell);
  if (rc) {
    free(bell);
    return rc;
  }
  vmr_part part = {NULL, -1, bell, VMR_FIELDS(fields)};
  rc = vmr_state_add(machine, &state_ops, bell, &part, 1);
  if (!rc) rc = vmr_bus_add(machine, gpa, size, &bus_ops, bell);
  if (!rc) *out = bell;
  return rc;
}
