#define _GNU_SOURCE
#include "serial.h"

#include <errno.h>
#include <sys/epoll.h>

/* ---- host side --------------------------------------------------------------------------------------------------- */

static void on_moved(void *opaque) {
  vmr_serial *serial = opaque;
  pthread_mutex_lock(&serial->lock);
  serial->moved(serial->device, false);
  pthread_mutex_unlock(&serial->lock);
}

static void on_in(void *opaque, uint32_t events) {
  vmr_serial *serial = opaque;
  (void)events;
  pthread_mutex_lock(&serial->lock);
  uint32_t room = VMR_SERIAL_RX - serial->rx_count, end = (serial->rx_at + serial->rx_count) % VMR_SERIAL_RX;
  if (room && !serial->in_held) {
    struct iovec iov = {serial->rx + end, end + room > VMR_SERIAL_RX ? VMR_SERIAL_RX - end : room};
    ssize_t got = vmr_stream_read(&serial->in, &iov, 1);
    if (got > 0) serial->rx_count += (uint32_t)got;
    if (got == 0 || (got < 0 && got != -EAGAIN)) {
      serial->in_ended = true;
      vmr_io_remove(serial->machine, serial->in.fd);
    }
  }
  serial->in_paused = !serial->in_ended && (serial->rx_count == VMR_SERIAL_RX || serial->in_held);
  if (serial->in_paused) vmr_io_modify(serial->machine, serial->in.fd, 0);
  serial->moved(serial->device, true);
  pthread_mutex_unlock(&serial->lock);
}

static void resume_in(vmr_serial *serial) {
  if (!serial->in_paused || serial->rx_count > VMR_SERIAL_RX / 2 || serial->in_held) return;
  serial->in_paused = false;
  vmr_io_modify(serial->machine, serial->in.fd, EPOLLIN);
}

/* ---- guest side -------------------------------------------------------------------------------------------------- */

uint8_t vmr_serial_receive(vmr_serial *serial) {
  if (!serial->rx_count) return 0;
  uint8_t byte = serial->rx[serial->rx_at];
  vmr_serial_drop(serial, 1);
  return byte;
}

void vmr_serial_drop(vmr_serial *serial, uint32_t count) {
  if (count > serial->rx_count) count = serial->rx_count;
  serial->rx_at = (serial->rx_at + count) % VMR_SERIAL_RX;
  serial->rx_count -= count;
  resume_in(serial);
}

bool vmr_serial_echo(vmr_serial *serial, uint8_t byte, uint32_t limit) {
  if (serial->rx_count >= limit) return false;
  serial->rx[(serial->rx_at + serial->rx_count++) % VMR_SERIAL_RX] = byte;
  return true;
}

void vmr_serial_hold(vmr_serial *serial, bool held) {
  serial->in_held = held;
  resume_in(serial);
}

/* ---- state ------------------------------------------------------------------------------------------------------- */

static const vmr_field fields[] = {
    VMR_FIELD(vmr_serial, in_held, 1), VMR_FIELD(vmr_serial, rx_at, VMR_SERIAL_RX - 1),
    VMR_FIELD(vmr_serial, rx_count, VMR_SERIAL_RX), VMR_ARRAY(vmr_serial, rx, VMR_ANY)};

vmr_part vmr_serial_part(vmr_serial *serial) { return (vmr_part){"host", -1, serial, VMR_FIELDS(fields)}; }

const char *vmr_serial_lock(vmr_serial *serial) {
  pthread_mutex_lock(&serial->lock);
  return NULL;
}

void vmr_serial_unlock(vmr_serial *serial) { pthread_mutex_unlock(&serial->lock); }

void vmr_serial_loaded(vmr_serial *serial) {
  bool full = serial->rx_count == VMR_SERIAL_RX || serial->in_held;
  if (serial->in_ended || full == serial->in_paused) return;
  serial->in_paused = full;
  vmr_io_modify(serial->machine, serial->in.fd, full ? 0 : EPOLLIN);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

void vmr_serial_init(vmr_serial *serial, vmr_machine *machine, void (*moved)(void *device, bool in), void *device) {
  serial->machine = machine;
  serial->moved = moved;
  serial->device = device;
  serial->in.fd = -1;
  serial->user = (vmr_outlet_user){.moved = on_moved, .opaque = serial};
  pthread_mutex_init(&serial->lock, NULL);
}

int vmr_serial_open(vmr_serial *serial, int in_fd, int out_fd) {
  vmr_machine *machine = serial->machine;
  int rc = vmr_stream_open(machine, &serial->in, in_fd, false);
  if (!rc) rc = vmr_outlet_open(machine, out_fd, &serial->user, &serial->out);
  serial->in_ended = serial->in.fd < 0;
  return rc || serial->in_ended ? rc : vmr_io_add(machine, serial->in.fd, EPOLLIN, on_in, serial);
}

void vmr_serial_fini(vmr_serial *serial) {
  vmr_stream_close(&serial->in);
  pthread_mutex_destroy(&serial->lock);
}
