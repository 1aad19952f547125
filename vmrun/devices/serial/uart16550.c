/* NS16550A. What the host has not taken yet waits in a ring behind the transmitter (serial.h): while that has no room for
 * a FIFO's bytes, LSR says so, and the guest waits as for a slow line. */
#include <errno.h>
#include <stdlib.h>

#include "uart16550_api.h"
#include "serial.h"

#define NAME "uart16550"
#define MSR_LINES 0xb0 /* DCD, DSR, CTS: somebody is there */

struct vmr_uart16550 {
  vmr_machine *machine;
  vmr_serial serial;
  vmr_line line;
  bool irq, thre_pending, tx_stalled, overrun;
  uint8_t ier, fcr, lcr, mcr, msr, scr;
  uint16_t divisor;
};

/* ---- interrupts -------------------------------------------------------------------------------------------------- */

static uint32_t rx_trigger(const vmr_uart16550 *uart) {
  static const uint8_t levels[] = {1, 4, 8, 14};
  return uart->fcr & VMR_UART_FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* The cause of highest priority, as IIR shows it. */
static uint8_t cause(const vmr_uart16550 *uart) {
  if (uart->ier & VMR_UART_IER_RLS && uart->overrun) return VMR_UART_IIR_RLS;
  if (uart->ier & VMR_UART_IER_RDA && uart->serial.rx_count) /* below the trigger level the timeout has always passed */
    return uart->serial.rx_count >= rx_trigger(uart) ? VMR_UART_IIR_RDA : VMR_UART_IIR_TIMEOUT;
  if (uart->ier & VMR_UART_IER_THRE && uart->thre_pending) return VMR_UART_IIR_THRE;
  if (uart->ier & VMR_UART_IER_MSR && uart->msr & 0x0f) return VMR_UART_IIR_MSR;
  return VMR_UART_IIR_NONE;
}

static void update_irq(vmr_uart16550 *uart) {
  bool level = cause(uart) != VMR_UART_IIR_NONE;
  if (level != uart->irq) vmr_line_set(uart->line, uart->irq = level);
}

/* Locked: the host moved bytes. */
static void moved(void *device, bool in) {
  vmr_uart16550 *uart = device;
  (void)in;
  if (uart->tx_stalled && vmr_serial_ready(&uart->serial)) {
    uart->tx_stalled = false;
    uart->thre_pending = true;
  }
  update_irq(uart);
}

/* ---- guest side -------------------------------------------------------------------------------------------------- */

static void send(vmr_uart16550 *uart, uint8_t byte) {
  if (uart->mcr & VMR_UART_MCR_LOOP) {
    uart->overrun |= !vmr_serial_echo(&uart->serial, byte, VMR_SERIAL_FIFO);
    uart->thre_pending = true;
    return;
  }
  if (!vmr_serial_send(&uart->serial, byte)) vmr_guest_did_wrong(uart->machine, NAME, "byte sent while the transmitter was full");
  uart->thre_pending = vmr_serial_ready(&uart->serial);
  uart->tx_stalled = !uart->thre_pending;
}

static void set_fcr(vmr_uart16550 *uart, uint8_t value) {
  if ((value ^ uart->fcr) & VMR_UART_FCR_ENABLE) value |= VMR_UART_FCR_CLEAR_RX | VMR_UART_FCR_CLEAR_TX;
  if (value & VMR_UART_FCR_CLEAR_RX) {
    vmr_serial_drop(&uart->serial, VMR_SERIAL_RX);
    uart->overrun = false;
  }
  /* Clearing the transmitter loses nothing: its bytes count as sent, they only wait for the host. */
  if (value & VMR_UART_FCR_CLEAR_TX) uart->thre_pending = vmr_serial_ready(&uart->serial);
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
  vmr_serial_hold(&uart->serial, uart->mcr & VMR_UART_MCR_LOOP);
}

static uint8_t lsr(vmr_uart16550 *uart) {
  uint8_t value = uart->serial.rx_count ? VMR_UART_LSR_DR : 0;
  if (vmr_serial_ready(&uart->serial)) value |= VMR_UART_LSR_THRE | VMR_UART_LSR_TEMT;
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
    case VMR_UART_RBR: return dlab ? (uint8_t)uart->divisor : vmr_serial_receive(&uart->serial);
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
  if (value & ~uart->ier & VMR_UART_IER_THRE) uart->thre_pending = vmr_serial_ready(&uart->serial);
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
  pthread_mutex_lock(&uart->serial.lock);
  uint8_t value = read_register(uart, offset);
  update_irq(uart);
  pthread_mutex_unlock(&uart->serial.lock);
  return value;
}

static void uart_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  vmr_uart16550 *uart = device;
  (void)size;
  if (offset > VMR_UART_SCR) {
    vmr_guest_did_wrong(uart->machine, NAME, "write beyond the registers");
    return;
  }
  pthread_mutex_lock(&uart->serial.lock);
  write_register(uart, offset, (uint8_t)value);
  update_irq(uart);
  pthread_mutex_unlock(&uart->serial.lock);
}

