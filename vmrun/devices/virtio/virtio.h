/* A virtio device: its registers (virtio_mmio.c), its split virtqueues (virtqueue.c), and what a kind of device adds. */
#ifndef VMR_VIRTIO_H
#define VMR_VIRTIO_H
#include <sys/uio.h>

#include "core.h"
#include "virtio_api.h"

typedef struct vmr_virtio vmr_virtio;

typedef struct vmr_virtq {
  bool ready; /* the guest addresses are those of rings of num entries */
  uint16_t num;
  uint64_t desc_gpa, avail_gpa, used_gpa;
  uint64_t generation; /* of memory (vmr_memory_generation), that the host pointers below are good for */
  const uint8_t *desc, *avail;
  uint8_t *used;
  uint16_t last_avail, used_idx;
  uint16_t signalled; /* used_idx when an interrupt was last considered */
} vmr_virtq;

/* A buffer of the driver: readable parts first, then writable ones, as host addresses inside guest RAM. Those are good up
 * to the next quiescent point (see vmr_reader); vmr_chain_renew makes them good again after it. */
typedef struct vmr_chain {
  uint16_t head;
  uint32_t readable, writable; /* counts of iov */
  uint64_t readable_bytes, writable_bytes;
  uint64_t generation; /* of memory, that iov is good for */
  struct iovec iov[VMR_VIRTQ_SIZE];
  uint64_t gpa[VMR_VIRTQ_SIZE]; /* of each iov */
} vmr_chain;

/* Every function is called with the device's lock held. */
typedef struct vmr_virtio_ops {
  const char *name; /* in guest errors */
  uint32_t device_id;
  void (*notify)(void *device, uint32_t queue); /* the queue is ready and DRIVER_OK is set */
  void (*stop)(void *device, uint32_t queue); /* nothing of the queue is in flight on return; may wait with the lock open */
  void (*reset)(void *device);                /* after every queue was stopped; may be NULL */
} vmr_virtio_ops;

/* Embedded in each device. */
struct vmr_virtio {
  vmr_machine *machine;
  const vmr_virtio_ops *ops;
  void *device;
  pthread_mutex_t lock;
  vmr_line line;
  uint64_t offered, accepted; /* feature bits */
  uint32_t status, interrupt_status, config_generation;
  uint32_t device_features_sel, driver_features_sel, queue_sel;
  const uint8_t *config; /* little endian; the device changes it under the lock, then calls vmr_virtio_config_changed */
  uint32_t config_size;
  uint32_t queue_count;
  vmr_virtq *queues;
};

/* Attach. features: kind-specific bits; the ring's own are added. vmr_virtio_fini undoes what is not the machine's. */
int vmr_virtio_init(vmr_virtio *virtio, vmr_machine *machine, const vmr_virtio_ops *ops, void *device, uint64_t features,
                    uint32_t queue_count, const void *config, uint32_t config_size);
int vmr_virtio_mmio_attach(vmr_virtio *virtio, uint64_t gpa, uint64_t size, vmr_line line);
void vmr_virtio_fini(vmr_virtio *virtio);

/* Declare the device's state: the transport's registers, each queue, and what the device adds in `parts`. ops are the
 * device's; their object is virtio->device, and check and loaded begin with the functions below. */
int vmr_virtio_state_add(vmr_virtio *virtio, const vmr_state_ops *ops, const vmr_part *parts, size_t count);
const char *vmr_virtio_state_lock(vmr_virtio *virtio);
void vmr_virtio_state_unlock(vmr_virtio *virtio);
const char *vmr_virtio_state_check(vmr_virtio *virtio);
void vmr_virtio_state_loaded(vmr_virtio *virtio);
bool vmr_virtio_accepted(const vmr_virtio *virtio, uint32_t feature);
/* True while the driver may be served: DRIVER_OK is set and NEEDS_RESET is not. */
bool vmr_virtio_live(const vmr_virtio *virtio);
/* The driver broke a ring: count it, stop serving, ask for a reset. what is a literal. */
void vmr_virtio_break(vmr_virtio *virtio, const char *what);
void vmr_virtio_interrupt(vmr_virtio *virtio, uint32_t bits);
void vmr_virtio_config_changed(vmr_virtio *virtio);

/* Check and find the rings of a queue, and begin at index 0; false: they are no rings. */
bool vmr_virtq_enable(vmr_virtio *virtio, vmr_virtq *queue);
/* Whether the addresses and the size of a queue are those of rings in RAM. */
bool vmr_virtq_valid(const vmr_virtio *virtio, const vmr_virtq *queue);
/* Find the rings of a queue in the host, as memory is now; false: they are not all in RAM. */
bool vmr_virtq_locate(vmr_virtio *virtio, vmr_virtq *queue);
void vmr_virtq_reset(vmr_virtq *queue);
/* Buffers that the driver has made available and nobody has popped. Breaks the device where that is impossible. */
uint32_t vmr_virtq_waiting(vmr_virtio *virtio, vmr_virtq *queue);
/* Take the next buffer; false: there is none, or the device broke. */
bool vmr_virtq_pop(vmr_virtio *virtio, vmr_virtq *queue, vmr_chain *chain);
/* Describe a buffer that was popped earlier once more, by its head. What is wrong with it, or NULL. */
const char *vmr_virtq_again(vmr_virtio *virtio, const vmr_virtq *queue, uint16_t head, vmr_chain *chain);
/* Hand a buffer back, with the bytes written to its writable part; the dirty log hears of them. */
void vmr_virtq_push(vmr_virtio *virtio, vmr_virtq *queue, const vmr_chain *chain, uint64_t written);
/* Tell the dirty log that the buffer's writable part may have been written, where it is not handed back. */
void vmr_chain_mark(vmr_virtio *virtio, const vmr_chain *chain);
/* Look a buffer's host addresses up again that was kept over a quiescent point; false: its memory has gone, the device broke. */
bool vmr_chain_renew(vmr_virtio *virtio, vmr_chain *chain);
/* Interrupt the driver for what was pushed, if it wants that. */
void vmr_virtq_signal(vmr_virtio *virtio, vmr_virtq *queue);
/* Ask for a notification of the next buffer; true: one is there already, so look again. */
bool vmr_virtq_arm(vmr_virtio *virtio, vmr_virtq *queue);

/* Copy out of iov[0..count) from byte offset on; returns the bytes copied. */
size_t vmr_iov_read(const struct iovec *iov, uint32_t count, uint64_t offset, void *data, size_t size);
size_t vmr_iov_write(const struct iovec *iov, uint32_t count, uint64_t offset, const void *data, size_t size);
/* The part [offset, offset + size) of iov as iovecs in out (room for count); returns how many. */
uint32_t vmr_iov_slice(const struct iovec *iov, uint32_t count, uint64_t offset, uint64_t size, struct iovec *out);
#endif
