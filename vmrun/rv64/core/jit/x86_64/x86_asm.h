/* Encoding of x86-64 instructions (Intel SDM volume 2, chapter 2), and where guest registers live in host registers. */
#ifndef VMR_X86_ASM_H
#define VMR_X86_ASM_H
#include <stddef.h>
#include <string.h>

#include "exec.h"
#include "jit_host.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

/* RAX, RCX, RDX hold nothing between instructions. HART is the hart and BIAS bytes, so that what is used most of it has a
 * displacement of one byte. COUNT is n. Both survive calls of C. */
#define HART RBP
#define COUNT RBX
#define BIAS 192
#define AT(field) ((int32_t)offsetof(vmr_hart, field) - BIAS)
#define AT_X(g) (AT(x) + 8 * (int32_t)(g))
#define AT_F(g) (AT(f) + 8 * (int32_t)(g))

#define NO_HOME 255
#define HOMES 10
extern const uint8_t vmr_x86_homes[32];

/* W: 64-bit operands. BYTE: byte registers by their REX names. P_*: a mandatory prefix. */
#define W 1u
#define BYTE 2u
#define P_66 0x6600u
#define P_F2 0xf200u
#define P_F3 0xf300u

static inline void put8(vmr_emit *e, uint32_t byte) {
  if (e->at == e->end) {
    e->full = true;
    return;
  }
  *e->at++ = (uint8_t)byte;
}
static inline void put32(vmr_emit *e, uint32_t word) {
  for (int i = 0; i < 4; i++) put8(e, word >> 8 * i);
}
static inline void put64(vmr_emit *e, uint64_t word) {
  put32(e, (uint32_t)word);
  put32(e, (uint32_t)(word >> 32));
}

/* Prefix, REX and opcode (one byte, 0x0fXX, or 0x0f38XX). */
static inline void opcode(vmr_emit *e, uint32_t how, uint32_t op, unsigned reg, unsigned index, unsigned base) {
  if (how >> 8) put8(e, how >> 8);
  uint32_t rex = 0x40 | (how & W) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
  if (rex != 0x40 || how & BYTE) put8(e, rex);
  if (op >> 16) put8(e, op >> 16);
  if (op >> 8) put8(e, op >> 8);
  put8(e, op);
}

