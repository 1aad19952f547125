/* Interrupt lines and messages, as devices and interrupt controllers in C use them. */
#ifndef VMR_LINE_H
#define VMR_LINE_H
#include <stdbool.h>

#include "line_api.h"

/* Told that the guest has ended an interrupt of a level line. Embedded in the device that watches its line. */
typedef struct vmr_eoi {
  /* Inside as a reader, without a lock of the controller's. The controller may have lowered the line: a device whose level
   * is still high raises it again. */
  void (*ended)(void *device);
  void *device;
  struct vmr_eoi *next; /* the controller's */
} vmr_eoi;

/* What a controller does with a pin. */
struct vmr_line_ops {
  void (*set)(void *chip, uint32_t pin, bool level); /* any thread; the level may be the one that stands already */
  int (*watch)(void *chip, uint32_t pin, vmr_eoi *eoi); /* NULL: it does not know ends */
};

static inline void vmr_line_set(vmr_line line, bool level) {
  if (line.ops) line.ops->set(line.chip, line.pin, level);
}
/* Before the machine starts; eoi must live as long as it. -ENOTSUP: the controller does not tell. */
int vmr_line_watch(vmr_line line, vmr_eoi *eoi);
/* Tell all who watch; a controller calls it inside as a reader, without its lock. */
void vmr_eoi_tell(vmr_eoi *first);

/* The machine's interrupt controller hands out lines; there is at most one (-EEXIST). */
typedef struct vmr_irqchip_ops {
  int (*line)(void *chip, uint32_t pin, vmr_line *line); /* -EINVAL: no such pin */
} vmr_irqchip_ops;
int vmr_irqchip_register(vmr_machine *machine, const vmr_irqchip_ops *ops, void *chip);

struct vmr_msi_ops {
  int (*send)(void *chip, uint64_t address, uint32_t data); /* see vmr_msi_send */
};
/* Where the machine's messages go; there is at most one such place (-EEXIST). */
int vmr_msi_register(vmr_machine *machine, vmr_msi to);
#endif
