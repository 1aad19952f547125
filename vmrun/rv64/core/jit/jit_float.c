/* Floating point where translated code leaves it to the exact arithmetic of fp.h. */
#include "fp.h"
#include "jit.h"

#define SIGN(single) (1ull << ((single) ? 31 : 63))

static bool from_integer(unsigned op) {
  return (op >= VMR_FP_CVT_S_W && op <= VMR_FP_CVT_S_LU) || (op >= VMR_FP_CVT_D_W && op <= VMR_FP_CVT_D_LU);
}
static bool to_integer(unsigned op) {
  return (op >= VMR_FP_EQ_S && op <= VMR_FP_CVT_LU_S) || (op >= VMR_FP_EQ_D && op <= VMR_FP_CVT_LU_D);
}
bool vmr_jit_fp_rounds(unsigned operation) {
  unsigned op = operation & VMR_JIT_FP_OP, as_double = op < VMR_FP_ADD_D ? op + VMR_FP_ADD_D : op;
  return as_double < VMR_FP_MIN_D || as_double > VMR_FP_CLASS_D;
}

static uint64_t operand(const vmr_hart *h, unsigned f, bool single) {
  return single ? vmr_f32_unbox(h->f[f]) : h->f[f];
}

void vmr_jit_fp(vmr_hart *h, const vmr_op *ip, unsigned operation) {
  unsigned op = operation & VMR_JIT_FP_OP;
  bool single = op < VMR_FP_ADD_D;
  bool single_in = op == VMR_FP_CVT_D_S || (single && op != VMR_FP_CVT_S_D);
  uint32_t rm = vmr_jit_fp_rounds(op) ? ip->imm & 7 : 0;
  if (rm == 7) rm = h->frm;
  uint64_t a = from_integer(op) ? h->x[ip->rs1] : operand(h, ip->rs1, single_in), b = operand(h, ip->rs2, single_in), c = 0;
  if (op == VMR_FP_FMA_S || op == VMR_FP_FMA_D) {
    c = operand(h, (unsigned)ip->imm >> 3, single_in);
    if (operation & VMR_JIT_MINUS_PRODUCT) a ^= SIGN(single);
    if (operation & VMR_JIT_MINUS_ADDEND) c ^= SIGN(single);
  }
  uint64_t value = 0;
  vmr_fp_op(op, rm, a, b, c, &value, &h->fflags);
  if (to_integer(op)) h->x[ip->rd] = value;
  else h->f[ip->rd] = single ? vmr_f32_box((uint32_t)value) : value;
  if (op != VMR_FP_CLASS_S && op != VMR_FP_CLASS_D) h->fs = 3;
}
