/* Taking binary32 and binary64 apart and rounding them together again: what every operation of fp_soft.c and
 * fp_convert.c shares. The format is a parameter that the compiler folds away. */
#ifndef VMR_FP_FORMAT_H
#define VMR_FP_FORMAT_H

#include <stdbool.h>

#include "fp.h"

#define VMR_FP_INLINE static inline __attribute__((always_inline))

__extension__ typedef unsigned __int128 vmr_u128;
__extension__ typedef __int128 vmr_i128;

typedef struct {
    uint32_t frac_bits;
    uint32_t exp_mask;
    int32_t bias;
    uint32_t sign_shift;
} vmr_format;

#define VMR_BINARY32 ((vmr_format){.frac_bits = 23, .exp_mask = 0xff, .bias = 127, .sign_shift = 31})
#define VMR_BINARY64 ((vmr_format){.frac_bits = 52, .exp_mask = 0x7ff, .bias = 1023, .sign_shift = 63})

typedef enum { VMR_ZERO, VMR_FINITE, VMR_INF, VMR_QUIET_NAN, VMR_SIGNALLING_NAN } vmr_kind;

/* A finite value is sig * 2^(exp - 63), with bit 63 of sig set; binary64 leaves the low 11 bits of sig clear. */
typedef struct {
    uint64_t sig;
    int32_t exp;
    bool sign;
    vmr_kind kind;
} vmr_number;

VMR_FP_INLINE uint64_t vmr_infinity(vmr_format f)
{
    return (uint64_t)f.exp_mask << f.frac_bits;
}

VMR_FP_INLINE uint64_t vmr_signed_bits(vmr_format f, bool sign, uint64_t magnitude)
{
    return (uint64_t)sign << f.sign_shift | magnitude;
}

VMR_FP_INLINE uint64_t vmr_canonical_nan(vmr_format f)
{
    return vmr_infinity(f) | UINT64_C(1) << (f.frac_bits - 1);
}

VMR_FP_INLINE uint64_t vmr_invalid(vmr_format f, uint32_t *flags)
{
    *flags |= VMR_FP_NV;
    return vmr_canonical_nan(f);
}

VMR_FP_INLINE bool vmr_is_nan(vmr_kind kind)
{
    return kind >= VMR_QUIET_NAN;
}

/* The result of an operation with a NaN among its operands. */
VMR_FP_INLINE uint64_t vmr_propagate_nan(vmr_format f, bool signalling, uint32_t *flags)
{
    return signalling ? vmr_invalid(f, flags) : vmr_canonical_nan(f);
}

VMR_FP_INLINE vmr_number vmr_unpack(vmr_format f, uint64_t bits)
{
    const uint32_t exp = (uint32_t)(bits >> f.frac_bits) & f.exp_mask;
    const uint64_t frac = bits & ((UINT64_C(1) << f.frac_bits) - 1);
    vmr_number n = {.sign = bits >> f.sign_shift & 1, .kind = VMR_FINITE};
    if (exp == f.exp_mask) {
        n.kind = frac == 0 ? VMR_INF : frac >> (f.frac_bits - 1) ? VMR_QUIET_NAN : VMR_SIGNALLING_NAN;
    } else if (exp != 0) {
        n.exp = (int32_t)exp - f.bias;
        n.sig = (frac | UINT64_C(1) << f.frac_bits) << (63 - f.frac_bits);
    } else if (frac != 0) {
        const int32_t lead = __builtin_clzll(frac);
        n.exp = 1 - f.bias - (int32_t)f.frac_bits + 63 - lead;
        n.sig = frac << lead;
    } else {
        n.kind = VMR_ZERO;
    }
    return n;
}

/* Shift right; what falls off is kept as a one in the lowest bit, so that later rounding still sees it. */
VMR_FP_INLINE uint64_t vmr_shift_jam64(uint64_t value, uint32_t count)
{
    if (count > 63)
        return value != 0;
    return value >> count | ((value & ((UINT64_C(1) << count) - 1)) != 0);
}

