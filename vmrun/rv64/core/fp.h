/* Exactly rounded IEEE 754-2008 arithmetic of RISC-V's F and D extensions (Unprivileged ISA 20191213, chapters 11, 12).
 *
 * Values are raw bit patterns. Flags (VMR_FP_NX ...) are OR-ed into *flags. A NaN result is the canonical NaN; tininess
 * is detected after rounding. rm must be VMR_RM_RNE .. VMR_RM_RMM: a reserved mode is an illegal instruction, which is
 * the interpreter's business, as are the fused negations (flip the sign of a and c) and the sign injections.
 *
 * Nothing here is global and nothing calls libm. Where the answer is the same the host's FPU gives it (fp.c says when);
 * the rest is integer arithmetic (fp_soft.c). */
#ifndef VMR_FP_H
#define VMR_FP_H

#include "fp_api.h"

#define VMR_F32_NAN UINT32_C(0x7fc00000)
#define VMR_F64_NAN UINT64_C(0x7ff8000000000000)

/* The binary32 in an f register: an improperly boxed one reads as the canonical NaN (section 12.2). */
static inline uint32_t vmr_f32_unbox(uint64_t reg)
{
    return reg >> 32 == UINT32_MAX ? (uint32_t)reg : VMR_F32_NAN;
}

static inline uint64_t vmr_f32_box(uint32_t value)
{
    return UINT64_C(0xffffffff00000000) | value;
}

uint32_t vmr_f32_add(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_f32_sub(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_f32_mul(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_f32_div(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_f32_sqrt(uint32_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_f32_fma(uint32_t a, uint32_t b, uint32_t c, uint32_t rm, uint32_t *flags);

uint64_t vmr_f64_add(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_f64_sub(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_f64_mul(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_f64_div(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_f64_sqrt(uint64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_f64_fma(uint64_t a, uint64_t b, uint64_t c, uint32_t rm, uint32_t *flags);

/* FMIN, FMAX: minimumNumber and maximumNumber of IEEE 754-2019; -0 is below +0. */
uint32_t vmr_f32_min(uint32_t a, uint32_t b, uint32_t *flags);
uint32_t vmr_f32_max(uint32_t a, uint32_t b, uint32_t *flags);
uint64_t vmr_f64_min(uint64_t a, uint64_t b, uint32_t *flags);
uint64_t vmr_f64_max(uint64_t a, uint64_t b, uint32_t *flags);

/* FEQ (quiet), FLT and FLE (signalling): 1 or 0. */
uint32_t vmr_f32_eq(uint32_t a, uint32_t b, uint32_t *flags);
uint32_t vmr_f32_lt(uint32_t a, uint32_t b, uint32_t *flags);
uint32_t vmr_f32_le(uint32_t a, uint32_t b, uint32_t *flags);
uint32_t vmr_f64_eq(uint64_t a, uint64_t b, uint32_t *flags);
uint32_t vmr_f64_lt(uint64_t a, uint64_t b, uint32_t *flags);
uint32_t vmr_f64_le(uint64_t a, uint64_t b, uint32_t *flags);

/* FCLASS: one of ten bits (table 11.5). */
uint32_t vmr_f32_class(uint32_t a);
uint32_t vmr_f64_class(uint64_t a);

/* FCVT.S.D and FCVT.D.S (which is exact, so takes no rounding mode). */
uint32_t vmr_f64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_f32_to_f64(uint32_t a, uint32_t *flags);

/* FCVT to integers: what is out of range after rounding saturates and raises NV alone; a NaN gives the largest value
 * (table 11.4). An interpreter sign-extends the 32-bit results into rd, the unsigned one as well. */
int32_t vmr_f32_to_i32(uint32_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_f32_to_u32(uint32_t a, uint32_t rm, uint32_t *flags);
int64_t vmr_f32_to_i64(uint32_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_f32_to_u64(uint32_t a, uint32_t rm, uint32_t *flags);
int32_t vmr_f64_to_i32(uint64_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_f64_to_u32(uint64_t a, uint32_t rm, uint32_t *flags);
int64_t vmr_f64_to_i64(uint64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_f64_to_u64(uint64_t a, uint32_t rm, uint32_t *flags);

/* FCVT from integers; from 32 bits to binary64 is exact, so takes neither rounding mode nor flags. */
uint32_t vmr_i32_to_f32(int32_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_u32_to_f32(uint32_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_i64_to_f32(int64_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_u64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_i32_to_f64(int32_t a);
uint64_t vmr_u32_to_f64(uint32_t a);
uint64_t vmr_i64_to_f64(int64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_u64_to_f64(uint64_t a, uint32_t rm, uint32_t *flags);

#endif
