/* virtio-blk (Virtual I/O Device 1.2, section 5.2): one queue, served by one thread a disk, so that no vCPU ever waits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "virtio.h"
#include "virtio_blk_api.h"

#define NAME "virtio-blk"
#define SECTOR 512u
#define SERIAL_BYTES 20
#define MAX_SECTORS (1u << 22) /* of one discard or write-zeroes: 2 GiB */
#define MAX_RANGES 16
#define UNMAP 1u
#define CUT 0xff /* a status that no driver sees: the request was cut, and is not answered */
#define PUNCHES_FEATURES ((1ull << VMR_VIRTIO_BLK_F_DISCARD) | (1ull << VMR_VIRTIO_BLK_F_WRITE_ZEROES))

/* 5.2.4; the fields whose features are never offered stay zero. */
typedef struct __attribute__((packed)) blk_config {
  uint64_t capacity;
  uint32_t size_max, seg_max;
  uint8_t geometry[4];
  uint32_t blk_size;
  uint8_t topology[8];
  uint8_t writeback, unused0;
  uint16_t num_queues;
  uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
  uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap, unused1[3];
} blk_config;

/* 5.2.6 */
typedef struct header {
  uint32_t type, reserved;
  uint64_t sector;
} header;
typedef struct range {
  uint64_t sector;
  uint32_t sectors, flags;
} range;

struct vmr_virtio_blk {
  vmr_virtio virtio;
  vmr_disk disk;
  blk_config config;
  char serial[SERIAL_BYTES];
  pthread_t worker;
  pthread_cond_t work;  /* the queue was notified, or the end has come */
  pthread_cond_t quiet; /* nothing is in flight */
  bool has_worker, ending, notified, in_flight;
  uint32_t stops; /* who waits for quiet: nothing new is begun meanwhile */
  vmr_chain chain; /* of the worker */
  vmr_reader reader; /* the worker, while it serves a request */
  vmr_virtio_blk_counters done;
  vmr_disk_failure failures[VMR_DISK_FAILURES];
  uint32_t failure_count;
};

static void wrong(vmr_virtio_blk *blk, const char *what) { vmr_guest_did_wrong(blk->virtio.machine, NAME, what); }

/* ---- requests, on the worker, without the lock --------------------------------------------------------------------- */

/* True where [sector, sector + bytes) lies on the disk. */
static bool on_disk(vmr_virtio_blk *blk, uint64_t sector, uint64_t bytes) {
  uint64_t capacity = blk->config.capacity;
  if (bytes % SECTOR == 0 && sector <= capacity && bytes / SECTOR <= capacity - sector) return true;
  wrong(blk, bytes % SECTOR ? "request that is no whole number of sectors" : "request beyond the end of the disk");
  return false;
}

/* With the lock. Failures of one kind are counted together; where there are too many kinds, the last entry has the rest. */
static void note_failure(vmr_virtio_blk *blk, uint32_t doing, int errnum) {
  bool overlay = blk->disk.overlay >= 0 && blk->disk.blamed == blk->disk.overlay;
  vmr_disk_failure found = {.doing = doing, .overlay = overlay, .errnum = errnum};
  uint32_t i = 0;
  while (i < blk->failure_count && (blk->failures[i].doing != doing || blk->failures[i].overlay != found.overlay ||
                                    blk->failures[i].errnum != errnum))
    i++;
  if (i == VMR_DISK_FAILURES) i--;
  if (i == blk->failure_count) {
    blk->failures[blk->failure_count++] = found;
    vmr_host_failed(blk->virtio.machine);
  }
  blk->failures[i].count++;
  blk->done.host_errors++;
}

/* What the guest is told of the disk's answer, without the lock. */
static uint8_t status_of(vmr_virtio_blk *blk, uint32_t doing, int rc) {
  if (!rc) return VMR_VIRTIO_BLK_S_OK;
  if (rc == -ECANCELED) return CUT;
  pthread_mutex_lock(&blk->virtio.lock);
  note_failure(blk, doing, -rc);
  pthread_mutex_unlock(&blk->virtio.lock);
  return VMR_VIRTIO_BLK_S_IOERR;
}

