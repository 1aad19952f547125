/* A hart's state as a value (core/state.h): registers and CSRs, what SBI HSM knows, pending interrupts. Not the translation
 * and code caches, which begin empty; nor an access that waits for Python, since a hart can be saved only between
 * instructions. */
#include "hart.h"

static const char *state_lock(void *object) {
  vmr_hart *h = object;
  if (h->mmio.active) return "an access waits for its answer";
  h->res_ptr = NULL; /* SC fails now, as it may after any interruption */
  pthread_mutex_lock(&h->lock);
  return NULL;
}

static void state_unlock(void *object) { pthread_mutex_unlock(&((vmr_hart *)object)->lock); }

static bool is_hsm(uint32_t hsm) {
  return hsm == VMR_HSM_STARTED || hsm == VMR_HSM_STOPPED || hsm == VMR_HSM_START_PENDING || hsm == VMR_HSM_SUSPENDED;
}

static bool is_satp(const vmr_hart *h) {
  uint64_t mode = h->satp >> VMR_SATP_MODE_SHIFT;
  return !mode || mode == 8 || (mode == 9 && h->isa & VMR_RV64_SV48);
}

static const char *state_check(void *object) {
  const vmr_hart *h = object;
  if (h->x[0]) return "x0 is not 0";
  if (h->pc & (1 | h->misaligned_mask) || h->sepc & (1 | h->misaligned_mask)) return "a program counter between instructions";
  if ((h->stvec & 3) > 1) return "a reserved mode of stvec";
  if (!is_satp(h)) return "a mode of satp that the hart does not have";
  if (!(h->isa & VMR_RV64_F) && (h->fs || h->fflags || h->frm)) return "floating point that the hart does not have";
  return is_hsm(atomic_load(&h->hsm)) ? NULL : "an unknown state of SBI HSM";
}

static void state_loaded(void *object) {
  vmr_hart *h = object;
  h->timer_due = false;
  atomic_fetch_or(&h->requests, VMR_REQ_FENCES); /* RAM may hold other tables, and other code than what was decoded */
  vmr_mmu_mode(h);
  pthread_cond_broadcast(&h->wake);
}

#define ONE(member, limit) VMR_FIELD(vmr_hart, member, limit)
#define MASKED(member, mask) VMR_BITS(vmr_hart, member, mask)

static const vmr_field fields[] = {
    {"x", offsetof(vmr_hart, x), sizeof(uint64_t), 32, VMR_ANY, VMR_ANY},
    ONE(pc, VMR_ANY), ONE(priv, VMR_PRIV_S), VMR_ARRAY(vmr_hart, f, VMR_ANY), ONE(fflags, 31), ONE(frm, 7), ONE(fs, 3),
    ONE(retired, VMR_ANY), MASKED(sstatus, VMR_SSTATUS_PLAIN), ONE(stvec, VMR_ANY), ONE(sscratch, VMR_ANY), ONE(sepc, VMR_ANY),
    ONE(scause, VMR_ANY), ONE(stval, VMR_ANY), ONE(satp, VMR_ANY), ONE(scounteren, 7), ONE(senvcfg, 1), ONE(stimecmp, VMR_ANY),
    MASKED(sie, VMR_IP_ALL), ONE(siselect, 0x1ff),
    MASKED(ip, VMR_IP_ALL), ONE(hsm, VMR_HSM_SUSPENDED), ONE(start_pc, VMR_ANY), ONE(start_opaque, VMR_ANY)};
static const vmr_state_ops state_ops = {"rv64", 1, state_lock, state_unlock, state_check, state_loaded};

int vmr_hart_declare_state(vmr_hart *h) {
  vmr_part part = {NULL, -1, h, VMR_FIELDS(fields)};
  return vmr_state_add(h->vcpu.machine, &state_ops, h, &part, 1);
}
