/* NS16550A. What the host has not taken yet waits in a ring behind the transmitter: while that is full, LSR says so, and
 * the guest waits as for a slow line. No vCPU ever blocks on the host's terminal. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "devices_api.h"
#include "stream.h"

#define NAME "uart16550"
#define RX_SIZE 512u
#define TX_SIZE 8192u
#define TX_FLUSH 256u /* write on the vCPU's thread from this fill on, or at a line's end; else the timer does */
#define FLUSH_NS 2000000
#define MSR_LINES 0xb0 /* DCD, DSR, CTS: somebody is there */

struct vmr_uart16550 {
  vmr_machine *machine;
  uint32_t gsi;
  pthread_mutex_t lock;
  vmr_stream in, out;
  int timer;
  bool timer_armed, in_paused, in_ended, out_watched, out_waits;
  int out_errno;
  bool irq, thre_pending, overrun;
  uint8_t ier, fcr, lcr, mcr, msr, scr;
  uint16_t divisor;
  uint32_t rx_at, rx_count, tx_at, tx_count;
  uint8_t rx[RX_SIZE], tx[TX_SIZE];
};

/* ---- interrupts -------------------------------------------------------------------------------------------------- */

static uint32_t rx_trigger(const vmr_uart16550 *uart) {
  static const uint8_t levels[] = {1, 4, 8, 14};
  return uart->fcr & VMR_UART_FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* The cause of highest priority, as IIR shows it. */
static uint8_t cause(const vmr_uart16550 *uart) {
  if (uart->ier & VMR_UART_IER_RLS && uart->overrun) return VMR_UART_IIR_RLS;
  if (uart->ier & VMR_UART_IER_RDA && uart->rx_count) /* below the trigger level the timeout has always passed */
    return uart->rx_count >= rx_trigger(uart) ? VMR_UART_IIR_RDA : VMR_UART_IIR_TIMEOUT;
  if (uart->ier & VMR_UART_IER_THRE && uart->thre_pending) return VMR_UART_IIR_THRE;
  if (uart->ier & VMR_UART_IER_MSR && uart->msr & 0x0f) return VMR_UART_IIR_MSR;
  return VMR_UART_IIR_NONE;
}

static void update_irq(vmr_uart16550 *uart) {
  bool level = cause(uart) != VMR_UART_IIR_NONE;
  if (level != uart->irq) vmr_irq_set(uart->machine, uart->gsi, uart->irq = level);
}

/* ---- host side --------------------------------------------------------------------------------------------------- */

static void tx_flush(vmr_uart16550 *uart) {
  while (uart->tx_count) {
    uint32_t first = uart->tx_at + uart->tx_count > TX_SIZE ? TX_SIZE - uart->tx_at : uart->tx_count;
    struct iovec iov[2] = {{uart->tx + uart->tx_at, first}, {uart->tx, uart->tx_count - first}};
    ssize_t put = uart->out_errno ? (ssize_t)uart->tx_count : vmr_stream_write(&uart->out, iov, first < uart->tx_count ? 2 : 1);
    if (put == -EAGAIN || put == 0) break;
    if (put < 0) {
      uart->out_errno = (int)-put; /* nobody reads any more: the guest's bytes are dropped from here on */
      continue;
    }
    uart->tx_at = (uart->tx_at + (uint32_t)put) % TX_SIZE;
    uart->tx_count -= (uint32_t)put;
  }
  bool waits = uart->tx_count != 0;
  if (uart->out_watched && waits != uart->out_waits) {
    vmr_io_modify(uart->machine, uart->out.fd, waits ? EPOLLOUT : 0);
    uart->out_waits = waits;
  }
}

static void on_out(void *opaque, uint32_t events) {
  vmr_uart16550 *uart = opaque;
  (void)events;
  pthread_mutex_lock(&uart->lock);
  bool was_full = uart->tx_count == TX_SIZE;
  tx_flush(uart);
  if (was_full && uart->tx_count < TX_SIZE) uart->thre_pending = true;
  update_irq(uart);
  pthread_mutex_unlock(&uart->lock);
}

static void on_timer(void *opaque, uint32_t events) {
  vmr_uart16550 *uart = opaque;
  (void)events;
  uint64_t expirations;
  pthread_mutex_lock(&uart->lock);
  if (read(uart->timer, &expirations, sizeof expirations) > 0) uart->timer_armed = false;
  tx_flush(uart);
  pthread_mutex_unlock(&uart->lock);
}

static void on_in(void *opaque, uint32_t events) {
  vmr_uart16550 *uart = opaque;
  (void)events;
  pthread_mutex_lock(&uart->lock);
  uint32_t room = RX_SIZE - uart->rx_count, end = (uart->rx_at + uart->rx_count) % RX_SIZE;
  if (room && !(uart->mcr & VMR_UART_MCR_LOOP)) {
    struct iovec iov = {uart->rx + end, end + room > RX_SIZE ? RX_SIZE - end : room};
    ssize_t got = vmr_stream_read(&uart->in, &iov, 1);
    if (got > 0) uart->rx_count += (uint32_t)got;
    if (got == 0 || (got < 0 && got != -EAGAIN)) {
      uart->in_ended = true;
      vmr_io_remove(uart->machine, uart->in.fd);
    }
  }
  uart->in_paused = !uart->in_ended && (uart->rx_count == RX_SIZE || uart->mcr & VMR_UART_MCR_LOOP);
  if (uart->in_paused) vmr_io_modify(uart->machine, uart->in.fd, 0);
  update_irq(uart);
  pthread_mutex_unlock(&uart->lock);
}

static void resume_in(vmr_uart16550 *uart) {
  if (!uart->in_paused || uart->rx_count > RX_SIZE / 2 || uart->mcr & VMR_UART_MCR_LOOP) return;
  uart->in_paused = false;
  vmr_io_modify(uart->machine, uart->in.fd, EPOLLIN);
}

/* ---- guest side -------------------------------------------------------------------------------------------------- */

static void send(vmr_uart16550 *uart, uint8_t byte) {
  if (uart->mcr & VMR_UART_MCR_LOOP) {
    uart->overrun |= uart->rx_count >= 16;
    if (uart->rx_count < 16) uart->rx[(uart->rx_at + uart->rx_count++) % RX_SIZE] = byte;
    uart->thre_pending = true;
    return;
  }
  if (uart->tx_count == TX_SIZE) {
    vmr_guest_did_wrong(uart->machine, NAME, "byte sent while the transmitter was full");
    return;
  }
  uart->tx[(uart->tx_at + uart->tx_count++) % TX_SIZE] = byte;
  if (byte == '\n' || uart->tx_count >= TX_FLUSH) {
    if (!uart->out_waits) tx_flush(uart);
  } else if (!uart->timer_armed) {
    struct itimerspec soon = {.it_value.tv_nsec = FLUSH_NS};
    uart->timer_armed = timerfd_settime(uart->timer, 0, &soon, NULL) == 0;
  }
  uart->thre_pending = uart->tx_count < TX_SIZE;
}

static uint8_t receive(vmr_uart16550 *uart) {
  if (!uart->rx_count) return 0;
  uint8_t byte = uart->rx[uart->rx_at];
  uart->rx_at = (uart->rx_at + 1) % RX_SIZE;
  uart->rx_count--;
  resume_in(uart);
  return byte;
}

static void set_fcr(vmr_uart16550 *uart, uint8_t value) {
  if ((value ^ uart->fcr) & VMR_UART_FCR_ENABLE) value |= VMR_UART_FCR_CLEAR_RX | VMR_UART_FCR_CLEAR_TX;
  if (value & VMR_UART_FCR_CLEAR_RX) {
    uart->rx_count = 0;
    uart->overrun = false;
    resume_in(uart);
  }
  /* Clearing the transmitter loses nothing: its bytes count as sent, they only wait for the host. */
  if (value & VMR_UART_FCR_CLEAR_TX) uart->thre_pending = uart->tx_count < TX_SIZE;
  uart->fcr = value & (VMR_UART_FCR_ENABLE | VMR_UART_FCR_TRIGGER);
}

static void set_mcr(vmr_uart16550 *uart, uint8_t value) {
  uart->mcr = value & 0x1f;
  uint8_t lines = MSR_LINES;
  if (uart->mcr & VMR_UART_MCR_LOOP) /* DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD */
    lines = (uint8_t)((uart->mcr & 1) << 5 | (uart->mcr & 2) << 3 | (uart->mcr & 0xc) << 4);
  uint8_t changed = (uint8_t)((lines ^ uart->msr) >> 4);
  uint8_t ring_fell = uart->msr & 0x40 && !(lines & 0x40) ? 4 : 0;
  uart->msr = (uint8_t)(lines | (uart->msr & 0x0f) | (changed & 0x0b) | ring_fell);
  resume_in(uart);
}

static uint8_t lsr(vmr_uart16550 *uart) {
  uint8_t value = uart->rx_count ? VMR_UART_LSR_DR : 0;
  if (uart->tx_count < TX_SIZE) value |= VMR_UART_LSR_THRE | VMR_UART_LSR_TEMT;
  if (uart->overrun) value |= VMR_UART_LSR_OE;
  uart->overrun = false;
  return value;
}

static uint8_t iir(vmr_uart16550 *uart) {
  uint8_t value = cause(uart);
  if (value == VMR_UART_IIR_THRE) uart->thre_pending = false;
  return value | (uart->fcr & VMR_UART_FCR_ENABLE ? VMR_UART_IIR_FIFO : 0);
}

static uint8_t read_register(vmr_uart16550 *uart, uint64_t offset) {
  bool dlab = uart->lcr & VMR_UART_LCR_DLAB;
  uint8_t value;
  switch (offset) {
    case VMR_UART_RBR: return dlab ? (uint8_t)uart->divisor : receive(uart);
    case VMR_UART_IER: return dlab ? (uint8_t)(uart->divisor >> 8) : uart->ier;
    case VMR_UART_IIR: return iir(uart);
    case VMR_UART_LCR: return uart->lcr;
    case VMR_UART_MCR: return uart->mcr;
    case VMR_UART_LSR: return lsr(uart);
    case VMR_UART_MSR: value = uart->msr; uart->msr &= 0xf0; return value;
    default: return uart->scr;
  }
}

static void set_ier(vmr_uart16550 *uart, uint8_t value) {
  if (value & ~uart->ier & VMR_UART_IER_THRE) uart->thre_pending = uart->tx_count < TX_SIZE;
  uart->ier = value & 0x0f;
}

static void write_register(vmr_uart16550 *uart, uint64_t offset, uint8_t value) {
  bool dlab = uart->lcr & VMR_UART_LCR_DLAB;
  switch (offset) {
    case VMR_UART_THR:
      if (dlab) uart->divisor = (uint16_t)((uart->divisor & 0xff00) | value);
      else send(uart, value);
      break;
    case VMR_UART_IER:
      if (dlab) uart->divisor = (uint16_t)((uart->divisor & 0x00ff) | value << 8);
      else set_ier(uart, value);
      break;
    case VMR_UART_FCR: set_fcr(uart, value); break;
    case VMR_UART_LCR: uart->lcr = value; break;
    case VMR_UART_MCR: set_mcr(uart, value); break;
    case VMR_UART_SCR: uart->scr = value; break;
    default: break; /* LSR and MSR: drivers write them when they probe, and nothing happens */
  }
}

static uint64_t uart_read(void *device, uint64_t offset, uint32_t size) {
  vmr_uart16550 *uart = device;
  (void)size; /* a wider access reaches the register at its address, as on QEMU's serial-mm */
  if (offset > VMR_UART_SCR) {
    vmr_guest_did_wrong(uart->machine, NAME, "read beyond the registers");
    return 0;
  }
  pthread_mutex_lock(&uart->lock);
  uint8_t value = read_register(uart, offset);
  update_irq(uart);
  pthread_mutex_unlock(&uart->lock);
  return value;
}

static void uart_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  vmr_uart16550 *uart = device;
  (void)size;
  if (offset > VMR_UART_SCR) {
    vmr_guest_did_wrong(uart->machine, NAME, "write beyond the registers");
    return;
  }
  pthread_mutex_lock(&uart->lock);
  write_register(uart, offset, (uint8_t)value);
  update_irq(uart);
  pthread_mutex_unlock(&uart->lock);
}

