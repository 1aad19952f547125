/* How a disk uses the files behind it. */
#ifndef VMR_DISK_API_H
#define VMR_DISK_API_H

#define VMR_DISK_RO 0      /* fd is read */
#define VMR_DISK_RW 1      /* fd is read and written, under an exclusive lock (flock) */
#define VMR_DISK_OVERLAY 2 /* fd is read; writes go to overlay_fd, an empty sparse file that nobody else has */
#endif
