/* Declarations of all handlers that decoding can choose. */
#ifndef VMR_RV64_DECODE_H
#define VMR_RV64_DECODE_H
#include "exec.h"
#include "isa_ops.h"

#define DECLARE_C(name, ...) \
  VMR_HANDLER(name##_2); \
  VMR_HANDLER(name##_4);
#define DECLARE_W(name, ...) VMR_HANDLER(name##_4);
#define DECLARE_J(name, ...) DECLARE_C(name) DECLARE_C(name##_far)
VMR_ISA_OPS(DECLARE_C, DECLARE_W, DECLARE_J)

/* Each line's number in isa_ops.h. */
#define NUMBER(name, ...) VMR_ID_##name,
enum { VMR_ISA_OPS(NUMBER, NUMBER, NUMBER) VMR_ID_COUNT };

/* Special forms (special.c). */
DECLARE_C(mv)
DECLARE_C(li)
DECLARE_C(sext_w)
DECLARE_J(beqz)
DECLARE_J(bnez)
DECLARE_J(j)
DECLARE_C(jr)
#endif
