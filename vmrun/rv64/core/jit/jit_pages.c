/* Which slots are heads, which have code, and which jumps wait for it. */
#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "jit.h"

#define FIRST_LINKS 16u

static bool is_code(const struct vmr_jit *jit, vmr_op_fn *fn) {
  return (uintptr_t)fn - (uintptr_t)jit->memory.run < jit->memory.size;
}

vmr_place vmr_jit_code_of(const struct vmr_jit *jit, const vmr_op *op) {
  if (!is_code(jit, op->fn)) return 0;
  return (vmr_place)((uintptr_t)op->fn - (uintptr_t)jit->memory.run) + vmr_host_entry_bytes;
}

static bool is_head(const struct vmr_jit *jit, const vmr_op *op) {
  return op->fn == vmr_op_profile || is_code(jit, op->fn);
}

vmr_op_fn *vmr_jit_plain(const struct vmr_jit *jit, const vmr_code_page *page, uint32_t slot) {
  if (!is_head(jit, &page->ops[slot])) return page->ops[slot].fn;
  return (vmr_op_fn *)((intptr_t)vmr_op_decode + page->jit->plain[slot]);
}

static bool has_page(vmr_code_page *page) {
  if (!page->jit) page->jit = calloc(1, sizeof *page->jit);
  return page->jit;
}

void vmr_jit_head(vmr_hart *h, vmr_code_page *page, uint32_t slot) {
  vmr_op *op = &page->ops[slot];
  if (is_head(h->jit, op)) return;
  if (op->fn == vmr_op_decode) vmr_code_decode_slot(h, page, slot);
  if (op->fn == vmr_op_straddle || op->fn == vmr_op_illegal || !has_page(page)) return;
  page->jit->plain[slot] = (int32_t)((intptr_t)op->fn - (intptr_t)vmr_op_decode);
  page->jit->heat[slot] = 0;
  op->fn = vmr_op_profile;
}

/* Not having the memory to remember a jump costs speed only. */
void vmr_jit_link_to(struct vmr_jit *jit, vmr_code_page *page, uint32_t slot, vmr_place jump) {
  vmr_place code = vmr_jit_code_of(jit, &page->ops[slot]);
  if (code) {
    vmr_host_bind(&jit->out, jump, code);
    return;
  }
  struct vmr_jit_page *own = page->jit;
  if (own->link_count == own->link_room) {
    uint32_t room = own->link_room ? 2 * own->link_room : FIRST_LINKS;
    vmr_jit_link *links = realloc(own->links, room * sizeof *links);
    if (!links) return;
    own->links = links;
    own->link_room = room;
  }
  own->links[own->link_count++] = (vmr_jit_link){.jump = jump, .slot = (uint16_t)slot};
}

void vmr_jit_install(struct vmr_jit *jit, vmr_code_page *page, uint32_t slot, vmr_place entry) {
  struct vmr_jit_page *own = page->jit;
  page->ops[slot].fn = (vmr_op_fn *)(uintptr_t)(jit->memory.run + entry);
  own->live = true;
  for (uint32_t i = 0; i < own->link_count;)
    if (own->links[i].slot == slot) {
      vmr_host_bind(&jit->out, own->links[i].jump, entry + vmr_host_entry_bytes);
      own->links[i] = own->links[--own->link_count];
    } else
      i++;
}

/* ---- dropping ----------------------------------------------------------------------------------------------------- */

void vmr_jit_give_up(vmr_hart *h, vmr_code_page *page) {
  if (!page->jit) return;
  page->jit->link_count = 0;
  if (!page->jit->live) return;
  page->jit->live = false;
  VMR_COUNT(h, jit_drops);
  vmr_fetch_epoch(h); /* vmr_hart.jumps may lead to its code */
}

void vmr_jit_forget(vmr_hart *h, vmr_code_page *page) {
  if (!page->jit) return;
  for (uint32_t i = 0; i < VMR_PAGE_SLOTS; i++)
    if (is_head(h->jit, &page->ops[i])) page->ops[i].fn = vmr_op_decode;
  vmr_jit_give_up(h, page);
}

void vmr_jit_flush(vmr_hart *h) {
  struct vmr_jit *jit = h->jit;
  for (uint32_t p = 0; p < h->page_count; p++) {
    vmr_code_page *page = h->pages[p];
    if (!page->jit) continue;
    page->jit->link_count = 0;
    if (!page->jit->live) continue;
    for (uint32_t i = 0; i < VMR_PAGE_SLOTS; i++)
      if (is_code(jit, page->ops[i].fn)) page->ops[i].fn = vmr_op_profile;
    page->jit->live = false;
    VMR_COUNT(h, jit_drops);
  }
  jit->out.at = jit->out.base + jit->start;
  jit->out.full = false;
  vmr_fetch_epoch(h);
}

void vmr_jit_page_free(vmr_code_page *page) {
  if (!page->jit) return;
  free(page->jit->links);
  free(page->jit);
}