static const vmr_bus_ops bus_ops = {.read = uart_read, .write = uart_write};

/* ---- state ------------------------------------------------------------------------------------------------------- */

static const char *state_lock(void *object) { return vmr_serial_lock(&((vmr_uart16550 *)object)->serial); }
static void state_unlock(void *object) { vmr_serial_unlock(&((vmr_uart16550 *)object)->serial); }

static void state_loaded(void *object) {
  vmr_uart16550 *uart = object;
  vmr_serial_loaded(&uart->serial);
  moved(uart, false); /* the host of this machine may have room where the other's had none */
  vmr_line_set(uart->line, uart->irq);
}

static const vmr_field fields[] = {
    VMR_FIELD(vmr_uart16550, thre_pending, 1), VMR_FIELD(vmr_uart16550, tx_stalled, 1), VMR_FIELD(vmr_uart16550, overrun, 1),
    VMR_BITS(vmr_uart16550, ier, 0x0f),        VMR_BITS(vmr_uart16550, fcr, VMR_UART_FCR_ENABLE | VMR_UART_FCR_TRIGGER),
    VMR_FIELD(vmr_uart16550, lcr, VMR_ANY),    VMR_BITS(vmr_uart16550, mcr, 0x1f),      VMR_FIELD(vmr_uart16550, msr, VMR_ANY),
    VMR_FIELD(vmr_uart16550, scr, VMR_ANY),    VMR_FIELD(vmr_uart16550, divisor, VMR_ANY)};
static const vmr_state_ops state_ops = {NAME, 1, state_lock, state_unlock, NULL, state_loaded};

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void uart_free(void *device) {
  vmr_uart16550 *uart = device;
  vmr_serial_fini(&uart->serial);
  free(uart);
}

int vmr_uart16550_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int in_fd, int out_fd,
                      vmr_uart16550 **out) {
  *out = NULL;
  if (size <= VMR_UART_SCR) return vmr_fail(machine, EINVAL, NAME ": a window of 8 bytes or more is needed");
  vmr_uart16550 *uart = calloc(1, sizeof *uart);
  if (!uart) return vmr_fail(machine, ENOMEM, "out of memory");
  uart->machine = machine;
  uart->line = line;
  uart->msr = MSR_LINES;
  uart->divisor = 12; /* 9600 baud at 1.8432 MHz: what a reset leaves is undefined, this divides by no zero */
  vmr_serial_init(&uart->serial, machine, moved, uart);
  int rc = vmr_on_free(machine, uart_free, uart);
  if (rc) {
    uart_free(uart);
    return rc;
  }
  rc = vmr_serial_open(&uart->serial, in_fd, out_fd);
  vmr_part parts[] = {{NULL, -1, uart, VMR_FIELDS(fields)}, vmr_serial_part(&uart->serial)};
  if (!rc) rc = vmr_state_add(machine, &state_ops, uart, parts, 2);
  if (!rc) rc = vmr_bus_add(machine, gpa, size, &bus_ops, uart);
  if (!rc) *out = uart;
  return rc;
}

void vmr_uart16550_get_counters(vmr_uart16550 *uart, vmr_uart16550_counters *state) {
  const vmr_serial *serial = &uart->serial;
  pthread_mutex_lock(&uart->serial.lock);
  *state = (vmr_uart16550_counters){serial->rx_count, vmr_outlet_waiting(serial->out), uart->divisor,
                                 uart->irq,        !serial->in_ended,               (uint32_t)vmr_outlet_errno(serial->out)};
  pthread_mutex_unlock(&uart->serial.lock);
}
