/* The rules every instruction handler follows.
 *
 * A handler has no stack frame on its fast path: it works on the hart, then continues with DISPATCH, a tail call to the
 * handler of the next slot. What can fail or is slow lives in out-of-line functions of the same signature, reached by a
 * tail call too. No handler takes the address of a local variable.
 * n counts down one per retired instruction; it is looked at where control can go backwards.
 * Where tail calls cannot be relied on (sanitizers, -O0), VMR_TRAMPOLINE makes DISPATCH return to a loop instead.
 */
#ifndef VMR_RV64_EXEC_H
#define VMR_RV64_EXEC_H

#include "hart.h"

#if defined(__clang__) && defined(__has_attribute)
#if __has_attribute(musttail)
#define VMR_TAIL __attribute__((musttail)) return
#endif
#endif
#ifndef VMR_TAIL
#define VMR_TAIL return
#endif

#define VMR_HANDLER(name) void vmr_op_##name(vmr_hart *h, const vmr_op *ip, int64_t n)

#ifdef VMR_TRAMPOLINE
#define DISPATCH(to, budget) \
  do { \
    const vmr_op *to_ = (to); \
    h->next_n = (budget); \
    h->next_ip = to_; \
    return; \
  } while (0)
#define LEAVE \
  do { \
    h->next_ip = NULL; \
    return; \
  } while (0)
#else
#define DISPATCH(to, budget) \
  do { \
    const vmr_op *to_ = (to); \
    int64_t budget_ = (budget); \
    VMR_TAIL to_->fn(h, to_, budget_); \
  } while (0)
#define LEAVE return
#endif

/* Go on in an out-of-line function. */
#define GO(name, budget) \
  do { \
    int64_t budget_ = (budget); \
    VMR_TAIL vmr_op_##name(h, ip, budget_); \
  } while (0)

/* LEN: the length of the present instruction in halfwords. */
#define NEXT DISPATCH(ip + LEN, n - 1)
#define LENGTH_OF(op) ((op)->aux >> 4)
#define PC (h->pc_bias + ((uintptr_t)ip >> 3))
#define RD h->x[ip->rd]
#define RS1 h->x[ip->rs1]
#define RS2 h->x[ip->rs2]
#define IMM ((uint64_t)(int64_t)ip->imm)

/* Continue at a slot of the same page; control may have gone backwards. */
#define JUMP_SLOT(displacement) \
  do { \
    const vmr_op *slot_ = (const vmr_op *)((const char *)ip + (displacement)); \
    if (VMR_UNLIKELY(n <= 1)) { \
      ip = slot_; \
      GO(slice_end, n - 1); \
    } \
    DISPATCH(slot_, n - 1); \
  } while (0)

/* Continue at a virtual address. */
#define JUMP_PC(target, budget) \
  do { \
    uint64_t pc_ = (target); \
    int64_t left_ = (budget); \
    const vmr_itlb_entry *e_ = &h->itlb[(pc_ >> 12) & (VMR_ITLB_SIZE - 1)]; \
    if (VMR_UNLIKELY(e_->tag != ((pc_ & ~VMR_PAGE_MASK) | h->priv) || left_ <= 0)) { \
      h->pc = pc_; \
      GO(fetch, left_); \
    } \
    h->pc_bias = e_->bias; \
    DISPATCH((const vmr_op *)((pc_ - e_->bias) << 3), left_); \
  } while (0)

/* An instruction with a compressed form (name_2) and a full one (name_4); or one with the full form only. */
#define OP(name, ...) \
  VMR_HANDLER(name##_2) { \
    enum { LEN = 1 }; \
    __VA_ARGS__; \
    NEXT; \
  } \
  OP4(name, __VA_ARGS__)
#define OP4(name, ...) \
  VMR_HANDLER(name##_4) { \
    enum { LEN = 2 }; \
    __VA_ARGS__; \
    NEXT; \
  }
/* One whose body ends in a jump of its own. */
#define OPJ(name, ...) \
  VMR_HANDLER(name##_2) { \
    enum { LEN = 1 }; \
    __VA_ARGS__; \
  } \
  VMR_HANDLER(name##_4) { \
    enum { LEN = 2 }; \
    __VA_ARGS__; \
  }

/* Out-of-line continuations. */
VMR_HANDLER(decode);    /* decode this slot, then do it */
VMR_HANDLER(page_end);  /* go on in the next page */
VMR_HANDLER(straddle);  /* an instruction in two pages */
VMR_HANDLER(fetch);     /* continue at h->pc */
VMR_HANDLER(slice_end); /* look at interrupts and requests, then continue at ip */
VMR_HANDLER(poll);      /* the same, then continue at h->pc */
VMR_HANDLER(trap);      /* raise h->cause with h->tval at ip */
VMR_HANDLER(illegal);   /* raise an illegal-instruction exception at ip */
VMR_HANDLER(load_slow);
VMR_HANDLER(store_slow);
VMR_HANDLER(profile); /* count, and translate what is hot */
VMR_HANDLER(far);     /* from translated code: continue at h->pc, and remember where that is */
VMR_HANDLER(leave); /* to vmr_rv64_run; h->pc says where to go on */

/* Do the load or store ip, which misses the data TLB. */
enum { VMR_ACCESS_DONE, VMR_ACCESS_TRAP, VMR_ACCESS_LEAVE }; /* what to go on with: ip + 1, trap, leave */
uint32_t vmr_access_slow(vmr_hart *h, const vmr_op *ip, bool load);
/* Put what a load of this kind (isa_ops.h) read into its register. */
void vmr_load_finish(vmr_hart *h, uint32_t rd, uint32_t kind, uint64_t value);
#endif
