/* The console of the firmware that an S-mode kernel calls: SBI 2.0, chapter 12 (DBCN), and chapter 5 (legacy). */
#ifndef VMR_SBI_CONSOLE_H
#define VMR_SBI_CONSOLE_H
#include "outlet.h"

#define VMR_SBI_SUCCESS 0
#define VMR_SBI_FAILED (-1)
#define VMR_SBI_NOT_SUPPORTED (-2)
#define VMR_SBI_INVALID_PARAM (-3)
#define VMR_SBI_INVALID_ADDRESS (-5)
#define VMR_SBI_ALREADY_AVAILABLE (-6)

#define VMR_SBI_PUTCHAR 0x01 /* legacy */
#define VMR_SBI_GETCHAR 0x02
#define VMR_SBI_DBCN 0x4442434e

/* What a call returns in a0 and a1. */
typedef struct vmr_sbi_result {
  int64_t error;
  uint64_t value;
} vmr_sbi_result;

/* Set before the machine starts, used by any thread. */
typedef struct vmr_sbi_console {
  int in; /* the caller's descriptor; -1: not connected */
  vmr_outlet *out;
} vmr_sbi_console;

/* -1: not connected. 0 or -errno. */
int vmr_sbi_console_connect(vmr_sbi_console *console, vmr_machine *machine, int in_fd, int out_fd);
/* A call of DBCN, by a thread that is not inside as a reader, as it may wait for the host; args are a0 to a2. The guest is
 * told how many bytes went: none where the host takes no more. */
vmr_sbi_result vmr_sbi_console_call(const vmr_sbi_console *console, vmr_machine *machine, uint64_t function,
                                    const uint64_t args[3]);
/* The legacy calls; they return a0 alone. */
int64_t vmr_sbi_console_putchar(const vmr_sbi_console *console, uint8_t byte);
int64_t vmr_sbi_console_getchar(const vmr_sbi_console *console);
#endif
