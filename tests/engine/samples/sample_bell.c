/* A device of one file, served by C. See sample_bell.py. */
#include <errno.h>
#include <stdlib.h>

#include "core.h"
#include "sample_bell_api.h"

struct vmr_sample_bell {
  vmr_line line;
  uint32_t greeting;
};

static uint64_t bell_read(void *device, uint64_t offset, uint32_t size) {
  (void)size;
  struct vmr_sample_bell *bell = device;
  return offset == VMR_SAMPLE_GREETING ? bell->greeting : 0;
}

static void bell_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  (void)size, (void)value;
  struct vmr_sample_bell *bell = device;
  if (offset == VMR_SAMPLE_BELL) vmr_line_raise(bell->line);
}

static const vmr_bus_ops bus_ops = {.read = bell_read, .write = bell_write, .min_width = 4, .max_width = 4};

int vmr_sample_bell_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, uint32_t greeting) {
  struct vmr_sample_bell *bell = calloc(1, sizeof *bell);
  if (!bell) return vmr_fail(machine, ENOMEM, "out of memory");
  *bell = (struct vmr_sample_bell){line, greeting};
  int rc = vmr_on_free(machine, free, bell);
  if (rc) free(bell);
  else rc = vmr_bus_add(machine, gpa, size, &bus_ops, bell);
  return rc;
}
