/* Compressed instructions: each stands for one 32-bit instruction (Unprivileged ISA 20191213, chapter 16). */
#include "hart.h"

static uint32_t field(uint32_t raw, unsigned low, unsigned count, unsigned to) {
  return (raw >> low & ((1u << count) - 1)) << to;
}
static int32_t extend(uint32_t value, unsigned width) { return (int32_t)(value << (32 - width)) >> (32 - width); }

static uint32_t r_type(uint32_t opcode, uint32_t funct3, uint32_t funct7, uint32_t rd, uint32_t rs1, uint32_t rs2) {
  return opcode | rd << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | funct7 << 25;
}
static uint32_t i_type(uint32_t opcode, uint32_t funct3, uint32_t rd, uint32_t rs1, int32_t imm) {
  return opcode | rd << 7 | funct3 << 12 | rs1 << 15 | (uint32_t)imm << 20;
}
static uint32_t s_type(uint32_t opcode, uint32_t funct3, uint32_t rs1, uint32_t rs2, uint32_t imm) {
  return opcode | (imm & 31) << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | (imm >> 5) << 25;
}
static uint32_t jal(uint32_t rd, uint32_t imm) {
  return 0x6f | rd << 7 | field(imm, 12, 8, 12) | field(imm, 11, 1, 20) | field(imm, 1, 10, 21) | field(imm, 20, 1, 31);
}
static uint32_t branch(uint32_t funct3, uint32_t rs1, uint32_t imm) {
  return 0x63 | field(imm, 11, 1, 7) | field(imm, 1, 4, 8) | funct3 << 12 | rs1 << 15 | field(imm, 5, 6, 25) |
         field(imm, 12, 1, 31);
}

#define OP_IMM 0x13
#define OP_IMM_32 0x1b
#define OP 0x33
#define OP_32 0x3b
#define LOAD 0x03
#define LOAD_FP 0x07
#define STORE 0x23
#define STORE_FP 0x27

static uint32_t quadrant0(uint32_t raw, bool has_d) {
  uint32_t low = 8 + field(raw, 2, 3, 0), base = 8 + field(raw, 7, 3, 0); /* rd' or rs2', rs1' */
  uint32_t word = field(raw, 6, 1, 2) | field(raw, 10, 3, 3) | field(raw, 5, 1, 6);
  uint32_t dword = field(raw, 10, 3, 3) | field(raw, 5, 2, 6);
  uint32_t wide = field(raw, 6, 1, 2) | field(raw, 5, 1, 3) | field(raw, 11, 2, 4) | field(raw, 7, 4, 6);
  switch (raw >> 13) {
  case 0: return wide ? i_type(OP_IMM, 0, low, 2, (int32_t)wide) : 0; /* c.addi4spn */
  case 1: return has_d ? i_type(LOAD_FP, 3, low, base, (int32_t)dword) : 0;
  case 2: return i_type(LOAD, 2, low, base, (int32_t)word);
  case 3: return i_type(LOAD, 3, low, base, (int32_t)dword);
  case 5: return has_d ? s_type(STORE_FP, 3, base, low, dword) : 0;
  case 6: return s_type(STORE, 2, base, low, word);
  case 7: return s_type(STORE, 3, base, low, dword);
  default: return 0;
  }
}

/* c.srli, c.srai, c.andi and the register-register group. */
static uint32_t arithmetic(uint32_t raw, int32_t imm) {
  uint32_t rd = 8 + field(raw, 7, 3, 0), rs2 = 8 + field(raw, 2, 3, 0);
  switch (raw >> 10 & 3) {
  case 0: return i_type(OP_IMM, 5, rd, rd, imm & 63);
  case 1: return i_type(OP_IMM, 5, rd, rd, (imm & 63) | 0x400);
  case 2: return i_type(OP_IMM, 7, rd, rd, imm);
  }
  switch ((raw >> 12 & 1) << 2 | (raw >> 5 & 3)) {
  case 0: return r_type(OP, 0, 0x20, rd, rd, rs2);
  case 1: return r_type(OP, 4, 0, rd, rd, rs2);
  case 2: return r_type(OP, 6, 0, rd, rd, rs2);
  case 3: return r_type(OP, 7, 0, rd, rd, rs2);
  case 4: return r_type(OP_32, 0, 0x20, rd, rd, rs2);
  case 5: return r_type(OP_32, 0, 0, rd, rd, rs2);
  default: return 0;
  }
}