static uint8_t move_data(vmr_virtio_blk *blk, const header *request, uint64_t *written) {
  struct iovec data[VMR_VIRTQ_SIZE];
  const vmr_chain *chain = &blk->chain;
  bool out = request->type == VMR_VIRTIO_BLK_T_OUT;
  uint64_t size = out ? chain->readable_bytes - sizeof *request : chain->writable_bytes - 1;
  if (out && !blk->disk.writable) {
    wrong(blk, "write to a read-only disk");
    return VMR_VIRTIO_BLK_S_IOERR;
  }
  if (!on_disk(blk, request->sector, size)) return VMR_VIRTIO_BLK_S_IOERR;
  uint64_t offset = request->sector * SECTOR;
  if (out) {
    uint32_t count = vmr_iov_slice(chain->iov, chain->readable, sizeof *request, size, data);
    return status_of(blk, VMR_DISK_WRITING, vmr_disk_write(&blk->disk, offset, data, count));
  }
  uint32_t count = vmr_iov_slice(chain->iov + chain->readable, chain->writable, 0, size, data);
  uint8_t status = status_of(blk, VMR_DISK_READING, vmr_disk_read(&blk->disk, offset, data, count));
  if (status == VMR_VIRTIO_BLK_S_OK) *written = size;
  return status;
}

static uint8_t give_id(vmr_virtio_blk *blk, uint64_t *written) {
  const vmr_chain *chain = &blk->chain;
  uint64_t room = chain->writable_bytes - 1;
  *written = vmr_iov_write(chain->iov + chain->readable, chain->writable, 0, blk->serial,
                           room < SERIAL_BYTES ? room : SERIAL_BYTES);
  return VMR_VIRTIO_BLK_S_OK;
}

static uint8_t clear_range(vmr_virtio_blk *blk, const header *request, const range *range) {
  bool zero = request->type == VMR_VIRTIO_BLK_T_WRITE_ZEROES;
  if (range->flags & ~(zero ? UNMAP : 0)) {
    wrong(blk, "unknown flags of a discard or write-zeroes");
    return VMR_VIRTIO_BLK_S_UNSUPP;
  }
  uint64_t bytes = (uint64_t)range->sectors * SECTOR;
  if (range->sectors > MAX_SECTORS || !on_disk(blk, range->sector, bytes)) return VMR_VIRTIO_BLK_S_IOERR;
  if (!bytes) return VMR_VIRTIO_BLK_S_OK;
  uint64_t offset = range->sector * SECTOR;
  return status_of(blk, zero ? VMR_DISK_ZEROING : VMR_DISK_DISCARDING,
                   zero ? vmr_disk_zero(&blk->disk, offset, bytes, range->flags & UNMAP)
                        : vmr_disk_discard(&blk->disk, offset, bytes));
}

static uint8_t clear_ranges(vmr_virtio_blk *blk, const header *request) {
  const vmr_chain *chain = &blk->chain;
  range ranges[MAX_RANGES];
  uint64_t size = chain->readable_bytes - sizeof *request;
  if (!(blk->virtio.offered & PUNCHES_FEATURES)) return VMR_VIRTIO_BLK_S_UNSUPP;
  if (!size || size % sizeof *ranges || size > sizeof ranges) {
    wrong(blk, "discard or write-zeroes of a broken size");
    return VMR_VIRTIO_BLK_S_IOERR;
  }
  vmr_iov_read(chain->iov, chain->readable, sizeof *request, ranges, size);
  for (uint32_t i = 0; i < size / sizeof *ranges; i++) {
    uint8_t status = clear_range(blk, request, &ranges[i]);
    if (status != VMR_VIRTIO_BLK_S_OK) return status;
  }
  return VMR_VIRTIO_BLK_S_OK;
}

