/* Integer arithmetic and logic of the translator on x86-64. */
#include "x86_asm.h"

/* What the code of a boot of Linux names most (x15, x2, x14, x10, x13, x9, x12, x8, x11; x1 is of calls and returns), and x16,
 * which loops of compiled C use. */
const uint8_t vmr_x86_homes[32] = {
    [0] = NO_HOME, [1] = NO_HOME, [2] = R12,     [3] = NO_HOME, [4] = NO_HOME, [5] = NO_HOME, [6] = NO_HOME, [7] = NO_HOME,
    [8] = R13,     [9] = R14,     [10] = R8,     [11] = R11,    [12] = R10,    [13] = R9,     [14] = RDI,    [15] = RSI,
    [16] = R15,    [17] = NO_HOME, [18] = NO_HOME, [19] = NO_HOME, [20] = NO_HOME, [21] = NO_HOME, [22] = NO_HOME,
    [23] = NO_HOME, [24] = NO_HOME, [25] = NO_HOME, [26] = NO_HOME, [27] = NO_HOME, [28] = NO_HOME, [29] = NO_HOME,
    [30] = NO_HOME, [31] = NO_HOME,
};

bool vmr_host_has(vmr_alu alu) {
  return (alu != VMR_ALU_CPOP && alu != VMR_ALU_CPOPW) || __builtin_cpu_supports("popcnt");
}

void vmr_host_const(vmr_emit *e, unsigned rd, uint64_t value) {
  unsigned to = result(rd);
  mov_const(e, to, value);
  done(e, rd);
}

void vmr_host_pc(vmr_emit *e, unsigned rd, uint64_t offset) {
  unsigned to = result(rd);
  mov_const(e, to, offset);
  op_rm(e, W, GROUP(X_ADD), to, HART, AT(pc_bias));
  done(e, rd);
}

void vmr_host_fence(vmr_emit *e) { /* lock or dword [rsp], 0: orders as MFENCE does, and is faster */
  put8(e, 0xf0);
  op_rm(e, 0, 0x83, X_OR, RSP, 0);
  put8(e, 0);
}

/* A result of 32 bits in `from`, sign-extended into rd. */
static void set_word(vmr_emit *e, unsigned rd, unsigned from) {
  unsigned to = result(rd);
  op_rr(e, W, 0x63, to, from); /* movsxd */
  done(e, rd);
}

/* rd = rs1 op rs2 for an operation of group 1; how: W or 0 for the low 32 bits. */
static void group1(vmr_emit *e, uint32_t how, unsigned group, unsigned rd, unsigned rs1, unsigned rs2) {
  if (group != X_SUB && rd == rs2) {
    unsigned swap = rs1;
    rs1 = rs2;
    rs2 = swap;
  }
  if (how & W && has_home(rd) && (rd == rs1 || rd != rs2)) {
    get(e, home(rd), rs1);
    op_g(e, how, GROUP(group), home(rd), rs2);
    return;
  }
  get(e, RAX, rs1);
  op_g(e, how, GROUP(group), RAX, rs2);
  if (how & W) set(e, rd, RAX);
  else set_word(e, rd, RAX);
}

static void add(vmr_emit *e, unsigned rd, unsigned rs1, unsigned rs2) {
  if (has_home(rd) && has_home(rs1) && has_home(rs2) && rd != rs1 && rd != rs2)
    op_rx(e, W, 0x8d, home(rd), home(rs1), home(rs2), 0, 0); /* lea */
  else
    group1(e, W, X_ADD, rd, rs1, rs2);
}

/* rs1 << by, of its low word if uw, + rs2 */
static void shift_add(vmr_emit *e, bool uw, unsigned by, unsigned rd, unsigned rs1, unsigned rs2) {
  if (uw) op_g(e, 0, 0x8b, RAX, rs1);
  else get(e, RAX, rs1);
  unsigned base = source(e, rs2, RCX), to = result(rd);
  op_rx(e, W, 0x8d, to, base, RAX, by, 0);
  done(e, rd);
}

/* Flags of rs1 compared with rs2. */
static void compare(vmr_emit *e, unsigned rs1, unsigned rs2) {
  unsigned left = source(e, rs1, RAX);
  if (!rs2) op_rr(e, W, 0x85, left, left);
  else op_g(e, W, GROUP(X_CMP), left, rs2);
}

