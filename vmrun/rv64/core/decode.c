/* From instruction bits to a slot: find the line of isa_ops.h, extract its fields, choose the handler. */
#include <string.h>

#include "decode.h"

typedef enum vmr_format { FMT_N, FMT_R, FMT_I, FMT_SH, FMT_S, FMT_B, FMT_U, FMT_J, FMT_CSR, FMT_F, FMT_FI, FMT_FR, FMT_FX, FMT_R4 } vmr_format;

typedef struct vmr_isa_op {
  uint32_t mask;
  uint32_t match;
  uint16_t isa;
  uint8_t format;
  uint8_t kind;
  vmr_op_fn *fn[4]; /* compressed, full; then the same for a jump that leaves the page */
} vmr_isa_op;

#define ROW(mask, match, isa, format, kind, ...) {mask, match, isa, FMT_##format, kind, {__VA_ARGS__}},
#define ROW_C(name, mask, match, isa, format, kind) \
  ROW(mask, match, isa, format, kind, vmr_op_##name##_2, vmr_op_##name##_4, vmr_op_##name##_2, vmr_op_##name##_4)
#define ROW_W(name, mask, match, isa, format, kind) \
  ROW(mask, match, isa, format, kind, NULL, vmr_op_##name##_4, NULL, vmr_op_##name##_4)
#define ROW_J(name, mask, match, isa, format, kind) \
  ROW(mask, match, isa, format, kind, vmr_op_##name##_2, vmr_op_##name##_4, vmr_op_##name##_far_2, vmr_op_##name##_far_4)

static const vmr_isa_op isa_ops[] = {VMR_ISA_OPS(ROW_C, ROW_W, ROW_J)};

static uint32_t bits(uint32_t raw, unsigned low, unsigned count) { return raw >> low & ((1u << count) - 1); }
static int32_t sign(uint32_t value, unsigned width) { return (int32_t)(value << (32 - width)) >> (32 - width); }

static int32_t immediate(uint32_t raw, vmr_format format) {
  switch (format) {
  case FMT_I:
  case FMT_FI: return (int32_t)raw >> 20;
  case FMT_SH: return (int32_t)bits(raw, 20, 6);
  case FMT_S: return sign(bits(raw, 25, 7) << 5 | bits(raw, 7, 5), 12);
  case FMT_B:
    return sign(bits(raw, 31, 1) << 12 | bits(raw, 7, 1) << 11 | bits(raw, 25, 6) << 5 | bits(raw, 8, 4) << 1, 13);
  case FMT_U: return (int32_t)(raw & 0xfffff000);
  case FMT_J:
    return sign(bits(raw, 31, 1) << 20 | bits(raw, 12, 8) << 12 | bits(raw, 20, 1) << 11 | bits(raw, 21, 10) << 1, 21);
  case FMT_CSR: return (int32_t)bits(raw, 20, 12);
  case FMT_FR:
  case FMT_FX: return (int32_t)bits(raw, 12, 3);                                /* rm */
  case FMT_R4: return (int32_t)(bits(raw, 12, 3) | bits(raw, 27, 5) << 3);      /* rm, rs3 */
  default: return (int32_t)raw;
  }
}

static bool writes_x(vmr_format format) {
  switch (format) {
  case FMT_R:
  case FMT_I:
  case FMT_SH:
  case FMT_U:
  case FMT_J:
  case FMT_CSR:
  case FMT_FX: return true;
  default: return false;
  }
}

#define ROWS (sizeof isa_ops / sizeof *isa_ops)
static_assert(ROWS < VMR_DECODE_END, "the index holds row numbers in a byte");

void vmr_decode_index(vmr_hart *h) {
  memset(h->decode_first, VMR_DECODE_END, sizeof h->decode_first);
  for (size_t i = ROWS; i-- > 0;) {
    uint8_t *first = &h->decode_first[bits(isa_ops[i].match, 2, 5)];
    h->decode_next[i] = *first;
    *first = (uint8_t)i;
  }
}

static const vmr_isa_op *find(const vmr_hart *h, uint32_t raw) {
  for (uint8_t i = h->decode_first[bits(raw, 2, 5)]; i != VMR_DECODE_END; i = h->decode_next[i]) {
    const vmr_isa_op *row = &isa_ops[i];
    if ((raw & row->mask) == row->match) {
      if (row->isa & ~h->isa) return NULL;
      unsigned rm = bits(raw, 12, 3);
      if ((row->format == FMT_FR || row->format == FMT_FX || row->format == FMT_R4) && (rm == 5 || rm == 6)) return NULL;
      return row;
    }
  }
  return NULL;
}

static bool decode_anew(const vmr_hart *h, uint32_t raw, vmr_insn *insn) {
  bool full = (raw & 3) == 3;
  uint32_t expanded = full ? raw : vmr_rvc_expand((uint16_t)raw, h->isa);
  const vmr_isa_op *row = expanded ? find(h, expanded) : NULL;
  if (!row || !row->fn[full]) return false;
  *insn = (vmr_insn){
      .id = (uint8_t)(row - isa_ops),
      .length = full ? 2 : 1,
      .rd = (uint8_t)bits(expanded, 7, 5),
      .rs1 = (uint8_t)bits(expanded, 15, 5),
      .rs2 = (uint8_t)bits(expanded, 20, 5),
      .imm = immediate(expanded, row->format),
  };
  return true;
}

bool vmr_decode_fields(vmr_hart *h, uint32_t raw, vmr_insn *insn) {
  vmr_decoded *known = &h->decoded[(raw ^ raw >> 11 ^ raw >> 21) & (VMR_DECODED - 1)];
  if (known->raw != raw || !raw) {
    vmr_insn found;
    if (!decode_anew(h, raw, &found)) return false;
    *known = (vmr_decoded){.raw = raw, .insn = found};
  }
  *insn = known->insn;
  return true;
}

void vmr_decode(vmr_hart *h, uint32_t raw, int slot, vmr_op *op) {
  vmr_insn insn;
  if (!vmr_decode_fields(h, raw, &insn)) {
    *op = (vmr_op){.fn = vmr_op_illegal, .aux = (raw & 3) == 3 ? 0x20 : 0x10, .imm = (int32_t)raw};
    return;
  }
  const vmr_isa_op *row = &isa_ops[insn.id];
  unsigned full = insn.length - 1u;
  vmr_format format = row->format;
  *op = (vmr_op){
      .fn = row->fn[full],
      .rd = insn.rd,
      .rs1 = insn.rs1,
      .rs2 = insn.rs2,
      .aux = (uint8_t)(insn.length << 4 | row->kind),
      .imm = insn.imm,
  };
  if (writes_x(format) && !op->rd) op->rd = VMR_SINK;
  if (format == FMT_B || format == FMT_J) {
    int target = slot + op->imm / 2;
    bool misaligned = !(h->isa & VMR_RV64_C) && (op->imm & 2);
    if (slot < 0 || target < 0 || target >= VMR_PAGE_SLOTS || misaligned)
      op->fn = row->fn[2 + full];
    else
      op->imm = op->imm / 2 * (int)sizeof(vmr_op);
  }
  vmr_specialise(op);
}
