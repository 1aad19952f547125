/* The C core as Python sees it: a machine owns guest memory, a bus, interrupt lines, devices, one I/O thread and vCPUs.
 *
 * This header is read twice: by the C compiler, and by cffi's cdef (the builder drops #include, #ifndef, #endif and
 * valueless #define lines). So it holds plain declarations and `#define NAME integer` only.
 *
 * Every function that can fail returns 0 or -errno and leaves one line of text at vmr_machine_error(), for the calling
 * thread alone: what fails on another thread meanwhile does not touch it.
 * Windows and memory may come, move and go at any time, from any thread, while vCPUs run.
 * Life cycle: new -> ram_add, devices, vCPUs -> start -> one host thread per vCPU calls vmr_vcpu_run in a loop ->
 * stop (any thread, any time, idempotent) -> join the vCPU threads -> free.
 */
#ifndef VMR_CORE_API_H
#define VMR_CORE_API_H
#include <stddef.h>
#include <stdint.h>

typedef struct vmr_machine vmr_machine;
typedef struct vmr_vcpu vmr_vcpu;
typedef struct vmr_window vmr_window; /* a place on the bus where a device answers */
typedef struct vmr_region vmr_region; /* a piece of guest memory */

/* Where a window or region is that the guest cannot reach. */
#define VMR_NOWHERE 0xffffffffffffffff

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
  uint64_t offset; /* MMIO: in the window, as it lay when the guest made the access */
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

/* What a region is to the guest. */
#define VMR_REGION_RAM 0
#define VMR_REGION_ROM 1   /* it reads memory; its writes leave to the bus */
#define VMR_REGION_FLASH 2 /* as ROM, or, while vmr_region_trap says so, no memory at all */

/* Guest memory: page-aligned, zeroed, reserved but not touched. gpa and size in bytes, multiples of 4096. gpa may be
 * VMR_NOWHERE. shared: other processes can map it (vmr_region_fd); else it is private. On an error nothing has changed.
 *
 * Memory lies above the bus: an access that memory does not take (a write to ROM, any to a flash that traps) goes to the
 * window at its address, as the access that it is. */
int vmr_region_add(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t kind, int shared, vmr_region **region);
/* Private RAM that stays until the machine is freed. */
int vmr_ram_add(vmr_machine *machine, uint64_t gpa, uint64_t size);
/* Put the region elsewhere, or VMR_NOWHERE: its bytes stay. When it has returned, no vCPU uses the old place; from inside
 * an access to a device (a BAR is written), when that access has ended. */
int vmr_region_move(vmr_region *region, uint64_t gpa);
/* A flash's reads leave to the bus (trap 1) or find memory (0). When it takes effect: as vmr_region_move. */
int vmr_region_trap(vmr_region *region, int trap);
/* Take the region away and free its memory, when no thread uses it any more: it waits for requests in flight. -EDEADLK
 * from inside an access to a device. */
int vmr_region_remove(vmr_region *region);
/* The descriptor of shared memory, whose offset 0 is the region's first byte; it lives as long as the region: duplicate it.
 * Its size is sealed. -ENOENT: the region is private. */
int vmr_region_fd(vmr_region *region);
/* The region's bytes, whatever the guest sees of them; the caller does not remove the region meanwhile. NULL: the range
 * is not all inside. vmr_region_write marks the dirty log. */
void *vmr_region_ptr(vmr_region *region, uint64_t offset, uint64_t size);
int vmr_region_write(vmr_region *region, uint64_t offset, const void *data, size_t size);
int vmr_region_read(vmr_region *region, uint64_t offset, void *data, size_t size);

/* A dirty log: which pages of the region were written by vCPUs, devices and vmr_ram_write, vmr_ram_load_fd and
 * vmr_region_write since the last fetch. Not seen: writes through vmr_region_ptr, and those of other processes to shared
 * memory. A page that is reported may be clean. Neither call can be made from inside an access to a device (-EDEADLK). */
