/* Traps into S-mode (Privileged ISA 1.12, sections 4.1 and 3.1.9 for the order of interrupts). All exceptions and
 * interrupts are S-mode's: there is no M-mode below it. */
#include "hart.h"

#define CAUSE_INTERRUPT (1ull << 63)
#define LOST_TRAPS (1ull << 24) /* in a row: half a second and more of a host's time */

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

/* ---- a guest that traps for ever ----------------------------------------------------------------------------------- */

/* Privileged ISA, table of scause values. */
static const char *cause_name(uint64_t cause) {
  static const char *const names[] = {
      [VMR_EXC_FETCH_MISALIGNED] = "instruction address misaligned", [VMR_EXC_FETCH_ACCESS] = "instruction access fault",
      [VMR_EXC_ILLEGAL] = "illegal instruction", [VMR_EXC_BREAKPOINT] = "breakpoint",
      [VMR_EXC_LOAD_MISALIGNED] = "load address misaligned", [VMR_EXC_LOAD_ACCESS] = "load access fault",
      [VMR_EXC_STORE_MISALIGNED] = "store address misaligned", [VMR_EXC_STORE_ACCESS] = "store access fault",
      [VMR_EXC_FETCH_PAGE] = "instruction page fault", [VMR_EXC_LOAD_PAGE] = "load page fault",
      [VMR_EXC_STORE_PAGE] = "store page fault"};
  const char *name = cause < sizeof names / sizeof *names ? names[cause] : NULL;
  return name ? name : "unknown";
}

static bool others_lost(const vmr_hart *h) {
  uint32_t count = vmr_vcpu_count(h->vcpu.machine);
  for (uint32_t i = 0; i < count; i++) {
    const vmr_hart *other = vmr_hart_at(h->vcpu.machine, i);
    if (other != h && atomic_load(&other->hsm) != VMR_HSM_STOPPED && !atomic_load(&other->lost)) return false;
  }
  return true;
}

/* Traps with no instruction between them are all taken at one place, the handler's first instruction, which stvec names and
 * only an instruction could move. Each leaves the same registers as the one before, with interrupts off. So nothing that the
 * hart does can end it: only memory that somebody else changes can, its page tables or the handler itself. A device does so
 * for a moment at most, while it works off what it was given: hence many traps. Another hart may do so at any time: as long
 * as one is not stopped by SBI, or lost itself, the guest goes on, as it would on hardware without one of its cores. */
bool vmr_trap_lost(vmr_hart *h) {
  if (h->stats.traps - h->seen_traps < LOST_TRAPS) return false;
  atomic_store(&h->lost, true);
  if (!others_lost(h)) return false;
  vmr_vcpu_fall(&h->vcpu, h->exit, "the guest traps for ever at pc 0x%llx, its trap handler: cause %llu (%s), stval 0x%llx",
                (unsigned long long)h->pc, (unsigned long long)h->scause, cause_name(h->scause),
                (unsigned long long)h->stval);
  return true;
}
