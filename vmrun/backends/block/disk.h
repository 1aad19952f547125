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
} vmr_disk;

int vmr_disk_open(vmr_machine *machine, vmr_disk *disk, int fd, int mode, int overlay_fd);
void vmr_disk_close(vmr_disk *disk); /* flushes first */
/* Move bytes between iov (their sum) and the disk at offset, inside it. 0 or -errno. Not concurrently on one disk. */
int vmr_disk_read(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count);
int vmr_disk_write(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count);
int vmr_disk_zero(vmr_disk *disk, uint64_t offset, uint64_t size, bool may_unmap);
int vmr_disk_discard(vmr_disk *disk, uint64_t offset, uint64_t size);
int vmr_disk_flush(vmr_disk *disk);
#endif
