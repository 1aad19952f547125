/* One hart of the software core: its registers, its translation and decoded-code caches, its wires to other threads.
 *
 * Execution: every halfword of a guest code page that was entered has a slot (vmr_op). A slot's handler does the
 * instruction and tail-calls the handler of the next slot with (hart, slot, budget). See exec.h for the rules.
 */
#ifndef VMR_RV64_HART_H
#define VMR_RV64_HART_H
#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>

#include "core.h"
#include "imsic.h"
#include "riscv_irq.h"
#include "rv64_api.h"
#include "sbi_console.h"

/* Handlers return to a loop instead of calling the next one where the compiler does not turn that into a jump. gcc -O1 is
 * such a case that no macro tells apart: build with -O2, or define VMR_TRAMPOLINE. */
#if !defined(VMR_TRAMPOLINE)
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VMR_TRAMPOLINE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define VMR_TRAMPOLINE 1
#endif
#endif
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "guest memory is used in place: a little-endian host is needed");
static_assert(sizeof(void *) == 8, "a 64-bit host is needed");

#define VMR_LIKELY(x) __builtin_expect(!!(x), 1)
#define VMR_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define VMR_PAGE_SIZE 4096u
#define VMR_PAGE_MASK 4095ull

#define VMR_PRIV_U 0u
#define VMR_PRIV_S 1u

/* Exception codes (Privileged spec, table of scause values). */
#define VMR_EXC_FETCH_MISALIGNED 0
#define VMR_EXC_FETCH_ACCESS 1
#define VMR_EXC_ILLEGAL 2
#define VMR_EXC_BREAKPOINT 3
#define VMR_EXC_LOAD_MISALIGNED 4
#define VMR_EXC_LOAD_ACCESS 5
#define VMR_EXC_STORE_MISALIGNED 6
#define VMR_EXC_STORE_ACCESS 7
#define VMR_EXC_ECALL_U 8
#define VMR_EXC_FETCH_PAGE 12
#define VMR_EXC_LOAD_PAGE 13
#define VMR_EXC_STORE_PAGE 15

#define VMR_IP_SSIP (1u << VMR_RISCV_IRQ_S_SOFT)
#define VMR_IP_STIP (1u << VMR_RISCV_IRQ_S_TIMER)
#define VMR_IP_SEIP (1u << VMR_RISCV_IRQ_S_EXT)
#define VMR_IP_ALL (VMR_IP_SSIP | VMR_IP_STIP | VMR_IP_SEIP)

typedef struct vmr_hart vmr_hart;
typedef struct vmr_op vmr_op;
typedef void vmr_op_fn(vmr_hart *h, const vmr_op *ip, int64_t n);

/* One decoded instruction (or several fused ones). 16 bytes: a slot's address >> 3 moves as the pc does. */
struct vmr_op {
  vmr_op_fn *fn;
  uint8_t rd; /* x0 as a destination is register 32, the sink */
  uint8_t rs1;
  uint8_t rs2;
  uint8_t aux; /* low 4 bits: the instruction's kind (access width); high 4 bits: its length in halfwords */
  int32_t imm; /* immediate; for a jump within the page the displacement in bytes of slots; else see decode.c */
};
static_assert(sizeof(vmr_op) == 16, "pc arithmetic relies on 16-byte slots");

#define VMR_SINK 32
#define VMR_UNBOUNDED INT64_MAX
#define VMR_PAGE_SLOTS 2048

/* The decoded form of one guest-physical page. */
typedef struct vmr_code_page {
  vmr_op ops[VMR_PAGE_SLOTS + 1]; /* the last one goes on to the next page */
  vmr_op straddle[3];             /* the instruction whose second half lies in the next page, decoded on its own */
  uint8_t copy[VMR_PAGE_SIZE];    /* the bytes decoded from */
  const uint8_t *hva;
  uint64_t gpa;
  uint64_t generation;     /* vmr_hart.code_generation when copy was last compared with memory */
  uint64_t straddle_key;   /* pc | privilege for which straddle[] is valid ... */
  uint64_t straddle_epoch; /* ... while vmr_hart.itlb_epoch is this */
  bool referenced;
  struct vmr_code_page *next; /* hash chain */
  struct vmr_jit_page *jit;   /* what the translator knows of it, or NULL */
} vmr_code_page;

