/* ARM PrimeCell UART PL011. What the host has not taken yet waits in a ring behind the transmitter (serial.h): while that
 * has no room for a FIFO's bytes, UARTFR says busy, and the guest waits as for a slow line. The receiver's FIFO is a
 * window on the ring before it: reading a byte lets the next one arrive.
 *
 * The enable bits of UARTCR are kept and not obeyed: a kernel's early console writes to a UART that no firmware set up. */
#include <errno.h>
#include <stdlib.h>

#include "pl011_api.h"
#include "serial.h"

#define NAME "pl011"
#define WINDOW 4096u
#define CR_RESET 0x300 /* transmitter and receiver, 3.3.8 */
#define IFLS_RESET 0x12
#define LINES (VMR_PL011_FR_CTS | VMR_PL011_FR_DSR | VMR_PL011_FR_DCD) /* somebody is there */
#define INTERRUPTS 0x7ffu

struct vmr_pl011 {
  vmr_machine *machine;
  vmr_serial serial;
  vmr_line line;
  bool irq, tx_stalled, overrun;
  uint16_t lines; /* as in UARTFR */
  uint16_t ris, imsc, cr, ibrd;
  uint8_t fbrd, lcr_h, ifls, ilpr, dmacr, rsr;
};

/* ---- interrupts -------------------------------------------------------------------------------------------------- */

static uint32_t fifo_depth(const vmr_pl011 *uart) { return uart->lcr_h & VMR_PL011_LCRH_FEN ? VMR_SERIAL_FIFO : 1; }

static uint32_t fifo_level(const vmr_pl011 *uart) {
  uint32_t depth = fifo_depth(uart);
  return uart->serial.rx_count < depth ? uart->serial.rx_count : depth;
}

static uint32_t rx_trigger(const vmr_pl011 *uart) {
  static const uint8_t levels[8] = {2, 4, 8, 12, 14, 14, 14, 14}; /* table 3-13; from 101 on reserved */
  return uart->lcr_h & VMR_PL011_LCRH_FEN ? levels[(uart->ifls & VMR_PL011_IFLS_RX) >> 3] : 1;
}

static void update_irq(vmr_pl011 *uart) {
  bool level = (uart->ris & uart->imsc) != 0;
  if (level != uart->irq) vmr_line_set(uart->line, uart->irq = level);
}

/* A byte has arrived. The timeout of 32 bit times has always passed: nothing here is as slow as a line. */
static void arrived(vmr_pl011 *uart) {
  if (fifo_level(uart)) uart->ris |= VMR_PL011_RIS_RT;
  if (fifo_level(uart) >= rx_trigger(uart)) uart->ris |= VMR_PL011_RIS_RX;
}

/* Bytes have left the FIFO; where more of them waited before it than fit, others have arrived. */
static void left(vmr_pl011 *uart) {
  uint32_t level = fifo_level(uart);
  if (level < rx_trigger(uart)) uart->ris &= (uint16_t)~VMR_PL011_RIS_RX;
  if (!level) uart->ris &= (uint16_t)~VMR_PL011_RIS_RT;
  if (level) uart->ris |= VMR_PL011_RIS_RT;
  if (level && level == fifo_depth(uart)) arrived(uart);
}

/* Locked: the host moved bytes. */
static void moved(void *device, bool in) {
  vmr_pl011 *uart = device;
  if (uart->tx_stalled && vmr_serial_ready(&uart->serial)) {
    uart->tx_stalled = false;
    uart->ris |= VMR_PL011_RIS_TX;
  }
  if (in) arrived(uart);
  update_irq(uart);
}

/* ---- registers --------------------------------------------------------------------------------------------------- */

static void send(vmr_pl011 *uart, uint8_t byte) {
  if (uart->cr & VMR_PL011_CR_LBE) {
    if (vmr_serial_echo(&uart->serial, byte, fifo_depth(uart))) {
      arrived(uart);
    } else {
      uart->overrun = true;
      uart->rsr |= VMR_PL011_RSR_OE;
      uart->ris |= VMR_PL011_RIS_OE;
    }
    uart->ris |= VMR_PL011_RIS_TX;
    return;
  }
  if (!vmr_serial_send(&uart->serial, byte)) vmr_guest_did_wrong(uart->machine, NAME, "byte sent while the transmitter was full");
  /* The FIFO has passed its trigger level on its way down; not so while a driver's next bytes would find no room. */
  uart->tx_stalled = !vmr_serial_ready(&uart->serial);
  if (uart->tx_stalled) uart->ris &= (uint16_t)~VMR_PL011_RIS_TX;
  else uart->ris |= VMR_PL011_RIS_TX;
}

