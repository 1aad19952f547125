/* The cache of decoded pages of one hart, keyed by guest-physical address.
 *
 * Stores do not touch it: RISC-V makes code visible with FENCE.I. That raises the hart's generation; a page of an older
 * generation is compared with the bytes it was decoded from when it is entered next, and what differs is decoded anew.
 */
#include <stdlib.h>
#include <string.h>

#include "exec.h"

#define CHUNK 64u      /* bytes compared, and renewed, at a time */
#define LOOK_AHEAD 8u  /* halfwords that the decoding of a slot may have looked at beyond its own */

static uint32_t hash_of(uint64_t gpa) { return (uint32_t)(gpa >> 12) & (VMR_CODE_HASH - 1); }

/* Other harts may write to the page meanwhile: whole words, no tearing within one. */
static bool load_chunk(uint64_t *out, const uint8_t *from, const uint8_t *known) {
  const uint64_t *words = (const uint64_t *)from;
  uint64_t differs = 0;
  for (uint32_t i = 0; i < CHUNK / 8; i++) {
    uint64_t old;
    memcpy(&old, known + 8 * i, 8);
    out[i] = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    differs |= old ^ out[i];
  }
  return differs;
}

/* Slots to be decoded anew. Their fields stay: a pair that begins before them may still need those of its second half,
 * whose bytes have not changed then. */
static void forget(vmr_code_page *page, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++) page->ops[i].fn = vmr_op_decode;
}

static void refresh(vmr_hart *h, vmr_code_page *page) {
  uint64_t words[CHUNK / 8];
  bool changed = false;
  for (uint32_t at = 0; at < VMR_PAGE_SIZE; at += CHUNK)
    if (load_chunk(words, page->hva + at, page->copy + at)) {
      memcpy(page->copy + at, words, CHUNK);
      uint32_t slot = at / 2;
      forget(page, slot > LOOK_AHEAD ? slot - LOOK_AHEAD : 0, slot + CHUNK / 2);
      page->straddle_key = ~0ull;
      changed = true;
    }
  if (changed) vmr_jit_forget(h, page);
  page->generation = h->code_generation;
}

static void fill(vmr_hart *h, vmr_code_page *page, uint64_t gpa, const uint8_t *hva) {
  VMR_COUNT(h, pages_decoded);
  page->gpa = gpa;
  page->hva = hva;
  page->generation = h->code_generation;
  page->straddle_key = ~0ull;
  for (uint32_t at = 0; at < VMR_PAGE_SIZE; at += 8) {
    uint64_t word = __atomic_load_n((const uint64_t *)(hva + at), __ATOMIC_RELAXED);
    memcpy(page->copy + at, &word, 8);
  }
  for (uint32_t i = 0; i < VMR_PAGE_SLOTS; i++) page->ops[i] = (vmr_op){.fn = vmr_op_decode};
  page->ops[VMR_PAGE_SLOTS] = (vmr_op){.fn = vmr_op_page_end};
  page->next = h->hash[hash_of(gpa)];
  h->hash[hash_of(gpa)] = page;
}

/* No instruction TLB entry leads to the page any more. */
static void detach(vmr_hart *h, const vmr_code_page *page) {
  uint64_t base = (uintptr_t)page->ops >> 3;
  for (uint32_t i = 0; i < VMR_ITLB_SIZE; i++)
    if ((h->itlb[i].tag & ~VMR_PAGE_MASK) - h->itlb[i].bias == base) h->itlb[i].tag = ~0ull;
}

/* Take a page out of use, one not entered for a while (clock). */
static vmr_code_page *evict(vmr_hart *h) {
  for (;;) {
    vmr_code_page *page = h->pages[h->clock_hand++ % h->page_count];
    detach(h, page); /* so that a page in use is marked again ... */
    vmr_fetch_epoch(h); /* ... by translated code as well */
    if (page->referenced) {
      page->referenced = false;
      continue;
    }
    vmr_code_page **link = &h->hash[hash_of(page->gpa)];
    while (*link != page) link = &(*link)->next;
    *link = page->next;
    vmr_jit_give_up(h, page);
    return page;
  }
}

