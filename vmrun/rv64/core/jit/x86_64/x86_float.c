/* F and D of the translator on x86-64: SSE2 where result and flags are those of RISC-V (fp.c says when), else the slow
 * path. The caller has seen to it that NX is raised already and that rounding is to nearest even. */
#include "fp_api.h"
#include "x86_asm.h"

enum { XMM0, XMM1 };
#define LOW_EXPONENT 64 /* results below it are left to the exact code, as in fp.c */

static void slow_if(vmr_emit *e, vmr_slow *slow, unsigned cc) { slow->jumps[slow->count++] = jump_if(e, cc); }

/* ---- registers ---------------------------------------------------------------------------------------------------- */

/* P_F2 and P_F3 double and single: the same opcodes. */
static uint32_t width(bool single) { return single ? P_F3 : P_F2; }
static void op_f(vmr_emit *e, bool single, uint32_t op, unsigned xmm, unsigned f) {
  op_rm(e, width(single), op, xmm, HART, AT_F(f));
}
/* A single stands in a box of ones; another box is left to the slow path. */
static void boxed(vmr_emit *e, vmr_slow *slow, bool single, unsigned f) {
  if (!single) return;
  op_rm(e, 0, 0x83, X_CMP, HART, AT_F(f) + 4);
  put8(e, 0xff);
  slow_if(e, slow, CC_NE);
}
static void box(vmr_emit *e, unsigned f) {
  op_rm(e, 0, 0xc7, 0, HART, AT_F(f) + 4);
  put32(e, 0xffffffff);
}
static void set_f(vmr_emit *e, bool single, unsigned f) {
  op_rm(e, width(single), 0x0f11, XMM0, HART, AT_F(f)); /* movss, movsd */
  if (single) box(e, f);
}

/* ---- what is left to the exact code ------------------------------------------------------------------------------- */

/* EAX: the biased exponent and, above it, the sign, of f or of XMM0. */
static void top_of_f(vmr_emit *e, bool single, unsigned f) {
  op_rm(e, 0, 0x8b, RAX, HART, AT_F(f) + (single ? 0 : 4));
  shift_i(e, 0, X_SHR, RAX, single ? 23 : 20);
}
static void top_of_result(vmr_emit *e, bool single) {
  if (single) op_rr(e, P_66, 0x0f7e, XMM0, RAX); /* movd */
  else op_rr(e, P_66 | W, 0x0f7e, XMM0, RAX);    /* movq */
  shift_i(e, single ? 0 : W, X_SHR, RAX, single ? 23 : 52);
}
/* Slow unless low <= EAX's exponent < that of infinity; with_sign: and not negative. */
static void exponent_from(vmr_emit *e, vmr_slow *slow, bool single, int32_t low, bool with_sign) {
  int32_t top = single ? 0xff : 0x7ff;
  if (!with_sign) op_ri(e, 0, X_AND, RAX, top);
  op_ri(e, 0, X_SUB, RAX, low);
  op_ri(e, 0, X_CMP, RAX, top - low);
  slow_if(e, slow, CC_AE);
}
static void result_plain(vmr_emit *e, vmr_slow *slow, bool single) {
  top_of_result(e, single);
  exponent_from(e, slow, single, LOW_EXPONENT, false);
}

/* ---- operations --------------------------------------------------------------------------------------------------- */

static void arithmetic(vmr_emit *e, vmr_slow *slow, bool single, uint32_t op, const vmr_insn *insn) {
  boxed(e, slow, single, insn->rs1);
  if (insn->rs2 != insn->rs1) boxed(e, slow, single, insn->rs2);
  op_f(e, single, 0x0f10, XMM0, insn->rs1);
  op_f(e, single, op, XMM0, insn->rs2);
  result_plain(e, slow, single);
  set_f(e, single, insn->rd);
}

static void square_root(vmr_emit *e, vmr_slow *slow, bool single, const vmr_insn *insn) {
  boxed(e, slow, single, insn->rs1);
  top_of_f(e, single, insn->rs1);
  exponent_from(e, slow, single, 1, true);
  op_f(e, single, 0x0f51, XMM0, insn->rs1);
  set_f(e, single, insn->rd);
}

