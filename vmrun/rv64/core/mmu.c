/* Address translation: Bare, Sv39, Sv48 (Privileged ISA 1.12, sections 4.3 to 4.5), hardware-updated A and D bits
 * (Svadu), and the TLBs in front of it. TLB entries are 4 KiB each whatever the size of the leaf. */
#include <string.h>

#include "hart.h"

#define PTE_V (1ull << 0)
#define PTE_R (1ull << 1)
#define PTE_W (1ull << 2)
#define PTE_X (1ull << 3)
#define PTE_U (1ull << 4)
#define PTE_A (1ull << 6)
#define PTE_D (1ull << 7)
#define PTE_PPN(pte) ((pte) >> 10 & ((1ull << 44) - 1))
#define PTE_RESERVED (~0ull << 54) /* N, PBMT and the reserved bits: none of their extensions is there */
#define SATP_PPN ((1ull << 44) - 1)

static const uint8_t page_fault[] = {VMR_EXC_LOAD_PAGE, VMR_EXC_STORE_PAGE, VMR_EXC_FETCH_PAGE};
static const uint8_t access_fault[] = {VMR_EXC_LOAD_ACCESS, VMR_EXC_STORE_ACCESS, VMR_EXC_FETCH_ACCESS};

/* The memory at gpa, or NULL where there is none to read. It comes in whole pages, so all of gpa's page is there. */
static const vmr_ram *ram_at(vmr_hart *h, uint64_t gpa) {
  const vmr_ram *ram = h->ram;
  if (VMR_UNLIKELY(!ram || gpa - ram->gpa >= ram->size)) {
    ram = vmr_ram_find(h->vcpu.machine, gpa);
    if (ram) h->ram = ram;
  }
  return ram;
}

static uint8_t *host_of(const vmr_ram *ram, uint64_t gpa) { return ram->hva + (gpa - ram->gpa); }

static bool permitted(const vmr_hart *h, uint64_t pte, vmr_access access) {
  if (h->priv == VMR_PRIV_U) {
    if (!(pte & PTE_U)) return false;
  } else if (pte & PTE_U) {
    if (access == VMR_FETCH || !(h->sstatus & VMR_SSTATUS_SUM)) return false;
  }
  switch (access) {
  case VMR_FETCH: return pte & PTE_X;
  case VMR_STORE: return pte & PTE_W;
  default: return pte & (h->sstatus & VMR_SSTATUS_MXR ? PTE_R | PTE_X : PTE_R);
  }
}

/* Remember that the TLBs may hold parts of a large page: flushing one address must then flush its neighbours too. */
static void note_superpage(vmr_hart *h, uint64_t va, unsigned shift) {
  vmr_span *span = &h->superpages[va >> 63];
  uint64_t low = va >> shift << shift, high = low | ((1ull << shift) - 1);
  if (span->low > span->high) {
    *span = (vmr_span){low, high};
    return;
  }
  if (low < span->low) span->low = low;
  if (high > span->high) span->high = high;
}

