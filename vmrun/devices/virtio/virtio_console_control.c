/* The control queues of virtio-console (Virtual I/O Device 1.2, section 5.3.6.2): ports appear, are named, open, close. */
#include <string.h>

#include "virtio_console.h"

typedef struct control {
  uint32_t id;
  uint16_t event, value;
} control;

static void wrong(vmr_virtio_console *console, const char *what) {
  vmr_guest_did_wrong(console->virtio.machine, VMR_CONSOLE_NAME, what);
}

/* The message for one owed kind, into bytes (room for a control and a name); returns its size, 0: nothing to say. */
static size_t compose(const vmr_port *port, uint32_t kind, uint8_t *bytes) {
  static const uint16_t events[OWED_KINDS] = {VMR_VIRTIO_CONSOLE_PORT_ADD, VMR_VIRTIO_CONSOLE_CONSOLE_PORT,
                                              VMR_VIRTIO_CONSOLE_RESIZE, VMR_VIRTIO_CONSOLE_PORT_NAME,
                                              VMR_VIRTIO_CONSOLE_PORT_OPEN};
  control message = {port->index, events[kind], 1};
  size_t extra = 0;
  if (kind == OWED_RESIZE) { /* columns first, as the specification has it; Linux before 6.15 took them for rows */
    uint16_t size[2] = {port->console->config.cols, port->console->config.rows};
    if (!size[0] || !size[1]) return 0;
    memcpy(bytes + sizeof message, size, extra = sizeof size);
  } else if (kind == OWED_NAME) {
    extra = strlen(port->name); /* without its NUL */
    if (!extra) return 0;
    memcpy(bytes + sizeof message, port->name, extra);
  } else if (kind == OWED_OPEN) {
    message.value = !port->in_given || !port->in_ended || port->flags & VMR_PORT_CONSOLE;
  }
  memcpy(bytes, &message, sizeof message);
  return sizeof message + extra;
}

/* Send one message if the driver has a buffer for it; false: it has none. */
static bool send(vmr_virtio_console *console, const uint8_t *bytes, size_t size) {
  vmr_virtq *queue = &console->virtio.queues[VMR_CONSOLE_CONTROL_RX];
  vmr_chain *chain = &console->chain;
  if (!vmr_virtq_pop(&console->virtio, queue, chain)) return false;
  size_t written = 0;
  if (chain->writable_bytes >= size)
    written = vmr_iov_write(chain->iov + chain->readable, chain->writable, 0, bytes, size);
  else
    wrong(console, "control buffer too small for a message");
  vmr_virtq_push(&console->virtio, queue, chain, written);
  return true;
}

static void pay(vmr_virtio_console *console) {
  vmr_virtq *queue = &console->virtio.queues[VMR_CONSOLE_CONTROL_RX];
  uint8_t bytes[sizeof(control) + VMR_CONSOLE_PORT_NAME];
  bool room = true;
  for (uint32_t i = 0; i < console->port_count && room; i++) {
    vmr_port *port = &console->ports[i];
    for (uint32_t kind = 0; kind < OWED_KINDS && room; kind++) {
      if (!(port->owed >> kind & 1)) continue;
      size_t size = compose(port, kind, bytes);
      room = !size || send(console, bytes, size);
      if (room) port->owed &= ~(1u << kind);
    }
  }
  vmr_virtq_signal(&console->virtio, queue);
  if (!room && vmr_virtq_arm(&console->virtio, queue)) vmr_console_post(console);
}

static void obey_port(vmr_virtio_console *console, const control *message) {
  if (message->id >= console->port_count || !console->ports[message->id].wired) {
    wrong(console, "control message about a port that is not there");
    return;
  }
  vmr_port *port = &console->ports[message->id];
  if (message->event == VMR_VIRTIO_CONSOLE_PORT_OPEN) {
    vmr_console_guest_open(port, message->value != 0);
  } else if (message->value) {
    bool terminal = port->flags & VMR_PORT_CONSOLE;
    bool sized = terminal && vmr_virtio_accepted(&console->virtio, VMR_VIRTIO_CONSOLE_F_SIZE);
    port->owed |= (uint32_t)terminal << OWED_CONSOLE | (uint32_t)sized << OWED_RESIZE | 1u << OWED_NAME | 1u << OWED_OPEN;
  } else {
    wrong(console, "the driver could not set up a port");
  }
}

static void obey(vmr_virtio_console *console, const control *message) {
  switch (message->event) {
    case VMR_VIRTIO_CONSOLE_DEVICE_READY:
      if (!message->value) wrong(console, "the driver could not set up the device");
      for (uint32_t i = 0; message->value && i < console->port_count; i++)
        if (console->ports[i].wired) console->ports[i].owed |= 1u << OWED_ADD;
      break;
    case VMR_VIRTIO_CONSOLE_PORT_READY:
    case VMR_VIRTIO_CONSOLE_PORT_OPEN: obey_port(console, message); break;
    default: wrong(console, "control message of an unknown kind"); break;
  }
}

void vmr_console_control(vmr_virtio_console *console) {
  vmr_virtio *virtio = &console->virtio;
  vmr_virtq *queue = &virtio->queues[VMR_CONSOLE_CONTROL_TX];
  uint32_t left = VMR_VIRTQ_SIZE; /* a driver that refills its queue as it is read has its next turn after others */
  if (!vmr_console_multiport(console)) return;
  do {
    while (left && vmr_virtq_pop(virtio, queue, &console->chain)) {
      left--;
      control message;
      if (vmr_iov_read(console->chain.iov, console->chain.readable, 0, &message, sizeof message) == sizeof message)
        obey(console, &message);
      else
        wrong(console, "control message that is too short");
      vmr_virtq_push(virtio, queue, &console->chain, 0);
    }
  } while (left && vmr_virtq_arm(virtio, queue));
  vmr_virtq_signal(virtio, queue);
  if (!left) vmr_io_post(virtio->machine, &console->task);
  pay(console);
}
