#define _GNU_SOURCE
#include "outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#define FLUSH_BYTES 256u /* write on the vCPU's thread from this fill on, or at a line's end; else the timer does */
#define FLUSH_NS 2000000
#define KEPT_FREE (4 * VMR_OUTLET_FIFO) /* for UARTs whose drivers were told that a FIFO has room */

struct vmr_outlet {
  vmr_outlet *next; /* of the machine's */
  vmr_machine *machine;
  vmr_outlet_user *users; /* none joins once the machine has started */
  bool shared;            /* device and inode tell the open file from every other */
  dev_t device;
  ino_t inode;
  pthread_mutex_t lock;
  vmr_stream stream;
  vmr_timer timer;
  bool timer_armed, watched, waits; /* waits: epoll looks at the descriptor, which takes no more */
  atomic_int errnum;
  uint32_t at;
  _Atomic uint32_t count; /* changed with the lock */
  uint8_t bytes[VMR_OUTLET_BYTES];
};

/* ---- with the lock ----------------------------------------------------------------------------------------------- */

static void set_count(vmr_outlet *outlet, uint32_t count) {
  atomic_store_explicit(&outlet->count, count, memory_order_relaxed);
}

static void flush(vmr_outlet *outlet) {
  uint32_t count;
  while ((count = vmr_outlet_waiting(outlet))) {
    uint32_t at = outlet->at;
    uint32_t first = at + count > VMR_OUTLET_BYTES ? VMR_OUTLET_BYTES - at : count;
    struct iovec iov[2] = {{outlet->bytes + at, first}, {outlet->bytes, count - first}};
    ssize_t put = outlet->errnum ? (ssize_t)count : vmr_stream_write(&outlet->stream, iov, first < count ? 2 : 1);
    if (put == -EAGAIN || put == 0) break;
    if (put < 0) {
      outlet->errnum = (int)-put; /* nobody reads any more: the guest's bytes are dropped from here on */
      continue;
    }
    outlet->at = (at + (uint32_t)put) % VMR_OUTLET_BYTES;
    set_count(outlet, count - (uint32_t)put);
  }
  bool waits = count != 0;
  if (outlet->watched && waits != outlet->waits) {
    vmr_io_modify(outlet->machine, outlet->stream.fd, waits ? EPOLLOUT : 0);
    outlet->waits = waits;
  }
}

static void append(vmr_outlet *outlet, const uint8_t *bytes, uint32_t size) {
  uint32_t count = vmr_outlet_waiting(outlet), end = (outlet->at + count) % VMR_OUTLET_BYTES;
  uint32_t first = size < VMR_OUTLET_BYTES - end ? size : VMR_OUTLET_BYTES - end;
  memcpy(outlet->bytes + end, bytes, first);
  memcpy(outlet->bytes, bytes + first, size - first);
  set_count(outlet, count + size);
}

/* ---- on the I/O thread ------------------------------------------------------------------------------------------- */

static void tell(const vmr_outlet *outlet) {
  for (vmr_outlet_user *user = outlet->users; user; user = user->next) user->moved(user->opaque);
}

static void on_room(void *opaque, uint32_t events) {
  vmr_outlet *outlet = opaque;
  (void)events;
  pthread_mutex_lock(&outlet->lock);
  flush(outlet);
  pthread_mutex_unlock(&outlet->lock);
  tell(outlet);
}

static void on_timer(void *opaque) {
  vmr_outlet *outlet = opaque;
  pthread_mutex_lock(&outlet->lock);
  outlet->timer_armed = false;
  flush(outlet);
  pthread_mutex_unlock(&outlet->lock);
  tell(outlet);
}

static bool idle(void *opaque) {
  vmr_outlet *outlet = opaque;
  pthread_mutex_lock(&outlet->lock);
  if (!outlet->waits) flush(outlet);
  bool idle = !vmr_outlet_waiting(outlet);
  pthread_mutex_unlock(&outlet->lock);
  return idle;
}

/* ---- what devices call ------------------------------------------------------------------------------------------- */

