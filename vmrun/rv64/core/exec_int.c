/* Integer arithmetic and logic: the base, M, Zba, Zbb, Zbs. */
#include "decode.h"

#define W(value) ((uint64_t)(int64_t)(int32_t)(value))

OP(lui, RD = IMM)
OP4(auipc, RD = PC + IMM)

OP(addi, RD = RS1 + IMM)
OP4(slti, RD = (int64_t)RS1 < (int64_t)IMM)
OP4(sltiu, RD = RS1 < IMM)
OP4(xori, RD = RS1 ^ IMM)
OP4(ori, RD = RS1 | IMM)
OP(andi, RD = RS1 & IMM)
OP(slli, RD = RS1 << ip->imm)
OP(srli, RD = RS1 >> ip->imm)
OP(srai, RD = (uint64_t)((int64_t)RS1 >> ip->imm))
OP(add, RD = RS1 + RS2)
OP(sub, RD = RS1 - RS2)
OP4(sll, RD = RS1 << (RS2 & 63))
OP4(slt, RD = (int64_t)RS1 < (int64_t)RS2)
OP4(sltu, RD = RS1 < RS2)
OP(xor, RD = RS1 ^ RS2)
OP4(srl, RD = RS1 >> (RS2 & 63))
OP4(sra, RD = (uint64_t)((int64_t)RS1 >> (RS2 & 63)))
OP(or, RD = RS1 | RS2)
OP(and, RD = RS1 & RS2)

OP(addiw, RD = W(RS1 + IMM))
OP4(slliw, RD = W((uint32_t)RS1 << ip->imm))
OP4(srliw, RD = W((uint32_t)RS1 >> ip->imm))
OP4(sraiw, RD = W((int32_t)RS1 >> ip->imm))
OP(addw, RD = W(RS1 + RS2))
OP(subw, RD = W(RS1 - RS2))
OP4(sllw, RD = W((uint32_t)RS1 << (RS2 & 31)))
OP4(srlw, RD = W((uint32_t)RS1 >> (RS2 & 31)))
OP4(sraw, RD = W((int32_t)RS1 >> (RS2 & 31)))

/* Special forms that decoding prefers. */
OP(mv, RD = RS1)
OP(li, RD = IMM)
OP(sext_w, RD = W(RS1))

/* ---- M: division by zero and the one overflow have defined results, no trap -------------------------------------- */

static inline uint64_t divide(int64_t a, int64_t b) {
  if (VMR_UNLIKELY(!b)) return ~0ull;
  if (VMR_UNLIKELY(a == INT64_MIN && b == -1)) return (uint64_t)a;
  return (uint64_t)(a / b);
}
static inline uint64_t remainder_of(int64_t a, int64_t b) {
  if (VMR_UNLIKELY(!b)) return (uint64_t)a;
  if (VMR_UNLIKELY(a == INT64_MIN && b == -1)) return 0;
  return (uint64_t)(a % b);
}
static inline uint64_t divide_w(int32_t a, int32_t b) {
  if (VMR_UNLIKELY(!b)) return ~0ull;
  if (VMR_UNLIKELY(a == INT32_MIN && b == -1)) return W(a);
  return W(a / b);
}
static inline uint64_t remainder_w(int32_t a, int32_t b) {
  if (VMR_UNLIKELY(!b)) return W(a);
  if (VMR_UNLIKELY(a == INT32_MIN && b == -1)) return 0;
  return W(a % b);
}

OP4(mul, RD = RS1 * RS2)
OP4(mulh, RD = (uint64_t)(((__int128)(int64_t)RS1 * (int64_t)RS2) >> 64))
OP4(mulhsu, RD = (uint64_t)(((__int128)(int64_t)RS1 * (__int128)RS2) >> 64))
OP4(mulhu, RD = (uint64_t)(((unsigned __int128)RS1 * RS2) >> 64))
OP4(mulw, RD = W((uint32_t)RS1 * (uint32_t)RS2))
OP4(div, RD = divide((int64_t)RS1, (int64_t)RS2))
OP4(divu, RD = VMR_LIKELY(RS2) ? RS1 / RS2 : ~0ull)
OP4(rem, RD = remainder_of((int64_t)RS1, (int64_t)RS2))
OP4(remu, RD = VMR_LIKELY(RS2) ? RS1 % RS2 : RS1)
OP4(divw, RD = divide_w((int32_t)RS1, (int32_t)RS2))
OP4(divuw, RD = VMR_LIKELY((uint32_t)RS2) ? W((uint32_t)RS1 / (uint32_t)RS2) : ~0ull)
OP4(remw, RD = remainder_w((int32_t)RS1, (int32_t)RS2))
OP4(remuw, RD = VMR_LIKELY((uint32_t)RS2) ? W((uint32_t)RS1 % (uint32_t)RS2) : W(RS1))