static uint32_t receive(vmr_pl011 *uart) {
  uint32_t lost = uart->overrun ? VMR_PL011_DR_OE : 0;
  uart->overrun = false;
  uint32_t value = vmr_serial_receive(&uart->serial) | lost;
  left(uart);
  return value;
}

static uint32_t flags(const vmr_pl011 *uart) {
  const vmr_serial *serial = &uart->serial;
  uint32_t value = uart->lines | (vmr_serial_ready(serial) ? VMR_PL011_FR_TXFE : VMR_PL011_FR_BUSY);
  if (vmr_outlet_waiting(serial->out) == VMR_OUTLET_BYTES) value |= VMR_PL011_FR_TXFF;
  if (!serial->rx_count) value |= VMR_PL011_FR_RXFE;
  if (serial->rx_count >= fifo_depth(uart)) value |= VMR_PL011_FR_RXFF;
  return value;
}

/* Switching the FIFOs on or off empties them. The transmitter loses nothing: its bytes count as sent. */
static void set_lcr_h(vmr_pl011 *uart, uint8_t value) {
  if ((value ^ uart->lcr_h) & VMR_PL011_LCRH_FEN) vmr_serial_drop(&uart->serial, fifo_level(uart));
  uart->lcr_h = value;
  left(uart);
}

static void set_cr(vmr_pl011 *uart, uint16_t value) {
  uint16_t lines = LINES;
  if (value & VMR_PL011_CR_LBE) { /* 3.3.8: the outputs come back as inputs */
    lines = value & VMR_PL011_CR_RTS ? VMR_PL011_FR_CTS : 0;
    if (value & VMR_PL011_CR_DTR) lines |= VMR_PL011_FR_DSR;
    if (value & VMR_PL011_CR_OUT1) lines |= VMR_PL011_FR_DCD;
    if (value & VMR_PL011_CR_OUT2) lines |= VMR_PL011_FR_RI;
  }
  uint16_t changed = lines ^ uart->lines;
  if (changed & VMR_PL011_FR_RI) uart->ris |= VMR_PL011_RIS_RI;
  if (changed & VMR_PL011_FR_CTS) uart->ris |= VMR_PL011_RIS_CTS;
  if (changed & VMR_PL011_FR_DCD) uart->ris |= VMR_PL011_RIS_DCD;
  if (changed & VMR_PL011_FR_DSR) uart->ris |= VMR_PL011_RIS_DSR;
  uart->lines = lines;
  uart->cr = value;
  vmr_serial_hold(&uart->serial, value & VMR_PL011_CR_LBE);
}

/* UARTPeriphID0 to 3 (part 0x011, ARM, revision r1p4, whose FIFOs hold 16 bytes) and UARTPCellID0 to 3. */
static const uint8_t identity[8] = {0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

static uint32_t read_register(vmr_pl011 *uart, uint64_t offset) {
  if (offset >= VMR_PL011_PERIPHID0) return identity[(offset - VMR_PL011_PERIPHID0) / 4];
  switch (offset) {
    case VMR_PL011_DR: return receive(uart);
    case VMR_PL011_RSR: return uart->rsr;
    case VMR_PL011_FR: return flags(uart);
    case VMR_PL011_ILPR: return uart->ilpr;
    case VMR_PL011_IBRD: return uart->ibrd;
    case VMR_PL011_FBRD: return uart->fbrd;
    case VMR_PL011_LCRH: return uart->lcr_h;
    case VMR_PL011_CR: return uart->cr;
    case VMR_PL011_IFLS: return uart->ifls;
    case VMR_PL011_IMSC: return uart->imsc;
    case VMR_PL011_RIS: return uart->ris;
    case VMR_PL011_MIS: return uart->ris & uart->imsc;
    case VMR_PL011_DMACR: return uart->dmacr;
    case VMR_PL011_ICR: return 0;
    default: vmr_guest_did_wrong(uart->machine, NAME, "read of a register that is not there"); return 0;
  }
}

static void write_register(vmr_pl011 *uart, uint64_t offset, uint32_t value) {
  switch (offset) {
    case VMR_PL011_DR: send(uart, (uint8_t)value); break;
    case VMR_PL011_RSR: uart->rsr = 0; break;
    case VMR_PL011_ILPR: uart->ilpr = (uint8_t)value; break;
    case VMR_PL011_IBRD: uart->ibrd = (uint16_t)value; break;
    case VMR_PL011_FBRD: uart->fbrd = value & 0x3f; break;
    case VMR_PL011_LCRH: set_lcr_h(uart, (uint8_t)value); break;
    case VMR_PL011_CR: set_cr(uart, (uint16_t)value); break;
    case VMR_PL011_IFLS: uart->ifls = value & 0x3f; left(uart); break;
    case VMR_PL011_IMSC: uart->imsc = value & INTERRUPTS; break;
    case VMR_PL011_ICR: uart->ris &= (uint16_t)~value; break;
    case VMR_PL011_DMACR: uart->dmacr = value & 7; break; /* no controller takes the requests */
    default: vmr_guest_did_wrong(uart->machine, NAME, "write of a register that cannot be written"); break;
  }
}

/* Drivers come with 8, 16 or 32 bits (Linux: 16, its early console 32); each means the register at its address. */
static uint64_t uart_read(void *device, uint64_t offset, uint32_t size) {
  vmr_pl011 *uart = device;
  (void)size;
  if (offset % 4) {
    vmr_guest_did_wrong(uart->machine, NAME, "access beside a register");
    return 0;
  }
  pthread_mutex_lock(&uart->serial.lock);
  uint32_t value = read_register(uart, offset);
  update_irq(uart);
  pthread_mutex_unlock(&uart->serial.lock);
  return value;
}

static void uart_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  vmr_pl011 *uart = device;
  (void)size;
  if (offset % 4) {
    vmr_guest_did_wrong(uart->machine, NAME, "access beside a register");
    return;
  }
  pthread_mutex_lock(&uart->serial.lock);
  write_register(uart, offset, (uint32_t)value);
  update_irq(uart);
  pthread_mutex_unlock(&uart->serial.lock);
}