static void set_if(vmr_emit *e, unsigned cc, unsigned rd) {
  op_rr(e, BYTE, 0x0f90 | cc, 0, RAX);
  op_rr(e, BYTE, 0x0fb6, result(rd), RAX); /* movzx */
  done(e, rd);
}

static void minmax(vmr_emit *e, unsigned cc, unsigned rd, unsigned rs1, unsigned rs2) {
  get(e, RAX, rs1);
  get(e, RCX, rs2);
  op_rr(e, W, GROUP(X_CMP), RAX, RCX);
  op_rr(e, W, 0x0f40 | cc, RAX, RCX);
  set(e, rd, RAX);
}

static void shift(vmr_emit *e, uint32_t how, unsigned group, unsigned rd, unsigned rs1, unsigned rs2) {
  get(e, RCX, rs2);
  get(e, RAX, rs1);
  shift_cl(e, how, group, RAX);
  if (how & W) set(e, rd, RAX);
  else set_word(e, rd, RAX);
}

static void multiply(vmr_emit *e, uint32_t how, unsigned rd, unsigned rs1, unsigned rs2) {
  if (how & W && has_home(rd) && (rd == rs1 || rd != rs2)) {
    get(e, home(rd), rs1);
    op_g(e, W, 0x0faf, home(rd), rs2);
    return;
  }
  get(e, RAX, rs1);
  op_g(e, how, 0x0faf, RAX, rs2);
  if (how & W) set(e, rd, RAX);
  else set_word(e, rd, RAX);
}

/* The upper half of the product; one: 5 signed, 4 unsigned (group 3). */
static void multiply_high(vmr_emit *e, unsigned one, unsigned rd, unsigned rs1, unsigned rs2) {
  get(e, RAX, rs1);
  get(e, RCX, rs2);
  op_rr(e, W, 0xf7, one, RCX);
  set(e, rd, RDX);
}

/* As unsigned, less rs2 where rs1 is negative. */
static void multiply_high_mixed(vmr_emit *e, unsigned rd, unsigned rs1, unsigned rs2) {
  get(e, RAX, rs1);
  get(e, RCX, rs2);
  op_rr(e, W, 0xf7, 4, RCX);
  get(e, RAX, rs1);
  shift_i(e, W, X_SAR, RAX, 63);
  op_rr(e, W, GROUP(X_AND), RAX, RCX);
  op_rr(e, W, GROUP(X_SUB), RDX, RAX);
  set(e, rd, RDX);
}

/* A divisor of 0 and, signed, of -1 (which could overflow) are left out: x86 traps there. */
static void divide(vmr_emit *e, uint32_t how, bool is_signed, bool remainder, unsigned rd, unsigned rs1, unsigned rs2) {
  vmr_place minus_one = 0;
  get(e, RAX, rs1);
  get(e, RCX, rs2);
  op_rr(e, how, 0x85, RCX, RCX);
  vmr_place zero = short_if(e, CC_E);
  if (is_signed) {
    op_ri(e, how, X_CMP, RCX, -1);
    minus_one = short_if(e, CC_E);
    opcode(e, how, 0x99, 0, 0, 0); /* cqo, cdq */
  } else
    mov_const(e, RDX, 0);
  op_rr(e, how, 0xf7, is_signed ? 7 : 6, RCX);
  if (remainder) mov_rr(e, RAX, RDX);
  vmr_place out = short_jump(e), out2 = 0;
  if (is_signed) {
    short_here(e, minus_one);
    if (remainder) mov_const(e, RAX, 0);
    else op_rr(e, how, 0xf7, 3, RAX); /* neg */
    out2 = short_jump(e);
  }
  short_here(e, zero);
  if (!remainder) mov_const(e, RAX, ~0ull);
  short_here(e, out);
  if (is_signed) short_here(e, out2);
  if (how & W) set(e, rd, RAX);
  else set_word(e, rd, RAX);
}

/* bts, btr, btc, bt: the extension of their 0x0fXX. */
static void bit(vmr_emit *e, uint32_t op, unsigned rd, unsigned rs1, unsigned rs2) {
  get(e, RCX, rs2);
  get(e, RAX, rs1);
  op_rr(e, W, op, RCX, RAX);
  if (op == 0x0fa3) set_if(e, CC_B, rd);
  else set(e, rd, RAX);
}

static void inverted(vmr_emit *e, unsigned group, unsigned rd, unsigned rs1, unsigned rs2) {
  get(e, RAX, rs2);
  op_rr(e, W, 0xf7, 2, RAX); /* not */
  op_g(e, W, GROUP(group), RAX, rs1);
  set(e, rd, RAX);
}

