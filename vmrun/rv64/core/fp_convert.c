/* Conversions between the formats and to and from integers, in integer arithmetic (Unprivileged ISA, 11.7 and 12.5). */
#include "fp_format.h"
#include "fp_soft.h"

uint32_t vmr_soft_f64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags)
{
    const vmr_format f = VMR_BINARY32;
    const vmr_number n = vmr_unpack(VMR_BINARY64, a);
    switch (n.kind) {
    case VMR_FINITE:
        return (uint32_t)vmr_round_pack(f, n, rm, flags);
    case VMR_ZERO:
        return (uint32_t)vmr_signed_bits(f, n.sign, 0);
    case VMR_INF:
        return (uint32_t)vmr_signed_bits(f, n.sign, vmr_infinity(f));
    default:
        return (uint32_t)vmr_propagate_nan(f, n.kind == VMR_SIGNALLING_NAN, flags);
    }
}

uint64_t vmr_soft_f32_to_f64(uint32_t a, uint32_t *flags)
{
    const vmr_format f = VMR_BINARY64;
    const vmr_number n = vmr_unpack(VMR_BINARY32, a);
    switch (n.kind) {
    case VMR_FINITE:
        return vmr_round_pack(f, n, VMR_RM_RNE, flags);
    case VMR_ZERO:
        return vmr_signed_bits(f, n.sign, 0);
    case VMR_INF:
        return vmr_signed_bits(f, n.sign, vmr_infinity(f));
    default:
        return vmr_propagate_nan(f, n.kind == VMR_SIGNALLING_NAN, flags);
    }
}

/* A magnitude rounded to an integer. above says that it does not fit 64 bits, inexact that it was rounded. */
typedef struct {
    uint64_t value;
    bool above;
    bool inexact;
} rounded;

VMR_FP_INLINE rounded round_to_integer(vmr_number n, uint32_t rm)
{
    if (n.kind == VMR_ZERO)
        return (rounded){.value = 0};
    if (n.kind != VMR_FINITE || n.exp > 63)
        return (rounded){.above = true};
    if (n.exp > 51)
        return (rounded){.value = n.sig >> (63 - n.exp)};
    /* Below 1/2 every exponent rounds alike: drop at most all bits but the sticky one. */
    const uint32_t fraction_bits = n.exp < -1 ? 63 : (uint32_t)(62 - n.exp);
    const uint64_t sig = n.exp < -1 ? 1 : vmr_shift_jam64(n.sig, 1);
    return (rounded){.value = vmr_round_off(sig, fraction_bits, n.sign, rm),
                     .inexact = vmr_loses_bits(sig, fraction_bits)};
}

int64_t vmr_soft_f64_to_signed(uint64_t a, uint32_t bits, uint32_t rm, uint32_t *flags)
{
    const vmr_number n = vmr_unpack(VMR_BINARY64, a);
    const rounded r = round_to_integer(n, rm);
    const uint64_t lowest = UINT64_C(1) << (bits - 1);
    const bool negative = n.sign && !vmr_is_nan(n.kind);
    if (r.above || r.value > lowest - !negative) {
        *flags |= VMR_FP_NV;
        return negative ? (int64_t)-lowest : (int64_t)(lowest - 1);
    }
    if (r.inexact)
        *flags |= VMR_FP_NX;
    return (int64_t)(negative ? -r.value : r.value);
}

uint64_t vmr_soft_f64_to_unsigned(uint64_t a, uint32_t bits, uint32_t rm, uint32_t *flags)
{
    const vmr_number n = vmr_unpack(VMR_BINARY64, a);
    const rounded r = round_to_integer(n, rm);
    const bool negative = n.sign && !vmr_is_nan(n.kind);
    const uint64_t highest = negative ? 0 : UINT64_MAX >> (64 - bits);
    if (r.above || r.value > highest) {
        *flags |= VMR_FP_NV;
        return highest;
    }
    if (r.inexact)
        *flags |= VMR_FP_NX;
    return r.value;
}

VMR_FP_INLINE uint64_t from_integer(vmr_format f, bool sign, uint64_t magnitude, uint32_t rm, uint32_t *flags)
{
    if (magnitude == 0)
        return 0;
    const int32_t lead = __builtin_clzll(magnitude);
    const vmr_number n = {.sig = magnitude << lead, .exp = 63 - lead, .sign = sign};
    return vmr_round_pack(f, n, rm, flags);
}

VMR_FP_INLINE uint64_t magnitude_of(int64_t a)
{
    return a < 0 ? -(uint64_t)a : (uint64_t)a;
}

uint32_t vmr_soft_i64_to_f32(int64_t a, uint32_t rm, uint32_t *flags)
{
    return (uint32_t)from_integer(VMR_BINARY32, a < 0, magnitude_of(a), rm, flags);
}

uint32_t vmr_soft_u64_to_f32(uint64_t a, uint32_t rm, uint32_t *flags)
{
    return (uint32_t)from_integer(VMR_BINARY32, false, a, rm, flags);
}

uint64_t vmr_soft_i64_to_f64(int64_t a, uint32_t rm, uint32_t *flags)
{
    return from_integer(VMR_BINARY64, a < 0, magnitude_of(a), rm, flags);
}

uint64_t vmr_soft_u64_to_f64(uint64_t a, uint32_t rm, uint32_t *flags)
{
    return from_integer(VMR_BINARY64, false, a, rm, flags);
}
