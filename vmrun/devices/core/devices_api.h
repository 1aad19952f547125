/* The devices that C serves, as Python sees them. Read by the compiler and by cffi, like core_api.h.
 *
 * Every *_new attaches a device to a machine that has not started; the machine owns it from then on and frees it. File
 * descriptors are duplicated: the caller keeps, and closes, its own. -1 stands for no descriptor.
 * Functions return 0 or -errno with the text at vmr_machine_error().
 */
#ifndef VMR_DEVICES_API_H
#define VMR_DEVICES_API_H
#include "core_api.h"

/* ---- 16550 UART (TI PC16550D data sheet, tables 1 and 2); register stride 1, width 1 ---------------------------- */

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
int vmr_uart16550_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t gsi, int in_fd, int out_fd,
                      vmr_uart16550 **uart);
typedef struct vmr_uart16550_state {
  uint32_t rx_waiting; /* bytes the guest has not read */
  uint32_t tx_waiting; /* bytes the host has not taken */
  uint32_t divisor;
  uint32_t irq;        /* the interrupt line's level */
  uint32_t in_open;    /* 0 once in_fd came to its end */
  uint32_t out_errno;  /* why out_fd takes no more, or 0 */
} vmr_uart16550_state;
void vmr_uart16550_get_state(vmr_uart16550 *uart, vmr_uart16550_state *state);

/* ---- PL011 UART (ARM DDI 0183G, chapter 3); registers of 32 bits, 4 bytes apart ---------------------------------- */

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
int vmr_pl011_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t gsi, int in_fd, int out_fd, vmr_pl011 **uart);
typedef struct vmr_pl011_state {
  uint32_t rx_waiting; /* bytes the guest has not read */
  uint32_t tx_waiting; /* bytes the host has not taken */
  uint32_t irq;        /* the interrupt line's level */
  uint32_t in_open;    /* 0 once in_fd came to its end */
  uint32_t out_errno;  /* why out_fd takes no more, or 0 */
} vmr_pl011_state;
void vmr_pl011_get_state(vmr_pl011 *uart, vmr_pl011_state *state);

/* ---- PLIC (RISC-V Platform-Level Interrupt Controller Specification 1.0.0, chapter 3) --------------------------- */

#define VMR_PLIC_PRIORITY 0          /* + 4 * source */
#define VMR_PLIC_PENDING 4096        /* one bit a source */
#define VMR_PLIC_ENABLE 8192         /* + 128 * context, one bit a source */
#define VMR_PLIC_ENABLE_STRIDE 128
#define VMR_PLIC_CONTEXT 2097152     /* + 4096 * context */
#define VMR_PLIC_CONTEXT_STRIDE 4096
#define VMR_PLIC_THRESHOLD 0         /* in a context */
#define VMR_PLIC_CLAIM 4             /* in a context: read claims, write completes */
#define VMR_PLIC_PRIORITY_MAX 7

typedef struct vmr_plic vmr_plic;
/* sources: 1 to 1023, source 0 not counted. contexts: 1 to 64; context i is S-mode of the vCPU with index i. It becomes
 * the machine's interrupt controller: source n is gsi n. */
int vmr_plic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t sources, uint32_t contexts, vmr_plic **plic);
typedef struct vmr_plic_source {
  uint32_t level;   /* of the wired line */
  uint32_t pending;
  uint32_t claimed; /* claimed and not completed */
} vmr_plic_source;
int vmr_plic_get_source(vmr_plic *plic, uint32_t source, vmr_plic_source *state);
/* The level of a context's interrupt output (0 or 1), or -EINVAL. */
int vmr_plic_output(vmr_plic *plic, uint32_t context);

/* ---- APLIC (RISC-V Advanced Interrupt Architecture 1.0, chapter 4): one domain of S-mode, delivery by MSI -------- */

