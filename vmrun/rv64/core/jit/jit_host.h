/* What the translator asks of a host's emitter; jit/ARCH has one, and nothing outside it knows the host's instructions.
 *
 * Guest registers go by their numbers. Some have a home in a host register while translated code runs, the others are
 * operands in vmr_hart.x; which is which is the emitter's business alone. The same homes hold in all code, so that code
 * continues in other code without moving anything. The count of instructions left (n of exec.h) has a home too.
 */
#ifndef VMR_JIT_HOST_H
#define VMR_JIT_HOST_H
#include "hart.h"
#include "jit_ops.h"

/* Code memory being filled. */
typedef struct vmr_emit {
  uint8_t *base; /* where it is written */
  uint8_t *at, *end;
  bool full; /* something did not fit, and what was written last is not whole */
} vmr_emit;

/* A distance from vmr_emit.base: a place in the code, or a jump in it whose target is still open. */
typedef uint32_t vmr_place;

static inline vmr_place vmr_here(const vmr_emit *e) { return (vmr_place)(e->at - e->base); }

/* Common code at the start of the memory. */
typedef enum vmr_thunk {
  VMR_THUNK_CALL,   /* C calls it as vmr_jit_call */
  VMR_THUNK_ENTER,  /* a slot's handler begins with a call of it: fills the homes */
  VMR_THUNK_TAKEN,  /* spill, then the slot's handler, or slice_end when n has come to its end */
  VMR_THUNK_NEXT,   /* spill, then the slot's handler */
  VMR_THUNK_HANDLER, /* spill, then a handler by its address */
  VMR_THUNK_LOAD,   /* the slot's load or store by the slow path, then back */
  VMR_THUNK_STORE,
  VMR_THUNK_FP,     /* the slot's arithmetic by vmr_jit_fp, then back */
  VMR_THUNK_FAR,    /* spill, then look up the pc */
  VMR_THUNKS
} vmr_thunk;

/* fn(h, ip, n) with the registers that translated code uses saved. */
typedef void vmr_jit_call(vmr_hart *h, const vmr_op *ip, int64_t n, vmr_op_fn *fn);

/* C code that thunks lead to. */
typedef struct vmr_jit_targets {
  vmr_op_fn *slice_end, *trap, *leave, *far;
  void (*fp)(vmr_hart *h, const vmr_op *ip, unsigned operation);
  uint32_t (*access)(vmr_hart *h, const vmr_op *ip, bool load); /* vmr_access_slow */
} vmr_jit_targets;

/* Code that one instruction may take, its slow path included, at most. */
#define VMR_HOST_INSN_BYTES 384u
/* Between the handler of a slot (which starts with the call of VMR_THUNK_ENTER) and its code for those whose homes are
 * filled. */
extern const uint32_t vmr_host_entry_bytes;

void vmr_host_thunks(vmr_emit *e, vmr_place thunks[VMR_THUNKS], const vmr_jit_targets *targets);
/* Whether this processor can do it. */
bool vmr_host_has(vmr_alu alu);

/* ---- instructions: rd is not 0 ------------------------------------------------------------------------------------ */

void vmr_host_const(vmr_emit *e, unsigned rd, uint64_t value);
void vmr_host_pc(vmr_emit *e, unsigned rd, uint64_t offset); /* rd = vmr_hart.pc_bias + offset */
void vmr_host_alu(vmr_emit *e, vmr_alu alu, unsigned rd, unsigned rs1, unsigned rs2);
void vmr_host_alu_imm(vmr_emit *e, vmr_alu alu, unsigned rd, unsigned rs1, int32_t imm);
void vmr_host_unary(vmr_emit *e, vmr_alu alu, unsigned rd, unsigned rs1);
void vmr_host_fence(vmr_emit *e); /* stores before it are seen before loads after it are done */

/* A load or store of this kind (isa_ops.h) by the data TLB. Returned: the jump to the slow path; *resume is where to go on
 * after that. rd may be 0. */
vmr_place vmr_host_load(vmr_emit *e, unsigned kind, unsigned rd, unsigned rs1, int32_t imm, vmr_place *resume);
vmr_place vmr_host_store(vmr_emit *e, unsigned kind, unsigned rs2, unsigned rs1, int32_t imm, vmr_place *resume);
/* The slow path: the slot ip, then to resume. with: for LOAD and STORE how many instructions before it are not counted
 * yet, for FP the operation. */
void vmr_host_slow(vmr_emit *e, vmr_place thunk, const vmr_op *ip, uint32_t with, vmr_place resume);

/* Jumps of one instruction to its slow path. */
typedef struct vmr_slow {
  uint32_t count;
  vmr_place jumps[12];
} vmr_slow;

/* Arithmetic that rounds to nearest even, or as its encoding says, while NX is raised. false: all of it is slow. */
bool vmr_host_fp(vmr_emit *e, unsigned operation, const vmr_insn *insn, vmr_slow *slow);
void vmr_host_fp_move(vmr_emit *e, vmr_fp_move move, const vmr_insn *insn, vmr_slow *slow);
/* Jumps where FS is off; where frm is not to nearest even or NX is not raised. */
void vmr_host_fp_on(vmr_emit *e, vmr_slow *off);
void vmr_host_fp_nearest(vmr_emit *e, vmr_slow *other);
/* FS is dirty from here on. */
void vmr_host_fp_dirty(vmr_emit *e);

/* ---- flow --------------------------------------------------------------------------------------------------------- */

/* A slot's handler begins. */
void vmr_host_entry(vmr_emit *e, vmr_place enter);
/* n -= done. */
void vmr_host_retire(vmr_emit *e, uint32_t done);
/* n -= done, and a jump if n > 0 still. */
vmr_place vmr_host_retire_jump(vmr_emit *e, uint32_t done);
vmr_place vmr_host_jump(vmr_emit *e);
/* A jump if (rs1 when rs2). */
vmr_place vmr_host_branch(vmr_emit *e, vmr_condition when, unsigned rs1, unsigned rs2);
/* Let the jump lead to target. */
void vmr_host_bind(vmr_emit *e, vmr_place jump, vmr_place target);
/* To the thunk (TAKEN, NEXT) with the slot ip. */
void vmr_host_leave(vmr_emit *e, vmr_place thunk, const vmr_op *ip);
/* To fn for the slot ip, by the thunk HANDLER. */
void vmr_host_leave_to(vmr_emit *e, vmr_place thunk, const vmr_op *ip, vmr_op_fn *fn);
/* Go on at pc_bias + offset, done instructions later: by h->jumps, else by the thunk FAR. */
void vmr_host_far(vmr_emit *e, vmr_place thunk, uint64_t offset, uint32_t done);
/* The same at (rs1 + imm) & ~1. link: the register that gets pc_bias + after, or 0. misaligned: bits that the target must
 * not have; *refused is then the jump of one that has them, nothing done yet. */
void vmr_host_far_register(vmr_emit *e, vmr_place thunk, unsigned rs1, int32_t imm, unsigned link, uint64_t after,
                           uint32_t done, uint64_t misaligned, vmr_place *refused);
#endif
