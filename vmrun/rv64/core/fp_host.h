/* The host's FPU as bit patterns in and out, for the fast paths of fp.c.
 *
 * The build needs nothing special beyond SSE2 or a 64-bit ARM or RISC-V: one operation stands in each function, so
 * there is nothing to contract; -ffp-contract=off makes that certain. Where the compiler evaluates in extended
 * precision (x87) or was given -ffast-math, VMR_FP_HOST turns itself off and fp.c is integer arithmetic throughout, as
 * with -DVMR_FP_HOST=0. The rounding mode of the host is the default, to nearest; flushing subnormals to zero, which
 * some shared libraries switch on for their whole process, does no harm. */
#ifndef VMR_FP_HOST_H
#define VMR_FP_HOST_H

#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#ifndef VMR_FP_HOST
#if FLT_EVAL_METHOD == 0 && !defined(__FAST_MATH__) && !__FINITE_MATH_ONLY__
#define VMR_FP_HOST 1
#else
#define VMR_FP_HOST 0
#endif
#endif

/* Square root and fused multiply-add without a call into libm: 1 where one instruction does it, 2 where a processor may
 * have it, which is asked at run time. */
#if defined(__SSE2__) || defined(__aarch64__)
#define VMR_HOST_HAS_SQRT VMR_FP_HOST
#else
#define VMR_HOST_HAS_SQRT 0
#endif

#if defined(__FMA__) || defined(__aarch64__) || (defined(__riscv_flen) && __riscv_flen >= 64)
#define VMR_HOST_HAS_FMA VMR_FP_HOST
#elif defined(__x86_64__)
#define VMR_HOST_HAS_FMA (2 * VMR_FP_HOST)
#else
#define VMR_HOST_HAS_FMA 0
#endif

static inline float vmr_host_f32(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double vmr_host_f64(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t vmr_host_bits32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline uint64_t vmr_host_bits64(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#if VMR_HOST_HAS_SQRT
static inline float vmr_host_sqrt32(float a)
{
#ifdef __SSE2__
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a)));
#else
    return vget_lane_f32(vsqrt_f32(vdup_n_f32(a)), 0);
#endif
}

static inline double vmr_host_sqrt64(double a)
{
#ifdef __SSE2__
    const __m128d value = _mm_set_sd(a);
    return _mm_cvtsd_f64(_mm_sqrt_sd(value, value));
#else
    return vget_lane_f64(vsqrt_f64(vdup_n_f64(a)), 0);
#endif
}
#endif

#if VMR_HOST_HAS_FMA == 2
#define VMR_HOST_FMA_TARGET __attribute__((target("fma")))
static inline bool vmr_host_fma_present(void)
{
    return __builtin_cpu_supports("fma");
}
#elif VMR_HOST_HAS_FMA == 1
#define VMR_HOST_FMA_TARGET
static inline bool vmr_host_fma_present(void)
{
    return true;
}
#endif

#if VMR_HOST_HAS_FMA
VMR_HOST_FMA_TARGET static inline float vmr_host_fma32(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}

VMR_HOST_FMA_TARGET static inline double vmr_host_fma64(double a, double b, double c)
{
    return __builtin_fma(a, b, c);
}
#endif

#endif