#define VMR_APLIC_DOMAINCFG 0x0000
#define VMR_APLIC_DOMAINCFG_IE 0x100
#define VMR_APLIC_DOMAINCFG_DM 0x4   /* read-only 1: MSI delivery, as KVM's */
#define VMR_APLIC_SOURCECFG 0x0004   /* + 4 * (source - 1) */
#define VMR_APLIC_SOURCECFG_D 0x400  /* no domain is below: writes with it make the source inactive */
#define VMR_APLIC_SOURCECFG_SM 0x7
#define VMR_APLIC_SM_INACTIVE 0
#define VMR_APLIC_SM_DETACHED 1
#define VMR_APLIC_SM_EDGE1 4         /* rising */
#define VMR_APLIC_SM_EDGE0 5         /* falling */
#define VMR_APLIC_SM_LEVEL1 6
#define VMR_APLIC_SM_LEVEL0 7
#define VMR_APLIC_SETIP 0x1c00       /* one bit a source, as the other arrays of words */
#define VMR_APLIC_SETIPNUM 0x1cdc
#define VMR_APLIC_IN_CLRIP 0x1d00    /* read: rectified inputs */
#define VMR_APLIC_CLRIPNUM 0x1ddc
#define VMR_APLIC_SETIE 0x1e00
#define VMR_APLIC_SETIENUM 0x1edc
#define VMR_APLIC_CLRIE 0x1f00
#define VMR_APLIC_CLRIENUM 0x1fdc
#define VMR_APLIC_SETIPNUM_LE 0x2000
#define VMR_APLIC_SETIPNUM_BE 0x2004
#define VMR_APLIC_GENMSI 0x3000
#define VMR_APLIC_GENMSI_HART 0xfffc0000
#define VMR_APLIC_GENMSI_EIID 0x7ff
#define VMR_APLIC_TARGET 0x3004      /* + 4 * (source - 1) */
#define VMR_APLIC_TARGET_HART 0xfffc0000
#define VMR_APLIC_TARGET_EIID 0x7ff

typedef struct vmr_aplic vmr_aplic;
/* size: at least 16 KiB. sources: 1 to 1023, source 0 not counted. It becomes the machine's interrupt controller: source n
 * is gsi n. Its messages go to the interrupt file of the vCPU whose index is the target's hart index. */
int vmr_aplic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t sources, vmr_aplic **aplic);

/* ---- IMSIC (the same, chapter 3): one interrupt file of S-mode a hart -------------------------------------------- */

#define VMR_IMSIC_PAGE 4096
#define VMR_IMSIC_SETEIPNUM_LE 0     /* in a page */
#define VMR_IMSIC_SETEIPNUM_BE 4

/* Registers that siselect chooses, by its value. */
#define VMR_ISELECT_EIDELIVERY 0x70
#define VMR_ISELECT_EITHRESHOLD 0x72
#define VMR_ISELECT_EIP 0x80         /* 64 identities at each even number */
#define VMR_ISELECT_EIE 0xc0

typedef struct vmr_imsic vmr_imsic;
/* A page for each of `files` interrupt files, 1 to 64; file i is that of the vCPU with index i, which must have been added
 * already to be told. identities: 63 to 2047, one less than a multiple of 64. */
int vmr_imsic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t files, uint32_t identities, vmr_imsic **imsic);
/* What the hart does through siselect and sireg. -ENOENT: there is no such register. set writes the bits of mask. */
int vmr_imsic_get(vmr_imsic *imsic, uint32_t file, uint32_t select, uint64_t *value);
int vmr_imsic_set(vmr_imsic *imsic, uint32_t file, uint32_t select, uint64_t value, uint64_t mask);
/* The hart's stopei: the identity of highest priority, 0 for none. claim clears its pending bit. -EINVAL: no such file. */
int vmr_imsic_top(vmr_imsic *imsic, uint32_t file);
int vmr_imsic_claim(vmr_imsic *imsic, uint32_t file);
/* The level of a file's interrupt output (0 or 1), or -EINVAL. */
int vmr_imsic_output(vmr_imsic *imsic, uint32_t file);

/* ---- virtio-mmio, version 2 (Virtual I/O Device 1.2, section 4.2.2) --------------------------------------------- */