static uint8_t execute(vmr_virtio_blk *blk, const header *request, uint64_t *written) {
  switch (request->type) {
    case VMR_VIRTIO_BLK_T_IN:
    case VMR_VIRTIO_BLK_T_OUT: return move_data(blk, request, written);
    case VMR_VIRTIO_BLK_T_FLUSH: return status_of(blk, VMR_DISK_FLUSHING, vmr_disk_flush(&blk->disk));
    case VMR_VIRTIO_BLK_T_GET_ID: return give_id(blk, written);
    case VMR_VIRTIO_BLK_T_DISCARD:
    case VMR_VIRTIO_BLK_T_WRITE_ZEROES: return clear_ranges(blk, request);
    default: wrong(blk, "request of an unknown type"); return VMR_VIRTIO_BLK_S_UNSUPP;
  }
}

/* Serve the worker's chain; returns the bytes written to the guest. The request's kind and status go to *request, *status. */
static uint64_t serve(vmr_virtio_blk *blk, header *request, uint8_t *status) {
  const vmr_chain *chain = &blk->chain;
  uint64_t written = 0;
  *status = VMR_VIRTIO_BLK_S_IOERR;
  if (!chain->writable_bytes) {
    wrong(blk, "request without room for its status");
    return 0;
  }
  if (vmr_iov_read(chain->iov, chain->readable, 0, request, sizeof *request) == sizeof *request)
    *status = execute(blk, request, &written);
  else
    wrong(blk, "request shorter than its header");
  if (*status == CUT) return 0;
  vmr_iov_write(chain->iov + chain->readable, chain->writable, chain->writable_bytes - 1, status, 1);
  return *status == VMR_VIRTIO_BLK_S_OK && request->type == VMR_VIRTIO_BLK_T_IN ? written + 1 : chain->writable_bytes;
}

static void count(vmr_virtio_blk *blk, uint32_t type, uint8_t status) {
  blk->done.reads += type == VMR_VIRTIO_BLK_T_IN;
  blk->done.writes += type == VMR_VIRTIO_BLK_T_OUT;
  blk->done.flushes += type == VMR_VIRTIO_BLK_T_FLUSH;
  blk->done.errors += status == VMR_VIRTIO_BLK_S_IOERR;
  blk->done.overlay_clusters = blk->disk.clusters;
}

/* ---- worker, with the lock ------------------------------------------------------------------------------------------ */

static bool begins(const vmr_virtio_blk *blk) { return !blk->ending && !blk->stops; }

static void serve_queue(vmr_virtio_blk *blk) {
  vmr_virtio *virtio = &blk->virtio;
  vmr_virtq *queue = &virtio->queues[0];
  do {
    while (begins(blk) && vmr_virtq_pop(virtio, queue, &blk->chain)) {
      header request = {.type = UINT32_MAX};
      uint8_t status;
      blk->in_flight = true;
      pthread_mutex_unlock(&virtio->lock);
      uint64_t written = serve(blk, &request, &status);
      pthread_mutex_lock(&virtio->lock);
      blk->in_flight = false;
      pthread_cond_broadcast(&blk->quiet);
      if (status == CUT) {
        vmr_chain_mark(virtio, &blk->chain);
        continue;
      }
      count(blk, request.type, status);
      vmr_virtq_push(virtio, queue, &blk->chain, written);
      vmr_virtq_signal(virtio, queue);
      vmr_reader_pass(&blk->reader);
    }
  } while (begins(blk) && vmr_virtq_arm(virtio, queue));
}

