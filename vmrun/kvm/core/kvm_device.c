/* Registers of a vCPU by their numbers, and devices that KVM itself serves: arm64 and riscv64 are configured by them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvm_core.h"

/* ---- registers --------------------------------------------------------------------------------------------------- */

/* Bytes of a register, as its number says it (KVM_REG_SIZE_MASK holds the logarithm). */
static size_t reg_bytes(uint64_t id) { return (size_t)1 << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT); }

static int one_reg(vmr_vcpu *vcpu, unsigned long request, uint64_t id, uint64_t *value, const char *name) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value}; /* little-endian: the low bytes come first */
  unsigned long long number = id;
  if (reg_bytes(id) > sizeof *value)
    return vmr_fail(vcpu->machine, EMSGSIZE, "%s: register %#llx is wider than 64 bits", name, number);
  int rc = vmr_kvm_ioctl(k->fd, request, &reg);
  return rc < 0 ? vmr_fail(vcpu->machine, -rc, "%s: register %#llx: %s", name, number, strerror(-rc)) : 0;
}

int vmr_kvm_get_reg(vmr_vcpu *vcpu, uint64_t id, uint64_t *value) {
  *value = 0;
  return one_reg(vcpu, KVM_GET_ONE_REG, id, value, "KVM_GET_ONE_REG");
}

int vmr_kvm_set_reg(vmr_vcpu *vcpu, uint64_t id, uint64_t value) {
  return one_reg(vcpu, KVM_SET_ONE_REG, id, &value, "KVM_SET_ONE_REG");
}

int vmr_kvm_reg_list(vmr_vcpu *vcpu, uint64_t *ids, uint32_t capacity) {
  struct kvm_reg_list *list = calloc(1, sizeof *list + (size_t)capacity * sizeof list->reg[0]);
  if (!list) return vmr_fail(vcpu->machine, ENOMEM, "out of memory");
  list->n = capacity;
  int rc = VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_GET_REG_LIST, list);
  if (rc >= 0) {
    memcpy(ids, list->reg, list->n * sizeof *ids);
    rc = (int)list->n;
  }
  free(list);
  return rc;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

struct vmr_kvm_device {
  vmr_kvm *kvm;
  int fd;
};

static void release(void *opaque) {
  vmr_kvm_device *device = opaque;
  close(device->fd);
  free(device);
}

int vmr_kvm_device_test(vmr_kvm *kvm, uint32_t kind) {
  struct kvm_create_device asked = {.type = kind, .flags = KVM_CREATE_DEVICE_TEST};
  return VMR_VM_CALL(kvm, KVM_CREATE_DEVICE, &asked);
}

int vmr_kvm_device_new(vmr_kvm *kvm, uint32_t kind, vmr_kvm_device **out) {
  *out = NULL;
  vmr_kvm_device *device = calloc(1, sizeof *device);
  if (!device) return vmr_fail(kvm->machine, ENOMEM, "out of memory");
  struct kvm_create_device made = {.type = kind};
  int rc = VMR_VM_CALL(kvm, KVM_CREATE_DEVICE, &made);
  if (rc < 0) {
    free(device);
    return rc;
  }
  *device = (vmr_kvm_device){.kvm = kvm, .fd = (int)made.fd};
  rc = vmr_on_free(kvm->machine, release, device);
  if (rc) {
    release(device);
    return rc;
  }
  *out = device;
  return 0;
}

static struct kvm_device_attr attr_of(uint32_t group, uint64_t attribute, const void *value) {
  return (struct kvm_device_attr){.group = group, .attr = attribute, .addr = (uintptr_t)value};
}

int vmr_kvm_device_set(vmr_kvm_device *device, uint32_t group, uint64_t attribute, const void *value) {
  struct kvm_device_attr attr = attr_of(group, attribute, value);
  return vmr_kvm_call(device->kvm, device->fd, KVM_SET_DEVICE_ATTR, &attr, "KVM_SET_DEVICE_ATTR");
}

int vmr_kvm_device_get(vmr_kvm_device *device, uint32_t group, uint64_t attribute, void *value) {
  struct kvm_device_attr attr = attr_of(group, attribute, value);
  return vmr_kvm_call(device->kvm, device->fd, KVM_GET_DEVICE_ATTR, &attr, "KVM_GET_DEVICE_ATTR");
}

int vmr_kvm_vcpu_attr_set(vmr_vcpu *vcpu, uint32_t group, uint64_t attribute, const void *value) {
  struct kvm_device_attr attr = attr_of(group, attribute, value);
  return VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_SET_DEVICE_ATTR, &attr);
}

int vmr_kvm_vcpu_attr_has(vmr_vcpu *vcpu, uint32_t group, uint64_t attribute) {
  struct kvm_device_attr attr = attr_of(group, attribute, NULL);
  return VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_HAS_DEVICE_ATTR, &attr);
}
