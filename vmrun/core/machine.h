/* Inside of a machine: shared by the core's own files alone. */
#ifndef VMR_MACHINE_H
#define VMR_MACHINE_H
#include "core.h"

#define VMR_PAGE 4096u /* the unit of regions and of dirty logs */
#define VMR_WINDOWS 512
#define VMR_VCPUS 64
#define VMR_GUEST_ERRORS 128
#define VMR_TEXT_BYTES 256 /* of one line about a failure, with its NUL */

/* A table that readers look at without a lock: it never changes, another takes its place. */
typedef struct vmr_table {
  struct vmr_table *next; /* of those that wait to be freed ... */
  uint64_t retired_at;    /* ... which is when no reader is inside since before this epoch */
} vmr_table;
typedef _Atomic(vmr_table *) vmr_table_slot;

struct vmr_window {
  uint64_t gpa; /* VMR_NOWHERE: in no table */
  uint64_t size;
  const vmr_bus_ops *ops; /* NULL: claimed by Python under id */
  void *device;
  uint32_t min_width, max_width; /* as in vmr_bus_ops */
  uint32_t id;
};

typedef struct vmr_bus {
  vmr_table table;
  uint32_t count;
  vmr_window *windows; /* copies, sorted; in the same allocation */
  uint64_t gpa[];      /* their search key */
} vmr_bus;

struct vmr_region {
  vmr_machine *machine;
  uint64_t gpa; /* VMR_NOWHERE: in no table */
  uint64_t size;
  uint8_t *hva;
  uint32_t kind; /* VMR_REGION_* */
  uint32_t slot;
  int fd;        /* -1: private */
  bool trapping; /* a flash: in no table */
  bool mapped;   /* the engine has it */
  _Atomic uint64_t *dirty;
};

typedef struct vmr_map {
  vmr_table table;
  uint64_t generation;
  uint32_t count, log_count;
  vmr_ram ram[VMR_REGIONS]; /* what the guest can read, sorted */
  vmr_ram logs[VMR_REGIONS]; /* regions with a dirty log, whether the guest can read them or not */
} vmr_map;

typedef struct vmr_guest_count {
  _Atomic(const char *) what; /* set last: an entry with it is whole */
  const char *device;
  _Atomic uint64_t count;
} vmr_guest_count;

/* What failed last on one thread. */
typedef struct vmr_error {
  pthread_t thread;
  uint64_t turn; /* when, counted in failures of the machine; 0: the slot is free */
  char text[VMR_TEXT_BYTES];
} vmr_error;

/* A callback of a device, in order of registration. */
typedef struct vmr_hook {
  void (*call)(void *device);
  void (*halt)(void *device, uint64_t until_ns);
  bool (*idle)(void *device);
  void *device;
} vmr_hook;
typedef struct vmr_hooks {
  vmr_hook *items;
  size_t count;
} vmr_hooks;

typedef struct vmr_io_entry vmr_io_entry;
typedef struct vmr_state vmr_state;

typedef struct vmr_io {
  int epoll;
  int wake; /* eventfd: tasks, changes and the end */
  bool running;
  bool ending;
  pthread_t thread;
  pthread_mutex_t lock;    /* never held while a device is called */
  pthread_cond_t progress; /* a callback returned, a batch ended, a worker is idle (CLOCK_MONOTONIC) */
  uint64_t steps;          /* how often progress was signalled */
  vmr_io_entry *entries;   /* every live entry */
  vmr_io_entry *dead;      /* removed, freed by the thread between two batches */
  vmr_io_entry *current;   /* its callback runs now */
  size_t always_ready;     /* enabled entries that epoll refuses: regular files, /dev/null */
  vmr_io_task *tasks;
  vmr_io_task **tasks_end;
  vmr_reader reader; /* the thread's */
} vmr_io;

struct vmr_machine {
  vmr_table_slot bus; /* vmr_bus, never NULL */
  vmr_table_slot map; /* vmr_map, never NULL */
  _Atomic uint64_t epoch; /* counts changes of both, from 1 */
  pthread_mutex_t readers_lock;
  vmr_reader *readers;

