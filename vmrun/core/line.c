/* Who gives out lines and takes messages on a machine. */
#include <errno.h>

#include "machine.h"

void vmr_line_raise(vmr_line line) { vmr_line_set(line, true); }
void vmr_line_lower(vmr_line line) { vmr_line_set(line, false); }

void vmr_line_pulse(vmr_line line) {
  vmr_line_set(line, true);
  vmr_line_set(line, false);
}

int vmr_line_watch(vmr_line line, vmr_eoi *eoi) {
  return line.ops && line.ops->watch ? line.ops->watch(line.chip, line.pin, eoi) : -ENOTSUP;
}

void vmr_eoi_tell(vmr_eoi *first) {
  for (; first; first = first->next) first->ended(first->device);
}

int vmr_irqchip_register(vmr_machine *machine, const vmr_irqchip_ops *ops, void *chip) {
  if (machine->started) return vmr_fail(machine, EBUSY, "an interrupt controller cannot join a machine that has started");
  if (machine->irqchip_ops) return vmr_fail(machine, EEXIST, "the machine has an interrupt controller already");
  machine->irqchip_ops = ops;
  machine->irqchip = chip;
  return 0;
}

int vmr_irqchip_line(vmr_machine *machine, uint32_t pin, vmr_line *line) {
  *line = (vmr_line){0};
  if (!machine->irqchip_ops) return vmr_fail(machine, ENODEV, "the machine has no interrupt controller");
  int rc = machine->irqchip_ops->line(machine->irqchip, pin, line);
  return rc ? vmr_fail(machine, -rc, "the interrupt controller has no input %u", pin) : 0;
}

int vmr_vcpu_line(vmr_machine *machine, uint32_t index, uint32_t input, vmr_line *line) {
  *line = (vmr_line){0};
  vmr_vcpu *vcpu = vmr_vcpu_at(machine, index);
  int rc = vcpu && vcpu->ops->line ? vcpu->ops->line(vcpu, input, line) : -EINVAL;
  return rc ? vmr_fail(machine, -rc, "vCPU %u has no interrupt input %u", index, input) : 0;
}

int vmr_msi_register(vmr_machine *machine, vmr_msi to) {
  if (machine->started) return vmr_fail(machine, EBUSY, "a controller of messages cannot join a machine that has started");
  if (machine->msi.ops) return vmr_fail(machine, EEXIST, "the machine takes messages already");
  machine->msi = to;
  return 0;
}

int vmr_machine_msi(vmr_machine *machine, vmr_msi *to) {
  *to = machine->msi;
  return to->ops ? 0 : -ENODEV;
}

int vmr_msi_send(vmr_msi to, uint64_t address, uint32_t data) {
  return to.ops ? to.ops->send(to.chip, address, data) : -EINVAL;
}