void vmr_host_alu(vmr_emit *e, vmr_alu alu, unsigned rd, unsigned rs1, unsigned rs2) {
  switch (alu) {
  case VMR_ALU_ADD: add(e, rd, rs1, rs2); break;
  case VMR_ALU_SUB: group1(e, W, X_SUB, rd, rs1, rs2); break;
  case VMR_ALU_AND: group1(e, W, X_AND, rd, rs1, rs2); break;
  case VMR_ALU_OR: group1(e, W, X_OR, rd, rs1, rs2); break;
  case VMR_ALU_XOR: group1(e, W, X_XOR, rd, rs1, rs2); break;
  case VMR_ALU_ADDW: group1(e, 0, X_ADD, rd, rs1, rs2); break;
  case VMR_ALU_SUBW: group1(e, 0, X_SUB, rd, rs1, rs2); break;
  case VMR_ALU_SLT: compare(e, rs1, rs2); set_if(e, CC_L, rd); break;
  case VMR_ALU_SLTU: compare(e, rs1, rs2); set_if(e, CC_B, rd); break;
  case VMR_ALU_SLL: shift(e, W, X_SHL, rd, rs1, rs2); break;
  case VMR_ALU_SRL: shift(e, W, X_SHR, rd, rs1, rs2); break;
  case VMR_ALU_SRA: shift(e, W, X_SAR, rd, rs1, rs2); break;
  case VMR_ALU_SLLW: shift(e, 0, X_SHL, rd, rs1, rs2); break;
  case VMR_ALU_SRLW: shift(e, 0, X_SHR, rd, rs1, rs2); break;
  case VMR_ALU_SRAW: shift(e, 0, X_SAR, rd, rs1, rs2); break;
  case VMR_ALU_ROL: shift(e, W, X_ROL, rd, rs1, rs2); break;
  case VMR_ALU_ROR: shift(e, W, X_ROR, rd, rs1, rs2); break;
  case VMR_ALU_ROLW: shift(e, 0, X_ROL, rd, rs1, rs2); break;
  case VMR_ALU_RORW: shift(e, 0, X_ROR, rd, rs1, rs2); break;
  case VMR_ALU_MUL: multiply(e, W, rd, rs1, rs2); break;
  case VMR_ALU_MULW: multiply(e, 0, rd, rs1, rs2); break;
  case VMR_ALU_MULH: multiply_high(e, 5, rd, rs1, rs2); break;
  case VMR_ALU_MULHU: multiply_high(e, 4, rd, rs1, rs2); break;
  case VMR_ALU_MULHSU: multiply_high_mixed(e, rd, rs1, rs2); break;
  case VMR_ALU_DIV: divide(e, W, true, false, rd, rs1, rs2); break;
  case VMR_ALU_DIVU: divide(e, W, false, false, rd, rs1, rs2); break;
  case VMR_ALU_REM: divide(e, W, true, true, rd, rs1, rs2); break;
  case VMR_ALU_REMU: divide(e, W, false, true, rd, rs1, rs2); break;
  case VMR_ALU_DIVW: divide(e, 0, true, false, rd, rs1, rs2); break;
  case VMR_ALU_DIVUW: divide(e, 0, false, false, rd, rs1, rs2); break;
  case VMR_ALU_REMW: divide(e, 0, true, true, rd, rs1, rs2); break;
  case VMR_ALU_REMUW: divide(e, 0, false, true, rd, rs1, rs2); break;
  case VMR_ALU_ADD_UW: shift_add(e, true, 0, rd, rs1, rs2); break;
  case VMR_ALU_SH1ADD: shift_add(e, false, 1, rd, rs1, rs2); break;
  case VMR_ALU_SH2ADD: shift_add(e, false, 2, rd, rs1, rs2); break;
  case VMR_ALU_SH3ADD: shift_add(e, false, 3, rd, rs1, rs2); break;
  case VMR_ALU_SH1ADD_UW: shift_add(e, true, 1, rd, rs1, rs2); break;
  case VMR_ALU_SH2ADD_UW: shift_add(e, true, 2, rd, rs1, rs2); break;
  case VMR_ALU_SH3ADD_UW: shift_add(e, true, 3, rd, rs1, rs2); break;
  case VMR_ALU_ANDN: inverted(e, X_AND, rd, rs1, rs2); break;
  case VMR_ALU_ORN: inverted(e, X_OR, rd, rs1, rs2); break;
  case VMR_ALU_XNOR: inverted(e, X_XOR, rd, rs1, rs2); break;
  case VMR_ALU_MIN: minmax(e, CC_G, rd, rs1, rs2); break;
  case VMR_ALU_MINU: minmax(e, CC_A, rd, rs1, rs2); break;
  case VMR_ALU_MAX: minmax(e, CC_L, rd, rs1, rs2); break;
  case VMR_ALU_MAXU: minmax(e, CC_B, rd, rs1, rs2); break;
  case VMR_ALU_BCLR: bit(e, 0x0fb3, rd, rs1, rs2); break;
  case VMR_ALU_BEXT: bit(e, 0x0fa3, rd, rs1, rs2); break;
  case VMR_ALU_BINV: bit(e, 0x0fbb, rd, rs1, rs2); break;
  case VMR_ALU_BSET: bit(e, 0x0fab, rd, rs1, rs2); break;
  default: break; /* those of one operand, or with an immediate only */
  }
}

