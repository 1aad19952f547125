/* Rounding modes, flags and the by-number entry points of the F and D arithmetic.
 *
 * Read by the C compiler and by cffi: plain declarations and integer defines only.
 * Source of every number here: RISC-V Unprivileged ISA 20191213, chapters 11 (F, version 2.2) and 12 (D). */
#ifndef VMR_FP_API_H
#define VMR_FP_API_H
#include <stdint.h>

/* Rounding modes, as in an instruction's rm field and in frm (table 11.1); 5 and 6 are reserved, 7 means frm. */
#define VMR_RM_RNE 0
#define VMR_RM_RTZ 1
#define VMR_RM_RDN 2
#define VMR_RM_RUP 3
#define VMR_RM_RMM 4

/* Accrued exceptions, as in fflags (figure 11.2). */
#define VMR_FP_NX 1
#define VMR_FP_UF 2
#define VMR_FP_OF 4
#define VMR_FP_DZ 8
#define VMR_FP_NV 16

/* Operations by number. Suffix S works on binary32, D on binary64; CVT_x_y converts from y to x with the names of the
 * instructions: W, WU, L, LU are int32, uint32, int64, uint64. FMA is a * b + c. */
#define VMR_FP_ADD_S 0
#define VMR_FP_SUB_S 1
#define VMR_FP_MUL_S 2
#define VMR_FP_DIV_S 3
#define VMR_FP_SQRT_S 4
#define VMR_FP_FMA_S 5
#define VMR_FP_MIN_S 6
#define VMR_FP_MAX_S 7
#define VMR_FP_EQ_S 8
#define VMR_FP_LT_S 9
#define VMR_FP_LE_S 10
#define VMR_FP_CLASS_S 11
#define VMR_FP_CVT_W_S 12
#define VMR_FP_CVT_WU_S 13
#define VMR_FP_CVT_L_S 14
#define VMR_FP_CVT_LU_S 15
#define VMR_FP_CVT_S_W 16
#define VMR_FP_CVT_S_WU 17
#define VMR_FP_CVT_S_L 18
#define VMR_FP_CVT_S_LU 19
#define VMR_FP_CVT_S_D 20
#define VMR_FP_ADD_D 32
#define VMR_FP_SUB_D 33
#define VMR_FP_MUL_D 34
#define VMR_FP_DIV_D 35
#define VMR_FP_SQRT_D 36
#define VMR_FP_FMA_D 37
#define VMR_FP_MIN_D 38
#define VMR_FP_MAX_D 39
#define VMR_FP_EQ_D 40
#define VMR_FP_LT_D 41
#define VMR_FP_LE_D 42
#define VMR_FP_CLASS_D 43
#define VMR_FP_CVT_W_D 44
#define VMR_FP_CVT_WU_D 45
#define VMR_FP_CVT_L_D 46
#define VMR_FP_CVT_LU_D 47
#define VMR_FP_CVT_D_W 48
#define VMR_FP_CVT_D_WU 49
#define VMR_FP_CVT_D_L 50
#define VMR_FP_CVT_D_LU 51
#define VMR_FP_CVT_D_S 52

/* Added to an operation: integer arithmetic only, never the host's FPU. */
#define VMR_FP_SOFT 256

/* Do one operation. Binary32 and 32-bit integer operands are the low halves of a, b, c. A binary32 result is
 * zero-extended (not boxed); an integer result is as it stands in rd: 32-bit ones sign-extended, unsigned ones too.
 * Flags are OR-ed into *flags. Returns 0, or -EINVAL for an unknown operation or a rounding mode above RMM. */
int vmr_fp_op(uint32_t op, uint32_t rm, uint64_t a, uint64_t b, uint64_t c, uint64_t *result, uint32_t *flags);

/* The same for n operand triples; flags[i] belongs to the i-th and is OR-ed into. */
int vmr_fp_ops(uint32_t op, uint32_t rm, uint64_t n, const uint64_t *a, const uint64_t *b, const uint64_t *c,
               uint64_t *result, uint32_t *flags);

#endif
