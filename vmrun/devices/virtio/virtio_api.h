/* What every virtio device has (Virtual I/O Device 1.2). */
#ifndef VMR_VIRTIO_API_H
#define VMR_VIRTIO_API_H
#include "line_api.h"

#define VMR_VIRTIO_INT_VRING 1 /* why a device interrupts: bits that its transport shows */
#define VMR_VIRTIO_INT_CONFIG 2
#define VMR_VIRTIO_STATUS_ACKNOWLEDGE 1 /* section 2.1 */
#define VMR_VIRTIO_STATUS_DRIVER 2
#define VMR_VIRTIO_STATUS_DRIVER_OK 4
#define VMR_VIRTIO_STATUS_FEATURES_OK 8
#define VMR_VIRTIO_STATUS_NEEDS_RESET 64
#define VMR_VIRTIO_STATUS_FAILED 128
#define VMR_VIRTIO_F_INDIRECT_DESC 28 /* bit numbers, section 6 */
#define VMR_VIRTIO_F_EVENT_IDX 29
#define VMR_VIRTIO_F_VERSION_1 32
#define VMR_VIRTQ_SIZE 256 /* the largest queue, and the longest chain */
#endif