typedef struct vmr_tlb_entry {
  uint64_t tag;     /* page-aligned virtual address; all ones: empty (matches no masked address) */
  uintptr_t addend; /* host address = virtual address + addend */
} vmr_tlb_entry;

typedef struct vmr_itlb_entry {
  uint64_t tag;  /* page-aligned virtual address | privilege; all ones: empty */
  uint64_t bias; /* pc = bias + (slot address >> 3) */
} vmr_itlb_entry;

/* Where translated code goes on at a pc outside its page. */
typedef struct vmr_jump {
  uint64_t pc;
  uint64_t key; /* vmr_hart.jump_key while the entry holds */
  uintptr_t code;
  uint64_t bias; /* as in vmr_itlb_entry */
} vmr_jump;

#define VMR_JUMPS 512u
#define VMR_TLB_BITS 8
#define VMR_TLB_SIZE (1u << VMR_TLB_BITS)
#define VMR_ITLB_SIZE 256u
#define VMR_CODE_HASH 512u
#define VMR_DECODE_END 255u

/* Data-side translation contexts: user, supervisor, supervisor with SUM. */
#define VMR_MODE_U 0
#define VMR_MODE_S 1
#define VMR_MODE_SUM 2
#define VMR_MODES 3

/* One instruction as the ISA has it: its line in isa_ops.h and its fields. */
typedef struct vmr_insn {
  uint8_t id;     /* VMR_ID_* (decode.h) */
  uint8_t length; /* in halfwords */
  uint8_t rd, rs1, rs2;
  int32_t imm; /* in bytes for branches and jumps; else as the format has it (decode.c) */
} vmr_insn;

/* Instructions decoded lately: compiled code has few that differ. */
typedef struct vmr_decoded {
  uint32_t raw; /* 0, which is no instruction: an empty entry */
  vmr_insn insn;
} vmr_decoded;
#define VMR_DECODED 1024u

/* Addresses low to high, both included; low > high: none. */
typedef struct vmr_span {
  uint64_t low, high;
} vmr_span;

typedef enum vmr_access { VMR_LOAD, VMR_STORE, VMR_FETCH } vmr_access;

typedef struct vmr_tlb {
  vmr_tlb_entry load[VMR_TLB_SIZE];
  vmr_tlb_entry store[VMR_TLB_SIZE];
  bool used; /* something was filled in since the last flush */
} vmr_tlb;

/* SBI HSM states (SBI spec, HSM extension). */
#define VMR_HSM_STARTED 0u
#define VMR_HSM_STOPPED 1u
#define VMR_HSM_START_PENDING 2u
#define VMR_HSM_SUSPENDED 4u

/* Work other threads ask of a hart. */
#define VMR_REQ_KICK 1u
#define VMR_REQ_FENCE_I 2u
#define VMR_REQ_SFENCE 4u
#define VMR_REQ_QUIESCE 8u /* note the machine's epoch: see vmr_vcpu_ops.quiesce */
#define VMR_REQ_FENCES (VMR_REQ_FENCE_I | VMR_REQ_SFENCE | VMR_REQ_QUIESCE)

/* What all harts of a machine share. */
typedef struct vmr_rv64_shared {
  atomic_int references;
  vmr_sbi_console console;
} vmr_rv64_shared;

/* A load or store that left for Python and waits for the next run. */
typedef struct vmr_mmio_wait {
  bool active;
  bool load;
  uint8_t rd;
  uint8_t kind;
  uint8_t length; /* of the instruction, in bytes */
  vmr_bus_access access;
} vmr_mmio_wait;

/* What a hart is, to whoever saves it; all else of vmr_hart is a cache, a way to run, or a wire. */
struct vmr_rv64_state {
  _Alignas(16) uint64_t x[33]; /* the last is the sink */
  uint64_t priv;
  uint64_t f[32];
  uint32_t fflags;
  uint32_t frm;
  uint32_t fs; /* sstatus.FS */
  uint64_t retired;
  uint64_t pc; /* valid while not executing, and on the way to vmr_op_fetch */

  /* CSRs. sstatus holds SIE SPIE SPP SUM MXR only. */
  uint64_t sstatus, stvec, sscratch, sepc, scause, stval, satp, scounteren, senvcfg, stimecmp;
  uint32_t sie, siselect;

  _Atomic uint32_t ip; /* pending interrupts, but for the timer's comparison; any thread */
  atomic_uint hsm;
  uint64_t start_pc, start_opaque; /* written before hsm becomes START_PENDING */
};

