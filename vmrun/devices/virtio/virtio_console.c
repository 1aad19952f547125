/* virtio-console (Virtual I/O Device 1.2, section 5.3): ports that move bytes between the guest and host descriptors.
 *
 * Small writes of the guest go out on its vCPU's own thread: Linux's hvc spins until the buffer comes back. Whatever
 * could take longer, or waits for the host, is the I/O thread's. No byte is copied but by the kernel, and none is lost:
 * a buffer stays with the device until the host took all of it. */
#include "virtio_console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define INLINE_BYTES 65536u /* sent on a vCPU's thread before the rest is left to the I/O thread */
#define TURN_BYTES (1u << 20) /* sent on the I/O thread before others have their turn */
#define LAST_BYTES (16u << 20) /* sent after the vCPUs stand: a queue of Linux holds less */
#define BUFFER_BYTES 256u     /* what a buffer counts for besides its bytes: one may be empty */

uint32_t vmr_console_rx_queue(const vmr_port *port) { return port->index ? 2 * port->index + 2 : 0; }

static vmr_virtq *rx_queue(vmr_port *port) { return &port->console->virtio.queues[vmr_console_rx_queue(port)]; }
static vmr_virtq *tx_queue(vmr_port *port) { return &port->console->virtio.queues[vmr_console_rx_queue(port) + 1]; }

bool vmr_console_multiport(const vmr_virtio_console *console) {
  return vmr_virtio_accepted(&console->virtio, VMR_VIRTIO_CONSOLE_F_MULTIPORT);
}

void vmr_console_post(vmr_virtio_console *console) {
  console->task_due = true;
  vmr_io_post(console->virtio.machine, &console->task);
}

/* ---- guest to host --------------------------------------------------------------------------------------------------- */

static void watch_out(vmr_port *port, bool wait) {
  if (port->out_waits == wait || port->out.fd < 0) return;
  port->out_waits = wait;
  vmr_io_modify(port->console->virtio.machine, port->out.fd, wait ? EPOLLOUT : 0);
}

static void spend(uint64_t *budget, uint64_t bytes) { *budget -= bytes < *budget ? bytes : *budget; }

/* Write the rest of the buffer in hand; true when it is done with, false when the host takes no more, or the budget is used
 * up. Where nobody takes bytes, they are dropped. */
static bool send_chain(vmr_port *port, uint64_t *budget) {
  struct iovec rest[VMR_VIRTQ_SIZE];
  while (port->sent < port->tx.readable_bytes && port->out.fd >= 0 && !port->out_errno) {
    uint32_t count = vmr_iov_slice(port->tx.iov, port->tx.readable, port->sent, *budget, rest);
    ssize_t put = count ? vmr_stream_write(&port->out, rest, (int)count) : 0;
    if (put == -EAGAIN || put == 0) return false;
    if (put < 0) {
      port->out_errno = (int)-put;
      break;
    }
    spend(budget, (uint64_t)put);
    port->sent += (uint64_t)put;
    port->tx_bytes += (uint64_t)put;
  }
  return true;
}

/* Send until the queue is empty, the host takes no more, or the budget is used up. */
static void send_queue(vmr_port *port, uint64_t *budget) {
  vmr_virtio *virtio = &port->console->virtio;
  vmr_virtq *queue = tx_queue(port);
  if (port->sending) port->sending = vmr_chain_renew(virtio, &port->tx);
  do {
    while (*budget && (port->sending || vmr_virtq_pop(virtio, queue, &port->tx))) {
      if (!port->sending) port->sent = 0;
      port->sending = !send_chain(port, budget);
      if (port->sending) return;
      vmr_virtq_push(virtio, queue, &port->tx, 0);
      spend(budget, BUFFER_BYTES);
    }
  } while (*budget && vmr_virtq_arm(virtio, queue));
}

/* Once the vCPUs are told to stand, a port sends no more than `last_words`: what a guest queues has no other end. */
static uint64_t allowance(vmr_port *port, uint64_t budget) {
  if (!vmr_machine_stopping(port->console->virtio.machine) || budget < port->last_words) return budget;
  return port->last_words;
}