#define VMR_VIRTIO_MMIO_MAGIC 0
#define VMR_VIRTIO_MMIO_VERSION 4
#define VMR_VIRTIO_MMIO_DEVICE_ID 8
#define VMR_VIRTIO_MMIO_VENDOR_ID 12
#define VMR_VIRTIO_MMIO_DEVICE_FEATURES 16
#define VMR_VIRTIO_MMIO_DEVICE_FEATURES_SEL 20
#define VMR_VIRTIO_MMIO_DRIVER_FEATURES 32
#define VMR_VIRTIO_MMIO_DRIVER_FEATURES_SEL 36
#define VMR_VIRTIO_MMIO_QUEUE_SEL 48
#define VMR_VIRTIO_MMIO_QUEUE_NUM_MAX 52
#define VMR_VIRTIO_MMIO_QUEUE_NUM 56
#define VMR_VIRTIO_MMIO_QUEUE_READY 68
#define VMR_VIRTIO_MMIO_QUEUE_NOTIFY 80
#define VMR_VIRTIO_MMIO_INTERRUPT_STATUS 96
#define VMR_VIRTIO_MMIO_INTERRUPT_ACK 100
#define VMR_VIRTIO_MMIO_STATUS 112
#define VMR_VIRTIO_MMIO_QUEUE_DESC_LOW 128
#define VMR_VIRTIO_MMIO_QUEUE_DESC_HIGH 132
#define VMR_VIRTIO_MMIO_QUEUE_DRIVER_LOW 144
#define VMR_VIRTIO_MMIO_QUEUE_DRIVER_HIGH 148
#define VMR_VIRTIO_MMIO_QUEUE_DEVICE_LOW 160
#define VMR_VIRTIO_MMIO_QUEUE_DEVICE_HIGH 164
#define VMR_VIRTIO_MMIO_SHM_SEL 172
#define VMR_VIRTIO_MMIO_SHM_LEN_LOW 176
#define VMR_VIRTIO_MMIO_SHM_LEN_HIGH 180
#define VMR_VIRTIO_MMIO_SHM_BASE_LOW 184
#define VMR_VIRTIO_MMIO_SHM_BASE_HIGH 188
#define VMR_VIRTIO_MMIO_CONFIG_GENERATION 252
#define VMR_VIRTIO_MMIO_CONFIG 256

#define VMR_VIRTIO_MAGIC 1953655158 /* "virt" */
#define VMR_VIRTIO_VENDOR 1380798806 /* "VMRN" */
#define VMR_VIRTIO_INT_VRING 1
#define VMR_VIRTIO_INT_CONFIG 2
#define VMR_VIRTIO_STATUS_ACKNOWLEDGE 1 /* section 2.1 */
#define VMR_VIRTIO_STATUS_DRIVER 2
#define VMR_VIRTIO_STATUS_DRIVER_OK 4
#define VMR_VIRTIO_STATUS_FEATURES_OK 8
#define VMR_VIRTIO_STATUS_NEEDS_RESET 64
#define VMR_VIRTIO_STATUS_FAILED 128
#define VMR_VIRTIO_F_INDIRECT_DESC 28 /* bit numbers, section 6 */
#define VMR_VIRTIO_F_EVENT_IDX 29
#define VMR_VIRTIO_F_VERSION_1 32
#define VMR_VIRTQ_SIZE 256 /* the largest queue, and the longest chain */

/* ---- virtio-blk (section 5.2) ------------------------------------------------------------------------------------ */

#define VMR_VIRTIO_ID_BLK 2
#define VMR_VIRTIO_BLK_F_SEG_MAX 2
#define VMR_VIRTIO_BLK_F_RO 5
#define VMR_VIRTIO_BLK_F_BLK_SIZE 6
#define VMR_VIRTIO_BLK_F_FLUSH 9
#define VMR_VIRTIO_BLK_F_DISCARD 13
#define VMR_VIRTIO_BLK_F_WRITE_ZEROES 14
#define VMR_VIRTIO_BLK_T_IN 0
#define VMR_VIRTIO_BLK_T_OUT 1
#define VMR_VIRTIO_BLK_T_FLUSH 4
#define VMR_VIRTIO_BLK_T_GET_ID 8
#define VMR_VIRTIO_BLK_T_DISCARD 11
#define VMR_VIRTIO_BLK_T_WRITE_ZEROES 13
#define VMR_VIRTIO_BLK_S_OK 0
#define VMR_VIRTIO_BLK_S_IOERR 1
#define VMR_VIRTIO_BLK_S_UNSUPP 2

