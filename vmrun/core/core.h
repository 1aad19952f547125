/* The C core as its devices and engines see it. Python never reads this header: see core_api.h.
 *
 * No globals, no exit, no printf. Guest memory only through vmr_gpa_ptr and the helpers beside it.
 */
#ifndef VMR_CORE_H
#define VMR_CORE_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core_api.h"
#include "line.h"

/* ---- memory ---------------------------------------------------------------------------------------------------- */

typedef struct vmr_ram {
  uint64_t gpa;
  uint64_t size;
  uint8_t *hva;
} vmr_ram;

/* The host address of [gpa, gpa + size), or NULL unless all of it lies in one RAM region. Safe for any guest value. */
void *vmr_gpa_ptr(const vmr_machine *machine, uint64_t gpa, uint64_t size);
/* The RAM region that holds gpa, or NULL. Regions do not move or vanish once the machine has started. */
const vmr_ram *vmr_ram_find(const vmr_machine *machine, uint64_t gpa);
/* The RAM region number `index`, in order of adding; NULL past the end. */
const vmr_ram *vmr_ram_at(const vmr_machine *machine, uint32_t index);

/* ---- bus ------------------------------------------------------------------------------------------------------- */

/* offset + size always lies inside the window; size is 1, 2, 4 or 8. Called from any vCPU thread: a device locks itself.
 * min_width and max_width (0: no bound) are what the device takes; the bus repairs the rest, so that a device sees
 * naturally aligned accesses of its own widths alone: a wide access becomes several, low address first; a narrow read
 * is cut out of a wider one; a narrow or misaligned write, or a misaligned read, is dropped (reads 0) and counted.
 * A device with min_width 1 and max_width 0 sees every access as the guest made it. */
typedef struct vmr_bus_ops {
  uint64_t (*read)(void *device, uint64_t offset, uint32_t size);
  void (*write)(void *device, uint64_t offset, uint32_t size, uint64_t value);
  uint32_t min_width;
  uint32_t max_width;
} vmr_bus_ops;

int vmr_bus_add(vmr_machine *machine, uint64_t gpa, uint64_t size, const vmr_bus_ops *ops, void *device);

/* Both return VMR_BUS_DONE, VMR_BUS_PYTHON (leave with an MMIO exit, *window holds the id) or VMR_BUS_NONE (raise an
 * access fault; counted by the bus). Any width but 1, 2, 4 and 8, and an access across a window's end, is VMR_BUS_NONE. */
int vmr_bus_read(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value, uint32_t *window);
int vmr_bus_write(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value, uint32_t *window);

/* ---- vCPUs ----------------------------------------------------------------------------------------------------- */

typedef struct vmr_vcpu_ops {
  int (*run)(vmr_vcpu *vcpu, vmr_exit *exit);
  void (*kick)(vmr_vcpu *vcpu);
  int (*line)(vmr_vcpu *vcpu, uint32_t input, vmr_line *line); /* -EINVAL: no such input; NULL: none at all */
  void (*free)(vmr_vcpu *vcpu);
} vmr_vcpu_ops;

/* Embedded first in each engine's vCPU. */
struct vmr_vcpu {
  const vmr_vcpu_ops *ops;
  vmr_machine *machine;
  uint32_t index;
};

/* The machine owns the vCPU from here on and frees it with ops->free. Indexes count from 0 in order of adding. */
int vmr_vcpu_add(vmr_machine *machine, vmr_vcpu *vcpu);
vmr_vcpu *vmr_vcpu_at(const vmr_machine *machine, uint32_t index); /* NULL past the end */
uint32_t vmr_vcpu_count(const vmr_machine *machine);
/* Leave with VMR_EXIT_FAULT and this text, on the thread that runs the vCPU. Returns 0, as vmr_vcpu_ops.run then does. */
int vmr_vcpu_fall(vmr_vcpu *vcpu, vmr_exit *exit, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* True once vmr_machine_stop was called: a vCPU then returns VMR_EXIT_STOPPED. Every vCPU is kicked after it is set. */
bool vmr_machine_stopping(const vmr_machine *machine);

/* ---- host I/O -------------------------------------------------------------------------------------------------- */

/* One I/O thread per machine, epoll underneath. Callbacks run on it, never concurrently with one another. */
typedef void (*vmr_io_ready)(void *opaque, uint32_t epoll_events);
int vmr_io_add(vmr_machine *machine, int fd, uint32_t epoll_events, vmr_io_ready ready, void *opaque);
int vmr_io_modify(vmr_machine *machine, int fd, uint32_t epoll_events);
/* Once it has returned, the callback neither runs nor will. Call without a lock that the callback takes; the callback
 * itself may call it. */
int vmr_io_remove(vmr_machine *machine, int fd);

/* Work for the I/O thread, embedded in a device. Posting it again before it ran does nothing. */
typedef struct vmr_io_task {
  void (*run)(void *opaque);
  void *opaque;
  struct vmr_io_task *next; /* the core's */
  bool queued;              /* the core's */
} vmr_io_task;
/* Any thread. The task must outlive the machine's threads. */
void vmr_io_post(vmr_machine *machine, vmr_io_task *task);
/* idle says whether everything that the guest handed to the device has reached the host; vmr_machine_drain asks it. */
int vmr_on_drain(vmr_machine *machine, bool (*idle)(void *device), void *device);
/* Wake a drain that waits: a worker thread calls it when it has become idle (the I/O thread does so by itself). */
void vmr_io_progress(vmr_machine *machine);

/* Where the back end for output (outlet.h) keeps its list: the first of it, or NULL. */
struct vmr_outlet **vmr_outlets(vmr_machine *machine);
/* CLOCK_MONOTONIC in ns. */
uint64_t vmr_now_ns(void);

/* ---- life cycle, errors ---------------------------------------------------------------------------------------- */

/* The machine calls free when it is freed (after its threads have ended), in reverse order of registration. */
int vmr_on_free(vmr_machine *machine, void (*free_device)(void *device), void *device);
/* The machine calls halt once, before anything is freed: the device's own threads end there, whatever they are about, and
 * what it still owes to the host is done until the clock (vmr_now_ns) says until_ns. */
int vmr_on_halt(vmr_machine *machine, void (*halt)(void *device, uint64_t until_ns), void *device);
/* A thread with every signal blocked, named for `top -H`. Returns 0 or -errno with a text. */
int vmr_thread_start(vmr_machine *machine, pthread_t *thread, const char *name, void *(*run)(void *), void *opaque);
/* Record an error text for the calling thread and return -errnum. */
int vmr_fail(vmr_machine *machine, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The host failed under a device, in a way that the device has not told of before: vmr_machine_trouble then says so. Any
 * thread. */
void vmr_host_failed(vmr_machine *machine);
/* Count something that the guest did wrong. device and what must be string literals. Any thread, cheap. */
void vmr_guest_did_wrong(vmr_machine *machine, const char *device, const char *what);
#endif
