/* PL011 UART (ARM DDI 0183G, chapter 3); registers of 32 bits, 4 bytes apart. */
#ifndef VMR_PL011_API_H
#define VMR_PL011_API_H
#include "line_api.h"

#define VMR_PL011_DR 0
#define VMR_PL011_DR_OE 2048
#define VMR_PL011_RSR 4 /* a write clears it */
#define VMR_PL011_RSR_OE 8
#define VMR_PL011_FR 24
#define VMR_PL011_FR_CTS 1
#define VMR_PL011_FR_DSR 2
#define VMR_PL011_FR_DCD 4
#define VMR_PL011_FR_BUSY 8
#define VMR_PL011_FR_RXFE 16
#define VMR_PL011_FR_TXFF 32
#define VMR_PL011_FR_RXFF 64
#define VMR_PL011_FR_TXFE 128
#define VMR_PL011_FR_RI 256
#define VMR_PL011_ILPR 32
#define VMR_PL011_IBRD 36
#define VMR_PL011_FBRD 40
#define VMR_PL011_LCRH 44
#define VMR_PL011_LCRH_FEN 16
#define VMR_PL011_CR 48
#define VMR_PL011_CR_LBE 128
#define VMR_PL011_CR_DTR 1024
#define VMR_PL011_CR_RTS 2048
#define VMR_PL011_CR_OUT1 4096
#define VMR_PL011_CR_OUT2 8192
#define VMR_PL011_IFLS 52
#define VMR_PL011_IFLS_RX 56
#define VMR_PL011_IMSC 56
#define VMR_PL011_RIS 60
#define VMR_PL011_RIS_RI 1
#define VMR_PL011_RIS_CTS 2
#define VMR_PL011_RIS_DCD 4
#define VMR_PL011_RIS_DSR 8
#define VMR_PL011_RIS_RX 16
#define VMR_PL011_RIS_TX 32
#define VMR_PL011_RIS_RT 64
#define VMR_PL011_RIS_OE 1024
#define VMR_PL011_MIS 64
#define VMR_PL011_ICR 68
#define VMR_PL011_DMACR 72
#define VMR_PL011_PERIPHID0 4064
#define VMR_PL011_PERIPHID1 4068
#define VMR_PL011_PERIPHID2 4072
#define VMR_PL011_PERIPHID3 4076
#define VMR_PL011_PCELLID0 4080
#define VMR_PL011_PCELLID1 4084
#define VMR_PL011_PCELLID2 4088
#define VMR_PL011_PCELLID3 4092

typedef struct vmr_pl011 vmr_pl011;
/* gpa, size: the window, 4096 bytes. Descriptors as for the 16550. */
int vmr_pl011_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, int in_fd, int out_fd, vmr_pl011 **uart);
typedef struct vmr_pl011_counters {
  uint32_t rx_waiting; /* bytes the guest has not read */
  uint32_t tx_waiting; /* bytes the host has not taken */
  uint32_t irq;        /* the interrupt line's level */
  uint32_t in_open;    /* 0 once in_fd came to its end */
  uint32_t out_errno;  /* why out_fd takes no more, or 0 */
} vmr_pl011_counters;
void vmr_pl011_get_counters(vmr_pl011 *uart, vmr_pl011_counters *state);
#endif