int vmr_dirty_start(vmr_region *region); /* -EEXIST: it runs */
int vmr_dirty_stop(vmr_region *region);
/* Bit n of bits[n / 64]: page n was written. count: words of bits, (pages + 63) / 64. A write that the bits do not tell of
 * was made before the call returned: who copies the page then has it, or finds it in the next fetch. -ENOENT: no log. */
int vmr_dirty_fetch(vmr_region *region, uint64_t *bits, size_t count);

/* Bytes of memory that the guest sees, ROM too. -EFAULT unless all of it lies in one region. */
int vmr_ram_write(vmr_machine *machine, uint64_t gpa, const void *data, size_t size);
int vmr_ram_read(vmr_machine *machine, uint64_t gpa, void *data, size_t size);
/* Read size bytes at offset of an open file into memory. Short files are an error (-ENODATA). */
int vmr_ram_load_fd(vmr_machine *machine, uint64_t gpa, int fd, uint64_t offset, uint64_t size);

/* Claim an MMIO window for Python: accesses leave vmr_vcpu_run with the id. Overlaps are refused (-EEXIST). gpa may be
 * VMR_NOWHERE. min_width and max_width, powers of 2 up to 8: what the device takes; an access of another width or
 * alignment is repaired as vmr_bus_ops of core.h has it, so that a wide one becomes several exits. max_width 0: every
 * access comes as the guest made it. */
int vmr_bus_claim(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t id, uint32_t min_width, uint32_t max_width,
                  vmr_window **window);
/* Put the window elsewhere, or VMR_NOWHERE. Never waits: an access that is under way ends as it began. */
int vmr_bus_move(vmr_machine *machine, vmr_window *window, uint64_t gpa);
/* Take the window away and free it. On return no thread is in its device's callbacks, nor will be: so the device can be
 * freed. An access of a window of Python's may have left vmr_vcpu_run before. Call without a lock that the callbacks
 * take. -EDEADLK, and nothing has changed, from inside an access to a device. */
int vmr_bus_remove(vmr_machine *machine, vmr_window *window);

/* An I/O port of x86 is bus address VMR_PIO | port. */
#define VMR_PIO 0x8000000000000000

/* What became of a bus access. */
#define VMR_BUS_DONE 0   /* served in C */
#define VMR_BUS_PYTHON 1 /* claimed by Python */
#define VMR_BUS_NONE 2   /* nobody there: a vCPU takes an access fault; counted as a guest error of "bus" */
/* One access as a vCPU would make it, for tests and tools: size 1, 2, 4 or 8. Returns VMR_BUS_*; *value is 0 unless
 * VMR_BUS_DONE. Not from inside an access to a device. */
int vmr_bus_peek(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value);
int vmr_bus_poke(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value);

/* An access of which Python serves pieces of the device's own width. */
typedef struct vmr_bus_access {
  uint64_t gpa;
  uint64_t value;  /* what is written; or what is read, once it is complete; zero-extended */
  uint32_t size;
  uint32_t write;  /* 0 or 1; the rest is the core's */
  uint64_t offset; /* of the next piece in the window */
  uint32_t window;
  uint32_t width;  /* of a piece */
  uint32_t skip;   /* bytes of a piece wider than the access that lie before it */
  uint32_t done;   /* bytes */
} vmr_bus_access;
/* The same as vmr_bus_peek and vmr_bus_poke, of gpa, size, write, value. After VMR_BUS_PYTHON: vmr_bus_ask fills in an
 * exit, vmr_bus_take takes what Python made of it, and so on until that returns 1: the access is complete. */
int vmr_bus_begin(vmr_machine *machine, vmr_bus_access *access);
void vmr_bus_ask(const vmr_bus_access *access, vmr_exit *exit);
int vmr_bus_take(vmr_bus_access *access, const vmr_exit *exit);

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