  pthread_mutex_t change; /* all below; never held while waiting for readers, or while a device is called */
  vmr_table *retired;
  vmr_window *windows[VMR_WINDOWS];
  uint32_t window_count;
  vmr_region *regions[VMR_REGIONS]; /* by slot */
  uint64_t generation;
  const vmr_memory_ops *memory_ops;
  void *memory_engine;

  const vmr_irqchip_ops *irqchip_ops;
  void *irqchip;
  vmr_msi msi;

  vmr_vcpu *vcpus[VMR_VCPUS];
  char faults[VMR_VCPUS][VMR_TEXT_BYTES]; /* written by the threads that run the vCPUs, each its own */
  _Atomic uint32_t vcpu_count;
  atomic_bool stopping;
  bool started, halted;
  int trouble; /* eventfd */

  vmr_io io;
  vmr_clock clock;
  vmr_state *states;
  vmr_hooks on_halt, on_free, on_drain;
  struct vmr_outlet *outlets;

  pthread_mutex_t lock; /* errors, guest errors, stop */
  uint64_t failures;
  vmr_error errors[VMR_ERROR_THREADS];
  vmr_guest_count guest_errors[VMR_GUEST_ERRORS];
};

int vmr_io_init(vmr_machine *machine);
int vmr_io_start(vmr_machine *machine);
void vmr_io_end(vmr_machine *machine);  /* join the thread; entries stay known */
void vmr_io_fini(vmr_machine *machine); /* close what vmr_io_init opened */
/* Whether the caller is the I/O thread. */
bool vmr_io_is_here(const vmr_machine *machine);
int vmr_clock_init(vmr_machine *machine); /* after vmr_io_init */
void vmr_clock_fini(vmr_machine *machine);
void vmr_state_fini(vmr_machine *machine);

/* ---- reader.c: what writers need --------------------------------------------------------------------------------- */

/* A reader on the stack, for a thread that has none. */
void vmr_visit(vmr_machine *machine, vmr_reader *reader, bool on_bus);
void vmr_visit_end(vmr_reader *reader);
/* With `change`: swap the table in, ask vCPUs for a quiescent point, free what can be freed. Returns the new epoch. */
uint64_t vmr_publish(vmr_machine *machine, vmr_table_slot *slot, vmr_table *fresh, bool memory);
/* With `change`: ask vCPUs for a quiescent point; memory: and to forget their translations. Returns the new epoch. */
uint64_t vmr_ask(vmr_machine *machine, bool memory);
/* Without `change`: wait until no reader, or no vCPU, is inside since before epoch. */
void vmr_wait_readers(vmr_machine *machine, uint64_t epoch);
void vmr_wait_vcpus(vmr_machine *machine, uint64_t epoch);
/* vmr_wait_vcpus, or, from inside an access to a device, have it waited for when that access has ended. */
void vmr_settle(vmr_machine *machine, uint64_t epoch);
/* 0, or -EDEADLK with a text from inside an access to a device. */
int vmr_may_wait(vmr_machine *machine, const char *what);
void vmr_tables_fini(vmr_machine *machine);

/* ---- bus.c, region.c, dirty.c ------------------------------------------------------------------------------------- */

int vmr_bus_init(vmr_machine *machine);
void vmr_bus_fini(vmr_machine *machine);
int vmr_regions_init(vmr_machine *machine);
void vmr_regions_fini(vmr_machine *machine);
/* With `change`: the region as the guest finds it; false: it does not. */
bool vmr_region_visible(const vmr_region *region, vmr_ram *ram);
/* With `change`: the region becomes as wanted, first for the engine, then for readers. 0, or -errno and it is as before. */
int vmr_region_become(vmr_region *region, vmr_region wanted, uint64_t *epoch);
/* Without `change`: the log, if there is one, hears of a write to the region's bytes. */
void vmr_dirty_region(vmr_region *region, uint64_t offset, uint64_t size);
#endif
