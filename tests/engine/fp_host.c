/* Oracle: the host's own FPU, its rounding mode set and its flags read, behind the face of fp_api.h.
 *
 * What RISC-V fixes and a host does otherwise is put right here by other means than the library's: canonical NaNs,
 * infinity * 0 + quiet NaN, integer conversions by rint and a comparison of doubles. */
#include <errno.h>
#include <fenv.h>
#include <math.h>
#include <string.h>

#include "fp.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static uint32_t raised(void)
{
    const int host = fetestexcept(FE_ALL_EXCEPT);
    return (host & FE_INEXACT ? VMR_FP_NX : 0) | (host & FE_UNDERFLOW ? VMR_FP_UF : 0) |
           (host & FE_OVERFLOW ? VMR_FP_OF : 0) | (host & FE_DIVBYZERO ? VMR_FP_DZ : 0) |
           (host & FE_INVALID ? VMR_FP_NV : 0);
}

static float f32(uint64_t bits)
{
    const uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, 4);
    return value;
}

static double f64(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static uint64_t out32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return isnan(value) ? VMR_F32_NAN : bits;
}

static uint64_t out64(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return isnan(value) ? VMR_F64_NAN : bits;
}

/* To an integer: limit is the first value above the range, floor_value its lowest. */
static uint64_t to_integer(double x, double floor_value, double limit, uint64_t lowest, uint64_t highest,
                           uint32_t *flags)
{
    const double whole = rint(x);
    *flags = isnan(x) || whole < floor_value || whole >= limit ? VMR_FP_NV : whole != x ? VMR_FP_NX : 0;
    if (*flags != VMR_FP_NV)
        return whole < 0 ? (uint64_t)(int64_t)whole : (uint64_t)whole;
    return !isnan(x) && x < 0 ? lowest : highest;
}

static uint64_t fused32(uint64_t a, uint64_t b, uint64_t c, uint32_t *flags)
{
    volatile float x = f32(a), y = f32(b), z = f32(c);
    const uint64_t r = out32(fmaf(x, y, z));
    *flags = raised();
    if ((isinf(x) && y == 0) || (x == 0 && isinf(y)))
        *flags |= VMR_FP_NV;
    return r;
}

static uint64_t fused64(uint64_t a, uint64_t b, uint64_t c, uint32_t *flags)
{
    volatile double x = f64(a), y = f64(b), z = f64(c);
    const uint64_t r = out64(fma(x, y, z));
    *flags = raised();
    if ((isinf(x) && y == 0) || (x == 0 && isinf(y)))
        *flags |= VMR_FP_NV;
    return r;
}

#define I32_MIN_IN_RD UINT64_C(0xffffffff80000000)
#define I64_MIN_IN_RD UINT64_C(0x8000000000000000)
#define SIGN_EXTENDED(x) ((uint64_t)(int64_t)(int32_t)(x))