static void *worker(void *opaque) {
  vmr_virtio_blk *blk = opaque;
  vmr_reader_add(blk->virtio.machine, &blk->reader, false);
  pthread_mutex_lock(&blk->virtio.lock);
  while (!blk->ending) {
    if (!blk->notified) {
      pthread_cond_wait(&blk->work, &blk->virtio.lock);
      continue;
    }
    blk->notified = false;
    vmr_reader_enter(&blk->reader);
    serve_queue(blk);
    vmr_reader_leave(&blk->reader);
    if (!blk->notified) vmr_io_progress(blk->virtio.machine);
  }
  pthread_mutex_unlock(&blk->virtio.lock);
  vmr_reader_drop(&blk->reader);
  return NULL;
}

static void blk_notify(void *device, uint32_t queue) {
  vmr_virtio_blk *blk = device;
  (void)queue;
  blk->notified = true;
  pthread_cond_signal(&blk->work);
}

/* The driver takes its memory back. A request under way is cut rather than waited for, since it may be as large as the guest
 * likes, and the vCPU waits here; others, which another vCPU may offer meanwhile, come later. */
static void blk_stop(void *device, uint32_t queue) {
  vmr_virtio_blk *blk = device;
  blk->stops++;
  atomic_store(&blk->disk.cut, true);
  while (blk->in_flight) pthread_cond_wait(&blk->quiet, &blk->virtio.lock);
  if (--blk->stops || blk->ending) return;
  atomic_store(&blk->disk.cut, false);
  blk_notify(blk, queue);
}

static bool blk_idle(void *device) {
  vmr_virtio_blk *blk = device;
  pthread_mutex_lock(&blk->virtio.lock);
  bool busy = blk->notified || blk->in_flight;
  bool idle = !blk->has_worker || (!busy && !vmr_virtq_waiting(&blk->virtio, &blk->virtio.queues[0]));
  if (!busy && !idle) blk_notify(blk, 0); /* a guest that was stopped between its ring and its notification */
  pthread_mutex_unlock(&blk->virtio.lock);
  return idle;
}

static const vmr_virtio_ops ops = {.name = NAME, .device_id = VMR_VIRTIO_ID_BLK, .notify = blk_notify, .stop = blk_stop};

/* ---- state: what is on the disk, and in its overlay, is not among it ------------------------------------------------ */

static const char *state_lock(void *object) {
  vmr_virtio_blk *blk = object;
  pthread_mutex_lock(&blk->virtio.lock);
  bool waited = blk->in_flight;
  blk->stops++; /* the request under way comes to its end, and the next is not begun */
  while (blk->in_flight) pthread_cond_wait(&blk->quiet, &blk->virtio.lock);
  if (!--blk->stops && waited) blk_notify(blk, 0);
  return NULL;
}

static void state_unlock(void *object) { vmr_virtio_state_unlock(&((vmr_virtio_blk *)object)->virtio); }
static const char *state_check(void *object) { return vmr_virtio_state_check(&((vmr_virtio_blk *)object)->virtio); }

static void state_loaded(void *object) {
  vmr_virtio_blk *blk = object;
  vmr_virtio_state_loaded(&blk->virtio);
  if (blk->notified) blk_notify(blk, 0);
}

static const vmr_field fields[] = {VMR_FIELD(vmr_virtio_blk, notified, 1)};
static const vmr_state_ops state_ops = {NAME, 1, state_lock, state_unlock, state_check, state_loaded};

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static void blk_halt(void *device, uint64_t until_ns) {
  vmr_virtio_blk *blk = device;
  if (!blk->has_worker) return;
  pthread_mutex_lock(&blk->virtio.lock);
  blk->ending = true;
  atomic_store(&blk->disk.cut, true);
  pthread_cond_signal(&blk->work);
  pthread_mutex_unlock(&blk->virtio.lock);
  pthread_join(blk->worker, NULL);
  int rc = vmr_disk_finish(&blk->disk, until_ns);
  pthread_mutex_lock(&blk->virtio.lock);
  blk->has_worker = false;
  if (rc) note_failure(blk, VMR_DISK_FINISHING, -rc);
  pthread_mutex_unlock(&blk->virtio.lock);
}

