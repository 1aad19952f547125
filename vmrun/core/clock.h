/* The machine's clock and its timers, as devices and engines in C use them. */
#ifndef VMR_CLOCK_H
#define VMR_CLOCK_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "clock_api.h"

/* Embedded in a device that lives until the machine is freed. */
struct vmr_timer {
  void (*expired)(void *opaque);
  void *opaque;
  vmr_clock *clock;
  _Atomic uint64_t deadline; /* written with the clock's lock */
  vmr_timer *next;           /* the clock's */
};
void vmr_timer_init(vmr_timer *timer, vmr_clock *clock, void (*expired)(void *opaque), void *opaque);

/* Told whenever waiting for a time on the host has to be thought over: the clock began, was held, released, advanced. */
typedef struct vmr_clock_watcher {
  void (*changed)(void *opaque); /* any thread, without the clock's lock */
  void *opaque;
  struct vmr_clock_watcher *next; /* the clock's */
} vmr_clock_watcher;

struct vmr_clock {
  _Atomic uint32_t version; /* odd while the next two change */
  atomic_bool running;
  _Atomic uint64_t offset; /* running: to be taken from CLOCK_MONOTONIC; else the time itself */
  _Atomic uint64_t base;   /* time of day at time 0 */

  pthread_mutex_t lock; /* what follows, and writing what stands above */
  vmr_machine *machine;
  bool is_virtual, begun, held;
  int fd; /* timerfd, due with the first timer */
  uint64_t programmed;
  vmr_timer *timers; /* those that wait, in the order in which they fire */
  vmr_clock_watcher *watchers;
  uint64_t now; /* while its state is saved or loaded */
};

static inline uint64_t vmr_host_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* The clock's time. Any thread, no lock. */
static inline uint64_t vmr_clock_now(const vmr_clock *clock) {
  for (;;) {
    uint32_t version = atomic_load_explicit(&clock->version, memory_order_acquire);
    bool running = atomic_load_explicit(&clock->running, memory_order_relaxed);
    uint64_t offset = atomic_load_explicit(&clock->offset, memory_order_relaxed);
    uint64_t now = running ? vmr_host_ns() - offset : offset;
    atomic_thread_fence(memory_order_acquire);
    if (!(version & 1) && atomic_load_explicit(&clock->version, memory_order_relaxed) == version) return now;
  }
}

/* When the clock's time will be `at`, on the host's CLOCK_MONOTONIC; false: nobody knows, the clock stands. */
bool vmr_clock_host_deadline(const vmr_clock *clock, uint64_t at, struct timespec *deadline);
/* The machine runs from here on. Idempotent. */
void vmr_clock_begin(vmr_clock *clock);
void vmr_clock_watch(vmr_clock *clock, vmr_clock_watcher *watcher);
#endif
