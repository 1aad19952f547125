/* The operations of fp.h by number, so that tests drive every one of them, and its integer half, through one door. */
#include <errno.h>
#include <stdbool.h>

#include "fp.h"
#include "fp_soft.h"

/* A 32-bit integer as it stands in an x register. */
static uint64_t in_rd(uint32_t value)
{
    return (uint64_t)(int64_t)(int32_t)value;
}

/* What rounds with the host's FPU in play. Returns false for an operation that is not one of these. */
static bool round_host(uint32_t op, uint32_t rm, uint64_t a, uint64_t b, uint64_t c, uint64_t *r, uint32_t *flags)
{
    const uint32_t a32 = (uint32_t)a, b32 = (uint32_t)b, c32 = (uint32_t)c;
    switch (op) {
    case VMR_FP_ADD_S: return *r = vmr_f32_add(a32, b32, rm, flags), true;
    case VMR_FP_SUB_S: return *r = vmr_f32_sub(a32, b32, rm, flags), true;
    case VMR_FP_MUL_S: return *r = vmr_f32_mul(a32, b32, rm, flags), true;
    case VMR_FP_DIV_S: return *r = vmr_f32_div(a32, b32, rm, flags), true;
    case VMR_FP_SQRT_S: return *r = vmr_f32_sqrt(a32, rm, flags), true;
    case VMR_FP_FMA_S: return *r = vmr_f32_fma(a32, b32, c32, rm, flags), true;
    case VMR_FP_CVT_W_S: return *r = in_rd((uint32_t)vmr_f32_to_i32(a32, rm, flags)), true;
    case VMR_FP_CVT_WU_S: return *r = in_rd(vmr_f32_to_u32(a32, rm, flags)), true;
    case VMR_FP_CVT_L_S: return *r = (uint64_t)vmr_f32_to_i64(a32, rm, flags), true;
    case VMR_FP_CVT_LU_S: return *r = vmr_f32_to_u64(a32, rm, flags), true;
    case VMR_FP_CVT_S_W: return *r = vmr_i32_to_f32((int32_t)a32, rm, flags), true;
    case VMR_FP_CVT_S_WU: return *r = vmr_u32_to_f32(a32, rm, flags), true;
    case VMR_FP_CVT_S_L: return *r = vmr_i64_to_f32((int64_t)a, rm, flags), true;
    case VMR_FP_CVT_S_LU: return *r = vmr_u64_to_f32(a, rm, flags), true;
    case VMR_FP_CVT_S_D: return *r = vmr_f64_to_f32(a, rm, flags), true;
    case VMR_FP_ADD_D: return *r = vmr_f64_add(a, b, rm, flags), true;
    case VMR_FP_SUB_D: return *r = vmr_f64_sub(a, b, rm, flags), true;
    case VMR_FP_MUL_D: return *r = vmr_f64_mul(a, b, rm, flags), true;
    case VMR_FP_DIV_D: return *r = vmr_f64_div(a, b, rm, flags), true;
    case VMR_FP_SQRT_D: return *r = vmr_f64_sqrt(a, rm, flags), true;
    case VMR_FP_FMA_D: return *r = vmr_f64_fma(a, b, c, rm, flags), true;
    case VMR_FP_CVT_W_D: return *r = in_rd((uint32_t)vmr_f64_to_i32(a, rm, flags)), true;
    case VMR_FP_CVT_WU_D: return *r = in_rd(vmr_f64_to_u32(a, rm, flags)), true;
    case VMR_FP_CVT_L_D: return *r = (uint64_t)vmr_f64_to_i64(a, rm, flags), true;
    case VMR_FP_CVT_LU_D: return *r = vmr_f64_to_u64(a, rm, flags), true;
    case VMR_FP_CVT_D_W: return *r = vmr_i32_to_f64((int32_t)a32), true;
    case VMR_FP_CVT_D_WU: return *r = vmr_u32_to_f64(a32), true;
    case VMR_FP_CVT_D_L: return *r = vmr_i64_to_f64((int64_t)a, rm, flags), true;
    case VMR_FP_CVT_D_LU: return *r = vmr_u64_to_f64(a, rm, flags), true;
    case VMR_FP_CVT_D_S: return *r = vmr_f32_to_f64(a32, flags), true;
    default: return false;
    }
}

