/* The F and D operations: the host's FPU where it gives the same bits and flags, integer arithmetic where it may not.
 *
 * Rounded to nearest even, and with NX raised already (flags are sticky, and a program that computes soon raises it),
 * the only thing the host cannot tell is whether a result raised anything beyond NX. A result that is normal and not
 * near the lowest exponents raises nothing else and comes of finite operands; so one look at its exponent decides.
 * Everything rarer goes to vmr_soft_*: other rounding modes, NaNs, infinities, results that are zero or nearly so. */
#include "fp.h"

#include "fp_host.h"
#include "fp_soft.h"

#define F32_SIGN (UINT32_C(1) << 31)
#define F64_SIGN (UINT64_C(1) << 63)
#define F32_INF UINT32_C(0x7f800000)
#define F64_INF UINT64_C(0x7ff0000000000000)

static inline bool f32_is_nan(uint32_t a)
{
    return (a & ~F32_SIGN) > F32_INF;
}

static inline bool f64_is_nan(uint64_t a)
{
    return (a & ~F64_SIGN) > F64_INF;
}

static inline bool f32_is_signalling(uint32_t a)
{
    return f32_is_nan(a) && !(a >> 22 & 1);
}

static inline bool f64_is_signalling(uint64_t a)
{
    return f64_is_nan(a) && !(a >> 51 & 1);
}

/* With NX raised and rounding to nearest even the host's result needs no flag of its own. */
static inline bool host_rounds_alike(uint32_t rm, const uint32_t *flags)
{
    return VMR_FP_HOST && rm == VMR_RM_RNE && (*flags & VMR_FP_NX);
}

/* Biased exponents 64 up to the largest finite one. So far above the subnormals that a subnormal addend, were the host
 * to read it as zero, could not have changed the rounded sum of two numbers. */
static inline bool f32_is_plain(uint32_t a)
{
    return ((a >> 23 & 0xff) - 64) < 0xff - 64;
}

static inline bool f64_is_plain(uint64_t a)
{
    return ((uint32_t)(a >> 52 & 0x7ff) - 64) < 0x7ff - 64;
}

static inline bool f32_is_normal(uint32_t a)
{
    return ((a >> 23 & 0xff) - 1) < 0xff - 1;
}

#if VMR_HOST_HAS_SQRT || VMR_HOST_HAS_FMA
static inline bool f64_is_normal(uint64_t a)
{
    return ((uint32_t)(a >> 52 & 0x7ff) - 1) < 0x7ff - 1;
}
#endif

#define HOST_BINARY(NAME, OPERATOR)                                                           \
    uint32_t vmr_f32_##NAME(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags)             \
    {                                                                                         \
        if (host_rounds_alike(rm, flags)) {                                                   \
            const uint32_t r = vmr_host_bits32(vmr_host_f32(a) OPERATOR vmr_host_f32(b));     \
            if (f32_is_plain(r))                                                              \
                return r;                                                                     \
        }                                                                                     \
        return vmr_soft_f32_##NAME(a, b, rm, flags);                                          \
    }                                                                                         \
                                                                                              \
    uint64_t vmr_f64_##NAME(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)             \
    {                                                                                         \
        if (host_rounds_alike(rm, flags)) {                                                   \
            const uint64_t r = vmr_host_bits64(vmr_host_f64(a) OPERATOR vmr_host_f64(b));     \
            if (f64_is_plain(r))                                                              \
                return r;                                                                     \
        }                                                                                     \
        return vmr_soft_f64_##NAME(a, b, rm, flags);                                          \
    }

HOST_BINARY(add, +)
HOST_BINARY(sub, -)
HOST_BINARY(mul, *)
HOST_BINARY(div, /)

uint32_t vmr_f32_sqrt(uint32_t a, uint32_t rm, uint32_t *flags)
{
#if VMR_HOST_HAS_SQRT
    if (host_rounds_alike(rm, flags) && f32_is_normal(a) && !(a & F32_SIGN))
        return vmr_host_bits32(vmr_host_sqrt32(vmr_host_f32(a)));
#endif
    return vmr_soft_f32_sqrt(a, rm, flags);
}