struct vmr_hart {
  vmr_vcpu vcpu; /* first: see core.h */
  struct vmr_rv64_state; /* its members are the hart's (-fms-extensions) */
  uint64_t pc_bias; /* pc = pc_bias + (slot address >> 3) while executing */
  vmr_tlb_entry *load_tlb;
  vmr_tlb_entry *store_tlb;
  uint32_t mode; /* VMR_MODE_*: what load_tlb and store_tlb point into */
  uint32_t isa;
  int64_t slice;  /* the budget the current slice began with: slice - n instructions are not yet in `retired` */
  int64_t budget; /* left of vmr_rv64_run's bound */

  uint8_t *res_ptr; /* LR's reservation, or NULL */
  uint64_t res_value;
  uint32_t res_size;
  uint64_t misaligned_mask; /* bits a jump target must not have: 2 without C */

  uint64_t itlb_epoch;
  uint64_t jump_key; /* itlb_epoch and priv in one */
  uint64_t code_generation;
  vmr_span superpages[2]; /* what superpages the TLBs hold parts of, lower and upper half of the address space */
  uint64_t cause, tval;           /* an exception on its way to vmr_op_trap */
  vmr_exit *exit;
  vmr_mmio_wait mmio;
  bool timer_due; /* stimecmp has passed */
  bool exiting; /* *exit is filled in */
  uint32_t timebase_hz;
  uint32_t clock_skip;
  const vmr_ram *ram; /* where the last translation went; good until the next quiescent point */
  vmr_imsic_file *imsic; /* where its messages arrive, or NULL; it stands still once the machine has started */
  vmr_rv64_shared *shared;
  const vmr_clock *clock;
  vmr_clock_watcher clock_watcher; /* wakes it where it waits for a time */

  /* Wires from other threads. */
  _Atomic uint32_t requests; /* VMR_REQ_* */
  atomic_bool asleep;
  pthread_mutex_t lock;
  pthread_cond_t wake;

  vmr_rv64_stats stats;
  uint64_t seen_retired, seen_traps; /* what was counted when the hart was last seen to get on */
  atomic_bool lost;                  /* see vmr_trap_lost */

  vmr_code_page **pages; /* every page there is, page_count of page_limit */
  uint32_t page_count, page_limit, clock_hand;
  vmr_code_page *hash[VMR_CODE_HASH];
  uint8_t decode_first[32], decode_next[VMR_DECODE_END]; /* rows of isa_ops by major opcode */
  vmr_decoded decoded[VMR_DECODED];
  vmr_op step[3]; /* one instruction on its own, for an exact bound */
#ifdef VMR_TRAMPOLINE
  const vmr_op *next_ip;
  int64_t next_n;
#endif
  vmr_itlb_entry itlb[VMR_ITLB_SIZE];
  vmr_tlb tlb[VMR_MODES];
  struct vmr_jit *jit; /* the translator, or NULL */
  vmr_jump jumps[VMR_JUMPS];
};

/* Counters are read by other threads while the hart runs. */
#define VMR_COUNT(h, what) __atomic_store_n(&(h)->stats.what, (h)->stats.what + 1, __ATOMIC_RELAXED)

/* ---- mmu.c ------------------------------------------------------------------------------------------------------ */

/* Translate va. 0: *gpa holds the address; else the exception code. */
int vmr_mmu_translate(vmr_hart *h, uint64_t va, vmr_access access, uint64_t *gpa);
/* Host pointer of va's byte for the access (the TLB is filled), or NULL: h->cause holds the exception, or, when it is 0,
 * *gpa is the address of something that is not RAM, or, for a store, ROM. */
uint8_t *vmr_mmu_data(vmr_hart *h, uint64_t va, vmr_access access, uint64_t *gpa);
/* Fill the instruction TLB for pc. false: h->cause and h->tval are set. */
bool vmr_mmu_fetch(vmr_hart *h, uint64_t pc);
/* Read the instruction at pc (16 bits zero-extended, or 32). false: h->cause and h->tval are set. */
bool vmr_mmu_instruction(vmr_hart *h, uint64_t pc, uint32_t *raw);
void vmr_mmu_flush(vmr_hart *h);
void vmr_mmu_flush_data(vmr_hart *h);
void vmr_mmu_flush_fetch(vmr_hart *h);
void vmr_mmu_flush_page(vmr_hart *h, uint64_t va);
/* Select what privilege and SUM call for: the data TLB, the keys of jumps. */
void vmr_mmu_mode(vmr_hart *h);
/* What was remembered of pcs and their pages no longer holds. */
static inline void vmr_fetch_epoch(vmr_hart *h) {
  h->itlb_epoch++;
  h->jump_key = h->itlb_epoch << 1 | h->priv;
}