/* op reg, rm */
static inline void op_rr(vmr_emit *e, uint32_t how, uint32_t op, unsigned reg, unsigned rm) {
  opcode(e, how, op, reg, 0, rm);
  put8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* ModRM with a displacement; low: its r/m field, RSP where a SIB byte follows (-1: none). */
static inline void memory(vmr_emit *e, unsigned reg, unsigned low, int sib, unsigned base, int32_t disp) {
  bool none = !disp && (base & 7) != RBP, small = disp == (int8_t)disp;
  put8(e, (none ? 0u : small ? 0x40u : 0x80u) | (reg & 7) << 3 | low);
  if (sib >= 0) put8(e, (uint32_t)sib);
  if (none) return;
  if (small) put8(e, (uint32_t)disp);
  else put32(e, (uint32_t)disp);
}

/* op reg, [base + disp] */
static inline void op_rm(vmr_emit *e, uint32_t how, uint32_t op, unsigned reg, unsigned base, int32_t disp) {
  opcode(e, how, op, reg, 0, base);
  memory(e, reg, base & 7, (base & 7) == RSP ? 0x24 : -1, base, disp);
}

/* op reg, [base + index * (1 << scale) + disp]; index is not RSP */
static inline void op_rx(vmr_emit *e, uint32_t how, uint32_t op, unsigned reg, unsigned base, unsigned index, unsigned scale,
                         int32_t disp) {
  opcode(e, how, op, reg, index, base);
  memory(e, reg, RSP, (int)(scale << 6 | (index & 7) << 3 | (base & 7)), base, disp);
}

/* Group 1 by their number n: op rm, reg is 8n + 1, op reg, rm is 8n + 3. */
enum { X_ADD, X_OR, X_ADC, X_SBB, X_AND, X_SUB, X_XOR, X_CMP };
#define GROUP(n) (8u * (n) + 3)
/* Condition codes as jcc, setcc and cmovcc have them. */
enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

static inline void op_ri(vmr_emit *e, uint32_t how, unsigned group, unsigned rm, int32_t imm) {
  bool small = imm == (int8_t)imm;
  op_rr(e, how, small ? 0x83 : 0x81, group, rm);
  if (small) put8(e, (uint32_t)imm);
  else put32(e, (uint32_t)imm);
}

/* Shifts and rotations, group 2. */
enum { X_ROL, X_ROR, X_SHL = 4, X_SHR, X_SAR = 7 };
static inline void shift_i(vmr_emit *e, uint32_t how, unsigned group, unsigned rm, uint32_t by) {
  op_rr(e, how, 0xc1, group, rm);
  put8(e, by);
}
static inline void shift_cl(vmr_emit *e, uint32_t how, unsigned group, unsigned rm) { op_rr(e, how, 0xd3, group, rm); }

static inline void mov_rr(vmr_emit *e, unsigned to, unsigned from) {
  if (to != from) op_rr(e, W, 0x8b, to, from);
}
static inline void load64(vmr_emit *e, unsigned to, int32_t at) { op_rm(e, W, 0x8b, to, HART, at); }
static inline void store64(vmr_emit *e, unsigned from, int32_t at) { op_rm(e, W, 0x89, from, HART, at); }

static inline void mov_const(vmr_emit *e, unsigned to, uint64_t value) {
  if (!value) op_rr(e, 0, 0x33, to, to);
  else if (value == (uint32_t)value) {
    opcode(e, 0, 0xb8 | (to & 7), 0, 0, to);
    put32(e, (uint32_t)value);
  } else if (value == (uint64_t)(int64_t)(int32_t)value) {
    op_rr(e, W, 0xc7, 0, to);
    put32(e, (uint32_t)value);
  } else {
    opcode(e, W, 0xb8 | (to & 7), 0, 0, to);
    put64(e, value);
  }
}

static inline vmr_place jump32(vmr_emit *e) {
  put8(e, 0xe9);
  put32(e, 0);
  return vmr_here(e) - 4;
}
static inline vmr_place jump_if(vmr_emit *e, unsigned cc) {
  put8(e, 0x0f);
  put8(e, 0x80 | cc);
  put32(e, 0);
  return vmr_here(e) - 4;
}
static inline void jump_to(vmr_emit *e, vmr_place target) { vmr_host_bind(e, jump32(e), target); }

/* A short jump forward to where x86_here is called with what this returned. */
static inline vmr_place short_if(vmr_emit *e, unsigned cc) {
  put8(e, 0x70 | cc);
  put8(e, 0);
  return vmr_here(e);
}
static inline vmr_place short_jump(vmr_emit *e) {
  put8(e, 0xeb);
  put8(e, 0);
  return vmr_here(e);
}
static inline void short_here(vmr_emit *e, vmr_place from) {
  if (!e->full) e->base[from - 1] = (uint8_t)(vmr_here(e) - from);
}

/* ---- guest registers ---------------------------------------------------------------------------------------------- */

static inline unsigned home(unsigned g) { return vmr_x86_homes[g]; }
static inline bool has_home(unsigned g) { return vmr_x86_homes[g] != NO_HOME; }

/* op reg, guest register g (its home or its place in the hart) */
static inline void op_g(vmr_emit *e, uint32_t how, uint32_t op, unsigned reg, unsigned g) {
  if (has_home(g)) op_rr(e, how, op, reg, home(g));
  else op_rm(e, how, op, reg, HART, AT_X(g));
}
static inline void get(vmr_emit *e, unsigned to, unsigned g) {
  if (!g) mov_const(e, to, 0);
  else if (has_home(g)) mov_rr(e, to, home(g));
  else load64(e, to, AT_X(g));
}
/* The host register that has g: its home, or temporary, filled. */
static inline unsigned source(vmr_emit *e, unsigned g, unsigned temporary) {
  if (has_home(g)) return home(g);
  get(e, temporary, g);
  return temporary;
}
static inline void set(vmr_emit *e, unsigned g, unsigned from) {
  if (has_home(g)) mov_rr(e, home(g), from);
  else store64(e, from, AT_X(g));
}
/* Where to compute g: its home, or RAX, which done() then stores. */
static inline unsigned result(unsigned g) { return has_home(g) ? home(g) : RAX; }
static inline void done(vmr_emit *e, unsigned g) {
  if (!has_home(g)) store64(e, RAX, AT_X(g));
}
#endif
