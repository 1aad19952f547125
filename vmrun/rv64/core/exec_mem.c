/* Loads and stores: a hit in the data TLB is the fast path; everything else goes through access_slow. */
#include <string.h>

#include "decode.h"
#include "exec_mem.h"

#define FP_ON \
  if (VMR_UNLIKELY(!h->fs)) GO(illegal, n)

OP4(lb, LOAD_BODY(int8_t, RD = (uint64_t)(int64_t)loaded))
OP4(lh, LOAD_BODY(int16_t, RD = (uint64_t)(int64_t)loaded))
OP(lw, LOAD_BODY(int32_t, RD = (uint64_t)(int64_t)loaded))
OP(ld, LOAD_BODY(uint64_t, RD = loaded))
OP4(lbu, LOAD_BODY(uint8_t, RD = loaded))
OP4(lhu, LOAD_BODY(uint16_t, RD = loaded))
OP4(lwu, LOAD_BODY(uint32_t, RD = loaded))
OP4(sb, STORE_BODY(uint8_t, RS2))
OP4(sh, STORE_BODY(uint16_t, RS2))
OP(sw, STORE_BODY(uint32_t, RS2))
OP(sd, STORE_BODY(uint64_t, RS2))

OP4(flw, FP_ON; LOAD_BODY(uint32_t, h->f[ip->rd] = loaded | 0xffffffffull << 32; h->fs = 3))
OP(fld, FP_ON; LOAD_BODY(uint64_t, h->f[ip->rd] = loaded; h->fs = 3))
OP4(fsw, FP_ON; STORE_BODY(uint32_t, h->f[ip->rs2]))
OP(fsd, FP_ON; STORE_BODY(uint64_t, h->f[ip->rs2]))

/* ---- slow path --------------------------------------------------------------------------------------------------- */

/* OUTCOME_MOVED: done, and the device has changed memory meanwhile. */
typedef enum vmr_outcome { OUTCOME_DONE, OUTCOME_MOVED, OUTCOME_TRAP, OUTCOME_PYTHON } vmr_outcome;

static vmr_outcome trap(vmr_hart *h, uint64_t cause, uint64_t va) {
  h->cause = cause;
  h->tval = va;
  return OUTCOME_TRAP;
}

/* An access that memory does not take. */
static vmr_outcome device(vmr_hart *h, uint64_t va, uint64_t gpa, uint32_t size, bool store, uint64_t *value) {
  if (va & (size - 1)) return trap(h, store ? VMR_EXC_STORE_MISALIGNED : VMR_EXC_LOAD_MISALIGNED, va);
  VMR_COUNT(h, mmio);
  int rc = store ? vmr_bus_write(h->vcpu.machine, gpa, size, *value, &h->mmio.access)
                 : vmr_bus_read(h->vcpu.machine, gpa, size, value, &h->mmio.access);
  if (rc == VMR_BUS_NONE) return trap(h, store ? VMR_EXC_STORE_ACCESS : VMR_EXC_LOAD_ACCESS, va);
  if (rc == VMR_BUS_DONE) return VMR_UNLIKELY(h->vcpu.reader.settle) ? OUTCOME_MOVED : OUTCOME_DONE;
  vmr_bus_ask(&h->mmio.access, h->exit);
  return OUTCOME_PYTHON;
}

/* size bytes at va from or to *value; any alignment. A misaligned access may be seen in parts by other harts. */
static vmr_outcome access_slow(vmr_hart *h, uint64_t va, uint32_t size, vmr_access access, uint64_t *value) {
  bool store = access == VMR_STORE;
  uint64_t gpa;
  uint8_t *host = vmr_mmu_data(h, va, access, &gpa);
  if (!host && h->cause) return trap(h, h->cause, va);
  uint32_t first = VMR_PAGE_SIZE - (uint32_t)(va & VMR_PAGE_MASK);
  if (first >= size) {
    if (!host) return device(h, va, gpa, size, store, value);
    if (store)
      memcpy(host, value, size);
    else
      memcpy(value, host, size);
    return OUTCOME_DONE;
  }
  uint8_t *rest = vmr_mmu_data(h, va + first, access, &gpa);
  if (!rest && h->cause) return trap(h, h->cause, va + first);
  if (!host || !rest) return trap(h, store ? VMR_EXC_STORE_MISALIGNED : VMR_EXC_LOAD_MISALIGNED, va);
  uint8_t *bytes = (uint8_t *)value;
  if (store) {
    memcpy(host, bytes, first);
    memcpy(rest, bytes + first, size - first);
  } else {
    memcpy(bytes, host, first);
    memcpy(bytes + first, rest, size - first);
  }
  return OUTCOME_DONE;
}

