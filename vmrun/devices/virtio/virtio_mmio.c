/* The registers of a virtio device behind MMIO, version 2 (Virtual I/O Device 1.2, section 4.2.2), and its status. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio.h"
#include "virtio_mmio_api.h"

#define FEATURE(bit) (1ull << (bit))
#define RING_FEATURES (FEATURE(VMR_VIRTIO_F_INDIRECT_DESC) | FEATURE(VMR_VIRTIO_F_EVENT_IDX) | FEATURE(VMR_VIRTIO_F_VERSION_1))
#define DRIVER_STATUS                                                                            \
  (VMR_VIRTIO_STATUS_ACKNOWLEDGE | VMR_VIRTIO_STATUS_DRIVER | VMR_VIRTIO_STATUS_DRIVER_OK |      \
   VMR_VIRTIO_STATUS_FEATURES_OK | VMR_VIRTIO_STATUS_FAILED)

static void wrong(vmr_virtio *virtio, const char *what) { vmr_guest_did_wrong(virtio->machine, virtio->ops->name, what); }

bool vmr_virtio_accepted(const vmr_virtio *virtio, uint32_t feature) { return virtio->accepted >> feature & 1; }

bool vmr_virtio_live(const vmr_virtio *virtio) {
  uint32_t bits = VMR_VIRTIO_STATUS_DRIVER_OK | VMR_VIRTIO_STATUS_NEEDS_RESET;
  return (virtio->status & bits) == VMR_VIRTIO_STATUS_DRIVER_OK;
}

void vmr_virtio_interrupt(vmr_virtio *virtio, uint32_t bits) {
  bool raised = virtio->interrupt_status;
  virtio->interrupt_status |= bits;
  if (!raised) vmr_line_set(virtio->line, true);
}

static void acknowledge(vmr_virtio *virtio, uint32_t bits) {
  bool raised = virtio->interrupt_status;
  virtio->interrupt_status &= ~bits;
  if (raised && !virtio->interrupt_status) vmr_line_set(virtio->line, false);
}

void vmr_virtio_config_changed(vmr_virtio *virtio) {
  virtio->config_generation++;
  if (vmr_virtio_live(virtio)) vmr_virtio_interrupt(virtio, VMR_VIRTIO_INT_CONFIG);
}

void vmr_virtio_break(vmr_virtio *virtio, const char *what) {
  wrong(virtio, what);
  if (vmr_virtio_live(virtio)) vmr_virtio_interrupt(virtio, VMR_VIRTIO_INT_CONFIG);
  virtio->status |= VMR_VIRTIO_STATUS_NEEDS_RESET;
}

static void reset(vmr_virtio *virtio) {
  virtio->status &= ~(uint32_t)VMR_VIRTIO_STATUS_DRIVER_OK; /* nothing new starts while the device winds down */
  for (uint32_t i = 0; i < virtio->queue_count; i++) virtio->ops->stop(virtio->device, i);
  if (virtio->ops->reset) virtio->ops->reset(virtio->device);
  for (uint32_t i = 0; i < virtio->queue_count; i++) vmr_virtq_reset(&virtio->queues[i]);
  virtio->accepted = 0;
  virtio->status = 0;
  virtio->device_features_sel = virtio->driver_features_sel = virtio->queue_sel = 0;
  acknowledge(virtio, ~0u);
}

static void notify(vmr_virtio *virtio, uint32_t queue) {
  if (queue >= virtio->queue_count) return wrong(virtio, "notification of a queue that is not there");
  if (!virtio->queues[queue].ready) return wrong(virtio, "notification of a queue that is not ready");
  if (!(virtio->status & VMR_VIRTIO_STATUS_DRIVER_OK)) return wrong(virtio, "notification before DRIVER_OK");
  if (vmr_virtio_live(virtio)) virtio->ops->notify(virtio->device, queue);
}

static void set_status(vmr_virtio *virtio, uint32_t value) {
  if (!value) return reset(virtio);
  uint32_t fresh = value & DRIVER_STATUS & ~virtio->status;
  if (virtio->status & DRIVER_STATUS & ~value) wrong(virtio, "status bit cleared without a reset");
  if (fresh & VMR_VIRTIO_STATUS_FEATURES_OK &&
      (virtio->accepted & ~virtio->offered || !vmr_virtio_accepted(virtio, VMR_VIRTIO_F_VERSION_1))) {
    fresh &= ~(uint32_t)VMR_VIRTIO_STATUS_FEATURES_OK; /* 3.1.1: the driver reads it back and sees the refusal */
    wrong(virtio, "features that were not offered, or no VERSION_1");
  }
  if (fresh & VMR_VIRTIO_STATUS_DRIVER_OK && !((virtio->status | fresh) & VMR_VIRTIO_STATUS_FEATURES_OK)) {
    fresh &= ~(uint32_t)VMR_VIRTIO_STATUS_DRIVER_OK;
    wrong(virtio, "DRIVER_OK without FEATURES_OK");
  }
  virtio->status |= fresh;
  if (fresh & VMR_VIRTIO_STATUS_DRIVER_OK) /* buffers may wait already; their notifications came too early to count */
    for (uint32_t i = 0; i < virtio->queue_count; i++)
      if (virtio->queues[i].ready && vmr_virtio_live(virtio)) virtio->ops->notify(virtio->device, i);
}