/* The same, in integers. */
static bool round_soft(uint32_t op, uint32_t rm, uint64_t a, uint64_t b, uint64_t c, uint64_t *r, uint32_t *flags)
{
    const uint32_t a32 = (uint32_t)a, b32 = (uint32_t)b, c32 = (uint32_t)c;
    uint32_t quiet = 0;
    switch (op) {
    case VMR_FP_ADD_S: return *r = vmr_soft_f32_add(a32, b32, rm, flags), true;
    case VMR_FP_SUB_S: return *r = vmr_soft_f32_sub(a32, b32, rm, flags), true;
    case VMR_FP_MUL_S: return *r = vmr_soft_f32_mul(a32, b32, rm, flags), true;
    case VMR_FP_DIV_S: return *r = vmr_soft_f32_div(a32, b32, rm, flags), true;
    case VMR_FP_SQRT_S: return *r = vmr_soft_f32_sqrt(a32, rm, flags), true;
    case VMR_FP_FMA_S: return *r = vmr_soft_f32_fma(a32, b32, c32, rm, flags), true;
    case VMR_FP_CVT_W_S: return round_soft(VMR_FP_CVT_W_D, rm, vmr_soft_f32_to_f64(a32, &quiet), 0, 0, r, flags);
    case VMR_FP_CVT_WU_S: return round_soft(VMR_FP_CVT_WU_D, rm, vmr_soft_f32_to_f64(a32, &quiet), 0, 0, r, flags);
    case VMR_FP_CVT_L_S: return round_soft(VMR_FP_CVT_L_D, rm, vmr_soft_f32_to_f64(a32, &quiet), 0, 0, r, flags);
    case VMR_FP_CVT_LU_S: return round_soft(VMR_FP_CVT_LU_D, rm, vmr_soft_f32_to_f64(a32, &quiet), 0, 0, r, flags);
    case VMR_FP_CVT_S_W: return *r = vmr_soft_i64_to_f32((int32_t)a32, rm, flags), true;
    case VMR_FP_CVT_S_WU: return *r = vmr_soft_i64_to_f32(a32, rm, flags), true;
    case VMR_FP_CVT_S_L: return *r = vmr_soft_i64_to_f32((int64_t)a, rm, flags), true;
    case VMR_FP_CVT_S_LU: return *r = vmr_soft_u64_to_f32(a, rm, flags), true;
    case VMR_FP_CVT_S_D: return *r = vmr_soft_f64_to_f32(a, rm, flags), true;
    case VMR_FP_ADD_D: return *r = vmr_soft_f64_add(a, b, rm, flags), true;
    case VMR_FP_SUB_D: return *r = vmr_soft_f64_sub(a, b, rm, flags), true;
    case VMR_FP_MUL_D: return *r = vmr_soft_f64_mul(a, b, rm, flags), true;
    case VMR_FP_DIV_D: return *r = vmr_soft_f64_div(a, b, rm, flags), true;
    case VMR_FP_SQRT_D: return *r = vmr_soft_f64_sqrt(a, rm, flags), true;
    case VMR_FP_FMA_D: return *r = vmr_soft_f64_fma(a, b, c, rm, flags), true;
    case VMR_FP_CVT_W_D: return *r = (uint64_t)vmr_soft_f64_to_signed(a, 32, rm, flags), true;
    case VMR_FP_CVT_WU_D: return *r = in_rd((uint32_t)vmr_soft_f64_to_unsigned(a, 32, rm, flags)), true;
    case VMR_FP_CVT_L_D: return *r = (uint64_t)vmr_soft_f64_to_signed(a, 64, rm, flags), true;
    case VMR_FP_CVT_LU_D: return *r = vmr_soft_f64_to_unsigned(a, 64, rm, flags), true;
    case VMR_FP_CVT_D_W: return *r = vmr_soft_i64_to_f64((int32_t)a32, rm, flags), true;
    case VMR_FP_CVT_D_WU: return *r = vmr_soft_i64_to_f64(a32, rm, flags), true;
    case VMR_FP_CVT_D_L: return *r = vmr_soft_i64_to_f64((int64_t)a, rm, flags), true;
    case VMR_FP_CVT_D_LU: return *r = vmr_soft_u64_to_f64(a, rm, flags), true;
    case VMR_FP_CVT_D_S: return *r = vmr_soft_f32_to_f64(a32, flags), true;
    default: return false;
    }
}

/* What does not round, and so has one form only. */
static bool compare(uint32_t op, uint64_t a, uint64_t b, uint64_t *r, uint32_t *flags)
{
    const uint32_t a32 = (uint32_t)a, b32 = (uint32_t)b;
    switch (op) {
    case VMR_FP_MIN_S: return *r = vmr_f32_min(a32, b32, flags), true;
    case VMR_FP_MAX_S: return *r = vmr_f32_max(a32, b32, flags), true;
    case VMR_FP_EQ_S: return *r = vmr_f32_eq(a32, b32, flags), true;
    case VMR_FP_LT_S: return *r = vmr_f32_lt(a32, b32, flags), true;
    case VMR_FP_LE_S: return *r = vmr_f32_le(a32, b32, flags), true;
    case VMR_FP_CLASS_S: return *r = vmr_f32_class(a32), true;
    case VMR_FP_MIN_D: return *r = vmr_f64_min(a, b, flags), true;
    case VMR_FP_MAX_D: return *r = vmr_f64_max(a, b, flags), true;
    case VMR_FP_EQ_D: return *r = vmr_f64_eq(a, b, flags), true;
    case VMR_FP_LT_D: return *r = vmr_f64_lt(a, b, flags), true;
    case VMR_FP_LE_D: return *r = vmr_f64_le(a, b, flags), true;
    case VMR_FP_CLASS_D: return *r = vmr_f64_class(a), true;
    default: return false;
    }
}

int vmr_fp_op(uint32_t op, uint32_t rm, uint64_t a, uint64_t b, uint64_t c, uint64_t *result, uint32_t *flags)
{
    if (rm > VMR_RM_RMM)
        return -EINVAL;
    const uint32_t plain_op = op & ~(uint32_t)VMR_FP_SOFT;
    const bool done = op & VMR_FP_SOFT ? round_soft(plain_op, rm, a, b, c, result, flags)
                                       : round_host(plain_op, rm, a, b, c, result, flags);
    return done || compare(plain_op, a, b, result, flags) ? 0 : -EINVAL;
}

int vmr_fp_ops(uint32_t op, uint32_t rm, uint64_t n, const uint64_t *a, const uint64_t *b, const uint64_t *c,
               uint64_t *result, uint32_t *flags)
{
    for (uint64_t i = 0; i < n; i++) {
        const int error = vmr_fp_op(op, rm, a[i], b[i], c[i], &result[i], &flags[i]);
        if (error)
            return error;
    }
    return 0;
}
