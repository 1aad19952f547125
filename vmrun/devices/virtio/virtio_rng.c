/* virtio-rng: one queue of writable buffers, filled at once (Virtual I/O Device 1.2, section 5.4). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "virtio.h"
#include "virtio_rng_api.h"

#define PER_BUFFER 4096u /* a device may fill less than it was given; this bounds the time on the vCPU's thread */

struct vmr_virtio_rng {
  vmr_virtio virtio;
  int source; /* -1: the host's randomness */
  vmr_io_task task; /* the buffers that are left */
  vmr_chain chain;
};

static ssize_t random_bytes(vmr_virtio_rng *rng, void *data, size_t size) {
  ssize_t got;
  do {
    got = rng->source >= 0 ? read(rng->source, data, size) : getrandom(data, size, 0);
  } while (got < 0 && errno == EINTR);
  return got;
}

static uint64_t fill(vmr_virtio_rng *rng) {
  uint64_t written = 0;
  for (uint32_t i = 0; i < rng->chain.writable && written < PER_BUFFER; i++) {
    struct iovec *iov = &rng->chain.iov[rng->chain.readable + i];
    size_t want = iov->iov_len < PER_BUFFER - written ? iov->iov_len : PER_BUFFER - written;
    ssize_t got = random_bytes(rng, iov->iov_base, want);
    if (got <= 0) break;
    written += (uint64_t)got;
    if ((size_t)got < want) break;
  }
  return written;
}

/* Another vCPU may offer buffers as fast as they are filled: after a queue's worth the rest is the I/O thread's. */
static void rng_notify(void *device, uint32_t index) {
  vmr_virtio_rng *rng = device;
  vmr_virtq *queue = &rng->virtio.queues[index];
  uint32_t left = VMR_VIRTQ_SIZE;
  do {
    while (left && vmr_virtq_pop(&rng->virtio, queue, &rng->chain)) {
      left--;
      uint64_t written = fill(rng);
      if (!rng->chain.writable) vmr_guest_did_wrong(rng->virtio.machine, "virtio-rng", "buffer without a writable part");
      vmr_virtq_push(&rng->virtio, queue, &rng->chain, written);
    }
  } while (left && vmr_virtq_arm(&rng->virtio, queue));
  vmr_virtq_signal(&rng->virtio, queue);
  if (!left) vmr_io_post(rng->virtio.machine, &rng->task);
}

static void rng_task(void *device) {
  vmr_virtio_rng *rng = device;
  pthread_mutex_lock(&rng->virtio.lock);
  rng_notify(rng, 0);
  pthread_mutex_unlock(&rng->virtio.lock);
}

static void rng_stop(void *device, uint32_t queue) { (void)device, (void)queue; /* nothing is ever in flight */ }

static const vmr_virtio_ops ops = {.name = "virtio-rng", .device_id = VMR_VIRTIO_ID_RNG, .notify = rng_notify, .stop = rng_stop};

/* Buffers are filled when they are announced: nothing is left over. */
static const char *state_lock(void *object) { return vmr_virtio_state_lock(&((vmr_virtio_rng *)object)->virtio); }
static void state_unlock(void *object) { vmr_virtio_state_unlock(&((vmr_virtio_rng *)object)->virtio); }
static const char *state_check(void *object) { return vmr_virtio_state_check(&((vmr_virtio_rng *)object)->virtio); }
static void state_loaded(void *object) { vmr_virtio_state_loaded(&((vmr_virtio_rng *)object)->virtio); }
static const vmr_state_ops state_ops = {"virtio-rng", 1, state_lock, state_unlock, state_check, state_loaded};

static void rng_free(void *device) {
  vmr_virtio_rng *rng = device;
  if (rng->source >= 0) close(rng->source);
  vmr_virtio_fini(&rng->virtio);
  free(rng);
}

int vmr_virtio_rng_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int source_fd, vmr_virtio_rng **out) {
  *out = NULL;
  vmr_virtio_rng *rng = calloc(1, sizeof *rng);
  if (!rng) return vmr_fail(machine, ENOMEM, "out of memory");
  rng->source = -1;
  rng->task = (vmr_io_task){.run = rng_task, .opaque = rng};
  int rc = vmr_on_free(machine, rng_free, rng);
  if (rc) {
    free(rng);
    return rc;
  }
  rc = vmr_virtio_init(&rng->virtio, machine, &ops, rng, 0, 1, NULL, 0);
  if (!rc && source_fd >= 0 && (rng->source = fcntl(source_fd, F_DUPFD_CLOEXEC, 3)) < 0)
    rc = vmr_fail(machine, errno, "virtio-rng: duplicating fd %d", source_fd);
  if (!rc) rc = vmr_virtio_state_add(&rng->virtio, &state_ops, NULL, 0);
  if (!rc) rc = vmr_virtio_mmio_attach(&rng->virtio, gpa, size, line);
  if (!rc) *out = rng;
  return rc;
}
