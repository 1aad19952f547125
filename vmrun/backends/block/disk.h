/* The bytes behind a block device: a file or host block device, alone or under a copy-on-write overlay. */
#ifndef VMR_DISK_H
#define VMR_DISK_H
#include <sys/uio.h>

#include "core.h"
#include "disk_api.h"

typedef struct vmr_disk {
  int fd;         /* base, or the only file */
  int overlay;    /* -1: none */
  uint64_t size;  /* bytes of the base */
  uint64_t bytes; /* what the guest sees: size up to a multiple of 512 */
  bool writable, punches; /* punches: the file that is written takes FALLOC_FL_PUNCH_HOLE */
  uint64_t *present;      /* overlay: a bit for each cluster that lives there */
  uint64_t clusters;      /* how many do */
  uint64_t unsynced, unsynced_low, unsynced_high; /* bytes changed since the last flush, and the span they lie in */
  atomic_bool cut;        /* any thread: a request under way ends at its next piece, with -ECANCELED */
  int blamed;             /* the file that failed last: fd or overlay */
} vmr_disk;

int vmr_disk_open(vmr_machine *machine, vmr_disk *disk, int fd, int mode, int overlay_fd);
void vmr_disk_close(vmr_disk *disk);
/* Move bytes between iov (their sum) and the disk at offset, inside it. 0 or -errno (-ENODATA: the file has become shorter),
 * with `blamed` set. Not concurrently on one disk. Whatever their size, requests are done in pieces, so that a cut ends
 * one soon; a piece that the host has begun cannot be taken back. */
int vmr_disk_read(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count);
int vmr_disk_write(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count);
int vmr_disk_zero(vmr_disk *disk, uint64_t offset, uint64_t size, bool may_unmap);
int vmr_disk_discard(vmr_disk *disk, uint64_t offset, uint64_t size);
int vmr_disk_flush(vmr_disk *disk);
/* Bring what was written to stable storage though the disk is cut, until the clock (CLOCK_MONOTONIC, in ns) says until_ns.
 * -ETIMEDOUT: not all of it is there; the host has it, and writes it in its own time. */
int vmr_disk_finish(vmr_disk *disk, uint64_t until_ns);
#endif
