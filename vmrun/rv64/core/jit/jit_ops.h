/* What translation makes of each instruction, for all hosts: name, shape, operation. What is not here is left to the
 * interpreter's handler. */
#ifndef VMR_JIT_OPS_H
#define VMR_JIT_OPS_H
#include "fp_api.h"

/* Of 64 bits; W: of the low 32, the result sign-extended. Shift counts are taken modulo the width. */
typedef enum vmr_alu {
  VMR_ALU_ADD, VMR_ALU_SUB, VMR_ALU_AND, VMR_ALU_OR, VMR_ALU_XOR, VMR_ALU_SLT, VMR_ALU_SLTU,
  VMR_ALU_SLL, VMR_ALU_SRL, VMR_ALU_SRA, VMR_ALU_ADDW, VMR_ALU_SUBW, VMR_ALU_SLLW, VMR_ALU_SRLW, VMR_ALU_SRAW,
  VMR_ALU_MUL, VMR_ALU_MULH, VMR_ALU_MULHSU, VMR_ALU_MULHU, VMR_ALU_MULW,
  VMR_ALU_DIV, VMR_ALU_DIVU, VMR_ALU_REM, VMR_ALU_REMU, VMR_ALU_DIVW, VMR_ALU_DIVUW, VMR_ALU_REMW, VMR_ALU_REMUW,
  VMR_ALU_ADD_UW, VMR_ALU_SH1ADD, VMR_ALU_SH2ADD, VMR_ALU_SH3ADD,
  VMR_ALU_SH1ADD_UW, VMR_ALU_SH2ADD_UW, VMR_ALU_SH3ADD_UW, VMR_ALU_SLL_UW,
  VMR_ALU_ANDN, VMR_ALU_ORN, VMR_ALU_XNOR, VMR_ALU_MIN, VMR_ALU_MINU, VMR_ALU_MAX, VMR_ALU_MAXU,
  VMR_ALU_ROL, VMR_ALU_ROR, VMR_ALU_ROLW, VMR_ALU_RORW, VMR_ALU_BCLR, VMR_ALU_BEXT, VMR_ALU_BINV, VMR_ALU_BSET,
  /* one operand */
  VMR_ALU_MV, VMR_ALU_SEXT_W, VMR_ALU_SEXT_B, VMR_ALU_SEXT_H, VMR_ALU_ZEXT_H, VMR_ALU_REV8, VMR_ALU_ORC_B,
  VMR_ALU_CLZ, VMR_ALU_CTZ, VMR_ALU_CPOP, VMR_ALU_CLZW, VMR_ALU_CTZW, VMR_ALU_CPOPW,
  VMR_ALUS
} vmr_alu;

/* Those of beq, bne, blt, bge, bltu, bgeu; a condition's opposite is its neighbour: ^ 1. */
typedef enum vmr_condition { VMR_EQ, VMR_NE, VMR_LT, VMR_GE, VMR_LTU, VMR_GEU } vmr_condition;

/* SHAPE_NONE, 0: left to the handler. SHAPE_NOP: nothing to do. */
typedef enum vmr_shape {
  SHAPE_NONE, SHAPE_RR, SHAPE_RI, SHAPE_R, SHAPE_LUI, SHAPE_AUIPC, SHAPE_LOAD, SHAPE_STORE, SHAPE_BRANCH, SHAPE_JAL,
  SHAPE_JALR, SHAPE_FENCE, SHAPE_FP, SHAPE_FP_MOVE, SHAPE_FP_LOAD, SHAPE_FP_STORE
} vmr_shape;

/* The operation of SHAPE_FP: VMR_FP_* of fp_api.h, and for the fused ones the signs that are changed before. */
#define VMR_JIT_FP_OP 63u
#define VMR_JIT_MINUS_PRODUCT 64u
#define VMR_JIT_MINUS_ADDEND 128u

/* Of SHAPE_FP_MOVE: rs1 with the sign of rs2, the opposite one, or both signs combined; bits between x and f. */
typedef enum vmr_fp_move {
  VMR_MOVE_SIGN_S, VMR_MOVE_NOT_SIGN_S, VMR_MOVE_XOR_SIGN_S, VMR_MOVE_SIGN_D, VMR_MOVE_NOT_SIGN_D, VMR_MOVE_XOR_SIGN_D,
  VMR_MOVE_X_W, VMR_MOVE_X_D, VMR_MOVE_W_X, VMR_MOVE_D_X
} vmr_fp_move;

