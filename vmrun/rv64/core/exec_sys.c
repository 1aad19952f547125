/* System instructions: CSRs, calls and returns, fences, waiting. */
#include "decode.h"

#define CSR_SIE 0x104
#define CSR_STIMECMP 0x14d
#define CSR_SATP 0x180

typedef enum vmr_csr_how { CSR_WRITE, CSR_SET, CSR_CLEAR } vmr_csr_how;
typedef enum vmr_csr_then { THEN_ILLEGAL, THEN_NEXT, THEN_FETCH, THEN_POLL } vmr_csr_then;

static vmr_csr_then csr_effect(const vmr_hart *h, uint32_t csr) {
  switch (csr) {
  case VMR_CSR_SSTATUS:
  case CSR_SIE:
  case VMR_CSR_SIREG:
  case VMR_CSR_STOPEI:
  case VMR_CSR_SIP: return vmr_interrupt_due(h) ? THEN_POLL : THEN_NEXT;
  case CSR_STIMECMP: return THEN_POLL;
  case CSR_SATP: return THEN_FETCH;
  default: return THEN_NEXT;
  }
}

static bool is_shared(uint32_t csr) { return csr == VMR_CSR_SIP || csr == VMR_CSR_SIREG || csr == VMR_CSR_STOPEI; }

/* Read, modify, write. With rs1 (or the immediate) 0, CSRRS and CSRRC do not write; no CSR here has a side effect of
 * being read, so reading for CSRRW with rd = x0 does no harm. */
static __attribute__((noinline)) vmr_csr_then csr_access(vmr_hart *h, const vmr_op *ip, int64_t n, uint64_t operand, vmr_csr_how how) {
  uint32_t csr = (uint32_t)ip->imm;
  bool write = how == CSR_WRITE || ip->rs1;
  uint64_t old;
  if (write && is_shared(csr)) { /* others raise bits of it at any time: touch only ours */
    uint64_t mask = how == CSR_WRITE ? ~0ull : operand;
    if (!vmr_csr_modify(h, csr, how == CSR_CLEAR ? 0 : operand, mask, &old)) return THEN_ILLEGAL;
  } else {
    if (!vmr_csr_read(h, csr, h->retired + (uint64_t)(h->slice - n), &old)) return THEN_ILLEGAL;
    uint64_t value = how == CSR_WRITE ? operand : how == CSR_SET ? old | operand : old & ~operand;
    if (write && !vmr_csr_write(h, csr, value)) return THEN_ILLEGAL;
  }
  RD = old;
  return write ? csr_effect(h, csr) : THEN_NEXT;
}

#define CSR_OP(name, operand, how) \
  VMR_HANDLER(name##_4) { \
    enum { LEN = 2 }; \
    switch (csr_access(h, ip, n, operand, how)) { \
    case THEN_ILLEGAL: GO(illegal, n); \
    case THEN_FETCH: h->pc = PC + 4; GO(fetch, n - 1); \
    case THEN_POLL: h->pc = PC + 4; GO(poll, n - 1); \
    default: NEXT; \
    } \
  }
CSR_OP(csrrw, RS1, CSR_WRITE)
CSR_OP(csrrs, RS1, CSR_SET)
CSR_OP(csrrc, RS1, CSR_CLEAR)
CSR_OP(csrrwi, ip->rs1, CSR_WRITE)
CSR_OP(csrrsi, ip->rs1, CSR_SET)
CSR_OP(csrrci, ip->rs1, CSR_CLEAR)

#define TRAP(exception, value) \
  do { \
    h->cause = (exception); \
    h->tval = (value); \
    GO(trap, n); \
  } while (0)
#define S_MODE_ONLY \
  if (VMR_UNLIKELY(h->priv != VMR_PRIV_S)) GO(illegal, n)

OPJ(ebreak, (void)LEN; TRAP(VMR_EXC_BREAKPOINT, PC))

/* From S-mode: a call of the SBI. It goes through poll, for it may have raised an interrupt or asked to leave. */
VMR_HANDLER(ecall_4) {
  if (h->priv == VMR_PRIV_U) TRAP(VMR_EXC_ECALL_U, 0);
  h->pc = PC;
  VMR_COUNT(h, sbi_calls);
  if (!vmr_sbi_call(h)) GO(leave, n);
  h->pc += 4;
  GO(poll, n - 1);
}

VMR_HANDLER(sret_4) {
  S_MODE_ONLY;
  uint64_t status = h->sstatus;
  h->sstatus = (status & ~(VMR_SSTATUS_SIE | VMR_SSTATUS_SPP)) | VMR_SSTATUS_SPIE |
               (status & VMR_SSTATUS_SPIE ? VMR_SSTATUS_SIE : 0);
  h->priv = status & VMR_SSTATUS_SPP ? VMR_PRIV_S : VMR_PRIV_U;
  h->res_ptr = NULL;
  vmr_mmu_mode(h);
  if (VMR_UNLIKELY(vmr_interrupt_due(h))) {
    h->pc = h->sepc;
    GO(poll, n - 1);
  }
  JUMP_PC(h->sepc, n - 1);
}

VMR_HANDLER(wfi_4) {
  S_MODE_ONLY;
  h->pc = PC + 4;
  vmr_hart_sleep(h);
  GO(poll, n - 1);
}

OP4(fence, __atomic_thread_fence(__ATOMIC_SEQ_CST))

VMR_HANDLER(fence_i_4) {
  h->code_generation++;
  vmr_mmu_flush_fetch(h);
  h->pc = PC + 4;
  GO(fetch, n - 1);
}

#define FLUSH(name) \
  VMR_HANDLER(name##_4) { \
    S_MODE_ONLY; \
    if (ip->rs1) \
      vmr_mmu_flush_page(h, RS1); \
    else \
      vmr_mmu_flush(h); \
    h->pc = PC + 4; \
    GO(fetch, n - 1); \
  }
FLUSH(sfence_vma)
FLUSH(sinval_vma)
OP4(sfence_w_inval, S_MODE_ONLY)
OP4(sfence_inval_ir, S_MODE_ONLY)