uint64_t vmr_f64_sqrt(uint64_t a, uint32_t rm, uint32_t *flags)
{
#if VMR_HOST_HAS_SQRT
    if (host_rounds_alike(rm, flags) && f64_is_normal(a) && !(a & F64_SIGN))
        return vmr_host_bits64(vmr_host_sqrt64(vmr_host_f64(a)));
#endif
    return vmr_soft_f64_sqrt(a, rm, flags);
}

#if VMR_HOST_HAS_FMA
/* No operand may be subnormal: a host that read it as zero would lose the product, or what breaks a tie. */
static inline bool f32_host_fuses(uint32_t a, uint32_t b, uint32_t c)
{
    return f32_is_normal(a) && f32_is_normal(b) && (f32_is_normal(c) || c << 1 == 0) && vmr_host_fma_present();
}

static inline bool f64_host_fuses(uint64_t a, uint64_t b, uint64_t c)
{
    return f64_is_normal(a) && f64_is_normal(b) && (f64_is_normal(c) || c << 1 == 0) && vmr_host_fma_present();
}

VMR_HOST_FMA_TARGET static uint32_t f32_host_fma(uint32_t a, uint32_t b, uint32_t c)
{
    return vmr_host_bits32(vmr_host_fma32(vmr_host_f32(a), vmr_host_f32(b), vmr_host_f32(c)));
}

VMR_HOST_FMA_TARGET static uint64_t f64_host_fma(uint64_t a, uint64_t b, uint64_t c)
{
    return vmr_host_bits64(vmr_host_fma64(vmr_host_f64(a), vmr_host_f64(b), vmr_host_f64(c)));
}
#endif

uint32_t vmr_f32_fma(uint32_t a, uint32_t b, uint32_t c, uint32_t rm, uint32_t *flags)
{
#if VMR_HOST_HAS_FMA
    if (host_rounds_alike(rm, flags) && f32_host_fuses(a, b, c)) {
        const uint32_t r = f32_host_fma(a, b, c);
        if (f32_is_plain(r))
            return r;
    }
#endif
    return vmr_soft_f32_fma(a, b, c, rm, flags);
}

uint64_t vmr_f64_fma(uint64_t a, uint64_t b, uint64_t c, uint32_t rm, uint32_t *flags)
{
#if VMR_HOST_HAS_FMA
    if (host_rounds_alike(rm, flags) && f64_host_fuses(a, b, c)) {
        const uint64_t r = f64_host_fma(a, b, c);
        if (f64_is_plain(r))
            return r;
    }
#endif
    return vmr_soft_f64_fma(a, b, c, rm, flags);
}

/* Bit patterns as integers in the order of their values, both zeros alike; not for NaNs. */
static inline int32_t f32_order(uint32_t a)
{
    return a & F32_SIGN ? -(int32_t)(a & ~F32_SIGN) : (int32_t)a;
}

static inline int64_t f64_order(uint64_t a)
{
    return a & F64_SIGN ? -(int64_t)(a & ~F64_SIGN) : (int64_t)a;
}

