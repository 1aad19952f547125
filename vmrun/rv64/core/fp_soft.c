/* Add, multiply, divide, square root and fused multiply-add in integer arithmetic (IEEE 754-2008, clause 5.4.1). */
#include "fp_format.h"
#include "fp_soft.h"

/* Of two operands of which one at least is a NaN. */
VMR_FP_INLINE bool either_signals(vmr_number x, vmr_number y)
{
    return x.kind == VMR_SIGNALLING_NAN || y.kind == VMR_SIGNALLING_NAN;
}

/* The sign of an exact zero that is the sum of two opposite values (IEEE 754, 6.3). */
VMR_FP_INLINE bool cancelled_sign(uint32_t rm)
{
    return rm == VMR_RM_RDN;
}

VMR_FP_INLINE uint64_t add_special(vmr_format f, vmr_number x, vmr_number y, uint64_t a, uint64_t b, uint32_t rm,
                                   uint32_t *flags)
{
    if (vmr_is_nan(x.kind) || vmr_is_nan(y.kind))
        return vmr_propagate_nan(f, either_signals(x, y), flags);
    if (x.kind == VMR_INF)
        return y.kind == VMR_INF && x.sign != y.sign ? vmr_invalid(f, flags) : a;
    if (y.kind == VMR_INF)
        return b;
    if (y.kind == VMR_ZERO && x.kind == VMR_ZERO)
        return x.sign == y.sign ? a : vmr_signed_bits(f, cancelled_sign(rm), 0);
    return x.kind == VMR_ZERO ? b : a;
}

VMR_FP_INLINE uint64_t add(vmr_format f, uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)
{
    vmr_number x = vmr_unpack(f, a);
    vmr_number y = vmr_unpack(f, b);
    if (x.kind != VMR_FINITE || y.kind != VMR_FINITE)
        return add_special(f, x, y, a, b, rm, flags);
    if (x.exp < y.exp || (x.exp == y.exp && x.sig < y.sig)) {
        const vmr_number swap = x;
        x = y;
        y = swap;
    }
    /* One bit of room for the carry; ten guard bits stay below a binary64's last. */
    const uint64_t larger = x.sig >> 1;
    const uint64_t smaller = vmr_shift_jam64(y.sig >> 1, (uint32_t)(x.exp - y.exp));
    const uint64_t sum = x.sign == y.sign ? larger + smaller : larger - smaller;
    if (sum == 0)
        return vmr_signed_bits(f, cancelled_sign(rm), 0);
    const int32_t lead = __builtin_clzll(sum);
    const vmr_number n = {.sig = sum << lead, .exp = x.exp + 1 - lead, .sign = x.sign};
    return vmr_round_pack(f, n, rm, flags);
}

VMR_FP_INLINE uint64_t mul(vmr_format f, uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)
{
    const vmr_number x = vmr_unpack(f, a);
    const vmr_number y = vmr_unpack(f, b);
    const bool sign = x.sign != y.sign;
    if (x.kind != VMR_FINITE || y.kind != VMR_FINITE) {
        if (vmr_is_nan(x.kind) || vmr_is_nan(y.kind))
            return vmr_propagate_nan(f, either_signals(x, y), flags);
        if (x.kind != VMR_INF && y.kind != VMR_INF)
            return vmr_signed_bits(f, sign, 0);
        if (x.kind == VMR_ZERO || y.kind == VMR_ZERO)
            return vmr_invalid(f, flags);
        return vmr_signed_bits(f, sign, vmr_infinity(f));
    }
    const vmr_u128 product = (vmr_u128)x.sig * y.sig;
    const uint32_t short_by = !(product >> 127);
    const vmr_u128 aligned = product << short_by;
    const vmr_number n = {.sig = (uint64_t)(aligned >> 64) | ((uint64_t)aligned != 0),
                          .exp = x.exp + y.exp + 1 - (int32_t)short_by,
                          .sign = sign};
    return vmr_round_pack(f, n, rm, flags);
}

VMR_FP_INLINE uint64_t div_special(vmr_format f, vmr_number x, vmr_number y, uint32_t *flags)
{
    const bool sign = x.sign != y.sign;
    if (vmr_is_nan(x.kind) || vmr_is_nan(y.kind))
        return vmr_propagate_nan(f, either_signals(x, y), flags);
    if (x.kind == y.kind)
        return vmr_invalid(f, flags);
    if (y.kind == VMR_ZERO && x.kind == VMR_FINITE)
        *flags |= VMR_FP_DZ;
    if (x.kind == VMR_INF || y.kind == VMR_ZERO)
        return vmr_signed_bits(f, sign, vmr_infinity(f));
    return vmr_signed_bits(f, sign, 0);
}