static uint32_t quadrant1(uint32_t raw) {
  uint32_t rd = field(raw, 7, 5, 0);
  int32_t imm = extend(field(raw, 2, 5, 0) | field(raw, 12, 1, 5), 6);
  uint32_t near = (uint32_t)extend(field(raw, 3, 2, 1) | field(raw, 10, 2, 3) | field(raw, 2, 1, 5) |
                                       field(raw, 5, 2, 6) | field(raw, 12, 1, 8), 9);
  switch (raw >> 13) {
  case 0: return i_type(OP_IMM, 0, rd, rd, imm); /* c.nop, c.addi */
  case 1: return rd ? i_type(OP_IMM_32, 0, rd, rd, imm) : 0;
  case 2: return i_type(OP_IMM, 0, rd, 0, imm); /* c.li */
  case 3:
    if (!imm) return 0;
    if (rd != 2) return 0x37 | rd << 7 | (uint32_t)imm << 12; /* c.lui */
    return i_type(OP_IMM, 0, 2, 2,                            /* c.addi16sp */
                  extend(field(raw, 6, 1, 4) | field(raw, 2, 1, 5) | field(raw, 5, 1, 6) | field(raw, 3, 2, 7) |
                             field(raw, 12, 1, 9), 10));
  case 4: return arithmetic(raw, imm);
  case 5:
    return jal(0, (uint32_t)extend(field(raw, 3, 3, 1) | field(raw, 11, 1, 4) | field(raw, 2, 1, 5) |
                                       field(raw, 7, 1, 6) | field(raw, 6, 1, 7) | field(raw, 9, 2, 8) |
                                       field(raw, 8, 1, 10) | field(raw, 12, 1, 11), 12));
  case 6: return branch(0, 8 + field(raw, 7, 3, 0), near);
  default: return branch(1, 8 + field(raw, 7, 3, 0), near);
  }
}

static uint32_t quadrant2(uint32_t raw, bool has_d) {
  uint32_t rd = field(raw, 7, 5, 0), rs2 = field(raw, 2, 5, 0);
  uint32_t load_d = field(raw, 5, 2, 3) | field(raw, 12, 1, 5) | field(raw, 2, 3, 6);
  uint32_t load_w = field(raw, 4, 3, 2) | field(raw, 12, 1, 5) | field(raw, 2, 2, 6);
  uint32_t store_d = field(raw, 10, 3, 3) | field(raw, 7, 3, 6);
  uint32_t store_w = field(raw, 9, 4, 2) | field(raw, 7, 2, 6);
  switch (raw >> 13) {
  case 0: return i_type(OP_IMM, 1, rd, rd, (int32_t)(field(raw, 2, 5, 0) | field(raw, 12, 1, 5)));
  case 1: return has_d ? i_type(LOAD_FP, 3, rd, 2, (int32_t)load_d) : 0;
  case 2: return rd ? i_type(LOAD, 2, rd, 2, (int32_t)load_w) : 0;
  case 3: return rd ? i_type(LOAD, 3, rd, 2, (int32_t)load_d) : 0;
  case 4:
    if (!(raw >> 12 & 1)) {
      if (rs2) return r_type(OP, 0, 0, rd, 0, rs2);   /* c.mv */
      return rd ? i_type(0x67, 0, 0, rd, 0) : 0;      /* c.jr */
    }
    if (rs2) return r_type(OP, 0, 0, rd, rd, rs2);    /* c.add */
    return rd ? i_type(0x67, 0, 1, rd, 0) : 0x100073; /* c.jalr, c.ebreak */
  case 5: return has_d ? s_type(STORE_FP, 3, 2, rs2, store_d) : 0;
  case 6: return s_type(STORE, 2, 2, rs2, store_w);
  default: return s_type(STORE, 3, 2, rs2, store_d);
  }
}

uint32_t vmr_rvc_expand(uint16_t raw, uint32_t isa) {
  if (!(isa & VMR_RV64_C)) return 0;
  switch (raw & 3) {
  case 0: return quadrant0(raw, isa & VMR_RV64_D);
  case 1: return quadrant1(raw);
  default: return quadrant2(raw, isa & VMR_RV64_D);
  }
}
