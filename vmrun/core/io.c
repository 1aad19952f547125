/* The machine's one I/O thread: epoll over the devices' file descriptors, and work that vCPUs hand over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

#define BATCH 16

struct vmr_io_entry {
  vmr_io_entry *next;
  vmr_io_entry *next_dead;
  int fd;
  uint32_t events;
  bool polled;       /* epoll knows the fd; not so while events is 0, since a hang-up would wake it for ever */
  bool always_ready; /* epoll refuses the fd: a regular file */
  bool removed;
  vmr_io_ready ready;
  void *opaque;
};

int vmr_io_init(vmr_machine *machine) {
  vmr_io *io = &machine->io;
  io->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (io->epoll < 0) return -errno;
  io->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  if (io->wake < 0 || epoll_ctl(io->epoll, EPOLL_CTL_ADD, io->wake, &event) < 0) {
    int rc = -errno;
    if (io->wake >= 0) close(io->wake);
    close(io->epoll);
    return rc;
  }
  pthread_mutex_init(&io->lock, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&io->progress, &monotonic);
  pthread_condattr_destroy(&monotonic);
  io->tasks_end = &io->tasks;
  vmr_reader_add(machine, &io->reader, false);
  return 0;
}

static void free_dead(vmr_io *io) {
  while (io->dead) {
    vmr_io_entry *entry = io->dead;
    io->dead = entry->next_dead;
    free(entry);
  }
}

void vmr_io_fini(vmr_machine *machine) {
  vmr_io *io = &machine->io;
  free_dead(io);
  while (io->entries) {
    vmr_io_entry *entry = io->entries;
    io->entries = entry->next;
    free(entry);
  }
  close(io->wake);
  close(io->epoll);
  pthread_cond_destroy(&io->progress);
  pthread_mutex_destroy(&io->lock);
}

static void wake(vmr_io *io) {
  uint64_t one = 1;
  ssize_t rc = write(io->wake, &one, sizeof one); /* fails only where it is readable already */
  (void)rc;
}

static bool on_io_thread(const vmr_io *io) { return io->running && pthread_equal(io->thread, pthread_self()); }

bool vmr_io_is_here(const vmr_machine *machine) { return on_io_thread(&machine->io); }

static void signal_progress(vmr_io *io) {
  io->steps++;
  pthread_cond_broadcast(&io->progress);
}

/* Called and left with the lock held. */
static void dispatch(vmr_io *io, vmr_io_entry *entry, uint32_t events) {
  if (entry->removed || !entry->events) return;
  io->current = entry;
  pthread_mutex_unlock(&io->lock);
  vmr_reader_enter(&io->reader);
  entry->ready(entry->opaque, events);
  vmr_reader_leave(&io->reader);
  pthread_mutex_lock(&io->lock);
  io->current = NULL;
  signal_progress(io);
}

static void run_tasks(vmr_io *io) {
  vmr_io_task *task = io->tasks; /* those posted from here on wait for the next round: descriptors get their turn */
  io->tasks = NULL;
  io->tasks_end = &io->tasks;
  while (task) {
    vmr_io_task *next = task->next;
    task->queued = false;
    pthread_mutex_unlock(&io->lock);
    vmr_reader_enter(&io->reader);
    task->run(task->opaque);
    vmr_reader_leave(&io->reader);
    pthread_mutex_lock(&io->lock);
    task = next;
  }
}

static void *io_thread(void *opaque) {
  vmr_io *io = opaque;
  struct epoll_event events[BATCH];
  pthread_mutex_lock(&io->lock);
  while (!io->ending) {
    free_dead(io); /* no batch is in hand, so nothing points to them */
    int timeout = io->always_ready || io->tasks ? 0 : -1;
    signal_progress(io);
    pthread_mutex_unlock(&io->lock);
    int count = epoll_wait(io->epoll, events, BATCH, timeout);
    pthread_mutex_lock(&io->lock);
    for (int i = 0; i < count; i++) {
      uint64_t drained;
      if (events[i].data.ptr)
        dispatch(io, events[i].data.ptr, events[i].events);
      else if (read(io->wake, &drained, sizeof drained) < 0)
        continue;
    }
    for (vmr_io_entry *entry = io->entries; entry && io->always_ready; entry = entry->next)
      if (entry->always_ready) dispatch(io, entry, entry->events);
    run_tasks(io);
  }
  pthread_mutex_unlock(&io->lock);
  return NULL;
}

int vmr_io_start(vmr_machine *machine) {
  vmr_io *io = &machine->io;
  pthread_mutex_lock(&io->lock); /* the thread's first look comes after thread and running are set */
  int rc = vmr_thread_start(machine, &io->thread, "vmrun-io", io_thread, io);
  io->running = !rc;
  pthread_mutex_unlock(&io->lock);
  return rc;
}

void vmr_io_end(vmr_machine *machine) {
  vmr_io *io = &machine->io;
  if (!io->running) return;
  pthread_mutex_lock(&io->lock);
  io->ending = true;
  wake(io);
  pthread_mutex_unlock(&io->lock);
  pthread_join(io->thread, NULL);
  io->running = false;
}

