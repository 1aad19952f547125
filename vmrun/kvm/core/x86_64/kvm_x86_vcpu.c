/* x86: a vCPU's CPUID, MSRs, registers and LAPIC. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm_core.h"
#include "kvm_x86_api.h"

/* ---- CPUID ------------------------------------------------------------------------------------------------------- */

static struct kvm_cpuid2 *new_cpuid(uint32_t count) {
  struct kvm_cpuid2 *table = calloc(1, sizeof *table + (size_t)count * sizeof table->entries[0]);
  if (table) table->nent = count;
  return table;
}

int vmr_kvm_x86_supported_cpuid(int kvm_fd, vmr_kvm_x86_cpuid *entries, uint32_t capacity) {
  struct kvm_cpuid2 *table = new_cpuid(capacity);
  if (!table) return -ENOMEM;
  int rc = vmr_kvm_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, table);
  for (uint32_t i = 0; rc >= 0 && i < table->nent && i < capacity; i++) {
    const struct kvm_cpuid_entry2 *e = &table->entries[i];
    entries[i] = (vmr_kvm_x86_cpuid){e->function, e->index, e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                     e->eax,      e->ebx,   e->ecx,
                                     e->edx};
    rc = (int)i + 1;
  }
  free(table);
  return rc;
}

int vmr_kvm_x86_set_cpuid(vmr_vcpu *vcpu, const vmr_kvm_x86_cpuid *entries, uint32_t count) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  struct kvm_cpuid2 *table = new_cpuid(count);
  if (!table) return vmr_fail(vcpu->machine, ENOMEM, "out of memory");
  for (uint32_t i = 0; i < count; i++) {
    const vmr_kvm_x86_cpuid *e = &entries[i];
    table->entries[i] = (struct kvm_cpuid_entry2){.function = e->function, .index = e->index, .flags = e->flags,
                                                  .eax = e->eax, .ebx = e->ebx, .ecx = e->ecx, .edx = e->edx};
  }
  int rc = VMR_VCPU_CALL(k, KVM_SET_CPUID2, table);
  free(table);
  return rc;
}

/* ---- MSRs -------------------------------------------------------------------------------------------------------- */

static int call_msrs(vmr_vcpu *vcpu, unsigned long request, vmr_kvm_x86_msr *read, const vmr_kvm_x86_msr *msrs,
                     uint32_t count, const char *name) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  struct kvm_msrs *table = calloc(1, sizeof *table + (size_t)count * sizeof table->entries[0]);
  if (!table) return vmr_fail(vcpu->machine, ENOMEM, "out of memory");
  table->nmsrs = count;
  for (uint32_t i = 0; i < count; i++)
    table->entries[i] = (struct kvm_msr_entry){.index = msrs[i].index, .data = msrs[i].value};
  int rc = vmr_kvm_call(k->kvm, k->fd, request, table, name);
  if (rc >= 0 && (uint32_t)rc < count)
    rc = vmr_fail(vcpu->machine, EINVAL, "%s: KVM does not take MSR %#x with %#llx", name, msrs[rc].index,
                  (unsigned long long)msrs[rc].value);
  for (uint32_t i = 0; rc >= 0 && read && i < count; i++) read[i].value = table->entries[i].data;
  free(table);
  return rc < 0 ? rc : 0;
}

int vmr_kvm_x86_set_msrs(vmr_vcpu *vcpu, const vmr_kvm_x86_msr *msrs, uint32_t count) {
  return call_msrs(vcpu, KVM_SET_MSRS, NULL, msrs, count, "KVM_SET_MSRS");
}

int vmr_kvm_x86_get_msrs(vmr_vcpu *vcpu, vmr_kvm_x86_msr *msrs, uint32_t count) {
  return call_msrs(vcpu, KVM_GET_MSRS, msrs, msrs, count, "KVM_GET_MSRS");
}

int vmr_kvm_x86_tsc_khz(vmr_vcpu *vcpu) { return VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_GET_TSC_KHZ, NULL); }

/* ---- registers --------------------------------------------------------------------------------------------------- */

static vmr_kvm_x86_segment from_kvm(const struct kvm_segment *s) {
  uint32_t access = s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->avl << 12 | s->l << 13 | s->db << 14 |
                    s->g << 15;
  return (vmr_kvm_x86_segment){s->base, s->limit, s->selector, (uint16_t)access, s->unusable};
}

