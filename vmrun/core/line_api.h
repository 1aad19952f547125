/* Interrupt lines and messages as values. Read by the compiler and by cffi, like core_api.h.
 *
 * A device is given a line and drives it. It knows neither the controller at the other end nor a number there. */
#ifndef VMR_LINE_API_H
#define VMR_LINE_API_H
#include "core_api.h"

/* A wire to `pin` of a chip. ops NULL: it leads nowhere. Copied freely; good as long as its machine. */
typedef struct vmr_line_ops vmr_line_ops;
typedef struct vmr_line {
  const vmr_line_ops *ops;
  void *chip;
  uint32_t pin;
} vmr_line;
/* Any thread, also with the device's lock held. pulse: an edge. */
void vmr_line_raise(vmr_line line);
void vmr_line_lower(vmr_line line);
void vmr_line_pulse(vmr_line line);

/* Pin `pin` of the machine's interrupt controller. -ENODEV: it has none. -EINVAL: the controller has no such pin. */
int vmr_irqchip_line(vmr_machine *machine, uint32_t pin, vmr_line *line);
/* Interrupt input `input` of the vCPU with this index, as its architecture numbers them. -EINVAL: there is none that a
 * device may drive. */
int vmr_vcpu_line(vmr_machine *machine, uint32_t index, uint32_t input, vmr_line *line);

/* Where message-signalled interrupts go. ops NULL: nowhere. base: the address by which a message reaches the vCPU that the
 * controller counts as 0 (a hart's number, an APIC id); that of the next lies VMR_MSI_STRIDE bytes on. */
typedef struct vmr_msi_ops vmr_msi_ops;
typedef struct vmr_msi {
  const vmr_msi_ops *ops;
  void *chip;
  uint64_t base;
} vmr_msi;
#define VMR_MSI_STRIDE 4096
/* A store of data to address, by the shortest way. Any thread. -EINVAL: nobody takes messages at that address. -EAGAIN:
 * the guest masks it. */
int vmr_msi_send(vmr_msi to, uint64_t address, uint32_t data);
/* The machine's own. -ENODEV: it takes no messages. */
int vmr_machine_msi(vmr_machine *machine, vmr_msi *to);

/* A device's messages: a masked one that is raised stays pending and leaves when it is unmasked (PCI Local Bus 3.0, section
 * 6.8.2). The machine frees the table. Every function below takes any thread. */
typedef struct vmr_messages vmr_messages;
typedef struct vmr_message {
  uint64_t address;
  uint32_t data;
  uint32_t masked;  /* 1 at first */
  uint32_t pending;
} vmr_message;
/* count: 1 to 2048. */
int vmr_messages_new(vmr_machine *machine, uint32_t count, vmr_msi to, vmr_messages **messages);
/* -EINVAL: there is no message of that index. */
int vmr_messages_get(vmr_messages *messages, uint32_t index, vmr_message *message);
int vmr_messages_put(vmr_messages *messages, uint32_t index, uint64_t address, uint32_t data);
int vmr_messages_mask(vmr_messages *messages, uint32_t index, int masked);
/* Mask them all, whatever each one says; at first they are not. */
void vmr_messages_hold(vmr_messages *messages, int held);
int vmr_messages_raise(vmr_messages *messages, uint32_t index);

/* ---- the other end, for tests ----------------------------------------------------------------------------------- */

/* Takes lines and messages and remembers. The machine frees it. */
typedef struct vmr_recorder vmr_recorder;
int vmr_recorder_new(vmr_machine *machine, uint32_t pins, vmr_recorder **recorder);
typedef struct vmr_recorded {
  uint32_t level;
  uint32_t edges;  /* how often it rose */
  uint32_t ended;  /* how often the line that it watches was told of an end of interrupt */
} vmr_recorded;
/* -EINVAL: there is no such pin. */
int vmr_recorder_line(vmr_recorder *recorder, uint32_t pin, vmr_line *line);
int vmr_recorder_get(vmr_recorder *recorder, uint32_t pin, vmr_recorded *recorded);
/* End the interrupt of a pin, as a controller tells it to the devices that watch their line. */
int vmr_recorder_end(vmr_recorder *recorder, uint32_t pin);
/* Count the ends of another line's interrupt at a pin, as a device with that line would be told of them. Before the machine
 * starts. -ENOTSUP: the line does not tell. */
int vmr_recorder_watch(vmr_recorder *recorder, uint32_t pin, vmr_line line);
/* A place for messages whose base is `base`, for as many vCPUs as there are pins: each message is an edge of its pin. */
int vmr_recorder_msi(vmr_recorder *recorder, uint64_t base, vmr_msi *to);
/* What came last at a pin; -ENOENT: nothing yet. */
int vmr_recorder_message(vmr_recorder *recorder, uint32_t pin, uint64_t *address, uint32_t *data);
#endif