#define COMPARISONS(F, WORD)                                                   \
    uint32_t vmr_##F##_eq(WORD a, WORD b, uint32_t *flags)                     \
    {                                                                          \
        if (F##_is_nan(a) || F##_is_nan(b)) {                                  \
            if (F##_is_signalling(a) || F##_is_signalling(b))                  \
                *flags |= VMR_FP_NV;                                           \
            return 0;                                                          \
        }                                                                      \
        return F##_order(a) == F##_order(b);                                   \
    }                                                                          \
                                                                               \
    uint32_t vmr_##F##_lt(WORD a, WORD b, uint32_t *flags)                     \
    {                                                                          \
        if (F##_is_nan(a) || F##_is_nan(b)) {                                  \
            *flags |= VMR_FP_NV;                                               \
            return 0;                                                          \
        }                                                                      \
        return F##_order(a) < F##_order(b);                                    \
    }                                                                          \
                                                                               \
    uint32_t vmr_##F##_le(WORD a, WORD b, uint32_t *flags)                     \
    {                                                                          \
        if (F##_is_nan(a) || F##_is_nan(b)) {                                  \
            *flags |= VMR_FP_NV;                                               \
            return 0;                                                          \
        }                                                                      \
        return F##_order(a) <= F##_order(b);                                   \
    }

COMPARISONS(f32, uint32_t)
COMPARISONS(f64, uint64_t)

/* Where the order is equal the values are the same but for the sign of a zero: OR finds the negative one, AND the
 * positive one. */
#define MINIMUM_MAXIMUM(F, WORD, NAN_VALUE)                                    \
    static WORD F##_the_number(WORD a, WORD b, uint32_t *flags)                \
    {                                                                          \
        if (F##_is_signalling(a) || F##_is_signalling(b))                      \
            *flags |= VMR_FP_NV;                                               \
        return !F##_is_nan(a) ? a : !F##_is_nan(b) ? b : NAN_VALUE;            \
    }                                                                          \
                                                                               \
    WORD vmr_##F##_min(WORD a, WORD b, uint32_t *flags)                        \
    {                                                                          \
        if (F##_is_nan(a) || F##_is_nan(b))                                    \
            return F##_the_number(a, b, flags);                                \
        if (F##_order(a) == F##_order(b))                                      \
            return a | b;                                                      \
        return F##_order(a) < F##_order(b) ? a : b;                            \
    }                                                                          \
                                                                               \
    WORD vmr_##F##_max(WORD a, WORD b, uint32_t *flags)                        \
    {                                                                          \
        if (F##_is_nan(a) || F##_is_nan(b))                                    \
            return F##_the_number(a, b, flags);                                \
        if (F##_order(a) == F##_order(b))                                      \
            return a & b;                                                      \
        return F##_order(a) > F##_order(b) ? a : b;                            \
    }

MINIMUM_MAXIMUM(f32, uint32_t, VMR_F32_NAN)
MINIMUM_MAXIMUM(f64, uint64_t, VMR_F64_NAN)

/* Bits 0 .. 3 are the negative classes from infinity inwards, 4 .. 7 the positive ones outwards, 8 and 9 the NaNs. */
#define CLASSIFY(F, WORD, SIGN, INF, LEAST_NORMAL)                                                 \
    uint32_t vmr_##F##_class(WORD a)                                                               \
    {                                                                                              \
        const WORD magnitude = a & ~SIGN;                                                          \
        if (magnitude > INF)                                                                       \
            return F##_is_signalling(a) ? 1u << 8 : 1u << 9;                                       \
        const int outwards = (magnitude != 0) + (magnitude >= LEAST_NORMAL) + (magnitude == INF);   \
        return a & SIGN ? 1u << (3 - outwards) : 1u << (4 + outwards);                             \
    }

CLASSIFY(f32, uint32_t, F32_SIGN, F32_INF, UINT32_C(0x00800000))
CLASSIFY(f64, uint64_t, F64_SIGN, F64_INF, UINT64_C(0x0010000000000000))

uint32_t vmr_f64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_rounds_alike(rm, flags)) {
        const uint32_t r = vmr_host_bits32((float)vmr_host_f64(a));
        if (f32_is_plain(r))
            return r;
    }
    return vmr_soft_f64_to_f32(a, rm, flags);
}

/* A normal binary32 keeps its fraction, and its exponent moves by the difference of the biases. */
static inline uint64_t f32_normal_to_f64(uint32_t a)
{
    return (uint64_t)(a & F32_SIGN) << 32 | (((uint64_t)(a & ~F32_SIGN) << 29) + ((UINT64_C(1023) - 127) << 52));
}

uint64_t vmr_f32_to_f64(uint32_t a, uint32_t *flags)
{
    return f32_is_normal(a) ? f32_normal_to_f64(a) : vmr_soft_f32_to_f64(a, flags);
}

/* The exact binary64 value for the conversions to integers, which raise NV for every NaN in the same way. */
static inline uint64_t f32_widened(uint32_t a)
{
    uint32_t ignored = 0;
    return vmr_f32_to_f64(a, &ignored);
}

/* Truncation, C's own conversion, is the host's where the value is in range: below 2^exponent in magnitude. */
static inline bool host_truncates(uint64_t a, uint32_t rm, uint32_t exponent)
{
    return VMR_FP_HOST && rm == VMR_RM_RTZ && (a & ~F64_SIGN) < (uint64_t)(1023 + exponent) << 52;
}

/* Compared as bits but for the sign, since -0 is exact too. */
static inline void flag_truncation(uint64_t a, double truncated, uint32_t *flags)
{
    if ((a ^ vmr_host_bits64(truncated)) & ~F64_SIGN)
        *flags |= VMR_FP_NX;
}

int32_t vmr_f64_to_i32(uint64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_truncates(a, rm, 31)) {
        const int32_t r = (int32_t)vmr_host_f64(a);
        flag_truncation(a, r, flags);
        return r;
    }
    return (int32_t)vmr_soft_f64_to_signed(a, 32, rm, flags);
}

uint32_t vmr_f64_to_u32(uint64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_truncates(a, rm, 32) && !(a & F64_SIGN)) {
        const int64_t r = (int64_t)vmr_host_f64(a);
        flag_truncation(a, (double)r, flags);
        return (uint32_t)r;
    }
    return (uint32_t)vmr_soft_f64_to_unsigned(a, 32, rm, flags);
}

int64_t vmr_f64_to_i64(uint64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_truncates(a, rm, 63)) {
        const int64_t r = (int64_t)vmr_host_f64(a);
        flag_truncation(a, (double)r, flags);
        return r;
    }
    return vmr_soft_f64_to_signed(a, 64, rm, flags);
}

uint64_t vmr_f64_to_u64(uint64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_truncates(a, rm, 63) && !(a & F64_SIGN)) {
        const int64_t r = (int64_t)vmr_host_f64(a);
        flag_truncation(a, (double)r, flags);
        return (uint64_t)r;
    }
    return vmr_soft_f64_to_unsigned(a, 64, rm, flags);
}

