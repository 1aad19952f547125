/* virtio-console (VIRTIO 1.2, section 5.3). */
#ifndef VMR_VIRTIO_CONSOLE_API_H
#define VMR_VIRTIO_CONSOLE_API_H
#include "virtio_api.h"

#define VMR_VIRTIO_ID_CONSOLE 3
#define VMR_VIRTIO_CONSOLE_F_SIZE 0
#define VMR_VIRTIO_CONSOLE_F_MULTIPORT 1
#define VMR_VIRTIO_CONSOLE_DEVICE_READY 0
#define VMR_VIRTIO_CONSOLE_PORT_ADD 1
#define VMR_VIRTIO_CONSOLE_PORT_READY 3
#define VMR_VIRTIO_CONSOLE_CONSOLE_PORT 4
#define VMR_VIRTIO_CONSOLE_RESIZE 5
#define VMR_VIRTIO_CONSOLE_PORT_OPEN 6
#define VMR_VIRTIO_CONSOLE_PORT_NAME 7

#define VMR_PORT_CONSOLE 1 /* the guest makes it an hvc terminal; the end of in_fd is not told to it */
#define VMR_PORT_HANGUP 2  /* when the guest closes the port, out_fd is closed once it has every byte */

typedef struct vmr_virtio_console vmr_virtio_console;
/* ports: 1 to 16. cols and rows: the terminal's size, 0 where unknown. */
int vmr_virtio_console_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, uint32_t ports, uint32_t cols,
                           uint32_t rows, vmr_virtio_console **console);
/* Wire a port, in order from 0. name: at most 63 bytes, NULL or "" for none. A guest without the multiport feature has
 * port 0 alone. Without out_fd what the guest sends is dropped. */
int vmr_virtio_console_port(vmr_virtio_console *console, uint32_t port, const char *name, uint32_t flags, int in_fd,
                            int out_fd);
/* Tell the guest a new size of its terminals. Any thread, any time before the machine is freed. */
int vmr_virtio_console_resize(vmr_virtio_console *console, uint32_t cols, uint32_t rows);
typedef struct vmr_virtio_console_counters {
  uint32_t guest_open;
  uint32_t in_open;   /* 0 once in_fd came to its end, or was never given */
  uint32_t out_open;
  uint32_t out_errno; /* why out_fd takes no more, or 0 */
  uint64_t rx_bytes, tx_bytes;
} vmr_virtio_console_counters;
int vmr_virtio_console_get_counters(vmr_virtio_console *console, uint32_t port, vmr_virtio_console_counters *state);
#endif
