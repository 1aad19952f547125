/* The C core as its devices and engines see it. Python never reads this header: see core_api.h.
 *
 * No globals, no exit, no printf. Guest memory only through vmr_gpa_ptr and the helpers beside it, inside as a reader.
 */
#ifndef VMR_CORE_H
#define VMR_CORE_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "clock.h"
#include "core_api.h"
#include "line.h"
#include "state.h"

/* ---- readers ---------------------------------------------------------------------------------------------------- */

/* A thread's place among those that look at the bus and at memory. Looking takes no lock; what was taken away is freed
 * when every thread that was inside has come to a quiescent point: it left, passed, or (a hart) ended a time slice.
 *
 * The rule: a pointer of vmr_gpa_ptr, a vmr_ram, and a host address made of them are good until the quiescent point of
 * the thread that asked for them, and on no other thread. vCPUs are inside while they execute or serve an exit, the I/O
 * thread is in each callback and task. A thread of a device's own adds a reader and is inside while it serves a request.
 * What outlives a quiescent point (a ring, a buffer in hand) keeps guest addresses, and looks them up again when
 * vmr_memory_generation has moved. vmr_gpa_read and vmr_gpa_write copy, and may be called from anywhere. */
typedef struct vmr_reader {
  _Atomic uint64_t epoch; /* the machine's, at the last quiescent point; 0: outside */
  _Atomic pthread_t thread; /* who is, or was, inside */
  uint64_t settle; /* a change made from inside: on leaving, wait until every vCPU goes by it */
  bool on_bus; /* inside of it devices are called: who is there may not wait for others */
  vmr_machine *machine;
  struct vmr_reader *next, **link; /* the core's */
} vmr_reader;

void vmr_reader_add(vmr_machine *machine, vmr_reader *reader, bool on_bus);
void vmr_reader_drop(vmr_reader *reader); /* outside */
void vmr_reader_enter(vmr_reader *reader);
void vmr_reader_leave(vmr_reader *reader);
/* A quiescent point of one who stays inside. */
void vmr_reader_pass(vmr_reader *reader);
/* The same in two steps, for one who does what vmr_vcpu_ops.quiesce asked to forget in between. */
uint64_t vmr_reader_now(const vmr_reader *reader);
void vmr_reader_confirm(vmr_reader *reader, uint64_t now);

/* ---- memory ---------------------------------------------------------------------------------------------------- */

/* What the guest finds at [gpa, gpa + size). */
typedef struct vmr_ram {
  uint64_t gpa;
  uint64_t size;
  uint8_t *hva;
  bool writable; /* by the guest and its devices; writes to the rest leave to the bus */
  _Atomic uint64_t *dirty; /* one bit a page while a log is kept, or NULL */
} vmr_ram;

/* The host address of [gpa, gpa + size) for reading, or NULL unless the guest can read all of it in one region. Safe for
 * any guest value. */
const void *vmr_gpa_ptr(const vmr_machine *machine, uint64_t gpa, uint64_t size);
/* The same for writing; NULL for ROM. Follow each write with vmr_mark_dirty. */
void *vmr_gpa_ptr_for_write(const vmr_machine *machine, uint64_t gpa, uint64_t size);
/* Tell the dirty logs of a write that is done. hva: from vmr_gpa_ptr_for_write, in the same section. */
void vmr_mark_dirty(const vmr_machine *machine, const void *hva, uint64_t size);
/* Whether all of it is memory now (and not ROM, where it is to be written). From any thread. */
bool vmr_gpa_holds(vmr_machine *machine, uint64_t gpa, uint64_t size, bool write);
/* Copies, from any thread; false, and nothing is copied, unless all of it is there (and, for a write, not ROM). */
bool vmr_gpa_read(vmr_machine *machine, uint64_t gpa, void *data, uint64_t size);
bool vmr_gpa_write(vmr_machine *machine, uint64_t gpa, const void *data, uint64_t size);
/* The region that the guest can read at gpa, or NULL. */
const vmr_ram *vmr_ram_find(const vmr_machine *machine, uint64_t gpa);
/* A number that is another whenever memory has changed. */
uint64_t vmr_memory_generation(const vmr_machine *machine);

