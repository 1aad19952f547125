/* What runs between instructions: decoding on demand, crossing pages, time slices, traps. */
#include "exec.h"

#define SLICE 2048 /* instructions between two looks at interrupts and requests */
/* Straight-line code runs past the end of a slice for one page at most. */
#define OVERRUN VMR_PAGE_SLOTS

VMR_HANDLER(decode) {
  vmr_code_decode(h, ip);
  DISPATCH(ip, n);
}

VMR_HANDLER(page_end) { JUMP_PC(PC, n); }

VMR_HANDLER(straddle) {
  vmr_code_page *page = vmr_code_page_of(h, ip);
  uint64_t pc = PC;
  if (VMR_UNLIKELY(!vmr_code_straddle(h, page, pc))) GO(trap, n);
  h->pc_bias = pc - ((uintptr_t)page->straddle >> 3);
  DISPATCH(page->straddle, n);
}

/* Book what was executed since the slice began. */
static void account(vmr_hart *h, int64_t n) {
  int64_t used = h->slice - n;
  h->slice = 0;
  h->budget -= used;
  h->retired += (uint64_t)used;
  __atomic_store_n(&h->stats.instructions, h->retired, __ATOMIC_RELAXED);
}

VMR_HANDLER(leave) {
  (void)ip;
  account(h, n);
  LEAVE;
}

/* Exceptions cost budget but retire nothing: a guest that traps for ever still comes to the end of its slice. */
static int64_t enter_trap(vmr_hart *h, uint64_t pc, int64_t n) {
  vmr_trap_enter(h, pc, false);
  h->retired--;
  return n - 1;
}

VMR_HANDLER(trap) {
  n = enter_trap(h, PC, n);
  GO(fetch, n);
}

/* stval is the instruction; should it be gone by now, its fetch is what faults. */
static __attribute__((noinline)) void blame_instruction(vmr_hart *h, uint64_t pc) {
  uint32_t raw;
  if (!vmr_mmu_instruction(h, pc, &raw)) return;
  h->cause = VMR_EXC_ILLEGAL;
  h->tval = raw;
}

VMR_HANDLER(illegal) {
  blame_instruction(h, PC);
  GO(trap, n);
}

VMR_HANDLER(fetch) {
  while (VMR_LIKELY(n > 0)) {
    const vmr_itlb_entry *e = &h->itlb[(h->pc >> 12) & (VMR_ITLB_SIZE - 1)];
    if (e->tag == ((h->pc & ~VMR_PAGE_MASK) | h->priv)) {
      h->pc_bias = e->bias;
      DISPATCH((const vmr_op *)((h->pc - e->bias) << 3), n);
    }
    if (!vmr_mmu_fetch(h, h->pc)) n = enter_trap(h, h->pc, n);
  }
  GO(poll, n);
}

VMR_HANDLER(slice_end) {
  h->pc = PC;
  GO(poll, n);
}

/* Whether the hart gets on: it retires instructions, or may do so yet. false: h->exit says that it does not. */
static inline bool gets_on(vmr_hart *h) {
  if (VMR_UNLIKELY(h->retired == h->seen_retired)) return !vmr_trap_lost(h);
  h->seen_retired = h->retired;
  h->seen_traps = h->stats.traps;
  atomic_store_explicit(&h->lost, false, memory_order_relaxed);
  return true;
}

/* Requests, the end of the run, a guest that is lost, interrupts. false: leave. */
static bool attend(vmr_hart *h) {
  uint32_t requests = atomic_load_explicit(&h->requests, memory_order_acquire);
  if (VMR_UNLIKELY(requests)) {
    vmr_hart_serve(h);
    if (requests & VMR_REQ_KICK && vmr_machine_stopping(h->vcpu.machine)) {
      h->exit->kind = VMR_EXIT_STOPPED;
      h->exiting = true;
      return false;
    }
  }
  if (VMR_UNLIKELY(h->budget <= 0)) {
    h->exit->kind = VMR_EXIT_BUDGET;
    h->exiting = true;
    return false;
  }
  if (!gets_on(h)) {
    h->exiting = true;
    return false;
  }
  vmr_trap_interrupt(h);
  return true;
}

VMR_HANDLER(poll) {
  account(h, n);
  if (!attend(h)) LEAVE;
  if (VMR_LIKELY(h->budget > SLICE + OVERRUN)) {
    h->slice = SLICE;
    GO(fetch, SLICE);
  }
  h->slice = 1; /* near the bound: one instruction at a time */
  if (!vmr_code_step(h)) {
    n = enter_trap(h, h->pc, 1);
    GO(poll, n);
  }
  h->pc_bias = h->pc - ((uintptr_t)h->step >> 3);
  DISPATCH(h->step, 1);
}