static const vmr_bus_ops bus_ops = {.read = uart_read, .write = uart_write};

/* ---- life -------------------------------------------------------------------------------------------------------- */

static bool uart_idle(void *device) {
  vmr_uart16550 *uart = device;
  pthread_mutex_lock(&uart->lock);
  if (!uart->out_waits) tx_flush(uart);
  bool idle = !uart->tx_count;
  pthread_mutex_unlock(&uart->lock);
  return idle;
}

static void uart_free(void *device) {
  vmr_uart16550 *uart = device;
  vmr_stream_close(&uart->in);
  vmr_stream_close(&uart->out);
  if (uart->timer >= 0) close(uart->timer);
  pthread_mutex_destroy(&uart->lock);
  free(uart);
}

static int open_streams(vmr_uart16550 *uart, int in_fd, int out_fd) {
  vmr_machine *machine = uart->machine;
  int rc = vmr_stream_open(machine, &uart->in, in_fd, false);
  if (!rc) rc = vmr_stream_open(machine, &uart->out, out_fd, true);
  if (rc) return rc;
  uart->in_ended = uart->in.fd < 0;
  uart->out_errno = uart->out.fd < 0 ? EBADF : 0;
  uart->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (uart->timer < 0) return vmr_fail(machine, errno, NAME ": the host gives no timer");
  rc = vmr_io_add(machine, uart->timer, EPOLLIN, on_timer, uart);
  if (!rc && uart->in.fd >= 0) rc = vmr_io_add(machine, uart->in.fd, EPOLLIN, on_in, uart);
  if (!rc && uart->out.fd >= 0) rc = vmr_io_add(machine, uart->out.fd, 0, on_out, uart);
  uart->out_watched = !rc && uart->out.fd >= 0;
  return rc;
}