static void blk_free(void *device) {
  vmr_virtio_blk *blk = device;
  vmr_disk_close(&blk->disk);
  pthread_cond_destroy(&blk->work);
  pthread_cond_destroy(&blk->quiet);
  vmr_virtio_fini(&blk->virtio);
  free(blk);
}

static uint64_t configure(vmr_virtio_blk *blk) {
  uint64_t features = 1ull << VMR_VIRTIO_BLK_F_SEG_MAX | 1ull << VMR_VIRTIO_BLK_F_BLK_SIZE | 1ull << VMR_VIRTIO_BLK_F_FLUSH;
  blk->config = (blk_config){.capacity = blk->disk.bytes / SECTOR, .seg_max = VMR_VIRTQ_SIZE - 2, .blk_size = SECTOR};
  if (!blk->disk.writable) return features | 1ull << VMR_VIRTIO_BLK_F_RO;
  if (!blk->disk.punches) return features;
  blk->config.max_discard_sectors = blk->config.max_write_zeroes_sectors = MAX_SECTORS;
  blk->config.max_discard_seg = blk->config.max_write_zeroes_seg = MAX_RANGES;
  blk->config.discard_sector_alignment = 4096 / SECTOR;
  blk->config.write_zeroes_may_unmap = 1;
  return features | PUNCHES_FEATURES;
}

static int blk_attach(vmr_virtio_blk *blk, vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line) {
  int rc = vmr_virtio_init(&blk->virtio, machine, &ops, blk, configure(blk), 1, &blk->config, sizeof blk->config);
  if (!rc) rc = vmr_on_halt(machine, blk_halt, blk);
  if (!rc) rc = vmr_on_drain(machine, blk_idle, blk);
  vmr_part part = {NULL, -1, blk, VMR_FIELDS(fields)};
  if (!rc) rc = vmr_virtio_state_add(&blk->virtio, &state_ops, &part, 1);
  if (!rc) rc = vmr_virtio_mmio_attach(&blk->virtio, gpa, size, line);
  if (!rc) rc = vmr_thread_start(machine, &blk->worker, "vmrun-disk", worker, blk);
  blk->has_worker = !rc;
  return rc;
}

int vmr_virtio_blk_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int fd, int mode, int overlay_fd,
                       const char *serial, vmr_virtio_blk **out) {
  *out = NULL;
  size_t length = serial ? strlen(serial) : 0;
  if (length > SERIAL_BYTES) return vmr_fail(machine, EINVAL, "a disk's serial has at most %d bytes", SERIAL_BYTES);
  vmr_virtio_blk *blk = calloc(1, sizeof *blk);
  if (!blk) return vmr_fail(machine, ENOMEM, "out of memory");
  if (length) memcpy(blk->serial, serial, length);
  pthread_cond_init(&blk->work, NULL);
  pthread_cond_init(&blk->quiet, NULL);
  blk->disk = (vmr_disk){.fd = -1, .overlay = -1};
  int rc = vmr_on_free(machine, blk_free, blk);
  if (rc) {
    blk_free(blk);
    return rc;
  }
  rc = vmr_disk_open(machine, &blk->disk, fd, mode, overlay_fd);
  if (!rc) rc = blk_attach(blk, machine, gpa, size, line);
  if (!rc) *out = blk;
  return rc;
}

int vmr_virtio_blk_failure_at(vmr_virtio_blk *blk, size_t index, vmr_disk_failure *failure) {
  pthread_mutex_lock(&blk->virtio.lock);
  bool there = index < blk->failure_count;
  if (there) *failure = blk->failures[index];
  pthread_mutex_unlock(&blk->virtio.lock);
  return there ? 0 : -ENOENT;
}

void vmr_virtio_blk_get_counters(vmr_virtio_blk *blk, vmr_virtio_blk_counters *state) {
  pthread_mutex_lock(&blk->virtio.lock);
  *state = blk->done;
  state->sectors = blk->config.capacity;
  pthread_mutex_unlock(&blk->virtio.lock);
}