/* ---- with an immediate -------------------------------------------------------------------------------------------- */

static void group1_imm(vmr_emit *e, unsigned group, unsigned rd, unsigned rs1, int32_t imm) {
  unsigned to = result(rd);
  if (group == X_ADD && rd != rs1 && has_home(rs1)) {
    op_rm(e, W, 0x8d, to, home(rs1), imm); /* lea */
  } else {
    get(e, to, rs1);
    op_ri(e, W, group, to, imm);
  }
  done(e, rd);
}

static void addw_imm(vmr_emit *e, unsigned rd, unsigned rs1, int32_t imm) {
  if (!imm) { /* sext.w */
    op_g(e, W, 0x63, result(rd), rs1);
    done(e, rd);
    return;
  }
  if (has_home(rs1)) op_rm(e, 0, 0x8d, RAX, home(rs1), imm);
  else {
    get(e, RAX, rs1);
    op_ri(e, 0, X_ADD, RAX, imm);
  }
  set_word(e, rd, RAX);
}

static void compare_imm(vmr_emit *e, unsigned cc, unsigned rd, unsigned rs1, int32_t imm) {
  op_ri(e, W, X_CMP, source(e, rs1, RAX), imm);
  set_if(e, cc, rd);
}

static void shift_imm(vmr_emit *e, uint32_t how, unsigned group, unsigned rd, unsigned rs1, int32_t by) {
  if (how & W) {
    unsigned to = result(rd);
    get(e, to, rs1);
    if (by) shift_i(e, how, group, to, (uint32_t)by);
    done(e, rd);
    return;
  }
  op_g(e, 0, 0x8b, RAX, rs1);
  if (by) shift_i(e, how, group, RAX, (uint32_t)by);
  set_word(e, rd, RAX);
}

/* bt and its kin with an immediate: group 8. */
static void bit_imm(vmr_emit *e, unsigned group, unsigned rd, unsigned rs1, int32_t number) {
  get(e, RAX, rs1);
  op_rr(e, W, 0x0fba, group, RAX);
  put8(e, (uint32_t)number);
  if (group == 4) set_if(e, CC_B, rd);
  else set(e, rd, RAX);
}

void vmr_host_alu_imm(vmr_emit *e, vmr_alu alu, unsigned rd, unsigned rs1, int32_t imm) {
  switch (alu) {
  case VMR_ALU_ADD: group1_imm(e, X_ADD, rd, rs1, imm); break;
  case VMR_ALU_AND: group1_imm(e, X_AND, rd, rs1, imm); break;
  case VMR_ALU_OR: group1_imm(e, X_OR, rd, rs1, imm); break;
  case VMR_ALU_XOR: group1_imm(e, X_XOR, rd, rs1, imm); break;
  case VMR_ALU_ADDW: addw_imm(e, rd, rs1, imm); break;
  case VMR_ALU_SLT: compare_imm(e, CC_L, rd, rs1, imm); break;
  case VMR_ALU_SLTU: compare_imm(e, CC_B, rd, rs1, imm); break;
  case VMR_ALU_SLL: shift_imm(e, W, X_SHL, rd, rs1, imm); break;
  case VMR_ALU_SRL: shift_imm(e, W, X_SHR, rd, rs1, imm); break;
  case VMR_ALU_SRA: shift_imm(e, W, X_SAR, rd, rs1, imm); break;
  case VMR_ALU_SLLW: shift_imm(e, 0, X_SHL, rd, rs1, imm); break;
  case VMR_ALU_SRLW: shift_imm(e, 0, X_SHR, rd, rs1, imm); break;
  case VMR_ALU_SRAW: shift_imm(e, 0, X_SAR, rd, rs1, imm); break;
  case VMR_ALU_ROR: shift_imm(e, W, X_ROR, rd, rs1, imm); break;
  case VMR_ALU_RORW: shift_imm(e, 0, X_ROR, rd, rs1, imm); break;
  case VMR_ALU_SLL_UW:
    op_g(e, 0, 0x8b, RAX, rs1);
    if (imm) shift_i(e, W, X_SHL, RAX, (uint32_t)imm);
    set(e, rd, RAX);
    break;
  case VMR_ALU_BCLR: bit_imm(e, 6, rd, rs1, imm); break;
  case VMR_ALU_BEXT: bit_imm(e, 4, rd, rs1, imm); break;
  case VMR_ALU_BINV: bit_imm(e, 7, rd, rs1, imm); break;
  case VMR_ALU_BSET: bit_imm(e, 5, rd, rs1, imm); break;
  default: break; /* register forms only */
  }
}