bool vmr_outlet_put(vmr_outlet *outlet, uint8_t byte) {
  if (!outlet) return true;
  pthread_mutex_lock(&outlet->lock);
  uint32_t count = vmr_outlet_waiting(outlet);
  bool room = count < VMR_OUTLET_BYTES;
  if (room) {
    outlet->bytes[(outlet->at + count) % VMR_OUTLET_BYTES] = byte;
    set_count(outlet, count + 1);
  }
  if (room && (byte == '\n' || count + 1 >= FLUSH_BYTES)) {
    if (!outlet->waits) flush(outlet);
  } else if (room && !outlet->timer_armed) {
    outlet->timer_armed = true;
    vmr_timer_arm(&outlet->timer, vmr_clock_now(outlet->timer.clock) + FLUSH_NS);
  }
  pthread_mutex_unlock(&outlet->lock);
  return room;
}

uint32_t vmr_outlet_write(vmr_outlet *outlet, const void *bytes, uint64_t size) {
  const uint32_t limit = VMR_OUTLET_BYTES - KEPT_FREE;
  if (!outlet) return size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
  pthread_mutex_lock(&outlet->lock);
  if (!outlet->waits) flush(outlet);
  uint32_t count = vmr_outlet_waiting(outlet), room = count < limit ? limit - count : 0;
  uint32_t taken = size < room ? (uint32_t)size : room;
  append(outlet, bytes, taken);
  if (!outlet->waits) flush(outlet);
  pthread_mutex_unlock(&outlet->lock);
  return taken;
}

uint32_t vmr_outlet_waiting(const vmr_outlet *outlet) {
  return outlet ? atomic_load_explicit(&outlet->count, memory_order_relaxed) : 0;
}

int vmr_outlet_errno(const vmr_outlet *outlet) { return outlet ? atomic_load(&outlet->errnum) : 0; }

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void outlet_free(void *opaque) {
  vmr_outlet *outlet = opaque;
  vmr_stream_close(&outlet->stream);
  pthread_mutex_destroy(&outlet->lock);
  free(outlet);
}

static int attach(vmr_outlet *outlet, int fd) {
  vmr_machine *machine = outlet->machine;
  int rc = vmr_stream_open(machine, &outlet->stream, fd, true);
  if (rc) return rc;
  rc = vmr_io_add(machine, outlet->stream.fd, 0, on_room, outlet);
  outlet->watched = !rc;
  return rc ? rc : vmr_on_drain(machine, idle, outlet);
}

static int make(vmr_machine *machine, int fd, const struct stat *file, vmr_outlet **out) {
  vmr_outlet *outlet = calloc(1, sizeof *outlet);
  if (!outlet) return vmr_fail(machine, ENOMEM, "out of memory");
  outlet->machine = machine;
  outlet->stream.fd = -1;
  vmr_timer_init(&outlet->timer, vmr_machine_clock(machine), on_timer, outlet);
  outlet->shared = S_ISFIFO(file->st_mode) || S_ISSOCK(file->st_mode); /* two terminals may be one inode: ptmx */
  outlet->device = file->st_dev;
  outlet->inode = file->st_ino;
  pthread_mutex_init(&outlet->lock, NULL);
  int rc = vmr_on_free(machine, outlet_free, outlet);
  if (rc) {
    outlet_free(outlet);
    return rc;
  }
  rc = attach(outlet, fd);
  if (rc) return rc;
  outlet->next = *vmr_outlets(machine);
  *vmr_outlets(machine) = outlet;
  *out = outlet;
  return 0;
}

int vmr_outlet_open(vmr_machine *machine, int fd, vmr_outlet_user *user, vmr_outlet **out) {
  *out = NULL;
  if (fd < 0) return 0;
  struct stat file;
  if (fstat(fd, &file) < 0) {
    int errnum = errno;
    return vmr_fail(machine, errnum, "fd %d: %s", fd, strerror(errnum));
  }
  vmr_outlet *known = *vmr_outlets(machine);
  while (known && !(known->shared && known->device == file.st_dev && known->inode == file.st_ino)) known = known->next;
  int rc = known ? 0 : make(machine, fd, &file, &known);
  if (rc) return rc;
  if (user) {
    user->next = known->users;
    known->users = user;
  }
  *out = known;
  return 0;
}
