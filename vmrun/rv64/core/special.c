/* Better handlers for the common special forms of instructions. */
#include "decode.h"

typedef struct vmr_special {
  vmr_op_fn *from[4]; /* compressed, full, and both for jumps that leave the page */
  vmr_op_fn *to[4];
} vmr_special;

#define PLAIN(from, to) \
  {{vmr_op_##from##_2, vmr_op_##from##_4, NULL, NULL}, {vmr_op_##to##_2, vmr_op_##to##_4, NULL, NULL}}
#define JUMP(from, to) \
  {{vmr_op_##from##_2, vmr_op_##from##_4, vmr_op_##from##_far_2, vmr_op_##from##_far_4}, \
   {vmr_op_##to##_2, vmr_op_##to##_4, vmr_op_##to##_far_2, vmr_op_##to##_far_4}}

static bool replace(vmr_op *op, const vmr_special *special) {
  for (int i = 0; i < 4; i++)
    if (op->fn == special->from[i]) {
      op->fn = special->to[i];
      return true;
    }
  return false;
}

void vmr_specialise(vmr_op *op) {
  static const vmr_special add_mv = PLAIN(add, mv), addi_mv = PLAIN(addi, mv), addi_li = PLAIN(addi, li),
                           addiw_sext = PLAIN(addiw, sext_w), jalr_jr = PLAIN(jalr, jr), beq_beqz = JUMP(beq, beqz),
                           bne_bnez = JUMP(bne, bnez), jal_j = JUMP(jal, j);
  if (!op->rs1 && replace(op, &add_mv)) op->rs1 = op->rs2;
  else if (!op->rs2 && (replace(op, &add_mv) || replace(op, &beq_beqz) || replace(op, &bne_bnez))) return;
  else if (!op->rs1 && replace(op, &addi_li)) return;
  else if (!op->imm && (replace(op, &addi_mv) || replace(op, &addiw_sext))) return;
  else if (op->rd == VMR_SINK && (replace(op, &jalr_jr) || replace(op, &jal_j))) return;
}
