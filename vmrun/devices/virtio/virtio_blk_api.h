/* virtio-blk (VIRTIO 1.2, section 5.2). */
#ifndef VMR_VIRTIO_BLK_API_H
#define VMR_VIRTIO_BLK_API_H
#include "virtio_api.h"

#define VMR_VIRTIO_ID_BLK 2
#define VMR_VIRTIO_BLK_F_SEG_MAX 2
#define VMR_VIRTIO_BLK_F_RO 5
#define VMR_VIRTIO_BLK_F_BLK_SIZE 6
#define VMR_VIRTIO_BLK_F_FLUSH 9
#define VMR_VIRTIO_BLK_F_DISCARD 13
#define VMR_VIRTIO_BLK_F_WRITE_ZEROES 14
#define VMR_VIRTIO_BLK_T_IN 0
#define VMR_VIRTIO_BLK_T_OUT 1
#define VMR_VIRTIO_BLK_T_FLUSH 4
#define VMR_VIRTIO_BLK_T_GET_ID 8
#define VMR_VIRTIO_BLK_T_DISCARD 11
#define VMR_VIRTIO_BLK_T_WRITE_ZEROES 13
#define VMR_VIRTIO_BLK_S_OK 0
#define VMR_VIRTIO_BLK_S_IOERR 1
#define VMR_VIRTIO_BLK_S_UNSUPP 2

typedef struct vmr_virtio_blk vmr_virtio_blk;
/* The disk is as large as the open file or block device. RO and OVERLAY hold a shared lock (flock) on fd, and show a
 * file whose size is no multiple of 512 with zeroes up to the next. serial: at most 20 bytes, may be NULL.
 * -EWOULDBLOCK: another run holds the lock. -ENODATA: empty. -EINVAL: rw, and the size is no multiple of 512. */
int vmr_virtio_blk_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int fd, int mode, int overlay_fd,
                       const char *serial, vmr_virtio_blk **disk);
typedef struct vmr_virtio_blk_counters {
  uint64_t sectors;
  uint64_t reads, writes, flushes; /* requests done */
  uint64_t errors;                 /* requests answered with IOERR */
  uint64_t host_errors;            /* those of them for which the host is to blame, and a failed flush at the end */
  uint64_t overlay_clusters;       /* 4 KiB units that the overlay holds */
} vmr_virtio_blk_counters;
void vmr_virtio_blk_get_counters(vmr_virtio_blk *disk, vmr_virtio_blk_counters *state);

#define VMR_DISK_READING 0
#define VMR_DISK_WRITING 1
#define VMR_DISK_ZEROING 2
#define VMR_DISK_DISCARDING 3
#define VMR_DISK_FLUSHING 4
#define VMR_DISK_FINISHING 5  /* the flush of vmr_machine_halt */
#define VMR_DISK_FAILURES 16  /* kinds that are told apart */

/* What the host refused, once for each kind. */
typedef struct vmr_disk_failure {
  uint32_t doing;   /* VMR_DISK_* */
  uint32_t overlay; /* 1: the overlay's file failed, 0: the disk's own */
  int32_t errnum;   /* ENODATA: the file has become shorter; ETIMEDOUT: not all is on stable storage yet */
  uint64_t count;
} vmr_disk_failure;
/* One call per index until -ENOENT. Any thread, until the machine is freed. */
int vmr_virtio_blk_failure_at(vmr_virtio_blk *disk, size_t index, vmr_disk_failure *failure);
#endif