static inline void vmr_ram_mark(const vmr_ram *ram, uint64_t gpa) {
  if (ram->dirty) atomic_fetch_or(&ram->dirty[(gpa - ram->gpa) >> 18], 1ull << ((gpa - ram->gpa) >> 12 & 63));
}

/* An engine that hands memory on to somebody else (KVM). Called under a lock, never concurrently, and before vCPUs or
 * devices see the change. slot: below VMR_REGIONS, the region's as long as it lives. 0 or -errno with a text. */
#define VMR_REGIONS 64
typedef struct vmr_memory_ops {
  /* New memory, or memory that was moved, or whose log (ram->dirty) began or ended: all else of a slot stays as it is. */
  int (*map)(void *engine, uint32_t slot, const vmr_ram *ram);
  int (*unmap)(void *engine, uint32_t slot);
  /* Add to bits the pages that were written since the last call, of a slot with a log. */
  int (*fetch_dirty)(void *engine, uint32_t slot, const vmr_ram *ram, uint64_t *bits);
} vmr_memory_ops;
/* At most one. It is told of what is there already. */
int vmr_memory_listen(vmr_machine *machine, const vmr_memory_ops *ops, void *engine);

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
/* The same with a handle, for vmr_bus_move and vmr_bus_remove. gpa may be VMR_NOWHERE. */
int vmr_bus_attach(vmr_machine *machine, uint64_t gpa, uint64_t size, const vmr_bus_ops *ops, void *device,
                   vmr_window **window);

/* Both return VMR_BUS_DONE, VMR_BUS_PYTHON (leave with MMIO exits, as vmr_bus_ask and vmr_bus_take make them of *left, which
 * is set for this outcome alone) or VMR_BUS_NONE (raise an access fault; counted by the bus). Any width but 1, 2, 4 and 8,
 * and an access across a window's end, is VMR_BUS_NONE. The caller is inside as a reader on the bus. */
int vmr_bus_read(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t *value, vmr_bus_access *left);
int vmr_bus_write(vmr_machine *machine, uint64_t gpa, uint32_t size, uint64_t value, vmr_bus_access *left);

/* ---- vCPUs ----------------------------------------------------------------------------------------------------- */

typedef struct vmr_vcpu_ops {
  int (*run)(vmr_vcpu *vcpu, vmr_exit *exit);
  void (*kick)(vmr_vcpu *vcpu);
  int (*line)(vmr_vcpu *vcpu, uint32_t input, vmr_line *line); /* -EINVAL: no such input; NULL: none at all */
  void (*free)(vmr_vcpu *vcpu);
  /* forget: before the vCPU next notes an epoch, it forgets what it has looked up, translated or decoded. Else: it notes the
   * epoch soon, one that it loads after it has seen this request (vmr_reader_now, vmr_reader_confirm). Any thread. NULL
   * where the vCPU keeps nothing and is inside only for moments. */
  void (*quiesce)(vmr_vcpu *vcpu, bool forget);
} vmr_vcpu_ops;

/* Embedded first in each engine's vCPU. */
struct vmr_vcpu {
  const vmr_vcpu_ops *ops;
  vmr_machine *machine;
  uint32_t index;
  vmr_reader reader; /* the engine enters and leaves */
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

/* ---- life cycle, errors ---------------------------------------------------------------------------------------- */

/* The machine calls free when it is freed (after its threads have ended), in reverse order of registration. */
int vmr_on_free(vmr_machine *machine, void (*free_device)(void *device), void *device);
/* The machine calls halt once, before anything is freed: the device's own threads end there, whatever they are about, and
 * what it still owes to the host is done until the clock (vmr_host_ns) says until_ns. */
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
