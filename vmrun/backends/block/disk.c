#define _GNU_SOURCE
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio.h"

#define SECTOR 512u
#define CLUSTER 4096u /* a guest's page: most writes fill whole clusters, so nothing is copied up */
#define PIECE (4u << 20)       /* moved between two looks at `cut`: more than a kernel asks for at once */
#define SYNC_PIECE (64u << 20) /* the same for what moves no bytes through us */

/* ---- one file ---------------------------------------------------------------------------------------------------- */

static bool is_cut(const vmr_disk *disk) { return atomic_load_explicit(&disk->cut, memory_order_relaxed); }

static int failed(vmr_disk *disk, int fd, int errnum) {
  disk->blamed = fd;
  return -errnum;
}

/* Move all of iov at offset; 0, -ENODATA where the file ends early, or -errno. */
static int move_file(vmr_disk *disk, int fd, bool write, uint64_t offset, const struct iovec *iov, uint32_t count) {
  struct iovec rest[VMR_VIRTQ_SIZE];
  uint64_t done = 0;
  for (;;) {
    uint32_t left = vmr_iov_slice(iov, count, done, PIECE, rest);
    if (!left) return 0;
    if (is_cut(disk)) return -ECANCELED;
    ssize_t moved = write ? pwritev(fd, rest, (int)left, (off_t)(offset + done))
                          : preadv(fd, rest, (int)left, (off_t)(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return failed(disk, fd, errno);
    if (!moved) return failed(disk, fd, write ? EIO : ENODATA);
    done += (uint64_t)moved;
  }
}

static int allocate(vmr_disk *disk, int fd, int mode, uint64_t offset, uint64_t size) {
  while (size) {
    uint64_t piece = size < SYNC_PIECE ? size : SYNC_PIECE;
    if (is_cut(disk)) return -ECANCELED;
    if (fallocate(fd, mode, (off_t)offset, (off_t)piece) < 0) return failed(disk, fd, errno);
    offset += piece, size -= piece;
  }
  return 0;
}

/* Bring a span to the disk piece by piece, as fdatasync would at once. until_ns: 0 ends at a cut. */
static int sync_pieces(vmr_disk *disk, uint64_t low, uint64_t high, uint64_t until_ns) {
  const unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  for (uint64_t at = low; at < high; at += SYNC_PIECE) {
    if (until_ns ? vmr_host_ns() >= until_ns : is_cut(disk)) return until_ns ? -ETIMEDOUT : -ECANCELED;
    if (sync_file_range(disk->fd, (off_t)at, SYNC_PIECE, how) == 0) continue;
    if (errno == EIO || errno == ENOSPC) return failed(disk, disk->fd, errno); /* told once: fdatasync would hide it */
    return 0;                                                                /* a file that knows no ranges */
  }
  return 0;
}

/* fdatasync, after which little is left to do where much was written. */
static int sync_file(vmr_disk *disk, uint64_t until_ns) {
  int rc = disk->unsynced > SYNC_PIECE ? sync_pieces(disk, disk->unsynced_low, disk->unsynced_high, until_ns) : 0;
  if (rc) return rc;
  if (fdatasync(disk->fd) < 0) return failed(disk, disk->fd, errno);
  disk->unsynced = 0;
  return 0;
}

static uint64_t total(const struct iovec *iov, uint32_t count) {
  uint64_t size = 0;
  for (uint32_t i = 0; i < count; i++) size += iov[i].iov_len;
  return size;
}

/* Read the base, with zeroes between its end and the disk's. */
static int read_base(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count) {
  uint64_t size = total(iov, count), there = offset < disk->size ? disk->size - offset : 0;
  if (size <= there) return move_file(disk, disk->fd, false, offset, iov, count);
  struct iovec part[VMR_VIRTQ_SIZE];
  uint32_t parts = vmr_iov_slice(iov, count, there, size - there, part);
  for (uint32_t i = 0; i < parts; i++) memset(part[i].iov_base, 0, part[i].iov_len);
  parts = vmr_iov_slice(iov, count, 0, there, part);
  return parts ? move_file(disk, disk->fd, false, offset, part, parts) : 0;
}

/* ---- overlay ----------------------------------------------------------------------------------------------------- */

static bool is_present(const vmr_disk *disk, uint64_t cluster) { return disk->present[cluster / 64] >> cluster % 64 & 1; }

static void set_present(vmr_disk *disk, uint64_t cluster) {
  if (is_present(disk, cluster)) return;
  disk->present[cluster / 64] |= 1ull << cluster % 64;
  disk->clusters++;
}

/* Bytes from offset on, at most size, that live in one place; *present says which. */
static uint64_t run_of(const vmr_disk *disk, uint64_t offset, uint64_t size, bool *present) {
  uint64_t end = offset + size, at = (offset / CLUSTER + 1) * CLUSTER;
  *present = is_present(disk, offset / CLUSTER);
  while (at < end && is_present(disk, at / CLUSTER) == *present) at += CLUSTER;
  return (at < end ? at : end) - offset;
}

static int read_overlay(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count) {
  struct iovec part[VMR_VIRTQ_SIZE];
  uint64_t size = total(iov, count);
  for (uint64_t done = 0; done < size;) {
    bool present;
    uint64_t run = run_of(disk, offset + done, size - done < PIECE ? size - done : PIECE, &present);
    uint32_t parts = vmr_iov_slice(iov, count, done, run, part);
    int rc = present ? move_file(disk, disk->overlay, false, offset + done, part, parts)
                     : read_base(disk, offset + done, part, parts);
    if (rc) return rc;
    done += run;
  }
  return 0;
}

/* Bring a cluster that will be written in part into the overlay. */
static int copy_up(vmr_disk *disk, uint64_t cluster) {
  uint8_t bytes[CLUSTER];
  uint64_t at = cluster * CLUSTER;
  if (at >= disk->bytes || is_present(disk, cluster)) return 0;
  struct iovec iov = {bytes, disk->bytes - at < CLUSTER ? disk->bytes - at : CLUSTER};
  int rc = read_base(disk, at, &iov, 1);
  if (!rc) rc = move_file(disk, disk->overlay, true, at, &iov, 1);
  if (!rc) set_present(disk, cluster);
  return rc;
}

/* Copy up what [offset, offset + size) covers in part; the rest of the clusters are for the caller to fill. */
static int prepare(vmr_disk *disk, uint64_t offset, uint64_t size) {
  uint64_t end = offset + size;
  int rc = offset % CLUSTER ? copy_up(disk, offset / CLUSTER) : 0;
  if (!rc && end % CLUSTER && end < disk->bytes) rc = copy_up(disk, end / CLUSTER);
  return rc;
}

static void mark(vmr_disk *disk, uint64_t offset, uint64_t size) {
  if (disk->overlay < 0) return;
  for (uint64_t cluster = offset / CLUSTER; cluster * CLUSTER < offset + size; cluster++) set_present(disk, cluster);
}

/* ---- the disk ---------------------------------------------------------------------------------------------------- */

static int target(const vmr_disk *disk) { return disk->overlay >= 0 ? disk->overlay : disk->fd; }

/* The file is about to change here. */
static void note_change(vmr_disk *disk, uint64_t offset, uint64_t size) {
  if (!disk->unsynced || offset < disk->unsynced_low) disk->unsynced_low = offset;
  if (!disk->unsynced || offset + size > disk->unsynced_high) disk->unsynced_high = offset + size;
  disk->unsynced += size;
}

int vmr_disk_read(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count) {
  return disk->overlay >= 0 ? read_overlay(disk, offset, iov, count) : read_base(disk, offset, iov, count);
}

int vmr_disk_write(vmr_disk *disk, uint64_t offset, const struct iovec *iov, uint32_t count) {
  uint64_t size = total(iov, count);
  int rc = disk->overlay >= 0 ? prepare(disk, offset, size) : 0;
  note_change(disk, offset, size);
  if (!rc) rc = move_file(disk, target(disk), true, offset, iov, count);
  if (!rc) mark(disk, offset, size);
  return rc;
}

static int write_zeroes(vmr_disk *disk, uint64_t offset, uint64_t size) {
  static const uint8_t zeroes[65536];
  while (size) {
    struct iovec iov = {(void *)zeroes, size < sizeof zeroes ? size : sizeof zeroes};
    int rc = move_file(disk, target(disk), true, offset, &iov, 1);
    if (rc) return rc;
    offset += iov.iov_len, size -= iov.iov_len;
  }
  return 0;
}

int vmr_disk_zero(vmr_disk *disk, uint64_t offset, uint64_t size, bool may_unmap) {
  int mode = FALLOC_FL_KEEP_SIZE | (may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
  int rc = disk->overlay >= 0 ? prepare(disk, offset, size) : 0;
  note_change(disk, offset, size);
  if (!rc && (rc = allocate(disk, target(disk), mode, offset, size)) && rc != -ECANCELED)
    rc = write_zeroes(disk, offset, size); /* a file system that cannot do it better */
  if (!rc) mark(disk, offset, size);
  return rc;
}

int vmr_disk_discard(vmr_disk *disk, uint64_t offset, uint64_t size) {
  if (disk->overlay >= 0) { /* whole clusters alone: the rest is advice that may be ignored */
    uint64_t start = (offset + CLUSTER - 1) / CLUSTER * CLUSTER, end = (offset + size) / CLUSTER * CLUSTER;
    if (start >= end) return 0;
    offset = start, size = end - start;
  }
  note_change(disk, offset, size);
  int rc = allocate(disk, target(disk), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
  if (!rc) mark(disk, offset, size);
  return rc;
}

int vmr_disk_flush(vmr_disk *disk) {
  if (!disk->writable || disk->overlay >= 0) return 0; /* an overlay is gone with the run, so it need not be safe */
  return is_cut(disk) ? -ECANCELED : sync_file(disk, 0);
}

int vmr_disk_finish(vmr_disk *disk, uint64_t until_ns) {
  if (!disk->writable || disk->overlay >= 0) return 0;
  return sync_file(disk, until_ns);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static int lock_file(vmr_machine *machine, int fd, bool exclusive) {
  if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return 0;
  if (errno == EWOULDBLOCK)
    return vmr_fail(machine, EWOULDBLOCK, "the disk is in use by another run%s", exclusive ? "" : ", which writes to it");
  if (!exclusive) return 0; /* a file system without locks: nobody can hold one */
  int errnum = errno;
  return vmr_fail(machine, errnum, "locking the disk: %s", strerror(errnum));
}

static int measure(vmr_machine *machine, vmr_disk *disk) {
  off_t end = lseek(disk->fd, 0, SEEK_END);
  if (end < 0) {
    int errnum = errno;
    return vmr_fail(machine, errnum, "the disk's size: %s", strerror(errnum));
  }
  if (!end) return vmr_fail(machine, ENODATA, "the disk is empty");
  disk->size = (uint64_t)end;
  disk->bytes = (disk->size + SECTOR - 1) / SECTOR * SECTOR;
  if (disk->writable && disk->overlay < 0 && disk->bytes != disk->size)
    return vmr_fail(machine, EINVAL, "the disk's %llu bytes are no whole number of sectors of 512", (unsigned long long)end);
  return 0;
}

static int make_overlay(vmr_machine *machine, vmr_disk *disk) {
  uint64_t words = (disk->bytes + CLUSTER - 1) / CLUSTER / 64 + 1;
  disk->present = calloc(words, sizeof *disk->present);
  if (!disk->present) return vmr_fail(machine, ENOMEM, "out of memory");
  if (ftruncate(disk->overlay, (off_t)disk->bytes) == 0) return 0; /* sparse; reads of it never come short */
  int errnum = errno;
  return vmr_fail(machine, errnum, "the overlay's file: %s", strerror(errnum));
}

int vmr_disk_open(vmr_machine *machine, vmr_disk *disk, int fd, int mode, int overlay_fd) {
  *disk = (vmr_disk){.fd = -1, .overlay = -1, .writable = mode != VMR_DISK_RO};
  if (mode < VMR_DISK_RO || mode > VMR_DISK_OVERLAY || (mode == VMR_DISK_OVERLAY) != (overlay_fd >= 0))
    return vmr_fail(machine, EINVAL, "disk mode %d with overlay fd %d", mode, overlay_fd);
  disk->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (disk->fd >= 0 && overlay_fd >= 0) disk->overlay = fcntl(overlay_fd, F_DUPFD_CLOEXEC, 3);
  if (disk->fd < 0 || (overlay_fd >= 0 && disk->overlay < 0)) {
    int errnum = errno;
    return vmr_fail(machine, errnum, "the disk's fd %d: %s", fd, strerror(errnum));
  }
  int rc = lock_file(machine, disk->fd, mode == VMR_DISK_RW);
  if (!rc) rc = measure(machine, disk);
  if (!rc && disk->overlay >= 0) rc = make_overlay(machine, disk);
  if (!rc && disk->writable) /* beyond the end: asks and changes nothing */
    disk->punches = fallocate(target(disk), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)disk->bytes, CLUSTER) == 0;
  return rc;
}

void vmr_disk_close(vmr_disk *disk) {
  if (disk->fd >= 0) close(disk->fd);
  if (disk->overlay >= 0) close(disk->overlay);
  free(disk->present);
}
