/* The translator: a hart's hot code as host code, made from its decoded pages.
 *
 * The slots of a page stay the profile, the fallback and the exact slow path. A slot that control reaches by a jump is a
 * head: its handler counts, and when it has run `threshold` times the code from there on is translated and becomes the
 * slot's handler. Code goes on in the code of the same page by jumps that are bound once the target is translated, and in
 * other pages by vmr_hart.jumps, so that dropping a page's code is a matter of that page alone. What is not translated is
 * done by the slot's handler, which finds all registers in the hart, as always.
 *
 * n counts as it does in the handlers, and is looked at in the same places: where a jump is taken. Between those the
 * count is behind by what the place in the code says, and put right on every way out.
 */
#ifndef VMR_JIT_H
#define VMR_JIT_H
#include "jit_host.h"
#include "jit_memory.h"

#define VMR_JIT_INSNS 96 /* instructions translated at a time, at most */
#define VMR_JIT_STUBS (16 * VMR_JIT_INSNS)

/* A jump to a slot of its page that is not translated yet. */
typedef struct vmr_jit_link {
  vmr_place jump;
  uint16_t slot;
} vmr_jit_link;

/* What the translator knows of a decoded page. */
struct vmr_jit_page {
  int32_t plain[VMR_PAGE_SLOTS]; /* of heads: their handler, as a distance from vmr_op_decode */
  uint8_t heat[VMR_PAGE_SLOTS];
  vmr_jit_link *links;
  uint32_t link_count, link_room;
  bool live; /* slots have translated code */
};

typedef struct vmr_jit_insn {
  vmr_insn insn;
  uint8_t shape, operation; /* jit_ops.h */
  uint16_t slot;
  bool target; /* of a jump of the same code */
  vmr_place at;
} vmr_jit_insn;

/* Code beside the straight line, emitted after it. */
typedef struct vmr_jit_stub {
  enum { STUB_TAKEN, STUB_LEAVE_TAKEN, STUB_LEAVE_NEXT, STUB_LOAD, STUB_STORE, STUB_FP, STUB_HANDLER, STUB_SAME } kind;
  uint16_t slot;
  uint32_t done; /* instructions not counted; of STUB_FP: the operation; STUB_SAME: a jump to the stub before it */
  vmr_place jump, resume;
} vmr_jit_stub;

struct vmr_jit {
  vmr_code_memory memory;
  vmr_emit out;
  vmr_place thunks[VMR_THUNKS];
  vmr_place start; /* of what is not thunks */
  uint32_t threshold;
  uint32_t unsettled; /* bytes written since vmr_code_memory_settle */

  /* The translation being made. */
  vmr_jit_insn insns[VMR_JIT_INSNS];
  uint32_t count;
  uint8_t index[VMR_PAGE_SLOTS]; /* of a slot's instruction in insns, if it is there */
  vmr_jit_stub stubs[VMR_JIT_STUBS];
  uint32_t stub_count;
};

/* ---- jit_pages.c: heads and the code of pages --------------------------------------------------------------------- */

/* The distance of a translated slot's code, past its entry; 0 if the slot has none. */
vmr_place vmr_jit_code_of(const struct vmr_jit *jit, const vmr_op *op);
/* Make the slot, decoded if need be, a head. */
void vmr_jit_head(vmr_hart *h, vmr_code_page *page, uint32_t slot);
/* The slot's handler when it has no translation; the slot is decoded. */
vmr_op_fn *vmr_jit_plain(const struct vmr_jit *jit, const vmr_code_page *page, uint32_t slot);
/* The code of the slot begins at entry; jumps that waited for it are bound. */
void vmr_jit_install(struct vmr_jit *jit, vmr_code_page *page, uint32_t slot, vmr_place entry);
/* The jump leads to the slot once that is translated. */
void vmr_jit_link_to(struct vmr_jit *jit, vmr_code_page *page, uint32_t slot, vmr_place jump);
/* Drop all code there is; heads stay as hot as they are. */
void vmr_jit_flush(vmr_hart *h);

/* Do the operation (SHAPE_FP of jit_ops.h) of the slot, whose rounding mode is a valid one, with FS on. */
void vmr_jit_fp(vmr_hart *h, const vmr_op *ip, unsigned operation);
/* Whether its encoding has a rounding mode. */
bool vmr_jit_fp_rounds(unsigned operation);

/* ---- jit_block.c, jit_translate.c --------------------------------------------------------------------------------- */

/* Collect into jit->insns what is to be translated from the slot on. Returns why it ends. */
typedef enum vmr_jit_end { END_JUMP, END_NEXT, END_HANDLER, END_PAGE } vmr_jit_end;
vmr_jit_end vmr_jit_collect(vmr_hart *h, vmr_code_page *page, uint32_t slot, uint32_t *next);
/* The collected instruction of the slot, or NULL. */
vmr_jit_insn *vmr_jit_collected(struct vmr_jit *jit, int slot);
/* The slot that a branch or jump leads to, or -1: another page. */
int vmr_jit_target(const vmr_jit_insn *at);
/* The instruction in the slot, with its shape. false: there is none, or it reaches into the next page. */
bool vmr_jit_read(vmr_hart *h, const vmr_code_page *page, uint32_t slot, vmr_jit_insn *at);
/* Translate from the slot on and install it. false: its instruction is left to its handler. */
bool vmr_jit_translate(vmr_hart *h, vmr_code_page *page, uint32_t slot);
#endif
