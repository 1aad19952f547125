/* riscv64: what the common vCPU loop asks of an architecture. SBI calls that KVM hands on, CSRs that it does not serve,
 * the input of a PLIC outside of the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "kvm_core.h"
#include "kvm_riscv64_api.h"
#include "riscv_irq.h"
#include "sbi_console.h"

/* ---- SBI --------------------------------------------------------------------------------------------------------- */

int vmr_kvm_riscv64_console(vmr_kvm *kvm, int in_fd, int out_fd) {
  if (!kvm->arch) {
    vmr_sbi_console *console = calloc(1, sizeof *console);
    if (!console) return vmr_fail(kvm->machine, ENOMEM, "out of memory");
    int rc = vmr_on_free(kvm->machine, free, console);
    if (rc) {
      free(console);
      return rc;
    }
    kvm->arch = console;
  }
  return vmr_sbi_console_connect(kvm->arch, kvm->machine, in_fd, out_fd);
}

/* KVM serves what a kernel lives on; the console is ours, and whatever else the guest tries in vain is counted. */
static int serve_sbi(vmr_kvm_vcpu *k) {
  vmr_reader_leave(&k->vcpu.reader); /* a slow terminal must not hold up changes of memory */
  static const vmr_sbi_console nowhere = {-1, NULL};
  const vmr_sbi_console *console = k->kvm->arch ? k->kvm->arch : &nowhere;
  struct kvm_run *run = k->run;
  uint64_t args[3] = {run->riscv_sbi.args[0], run->riscv_sbi.args[1], run->riscv_sbi.args[2]};
  vmr_sbi_result result = {VMR_SBI_NOT_SUPPORTED, 0};
  switch (run->riscv_sbi.extension_id) {
    case VMR_SBI_DBCN:
      result = vmr_sbi_console_call(console, k->vcpu.machine, run->riscv_sbi.function_id, args);
      break;
    case VMR_SBI_PUTCHAR: /* a legacy call leaves a1 alone */
      result = (vmr_sbi_result){vmr_sbi_console_putchar(console, (uint8_t)args[0]), args[1]};
      break;
    case VMR_SBI_GETCHAR: result = (vmr_sbi_result){vmr_sbi_console_getchar(console), args[1]}; break;
    default: vmr_guest_did_wrong(k->vcpu.machine, "SBI", "call of an extension that is not there");
  }
  run->riscv_sbi.ret[0] = (unsigned long)result.error;
  run->riscv_sbi.ret[1] = result.value;
  vmr_reader_enter(&k->vcpu.reader);
  return VMR_KVM_AGAIN;
}

/* ---- CSRs -------------------------------------------------------------------------------------------------------- */

#define CSR_SEED 0x015
#define SEED_ES16 (2ul << 30) /* OPST: 16 bits of entropy follow (RISC-V Scalar Cryptography, chapter 4) */
#define SEED_WAIT (1ul << 30)

/* KVM leaves for a CSR of an extension that the vCPU has and KVM has not; it would trap what is illegal. */
static int serve_csr(vmr_kvm_vcpu *k) {
  struct kvm_run *run = k->run;
  uint16_t entropy;
  run->riscv_csr.ret_value = 0;
  if (run->riscv_csr.csr_num != CSR_SEED)
    vmr_guest_did_wrong(k->vcpu.machine, "hart", "access to a CSR that is not there");
  else if (getrandom(&entropy, sizeof entropy, GRND_NONBLOCK) == sizeof entropy)
    run->riscv_csr.ret_value = SEED_ES16 | entropy;
  else
    run->riscv_csr.ret_value = SEED_WAIT;
  return VMR_KVM_AGAIN;
}

/* ---- the hooks --------------------------------------------------------------------------------------------------- */

int vmr_kvm_arch_exit(vmr_kvm_vcpu *k, vmr_exit *exit) {
  switch (k->run->exit_reason) {
    case KVM_EXIT_RISCV_SBI: return serve_sbi(k);
    case KVM_EXIT_RISCV_CSR: return serve_csr(k);
    default: return vmr_kvm_unknown_exit(k, exit);
  }
}

int vmr_kvm_arch_resume(vmr_kvm_vcpu *k, vmr_exit *exit) {
  (void)k, (void)exit;
  return VMR_KVM_AGAIN;
}

/* Linux arch/riscv/kvm/vcpu_sbi.c, kvm_riscv_vcpu_sbi_system_reset. */
uint64_t vmr_kvm_arch_reason(const struct kvm_run *run) {
  return run->system_event.ndata ? run->system_event.data[0] : 0;
}

/* The APLIC's sources are its GSIs (arch/riscv/kvm/vm.c, kvm_riscv_setup_default_irq_routing). */
uint32_t vmr_kvm_arch_line(uint32_t gsi) { return gsi; }

static void external_set(void *vcpu, uint32_t input, bool level) {
  const vmr_kvm_vcpu *k = vcpu;
  (void)input;
  struct kvm_interrupt interrupt = {.irq = level ? (uint32_t)KVM_INTERRUPT_SET : (uint32_t)KVM_INTERRUPT_UNSET};
  vmr_kvm_ioctl(k->fd, KVM_INTERRUPT, &interrupt);
}

static const vmr_line_ops external_ops = {.set = external_set};

/* A PLIC outside of the kernel drives the supervisor's external interrupt, the one input that KVM_INTERRUPT reaches. */
int vmr_kvm_arch_input(vmr_kvm_vcpu *k, uint32_t input, vmr_line *line) {
  if (input != VMR_RISCV_IRQ_S_EXT) return -EINVAL;
  *line = (vmr_line){&external_ops, k, input};
  return 0;
}