static const vmr_bus_ops bus_ops = {.read = uart_read, .write = uart_write};

/* ---- state ------------------------------------------------------------------------------------------------------- */

static const char *state_lock(void *object) { return vmr_serial_lock(&((vmr_pl011 *)object)->serial); }
static void state_unlock(void *object) { vmr_serial_unlock(&((vmr_pl011 *)object)->serial); }

static void state_loaded(void *object) {
  vmr_pl011 *uart = object;
  vmr_serial_loaded(&uart->serial);
  moved(uart, false); /* the host of this machine may have room where the other's had none */
  vmr_line_set(uart->line, uart->irq);
}

static const vmr_field fields[] = {
    VMR_FIELD(vmr_pl011, tx_stalled, 1),  VMR_FIELD(vmr_pl011, overrun, 1),     VMR_BITS(vmr_pl011, lines, LINES | VMR_PL011_FR_RI),
    VMR_BITS(vmr_pl011, ris, INTERRUPTS), VMR_BITS(vmr_pl011, imsc, INTERRUPTS), VMR_FIELD(vmr_pl011, cr, VMR_ANY),
    VMR_FIELD(vmr_pl011, ibrd, VMR_ANY),  VMR_BITS(vmr_pl011, fbrd, 0x3f),      VMR_FIELD(vmr_pl011, lcr_h, VMR_ANY),
    VMR_BITS(vmr_pl011, ifls, 0x3f),      VMR_FIELD(vmr_pl011, ilpr, VMR_ANY),  VMR_BITS(vmr_pl011, dmacr, 7),
    VMR_BITS(vmr_pl011, rsr, VMR_PL011_RSR_OE)};
static const vmr_state_ops state_ops = {NAME, 1, state_lock, state_unlock, NULL, state_loaded};

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void uart_free(void *device) {
  vmr_pl011 *uart = device;
  vmr_serial_fini(&uart->serial);
  free(uart);
}

int vmr_pl011_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int in_fd, int out_fd, vmr_pl011 **out) {
  *out = NULL;
  if (size != WINDOW) return vmr_fail(machine, EINVAL, NAME ": a window of 4096 bytes is needed");
  vmr_pl011 *uart = calloc(1, sizeof *uart);
  if (!uart) return vmr_fail(machine, ENOMEM, "out of memory");
  uart->machine = machine;
  uart->line = line;
  uart->lines = LINES;
  uart->cr = CR_RESET;
  uart->ifls = IFLS_RESET;
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

void vmr_pl011_get_counters(vmr_pl011 *uart, vmr_pl011_counters *state) {
  const vmr_serial *serial = &uart->serial;
  pthread_mutex_lock(&uart->serial.lock);
  *state = (vmr_pl011_counters){serial->rx_count, vmr_outlet_waiting(serial->out), uart->irq, !serial->in_ended,
                             (uint32_t)vmr_outlet_errno(serial->out)};
  pthread_mutex_unlock(&uart->serial.lock);
}