/* The operation of a load or store is its kind (isa_ops.h), of a branch its condition. */
#define VMR_JIT_OPS(X) \
  X(lui, LUI, 0) X(auipc, AUIPC, 0) X(jal, JAL, 0) X(jalr, JALR, 0) \
  X(beq, BRANCH, VMR_EQ) X(bne, BRANCH, VMR_NE) X(blt, BRANCH, VMR_LT) X(bge, BRANCH, VMR_GE) \
  X(bltu, BRANCH, VMR_LTU) X(bgeu, BRANCH, VMR_GEU) \
  X(lb, LOAD, 0) X(lh, LOAD, 1) X(lw, LOAD, 2) X(ld, LOAD, 3) X(lbu, LOAD, 4) X(lhu, LOAD, 5) X(lwu, LOAD, 6) \
  X(sb, STORE, 0) X(sh, STORE, 1) X(sw, STORE, 2) X(sd, STORE, 3) \
  X(addi, RI, VMR_ALU_ADD) X(slti, RI, VMR_ALU_SLT) X(sltiu, RI, VMR_ALU_SLTU) X(xori, RI, VMR_ALU_XOR) \
  X(ori, RI, VMR_ALU_OR) X(andi, RI, VMR_ALU_AND) X(slli, RI, VMR_ALU_SLL) X(srli, RI, VMR_ALU_SRL) \
  X(srai, RI, VMR_ALU_SRA) X(addiw, RI, VMR_ALU_ADDW) X(slliw, RI, VMR_ALU_SLLW) X(srliw, RI, VMR_ALU_SRLW) \
  X(sraiw, RI, VMR_ALU_SRAW) \
  X(add, RR, VMR_ALU_ADD) X(sub, RR, VMR_ALU_SUB) X(sll, RR, VMR_ALU_SLL) X(slt, RR, VMR_ALU_SLT) \
  X(sltu, RR, VMR_ALU_SLTU) X(xor, RR, VMR_ALU_XOR) X(srl, RR, VMR_ALU_SRL) X(sra, RR, VMR_ALU_SRA) \
  X(or, RR, VMR_ALU_OR) X(and, RR, VMR_ALU_AND) X(addw, RR, VMR_ALU_ADDW) X(subw, RR, VMR_ALU_SUBW) \
  X(sllw, RR, VMR_ALU_SLLW) X(srlw, RR, VMR_ALU_SRLW) X(sraw, RR, VMR_ALU_SRAW) \
  X(fence, FENCE, 0) \
  X(mul, RR, VMR_ALU_MUL) X(mulh, RR, VMR_ALU_MULH) X(mulhsu, RR, VMR_ALU_MULHSU) X(mulhu, RR, VMR_ALU_MULHU) \
  X(div, RR, VMR_ALU_DIV) X(divu, RR, VMR_ALU_DIVU) X(rem, RR, VMR_ALU_REM) X(remu, RR, VMR_ALU_REMU) \
  X(mulw, RR, VMR_ALU_MULW) X(divw, RR, VMR_ALU_DIVW) X(divuw, RR, VMR_ALU_DIVUW) X(remw, RR, VMR_ALU_REMW) \
  X(remuw, RR, VMR_ALU_REMUW) \
  X(add_uw, RR, VMR_ALU_ADD_UW) X(sh1add, RR, VMR_ALU_SH1ADD) X(sh2add, RR, VMR_ALU_SH2ADD) \
  X(sh3add, RR, VMR_ALU_SH3ADD) X(sh1add_uw, RR, VMR_ALU_SH1ADD_UW) X(sh2add_uw, RR, VMR_ALU_SH2ADD_UW) \
  X(sh3add_uw, RR, VMR_ALU_SH3ADD_UW) X(slli_uw, RI, VMR_ALU_SLL_UW) \
  X(andn, RR, VMR_ALU_ANDN) X(orn, RR, VMR_ALU_ORN) X(xnor, RR, VMR_ALU_XNOR) X(clz, R, VMR_ALU_CLZ) \
  X(ctz, R, VMR_ALU_CTZ) X(cpop, R, VMR_ALU_CPOP) X(clzw, R, VMR_ALU_CLZW) X(ctzw, R, VMR_ALU_CTZW) \
  X(cpopw, R, VMR_ALU_CPOPW) X(sext_b, R, VMR_ALU_SEXT_B) X(sext_h, R, VMR_ALU_SEXT_H) X(zext_h, R, VMR_ALU_ZEXT_H) \
  X(min, RR, VMR_ALU_MIN) X(minu, RR, VMR_ALU_MINU) X(max, RR, VMR_ALU_MAX) X(maxu, RR, VMR_ALU_MAXU) \
  X(rol, RR, VMR_ALU_ROL) X(ror, RR, VMR_ALU_ROR) X(rori, RI, VMR_ALU_ROR) X(rolw, RR, VMR_ALU_ROLW) \
  X(rorw, RR, VMR_ALU_RORW) X(roriw, RI, VMR_ALU_RORW) X(orc_b, R, VMR_ALU_ORC_B) X(rev8, R, VMR_ALU_REV8) \
  X(bclr, RR, VMR_ALU_BCLR) X(bext, RR, VMR_ALU_BEXT) X(binv, RR, VMR_ALU_BINV) X(bset, RR, VMR_ALU_BSET) \
  X(bclri, RI, VMR_ALU_BCLR) X(bexti, RI, VMR_ALU_BEXT) X(binvi, RI, VMR_ALU_BINV) X(bseti, RI, VMR_ALU_BSET) \
  X(fadd_s, FP, VMR_FP_ADD_S) X(fsub_s, FP, VMR_FP_SUB_S) X(fmul_s, FP, VMR_FP_MUL_S) X(fdiv_s, FP, VMR_FP_DIV_S) \
  X(fsqrt_s, FP, VMR_FP_SQRT_S) X(fmin_s, FP, VMR_FP_MIN_S) X(fmax_s, FP, VMR_FP_MAX_S) X(feq_s, FP, VMR_FP_EQ_S) \
  X(flt_s, FP, VMR_FP_LT_S) X(fle_s, FP, VMR_FP_LE_S) X(fclass_s, FP, VMR_FP_CLASS_S) X(fmadd_s, FP, VMR_FP_FMA_S) \
  X(fmsub_s, FP, VMR_FP_FMA_S | VMR_JIT_MINUS_ADDEND) X(fnmsub_s, FP, VMR_FP_FMA_S | VMR_JIT_MINUS_PRODUCT) \
  X(fnmadd_s, FP, VMR_FP_FMA_S | VMR_JIT_MINUS_PRODUCT | VMR_JIT_MINUS_ADDEND) X(fcvt_w_s, FP, VMR_FP_CVT_W_S) \
  X(fcvt_s_w, FP, VMR_FP_CVT_S_W) X(fcvt_wu_s, FP, VMR_FP_CVT_WU_S) X(fcvt_s_wu, FP, VMR_FP_CVT_S_WU) \
  X(fcvt_l_s, FP, VMR_FP_CVT_L_S) X(fcvt_s_l, FP, VMR_FP_CVT_S_L) X(fcvt_lu_s, FP, VMR_FP_CVT_LU_S) \
  X(fcvt_s_lu, FP, VMR_FP_CVT_S_LU) X(fsgnj_s, FP_MOVE, VMR_MOVE_SIGN_S) X(fsgnjn_s, FP_MOVE, VMR_MOVE_NOT_SIGN_S) \
  X(fsgnjx_s, FP_MOVE, VMR_MOVE_XOR_SIGN_S) X(fadd_d, FP, VMR_FP_ADD_D) X(fsub_d, FP, VMR_FP_SUB_D) \
  X(fmul_d, FP, VMR_FP_MUL_D) X(fdiv_d, FP, VMR_FP_DIV_D) X(fsqrt_d, FP, VMR_FP_SQRT_D) X(fmin_d, FP, VMR_FP_MIN_D) \
  X(fmax_d, FP, VMR_FP_MAX_D) X(feq_d, FP, VMR_FP_EQ_D) X(flt_d, FP, VMR_FP_LT_D) X(fle_d, FP, VMR_FP_LE_D) \
  X(fclass_d, FP, VMR_FP_CLASS_D) X(fmadd_d, FP, VMR_FP_FMA_D) X(fmsub_d, FP, VMR_FP_FMA_D | VMR_JIT_MINUS_ADDEND) \
  X(fnmsub_d, FP, VMR_FP_FMA_D | VMR_JIT_MINUS_PRODUCT) \
  X(fnmadd_d, FP, VMR_FP_FMA_D | VMR_JIT_MINUS_PRODUCT | VMR_JIT_MINUS_ADDEND) X(fcvt_w_d, FP, VMR_FP_CVT_W_D) \
  X(fcvt_d_w, FP, VMR_FP_CVT_D_W) X(fcvt_wu_d, FP, VMR_FP_CVT_WU_D) X(fcvt_d_wu, FP, VMR_FP_CVT_D_WU) \
  X(fcvt_l_d, FP, VMR_FP_CVT_L_D) X(fcvt_d_l, FP, VMR_FP_CVT_D_L) X(fcvt_lu_d, FP, VMR_FP_CVT_LU_D) \
  X(fcvt_d_lu, FP, VMR_FP_CVT_D_LU) X(fsgnj_d, FP_MOVE, VMR_MOVE_SIGN_D) X(fsgnjn_d, FP_MOVE, VMR_MOVE_NOT_SIGN_D) \
  X(fsgnjx_d, FP_MOVE, VMR_MOVE_XOR_SIGN_D) X(fcvt_s_d, FP, VMR_FP_CVT_S_D) X(fcvt_d_s, FP, VMR_FP_CVT_D_S) \
  X(fmv_x_w, FP_MOVE, VMR_MOVE_X_W) X(fmv_x_d, FP_MOVE, VMR_MOVE_X_D) X(fmv_w_x, FP_MOVE, VMR_MOVE_W_X) \
  X(fmv_d_x, FP_MOVE, VMR_MOVE_D_X) X(flw, FP_LOAD, 10) X(fld, FP_LOAD, 11) X(fsw, FP_STORE, 10) X(fsd, FP_STORE, 11)
#endif