/* ---- Zba --------------------------------------------------------------------------------------------------------- */

OP4(add_uw, RD = (uint32_t)RS1 + RS2)
OP4(sh1add, RD = (RS1 << 1) + RS2)
OP4(sh2add, RD = (RS1 << 2) + RS2)
OP4(sh3add, RD = (RS1 << 3) + RS2)
OP4(sh1add_uw, RD = ((uint64_t)(uint32_t)RS1 << 1) + RS2)
OP4(sh2add_uw, RD = ((uint64_t)(uint32_t)RS1 << 2) + RS2)
OP4(sh3add_uw, RD = ((uint64_t)(uint32_t)RS1 << 3) + RS2)
OP4(slli_uw, RD = (uint64_t)(uint32_t)RS1 << ip->imm)

/* ---- Zbb --------------------------------------------------------------------------------------------------------- */

static inline uint64_t rotate_right(uint64_t a, uint64_t by) { return a >> (by & 63) | a << (-by & 63); }
static inline uint64_t rotate_right_w(uint32_t a, uint64_t by) { return W(a >> (by & 31) | a << (-by & 31)); }
static inline uint64_t or_combine(uint64_t a) {
  uint64_t low7 = 0x7f7f7f7f7f7f7f7full;
  uint64_t set = (((a & low7) + low7) | a) & ~low7; /* bit 7 of each byte that is not 0 */
  return (set >> 7) * 0xff;
}

OP4(andn, RD = RS1 & ~RS2)
OP4(orn, RD = RS1 | ~RS2)
OP4(xnor, RD = ~(RS1 ^ RS2))
OP4(clz, RD = RS1 ? (uint64_t)__builtin_clzll(RS1) : 64)
OP4(ctz, RD = RS1 ? (uint64_t)__builtin_ctzll(RS1) : 64)
OP4(cpop, RD = (uint64_t)__builtin_popcountll(RS1))
OP4(clzw, RD = (uint32_t)RS1 ? (uint64_t)__builtin_clz((uint32_t)RS1) : 32)
OP4(ctzw, RD = (uint32_t)RS1 ? (uint64_t)__builtin_ctz((uint32_t)RS1) : 32)
OP4(cpopw, RD = (uint64_t)__builtin_popcount((uint32_t)RS1))
OP4(sext_b, RD = (uint64_t)(int64_t)(int8_t)RS1)
OP4(sext_h, RD = (uint64_t)(int64_t)(int16_t)RS1)
OP4(zext_h, RD = (uint16_t)RS1)
OP4(min, RD = (int64_t)RS1 < (int64_t)RS2 ? RS1 : RS2)
OP4(minu, RD = RS1 < RS2 ? RS1 : RS2)
OP4(max, RD = (int64_t)RS1 > (int64_t)RS2 ? RS1 : RS2)
OP4(maxu, RD = RS1 > RS2 ? RS1 : RS2)
OP4(rol, RD = rotate_right(RS1, -RS2))
OP4(ror, RD = rotate_right(RS1, RS2))
OP4(rori, RD = rotate_right(RS1, IMM))
OP4(rolw, RD = rotate_right_w((uint32_t)RS1, -RS2))
OP4(rorw, RD = rotate_right_w((uint32_t)RS1, RS2))
OP4(roriw, RD = rotate_right_w((uint32_t)RS1, IMM))
OP4(orc_b, RD = or_combine(RS1))
OP4(rev8, RD = __builtin_bswap64(RS1))

/* ---- Zbs --------------------------------------------------------------------------------------------------------- */

OP4(bclr, RD = RS1 & ~(1ull << (RS2 & 63)))
OP4(bext, RD = RS1 >> (RS2 & 63) & 1)
OP4(binv, RD = RS1 ^ 1ull << (RS2 & 63))
OP4(bset, RD = RS1 | 1ull << (RS2 & 63))
OP4(bclri, RD = RS1 & ~(1ull << ip->imm))
OP4(bexti, RD = RS1 >> ip->imm & 1)
OP4(binvi, RD = RS1 ^ 1ull << ip->imm)
OP4(bseti, RD = RS1 | 1ull << ip->imm)