int32_t vmr_f32_to_i32(uint32_t a, uint32_t rm, uint32_t *flags)
{
    return vmr_f64_to_i32(f32_widened(a), rm, flags);
}

uint32_t vmr_f32_to_u32(uint32_t a, uint32_t rm, uint32_t *flags)
{
    return vmr_f64_to_u32(f32_widened(a), rm, flags);
}

int64_t vmr_f32_to_i64(uint32_t a, uint32_t rm, uint32_t *flags)
{
    return vmr_f64_to_i64(f32_widened(a), rm, flags);
}

uint64_t vmr_f32_to_u64(uint32_t a, uint32_t rm, uint32_t *flags)
{
    return vmr_f64_to_u64(f32_widened(a), rm, flags);
}

/* From integers the host needs NX raised only where the integer may not fit the significand. */
static inline bool host_converts(uint64_t magnitude, uint32_t significand_bits, uint32_t rm, const uint32_t *flags)
{
    return VMR_FP_HOST && (magnitude >> significand_bits == 0 || host_rounds_alike(rm, flags));
}

static inline uint64_t magnitude_of(int64_t a)
{
    return a < 0 ? -(uint64_t)a : (uint64_t)a;
}

uint32_t vmr_i64_to_f32(int64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_converts(magnitude_of(a), 24, rm, flags))
        return vmr_host_bits32((float)a);
    return vmr_soft_i64_to_f32(a, rm, flags);
}

uint32_t vmr_u64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_converts(a, 24, rm, flags))
        return vmr_host_bits32((float)a);
    return vmr_soft_u64_to_f32(a, rm, flags);
}

uint64_t vmr_i64_to_f64(int64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_converts(magnitude_of(a), 53, rm, flags))
        return vmr_host_bits64((double)a);
    return vmr_soft_i64_to_f64(a, rm, flags);
}

uint64_t vmr_u64_to_f64(uint64_t a, uint32_t rm, uint32_t *flags)
{
    if (host_converts(a, 53, rm, flags))
        return vmr_host_bits64((double)a);
    return vmr_soft_u64_to_f64(a, rm, flags);
}

uint32_t vmr_i32_to_f32(int32_t a, uint32_t rm, uint32_t *flags)
{
    return vmr_i64_to_f32(a, rm, flags);
}

uint32_t vmr_u32_to_f32(uint32_t a, uint32_t rm, uint32_t *flags)
{
    return vmr_i64_to_f32(a, rm, flags);
}

uint64_t vmr_i32_to_f64(int32_t a)
{
    uint32_t none = 0;
    return vmr_i64_to_f64(a, VMR_RM_RNE, &none);
}

uint64_t vmr_u32_to_f64(uint32_t a)
{
    uint32_t none = 0;
    return vmr_i64_to_f64(a, VMR_RM_RNE, &none);
}
