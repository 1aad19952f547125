/* F and D: registers, rounding modes and FS here; the arithmetic is fp.h's. */
#include "decode.h"
#include "fp.h"

/* FP state is off, or becomes dirty. */
#define FP_ON \
  if (VMR_UNLIKELY(!h->fs)) GO(illegal, n)
#define FP_DIRTY h->fs = 3
/* The rounding mode of this instruction; frm may hold a reserved one. */
#define ROUNDING \
  uint32_t rm = ip->imm & 7; \
  if (rm == 7) rm = h->frm; \
  if (VMR_UNLIKELY(rm > 4)) GO(illegal, n)
#define FLAGS (&h->fflags)

#define S1 vmr_f32_unbox(h->f[ip->rs1])
#define S2 vmr_f32_unbox(h->f[ip->rs2])
#define S3 vmr_f32_unbox(h->f[ip->imm >> 3])
#define D1 h->f[ip->rs1]
#define D2 h->f[ip->rs2]
#define D3 h->f[ip->imm >> 3]
#define SIGN_S 0x80000000u
#define SIGN_D 0x8000000000000000ull

#define TO_S(name, value) OP4(name, FP_ON; h->f[ip->rd] = vmr_f32_box(value); FP_DIRTY)
#define TO_D(name, value) OP4(name, FP_ON; h->f[ip->rd] = (value); FP_DIRTY)
#define TO_X(name, value) OP4(name, FP_ON; RD = (uint64_t)(int64_t)(value); FP_DIRTY)
#define TO_S_RM(name, value) OP4(name, FP_ON; ROUNDING; h->f[ip->rd] = vmr_f32_box(value); FP_DIRTY)
#define TO_D_RM(name, value) OP4(name, FP_ON; ROUNDING; h->f[ip->rd] = (value); FP_DIRTY)
#define TO_X_RM(name, value) OP4(name, FP_ON; ROUNDING; RD = (uint64_t)(int64_t)(value); FP_DIRTY)

#define ARITHMETIC(name) \
  TO_S_RM(f##name##_s, vmr_f32_##name(S1, S2, rm, FLAGS)) \
  TO_D_RM(f##name##_d, vmr_f64_##name(D1, D2, rm, FLAGS))
ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)
TO_S_RM(fsqrt_s, vmr_f32_sqrt(S1, rm, FLAGS))
TO_D_RM(fsqrt_d, vmr_f64_sqrt(D1, rm, FLAGS))

#define FUSED(name, sign_product, sign_addend) \
  TO_S_RM(name##_s, vmr_f32_fma(S1 ^ (sign_product ? SIGN_S : 0), S2, S3 ^ (sign_addend ? SIGN_S : 0), rm, FLAGS)) \
  TO_D_RM(name##_d, vmr_f64_fma(D1 ^ (sign_product ? SIGN_D : 0), D2, D3 ^ (sign_addend ? SIGN_D : 0), rm, FLAGS))
FUSED(fmadd, 0, 0)
FUSED(fmsub, 0, 1)
FUSED(fnmsub, 1, 0)
FUSED(fnmadd, 1, 1)

TO_S(fsgnj_s, (S1 & ~SIGN_S) | (S2 & SIGN_S))
TO_S(fsgnjn_s, (S1 & ~SIGN_S) | (~S2 & SIGN_S))
TO_S(fsgnjx_s, S1 ^ (S2 & SIGN_S))
TO_D(fsgnj_d, (D1 & ~SIGN_D) | (D2 & SIGN_D))
TO_D(fsgnjn_d, (D1 & ~SIGN_D) | (~D2 & SIGN_D))
TO_D(fsgnjx_d, D1 ^ (D2 & SIGN_D))

TO_S(fmin_s, vmr_f32_min(S1, S2, FLAGS))
TO_S(fmax_s, vmr_f32_max(S1, S2, FLAGS))
TO_D(fmin_d, vmr_f64_min(D1, D2, FLAGS))
TO_D(fmax_d, vmr_f64_max(D1, D2, FLAGS))

#define COMPARE(name) \
  TO_X(f##name##_s, vmr_f32_##name(S1, S2, FLAGS)) \
  TO_X(f##name##_d, vmr_f64_##name(D1, D2, FLAGS))
COMPARE(eq)
COMPARE(lt)
COMPARE(le)

/* These raise no flags and write no f register: FS stays as it is. */
OP4(fclass_s, FP_ON; RD = vmr_f32_class(S1))
OP4(fclass_d, FP_ON; RD = vmr_f64_class(D1))
OP4(fmv_x_w, FP_ON; RD = (uint64_t)(int64_t)(int32_t)h->f[ip->rs1])
OP4(fmv_x_d, FP_ON; RD = h->f[ip->rs1])
TO_S(fmv_w_x, (uint32_t)RS1)
TO_D(fmv_d_x, RS1)

TO_S_RM(fcvt_s_d, vmr_f64_to_f32(D1, rm, FLAGS))
TO_D_RM(fcvt_d_s, vmr_f32_to_f64(S1, FLAGS))

TO_X_RM(fcvt_w_s, vmr_f32_to_i32(S1, rm, FLAGS))
TO_X_RM(fcvt_wu_s, (int32_t)vmr_f32_to_u32(S1, rm, FLAGS))
TO_X_RM(fcvt_l_s, vmr_f32_to_i64(S1, rm, FLAGS))
TO_X_RM(fcvt_lu_s, vmr_f32_to_u64(S1, rm, FLAGS))
TO_X_RM(fcvt_w_d, vmr_f64_to_i32(D1, rm, FLAGS))
TO_X_RM(fcvt_wu_d, (int32_t)vmr_f64_to_u32(D1, rm, FLAGS))
TO_X_RM(fcvt_l_d, vmr_f64_to_i64(D1, rm, FLAGS))
TO_X_RM(fcvt_lu_d, vmr_f64_to_u64(D1, rm, FLAGS))

TO_S_RM(fcvt_s_w, vmr_i32_to_f32((int32_t)RS1, rm, FLAGS))
TO_S_RM(fcvt_s_wu, vmr_u32_to_f32((uint32_t)RS1, rm, FLAGS))
TO_S_RM(fcvt_s_l, vmr_i64_to_f32((int64_t)RS1, rm, FLAGS))
TO_S_RM(fcvt_s_lu, vmr_u64_to_f32(RS1, rm, FLAGS))
TO_D_RM(fcvt_d_w, vmr_i32_to_f64((int32_t)RS1))
TO_D_RM(fcvt_d_wu, vmr_u32_to_f64((uint32_t)RS1))
TO_D_RM(fcvt_d_l, vmr_i64_to_f64((int64_t)RS1, rm, FLAGS))
TO_D_RM(fcvt_d_lu, vmr_u64_to_f64(RS1, rm, FLAGS))