int vmr_mmu_translate(vmr_hart *h, uint64_t va, vmr_access access, uint64_t *gpa) {
  unsigned mode = (unsigned)(h->satp >> VMR_SATP_MODE_SHIFT);
  if (!mode) {
    *gpa = va;
    return va >> 56 ? access_fault[access] : 0;
  }
  int levels = mode == 8 ? 3 : 4;
  unsigned unused = 64 - (12 + 9 * (unsigned)levels);
  if ((uint64_t)((int64_t)(va << unused) >> unused) != va) return page_fault[access];
  uint64_t table = (h->satp & SATP_PPN) << 12;
  for (int level = levels - 1; level >= 0; level--) {
    unsigned shift = 12 + 9 * (unsigned)level;
    uint64_t entry_gpa = table + (va >> shift & 511) * 8;
    const vmr_ram *ram = ram_at(h, entry_gpa);
    if (!ram) return access_fault[access];
    uint64_t *entry = (uint64_t *)host_of(ram, entry_gpa);
    uint64_t pte = __atomic_load_n(entry, __ATOMIC_ACQUIRE);
    for (;;) {
      if (!(pte & PTE_V) || (pte & (PTE_R | PTE_W)) == PTE_W || (pte & PTE_RESERVED)) return page_fault[access];
      if (!(pte & (PTE_R | PTE_X))) {
        if (pte & (PTE_U | PTE_A | PTE_D)) return page_fault[access];
        table = PTE_PPN(pte) << 12;
        break;
      }
      uint64_t offset = (1ull << shift) - 1;
      if (!permitted(h, pte, access) || (PTE_PPN(pte) << 12 & offset)) return page_fault[access];
      uint64_t want = pte | PTE_A | (access == VMR_STORE ? PTE_D : 0);
      if (pte != want && !ram->writable) return access_fault[access];
      if (pte == want || __atomic_compare_exchange_n(entry, &pte, want, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        if (pte != want) vmr_ram_mark(ram, entry_gpa);
        if (level) note_superpage(h, va, shift);
        *gpa = PTE_PPN(pte) << 12 | (va & offset);
        return 0;
      }
      /* Somebody else changed the entry: look at it anew. */
    }
  }
  return page_fault[access];
}

uint8_t *vmr_mmu_data(vmr_hart *h, uint64_t va, vmr_access access, uint64_t *gpa) {
  vmr_tlb_entry *e = &(access == VMR_STORE ? h->store_tlb : h->load_tlb)[(va >> 12) & (VMR_TLB_SIZE - 1)];
  h->cause = 0;
  if (e->tag == (va & ~VMR_PAGE_MASK)) return (uint8_t *)(va + e->addend);
  h->cause = (uint64_t)vmr_mmu_translate(h, va, access, gpa);
  if (h->cause) return NULL;
  VMR_COUNT(h, tlb_fills);
  const vmr_ram *ram = ram_at(h, *gpa);
  if (!ram) return NULL;
  if (access == VMR_STORE) { /* dirty before the first store through the entry: see core/dirty.c */
    if (!ram->writable) return NULL;
    vmr_ram_mark(ram, *gpa);
  }
  uint8_t *host = host_of(ram, *gpa);
  e->tag = va & ~VMR_PAGE_MASK;
  e->addend = (uintptr_t)host - va;
  h->tlb[h->mode].used = true;
  return host;
}

bool vmr_mmu_fetch(vmr_hart *h, uint64_t pc) {
  uint64_t gpa;
  h->tval = pc;
  h->cause = (uint64_t)vmr_mmu_translate(h, pc, VMR_FETCH, &gpa);
  if (h->cause) return false;
  const vmr_ram *ram = ram_at(h, gpa &= ~VMR_PAGE_MASK);
  vmr_code_page *page = ram ? vmr_code_page_at(h, gpa, host_of(ram, gpa)) : NULL;
  if (!page) {
    h->cause = VMR_EXC_FETCH_ACCESS;
    return false;
  }
  h->itlb[(pc >> 12) & (VMR_ITLB_SIZE - 1)] = (vmr_itlb_entry){
      .tag = (pc & ~VMR_PAGE_MASK) | h->priv, .bias = (pc & ~VMR_PAGE_MASK) - ((uintptr_t)page->ops >> 3)};
  return true;
}

static bool fetch_half(vmr_hart *h, uint64_t va, uint32_t *half) {
  uint64_t gpa;
  h->tval = va;
  h->cause = (uint64_t)vmr_mmu_translate(h, va, VMR_FETCH, &gpa);
  if (h->cause) return false;
  const vmr_ram *ram = ram_at(h, gpa);
  if (!ram) {
    h->cause = VMR_EXC_FETCH_ACCESS;
    return false;
  }
  *half = __atomic_load_n((const uint16_t *)host_of(ram, gpa), __ATOMIC_RELAXED);
  return true;
}

bool vmr_mmu_instruction(vmr_hart *h, uint64_t pc, uint32_t *raw) {
  uint32_t high;
  if (!fetch_half(h, pc, raw)) return false;
  if ((*raw & 3) != 3) return true;
  if (!fetch_half(h, pc + 2, &high)) return false;
  *raw |= high << 16;
  return true;
}

void vmr_mmu_flush_data(vmr_hart *h) {
  for (int mode = 0; mode < VMR_MODES; mode++)
    if (h->tlb[mode].used) {
      memset(h->tlb[mode].load, 0xff, sizeof h->tlb[mode].load);
      memset(h->tlb[mode].store, 0xff, sizeof h->tlb[mode].store);
      h->tlb[mode].used = false;
    }
}

void vmr_mmu_flush_fetch(vmr_hart *h) {
  memset(h->itlb, 0xff, sizeof h->itlb);
  vmr_fetch_epoch(h);
}

void vmr_mmu_flush(vmr_hart *h) {
  vmr_mmu_flush_data(h);
  vmr_mmu_flush_fetch(h);
  h->superpages[0] = h->superpages[1] = (vmr_span){1, 0};
}

void vmr_mmu_flush_page(vmr_hart *h, uint64_t va) {
  const vmr_span *span = &h->superpages[va >> 63];
  if (va >= span->low && va <= span->high) {
    vmr_mmu_flush(h);
    return;
  }
  uint32_t slot = (uint32_t)(va >> 12) & (VMR_TLB_SIZE - 1);
  for (int mode = 0; mode < VMR_MODES; mode++) h->tlb[mode].load[slot].tag = h->tlb[mode].store[slot].tag = ~0ull;
  h->itlb[(va >> 12) & (VMR_ITLB_SIZE - 1)].tag = ~0ull;
  vmr_fetch_epoch(h);
}

void vmr_mmu_mode(vmr_hart *h) {
  h->mode = h->priv == VMR_PRIV_U ? VMR_MODE_U : h->sstatus & VMR_SSTATUS_SUM ? VMR_MODE_SUM : VMR_MODE_S;
  h->load_tlb = h->tlb[h->mode].load;
  h->store_tlb = h->tlb[h->mode].store;
  h->jump_key = h->itlb_epoch << 1 | h->priv;
}
