/* virtio-rng (VIRTIO 1.2, section 5.4). */
#ifndef VMR_VIRTIO_RNG_API_H
#define VMR_VIRTIO_RNG_API_H
#include "virtio_api.h"

#define VMR_VIRTIO_ID_RNG 4
typedef struct vmr_virtio_rng vmr_virtio_rng;
/* source_fd: bytes to give instead of the host's randomness (getrandom), for runs that must repeat; -1 otherwise. */
int vmr_virtio_rng_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int source_fd,
                       vmr_virtio_rng **rng);
#endif
