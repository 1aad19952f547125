/* The machine's memory as KVM's slots (Linux Documentation/virt/kvm/api.rst, 4.35, 4.8, 4.117, 7.1.14).
 *
 * KVM moves a slot, and begins and ends its log, in place; what it maps and whether the guest may write it never change.
 * The ioctl returns when no vCPU uses the old slot: the kernel sees to that itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm_core.h"

static int set_slot(vmr_kvm *kvm, struct kvm_userspace_memory_region *slot) {
  int rc = VMR_VM_CALL(kvm, KVM_SET_USER_MEMORY_REGION, slot);
  return rc < 0 ? rc : 0;
}

static int check(vmr_kvm *kvm, uint32_t capability) {
  return vmr_kvm_ioctl(kvm->fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
}

static int map(void *engine, uint32_t slot, const vmr_ram *ram) {
  vmr_kvm *kvm = engine;
  struct kvm_userspace_memory_region region = {.slot = slot, .guest_phys_addr = ram->gpa, .memory_size = ram->size,
                                               .userspace_addr = (uintptr_t)ram->hva};
  if (!ram->writable && check(kvm, KVM_CAP_READONLY_MEM) <= 0)
    return vmr_fail(kvm->machine, EOPNOTSUPP, "this host's KVM has no read-only memory (KVM_CAP_READONLY_MEM)");
  if (!ram->writable) region.flags |= KVM_MEM_READONLY;
  if (ram->dirty) region.flags |= KVM_MEM_LOG_DIRTY_PAGES;
  return set_slot(kvm, &region);
}

static int unmap(void *engine, uint32_t slot) {
  return set_slot(engine, &(struct kvm_userspace_memory_region){.slot = slot});
}

/* Where the log is cleared in a call of its own, a page that is written between the two is reported here, and the write is
 * made before the caller looks at the page. */
static int fetch_dirty(void *engine, uint32_t slot, const vmr_ram *ram, uint64_t *bits) {
  vmr_kvm *kvm = engine;
  uint64_t pages = ram->size >> 12, words = (pages + 63) / 64;
  uint64_t *found = calloc(words, sizeof *found);
  if (!found) return vmr_fail(kvm->machine, ENOMEM, "out of memory");
  struct kvm_dirty_log get = {.slot = slot, .dirty_bitmap = found};
  int rc = VMR_VM_CALL(kvm, KVM_GET_DIRTY_LOG, &get);
  if (rc >= 0 && kvm->clears_logs) {
    struct kvm_clear_dirty_log clear = {.slot = slot, .num_pages = (uint32_t)pages, .dirty_bitmap = found};
    rc = VMR_VM_CALL(kvm, KVM_CLEAR_DIRTY_LOG, &clear);
  }
  for (uint64_t i = 0; i < words && rc >= 0; i++) bits[i] |= found[i];
  free(found);
  return rc < 0 ? rc : 0;
}

static const vmr_memory_ops ops = {.map = map, .unmap = unmap, .fetch_dirty = fetch_dirty};

int vmr_kvm_memory(vmr_kvm *kvm) {
  int can = check(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
  struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
  kvm->clears_logs = can > 0 && can & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE && !vmr_kvm_ioctl(kvm->fd, KVM_ENABLE_CAP, &cap);
  return vmr_memory_listen(kvm->machine, &ops, kvm);
}
