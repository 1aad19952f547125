/* Control and status registers of S and U mode. */
#include "hart.h"

#define CSR_FFLAGS 0x001
#define CSR_FRM 0x002
#define CSR_FCSR 0x003
#define CSR_SIE 0x104
#define CSR_STVEC 0x105
#define CSR_SCOUNTEREN 0x106
#define CSR_SENVCFG 0x10a
#define CSR_SSCRATCH 0x140
#define CSR_SEPC 0x141
#define CSR_SCAUSE 0x142
#define CSR_STVAL 0x143
#define CSR_SIP VMR_CSR_SIP
#define CSR_STIMECMP 0x14d
#define CSR_SATP 0x180
#define CSR_CYCLE 0xc00
#define CSR_TIME 0xc01
#define CSR_INSTRET 0xc02

#define SSTATUS_FS_SHIFT 13
#define SSTATUS_UXL_64 (2ull << 32)
#define SSTATUS_SD (1ull << 63)
#define SENVCFG_FIOM 1ull
#define SATP_PPN ((1ull << 44) - 1)

uint64_t vmr_sstatus(const vmr_hart *h) {
  return h->sstatus | (uint64_t)h->fs << SSTATUS_FS_SHIFT | SSTATUS_UXL_64 | (h->fs == 3 ? SSTATUS_SD : 0);
}

void vmr_sstatus_write(vmr_hart *h, uint64_t value) {
  uint64_t changed = (h->sstatus ^ value) & VMR_SSTATUS_PLAIN;
  h->sstatus ^= changed;
  if (h->isa & VMR_RV64_F) h->fs = (uint32_t)(value >> SSTATUS_FS_SHIFT) & 3;
  if (changed & VMR_SSTATUS_MXR) vmr_mmu_flush_data(h);
  if (changed & VMR_SSTATUS_SUM) vmr_mmu_mode(h);
}

/* fflags, frm and fcsr are there when F is, and only while FS is not off. */
static bool fp_usable(const vmr_hart *h) { return (h->isa & VMR_RV64_F) && h->fs; }

static bool counter_visible(const vmr_hart *h, uint32_t csr) {
  return h->priv == VMR_PRIV_S || h->scounteren >> (csr & 31) & 1;
}

bool vmr_csr_read(vmr_hart *h, uint32_t csr, uint64_t retired, uint64_t *value) {
  if ((csr >> 8 & 3) > h->priv) return false;
  switch (csr) {
  case CSR_FFLAGS: *value = h->fflags; return fp_usable(h);
  case CSR_FRM: *value = h->frm; return fp_usable(h);
  case CSR_FCSR: *value = h->fflags | h->frm << 5; return fp_usable(h);
  case VMR_CSR_SSTATUS: *value = vmr_sstatus(h); return true;
  case CSR_SIE: *value = h->sie; return true;
  case CSR_STVEC: *value = h->stvec; return true;
  case CSR_SCOUNTEREN: *value = h->scounteren; return true;
  case CSR_SENVCFG: *value = h->senvcfg; return true;
  case CSR_SSCRATCH: *value = h->sscratch; return true;
  case CSR_SEPC: *value = h->sepc; return true;
  case CSR_SCAUSE: *value = h->scause; return true;
  case CSR_STVAL: *value = h->stval; return true;
  case CSR_SIP: *value = vmr_pending(h); return true;
  case CSR_STIMECMP: *value = h->stimecmp; return h->isa & VMR_RV64_SSTC;
  case CSR_SATP: *value = h->satp; return true;
  case CSR_CYCLE:
  case CSR_INSTRET: *value = retired; return counter_visible(h, csr);
  case CSR_TIME: *value = vmr_time(h); return counter_visible(h, csr);
  default: return vmr_aia_read(h, csr, value);
  }
}

/* An unsupported mode leaves satp as it is. No ASID bits are implemented. */
static void satp_write(vmr_hart *h, uint64_t value) {
  uint64_t mode = value >> VMR_SATP_MODE_SHIFT;
  if (mode != 0 && mode != 8 && !(mode == 9 && h->isa & VMR_RV64_SV48)) return;
  value = mode << VMR_SATP_MODE_SHIFT | (value & SATP_PPN);
  if (value == h->satp) return;
  h->satp = value;
  vmr_mmu_flush(h);
}

static bool fp_write(vmr_hart *h, uint32_t csr, uint64_t value) {
  if (!fp_usable(h)) return false;
  if (csr != CSR_FRM) h->fflags = value & 31;
  if (csr == CSR_FRM) h->frm = value & 7;
  if (csr == CSR_FCSR) h->frm = value >> 5 & 7;
  h->fs = 3;
  return true;
}

bool vmr_csr_write(vmr_hart *h, uint32_t csr, uint64_t value) {
  uint64_t old;
  if ((csr >> 8 & 3) > h->priv || csr >> 10 == 3) return false;
  switch (csr) {
  case CSR_FFLAGS:
  case CSR_FRM:
  case CSR_FCSR: return fp_write(h, csr, value);
  case VMR_CSR_SSTATUS: vmr_sstatus_write(h, value); return true;
  case CSR_SIE: h->sie = (uint32_t)value & VMR_IP_ALL; return true;
  case CSR_STVEC:
    if ((value & 3) < 2) h->stvec = value;
    return true;
  case CSR_SCOUNTEREN: h->scounteren = value & 7; return true; /* CY, TM, IR */
  case CSR_SENVCFG: h->senvcfg = value & SENVCFG_FIOM; return true;
  case CSR_SSCRATCH: h->sscratch = value; return true;
  case CSR_SEPC: h->sepc = value & ~(1 | h->misaligned_mask); return true;
  case CSR_SCAUSE: h->scause = value; return true;
  case CSR_STVAL: h->stval = value; return true;
  case CSR_SIP: return vmr_csr_modify(h, csr, value, ~0ull, &old);
  case CSR_STIMECMP:
    if (!(h->isa & VMR_RV64_SSTC)) return false;
    vmr_timer_set(h, value);
    return true;
  case CSR_SATP: satp_write(h, value); return true;
  default: return vmr_aia_write(h, csr, value, ~0ull, &old);
  }
}

bool vmr_csr_modify(vmr_hart *h, uint32_t csr, uint64_t value, uint64_t mask, uint64_t *old) {
  if ((csr >> 8 & 3) > h->priv) return false;
  if (csr != CSR_SIP) return vmr_aia_write(h, csr, value, mask, old);
  *old = vmr_pending(h);
  atomic_fetch_or(&h->ip, (uint32_t)(value & mask) & VMR_IP_SSIP);
  atomic_fetch_and(&h->ip, ~((uint32_t)(~value & mask) & VMR_IP_SSIP));
  return true;
}