VMR_FP_INLINE uint64_t div(vmr_format f, uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)
{
    const vmr_number x = vmr_unpack(f, a);
    const vmr_number y = vmr_unpack(f, b);
    if (x.kind != VMR_FINITE || y.kind != VMR_FINITE)
        return div_special(f, x, y, flags);
    uint64_t quotient;
    bool inexact;
    if (f.frac_bits < 32) {
        /* 24-bit significands: 38 or 39 bits of quotient from one 64-bit division. */
        const uint64_t numerator = x.sig >> 1;
        const uint64_t divisor = y.sig >> 39;
        quotient = numerator / divisor << 25;
        inexact = numerator % divisor != 0;
    } else {
        const vmr_u128 numerator = (vmr_u128)x.sig << 63;
        quotient = (uint64_t)(numerator / y.sig);
        inexact = quotient * y.sig != (uint64_t)numerator;
    }
    const int32_t lead = __builtin_clzll(quotient);
    const vmr_number n = {.sig = quotient << lead | inexact, .exp = x.exp - y.exp - lead, .sign = x.sign != y.sign};
    return vmr_round_pack(f, n, rm, flags);
}

/* A square root rounded down, and what it leaves over: value = root^2 + rest. */
typedef struct {
    uint64_t root;
    vmr_u128 rest;
} root_and_rest;

/* One step of Zimmermann's Karatsuba square root: from that of the upper half to that of 4 * digit bits, of which low
 * holds the lower 2 * digit. The value must have one of its two top bits set. */
VMR_FP_INLINE root_and_rest root_step(root_and_rest upper, uint32_t digit, uint64_t low)
{
    const uint64_t mask = (UINT64_C(1) << digit) - 1;
    const uint64_t middle = low >> digit;
    /* The dividend, rest << digit | middle, may have 65 bits; the divisor, 2 * root, is even. */
    const uint64_t half = (uint64_t)upper.rest << (digit - 1) | middle >> 1;
    const uint64_t quotient = half / upper.root;
    const uint64_t left = half % upper.root << 1 | (middle & 1);
    vmr_u128 root = ((vmr_u128)upper.root << digit) + quotient;
    vmr_i128 rest = ((vmr_i128)left << digit | (low & mask)) - (vmr_i128)((vmr_u128)quotient * quotient);
    if (rest < 0) {
        rest += (vmr_i128)(2 * root - 1);
        root--;
    }
    return (root_and_rest){.root = (uint64_t)root, .rest = (vmr_u128)rest};
}

/* Of 16 bits, bit by bit. */
VMR_FP_INLINE root_and_rest root_of_16(uint32_t value)
{
    uint32_t root = 0;
    for (uint32_t bit = 0x80; bit != 0; bit >>= 1)
        if ((root | bit) * (root | bit) <= value)
            root |= bit;
    return (root_and_rest){.root = root, .rest = value - root * root};
}

static root_and_rest root_of_64(uint64_t value)
{
    const root_and_rest top = root_of_16((uint32_t)(value >> 48));
    const root_and_rest half = root_step(top, 8, value >> 32 & 0xffff);
    return root_step(half, 16, value & 0xffffffff);
}

VMR_FP_INLINE uint64_t square_root(vmr_format f, uint64_t a, uint32_t rm, uint32_t *flags)
{
    const vmr_number x = vmr_unpack(f, a);
    if (vmr_is_nan(x.kind))
        return vmr_propagate_nan(f, x.kind == VMR_SIGNALLING_NAN, flags);
    if (x.kind == VMR_ZERO)
        return a;
    if (x.sign)
        return vmr_invalid(f, flags);
    if (x.kind == VMR_INF)
        return a;
    /* An even exponent to halve: sig is read as 1.x * 2^62 or, with an odd one, as 1.x * 2^63. */
    const uint32_t odd = (uint32_t)x.exp & 1;
    const uint64_t radicand = x.sig >> (1 - odd);
    vmr_number n = {.exp = (x.exp - (int32_t)odd) / 2};
    const root_and_rest half = root_of_64(radicand);
    if (f.frac_bits < 32) {
        n.sig = half.root << 32 | (half.rest != 0);
    } else {
        const root_and_rest whole = root_step(half, 32, 0);
        n.sig = whole.root | (whole.rest != 0);
    }
    return vmr_round_pack(f, n, rm, flags);
}

VMR_FP_INLINE uint64_t fma_special(vmr_format f, vmr_number x, vmr_number y, vmr_number z, uint64_t c, uint32_t rm,
                                   uint32_t *flags)
{
    const bool product_sign = x.sign != y.sign;
    /* Infinity times zero is invalid even where the addend is a quiet NaN (Unprivileged ISA, 11.6). */
    if ((x.kind == VMR_INF && y.kind == VMR_ZERO) || (x.kind == VMR_ZERO && y.kind == VMR_INF))
        return vmr_invalid(f, flags);
    if (vmr_is_nan(x.kind) || vmr_is_nan(y.kind) || vmr_is_nan(z.kind))
        return vmr_propagate_nan(f, either_signals(x, y) || z.kind == VMR_SIGNALLING_NAN, flags);
    if (x.kind == VMR_INF || y.kind == VMR_INF) {
        if (z.kind == VMR_INF && z.sign != product_sign)
            return vmr_invalid(f, flags);
        return vmr_signed_bits(f, product_sign, vmr_infinity(f));
    }
    /* The addend is infinite, or the product is zero. */
    if (z.kind != VMR_ZERO)
        return c;
    return vmr_signed_bits(f, product_sign == z.sign ? z.sign : cancelled_sign(rm), 0);
}

