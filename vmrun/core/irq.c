/* Wired interrupts: lines of the machine's one controller, and the inputs of its vCPUs. */
#include <errno.h>

#include "machine.h"

int vmr_irqchip_register(vmr_machine *machine, vmr_irqchip_set set, void *chip) {
  if (machine->started) return vmr_fail(machine, EBUSY, "an interrupt controller cannot join a machine that has started");
  if (machine->irq_set) return vmr_fail(machine, EEXIST, "the machine has an interrupt controller already");
  machine->irq_set = set;
  machine->irq_chip = chip;
  return 0;
}

int vmr_irq_set(vmr_machine *machine, uint32_t gsi, int level) {
  if (!machine->irq_set) return -ENODEV;
  machine->irq_set(machine->irq_chip, gsi, level != 0);
  return 0;
}

void vmr_vcpu_set_irq(vmr_vcpu *vcpu, uint32_t input, bool level) { vcpu->ops->set_irq(vcpu, input, level); }