static void set_driver_features(vmr_virtio *virtio, uint32_t value) {
  if (virtio->status & VMR_VIRTIO_STATUS_FEATURES_OK) return wrong(virtio, "features changed after FEATURES_OK");
  if (virtio->driver_features_sel > 1) {
    if (value) wrong(virtio, "features beyond bit 63");
    return;
  }
  uint32_t shift = virtio->driver_features_sel * 32;
  virtio->accepted = (virtio->accepted & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

static void set_half(uint64_t *value, bool high, uint32_t half) {
  *value = high ? (*value & UINT32_MAX) | (uint64_t)half << 32 : (*value & ~(uint64_t)UINT32_MAX) | half;
}

static void set_queue_ready(vmr_virtio *virtio, vmr_virtq *queue, uint32_t value) {
  if (value != 1) {
    queue->ready = false;
    virtio->ops->stop(virtio->device, (uint32_t)(queue - virtio->queues));
  } else if (!queue->ready && !vmr_virtq_enable(virtio, queue)) {
    vmr_virtio_break(virtio, "queue whose rings are misaligned, or not in RAM");
  }
}

static void write_queue(vmr_virtio *virtio, uint32_t offset, uint32_t value) {
  if (virtio->queue_sel >= virtio->queue_count) return wrong(virtio, "write to a queue that is not there");
  vmr_virtq *queue = &virtio->queues[virtio->queue_sel];
  if (offset == VMR_VIRTIO_MMIO_QUEUE_READY) return set_queue_ready(virtio, queue, value);
  if (queue->ready) return wrong(virtio, "queue changed while it is ready");
  switch (offset) {
    case VMR_VIRTIO_MMIO_QUEUE_NUM: queue->num = value <= VMR_VIRTQ_SIZE ? (uint16_t)value : 0; break;
    case VMR_VIRTIO_MMIO_QUEUE_DESC_LOW: set_half(&queue->desc_gpa, false, value); break;
    case VMR_VIRTIO_MMIO_QUEUE_DESC_HIGH: set_half(&queue->desc_gpa, true, value); break;
    case VMR_VIRTIO_MMIO_QUEUE_DRIVER_LOW: set_half(&queue->avail_gpa, false, value); break;
    case VMR_VIRTIO_MMIO_QUEUE_DRIVER_HIGH: set_half(&queue->avail_gpa, true, value); break;
    case VMR_VIRTIO_MMIO_QUEUE_DEVICE_LOW: set_half(&queue->used_gpa, false, value); break;
    default: set_half(&queue->used_gpa, true, value); break;
  }
}

static void write_register(vmr_virtio *virtio, uint32_t offset, uint32_t value) {
  switch (offset) {
    case VMR_VIRTIO_MMIO_DEVICE_FEATURES_SEL: virtio->device_features_sel = value; break;
    case VMR_VIRTIO_MMIO_DRIVER_FEATURES: set_driver_features(virtio, value); break;
    case VMR_VIRTIO_MMIO_DRIVER_FEATURES_SEL: virtio->driver_features_sel = value; break;
    case VMR_VIRTIO_MMIO_QUEUE_SEL: virtio->queue_sel = value; break;
    case VMR_VIRTIO_MMIO_QUEUE_NOTIFY: notify(virtio, value); break;
    case VMR_VIRTIO_MMIO_INTERRUPT_ACK: acknowledge(virtio, value); break;
    case VMR_VIRTIO_MMIO_STATUS: set_status(virtio, value); break;
    case VMR_VIRTIO_MMIO_SHM_SEL: break; /* there are no regions to select */
    case VMR_VIRTIO_MMIO_QUEUE_NUM:
    case VMR_VIRTIO_MMIO_QUEUE_READY:
    case VMR_VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VMR_VIRTIO_MMIO_QUEUE_DESC_HIGH:
    case VMR_VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case VMR_VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
    case VMR_VIRTIO_MMIO_QUEUE_DEVICE_LOW:
    case VMR_VIRTIO_MMIO_QUEUE_DEVICE_HIGH: write_queue(virtio, offset, value); break;
    default: wrong(virtio, "write of a reserved or read-only register"); break;
  }
}

static uint32_t read_register(vmr_virtio *virtio, uint32_t offset) {
  const vmr_virtq *queue = virtio->queue_sel < virtio->queue_count ? &virtio->queues[virtio->queue_sel] : NULL;
  switch (offset) {
    case VMR_VIRTIO_MMIO_MAGIC: return VMR_VIRTIO_MAGIC;
    case VMR_VIRTIO_MMIO_VERSION: return 2;
    case VMR_VIRTIO_MMIO_DEVICE_ID: return virtio->ops->device_id;
    case VMR_VIRTIO_MMIO_VENDOR_ID: return VMR_VIRTIO_VENDOR;
    case VMR_VIRTIO_MMIO_DEVICE_FEATURES:
      return virtio->device_features_sel > 1 ? 0 : (uint32_t)(virtio->offered >> virtio->device_features_sel * 32);
    case VMR_VIRTIO_MMIO_QUEUE_NUM_MAX: return queue ? VMR_VIRTQ_SIZE : 0;
    case VMR_VIRTIO_MMIO_QUEUE_READY: return queue && queue->ready;
    case VMR_VIRTIO_MMIO_INTERRUPT_STATUS: return virtio->interrupt_status;
    case VMR_VIRTIO_MMIO_STATUS: return virtio->status;
    case VMR_VIRTIO_MMIO_SHM_LEN_LOW: /* 4.2.2: all ones where the region does not exist */
    case VMR_VIRTIO_MMIO_SHM_LEN_HIGH:
    case VMR_VIRTIO_MMIO_SHM_BASE_LOW:
    case VMR_VIRTIO_MMIO_SHM_BASE_HIGH: return UINT32_MAX;
    case VMR_VIRTIO_MMIO_CONFIG_GENERATION: return virtio->config_generation;
    default: wrong(virtio, "read of a reserved or write-only register"); return 0;
  }
}

static uint64_t read_config(const vmr_virtio *virtio, uint64_t offset, uint32_t size) {
  uint64_t value = 0;
  if (offset < virtio->config_size) {
    uint64_t there = virtio->config_size - offset;
    memcpy(&value, virtio->config + offset, size < there ? size : there);
  }
  return value;
}

static uint64_t mmio_read(void *device, uint64_t offset, uint32_t size) {
  vmr_virtio *virtio = device;
  uint64_t value = 0;
  pthread_mutex_lock(&virtio->lock);
  if (offset >= VMR_VIRTIO_MMIO_CONFIG) value = read_config(virtio, offset - VMR_VIRTIO_MMIO_CONFIG, size);
  else if (size == 4) value = read_register(virtio, (uint32_t)offset);
  else wrong(virtio, "register read that is not 32 bits wide"); /* 4.2.2.2 */
  pthread_mutex_unlock(&virtio->lock);
  return value;
}

static void mmio_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  vmr_virtio *virtio = device;
  pthread_mutex_lock(&virtio->lock);
  if (offset >= VMR_VIRTIO_MMIO_CONFIG) wrong(virtio, "write of a read-only configuration field");
  else if (size == 4) write_register(virtio, (uint32_t)offset, (uint32_t)value);
  else wrong(virtio, "register write that is not 32 bits wide");
  pthread_mutex_unlock(&virtio->lock);
}

static const vmr_bus_ops bus_ops = {.read = mmio_read, .write = mmio_write, .min_width = 1, .max_width = 4};

int vmr_virtio_init(vmr_virtio *virtio, vmr_machine *machine, const vmr_virtio_ops *ops, void *device, uint64_t features,
                    uint32_t queue_count, const void *config, uint32_t config_size) {
  *virtio = (vmr_virtio){.machine = machine, .ops = ops, .device = device, .offered = features | RING_FEATURES,
                         .queue_count = queue_count, .config = config, .config_size = config_size};
  virtio->queues = calloc(queue_count, sizeof *virtio->queues);
  if (!virtio->queues) return vmr_fail(machine, ENOMEM, "out of memory");
  for (uint32_t i = 0; i < queue_count; i++) vmr_virtq_reset(&virtio->queues[i]);
  pthread_mutex_init(&virtio->lock, NULL);
  return 0;
}

int vmr_virtio_mmio_attach(vmr_virtio *virtio, uint64_t gpa, uint64_t size, vmr_line line) {
  virtio->line = line;
  if (size < VMR_VIRTIO_MMIO_CONFIG + virtio->config_size)
    return vmr_fail(virtio->machine, EINVAL, "%s: the window is too small for its registers", virtio->ops->name);
  return vmr_bus_add(virtio->machine, gpa, size, &bus_ops, virtio);
}

void vmr_virtio_fini(vmr_virtio *virtio) {
  if (!virtio->queues) return;
  free(virtio->queues);
  pthread_mutex_destroy(&virtio->lock);
}