/* ---- code.c ----------------------------------------------------------------------------------------------------- */

/* The decoded page at gpa (page-aligned), fresh. NULL: out of memory. */
vmr_code_page *vmr_code_page_at(vmr_hart *h, uint64_t gpa, const uint8_t *hva);
/* Decode the slot ip of the page that executes; more than that one where there is a translator. */
void vmr_code_decode(vmr_hart *h, const vmr_op *ip);
/* Decode this slot. */
void vmr_code_decode_slot(vmr_hart *h, vmr_code_page *page, uint32_t slot);
/* Make page->straddle the instruction in the last halfword of the page and the first of the next.
 * false: h->cause and h->tval are set. */
bool vmr_code_straddle(vmr_hart *h, vmr_code_page *page, uint64_t pc);
/* Make h->step the instruction at h->pc. false: h->cause and h->tval are set. */
bool vmr_code_step(vmr_hart *h);
/* The page that ip, one of its slots, belongs to. */
vmr_code_page *vmr_code_page_of(const vmr_hart *h, const vmr_op *ip);
void vmr_code_free(vmr_hart *h);

/* ---- decode.c --------------------------------------------------------------------------------------------------- */

/* false: raw is no instruction of this hart. */
bool vmr_decode_fields(vmr_hart *h, uint32_t raw, vmr_insn *insn);
/* Decode raw (4 bytes, or 2 when raw & 3 != 3) into op. slot: its place in its page, or -1 where jumps must not be
 * resolved to slots. */
void vmr_decode(vmr_hart *h, uint32_t raw, int slot, vmr_op *op);
/* Build the index that decoding searches by. */
void vmr_decode_index(vmr_hart *h);
/* Choose the better handler of a common special form; fields other than rs1 stay as they are. */
void vmr_specialise(vmr_op *op);
/* A handler that does two instructions in a row, given each one's own, or NULL. */
vmr_op_fn *vmr_pair_of(vmr_op_fn *first, vmr_op_fn *second);
/* The 32-bit instruction that a compressed one stands for; 0 when it is reserved or of an extension that isa lacks. */
uint32_t vmr_rvc_expand(uint16_t raw, uint32_t isa);

/* ---- jit/, or jit_none.c where no translator is built in --------------------------------------------------------- */

/* The slot is reached by a jump, and has just been decoded. */
void vmr_jit_decoded(vmr_hart *h, vmr_code_page *page, uint32_t slot);
/* The page's bytes have changed. */
void vmr_jit_forget(vmr_hart *h, vmr_code_page *page);
/* The page's slots are given up. */
void vmr_jit_give_up(vmr_hart *h, vmr_code_page *page);
void vmr_jit_page_free(vmr_code_page *page);
void vmr_jit_free(vmr_hart *h);
/* Call the handler so that it may go on in translated code. */
void vmr_jit_run(vmr_hart *h, vmr_op_fn *fn, const vmr_op *ip, int64_t n);

/* ---- csr.c ------------------------------------------------------------------------------------------------------ */

#define VMR_SSTATUS_SIE (1ull << 1)
#define VMR_SSTATUS_SPIE (1ull << 5)
#define VMR_SSTATUS_SPP (1ull << 8)
#define VMR_SSTATUS_FS (3ull << 13)
#define VMR_SSTATUS_SUM (1ull << 18)
#define VMR_SSTATUS_MXR (1ull << 19)
/* What vmr_hart.sstatus holds. */
#define VMR_SSTATUS_PLAIN \
  (VMR_SSTATUS_SIE | VMR_SSTATUS_SPIE | VMR_SSTATUS_SPP | VMR_SSTATUS_SUM | VMR_SSTATUS_MXR)
#define VMR_SATP_MODE_SHIFT 60
#define VMR_CSR_SSTATUS 0x100
#define VMR_CSR_SIP 0x144
#define VMR_CSR_SIREG 0x151
#define VMR_CSR_STOPEI 0x15c