vmr_code_page *vmr_code_page_at(vmr_hart *h, uint64_t gpa, const uint8_t *hva) {
  for (vmr_code_page *page = h->hash[hash_of(gpa)]; page; page = page->next)
    if (page->gpa == gpa) {
      page->hva = hva; /* other memory may lie there since */
      if (page->generation != h->code_generation) refresh(h, page);
      page->referenced = true;
      return page;
    }
  vmr_code_page *page = h->page_count < h->page_limit ? malloc(sizeof *page) : NULL;
  if (page) {
    page->jit = NULL;
    h->pages[h->page_count++] = page;
  }
  else if (h->page_count)
    page = evict(h);
  else
    return NULL;
  fill(h, page, gpa, hva);
  page->referenced = true;
  return page;
}

vmr_code_page *vmr_code_page_of(const vmr_hart *h, const vmr_op *ip) {
  uint64_t pc = h->pc_bias + ((uintptr_t)ip >> 3);
  return (vmr_code_page *)(((pc & ~VMR_PAGE_MASK) - h->pc_bias) << 3);
}

/* Decode what is at slot into op. false: it reaches into the next page, or the page ends here. */
static bool decode_at(vmr_hart *h, const vmr_code_page *page, uint32_t slot, vmr_op *op) {
  uint16_t low, high;
  if (slot >= VMR_PAGE_SLOTS) return false;
  memcpy(&low, page->copy + 2 * slot, 2);
  if ((low & 3) != 3) {
    vmr_decode(h, low, (int)slot, op);
    return true;
  }
  if (slot == VMR_PAGE_SLOTS - 1) return false;
  memcpy(&high, page->copy + 2 * slot + 2, 2);
  vmr_decode(h, low | (uint32_t)high << 16, (int)slot, op);
  return true;
}

void vmr_code_decode_slot(vmr_hart *h, vmr_code_page *page, uint32_t slot) {
  vmr_op *op = &page->ops[slot], next;
  if (!decode_at(h, page, slot, op)) {
    *op = (vmr_op){.fn = vmr_op_straddle};
    return;
  }
  if (h->jit) return; /* pairs pay where code stays interpreted */
  uint32_t after = slot + (op->aux >> 4);
  if (!decode_at(h, page, after, &next)) return;
  vmr_op_fn *both = vmr_pair_of(op->fn, next.fn);
  if (!both) return;
  op->fn = both;
  if (page->ops[after].fn == vmr_op_decode) page->ops[after] = next; /* the pair reads its fields */
}

void vmr_code_decode(vmr_hart *h, const vmr_op *ip) {
  vmr_code_page *page = vmr_code_page_of(h, ip);
  uint32_t slot = (uint32_t)(ip - page->ops);
  vmr_code_decode_slot(h, page, slot);
  if (h->jit) vmr_jit_decoded(h, page, slot);
}

/* One instruction on its own: what follows it is looked up by pc. */
static void isolate(vmr_hart *h, uint32_t raw, vmr_op slots[3]) {
  vmr_decode(h, raw, -1, &slots[0]);
  slots[1] = slots[2] = (vmr_op){.fn = vmr_op_page_end};
}

bool vmr_code_straddle(vmr_hart *h, vmr_code_page *page, uint64_t pc) {
  uint64_t key = pc | h->priv;
  if (page->straddle_key == key && page->straddle_epoch == h->itlb_epoch) return true;
  uint32_t raw;
  if (!vmr_mmu_instruction(h, pc, &raw)) return false;
  isolate(h, raw, page->straddle);
  page->straddle_key = key;
  page->straddle_epoch = h->itlb_epoch;
  return true;
}

bool vmr_code_step(vmr_hart *h) {
  uint32_t raw;
  if (!vmr_mmu_instruction(h, h->pc, &raw)) return false;
  isolate(h, raw, h->step);
  return true;
}

void vmr_code_free(vmr_hart *h) {
  for (uint32_t i = 0; i < h->page_count; i++) {
    vmr_jit_page_free(h->pages[i]);
    free(h->pages[i]);
  }
  free(h->pages);
}