/* Normal, or zero where that may be. */
static void normal(vmr_emit *e, vmr_slow *slow, bool single, unsigned f, bool or_zero) {
  boxed(e, slow, single, f);
  vmr_place zero = 0;
  if (or_zero) {
    if (single) op_rm(e, 0, 0x8b, RAX, HART, AT_F(f));
    else load64(e, RAX, AT_F(f));
    op_rr(e, single ? 0 : W, GROUP(X_ADD), RAX, RAX);
    zero = short_if(e, CC_E);
  }
  top_of_f(e, single, f);
  exponent_from(e, slow, single, 1, false);
  if (or_zero) short_here(e, zero);
}

/* VFMADD231SD, VFNMADD, VFMSUB, VFNMSUB (Intel SDM volume 2C): XMM0 = +-(XMM1 * rs2) +- XMM0. */
static void fused(vmr_emit *e, vmr_slow *slow, bool single, unsigned signs, const vmr_insn *insn) {
  static const uint8_t opcodes[] = {0xb9, 0xbd, 0xbb, 0xbf}; /* by VMR_JIT_MINUS_PRODUCT | 2 VMR_JIT_MINUS_ADDEND */
  unsigned rs3 = (unsigned)insn->imm >> 3;
  normal(e, slow, single, insn->rs1, false);
  normal(e, slow, single, insn->rs2, false);
  normal(e, slow, single, rs3, true);
  op_f(e, single, 0x0f10, XMM0, rs3);
  op_f(e, single, 0x0f10, XMM1, insn->rs1);
  put8(e, 0xc4); /* VEX.LIG.66.0F38.W1 (double) or W0, vvvv = XMM1, ModRM [RBP + disp32] */
  put8(e, 0xe2);
  put8(e, (single ? 0u : 0x80u) | (~(uint32_t)XMM1 & 15) << 3 | 1);
  put8(e, opcodes[signs]);
  put8(e, 0x80 | XMM0 << 3 | (HART & 7));
  put32(e, (uint32_t)AT_F(insn->rs2));
  result_plain(e, slow, single);
  set_f(e, single, insn->rd);
}

/* min (0x0f5d) and max (0x0f5f) of two that differ. */
static void extreme(vmr_emit *e, vmr_slow *slow, bool single, uint32_t op, const vmr_insn *insn) {
  boxed(e, slow, single, insn->rs1);
  boxed(e, slow, single, insn->rs2);
  op_f(e, single, 0x0f10, XMM0, insn->rs1);
  op_rm(e, single ? 0 : P_66, 0x0f2e, XMM0, HART, AT_F(insn->rs2)); /* ucomis */
  slow_if(e, slow, CC_P);
  slow_if(e, slow, CC_E);
  op_f(e, single, op, XMM0, insn->rs2);
  set_f(e, single, insn->rd);
}

/* rs1 < rs2 is rs2 above rs1: the flags of a carry are those of a NaN too, those of above are not. */
static void comparison(vmr_emit *e, vmr_slow *slow, bool single, unsigned cc, const vmr_insn *insn) {
  boxed(e, slow, single, insn->rs1);
  boxed(e, slow, single, insn->rs2);
  op_f(e, single, 0x0f10, XMM0, insn->rs2);
  op_rm(e, single ? 0 : P_66, 0x0f2e, XMM0, HART, AT_F(insn->rs1));
  slow_if(e, slow, CC_P);
  if (!insn->rd) return;
  op_rr(e, BYTE, 0x0f90 | cc, 0, RAX);
  op_rr(e, BYTE, 0x0fb6, result(insn->rd), RAX);
  done(e, insn->rd);
}