/* true: done. false: the access is illegal at the present privilege. retired: the value instret reads. */
bool vmr_csr_read(vmr_hart *h, uint32_t csr, uint64_t retired, uint64_t *value);
bool vmr_csr_write(vmr_hart *h, uint32_t csr, uint64_t value);
/* The same for sip, sireg and stopei, which other threads change: the bits of mask are written, and old is what stood there
 * before, in one step. */
bool vmr_csr_modify(vmr_hart *h, uint32_t csr, uint64_t value, uint64_t mask, uint64_t *old);
uint64_t vmr_sstatus(const vmr_hart *h);
void vmr_sstatus_write(vmr_hart *h, uint64_t value);

/* ---- aia.c ------------------------------------------------------------------------------------------------------ */

/* CSRs of Ssaia; false: no such CSR, or none here. write returns in old what stood there before. */
bool vmr_aia_read(vmr_hart *h, uint32_t csr, uint64_t *value);
bool vmr_aia_write(vmr_hart *h, uint32_t csr, uint64_t value, uint64_t mask, uint64_t *old);

/* ---- trap.c ----------------------------------------------------------------------------------------------------- */

/* Enter the trap handler for h->cause, h->tval with sepc = pc; moves h->pc. */
void vmr_trap_enter(vmr_hart *h, uint64_t pc, bool interrupt);
/* Take the most urgent interrupt that is pending and enabled; true: h->pc moved. */
bool vmr_trap_interrupt(vmr_hart *h);
/* Interrupts pending now, the timer's included. */
uint32_t vmr_pending(vmr_hart *h);
/* The number of the most urgent of those in ip, which is not 0. */
uint64_t vmr_first_interrupt(uint32_t ip);
void vmr_timer_set(vmr_hart *h, uint64_t stimecmp);
/* For a hart that has retired nothing since it was last seen to get on: whether it never will, and no other hart either.
 * h->exit then holds the fault. */
bool vmr_trap_lost(vmr_hart *h);

static inline bool vmr_interrupts_on(const vmr_hart *h) {
  return h->priv == VMR_PRIV_U || h->sstatus & VMR_SSTATUS_SIE;
}
/* Whether an interrupt is to be taken, without looking at the clock: the timer counts from the last look on. */
static inline bool vmr_interrupt_due(const vmr_hart *h) {
  uint32_t pending = atomic_load_explicit(&h->ip, memory_order_relaxed) | (h->timer_due ? VMR_IP_STIP : 0);
  return (pending & h->sie) && vmr_interrupts_on(h);
}

/* ---- hart.c ----------------------------------------------------------------------------------------------------- */

uint64_t vmr_time(const vmr_hart *h);
/* Do the fences that others requested; a quiescent point: no host address of guest memory is in hand. */
void vmr_hart_serve(vmr_hart *h);
/* Executing guest instructions: must acknowledge fences before others go on. */
bool vmr_hart_in_guest(const vmr_hart *h);
/* Cross the border of guest execution: enter serves what was requested meanwhile. */
void vmr_hart_enter(vmr_hart *h);
void vmr_hart_leave(vmr_hart *h);
/* Ask for work and wake the hart if it sleeps. */
void vmr_hart_request(vmr_hart *h, uint32_t request);
/* Raise pending interrupts and wake the hart if it sleeps. */
void vmr_hart_raise(vmr_hart *h, uint32_t ip);
/* Called while executing: sleep until an interrupt that sie enables is pending, or somebody kicks. */
void vmr_hart_sleep(vmr_hart *h);
/* Start a stopped hart. false: it was not stopped. */
bool vmr_hart_start(vmr_hart *h, uint64_t pc, uint64_t opaque);
/* The hart behind a vCPU of this engine. */
static inline vmr_hart *vmr_hart_of(vmr_vcpu *vcpu) { return (vmr_hart *)((char *)vcpu - offsetof(vmr_hart, vcpu)); }
/* The hart with this number, or NULL. */
vmr_hart *vmr_hart_at(const vmr_machine *machine, uint64_t hartid);

/* ---- state.c ---------------------------------------------------------------------------------------------------- */

int vmr_hart_declare_state(vmr_hart *h);

/* ---- sbi.c ------------------------------------------------------------------------------------------------------ */

/* Serve ecall from S-mode. false: the hart leaves (h->exit is filled in, or it stopped) and pc stays. */
bool vmr_sbi_call(vmr_hart *h);
#endif
