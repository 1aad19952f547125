/* The other end of lines and messages for tests: it keeps levels, counts edges, and remembers the last message. */
#include <errno.h>
#include <stdlib.h>

#include "core.h"

#define PINS_MAX 1024

typedef struct pin {
  vmr_recorded seen;
  vmr_eoi *watchers; /* of this pin's own line */
  vmr_eoi eoi;       /* by which it watches another line */
  vmr_recorder *recorder;
  bool has_message;
  uint64_t address;
  uint32_t data;
} pin;

struct vmr_recorder {
  vmr_machine *machine;
  pthread_mutex_t lock;
  uint64_t base;
  uint32_t count;
  pin pins[];
};

static void set(void *chip, uint32_t index, bool level) {
  vmr_recorder *recorder = chip;
  pthread_mutex_lock(&recorder->lock);
  vmr_recorded *seen = &recorder->pins[index].seen;
  seen->edges += level && !seen->level;
  seen->level = level;
  pthread_mutex_unlock(&recorder->lock);
}

static int watch(void *chip, uint32_t index, vmr_eoi *eoi) {
  pin *watched = &((vmr_recorder *)chip)->pins[index];
  eoi->next = watched->watchers;
  watched->watchers = eoi;
  return 0;
}

static const vmr_line_ops line_ops = {.set = set, .watch = watch};

static int send(void *chip, uint64_t address, uint32_t data) {
  vmr_recorder *recorder = chip;
  uint64_t index = (address - recorder->base) / VMR_MSI_STRIDE;
  if (address < recorder->base || index >= recorder->count) return -EINVAL;
  pthread_mutex_lock(&recorder->lock);
  pin *hit = &recorder->pins[index];
  hit->seen.edges++;
  hit->has_message = true;
  hit->address = address;
  hit->data = data;
  pthread_mutex_unlock(&recorder->lock);
  return 0;
}

static const vmr_msi_ops msi_ops = {.send = send};

static void ended(void *device) {
  pin *told = device;
  pthread_mutex_lock(&told->recorder->lock);
  told->seen.ended++;
  pthread_mutex_unlock(&told->recorder->lock);
}

static void recorder_free(void *device) {
  vmr_recorder *recorder = device;
  pthread_mutex_destroy(&recorder->lock);
  free(recorder);
}

int vmr_recorder_new(vmr_machine *machine, uint32_t pins, vmr_recorder **out) {
  *out = NULL;
  if (!pins || pins > PINS_MAX) return vmr_fail(machine, EINVAL, "1 to %d pins", PINS_MAX);
  vmr_recorder *recorder = calloc(1, sizeof *recorder + pins * sizeof recorder->pins[0]);
  if (!recorder) return vmr_fail(machine, ENOMEM, "out of memory");
  recorder->machine = machine;
  recorder->count = pins;
  for (uint32_t i = 0; i < pins; i++) {
    recorder->pins[i].recorder = recorder;
    recorder->pins[i].eoi = (vmr_eoi){.ended = ended, .device = &recorder->pins[i]};
  }
  pthread_mutex_init(&recorder->lock, NULL);
  int rc = vmr_on_free(machine, recorder_free, recorder);
  if (rc) {
    recorder_free(recorder);
    return rc;
  }
  *out = recorder;
  return 0;
}

int vmr_recorder_line(vmr_recorder *recorder, uint32_t index, vmr_line *line) {
  if (index >= recorder->count) return -EINVAL;
  *line = (vmr_line){&line_ops, recorder, index};
  return 0;
}

int vmr_recorder_get(vmr_recorder *recorder, uint32_t index, vmr_recorded *recorded) {
  if (index >= recorder->count) return -EINVAL;
  pthread_mutex_lock(&recorder->lock);
  *recorded = recorder->pins[index].seen;
  pthread_mutex_unlock(&recorder->lock);
  return 0;
}

int vmr_recorder_end(vmr_recorder *recorder, uint32_t index) {
  if (index >= recorder->count) return -EINVAL;
  vmr_reader reader;
  vmr_reader_add(recorder->machine, &reader, false);
  vmr_reader_enter(&reader);
  vmr_eoi_tell(recorder->pins[index].watchers);
  vmr_reader_leave(&reader);
  vmr_reader_drop(&reader);
  return 0;
}

int vmr_recorder_watch(vmr_recorder *recorder, uint32_t index, vmr_line line) {
  return index < recorder->count ? vmr_line_watch(line, &recorder->pins[index].eoi) : -EINVAL;
}

int vmr_recorder_msi(vmr_recorder *recorder, uint64_t base, vmr_msi *to) {
  recorder->base = base;
  *to = (vmr_msi){&msi_ops, recorder, base};
  return 0;
}

int vmr_recorder_message(vmr_recorder *recorder, uint32_t index, uint64_t *address, uint32_t *data) {
  if (index >= recorder->count) return -EINVAL;
  pthread_mutex_lock(&recorder->lock);
  const pin *found = &recorder->pins[index];
  *address = found->address;
  *data = found->data;
  int rc = found->has_message ? 0 : -ENOENT;
  pthread_mutex_unlock(&recorder->lock);
  return rc;
}
