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

/* What this host and this hart leave of it. */
static vmr_shape shape_of(const vmr_hart *h, const vmr_insn *insn) {
  const vmr_jit_op *op = &jit_ops[insn->id];
  bool alu = op->shape == SHAPE_RR || op->shape == SHAPE_RI || op->shape == SHAPE_R;
  if (alu && !vmr_host_has((vmr_alu)op->operation)) return SHAPE_NONE;
  if ((op->shape == SHAPE_BRANCH || op->shape == SHAPE_JAL) && insn->imm & (int32_t)h->misaligned_mask) return SHAPE_NONE;
  return (vmr_shape)op->shape;
}

bool vmr_jit_read(vmr_hart *h, const vmr_code_page *page, uint32_t slot, vmr_jit_insn *at) {
  uint16_t low, high = 0;
  memcpy(&low, page->copy + 2 * slot, 2);
  if ((low & 3) == 3) {
    if (slot == VMR_PAGE_SLOTS - 1) return false;
    memcpy(&high, page->copy + 2 * slot + 2, 2);
  }
  *at = (vmr_jit_insn){.slot = (uint16_t)slot};
  if (!vmr_decode_fields(h, low | (uint32_t)high << 16, &at->insn)) return false;
  at->shape = (uint8_t)shape_of(h, &at->insn);
  at->operation = jit_ops[at->insn.id].operation;
  return true;
}

int vmr_jit_target(const vmr_jit_insn *at) {
  int target = (int)at->slot + at->insn.imm / 2;
  return target >= 0 && target < VMR_PAGE_SLOTS ? target : -1;
}

vmr_jit_insn *vmr_jit_collected(struct vmr_jit *jit, int slot) {
  if (slot < 0) return NULL;
  vmr_jit_insn *at = &jit->insns[jit->index[slot]]; /* or what stood there in another translation */
  return jit->index[slot] < jit->count && at->slot == slot ? at : NULL;
}

/* Which of the instructions are jumped to from among them. */
static void mark_targets(struct vmr_jit *jit) {
  for (uint32_t i = 0; i < jit->count; i++) {
    const vmr_jit_insn *at = &jit->insns[i];
    if (at->shape != SHAPE_BRANCH && at->shape != SHAPE_JAL) continue;
    vmr_jit_insn *target = vmr_jit_collected(jit, vmr_jit_target(at));
    bool straight_on = at->shape == SHAPE_JAL && target == at + 1;
    if (target && !straight_on) target->target = true;
  }
}

/* Whether the slot may follow in the code. */
static bool goes_on(struct vmr_jit *jit, const vmr_code_page *page, int slot) {
  return slot >= 0 && !vmr_jit_code_of(jit, &page->ops[slot]) && !vmr_jit_collected(jit, slot);
}

static vmr_jit_end walk(vmr_hart *h, vmr_code_page *page, uint32_t slot, uint32_t *next) {
  struct vmr_jit *jit = h->jit;
  for (;; slot = *next) {
    *next = slot;
    if (slot == VMR_PAGE_SLOTS) return END_PAGE;
    if (jit->count && !goes_on(jit, page, (int)slot)) return END_NEXT;
    if (jit->count == VMR_JIT_INSNS) return END_NEXT;
    vmr_jit_insn *at = &jit->insns[jit->count];
    if (!vmr_jit_read(h, page, slot, at) || at->shape == SHAPE_NONE) return END_HANDLER;
    jit->index[slot] = (uint8_t)jit->count++;
    *next = slot + at->insn.length;
    if (at->shape == SHAPE_JALR) return END_JUMP;
    if (at->shape != SHAPE_JAL) continue;
    int target = vmr_jit_target(at);
    if (at->insn.rd || !goes_on(jit, page, target)) return END_JUMP;
    *next = (uint32_t)target;
  }
}

vmr_jit_end vmr_jit_collect(vmr_hart *h, vmr_code_page *page, uint32_t slot, uint32_t *next) {
  h->jit->count = 0;
  vmr_jit_end end = walk(h, page, slot, next);
  mark_targets(h->jit);
  vmr_jit_insn *again = end == END_NEXT ? vmr_jit_collected(h->jit, (int)*next) : NULL;
  if (again) again->target = true;
  return end;
}