VMR_FP_INLINE vmr_u128 vmr_shift_jam128(vmr_u128 value, uint32_t count)
{
    if (count > 127)
        return value != 0;
    return value >> count | ((value & (((vmr_u128)1 << count) - 1)) != 0);
}

/* What to add below the kept bits, so that the carry into them is the rounding; drop is 1 .. 63. */
VMR_FP_INLINE uint64_t vmr_round_increment(uint32_t rm, bool sign, uint32_t drop, bool odd)
{
    const uint64_t half = UINT64_C(1) << (drop - 1);
    switch (rm) {
    case VMR_RM_RNE:
        return half - 1 + odd;
    case VMR_RM_RDN:
        return sign ? half * 2 - 1 : 0;
    case VMR_RM_RUP:
        return sign ? 0 : half * 2 - 1;
    case VMR_RM_RMM:
        return half;
    default:
        return 0;
    }
}

/* sig without its low drop bits, rounded; drop is 1 .. 63. */
VMR_FP_INLINE uint64_t vmr_round_off(uint64_t sig, uint32_t drop, bool sign, uint32_t rm)
{
    const uint64_t kept = sig >> drop;
    const uint64_t lost = sig & ((UINT64_C(1) << drop) - 1);
    return kept + ((lost + vmr_round_increment(rm, sign, drop, kept & 1)) >> drop);
}

VMR_FP_INLINE bool vmr_loses_bits(uint64_t sig, uint32_t drop)
{
    return (sig & ((UINT64_C(1) << drop) - 1)) != 0;
}

/* An exponent below the normal range. Tiny means that rounding to full precision, with the exponent unbounded, still
 * ends below the smallest normal number; underflow is raised when such a result is inexact as well. */
VMR_FP_INLINE uint64_t vmr_round_subnormal(vmr_format f, vmr_number n, int32_t biased, uint32_t rm, uint32_t *flags)
{
    const uint32_t drop = 63 - f.frac_bits;
    const uint64_t sig = vmr_shift_jam64(n.sig, (uint32_t)(1 - biased));
    if (vmr_loses_bits(sig, drop)) {
        const bool reaches_normal = biased == 0 && vmr_round_off(n.sig, drop, n.sign, rm) >> (f.frac_bits + 1);
        *flags |= reaches_normal ? VMR_FP_NX : VMR_FP_NX | VMR_FP_UF;
    }
    return vmr_signed_bits(f, n.sign, vmr_round_off(sig, drop, n.sign, rm));
}

VMR_FP_INLINE uint64_t vmr_overflow(vmr_format f, bool sign, uint32_t rm, uint32_t *flags)
{
    const bool to_infinity = rm == VMR_RM_RNE || rm == VMR_RM_RMM || rm == (sign ? VMR_RM_RDN : VMR_RM_RUP);
    *flags |= VMR_FP_OF | VMR_FP_NX;
    return vmr_signed_bits(f, sign, to_infinity ? vmr_infinity(f) : vmr_infinity(f) - 1);
}

/* The rounded bits of a finite n whose sig may have any of its bits set, the lowest being sticky. */
VMR_FP_INLINE uint64_t vmr_round_pack(vmr_format f, vmr_number n, uint32_t rm, uint32_t *flags)
{
    const uint32_t drop = 63 - f.frac_bits;
    const int32_t biased = n.exp + f.bias;
    if (biased < 1)
        return vmr_round_subnormal(f, n, biased, rm, flags);
    /* The leading bit of the rounded sig counts one into the exponent; a carry out of it counts one more. */
    const uint64_t bits = ((uint64_t)(biased - 1) << f.frac_bits) + vmr_round_off(n.sig, drop, n.sign, rm);
    if (bits >= vmr_infinity(f))
        return vmr_overflow(f, n.sign, rm, flags);
    if (vmr_loses_bits(n.sig, drop))
        *flags |= VMR_FP_NX;
    return vmr_signed_bits(f, n.sign, bits);
}

#endif