void vmr_load_finish(vmr_hart *h, uint32_t rd, uint32_t kind, uint64_t value) {
  switch (kind) {
  case 0: h->x[rd] = (uint64_t)(int64_t)(int8_t)value; break;
  case 1: h->x[rd] = (uint64_t)(int64_t)(int16_t)value; break;
  case 2: h->x[rd] = (uint64_t)(int64_t)(int32_t)value; break;
  case 4: h->x[rd] = (uint8_t)value; break;
  case 5: h->x[rd] = (uint16_t)value; break;
  case 6: h->x[rd] = (uint32_t)value; break;
  case 10:
    h->f[rd] = (value & 0xffffffff) | 0xffffffffull << 32;
    h->fs = 3;
    break;
  case 11:
    h->f[rd] = value;
    h->fs = 3;
    break;
  default: h->x[rd] = value; break;
  }
}

static __attribute__((noinline)) vmr_outcome load(vmr_hart *h, const vmr_op *ip) {
  uint32_t kind = ip->aux & 15;
  uint64_t value = 0;
  vmr_outcome outcome = access_slow(h, ADDRESS, 1u << (kind & 3), VMR_LOAD, &value);
  if (outcome <= OUTCOME_MOVED) vmr_load_finish(h, ip->rd, kind, value);
  return outcome;
}

static __attribute__((noinline)) vmr_outcome store(vmr_hart *h, const vmr_op *ip) {
  uint32_t kind = ip->aux & 15;
  uint32_t size = 1u << (kind & 3);
  uint64_t value = (kind & 8 ? h->f[ip->rs2] : RS2) & (~0ull >> (64 - 8 * size));
  return access_slow(h, ADDRESS, size, VMR_STORE, &value);
}

/* Python serves the access; the next run completes the instruction. */
static void leave_for_python(vmr_hart *h, const vmr_op *ip, bool load) {
  h->mmio.active = true;
  h->mmio.load = load;
  h->mmio.rd = ip->rd;
  h->mmio.kind = ip->aux & 15;
  h->mmio.length = (uint8_t)(2 * LENGTH_OF(ip));
  h->pc = PC;
  h->exiting = true;
}

/* The access is done, and memory is another: go out, where the other vCPUs are waited for, and come in again. */
static void leave_to_settle(vmr_hart *h, const vmr_op *ip) {
  h->pc = PC + 2 * LENGTH_OF(ip);
  h->retired++;
  h->budget--;
}

uint32_t vmr_access_slow(vmr_hart *h, const vmr_op *ip, bool is_load) {
  switch (is_load ? load(h, ip) : store(h, ip)) {
  case OUTCOME_DONE: return VMR_ACCESS_DONE;
  case OUTCOME_TRAP: return VMR_ACCESS_TRAP;
  case OUTCOME_MOVED: leave_to_settle(h, ip); return VMR_ACCESS_LEAVE;
  default: leave_for_python(h, ip, is_load); return VMR_ACCESS_LEAVE;
  }
}

#define FINISH(outcome, is_load) \
  do { \
    vmr_outcome outcome_ = (outcome); \
    if (VMR_LIKELY(outcome_ == OUTCOME_DONE)) DISPATCH(ip + LENGTH_OF(ip), n - 1); \
    if (outcome_ == OUTCOME_TRAP) GO(trap, n); \
    if (outcome_ == OUTCOME_MOVED) leave_to_settle(h, ip); \
    else leave_for_python(h, ip, is_load); \
    GO(leave, n); \
  } while (0)

VMR_HANDLER(load_slow) { FINISH(load(h, ip), true); }
VMR_HANDLER(store_slow) { FINISH(store(h, ip), false); }