static int host_op(uint32_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t *r, uint32_t *flags)
{
    volatile float as = f32(a), bs = f32(b), s;
    volatile double ad = f64(a), bd = f64(b), d;
    feclearexcept(FE_ALL_EXCEPT);
    switch (op) {
    case VMR_FP_ADD_S: s = as + bs; break;
    case VMR_FP_SUB_S: s = as - bs; break;
    case VMR_FP_MUL_S: s = as * bs; break;
    case VMR_FP_DIV_S: s = as / bs; break;
    case VMR_FP_SQRT_S: s = sqrtf(as); break;
    case VMR_FP_CVT_S_W: s = (float)(int32_t)a; break;
    case VMR_FP_CVT_S_WU: s = (float)(uint32_t)a; break;
    case VMR_FP_CVT_S_L: s = (float)(int64_t)a; break;
    case VMR_FP_CVT_S_LU: s = (float)a; break;
    case VMR_FP_CVT_S_D: s = (float)ad; break;
    case VMR_FP_ADD_D: d = ad + bd; goto binary64;
    case VMR_FP_SUB_D: d = ad - bd; goto binary64;
    case VMR_FP_MUL_D: d = ad * bd; goto binary64;
    case VMR_FP_DIV_D: d = ad / bd; goto binary64;
    case VMR_FP_SQRT_D: d = sqrt(ad); goto binary64;
    case VMR_FP_CVT_D_W: d = (double)(int32_t)a; goto binary64;
    case VMR_FP_CVT_D_WU: d = (double)(uint32_t)a; goto binary64;
    case VMR_FP_CVT_D_L: d = (double)(int64_t)a; goto binary64;
    case VMR_FP_CVT_D_LU: d = (double)a; goto binary64;
    case VMR_FP_CVT_D_S: d = (double)as; goto binary64;
    case VMR_FP_FMA_S: *r = fused32(a, b, c, flags); return 0;
    case VMR_FP_FMA_D: *r = fused64(a, b, c, flags); return 0;
    case VMR_FP_EQ_S: *r = as == bs; goto flagged;
    case VMR_FP_LT_S: *r = as < bs; goto flagged;
    case VMR_FP_LE_S: *r = as <= bs; goto flagged;
    case VMR_FP_EQ_D: *r = ad == bd; goto flagged;
    case VMR_FP_LT_D: *r = ad < bd; goto flagged;
    case VMR_FP_LE_D: *r = ad <= bd; goto flagged;
    case VMR_FP_CVT_W_S: *r = to_integer(as, -0x1p31, 0x1p31, I32_MIN_IN_RD, INT32_MAX, flags); return 0;
    case VMR_FP_CVT_WU_S: *r = SIGN_EXTENDED(to_integer(as, 0, 0x1p32, 0, UINT32_MAX, flags)); return 0;
    case VMR_FP_CVT_L_S: *r = to_integer(as, -0x1p63, 0x1p63, I64_MIN_IN_RD, INT64_MAX, flags); return 0;
    case VMR_FP_CVT_LU_S: *r = to_integer(as, 0, 0x1p64, 0, UINT64_MAX, flags); return 0;
    case VMR_FP_CVT_W_D: *r = to_integer(ad, -0x1p31, 0x1p31, I32_MIN_IN_RD, INT32_MAX, flags); return 0;
    case VMR_FP_CVT_WU_D: *r = SIGN_EXTENDED(to_integer(ad, 0, 0x1p32, 0, UINT32_MAX, flags)); return 0;
    case VMR_FP_CVT_L_D: *r = to_integer(ad, -0x1p63, 0x1p63, I64_MIN_IN_RD, INT64_MAX, flags); return 0;
    case VMR_FP_CVT_LU_D: *r = to_integer(ad, 0, 0x1p64, 0, UINT64_MAX, flags); return 0;
    default: return -EINVAL;
    }
    *r = out32(s);
    goto flagged;
binary64:
    *r = out64(d);
flagged:
    *flags = raised();
    return 0;
}

int host_fp_ops(uint32_t op, uint32_t rm, uint64_t n, const uint64_t *a, const uint64_t *b, const uint64_t *c,
                uint64_t *result, uint32_t *flags)
{
    static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    int error = rm < 4 ? fesetround(modes[rm]) : -EINVAL;
    for (uint64_t i = 0; i < n && !error; i++)
        error = host_op(op, a[i], b[i], c[i], &result[i], &flags[i]);
    fesetround(FE_TONEAREST);
    return error;
}

#ifdef __SSE2__
/* vmr_fp_ops under a host that flushes subnormal operands and results to zero. */
int flushing_fp_ops(int (*ops)(uint32_t, uint32_t, uint64_t, const uint64_t *, const uint64_t *, const uint64_t *,
                               uint64_t *, uint32_t *),
                    uint32_t op, uint32_t rm, uint64_t n, const uint64_t *a, const uint64_t *b, const uint64_t *c,
                    uint64_t *result, uint32_t *flags)
{
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    const int error = ops(op, rm, n, a, b, c, result, flags);
    _mm_setcsr(before);
    return error;
}
#endif

uint32_t unbox(uint64_t reg)
{
    return vmr_f32_unbox(reg);
}

uint64_t box(uint32_t value)
{
    return vmr_f32_box(value);
}
