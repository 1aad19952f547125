/* What is translated together: the instructions from a head on, in the order in which they run when no branch is taken,
 * through jumps of the same page, up to what has code already, what cannot be translated, or the end of the page. */
#include <string.h>

#include "decode.h"
#include "jit.h"

typedef struct vmr_jit_op {
  uint8_t shape, operation;
} vmr_jit_op;

#define ROW(name, shape, operation) [VMR_ID_##name] = {SHAPE_##shape, operation},
static const vmr_jit_op jit_ops[VMR_ID_COUNT] = {VMR_JIT_OPS(ROW)};

vmr_shape vmr_jit_shape(const vmr_hart *h, const vmr_insn *insn, unsigned *operation) {
  const vmr_jit_op *op = &jit_ops[insn->id];
  *operation = op->operation;
  bool alu = op->shape == SHAPE_RR || op->shape == SHAPE_RI || op->shape == SHAPE_R;
  if (alu && !vmr_host_has((vmr_alu)op->operation)) return SHAPE_NONE;
  if ((op->shape == SHAPE_BRANCH || op->shape == SHAPE_JAL) && insn->imm & (int32_t)h->misaligned_mask) return SHAPE_NONE;
  return (vmr_shape)op->shape;
}

bool vmr_jit_read(const vmr_hart *h, const vmr_code_page *page, uint32_t slot, vmr_insn *insn) {
  uint16_t low, high = 0;
  memcpy(&low, page->copy + 2 * slot, 2);
  if ((low & 3) == 3) {
    if (slot == VMR_PAGE_SLOTS - 1) return false;
    memcpy(&high, page->copy + 2 * slot + 2, 2);
  }
  return vmr_decode_fields(h, low | (uint32_t)high << 16, insn);
}

int vmr_jit_target(const vmr_jit_insn *at) {
  int target = (int)at->slot + at->insn.imm / 2;
  return target >= 0 && target < VMR_PAGE_SLOTS ? target : -1;
}

static vmr_jit_insn *collected(struct vmr_jit *jit, int slot) {
  for (uint32_t i = 0; i < jit->count; i++)
    if (jit->insns[i].slot == slot) return &jit->insns[i];
  return NULL;
}

/* Which of the instructions are jumped to from among them. */
static void mark_targets(const vmr_hart *h) {
  struct vmr_jit *jit = h->jit;
  for (uint32_t i = 0; i < jit->count; i++) {
    unsigned operation;
    vmr_shape shape = vmr_jit_shape(h, &jit->insns[i].insn, &operation);
    if (shape != SHAPE_BRANCH && shape != SHAPE_JAL) continue;
    vmr_jit_insn *target = collected(jit, vmr_jit_target(&jit->insns[i]));
    bool straight_on = shape == SHAPE_JAL && target == &jit->insns[i] + 1;
    if (target && !straight_on) target->target = true;
  }
}

/* Go on at `slot`? */
static bool open(struct vmr_jit *jit, const vmr_code_page *page, int slot) {
  return slot >= 0 && !vmr_jit_code_of(jit, &page->ops[slot]) && !collected(jit, slot);
}

static vmr_jit_end walk(vmr_hart *h, vmr_code_page *page, uint32_t slot, uint32_t *next) {
  struct vmr_jit *jit = h->jit;
  for (;; slot = *next) {
    *next = slot;
    if (slot == VMR_PAGE_SLOTS) return END_PAGE;
    if (jit->count && !open(jit, page, (int)slot)) return END_NEXT;
    if (jit->count == VMR_JIT_INSNS) return END_NEXT;
    vmr_jit_insn *at = &jit->insns[jit->count];
    *at = (vmr_jit_insn){.slot = (uint16_t)slot};
    unsigned operation;
    if (!vmr_jit_read(h, page, slot, &at->insn)) return END_HANDLER;
    vmr_shape shape = vmr_jit_shape(h, &at->insn, &operation);
    if (shape == SHAPE_NONE) return END_HANDLER;
    jit->count++;
    *next = slot + at->insn.length;
    if (shape == SHAPE_JALR) return END_JUMP;
    if (shape != SHAPE_JAL) continue;
    int target = vmr_jit_target(at);
    if (at->insn.rd || !open(jit, page, target)) return END_JUMP;
    *next = (uint32_t)target;
  }
}

vmr_jit_end vmr_jit_collect(vmr_hart *h, vmr_code_page *page, uint32_t slot, uint32_t *next) {
  h->jit->count = 0;
  vmr_jit_end end = walk(h, page, slot, next);
  mark_targets(h);
  vmr_jit_insn *again = end == END_NEXT ? collected(h->jit, (int)*next) : NULL;
  if (again) again->target = true;
  return end;
}