static void dry_up(vmr_port *port) {
  if (!port->out_errno) vmr_guest_did_wrong(port->console->virtio.machine, VMR_CONSOLE_NAME, "output without an end");
  port->out_errno = EFBIG;
  port->sending = false;
}

/* Send at most budget bytes; true: there is more to do now. */
static bool tx_pump(vmr_port *port, uint64_t budget) {
  vmr_virtio *virtio = &port->console->virtio;
  uint64_t given = allowance(port, budget), left = given;
  send_queue(port, &left);
  if (vmr_machine_stopping(virtio->machine)) spend(&port->last_words, given - left);
  if (!port->last_words) dry_up(port);
  watch_out(port, port->sending && left);
  vmr_virtq_signal(virtio, tx_queue(port));
  if (!left && port->last_words) return true;
  if (port->hangup_due && !port->sending) vmr_console_post(port->console);
  return false;
}

static void on_out(void *opaque, uint32_t events) {
  vmr_port *port = opaque;
  (void)events;
  pthread_mutex_lock(&port->console->virtio.lock);
  if (tx_pump(port, TURN_BYTES)) vmr_console_post(port->console);
  pthread_mutex_unlock(&port->console->virtio.lock);
}

/* On the I/O thread alone, as the callback of the descriptor must not be running elsewhere. */
static void hang_up(vmr_port *port) {
  port->hangup_due = false;
  if (port->out.fd < 0) return;
  vmr_io_remove(port->console->virtio.machine, port->out.fd);
  vmr_stream_close(&port->out);
  port->out_waits = false;
}

/* ---- host to guest --------------------------------------------------------------------------------------------------- */

static void watch_in(vmr_port *port, bool watch) {
  if (port->in_watched == watch || port->in_ended) return;
  port->in_watched = watch;
  vmr_io_modify(port->console->virtio.machine, port->in.fd, watch ? EPOLLIN : 0);
}

static void end_input(vmr_port *port) {
  vmr_virtio_console *console = port->console;
  vmr_io_remove(console->virtio.machine, port->in.fd);
  vmr_stream_close(&port->in);
  port->in_ended = true;
  port->in_watched = false;
  if (port->flags & VMR_PORT_CONSOLE) return; /* a terminal has no end, and a closed port takes no output either */
  port->owed |= 1u << OWED_OPEN;
  vmr_console_control(console);
}

/* One read fills one buffer, or the beginning of a large one: a descriptor that polled readable gives that much without
 * blocking. */
static ssize_t receive(vmr_port *port, const vmr_chain *chain) {
  struct iovec room[VMR_VIRTQ_SIZE];
  uint32_t count = vmr_iov_slice(chain->iov + chain->readable, chain->writable, 0, TURN_BYTES, room);
  return count ? vmr_stream_read(&port->in, room, (int)count) : -EAGAIN;
}

static void on_in(void *opaque, uint32_t events) {
  vmr_port *port = opaque;
  vmr_virtio *virtio = &port->console->virtio;
  vmr_virtq *queue = rx_queue(port);
  vmr_chain *chain = &port->console->chain;
  (void)events;
  pthread_mutex_lock(&virtio->lock);
  if (port->in_ended || !port->guest_open || !vmr_virtq_waiting(virtio, queue)) {
    watch_in(port, false);
    if (vmr_virtq_arm(virtio, queue) && port->guest_open) watch_in(port, true);
  } else if (vmr_virtq_pop(virtio, queue, chain)) {
    ssize_t got = receive(port, chain);
    if (!chain->writable_bytes) vmr_guest_did_wrong(virtio->machine, VMR_CONSOLE_NAME, "receive buffer without room");
    if (got > 0) {
      port->rx_bytes += (uint64_t)got;
      vmr_virtq_push(virtio, queue, chain, (uint64_t)got);
      vmr_virtq_signal(virtio, queue);
    } else if (chain->writable_bytes) {
      queue->last_avail--; /* the buffer is unused: give it to the next byte */
      if (got != -EAGAIN) end_input(port);
    } else {
      vmr_virtq_push(virtio, queue, chain, 0);
    }
  }
  pthread_mutex_unlock(&virtio->lock);
}