static struct kvm_segment to_kvm(const vmr_kvm_x86_segment *s) {
  uint32_t a = s->access;
  return (struct kvm_segment){.base = s->base, .limit = s->limit, .selector = s->selector, .type = a & 15,
                              .s = a >> 4 & 1, .dpl = a >> 5 & 3, .present = a >> 7 & 1, .avl = a >> 12 & 1,
                              .l = a >> 13 & 1, .db = a >> 14 & 1, .g = a >> 15 & 1,
                              .unusable = s->unusable != 0};
}

/* The registers that both structures call by one name. */
#define GENERAL(X)                                                                                                     \
  X(rax) X(rbx) X(rcx) X(rdx) X(rsi) X(rdi) X(rsp) X(rbp) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15)        \
  X(rip) X(rflags)
#define CONTROL(X) X(cr0) X(cr2) X(cr3) X(cr4) X(cr8) X(efer) X(apic_base)
#define SEGMENTS(X) X(cs) X(ds) X(es) X(fs) X(gs) X(ss) X(tr) X(ldt)

int vmr_kvm_x86_get_state(vmr_vcpu *vcpu, vmr_kvm_x86_state *state) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  struct kvm_regs regs;
  struct kvm_sregs sregs;
  int rc = VMR_VCPU_CALL(k, KVM_GET_REGS, &regs);
  if (rc >= 0) rc = VMR_VCPU_CALL(k, KVM_GET_SREGS, &sregs);
  if (rc < 0) return rc;
#define TAKE(name) state->name = regs.name;
  GENERAL(TAKE)
#undef TAKE
#define TAKE(name) state->name = sregs.name;
  CONTROL(TAKE)
#undef TAKE
#define TAKE(name) state->name = from_kvm(&sregs.name);
  SEGMENTS(TAKE)
#undef TAKE
  state->gdt_base = sregs.gdt.base, state->gdt_limit = sregs.gdt.limit;
  state->idt_base = sregs.idt.base, state->idt_limit = sregs.idt.limit;
  return 0;
}

int vmr_kvm_x86_set_state(vmr_vcpu *vcpu, const vmr_kvm_x86_state *state) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  struct kvm_regs regs;
  struct kvm_sregs sregs = {0}; /* no interrupt is pending */
#define GIVE(name) regs.name = state->name;
  GENERAL(GIVE)
#undef GIVE
#define GIVE(name) sregs.name = state->name;
  CONTROL(GIVE)
#undef GIVE
#define GIVE(name) sregs.name = to_kvm(&state->name);
  SEGMENTS(GIVE)
#undef GIVE
  sregs.gdt = (struct kvm_dtable){.base = state->gdt_base, .limit = (uint16_t)state->gdt_limit};
  sregs.idt = (struct kvm_dtable){.base = state->idt_base, .limit = (uint16_t)state->idt_limit};
  int rc = VMR_VCPU_CALL(k, KVM_SET_SREGS, &sregs);
  return rc < 0 ? rc : VMR_VCPU_CALL(k, KVM_SET_REGS, &regs);
}

/* ---- LAPIC, and what a report asks ------------------------------------------------------------------------------- */

#define LAPIC_LVT_LINT0 0x350 /* Intel SDM vol. 3, table 11-1 */
#define LAPIC_LVT_LINT1 0x360

int vmr_kvm_x86_set_lint(vmr_vcpu *vcpu, uint32_t lint0, uint32_t lint1) {
  vmr_kvm_vcpu *k = vmr_kvm_vcpu_of(vcpu);
  struct kvm_lapic_state lapic;
  int rc = VMR_VCPU_CALL(k, KVM_GET_LAPIC, &lapic);
  if (rc < 0) return rc;
  memcpy(lapic.regs + LAPIC_LVT_LINT0, &lint0, sizeof lint0);
  memcpy(lapic.regs + LAPIC_LVT_LINT1, &lint1, sizeof lint1);
  return VMR_VCPU_CALL(k, KVM_SET_LAPIC, &lapic);
}

int vmr_kvm_x86_translate(vmr_vcpu *vcpu, uint64_t linear, uint64_t *gpa) {
  struct kvm_translation translation = {.linear_address = linear};
  *gpa = 0;
  int rc = VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_TRANSLATE, &translation);
  if (rc < 0) return rc;
  if (!translation.valid) return -EFAULT;
  *gpa = translation.physical_address;
  return 0;
}

int vmr_kvm_x86_get_xsave(vmr_vcpu *vcpu, uint8_t *area) {
  struct kvm_xsave xsave;
  int rc = VMR_VCPU_CALL(vmr_kvm_vcpu_of(vcpu), KVM_GET_XSAVE, &xsave);
  if (rc >= 0) memcpy(area, &xsave.region, sizeof xsave.region);
  return rc;
}
