/* The firmware that an S-mode kernel calls: RISC-V SBI 2.0, served by the engine as KVM does for its guests. */
#include <sched.h>

#include "hart.h"

#define EXT_BASE 0x10
#define EXT_TIME 0x54494d45
#define EXT_IPI 0x735049
#define EXT_RFENCE 0x52464e43
#define EXT_HSM 0x48534d
#define EXT_SRST 0x53525354
#define EXT_DBCN VMR_SBI_DBCN

#define SPEC_VERSION 0x02000000
#define IMPLEMENTATION_ID 0x766d72 /* "vmr": not assigned by the SBI specification */
#define IMPLEMENTATION_VERSION 1

#define A0 h->x[10]
#define A1 h->x[11]
#define A2 h->x[12]
#define A3 h->x[13]
#define A4 h->x[14]
#define FID h->x[16]
#define EID h->x[17]

typedef vmr_sbi_result sbi_result;

static const sbi_result not_supported = {VMR_SBI_NOT_SUPPORTED, 0};
static const sbi_result invalid = {VMR_SBI_INVALID_PARAM, 0};
static const sbi_result success = {VMR_SBI_SUCCESS, 0};

static sbi_result base(vmr_hart *h) {
  switch (FID) {
  case 0: return (sbi_result){0, SPEC_VERSION};
  case 1: return (sbi_result){0, IMPLEMENTATION_ID};
  case 2: return (sbi_result){0, IMPLEMENTATION_VERSION};
  case 3:
    switch (A0) {
    case EXT_BASE:
    case EXT_TIME:
    case EXT_IPI:
    case EXT_RFENCE:
    case EXT_HSM:
    case EXT_SRST:
    case EXT_DBCN: return (sbi_result){0, 1};
    default: return success;
    }
  case 4: /* mvendorid, marchid, mimpid: 0, not implemented */
  case 5:
  case 6: return success;
  default: return not_supported;
  }
}

static sbi_result timer(vmr_hart *h) {
  if (FID != 0) return not_supported;
  vmr_timer_set(h, A0);
  return success;
}

/* The harts that (mask, base) name as a bit set, or 0 when one of them does not exist. */
static uint64_t harts_of(const vmr_hart *h, uint64_t mask, uint64_t first) {
  uint32_t count = vmr_vcpu_count(h->vcpu.machine);
  uint64_t all = count < 64 ? (1ull << count) - 1 : ~0ull;
  if (first == ~0ull) return all;
  if (first >= count || (mask & ~(all >> first))) return 0;
  return mask << first;
}

static sbi_result ipi(vmr_hart *h) {
  if (FID != 0) return not_supported;
  uint64_t harts = harts_of(h, A0, A1);
  if (!harts && A0) return invalid;
  for (; harts; harts &= harts - 1)
    vmr_hart_raise(vmr_hart_at(h->vcpu.machine, (uint64_t)__builtin_ctzll(harts)), VMR_IP_SSIP);
  return success;
}

/* Wait until the other hart has done the fence, or is outside guest execution and will before it goes on. Serves our own
 * requests meanwhile, since it may be waiting for us. */
static void await(vmr_hart *h, vmr_hart *other, uint32_t request) {
  for (uint32_t turn = 0; (atomic_load(&other->requests) & request) && vmr_hart_in_guest(other); turn++) {
    if (atomic_load_explicit(&h->requests, memory_order_relaxed) & VMR_REQ_FENCES) vmr_hart_serve(h);
    if (vmr_machine_stopping(h->vcpu.machine)) return;
    if (turn > 64) sched_yield();
  }
}

/* Ranges are not looked at: every fence is a whole one, which the specification allows. */
static sbi_result remote_fence(vmr_hart *h) {
  if (FID > 2) return not_supported; /* the hypervisor's */
  uint64_t harts = harts_of(h, A0, A1);
  if (!harts && A0) return invalid;
  uint32_t request = FID == 0 ? VMR_REQ_FENCE_I : VMR_REQ_SFENCE;
  for (uint64_t left = harts; left; left &= left - 1)
    vmr_hart_request(vmr_hart_at(h->vcpu.machine, (uint64_t)__builtin_ctzll(left)), request);
  vmr_hart_serve(h);
  for (uint64_t left = harts; left; left &= left - 1) {
    vmr_hart *other = vmr_hart_at(h->vcpu.machine, (uint64_t)__builtin_ctzll(left));
    if (other != h) await(h, other, request);
  }
  return success;
}

static sbi_result hart_start(vmr_hart *h) {
  vmr_hart *other = vmr_hart_at(h->vcpu.machine, A0);
  if (!other) return invalid;
  if (A1 & (1 | h->misaligned_mask) || !vmr_gpa_ptr(h->vcpu.machine, A1, 2))
    return (sbi_result){VMR_SBI_INVALID_ADDRESS, 0};
  return vmr_hart_start(other, A1, A2) ? success : (sbi_result){VMR_SBI_ALREADY_AVAILABLE, 0};
}

static sbi_result hart_status(vmr_hart *h) {
  vmr_hart *other = vmr_hart_at(h->vcpu.machine, A0);
  return other ? (sbi_result){0, atomic_load(&other->hsm)} : invalid;
}

static sbi_result hart_suspend(vmr_hart *h) {
  uint32_t type = (uint32_t)A0;
  if (type == 0) {
    atomic_store(&h->hsm, VMR_HSM_SUSPENDED);
    vmr_hart_sleep(h);
    atomic_store(&h->hsm, VMR_HSM_STARTED);
    return success;
  }
  bool reserved = (type > 0 && type < 0x10000000) || (type > 0x80000000 && type < 0x90000000);
  return reserved ? invalid : not_supported;
}

static sbi_result console(const vmr_hart *h) {
  return vmr_sbi_console_call(&h->shared->console, h->vcpu.machine, FID, (uint64_t[]){A0, A1, A2});
}

/* true: the machine is to be switched off or reset, and h->exit says so. */
static bool system_reset(vmr_hart *h) {
  uint32_t type = (uint32_t)A0, reason = (uint32_t)A1;
  if (FID != 0 || type > VMR_SYSTEM_WARM_REBOOT || (reason > 1 && reason < 0xe0000000)) return false;
  *h->exit = (vmr_exit){.kind = VMR_EXIT_SYSTEM, .code = type, .data = reason};
  h->exiting = true;
  return true;
}

bool vmr_sbi_call(vmr_hart *h) {
  sbi_result result = not_supported;
  switch (EID) {
  case EXT_BASE: result = base(h); break;
  case EXT_TIME: result = timer(h); break;
  case EXT_IPI: result = ipi(h); break;
  case EXT_RFENCE: result = remote_fence(h); break;
  case EXT_DBCN:
    vmr_hart_leave(h); /* a slow terminal must not hold up others' fences */
    result = console(h);
    vmr_hart_enter(h);
    break;
  case EXT_SRST:
    if (system_reset(h)) return false;
    if (FID == 0) result = invalid;
    break;
  case EXT_HSM:
    switch (FID) {
    case 0: result = hart_start(h); break;
    case 1: atomic_store(&h->hsm, VMR_HSM_STOPPED); return false;
    case 2: result = hart_status(h); break;
    case 3: result = hart_suspend(h); break;
    }
    break;
  }
  A0 = (uint64_t)result.error;
  A1 = result.value;
  return true;
}
