/* The machine's clock: one timerfd for all timers of a real one, and a virtual one that fires them as it is advanced. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "machine.h"

#define NS_PER_S 1000000000ull
#define LONGEST_NS (UINT64_MAX / 4) /* a deadline that the host's clock will never see */

static uint64_t day_of_host(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns) {
  return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

vmr_clock *vmr_machine_clock(vmr_machine *machine) { return &machine->clock; }

uint64_t vmr_clock_time(const vmr_clock *clock) { return vmr_clock_now(clock); }

uint64_t vmr_clock_day(const vmr_clock *clock) { return atomic_load(&clock->base) + vmr_clock_now(clock); }

/* With the lock. */
static void set(vmr_clock *clock, bool running, uint64_t offset) {
  atomic_fetch_add(&clock->version, 1);
  atomic_store(&clock->running, running);
  atomic_store(&clock->offset, offset);
  atomic_fetch_add(&clock->version, 1);
}

bool vmr_clock_host_deadline(const vmr_clock *clock, uint64_t at, struct timespec *deadline) {
  if (!atomic_load(&clock->running)) return false;
  uint64_t now = vmr_clock_now(clock), wait = at > now ? at - now : 0;
  *deadline = timespec_of(vmr_host_ns() + (wait < LONGEST_NS ? wait : LONGEST_NS));
  return true;
}

/* ---- timers ------------------------------------------------------------------------------------------------------ */

/* With the lock: the timerfd is due with the first timer, or not at all while the clock stands. */
static void program(vmr_clock *clock) {
  uint64_t due = VMR_NEVER;
  if (atomic_load(&clock->running) && clock->timers) {
    uint64_t deadline = atomic_load(&clock->timers->deadline), offset = atomic_load(&clock->offset);
    due = deadline < LONGEST_NS ? offset + deadline : offset + LONGEST_NS;
    if (!due) due = 1; /* 0 would disarm */
  }
  if (due == clock->programmed) return;
  struct itimerspec when = {.it_value = due == VMR_NEVER ? (struct timespec){0} : timespec_of(due)};
  if (timerfd_settime(clock->fd, TFD_TIMER_ABSTIME, &when, NULL) == 0) clock->programmed = due;
}

/* With the lock. */
static void unlink_timer(vmr_clock *clock, vmr_timer *timer) {
  if (atomic_load(&timer->deadline) == VMR_NEVER) return;
  vmr_timer **link = &clock->timers;
  while (*link != timer) link = &(*link)->next;
  *link = timer->next;
  atomic_store(&timer->deadline, VMR_NEVER);
}

void vmr_timer_init(vmr_timer *timer, vmr_clock *clock, void (*expired)(void *opaque), void *opaque) {
  *timer = (vmr_timer){.expired = expired, .opaque = opaque, .clock = clock, .deadline = VMR_NEVER};
}

void vmr_timer_arm(vmr_timer *timer, uint64_t deadline) {
  vmr_clock *clock = timer->clock;
  pthread_mutex_lock(&clock->lock);
  unlink_timer(clock, timer);
  if (deadline != VMR_NEVER) {
    vmr_timer **link = &clock->timers;
    while (*link && atomic_load(&(*link)->deadline) <= deadline) link = &(*link)->next; /* behind those of one deadline */
    timer->next = *link;
    *link = timer;
    atomic_store(&timer->deadline, deadline);
  }
  program(clock);
  pthread_mutex_unlock(&clock->lock);
}

void vmr_timer_cancel(vmr_timer *timer) { vmr_timer_arm(timer, VMR_NEVER); }

uint64_t vmr_timer_deadline(const vmr_timer *timer) { return atomic_load(&timer->deadline); }

int vmr_timer_new(vmr_machine *machine, void (*expired)(void *opaque), void *opaque, vmr_timer **out) {
  *out = NULL;
  vmr_timer *timer = malloc(sizeof *timer);
  if (!timer) return vmr_fail(machine, ENOMEM, "out of memory");
  vmr_timer_init(timer, &machine->clock, expired, opaque);
  int rc = vmr_on_free(machine, free, timer);
  if (rc) {
    free(timer);
    return rc;
  }
  *out = timer;
  return 0;
}

/* Fire what is due at `until`. A virtual clock stands at each timer's deadline meanwhile. */
static void fire(vmr_clock *clock, uint64_t until) {
  pthread_mutex_lock(&clock->lock);
  while (clock->timers && atomic_load(&clock->timers->deadline) <= until) {
    vmr_timer *timer = clock->timers;
    uint64_t deadline = atomic_load(&timer->deadline);
    unlink_timer(clock, timer);
    if (clock->is_virtual && deadline > vmr_clock_now(clock)) set(clock, false, deadline);
    pthread_mutex_unlock(&clock->lock);
    timer->expired(timer->opaque);
    pthread_mutex_lock(&clock->lock);
  }
  program(clock);
  pthread_mutex_unlock(&clock->lock);
}

static void on_fd(void *opaque, uint32_t events) {
  vmr_clock *clock = opaque;
  uint64_t expirations;
  (void)events;
  if (read(clock->fd, &expirations, sizeof expirations) < 0) return; /* armed anew meanwhile */
  pthread_mutex_lock(&clock->lock);
  clock->programmed = VMR_NEVER;
  pthread_mutex_unlock(&clock->lock);
  fire(clock, vmr_clock_now(clock));
}

/* ---- running and standing ---------------------------------------------------------------------------------------- */

static void tell(const vmr_clock *clock) {
  for (vmr_clock_watcher *watcher = clock->watchers; watcher; watcher = watcher->next) watcher->changed(watcher->opaque);
}

void vmr_clock_watch(vmr_clock *clock, vmr_clock_watcher *watcher) {
  pthread_mutex_lock(&clock->lock);
  watcher->next = clock->watchers;
  clock->watchers = watcher;
  pthread_mutex_unlock(&clock->lock);
}

/* With the lock: run where it may. */
static void settle(vmr_clock *clock) {
  bool run = clock->begun && !clock->held && !clock->is_virtual;
  if (run == atomic_load(&clock->running)) return;
  uint64_t now = vmr_clock_now(clock);
  set(clock, run, run ? vmr_host_ns() - now : now);
  program(clock);
}

void vmr_clock_begin(vmr_clock *clock) {
  if (atomic_load_explicit(&clock->running, memory_order_relaxed)) return; /* at each entry of a vCPU */
  pthread_mutex_lock(&clock->lock);
  bool fresh = !clock->begun;
  if (fresh && !clock->is_virtual) atomic_store(&clock->base, day_of_host());
  clock->begun = true;
  settle(clock);
  pthread_mutex_unlock(&clock->lock);
  if (fresh) tell(clock);
}

static void hold(vmr_clock *clock, bool held) {
  pthread_mutex_lock(&clock->lock);
  clock->held = held;
  settle(clock);
  pthread_mutex_unlock(&clock->lock);
  tell(clock);
}

void vmr_clock_hold(vmr_clock *clock) { hold(clock, true); }
void vmr_clock_release(vmr_clock *clock) { hold(clock, false); }

int vmr_clock_make_virtual(vmr_clock *clock, uint64_t day) {
  pthread_mutex_lock(&clock->lock);
  bool begun = clock->begun;
  if (!begun) {
    clock->is_virtual = true;
    atomic_store(&clock->base, day);
  }
  pthread_mutex_unlock(&clock->lock);
  return begun ? vmr_fail(clock->machine, EBUSY, "a clock that has begun cannot become virtual") : 0;
}

/* ---- a virtual clock --------------------------------------------------------------------------------------------- */

typedef struct advance {
  vmr_io_task task;
  vmr_clock *clock;
  uint64_t until;
  pthread_mutex_t lock;
  pthread_cond_t done;
  bool is_done;
} advance;

static void advance_to(vmr_clock *clock, uint64_t until) {
  fire(clock, until);
  pthread_mutex_lock(&clock->lock);
  set(clock, false, until);
  pthread_mutex_unlock(&clock->lock);
  tell(clock);
}

static void on_advance(void *opaque) {
  advance *asked = opaque;
  advance_to(asked->clock, asked->until);
  pthread_mutex_lock(&asked->lock);
  asked->is_done = true;
  pthread_cond_signal(&asked->done);
  pthread_mutex_unlock(&asked->lock);
}

int vmr_clock_advance(vmr_clock *clock, uint64_t ns) {
  vmr_machine *machine = clock->machine;
  if (!clock->is_virtual) return vmr_fail(machine, EINVAL, "the clock is real: it advances by itself");
  if (vmr_io_is_here(machine)) return vmr_fail(machine, EDEADLK, "a timer cannot advance its clock");
  advance asked = {.clock = clock, .until = vmr_clock_now(clock) + ns, .lock = PTHREAD_MUTEX_INITIALIZER,
                   .done = PTHREAD_COND_INITIALIZER};
  if (!machine->started) {
    advance_to(clock, asked.until);
    return 0;
  }
  asked.task = (vmr_io_task){.run = on_advance, .opaque = &asked};
  vmr_io_post(machine, &asked.task);
  pthread_mutex_lock(&asked.lock);
  while (!asked.is_done) pthread_cond_wait(&asked.done, &asked.lock);
  pthread_mutex_unlock(&asked.lock);
  return 0;
}

/* ---- its state: the time, and the base; each device's timers are the device's -------------------------------------- */

static const char *state_lock(void *object) {
  vmr_clock *clock = object;
  pthread_mutex_lock(&clock->lock);
  clock->now = vmr_clock_now(clock);
  return NULL;
}

static void state_unlock(void *object) { pthread_mutex_unlock(&((vmr_clock *)object)->lock); }

static void state_loaded(void *object) {
  vmr_clock *clock = object;
  bool running = atomic_load(&clock->running);
  clock->begun |= clock->now != 0;
  set(clock, running, running ? vmr_host_ns() - clock->now : clock->now);
  program(clock);
}

static const vmr_field state_fields[] = {VMR_FIELD(vmr_clock, now, INT64_MAX), VMR_FIELD(vmr_clock, base, VMR_ANY)};
static const vmr_state_ops state_ops = {"clock", 1, state_lock, state_unlock, NULL, state_loaded};

/* ---- its life ---------------------------------------------------------------------------------------------------- */

int vmr_clock_init(vmr_machine *machine) {
  vmr_clock *clock = &machine->clock;
  clock->machine = machine;
  clock->programmed = VMR_NEVER;
  atomic_store(&clock->base, day_of_host());
  clock->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (clock->fd < 0) return -errno;
  pthread_mutex_init(&clock->lock, NULL);
  int rc = vmr_io_add(machine, clock->fd, EPOLLIN, on_fd, clock);
  vmr_part part = {NULL, -1, clock, VMR_FIELDS(state_fields)};
  if (!rc) rc = vmr_state_add(machine, &state_ops, clock, &part, 1);
  if (rc) vmr_clock_fini(machine);
  return rc;
}

void vmr_clock_fini(vmr_machine *machine) {
  close(machine->clock.fd);
  pthread_mutex_destroy(&machine->clock.lock);
}
