/* The host's side of a serial port, whatever the port's registers: what the guest sent leaves by an outlet, what the host
 * sent waits in a ring until the guest reads it. No vCPU ever blocks on the host's terminal.
 *
 * The lock is the device's as well. Functions marked "locked" are called with it held. */
#ifndef VMR_SERIAL_H
#define VMR_SERIAL_H
#include <pthread.h>

#include "outlet.h"

#define VMR_SERIAL_RX 512u
#define VMR_SERIAL_FIFO VMR_OUTLET_FIFO

typedef struct vmr_serial {
  vmr_machine *machine;
  void (*moved)(void *device, bool in); /* locked, on the I/O thread: the host has sent bytes, or (not in) taken some */
  void *device;
  pthread_mutex_t lock;
  vmr_stream in;
  vmr_outlet *out;
  vmr_outlet_user user; /* of out */
  bool in_paused, in_ended, in_held;
  uint32_t rx_at, rx_count;
  uint8_t rx[VMR_SERIAL_RX];
} vmr_serial;

/* Before anything can fail, so that vmr_serial_fini may follow. */
void vmr_serial_init(vmr_serial *serial, vmr_machine *machine, void (*moved)(void *device, bool in), void *device);
/* Watch the descriptors (-1: none), which are duplicated. 0 or -errno. */
int vmr_serial_open(vmr_serial *serial, int in_fd, int out_fd);
void vmr_serial_fini(vmr_serial *serial);

/* Locked. A byte to the host, at latest 2 ms of the machine's time later; false where there is no room. */
static inline bool vmr_serial_send(vmr_serial *serial, uint8_t byte) { return vmr_outlet_put(serial->out, byte); }
/* Locked. Whether a whole FIFO has room: drivers ask once, and then send that much. */
static inline bool vmr_serial_ready(const vmr_serial *serial) { return vmr_outlet_ready(serial->out); }
/* Locked. The next byte from the host; 0 where there is none. */
uint8_t vmr_serial_receive(vmr_serial *serial);
/* Locked. Forget the first count bytes that wait for the guest. */
void vmr_serial_drop(vmr_serial *serial, uint32_t count);
/* Locked. Put a byte where the host's go: loopback. False where limit bytes wait already. */
bool vmr_serial_echo(vmr_serial *serial, uint8_t byte, uint32_t limit);
/* Locked. Leave the host's bytes with the host, or take them again. */
void vmr_serial_hold(vmr_serial *serial, bool held);
/* The part of a port's state that is here, and for vmr_state_ops: lock and unlock its port; locked: it was loaded. What the
 * host has not taken yet is no state of the port's, but on its way: a machine is drained before it is saved. */
vmr_part vmr_serial_part(vmr_serial *serial);
const char *vmr_serial_lock(vmr_serial *serial);
void vmr_serial_unlock(vmr_serial *serial);
void vmr_serial_loaded(vmr_serial *serial);
#endif
