/* The KVM core's x86 part, as Python sees it: only in the extension of an x86-64 host. */
#ifndef VMR_KVM_X86_API_H
#define VMR_KVM_X86_API_H
#include "kvm_api.h"

/* ---- the VM: before its first vCPU ----------------------------------------------------------------------------- */

/* Give Intel's KVM what it needs for real mode: three pages for a TSS at tss_gpa and one for a page table at
 * identity_gpa, below 4 GiB, where the guest has nothing. */
int vmr_kvm_x86_real_mode_pages(vmr_kvm *kvm, uint64_t tss_gpa, uint64_t identity_gpa);
/* LAPICs, IOAPIC and PICs in the kernel; split 1: the LAPICs alone, all else reaches them as messages. */
int vmr_kvm_x86_irqchip(vmr_kvm *kvm, int split);
/* An i8254 in the kernel; its port 0x61 as well. */
int vmr_kvm_x86_pit(vmr_kvm *kvm);

/* ---- CPUID and MSRs -------------------------------------------------------------------------------------------- */

typedef struct vmr_kvm_x86_cpuid {
  uint32_t function;
  uint32_t index;
  uint32_t flags; /* 1: index counts */
  uint32_t eax, ebx, ecx, edx;
} vmr_kvm_x86_cpuid;
/* What an open /dev/kvm can show a guest. Returns how many entries, -E2BIG where they are more than capacity. */
int vmr_kvm_x86_supported_cpuid(int kvm_fd, vmr_kvm_x86_cpuid *entries, uint32_t capacity);
int vmr_kvm_x86_set_cpuid(vmr_vcpu *vcpu, const vmr_kvm_x86_cpuid *entries, uint32_t count);

typedef struct vmr_kvm_x86_msr {
  uint32_t index;
  uint64_t value;
} vmr_kvm_x86_msr;
/* All of them, or an error whose text names the first that KVM did not take. */
int vmr_kvm_x86_set_msrs(vmr_vcpu *vcpu, const vmr_kvm_x86_msr *msrs, uint32_t count);
int vmr_kvm_x86_get_msrs(vmr_vcpu *vcpu, vmr_kvm_x86_msr *msrs, uint32_t count);
/* The guest's TSC frequency in kHz, or -errno. */
int vmr_kvm_x86_tsc_khz(vmr_vcpu *vcpu);

/* ---- a vCPU's state: only while it is not running --------------------------------------------------------------- */

typedef struct vmr_kvm_x86_segment {
  uint64_t base;
  uint32_t limit; /* in bytes, whatever g says */
  uint16_t selector;
  uint16_t access; /* as in bits 40 to 55 of a descriptor: type, S, DPL, P in 0..7, AVL, L, D/B, G in 12..15 */
  uint32_t unusable;
} vmr_kvm_x86_segment;

typedef struct vmr_kvm_x86_state {
  uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t rip, rflags;
  uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
  uint64_t gdt_base, idt_base;
  uint32_t gdt_limit, idt_limit;
  vmr_kvm_x86_segment cs, ds, es, fs, gs, ss, tr, ldt;
} vmr_kvm_x86_state;
int vmr_kvm_x86_get_state(vmr_vcpu *vcpu, vmr_kvm_x86_state *state);
int vmr_kvm_x86_set_state(vmr_vcpu *vcpu, const vmr_kvm_x86_state *state);

/* The LAPIC's LINT0 and LINT1 (32-bit vector table entries). */
int vmr_kvm_x86_set_lint(vmr_vcpu *vcpu, uint32_t lint0, uint32_t lint1);
/* The guest-physical address behind a linear one; -EFAULT where it is not mapped. */
int vmr_kvm_x86_translate(vmr_vcpu *vcpu, uint64_t linear, uint64_t *gpa);
/* Extended state in XSAVE's standard form; 4096 bytes. */
int vmr_kvm_x86_get_xsave(vmr_vcpu *vcpu, uint8_t *area);
#endif
