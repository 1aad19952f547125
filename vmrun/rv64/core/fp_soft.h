/* The integer half of fp.h: the same results and flags for every operand and rounding mode, without the host's FPU. */
#ifndef VMR_FP_SOFT_H
#define VMR_FP_SOFT_H

#include "fp_api.h"

uint32_t vmr_soft_f32_add(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_soft_f32_sub(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_soft_f32_mul(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_soft_f32_div(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags);
uint32_t vmr_soft_f32_sqrt(uint32_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_soft_f32_fma(uint32_t a, uint32_t b, uint32_t c, uint32_t rm, uint32_t *flags);

uint64_t vmr_soft_f64_add(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_f64_sub(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_f64_mul(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_f64_div(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_f64_sqrt(uint64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_f64_fma(uint64_t a, uint64_t b, uint64_t c, uint32_t rm, uint32_t *flags);

uint32_t vmr_soft_f64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_f32_to_f64(uint32_t a, uint32_t *flags);

/* To an integer of 32 or 64 bits; a binary32 goes through its exact binary64 value first. */
int64_t vmr_soft_f64_to_signed(uint64_t a, uint32_t bits, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_f64_to_unsigned(uint64_t a, uint32_t bits, uint32_t rm, uint32_t *flags);

/* From an integer; narrower ones are extended by the caller. */
uint32_t vmr_soft_i64_to_f32(int64_t a, uint32_t rm, uint32_t *flags);
uint32_t vmr_soft_u64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_i64_to_f64(int64_t a, uint32_t rm, uint32_t *flags);
uint64_t vmr_soft_u64_to_f64(uint64_t a, uint32_t rm, uint32_t *flags);

#endif