/* ---- device ------------------------------------------------------------------------------------------------------------ */

void vmr_console_guest_open(vmr_port *port, bool open) {
  port->guest_open = open;
  if (open) watch_in(port, true);
  port->hangup_due = !open && port->flags & VMR_PORT_HANGUP;
  if (port->hangup_due) vmr_console_post(port->console);
}

static vmr_port *port_of(vmr_virtio_console *console, uint32_t queue) {
  uint32_t index = queue < 2 ? 0 : queue / 2 - 1;
  vmr_port *port = &console->ports[index];
  return index < console->port_count && port->wired ? port : NULL;
}

static void console_notify(void *device, uint32_t queue) {
  vmr_virtio_console *console = device;
  if (queue == VMR_CONSOLE_CONTROL_RX || queue == VMR_CONSOLE_CONTROL_TX) {
    vmr_console_post(console);
    return;
  }
  vmr_port *port = port_of(console, queue);
  if (!port) return;
  if (!vmr_console_multiport(console)) port->guest_open = true;
  if (queue % 2 == 0) {
    if (port->guest_open) watch_in(port, true);
  } else if (!port->out_waits && tx_pump(port, INLINE_BYTES)) {
    vmr_console_post(console);
  }
}

static void console_task(void *opaque) {
  vmr_virtio_console *console = opaque;
  pthread_mutex_lock(&console->virtio.lock);
  console->task_due = false;
  vmr_console_control(console);
  for (uint32_t i = 0; i < console->port_count; i++) {
    vmr_port *port = &console->ports[i];
    if (!port->wired) continue;
    if (!port->out_waits && tx_pump(port, TURN_BYTES)) vmr_console_post(console);
    if (port->hangup_due && !port->sending) hang_up(port);
  }
  pthread_mutex_unlock(&console->virtio.lock);
}

/* A buffer in hand dies with its queue, as the driver takes its memory back. */
static void console_stop(void *device, uint32_t queue) {
  vmr_virtio_console *console = device;
  if (queue == VMR_CONSOLE_CONTROL_RX || queue == VMR_CONSOLE_CONTROL_TX) return;
  vmr_port *port = port_of(console, queue);
  if (!port) return;
  if (queue % 2) {
    port->sending = false;
    watch_out(port, false);
  } else {
    watch_in(port, false);
  }
}

static void console_reset(void *device) {
  vmr_virtio_console *console = device;
  for (uint32_t i = 0; i < console->port_count; i++) {
    console->ports[i].guest_open = console->ports[i].hangup_due = false;
    console->ports[i].owed = 0;
  }
}

static const vmr_virtio_ops ops = {.name = VMR_CONSOLE_NAME,
                                   .device_id = VMR_VIRTIO_ID_CONSOLE,
                                   .notify = console_notify,
                                   .stop = console_stop,
                                   .reset = console_reset};

static bool console_idle(void *device) {
  vmr_virtio_console *console = device;
  bool idle = true;
  pthread_mutex_lock(&console->virtio.lock);
  for (uint32_t i = 0; i < console->port_count; i++) {
    vmr_port *port = &console->ports[i];
    /* what was queued without a notification, too */
    bool more = port->wired && !port->out_waits && tx_pump(port, TURN_BYTES);
    if (more) vmr_io_post(console->virtio.machine, &console->task);
    idle &= !more && !port->sending && !port->hangup_due;
  }
  pthread_mutex_unlock(&console->virtio.lock);
  return idle;
}

/* ---- state ------------------------------------------------------------------------------------------------------------- */

static const char *state_lock(void *object) { return vmr_virtio_state_lock(&((vmr_virtio_console *)object)->virtio); }
static void state_unlock(void *object) { vmr_virtio_state_unlock(&((vmr_virtio_console *)object)->virtio); }

