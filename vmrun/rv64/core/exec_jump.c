/* Branches and jumps. Those within the page carry the displacement of slots; the others (far) look the page up. */
#include "decode.h"

#define JUMP_FAR(target) \
  do { \
    uint64_t target_ = (target); \
    if (VMR_UNLIKELY(target_ & h->misaligned_mask)) { \
      h->cause = VMR_EXC_FETCH_MISALIGNED; \
      h->tval = target_; \
      GO(trap, n); \
    } \
    JUMP_PC(target_, n - 1); \
  } while (0)

#define BRANCH(name, condition) \
  OPJ(name, if (condition) JUMP_SLOT(ip->imm); NEXT) \
  OPJ(name##_far, if (condition) JUMP_FAR(PC + IMM); NEXT)

BRANCH(beq, RS1 == RS2)
BRANCH(bne, RS1 != RS2)
BRANCH(blt, (int64_t)RS1 < (int64_t)RS2)
BRANCH(bge, (int64_t)RS1 >= (int64_t)RS2)
BRANCH(bltu, RS1 < RS2)
BRANCH(bgeu, RS1 >= RS2)
/* Special forms that decoding prefers. */
BRANCH(beqz, !RS1)
BRANCH(bnez, RS1)

OPJ(jal, RD = PC + 2 * LEN; JUMP_SLOT(ip->imm))
OPJ(j, (void)LEN; JUMP_SLOT(ip->imm))

/* The link is written after the target has been found good. */
#define JUMP_LINK(target) \
  do { \
    uint64_t to_ = (target); \
    if (VMR_UNLIKELY(to_ & h->misaligned_mask)) { \
      h->cause = VMR_EXC_FETCH_MISALIGNED; \
      h->tval = to_; \
      GO(trap, n); \
    } \
    RD = PC + 2 * LEN; \
    JUMP_PC(to_, n - 1); \
  } while (0)

OPJ(jal_far, JUMP_LINK(PC + IMM))
OPJ(j_far, (void)LEN; JUMP_FAR(PC + IMM))
OPJ(jalr, JUMP_LINK((RS1 + IMM) & ~1ull))
OPJ(jr, (void)LEN; JUMP_FAR((RS1 + IMM) & ~1ull))
