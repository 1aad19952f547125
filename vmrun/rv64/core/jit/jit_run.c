/* The translator's life: made for a hart, called by it where control arrives, freed. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "exec.h"
#include "jit.h"

#define PAGE_ROUND(bytes) (((bytes) + VMR_PAGE_MASK) & ~VMR_PAGE_MASK)
#define SETTLE_BYTES (1u << 20)
#define MOST_CODE (512u << 20) /* jumps reach 2 GiB */

/* ---- what the interpreter calls ----------------------------------------------------------------------------------- */

static bool translate(vmr_hart *h, vmr_code_page *page, uint32_t slot) {
  uint64_t from = vmr_host_ns();
  vmr_place began = vmr_here(&h->jit->out);
  bool made = vmr_jit_translate(h, page, slot);
  vmr_place ended = vmr_here(&h->jit->out);
  __atomic_store_n(&h->stats.jit_ns, h->stats.jit_ns + (vmr_host_ns() - from), __ATOMIC_RELAXED);
  if (!made) return false;
  VMR_COUNT(h, jit_blocks);
  if (ended < began) began = h->jit->start; /* the memory was begun anew */
  __atomic_store_n(&h->stats.jit_bytes, h->stats.jit_bytes + (ended - began), __ATOMIC_RELAXED);
  h->jit->unsettled += ended - began;
  if (h->jit->unsettled > SETTLE_BYTES) {
    vmr_code_memory_settle(&h->jit->memory);
    h->jit->unsettled = 0;
  }
  return true;
}

/* What to do at the head ip for this time, or NULL: what its slot has now. */
static __attribute__((noinline)) vmr_op_fn *profile(vmr_hart *h, const vmr_op *ip) {
  vmr_code_page *page = vmr_code_page_of(h, ip);
  uint32_t slot = (uint32_t)(ip - page->ops);
  uint8_t *heat = &page->jit->heat[slot];
  if (*heat + 1u < h->jit->threshold) {
    ++*heat;
    return vmr_jit_plain(h->jit, page, slot);
  }
  if (!translate(h, page, slot)) page->ops[slot].fn = vmr_jit_plain(h->jit, page, slot);
  return NULL;
}

VMR_HANDLER(profile) {
  vmr_op_fn *fn = profile(h, ip);
  if (!fn) DISPATCH(ip, n); /* translated code saves no registers: a handler of C does not call it, it goes on in it */
  VMR_TAIL fn(h, ip, n);
}

static __attribute__((noinline)) void remember(vmr_hart *h) {
  const vmr_itlb_entry *e = &h->itlb[(h->pc >> 12) & (VMR_ITLB_SIZE - 1)];
  if (e->tag != ((h->pc & ~VMR_PAGE_MASK) | h->priv)) return;
  vmr_place code = vmr_jit_code_of(h->jit, (const vmr_op *)((h->pc - e->bias) << 3));
  if (!code) return;
  h->jumps[(h->pc >> 1) & (VMR_JUMPS - 1)] = (vmr_jump){
      .pc = h->pc, .key = h->jump_key, .code = (uintptr_t)(h->jit->memory.run + code), .bias = e->bias};
}

VMR_HANDLER(far) {
  if (n > 0) remember(h);
  GO(fetch, n);
}

/* What follows a slot that was decoded is decoded with it, so that what is decoded later is mostly what jumps lead to. */
void vmr_jit_decoded(vmr_hart *h, vmr_code_page *page, uint32_t slot) {
  for (uint32_t at = slot;;) {
    vmr_jit_insn insn;
    if (!vmr_jit_read(h, page, at, &insn)) break;
    int target = insn.shape == SHAPE_BRANCH || insn.shape == SHAPE_JAL ? vmr_jit_target(&insn) : -1;
    if (target >= 0) vmr_jit_head(h, page, (uint32_t)target);
    if (insn.shape == SHAPE_NONE || insn.shape == SHAPE_JAL || insn.shape == SHAPE_JALR) break;
    at += insn.insn.length;
    if (at >= VMR_PAGE_SLOTS || page->ops[at].fn != vmr_op_decode) break;
    vmr_code_decode_slot(h, page, at);
  }
  vmr_jit_head(h, page, slot);
}

void vmr_jit_run(vmr_hart *h, vmr_op_fn *fn, const vmr_op *ip, int64_t n) {
  if (!h->jit) {
    fn(h, ip, n);
    return;
  }
  vmr_jit_call *call = (vmr_jit_call *)(uintptr_t)(h->jit->memory.run + h->jit->thunks[VMR_THUNK_CALL]);
  call(h, ip, n, fn);
}

/* ---- made and freed ----------------------------------------------------------------------------------------------- */

void vmr_jit_free(vmr_hart *h) {
  if (!h->jit) return;
  vmr_code_memory_free(&h->jit->memory);
  free(h->jit);
  h->jit = NULL;
}

static int make(vmr_hart *h, uint32_t threshold, size_t bytes) {
  struct vmr_jit *jit = calloc(1, sizeof *jit);
  if (!jit) return -ENOMEM;
  int rc = vmr_code_memory_new(&jit->memory, bytes);
  if (rc) {
    free(jit);
    return rc;
  }
  jit->out = (vmr_emit){.base = jit->memory.write, .at = jit->memory.write, .end = jit->memory.write + bytes};
  jit->threshold = threshold;
  vmr_host_thunks(&jit->out, jit->thunks,
                  &(vmr_jit_targets){vmr_op_slice_end, vmr_op_trap, vmr_op_leave, vmr_op_far, vmr_jit_fp, vmr_access_slow});
  jit->start = vmr_here(&jit->out);
  h->jit = jit;
  return 0;
}

int vmr_rv64_jit(vmr_vcpu *vcpu, uint32_t threshold, uint64_t code_bytes) {
  vmr_hart *h = vmr_hart_of(vcpu);
  if (threshold > UINT8_MAX) return vmr_fail(vcpu->machine, EINVAL, "a threshold of %u is outside 0 to 255", threshold);
  if (threshold && (code_bytes < VMR_RV64_JIT_LEAST || code_bytes > MOST_CODE))
    return vmr_fail(vcpu->machine, EINVAL, "code memory of %llu bytes is outside %u bytes to %u bytes",
                    (unsigned long long)code_bytes, VMR_RV64_JIT_LEAST, MOST_CODE);
  if (h->page_count || h->jit) return vmr_fail(vcpu->machine, EBUSY, "hart %u has run already", vcpu->index);
  if (!threshold) return 0;
  int rc = make(h, threshold, PAGE_ROUND(code_bytes));
  return rc ? vmr_fail(vcpu->machine, -rc, "no memory for translated code") : 0;
}

int vmr_rv64_jit_probe(void) {
  vmr_code_memory memory;
  int rc = vmr_code_memory_new(&memory, VMR_PAGE_SIZE);
  if (!rc) vmr_code_memory_free(&memory);
  return rc;
}
