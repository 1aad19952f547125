/* CSRs of the Advanced Interrupt Architecture 1.0 for S-mode (Ssaia): chapters 2, 3.8 to 3.10 and 5.4. Priorities of major
 * interrupts are read-only zeros, as section 5.4.1 allows, so the default order of trap.c is the one there is. */
#include "hart.h"

#define CSR_SISELECT 0x150
#define CSR_STOPI 0xdb0
#define ISELECT_BITS 0x1ffull /* as many as a virtual hart must have (section 2.3) */
#define IPRIO_FIRST 0x30
#define IPRIO_LAST 0x3f
#define IDENTITY_SHIFT 16
#define IPRIO_ONLY 1 /* what stopi's IPRIO is where no priority can be set (section 5.4.2) */

/* sireg: the bits of mask are written. false: siselect chooses nothing that is there. */
static bool indirect(vmr_hart *h, uint64_t value, uint64_t mask, uint64_t *old) {
  *old = 0;
  if (h->siselect >= IPRIO_FIRST && h->siselect <= IPRIO_LAST) return !(h->siselect & 1);
  return h->imsic && vmr_imsic_file_modify(h->imsic, h->siselect, value, mask, old);
}

static uint64_t top_external(uint32_t identity) { return identity | (uint64_t)identity << IDENTITY_SHIFT; }

static uint64_t top_major(vmr_hart *h) {
  uint32_t due = vmr_pending(h) & h->sie;
  return due ? vmr_first_interrupt(due) << IDENTITY_SHIFT | IPRIO_ONLY : 0;
}

bool vmr_aia_read(vmr_hart *h, uint32_t csr, uint64_t *value) {
  if (!(h->isa & VMR_RV64_SSAIA)) return false;
  switch (csr) {
  case CSR_SISELECT: *value = h->siselect; return true;
  case VMR_CSR_SIREG: return indirect(h, 0, 0, value);
  case VMR_CSR_STOPEI:
    if (!h->imsic) return false;
    *value = top_external(vmr_imsic_file_top(h->imsic));
    return true;
  case CSR_STOPI: *value = top_major(h); return true;
  default: return false;
  }
}

bool vmr_aia_write(vmr_hart *h, uint32_t csr, uint64_t value, uint64_t mask, uint64_t *old) {
  if (!(h->isa & VMR_RV64_SSAIA)) return false;
  switch (csr) {
  case CSR_SISELECT:
    *old = h->siselect;
    h->siselect = (uint32_t)(((*old & ~mask) | (value & mask)) & ISELECT_BITS);
    return true;
  case VMR_CSR_SIREG: return indirect(h, value, mask, old);
  case VMR_CSR_STOPEI: /* the value written says nothing: what it reads is claimed */
    if (!h->imsic) return false;
    *old = top_external(vmr_imsic_file_claim(h->imsic));
    return true;
  default: return false;
  }
}
