/* Inside of a machine: shared by the core's own files alone. */
#ifndef VMR_MACHINE_H
#define VMR_MACHINE_H
#include "core.h"

#define VMR_RAM_REGIONS 8
#define VMR_WINDOWS 128
#define VMR_VCPUS 64
#define VMR_GUEST_ERRORS 128
#define VMR_TEXT_BYTES 256 /* of one line about a failure, with its NUL */

typedef struct vmr_window {
  uint64_t gpa;
  uint64_t size;
  const vmr_bus_ops *ops; /* NULL: claimed by Python under id */
  void *device;
  uint32_t id;
} vmr_window;

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
} vmr_io;

struct vmr_machine {
  vmr_ram ram[VMR_RAM_REGIONS];
  uint32_t ram_count;
  uint32_t window_count;
  uint64_t window_gpa[VMR_WINDOWS]; /* the search key of windows[], sorted */
  vmr_window windows[VMR_WINDOWS];

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
void vmr_ram_fini(vmr_machine *machine);
#endif