VMR_FP_INLINE uint64_t fused(vmr_format f, uint64_t a, uint64_t b, uint64_t c, uint32_t rm, uint32_t *flags)
{
    const vmr_number x = vmr_unpack(f, a);
    const vmr_number y = vmr_unpack(f, b);
    const vmr_number z = vmr_unpack(f, c);
    if (x.kind != VMR_FINITE || y.kind != VMR_FINITE || z.kind > VMR_FINITE)
        return fma_special(f, x, y, z, c, rm, flags);
    /* Bit 126 leads both terms, which leaves a bit for the carry. No bit of the product is lost: 22 of its low ones are
     * clear. */
    const vmr_u128 product = (vmr_u128)x.sig * y.sig;
    const uint32_t carried = (uint32_t)(product >> 127);
    vmr_u128 larger = product >> carried;
    int32_t exp = x.exp + y.exp + (int32_t)carried;
    bool sign = x.sign != y.sign;
    if (z.kind == VMR_FINITE) {
        vmr_u128 smaller = (vmr_u128)z.sig << 63;
        int32_t ahead = exp - z.exp;
        const bool differ = sign != z.sign;
        if (ahead < 0 || (ahead == 0 && larger < smaller)) {
            const vmr_u128 swap = larger;
            larger = smaller;
            smaller = swap;
            exp = z.exp;
            sign = z.sign;
            ahead = -ahead;
        }
        smaller = vmr_shift_jam128(smaller, (uint32_t)ahead);
        larger = differ ? larger - smaller : larger + smaller;
        if (larger == 0)
            return vmr_signed_bits(f, cancelled_sign(rm), 0);
    }
    const uint64_t high = (uint64_t)(larger >> 64);
    const int32_t lead = high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)larger);
    larger <<= lead;
    const vmr_number n = {.sig = (uint64_t)(larger >> 64) | ((uint64_t)larger != 0),
                          .exp = exp + 1 - lead,
                          .sign = sign};
    return vmr_round_pack(f, n, rm, flags);
}

uint32_t vmr_soft_f32_add(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags)
{
    return (uint32_t)add(VMR_BINARY32, a, b, rm, flags);
}

uint64_t vmr_soft_f64_add(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)
{
    return add(VMR_BINARY64, a, b, rm, flags);
}

/* Subtraction adds the opposite; a NaN's sign is of no account. */
uint32_t vmr_soft_f32_sub(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags)
{
    return vmr_soft_f32_add(a, b ^ UINT32_C(1) << 31, rm, flags);
}

uint64_t vmr_soft_f64_sub(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)
{
    return vmr_soft_f64_add(a, b ^ UINT64_C(1) << 63, rm, flags);
}

uint32_t vmr_soft_f32_mul(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags)
{
    return (uint32_t)mul(VMR_BINARY32, a, b, rm, flags);
}

uint64_t vmr_soft_f64_mul(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)
{
    return mul(VMR_BINARY64, a, b, rm, flags);
}

uint32_t vmr_soft_f32_div(uint32_t a, uint32_t b, uint32_t rm, uint32_t *flags)
{
    return (uint32_t)div(VMR_BINARY32, a, b, rm, flags);
}

uint64_t vmr_soft_f64_div(uint64_t a, uint64_t b, uint32_t rm, uint32_t *flags)
{
    return div(VMR_BINARY64, a, b, rm, flags);
}

uint32_t vmr_soft_f32_sqrt(uint32_t a, uint32_t rm, uint32_t *flags)
{
    return (uint32_t)square_root(VMR_BINARY32, a, rm, flags);
}

uint64_t vmr_soft_f64_sqrt(uint64_t a, uint32_t rm, uint32_t *flags)
{
    return square_root(VMR_BINARY64, a, rm, flags);
}

uint32_t vmr_soft_f32_fma(uint32_t a, uint32_t b, uint32_t c, uint32_t rm, uint32_t *flags)
{
    return (uint32_t)fused(VMR_BINARY32, a, b, c, rm, flags);
}

uint64_t vmr_soft_f64_fma(uint64_t a, uint64_t b, uint64_t c, uint32_t rm, uint32_t *flags)
{
    return fused(VMR_BINARY64, a, b, c, rm, flags);
}