/* A buffer that was being sent is described once more, in the console's scratch. */
static const char *check_port(vmr_port *port) {
  vmr_virtio_console *console = port->console;
  const vmr_virtq *queue = tx_queue(port);
  if (!port->sending) return port->wired || !(port->guest_open || port->owed || port->hangup_due) ? NULL : "a port without wires";
  if (!port->wired || !queue->ready) return "a buffer of a port that sends nothing";
  const char *wrong = vmr_virtq_again(&console->virtio, queue, port->tx.head, &console->chain);
  return wrong ? wrong : port->sent > console->chain.readable_bytes ? "more sent than the buffer holds" : NULL;
}

static const char *state_check(void *object) {
  vmr_virtio_console *console = object;
  const char *wrong = vmr_virtio_state_check(&console->virtio);
  for (uint32_t i = 0; i < console->port_count && !wrong; i++) wrong = check_port(&console->ports[i]);
  return wrong;
}

static void port_loaded(vmr_port *port) {
  bool watched = port->in_watched;
  port->in_watched = !watched; /* whatever epoll was told before */
  watch_in(port, watched);
  if (port->in_ended) port->in_watched = false;
  if (port->sending) vmr_virtq_again(&port->console->virtio, tx_queue(port), port->tx.head, &port->tx);
  port->out_waits = !port->sending;
  watch_out(port, port->sending);
  if (port->out.fd < 0) port->out_waits = false;
}

static void state_loaded(void *object) {
  vmr_virtio_console *console = object;
  vmr_virtio_state_loaded(&console->virtio);
  for (uint32_t i = 0; i < console->port_count; i++)
    if (console->ports[i].wired) port_loaded(&console->ports[i]);
  if (console->task_due) vmr_console_post(console);
}

static const vmr_field fields[] = {VMR_FIELD(vmr_virtio_console, task_due, 1)};
static const vmr_field config_fields[] = {VMR_FIELD(vmr_console_config, cols, VMR_ANY),
                                          VMR_FIELD(vmr_console_config, rows, VMR_ANY)};
static const vmr_field port_fields[] = {
    VMR_FIELD(vmr_port, guest_open, 1), VMR_FIELD(vmr_port, hangup_due, 1),      VMR_BITS(vmr_port, owed, (1u << OWED_KINDS) - 1),
    VMR_FIELD(vmr_port, in_watched, 1), VMR_FIELD(vmr_port, sending, 1),         VMR_FIELD(vmr_port, sent, VMR_ANY),
    VMR_FIELD(vmr_port, tx.head, VMR_ANY)};
static const vmr_state_ops state_ops = {VMR_CONSOLE_NAME, 1, state_lock, state_unlock, state_check, state_loaded};

static int declare_state(vmr_virtio_console *console) {
  vmr_part parts[VMR_CONSOLE_PORTS + 2] = {{NULL, -1, console, VMR_FIELDS(fields)},
                                           {"config", -1, &console->config, VMR_FIELDS(config_fields)}};
  for (uint32_t i = 0; i < console->port_count; i++)
    parts[i + 2] = (vmr_part){"port", (int)i, &console->ports[i], VMR_FIELDS(port_fields)};
  return vmr_virtio_state_add(&console->virtio, &state_ops, parts, console->port_count + 2);
}

/* ---- life -------------------------------------------------------------------------------------------------------------- */

static void console_free(void *device) {
  vmr_virtio_console *console = device;
  for (uint32_t i = 0; i < console->port_count; i++) {
    vmr_stream_close(&console->ports[i].in);
    vmr_stream_close(&console->ports[i].out);
  }
  vmr_virtio_fini(&console->virtio);
  free(console);
}

