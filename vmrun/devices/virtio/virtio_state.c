/* The state that every virtio device has: its transport's registers and its queues, by guest-physical addresses. */
#include <errno.h>
#include <stdlib.h>

#include "virtio.h"

#define STATUS_BITS                                                                              \
  (VMR_VIRTIO_STATUS_ACKNOWLEDGE | VMR_VIRTIO_STATUS_DRIVER | VMR_VIRTIO_STATUS_DRIVER_OK |      \
   VMR_VIRTIO_STATUS_FEATURES_OK | VMR_VIRTIO_STATUS_NEEDS_RESET | VMR_VIRTIO_STATUS_FAILED)

static const vmr_field fields[] = {
    VMR_FIELD(vmr_virtio, accepted, VMR_ANY),
    VMR_BITS(vmr_virtio, status, STATUS_BITS),
    VMR_BITS(vmr_virtio, interrupt_status, VMR_VIRTIO_INT_VRING | VMR_VIRTIO_INT_CONFIG),
    VMR_FIELD(vmr_virtio, config_generation, VMR_ANY),
    VMR_FIELD(vmr_virtio, device_features_sel, VMR_ANY),
    VMR_FIELD(vmr_virtio, driver_features_sel, VMR_ANY),
    VMR_FIELD(vmr_virtio, queue_sel, VMR_ANY),
};
static const vmr_field queue_fields[] = {
    VMR_FIELD(vmr_virtq, ready, 1),          VMR_FIELD(vmr_virtq, num, VMR_VIRTQ_SIZE), VMR_FIELD(vmr_virtq, desc_gpa, VMR_ANY),
    VMR_FIELD(vmr_virtq, avail_gpa, VMR_ANY), VMR_FIELD(vmr_virtq, used_gpa, VMR_ANY),   VMR_FIELD(vmr_virtq, last_avail, VMR_ANY),
    VMR_FIELD(vmr_virtq, used_idx, VMR_ANY), VMR_FIELD(vmr_virtq, signalled, VMR_ANY),
};

int vmr_virtio_state_add(vmr_virtio *virtio, const vmr_state_ops *ops, const vmr_part *parts, size_t count) {
  size_t total = 1 + virtio->queue_count + count;
  vmr_part *all = calloc(total, sizeof *all);
  if (!all) return vmr_fail(virtio->machine, ENOMEM, "out of memory");
  all[0] = (vmr_part){"virtio", -1, virtio, VMR_FIELDS(fields)};
  for (uint32_t i = 0; i < virtio->queue_count; i++)
    all[1 + i] = (vmr_part){"queue", (int)i, &virtio->queues[i], VMR_FIELDS(queue_fields)};
  for (size_t i = 0; i < count; i++) all[1 + virtio->queue_count + i] = parts[i];
  int rc = vmr_state_add(virtio->machine, ops, virtio->device, all, total);
  free(all);
  return rc;
}

const char *vmr_virtio_state_lock(vmr_virtio *virtio) {
  pthread_mutex_lock(&virtio->lock);
  return NULL;
}

void vmr_virtio_state_unlock(vmr_virtio *virtio) { pthread_mutex_unlock(&virtio->lock); }

/* As vmr_virtio_mmio's set_status lets it come to be. */
static bool is_status(const vmr_virtio *virtio) {
  bool features = virtio->status & VMR_VIRTIO_STATUS_FEATURES_OK;
  if (virtio->status & VMR_VIRTIO_STATUS_DRIVER_OK && !features) return false;
  return !features || (!(virtio->accepted & ~virtio->offered) && vmr_virtio_accepted(virtio, VMR_VIRTIO_F_VERSION_1));
}

const char *vmr_virtio_state_check(vmr_virtio *virtio) {
  if (!is_status(virtio)) return "a status that its features do not allow";
  for (uint32_t i = 0; i < virtio->queue_count; i++)
    if (virtio->queues[i].ready && !vmr_virtq_valid(virtio, &virtio->queues[i]))
      return "a ready queue whose rings are misaligned, or not in RAM";
  return NULL;
}

void vmr_virtio_state_loaded(vmr_virtio *virtio) {
  for (uint32_t i = 0; i < virtio->queue_count; i++)
    if (virtio->queues[i].ready) vmr_virtq_locate(virtio, &virtio->queues[i]);
  vmr_line_set(virtio->line, virtio->interrupt_status != 0);
}