/* What does not fit comes out as the lowest integer. */
static void to_integer(vmr_emit *e, vmr_slow *slow, bool single, bool is_long, const vmr_insn *insn) {
  uint32_t how = width(single) | (is_long ? W : 0);
  boxed(e, slow, single, insn->rs1);
  op_rm(e, how, (insn->imm & 7) == VMR_RM_RTZ ? 0x0f2c : 0x0f2d, RAX, HART, AT_F(insn->rs1));
  mov_const(e, RCX, is_long ? 1ull << 63 : 1ull << 31);
  op_rr(e, is_long ? W : 0, GROUP(X_CMP), RAX, RCX);
  slow_if(e, slow, CC_E);
  if (!insn->rd) return;
  op_rr(e, W, is_long ? 0x8b : 0x63, result(insn->rd), RAX);
  done(e, insn->rd);
}

static void from_integer(vmr_emit *e, bool single, bool is_long, bool is_signed, const vmr_insn *insn) {
  op_rr(e, 0, 0x0f57, XMM0, XMM0); /* xorps: the rest of XMM0 is not waited for */
  if (is_long) get(e, RAX, insn->rs1);
  else op_g(e, 0, 0x8b, RAX, insn->rs1);
  op_rr(e, width(single) | (is_long || !is_signed ? W : 0), 0x0f2a, XMM0, RAX);
  set_f(e, single, insn->rd);
}

static void single_of_double(vmr_emit *e, vmr_slow *slow, const vmr_insn *insn) {
  op_f(e, false, 0x0f5a, XMM0, insn->rs1);
  result_plain(e, slow, true);
  set_f(e, true, insn->rd);
}

static void double_of_single(vmr_emit *e, vmr_slow *slow, const vmr_insn *insn) {
  normal(e, slow, true, insn->rs1, true);
  op_f(e, true, 0x0f5a, XMM0, insn->rs1);
  set_f(e, false, insn->rd);
}

static bool has_rounding(const vmr_insn *insn, unsigned mode) {
  unsigned rm = insn->imm & 7;
  return rm == mode || (rm == 7 && mode == VMR_RM_RNE);
}

bool vmr_host_fp(vmr_emit *e, unsigned operation, const vmr_insn *insn, vmr_slow *slow) {
  unsigned op = operation & VMR_JIT_FP_OP;
  bool single = op < VMR_FP_ADD_D, nearest = has_rounding(insn, VMR_RM_RNE), chopped = has_rounding(insn, VMR_RM_RTZ);
  switch (single ? op + VMR_FP_ADD_D : op) {
  case VMR_FP_ADD_D: return nearest && (arithmetic(e, slow, single, 0x0f58, insn), true);
  case VMR_FP_SUB_D: return nearest && (arithmetic(e, slow, single, 0x0f5c, insn), true);
  case VMR_FP_MUL_D: return nearest && (arithmetic(e, slow, single, 0x0f59, insn), true);
  case VMR_FP_DIV_D: return nearest && (arithmetic(e, slow, single, 0x0f5e, insn), true);
  case VMR_FP_SQRT_D: return nearest && (square_root(e, slow, single, insn), true);
  case VMR_FP_FMA_D:
    if (!nearest || !__builtin_cpu_supports("fma")) return false;
    fused(e, slow, single, operation / VMR_JIT_MINUS_PRODUCT, insn);
    return true;
  case VMR_FP_MIN_D: extreme(e, slow, single, 0x0f5d, insn); return true;
  case VMR_FP_MAX_D: extreme(e, slow, single, 0x0f5f, insn); return true;
  case VMR_FP_EQ_D: comparison(e, slow, single, CC_E, insn); return true;
  case VMR_FP_LT_D: comparison(e, slow, single, CC_A, insn); return true;
  case VMR_FP_LE_D: comparison(e, slow, single, CC_AE, insn); return true;
  case VMR_FP_CVT_W_D: return (nearest || chopped) && (to_integer(e, slow, single, false, insn), true);
  case VMR_FP_CVT_L_D: return (nearest || chopped) && (to_integer(e, slow, single, true, insn), true);
  case VMR_FP_CVT_D_W: return nearest && (from_integer(e, single, false, true, insn), true);
  case VMR_FP_CVT_D_WU: return nearest && (from_integer(e, single, false, false, insn), true);
  case VMR_FP_CVT_D_L: return nearest && (from_integer(e, single, true, true, insn), true);
  case VMR_FP_CVT_D_S: /* and VMR_FP_CVT_S_D */
    if (single) return nearest && (single_of_double(e, slow, insn), true);
    double_of_single(e, slow, insn);
    return true;
  default: return false;
  }
}

