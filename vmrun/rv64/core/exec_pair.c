/* Pairs of instructions that compilers emit one after the other, done by one handler: a dispatch saved.
 *
 * Each half works on its own slot's fields, so a pair needs no form of its own: the first slot's handler is the pair's,
 * the second slot keeps its own and can be jumped to. When the second half goes the slow way, the first is done and
 * counted, and ip is the second's slot: traps are as precise as without pairs.
 */
#include "decode.h"
#include "exec_mem.h"

/* What one instruction does, by name. */
#define DO_mv RD = RS1
#define DO_li RD = IMM
#define DO_addi RD = RS1 + IMM
#define DO_addiw RD = (uint64_t)(int64_t)(int32_t)(RS1 + IMM)
#define DO_andi RD = RS1 & IMM
#define DO_slli RD = RS1 << ip->imm
#define DO_srli RD = RS1 >> ip->imm
#define DO_srliw RD = (uint64_t)(int64_t)((int32_t)((uint32_t)RS1 >> ip->imm))
#define DO_slliw RD = (uint64_t)(int64_t)((int32_t)((uint32_t)RS1 << ip->imm))
#define DO_add RD = RS1 + RS2
#define DO_sub RD = RS1 - RS2
#define DO_addw RD = (uint64_t)(int64_t)(int32_t)(RS1 + RS2)
#define DO_mulw RD = (uint64_t)(int64_t)(int32_t)((uint32_t)RS1 * (uint32_t)RS2)
#define DO_mul RD = RS1 * RS2
#define DO_xor RD = RS1 ^ RS2
#define DO_or RD = RS1 | RS2
#define DO_and RD = RS1 & RS2
#define DO_sltu RD = RS1 < RS2
#define DO_zext_h RD = (uint16_t)RS1
#define DO_sh3add RD = (RS1 << 3) + RS2
#define DO_lui RD = IMM
#define DO_auipc RD = PC + IMM
#define DO_ld LOAD_BODY(uint64_t, RD = loaded)
#define DO_lw LOAD_BODY(int32_t, RD = (uint64_t)(int64_t)loaded)
#define DO_lh LOAD_BODY(int16_t, RD = (uint64_t)(int64_t)loaded)
#define DO_lbu LOAD_BODY(uint8_t, RD = loaded)
#define DO_sd STORE_BODY(uint64_t, RS2)
#define DO_sw STORE_BODY(uint32_t, RS2)
#define DO_bne if (RS1 != RS2) JUMP_SLOT(ip->imm)
#define DO_beq if (RS1 == RS2) JUMP_SLOT(ip->imm)
#define DO_bnez if (RS1) JUMP_SLOT(ip->imm)
#define DO_beqz if (!RS1) JUMP_SLOT(ip->imm)
#define DO_bltu if (RS1 < RS2) JUMP_SLOT(ip->imm)
#define DO_bgeu if (RS1 >= RS2) JUMP_SLOT(ip->imm)

/* Chosen by how often they ran: a boot of Linux to init, and CoreMark-like loops. */
#define PAIRS(X) \
  X(addi, 2, addi, 2) X(addi, 4, addi, 4) X(addi, 2, add, 2) X(addi, 2, bne, 4) X(addi, 2, mulw, 4) X(addi, 2, addiw, 2) \
  X(addi, 2, sd, 2) X(add, 2, add, 2) X(add, 2, sltu, 4) X(add, 2, sub, 4) X(add, 2, bne, 4) X(add, 2, beq, 4) \
  X(add, 2, bltu, 4) X(add, 2, bnez, 4) X(add, 2, sd, 4) X(add, 2, ld, 2) X(add, 2, mv, 2) X(addw, 4, bne, 4) \
  X(addw, 4, addw, 4) X(addw, 4, srliw, 4) X(addiw, 2, addi, 2) X(addiw, 2, sw, 2) X(addiw, 2, bnez, 2) \
  X(addiw, 2, srli, 2) X(andi, 2, bnez, 2) X(andi, 2, beqz, 2) X(andi, 2, addiw, 2) X(and, 4, sltu, 4) \
  X(and, 4, sh3add, 4) X(auipc, 4, addi, 4) X(auipc, 4, ld, 4) X(lui, 4, addiw, 4) X(lui, 2, addiw, 2) \
  X(lui, 4, addiw, 2) X(li, 4, mv, 2) X(li, 2, mv, 2) X(mv, 2, mv, 2) X(mv, 2, ld, 2) X(mv, 2, li, 2) X(mv, 2, bnez, 2) \
  X(mv, 2, bltu, 4) X(mulw, 4, addw, 4) X(mul, 4, add, 2) X(slli, 4, srli, 4) X(slli, 4, srli, 2) X(slli, 2, srli, 2) \
  X(slli, 4, add, 2) X(slli, 2, add, 4) X(slli, 2, add, 2) X(srli, 2, add, 2) X(srli, 4, add, 2) X(srli, 2, srli, 4) \
  X(srliw, 4, slliw, 4) X(slliw, 4, or, 4) X(sltu, 4, add, 2) X(sub, 4, slli, 2) X(or, 4, addw, 4) X(or, 4, or, 4) \
  X(or, 4, xor, 4) X(xor, 4, or, 4) X(xor, 4, xor, 4) X(xor, 4, addw, 4) X(xor, 4, andi, 2) X(xor, 4, addi, 2) \
  X(ld, 2, ld, 2) X(ld, 4, ld, 4) X(ld, 2, ld, 4) X(ld, 4, ld, 2) X(ld, 2, add, 2) X(ld, 2, addi, 2) X(ld, 4, sub, 4) \
  X(ld, 4, xor, 4) X(ld, 2, beqz, 2) X(ld, 2, sd, 2) X(lw, 2, addi, 2) X(lw, 4, bne, 4) X(lh, 4, lh, 4) X(lh, 4, addi, 2) \
  X(lbu, 4, addi, 2) X(lbu, 4, andi, 2) X(lbu, 4, bnez, 2) X(lbu, 4, beqz, 2) X(lbu, 4, bne, 4) X(sd, 2, sd, 2) \
  X(sd, 4, sd, 4) X(sd, 2, addi, 2) X(sd, 4, addi, 2) X(sd, 2, mv, 2) X(sd, 4, add, 2) X(sw, 2, beq, 4)

#define PAIR(a, la, b, lb) \
  static VMR_HANDLER(a##_##la##_##b##_##lb) { \
    { DO_##a; } \
    ip += la / 2; \
    n--; \
    { DO_##b; } \
    DISPATCH(ip + lb / 2, n - 1); \
  }
PAIRS(PAIR)

typedef struct vmr_pair {
  vmr_op_fn *first, *second, *both;
} vmr_pair;

#define ROW(a, la, b, lb) {vmr_op_##a##_##la, vmr_op_##b##_##lb, vmr_op_##a##_##la##_##b##_##lb},
static const vmr_pair pairs[] = {PAIRS(ROW)};

vmr_op_fn *vmr_pair_of(vmr_op_fn *first, vmr_op_fn *second) {
  for (const vmr_pair *pair = pairs; pair < pairs + sizeof pairs / sizeof *pairs; pair++)
    if (pair->first == first && pair->second == second) return pair->both;
  return NULL;
}
