/* Traps into S-mode (Privileged ISA 1.12, sections 4.1 and 3.1.9 for the order of interrupts). All exceptions and
 * interrupts are S-mode's: there is no M-mode below it. */
#include "hart.h"

#define CAUSE_INTERRUPT (1ull << 63)

void vmr_trap_enter(vmr_hart *h, uint64_t pc, bool interrupt) {
  h->sepc = pc;
  h->scause = h->cause | (interrupt ? CAUSE_INTERRUPT : 0);
  h->stval = interrupt ? 0 : h->tval;
  uint64_t status = h->sstatus & ~(VMR_SSTATUS_SIE | VMR_SSTATUS_SPIE | VMR_SSTATUS_SPP);
  if (h->sstatus & VMR_SSTATUS_SIE) status |= VMR_SSTATUS_SPIE;
  if (h->priv == VMR_PRIV_S) status |= VMR_SSTATUS_SPP;
  h->sstatus = status;
  h->priv = VMR_PRIV_S;
  vmr_mmu_mode(h);
  h->pc = h->stvec & ~3ull;
  if (interrupt && (h->stvec & 1)) h->pc += 4 * h->cause;
  if (interrupt)
    VMR_COUNT(h, interrupts);
  else
    VMR_COUNT(h, traps);
}

uint32_t vmr_pending(vmr_hart *h) {
  uint32_t pending = atomic_load_explicit(&h->ip, memory_order_acquire);
  if (!h->timer_due && h->stimecmp != ~0ull) h->timer_due = vmr_time(h) >= h->stimecmp;
  return h->timer_due ? pending | VMR_IP_STIP : pending;
}

uint64_t vmr_first_interrupt(uint32_t ip) {
  return ip & VMR_IP_SEIP ? VMR_RISCV_IRQ_S_EXT : ip & VMR_IP_SSIP ? VMR_RISCV_IRQ_S_SOFT : VMR_RISCV_IRQ_S_TIMER;
}

bool vmr_trap_interrupt(vmr_hart *h) {
  uint32_t due = vmr_pending(h) & h->sie; /* looks at the clock even while interrupts are off: see vmr_interrupt_due */
  if (VMR_LIKELY(!due) || !vmr_interrupts_on(h)) return false;
  h->cause = vmr_first_interrupt(due);
  vmr_trap_enter(h, h->pc, true);
  return true;
}

void vmr_timer_set(vmr_hart *h, uint64_t stimecmp) {
  h->stimecmp = stimecmp;
  h->timer_due = false;
}