/* ---- moves -------------------------------------------------------------------------------------------------------- */

/* The sign of rs2 in rs1's place; flip: what is done to it. */
static void sign(vmr_emit *e, vmr_slow *slow, bool single, unsigned kind, const vmr_insn *insn) {
  uint32_t how = single ? 0 : W, top = single ? 31 : 63;
  boxed(e, slow, single, insn->rs1);
  if (insn->rs1 != insn->rs2) boxed(e, slow, single, insn->rs2);
  op_rm(e, how, 0x8b, RAX, HART, AT_F(insn->rs1));
  if (insn->rs1 == insn->rs2) {
    static const uint8_t groups[] = {0, 7, 6}; /* of 0x0fba: nothing, btc, btr */
    if (kind) {
      op_rr(e, how, 0x0fba, groups[kind], RAX);
      put8(e, top);
    }
  } else {
    op_rm(e, how, 0x8b, RCX, HART, AT_F(insn->rs2));
    if (kind == 1) op_rr(e, how, 0xf7, 2, RCX); /* not */
    shift_i(e, how, X_SHR, RCX, top);
    shift_i(e, how, X_SHL, RCX, top);
    if (kind != 2) {
      op_rr(e, how, 0x0fba, 6, RAX);
      put8(e, top);
    }
    op_rr(e, how, GROUP(kind == 2 ? X_XOR : X_OR), RAX, RCX);
  }
  op_rm(e, how, 0x89, RAX, HART, AT_F(insn->rd));
  if (single) box(e, insn->rd);
}

void vmr_host_fp_move(vmr_emit *e, vmr_fp_move move, const vmr_insn *insn, vmr_slow *slow) {
  switch (move) {
  case VMR_MOVE_SIGN_S:
  case VMR_MOVE_NOT_SIGN_S:
  case VMR_MOVE_XOR_SIGN_S: sign(e, slow, true, move - VMR_MOVE_SIGN_S, insn); break;
  case VMR_MOVE_SIGN_D:
  case VMR_MOVE_NOT_SIGN_D:
  case VMR_MOVE_XOR_SIGN_D: sign(e, slow, false, move - VMR_MOVE_SIGN_D, insn); break;
  case VMR_MOVE_X_D:
  case VMR_MOVE_X_W:
    if (!insn->rd) break;
    op_rm(e, W, move == VMR_MOVE_X_D ? 0x8b : 0x63, result(insn->rd), HART, AT_F(insn->rs1));
    done(e, insn->rd);
    break;
  case VMR_MOVE_D_X: store64(e, source(e, insn->rs1, RAX), AT_F(insn->rd)); break;
  case VMR_MOVE_W_X:
    op_rm(e, 0, 0x89, source(e, insn->rs1, RAX), HART, AT_F(insn->rd));
    box(e, insn->rd);
    break;
  }
}

/* ---- state -------------------------------------------------------------------------------------------------------- */

void vmr_host_fp_on(vmr_emit *e, vmr_slow *off) {
  op_rm(e, 0, 0x83, X_CMP, HART, AT(fs));
  put8(e, 0);
  slow_if(e, off, CC_E);
}

void vmr_host_fp_nearest(vmr_emit *e, vmr_slow *other) {
  op_rm(e, 0, 0x83, X_CMP, HART, AT(frm));
  put8(e, 0);
  slow_if(e, other, CC_NE);
  op_rm(e, 0, 0xf6, 0, HART, AT(fflags)); /* test byte */
  put8(e, VMR_FP_NX);
  slow_if(e, other, CC_E);
}

void vmr_host_fp_dirty(vmr_emit *e) {
  op_rm(e, 0, 0xc7, 0, HART, AT(fs));
  put32(e, 3);
}