#define VMR_DISK_RO 0      /* fd is read */
#define VMR_DISK_RW 1      /* fd is read and written, under an exclusive lock (flock) */
#define VMR_DISK_OVERLAY 2 /* fd is read; writes go to overlay_fd, an empty sparse file that nobody else has */

typedef struct vmr_virtio_blk vmr_virtio_blk;
/* The disk is as large as the open file or block device. RO and OVERLAY hold a shared lock (flock) on fd, and show a
 * file whose size is no multiple of 512 with zeroes up to the next. serial: at most 20 bytes, may be NULL.
 * -EWOULDBLOCK: another run holds the lock. -ENODATA: empty. -EINVAL: rw, and the size is no multiple of 512. */
int vmr_virtio_blk_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t gsi, int fd, int mode, int overlay_fd,
                       const char *serial, vmr_virtio_blk **disk);
typedef struct vmr_virtio_blk_state {
  uint64_t sectors;
  uint64_t reads, writes, flushes; /* requests done */
  uint64_t errors;                 /* requests answered with IOERR */
  uint64_t host_errors;            /* those of them for which the host is to blame, and a failed flush at the end */
  uint64_t overlay_clusters;       /* 4 KiB units that the overlay holds */
} vmr_virtio_blk_state;
void vmr_virtio_blk_get_state(vmr_virtio_blk *disk, vmr_virtio_blk_state *state);

#define VMR_DISK_READING 0
#define VMR_DISK_WRITING 1
#define VMR_DISK_ZEROING 2
#define VMR_DISK_DISCARDING 3
#define VMR_DISK_FLUSHING 4
#define VMR_DISK_FINISHING 5  /* the flush of vmr_machine_halt */
#define VMR_DISK_FAILURES 16  /* kinds that are told apart */

/* What the host refused, once for each kind. */
typedef struct vmr_disk_failure {
  uint32_t doing;   /* VMR_DISK_* */
  uint32_t overlay; /* 1: the overlay's file failed, 0: the disk's own */
  int32_t errnum;   /* ENODATA: the file has become shorter; ETIMEDOUT: not all is on stable storage yet */
  uint64_t count;
} vmr_disk_failure;
/* One call per index until -ENOENT. Any thread, until the machine is freed. */
int vmr_virtio_blk_failure_at(vmr_virtio_blk *disk, size_t index, vmr_disk_failure *failure);

/* ---- virtio-console (section 5.3) -------------------------------------------------------------------------------- */

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
int vmr_virtio_console_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t gsi, uint32_t ports, uint32_t cols,
                           uint32_t rows, vmr_virtio_console **console);
/* Wire a port, in order from 0. name: at most 63 bytes, NULL or "" for none. A guest without the multiport feature has
 * port 0 alone. Without out_fd what the guest sends is dropped. */
int vmr_virtio_console_port(vmr_virtio_console *console, uint32_t port, const char *name, uint32_t flags, int in_fd,
                            int out_fd);
/* Tell the guest a new size of its terminals. Any thread, any time before the machine is freed. */
int vmr_virtio_console_resize(vmr_virtio_console *console, uint32_t cols, uint32_t rows);
typedef struct vmr_virtio_console_port_state {
  uint32_t guest_open;
  uint32_t in_open;   /* 0 once in_fd came to its end, or was never given */
  uint32_t out_open;
  uint32_t out_errno; /* why out_fd takes no more, or 0 */
  uint64_t rx_bytes, tx_bytes;
} vmr_virtio_console_port_state;
int vmr_virtio_console_get_port(vmr_virtio_console *console, uint32_t port, vmr_virtio_console_port_state *state);

/* ---- virtio-rng (section 5.4) ------------------------------------------------------------------------------------ */

#define VMR_VIRTIO_ID_RNG 4
typedef struct vmr_virtio_rng vmr_virtio_rng;
/* source_fd: bytes to give instead of the host's randomness (getrandom), for runs that must repeat; -1 otherwise. */
int vmr_virtio_rng_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t gsi, int source_fd,
                       vmr_virtio_rng **rng);
#endif
