#define _GNU_SOURCE
#include "serial.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TX_FLUSH 256u /* write on the vCPU's thread from this fill on, or at a line's end; else the timer does */
#define FLUSH_NS 2000000

/* ---- host side --------------------------------------------------------------------------------------------------- */

static void flush(vmr_serial *serial) {
  while (serial->tx_count) {
    uint32_t at = serial->tx_at, count = serial->tx_count;
    uint32_t first = at + count > VMR_SERIAL_TX ? VMR_SERIAL_TX - at : count;
    struct iovec iov[2] = {{serial->tx + at, first}, {serial->tx, count - first}};
    ssize_t put = serial->out_errno ? (ssize_t)count : vmr_stream_write(&serial->out, iov, first < count ? 2 : 1);
    if (put == -EAGAIN || put == 0) break;
    if (put < 0) {
      serial->out_errno = (int)-put; /* nobody reads any more: the guest's bytes are dropped from here on */
      continue;
    }
    serial->tx_at = (at + (uint32_t)put) % VMR_SERIAL_TX;
    serial->tx_count -= (uint32_t)put;
  }
  bool waits = serial->tx_count != 0;
  if (serial->out_watched && waits != serial->out_waits) {
    vmr_io_modify(serial->machine, serial->out.fd, waits ? EPOLLOUT : 0);
    serial->out_waits = waits;
  }
}

static void on_out(void *opaque, uint32_t events) {
  vmr_serial *serial = opaque;
  (void)events;
  pthread_mutex_lock(&serial->lock);
  flush(serial);
  serial->moved(serial->device);
  pthread_mutex_unlock(&serial->lock);
}

static void on_timer(void *opaque, uint32_t events) {
  vmr_serial *serial = opaque;
  (void)events;
  uint64_t expirations;
  pthread_mutex_lock(&serial->lock);
  if (read(serial->timer, &expirations, sizeof expirations) > 0) serial->timer_armed = false;
  flush(serial);
  serial->moved(serial->device);
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
  serial->moved(serial->device);
  pthread_mutex_unlock(&serial->lock);
}

static void resume_in(vmr_serial *serial) {
  if (!serial->in_paused || serial->rx_count > VMR_SERIAL_RX / 2 || serial->in_held) return;
  serial->in_paused = false;
  vmr_io_modify(serial->machine, serial->in.fd, EPOLLIN);
}

/* ---- guest side -------------------------------------------------------------------------------------------------- */

bool vmr_serial_send(vmr_serial *serial, uint8_t byte) {
  if (serial->tx_count == VMR_SERIAL_TX) return false;
  serial->tx[(serial->tx_at + serial->tx_count++) % VMR_SERIAL_TX] = byte;
  if (byte == '\n' || serial->tx_count >= TX_FLUSH) {
    if (!serial->out_waits) flush(serial);
  } else if (!serial->timer_armed) {
    struct itimerspec soon = {.it_value.tv_nsec = FLUSH_NS};
    serial->timer_armed = timerfd_settime(serial->timer, 0, &soon, NULL) == 0;
  }
  return true;
}

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

/* ---- life -------------------------------------------------------------------------------------------------------- */

bool vmr_serial_idle(void *opaque) {
  vmr_serial *serial = opaque;
  pthread_mutex_lock(&serial->lock);
  if (!serial->out_waits) flush(serial);
  bool idle = !serial->tx_count;
  pthread_mutex_unlock(&serial->lock);
  return idle;
}

void vmr_serial_init(vmr_serial *serial, vmr_machine *machine, void (*moved)(void *device), void *device) {
  serial->machine = machine;
  serial->moved = moved;
  serial->device = device;
  serial->in.fd = serial->out.fd = serial->timer = -1;
  pthread_mutex_init(&serial->lock, NULL);
}

int vmr_serial_open(vmr_serial *serial, const char *name, int in_fd, int out_fd) {
  vmr_machine *machine = serial->machine;
  int rc = vmr_stream_open(machine, &serial->in, in_fd, false);
  if (!rc) rc = vmr_stream_open(machine, &serial->out, out_fd, true);
  if (rc) return rc;
  serial->in_ended = serial->in.fd < 0;
  serial->out_errno = serial->out.fd < 0 ? EBADF : 0;
  serial->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (serial->timer < 0) return vmr_fail(machine, errno, "%s: the host gives no timer", name);
  rc = vmr_io_add(machine, serial->timer, EPOLLIN, on_timer, serial);
  if (!rc && serial->in.fd >= 0) rc = vmr_io_add(machine, serial->in.fd, EPOLLIN, on_in, serial);
  if (!rc && serial->out.fd >= 0) rc = vmr_io_add(machine, serial->out.fd, 0, on_out, serial);
  serial->out_watched = !rc && serial->out.fd >= 0;
  return rc ? rc : vmr_on_drain(machine, vmr_serial_idle, serial);
}

void vmr_serial_fini(vmr_serial *serial) {
  vmr_stream_close(&serial->in);
  vmr_stream_close(&serial->out);
  if (serial->timer >= 0) close(serial->timer);
  pthread_mutex_destroy(&serial->lock);
}
