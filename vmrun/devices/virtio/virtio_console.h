/* Inside of virtio-console: ports move bytes (virtio_console.c), the control queue tells about them (virtio_console_control.c). */
#ifndef VMR_VIRTIO_CONSOLE_H
#define VMR_VIRTIO_CONSOLE_H
#include "stream.h"
#include "virtio.h"
#include "virtio_console_api.h"

#define VMR_CONSOLE_NAME "virtio-console"
#define VMR_CONSOLE_PORTS 16
#define VMR_CONSOLE_PORT_NAME 64

/* Control messages owed to the driver, each at most once: it learns the state, not its history. Sent in this order. */
enum { OWED_ADD, OWED_CONSOLE, OWED_RESIZE, OWED_NAME, OWED_OPEN, OWED_KINDS };

typedef struct vmr_port {
  struct vmr_virtio_console *console;
  uint32_t index, flags;
  char name[VMR_CONSOLE_PORT_NAME];
  bool wired, guest_open;
  bool in_given, in_ended; /* ended as well where none was given */
  bool in_watched;  /* epoll looks at in: there is room for what comes */
  bool out_waits;   /* epoll looks at out: sending is the buffer that the host has not taken whole */
  bool hangup_due;  /* the guest closed; out is closed behind the last byte */
  int out_errno;
  uint32_t owed;    /* bits of OWED_* */
  vmr_stream in, out;
  bool sending;
  uint64_t sent;    /* bytes of tx */
  uint64_t last_words; /* bytes that may still go out once the machine stops */
  vmr_chain tx;
  uint64_t rx_bytes, tx_bytes;
} vmr_port;

/* 5.3.4 */
typedef struct vmr_console_config {
  uint16_t cols, rows;
  uint32_t max_nr_ports, emerg_wr;
} vmr_console_config;

struct vmr_virtio_console {
  vmr_virtio virtio;
  vmr_console_config config;
  uint32_t port_count;
  vmr_io_task task; /* what must not run on a vCPU's thread */
  bool task_due;    /* it was posted and has not run */
  vmr_chain chain;  /* scratch for receive and control queues */
  vmr_port ports[VMR_CONSOLE_PORTS];
};

/* Queues, 5.3.2. */
#define VMR_CONSOLE_CONTROL_RX 2
#define VMR_CONSOLE_CONTROL_TX 3
uint32_t vmr_console_rx_queue(const vmr_port *port);

/* With the lock, on the I/O thread: read the driver's messages, send what is owed. */
void vmr_console_control(vmr_virtio_console *console);
/* With the lock: run the task on the I/O thread soon. */
void vmr_console_post(vmr_virtio_console *console);
/* The guest opened or closed a port. */
void vmr_console_guest_open(vmr_port *port, bool open);
bool vmr_console_multiport(const vmr_virtio_console *console);
#endif