int vmr_uart16550_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t gsi, int in_fd, int out_fd,
                      vmr_uart16550 **out) {
  *out = NULL;
  if (size <= VMR_UART_SCR) return vmr_fail(machine, EINVAL, NAME ": a window of 8 bytes or more is needed");
  vmr_uart16550 *uart = calloc(1, sizeof *uart);
  if (!uart) return vmr_fail(machine, ENOMEM, "out of memory");
  uart->machine = machine;
  uart->gsi = gsi;
  uart->msr = MSR_LINES;
  uart->divisor = 12; /* 9600 baud at 1.8432 MHz: what a reset leaves is undefined, this divides by no zero */
  uart->in.fd = uart->out.fd = uart->timer = -1;
  pthread_mutex_init(&uart->lock, NULL);
  int rc = vmr_on_free(machine, uart_free, uart);
  if (rc) {
    uart_free(uart);
    return rc;
  }
  rc = open_streams(uart, in_fd, out_fd);
  if (!rc) rc = vmr_on_drain(machine, uart_idle, uart);
  if (!rc) rc = vmr_bus_add(machine, gpa, size, &bus_ops, uart);
  if (!rc) *out = uart;
  return rc;
}

void vmr_uart16550_get_state(vmr_uart16550 *uart, vmr_uart16550_state *state) {
  pthread_mutex_lock(&uart->lock);
  *state = (vmr_uart16550_state){uart->rx_count, uart->tx_count, uart->divisor, uart->irq, !uart->in_ended,
                                 (uint32_t)(uart->out.fd < 0 ? 0 : uart->out_errno)};
  pthread_mutex_unlock(&uart->lock);
}