/* ---- one operand -------------------------------------------------------------------------------------------------- */

/* Each byte that is not 0 becomes 0xff: bit 7 of ((a & 0x7f..) + 0x7f.. | a) says which are. */
static void or_combine(vmr_emit *e, unsigned rd, unsigned rs1) {
  get(e, RAX, rs1);
  mov_const(e, RCX, 0x7f7f7f7f7f7f7f7full);
  mov_rr(e, RDX, RAX);
  op_rr(e, W, GROUP(X_AND), RDX, RCX);
  op_rr(e, W, GROUP(X_ADD), RDX, RCX);
  op_rr(e, W, GROUP(X_OR), RAX, RDX);
  op_rr(e, W, 0xf7, 2, RCX);
  op_rr(e, W, GROUP(X_AND), RAX, RCX);
  shift_i(e, W, X_SHR, RAX, 7);
  op_rr(e, W, 0x69, RAX, RAX); /* imul by 0xff */
  put32(e, 0xff);
  set(e, rd, RAX);
}

/* BSF, and BSR, which counts from the other end. Without a bit set they set ZF alone, and leave none. */
static void count_zeros(vmr_emit *e, bool leading, uint32_t how, unsigned rd, unsigned rs1) {
  uint32_t bits = how & W ? 64 : 32;
  op_g(e, how, leading ? 0x0fbd : 0x0fbc, RAX, rs1);
  mov_const(e, RCX, leading ? 2 * bits - 1 : bits); /* not 0, so by MOV, which leaves the flags */
  op_rr(e, 0, 0x0f40 | CC_E, RAX, RCX);
  if (leading) op_ri(e, 0, X_XOR, RAX, (int32_t)(bits - 1));
  set(e, rd, RAX);
}

void vmr_host_unary(vmr_emit *e, vmr_alu alu, unsigned rd, unsigned rs1) {
  unsigned to = result(rd);
  switch (alu) {
  case VMR_ALU_MV:
    if (has_home(rd)) get(e, home(rd), rs1);
    else set(e, rd, source(e, rs1, RAX));
    return;
  case VMR_ALU_SEXT_B:
    get(e, RAX, rs1);
    op_rr(e, W, 0x0fbe, to, RAX);
    break;
  case VMR_ALU_SEXT_H: op_g(e, W, 0x0fbf, to, rs1); break;
  case VMR_ALU_ZEXT_H: op_g(e, 0, 0x0fb7, to, rs1); break;
  case VMR_ALU_REV8:
    get(e, to, rs1);
    opcode(e, W, 0x0fc8 | (to & 7), 0, 0, to);
    break;
  case VMR_ALU_ORC_B: or_combine(e, rd, rs1); return;
  case VMR_ALU_CLZ: count_zeros(e, true, W, rd, rs1); return;
  case VMR_ALU_CTZ: count_zeros(e, false, W, rd, rs1); return;
  case VMR_ALU_CPOP: op_g(e, P_F3 | W, 0x0fb8, to, rs1); break;
  case VMR_ALU_CLZW: count_zeros(e, true, 0, rd, rs1); return;
  case VMR_ALU_CTZW: count_zeros(e, false, 0, rd, rs1); return;
  case VMR_ALU_CPOPW: op_g(e, P_F3, 0x0fb8, to, rs1); break;
  default: return; /* those of two operands */
  }
  done(e, rd);
}