static vmr_io_entry *entry_of(vmr_io *io, int fd) {
  for (vmr_io_entry *entry = io->entries; entry; entry = entry->next)
    if (entry->fd == fd) return entry;
  return NULL;
}

/* Make epoll agree with entry->events. Returns 0 or an errno. */
static int poll_entry(vmr_io *io, vmr_io_entry *entry, uint32_t events) {
  if (entry->always_ready) {
    io->always_ready -= entry->events != 0;
    io->always_ready += events != 0;
    if (events && !entry->events) wake(io);
  } else if (events || entry->polled) {
    struct epoll_event event = {.events = events, .data.ptr = entry};
    int op = !events ? EPOLL_CTL_DEL : entry->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(io->epoll, op, entry->fd, &event) < 0) return errno;
    entry->polled = events != 0;
  }
  entry->events = events;
  return 0;
}

int vmr_io_add(vmr_machine *machine, int fd, uint32_t events, vmr_io_ready ready, void *opaque) {
  vmr_io *io = &machine->io;
  vmr_io_entry *entry = calloc(1, sizeof *entry);
  if (!entry) return vmr_fail(machine, ENOMEM, "out of memory");
  *entry = (vmr_io_entry){.fd = fd, .ready = ready, .opaque = opaque};
  pthread_mutex_lock(&io->lock);
  int rc = entry_of(io, fd) ? EEXIST : 0;
  if (!rc) { /* ask once with a harmless mask, so that a file that epoll refuses is known even if events is 0 */
    struct epoll_event probe = {.events = 0, .data.ptr = entry};
    entry->polled = epoll_ctl(io->epoll, EPOLL_CTL_ADD, fd, &probe) == 0;
    entry->always_ready = !entry->polled && errno == EPERM;
    rc = entry->polled || entry->always_ready ? poll_entry(io, entry, events) : errno;
  }
  if (!rc) {
    entry->next = io->entries;
    io->entries = entry;
  }
  pthread_mutex_unlock(&io->lock);
  if (!rc) return 0;
  free(entry);
  return vmr_fail(machine, rc, "watching fd %d: %s", fd, strerror(rc));
}

int vmr_io_modify(vmr_machine *machine, int fd, uint32_t events) {
  vmr_io *io = &machine->io;
  pthread_mutex_lock(&io->lock);
  vmr_io_entry *entry = entry_of(io, fd);
  int rc = !entry ? ENOENT : entry->events == events ? 0 : poll_entry(io, entry, events);
  pthread_mutex_unlock(&io->lock);
  return -rc;
}

int vmr_io_remove(vmr_machine *machine, int fd) {
  vmr_io *io = &machine->io;
  pthread_mutex_lock(&io->lock);
  vmr_io_entry *entry = entry_of(io, fd);
  if (!entry) {
    pthread_mutex_unlock(&io->lock);
    return -ENOENT;
  }
  poll_entry(io, entry, 0);
  entry->removed = true;
  vmr_io_entry **link = &io->entries;
  while (*link != entry) link = &(*link)->next;
  *link = entry->next;
  entry->next_dead = io->dead;
  io->dead = entry;
  while (io->current == entry && !on_io_thread(io)) pthread_cond_wait(&io->progress, &io->lock);
  pthread_mutex_unlock(&io->lock);
  return 0;
}

void vmr_io_post(vmr_machine *machine, vmr_io_task *task) {
  vmr_io *io = &machine->io;
  pthread_mutex_lock(&io->lock);
  bool fresh = !task->queued;
  if (fresh) {
    task->queued = true;
    task->next = NULL;
    *io->tasks_end = task;
    io->tasks_end = &task->next;
  }
  if (fresh && !on_io_thread(io)) wake(io);
  pthread_mutex_unlock(&io->lock);
}

void vmr_io_progress(vmr_machine *machine) {
  pthread_mutex_lock(&machine->io.lock);
  signal_progress(&machine->io);
  pthread_mutex_unlock(&machine->io.lock);
}

static bool all_idle(vmr_machine *machine) {
  vmr_reader visit;
  bool idle = true;
  vmr_visit(machine, &visit, false);
  for (size_t i = 0; i < machine->on_drain.count && idle; i++)
    idle = machine->on_drain.items[i].idle(machine->on_drain.items[i].device);
  vmr_visit_end(&visit);
  return idle;
}

int vmr_machine_drain(vmr_machine *machine, int timeout_ms) {
  vmr_io *io = &machine->io;
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += timeout_ms / 1000;
  until.tv_nsec += timeout_ms % 1000 * 1000000L;
  if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
  int rc = 0;
  pthread_mutex_lock(&io->lock);
  while (io->running && !rc) {
    uint64_t steps = io->steps;
    pthread_mutex_unlock(&io->lock);
    bool idle = all_idle(machine);
    pthread_mutex_lock(&io->lock);
    if (idle) break;
    while (io->steps == steps && !rc)
      rc = timeout_ms < 0 ? pthread_cond_wait(&io->progress, &io->lock)
                          : pthread_cond_timedwait(&io->progress, &io->lock, &until);
  }
  pthread_mutex_unlock(&io->lock);
  return rc ? vmr_fail(machine, ETIMEDOUT, "a reader of the guest's output does not read: gave up after %d ms", timeout_ms)
            : 0;
}