int vmr_virtio_console_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, uint32_t ports, uint32_t cols,
                           uint32_t rows, vmr_virtio_console **out) {
  *out = NULL;
  if (!ports || ports > VMR_CONSOLE_PORTS)
    return vmr_fail(machine, EINVAL, VMR_CONSOLE_NAME ": 1 to %d ports", VMR_CONSOLE_PORTS);
  vmr_virtio_console *console = calloc(1, sizeof *console);
  if (!console) return vmr_fail(machine, ENOMEM, "out of memory");
  console->config = (vmr_console_config){(uint16_t)cols, (uint16_t)rows, ports, 0};
  console->port_count = ports;
  console->task = (vmr_io_task){.run = console_task, .opaque = console};
  for (uint32_t i = 0; i < ports; i++) {
    vmr_port *port = &console->ports[i];
    *port = (vmr_port){.console = console, .index = i, .in_ended = true, .in = {.fd = -1}, .out = {.fd = -1},
                       .last_words = LAST_BYTES};
  }
  int rc = vmr_on_free(machine, console_free, console);
  if (rc) {
    console_free(console);
    return rc;
  }
  uint64_t features = 1ull << VMR_VIRTIO_CONSOLE_F_MULTIPORT | 1ull << VMR_VIRTIO_CONSOLE_F_SIZE;
  rc = vmr_virtio_init(&console->virtio, machine, &ops, console, features, 2 * ports + 2, &console->config,
                       sizeof console->config);
  if (!rc) rc = vmr_on_drain(machine, console_idle, console);
  if (!rc) rc = declare_state(console);
  if (!rc) rc = vmr_virtio_mmio_attach(&console->virtio, gpa, size, line);
  if (!rc) *out = console;
  return rc;
}

int vmr_virtio_console_port(vmr_virtio_console *console, uint32_t index, const char *name, uint32_t flags, int in_fd,
                            int out_fd) {
  vmr_machine *machine = console->virtio.machine;
  size_t length = name ? strlen(name) : 0;
  if (index >= console->port_count || console->ports[index].wired || (index && !console->ports[index - 1].wired))
    return vmr_fail(machine, EINVAL, VMR_CONSOLE_NAME ": port %u is not the next one", index);
  if (length >= VMR_CONSOLE_PORT_NAME)
    return vmr_fail(machine, EINVAL, VMR_CONSOLE_NAME ": the name of port %u is longer than %d bytes", index,
                    VMR_CONSOLE_PORT_NAME - 1);
  vmr_port *port = &console->ports[index];
  if (length) memcpy(port->name, name, length);
  port->flags = flags;
  int rc = vmr_stream_open(machine, &port->in, in_fd, false);
  if (!rc) rc = vmr_stream_open(machine, &port->out, out_fd, true);
  if (!rc && port->in.fd >= 0) rc = vmr_io_add(machine, port->in.fd, 0, on_in, port);
  if (!rc && port->out.fd >= 0) rc = vmr_io_add(machine, port->out.fd, 0, on_out, port);
  port->in_given = port->in.fd >= 0;
  port->in_ended = !port->in_given;
  port->wired = !rc;
  return rc;
}

int vmr_virtio_console_resize(vmr_virtio_console *console, uint32_t cols, uint32_t rows) {
  if (cols > UINT16_MAX || rows > UINT16_MAX)
    return vmr_fail(console->virtio.machine, EINVAL, VMR_CONSOLE_NAME ": a size of %ux%u cannot be told", cols, rows);
  pthread_mutex_lock(&console->virtio.lock);
  console->config.cols = (uint16_t)cols;
  console->config.rows = (uint16_t)rows;
  vmr_virtio_config_changed(&console->virtio);
  for (uint32_t i = 0; i < console->port_count; i++)
    if (console->ports[i].flags & VMR_PORT_CONSOLE && console->ports[i].guest_open)
      console->ports[i].owed |= 1u << OWED_RESIZE;
  vmr_console_post(console);
  pthread_mutex_unlock(&console->virtio.lock);
  return 0;
}

int vmr_virtio_console_get_counters(vmr_virtio_console *console, uint32_t index, vmr_virtio_console_counters *state) {
  if (index >= console->port_count) return -EINVAL;
  const vmr_port *port = &console->ports[index];
  pthread_mutex_lock(&console->virtio.lock);
  *state = (vmr_virtio_console_counters){port->guest_open, !port->in_ended, port->out.fd >= 0,
                                           (uint32_t)port->out_errno, port->rx_bytes, port->tx_bytes};
  pthread_mutex_unlock(&console->virtio.lock);
  return 0;
}
