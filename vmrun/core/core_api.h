/* The C core as Python sees it: a machine owns guest memory, a bus, interrupt lines, devices, one I/O thread and vCPUs.
 *
 * This header is read twice: by the C compiler, and by cffi's cdef (the builder drops #include, #ifndef, #endif and
 * valueless #define lines). So it holds plain declarations and `#define NAME integer` only.
 *
 * Every function that can fail returns 0 or -errno and leaves one line of text at vmr_machine_error(), for the calling
 * thread alone: what fails on another thread meanwhile does not touch it.
 * Life cycle: new -> ram_add, devices, vCPUs -> start -> one host thread per vCPU calls vmr_vcpu_run in a loop ->
 * stop (any thread, any time, idempotent) -> join the vCPU threads -> free.
 */
#ifndef VMR_CORE_API_H
#define VMR_CORE_API_H
#include <stddef.h>
#include <stdint.h>

typedef struct vmr_machine vmr_machine;
typedef struct vmr_vcpu vmr_vcpu;

/* Why vmr_vcpu_run returned. */
#define VMR_EXIT_MMIO_READ 1  /* a window claimed by Python: put the value in .data and run again */
#define VMR_EXIT_MMIO_WRITE 2 /* a window claimed by Python: .data holds the value written */
#define VMR_EXIT_SYSTEM 3     /* the guest's firmware call asked for it: .code VMR_SYSTEM_*, .data the guest's reason */
#define VMR_EXIT_STOPPED 4    /* vmr_machine_stop was called */
#define VMR_EXIT_FAULT 5      /* the engine cannot carry on: the text is at vmr_vcpu_fault() */

#define VMR_SYSTEM_POWEROFF 0
#define VMR_SYSTEM_COLD_REBOOT 1
#define VMR_SYSTEM_WARM_REBOOT 2

typedef struct vmr_exit {
  uint32_t kind;   /* VMR_EXIT_* */
  uint32_t size;   /* MMIO access width in bytes: 1, 2, 4 or 8 */
  uint64_t gpa;    /* MMIO address */
  uint64_t data;   /* MMIO value, zero-extended; or the reason of a system exit */
  uint32_t window; /* MMIO: the id given to vmr_bus_claim */
  uint32_t code;   /* VMR_SYSTEM_* */
} vmr_exit;

int vmr_machine_new(vmr_machine **machine);
void vmr_machine_free(vmr_machine *machine);
/* What failed last on the calling thread, or "". Good until this thread fails again. A machine remembers the last failures
 * of VMR_ERROR_THREADS threads, more than it has vCPUs and threads of its own. */
#define VMR_ERROR_THREADS 96
const char *vmr_machine_error(vmr_machine *machine);
int vmr_machine_start(vmr_machine *machine);
void vmr_machine_stop(vmr_machine *machine);
/* Wait until every byte that the guest handed to a device (console output, disk requests) has reached the host's file
 * descriptors: after the vCPUs stand, before the outcome is taken. timeout_ms: -1 waits for ever. -ETIMEDOUT: a reader
 * does not read. Needs a started machine; before vmr_machine_start it returns 0. */
int vmr_machine_drain(vmr_machine *machine, int timeout_ms);
/* End what the devices still do, after the vCPUs stand: requests that nobody has begun stay undone, one under way ends at
 * its next piece, `rw` disks are brought to stable storage for patience_ms at most (-1: no bound). What the guest was told
 * to be done stays done. Output goes on. Idempotent; vmr_machine_free does it, without a bound, where nobody has. */
void vmr_machine_halt(vmr_machine *machine, int patience_ms);
/* An eventfd that is readable once a device has met a new failure of the host; the machine's, until it is freed. */
int vmr_machine_trouble(vmr_machine *machine);

/* Guest RAM: anonymous, page-aligned, reserved but not touched. gpa and size in bytes, multiples of 4096. */
int vmr_ram_add(vmr_machine *machine, uint64_t gpa, uint64_t size);
int vmr_ram_write(vmr_machine *machine, uint64_t gpa, const void *data, size_t size);
int vmr_ram_read(vmr_machine *machine, uint64_t gpa, void *data, size_t size);
/* Read size bytes at offset of an open file into RAM. Short files are an error (-ENODATA). */
int vmr_ram_load_fd(vmr_machine *machine, uint64_t gpa, int fd, uint64_t offset, uint64_t size);

/* Claim an MMIO window for Python: accesses leave vmr_vcpu_run with the id. Overlaps are refused (-EEXIST). */
int vmr_bus_claim(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t id);

/* An I/O port of x86 is bus address VMR_PIO | port. */
#define VMR_PIO 0x8000000000000000

/* What became of a bus access. */
#define VMR_BUS_DONE 0   /* served in C */
#define VMR_BUS_PYTHON 1 /* claimed by Python */
#define VMR_BUS_NONE 2   /* nobody there: a vCPU takes an access fault; counted as a guest error of "bus" */
/* One access as a vCPU would make it, for tests and tools: size 1, 2, 4 or 8. Returns VMR_BUS_*; *value is 0 unless
 * VMR_BUS_DONE. */
int vmr_bus_peek(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value);
int vmr_bus_poke(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value);

/* Run a vCPU until it exits. Call without the GIL, from one thread per vCPU. */
int vmr_vcpu_run(vmr_vcpu *vcpu, vmr_exit *exit);
/* Why this vCPU left with VMR_EXIT_FAULT, one line; "" before. Good until the vCPU runs again. */
const char *vmr_vcpu_fault(vmr_vcpu *vcpu);
/* How many vCPUs were added. */
uint32_t vmr_vcpu_total(vmr_machine *machine);
/* Make a running or sleeping vCPU look at its pending work soon. */
void vmr_vcpu_kick(vmr_vcpu *vcpu);

/* What guests did wrong, by device name: one call per index until -ENOENT. */
typedef struct vmr_guest_error {
  const char *device;
  const char *what;
  uint64_t count;
} vmr_guest_error;
int vmr_guest_error_at(vmr_machine *machine, size_t index, vmr_guest_error *out);
#endif
