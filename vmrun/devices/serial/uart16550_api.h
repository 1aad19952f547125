/* 16550 UART (TI PC16550D data sheet, tables 1 and 2); register stride 1, width 1. */
#ifndef VMR_UART16550_API_H
#define VMR_UART16550_API_H
#include "line_api.h"

#define VMR_UART_RBR 0 /* read; THR on write; DLL while LCR.DLAB */
#define VMR_UART_THR 0
#define VMR_UART_DLL 0
#define VMR_UART_IER 1 /* DLM while LCR.DLAB */
#define VMR_UART_DLM 1
#define VMR_UART_IIR 2 /* read; FCR on write */
#define VMR_UART_FCR 2
#define VMR_UART_LCR 3
#define VMR_UART_MCR 4
#define VMR_UART_LSR 5
#define VMR_UART_MSR 6
#define VMR_UART_SCR 7
#define VMR_UART_IER_RDA 1
#define VMR_UART_IER_THRE 2
#define VMR_UART_IER_RLS 4
#define VMR_UART_IER_MSR 8
#define VMR_UART_IIR_NONE 1
#define VMR_UART_IIR_MSR 0
#define VMR_UART_IIR_THRE 2
#define VMR_UART_IIR_RDA 4
#define VMR_UART_IIR_RLS 6
#define VMR_UART_IIR_TIMEOUT 12
#define VMR_UART_IIR_FIFO 192
#define VMR_UART_FCR_ENABLE 1
#define VMR_UART_FCR_CLEAR_RX 2
#define VMR_UART_FCR_CLEAR_TX 4
#define VMR_UART_FCR_TRIGGER 192
#define VMR_UART_LCR_DLAB 128
#define VMR_UART_MCR_LOOP 16
#define VMR_UART_LSR_DR 1
#define VMR_UART_LSR_OE 2
#define VMR_UART_LSR_THRE 32
#define VMR_UART_LSR_TEMT 64

typedef struct vmr_uart16550 vmr_uart16550;
/* gpa, size: the window, at least 8 bytes. Bytes that the guest sends go to out_fd, at latest 2 ms later; in_fd is read
 * only while there is room for the bytes. */
int vmr_uart16550_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int in_fd, int out_fd,
                      vmr_uart16550 **uart);
typedef struct vmr_uart16550_counters {
  uint32_t rx_waiting; /* bytes the guest has not read */
  uint32_t tx_waiting; /* bytes the host has not taken */
  uint32_t divisor;
  uint32_t irq;        /* the interrupt line's level */
  uint32_t in_open;    /* 0 once in_fd came to its end */
  uint32_t out_errno;  /* why out_fd takes no more, or 0 */
} vmr_uart16550_counters;
void vmr_uart16550_get_counters(vmr_uart16550 *uart, vmr_uart16550_counters *state);
#endif
