/* Interrupts of the kernel's controller, and doorbells that the kernel answers: wired lines, eventfds, messages, routes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm_core.h"

static void set_line(void *chip, uint32_t gsi, bool level) {
  vmr_kvm *kvm = chip;
  struct kvm_irq_level line = {.irq = vmr_kvm_arch_line(gsi), .level = level};
  /* It fails only for a line that the controller does not have; a plan's lines were checked when it was made. */
  vmr_kvm_ioctl(kvm->fd, KVM_IRQ_LINE, &line);
}

int vmr_kvm_wire(vmr_kvm *kvm) { return vmr_irqchip_register(kvm->machine, set_line, kvm); }

int vmr_kvm_irqfd(vmr_kvm *kvm, int eventfd, uint32_t gsi, int resample, int attach) {
  struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = gsi, .flags = attach ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
  if (resample >= 0 && attach) {
    irqfd.flags |= KVM_IRQFD_FLAG_RESAMPLE;
    irqfd.resamplefd = (uint32_t)resample;
  }
  return VMR_VM_CALL(kvm, KVM_IRQFD, &irqfd);
}

int vmr_kvm_ioeventfd(vmr_kvm *kvm, int eventfd, uint64_t gpa, uint32_t size, const uint64_t *match, int attach) {
  struct kvm_ioeventfd doorbell = {.fd = eventfd, .addr = gpa & ~VMR_PIO, .len = size};
  if (gpa & VMR_PIO) doorbell.flags |= KVM_IOEVENTFD_FLAG_PIO;
  if (match) doorbell.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH, doorbell.datamatch = *match;
  if (!attach) doorbell.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
  return VMR_VM_CALL(kvm, KVM_IOEVENTFD, &doorbell);
}

int vmr_kvm_signal_msi(vmr_kvm *kvm, uint64_t address, uint32_t data) {
  struct kvm_msi msi = {.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
  int rc = VMR_VM_CALL(kvm, KVM_SIGNAL_MSI, &msi);
  return rc < 0 ? rc : rc ? 0 : -EAGAIN;
}

int vmr_kvm_set_routes(vmr_kvm *kvm, const vmr_kvm_route *routes, uint32_t count) {
  struct kvm_irq_routing *table = calloc(1, sizeof *table + (size_t)count * sizeof table->entries[0]);
  if (!table) return vmr_fail(kvm->machine, ENOMEM, "out of memory");
  table->nr = count;
  for (uint32_t i = 0; i < count; i++) {
    struct kvm_irq_routing_entry *entry = &table->entries[i];
    const vmr_kvm_route *route = &routes[i];
    entry->gsi = route->gsi;
    entry->type = route->msi ? KVM_IRQ_ROUTING_MSI : KVM_IRQ_ROUTING_IRQCHIP;
    if (route->msi) {
      entry->u.msi.address_lo = (uint32_t)route->address;
      entry->u.msi.address_hi = (uint32_t)(route->address >> 32);
      entry->u.msi.data = route->data;
    } else {
      entry->u.irqchip.irqchip = route->chip;
      entry->u.irqchip.pin = route->pin;
    }
  }
  int rc = VMR_VM_CALL(kvm, KVM_SET_GSI_ROUTING, table);
  free(table);
  return rc;
}
