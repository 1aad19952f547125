/* The A extension: host atomics on guest RAM, so harts on different host threads see one another's as the ISA says. */
#include "decode.h"

/* Host address of the naturally aligned operand, or NULL: h->cause, h->tval are set. */
static __attribute__((noinline)) uint8_t *operand(vmr_hart *h, uint64_t va, uint32_t size, vmr_access access) {
  bool store = access == VMR_STORE;
  h->tval = va;
  if (VMR_UNLIKELY(va & (size - 1))) {
    h->cause = store ? VMR_EXC_STORE_MISALIGNED : VMR_EXC_LOAD_MISALIGNED;
    return NULL;
  }
  const vmr_tlb_entry *e = &(store ? h->store_tlb : h->load_tlb)[(va >> 12) & (VMR_TLB_SIZE - 1)];
  if (VMR_LIKELY(e->tag == (va & ~VMR_PAGE_MASK))) return (uint8_t *)(va + e->addend);
  uint64_t gpa;
  uint8_t *host = vmr_mmu_data(h, va, access, &gpa);
  if (!host && !h->cause) h->cause = store ? VMR_EXC_STORE_ACCESS : VMR_EXC_LOAD_ACCESS; /* devices take no AMO */
  return host;
}

#define AMO_HOST(type, access) \
  uint8_t *host = operand(h, RS1, sizeof(type), access); \
  if (VMR_UNLIKELY(!host)) GO(trap, n)
/* Results are sign-extended; signed types make the conversion do it. */
#define AMO(name, operation) \
  OP4(name##_w, AMO_HOST(int32_t, VMR_STORE); \
      RD = (uint64_t)(int64_t)operation((int32_t *)host, (int32_t)RS2, __ATOMIC_SEQ_CST)) \
  OP4(name##_d, AMO_HOST(int64_t, VMR_STORE); \
      RD = (uint64_t)operation((int64_t *)host, (int64_t)RS2, __ATOMIC_SEQ_CST))

AMO(amoswap, __atomic_exchange_n)
AMO(amoadd, __atomic_fetch_add)
AMO(amoxor, __atomic_fetch_xor)
AMO(amoand, __atomic_fetch_and)
AMO(amoor, __atomic_fetch_or)

#define MIN_MAX(name, type, compare) \
  static inline type name(type *host, type value) { \
    type old = __atomic_load_n(host, __ATOMIC_RELAXED); \
    while (!__atomic_compare_exchange_n(host, &old, value compare old ? value : old, false, __ATOMIC_SEQ_CST, \
                                        __ATOMIC_RELAXED)) {} \
    return old; \
  }
MIN_MAX(min_w, int32_t, <)
MIN_MAX(max_w, int32_t, >)
MIN_MAX(minu_w, uint32_t, <)
MIN_MAX(maxu_w, uint32_t, >)
MIN_MAX(min_d, int64_t, <)
MIN_MAX(max_d, int64_t, >)
MIN_MAX(minu_d, uint64_t, <)
MIN_MAX(maxu_d, uint64_t, >)

#define AMO_MIN_MAX(name, function, type, result) \
  OP4(name, AMO_HOST(type, VMR_STORE); RD = (uint64_t)(int64_t)(result)function((type *)host, (type)RS2))
AMO_MIN_MAX(amomin_w, min_w, int32_t, int32_t)
AMO_MIN_MAX(amomax_w, max_w, int32_t, int32_t)
AMO_MIN_MAX(amominu_w, minu_w, uint32_t, int32_t)
AMO_MIN_MAX(amomaxu_w, maxu_w, uint32_t, int32_t)
AMO_MIN_MAX(amomin_d, min_d, int64_t, int64_t)
AMO_MIN_MAX(amomax_d, max_d, int64_t, int64_t)
AMO_MIN_MAX(amominu_d, minu_d, uint64_t, int64_t)
AMO_MIN_MAX(amomaxu_d, maxu_d, uint64_t, int64_t)

/* A reservation is the value LR saw: SC stores if it is still there. */
#define LOAD_RESERVED(name, type) \
  OP4(name, AMO_HOST(type, VMR_LOAD); type loaded = __atomic_load_n((type *)host, __ATOMIC_SEQ_CST); \
      h->res_ptr = host; h->res_size = sizeof(type); h->res_value = (uint64_t)(int64_t)loaded; \
      RD = (uint64_t)(int64_t)loaded)
LOAD_RESERVED(lr_w, int32_t)
LOAD_RESERVED(lr_d, int64_t)

/* 0 when the store happened. */
static __attribute__((noinline)) uint64_t store_conditional(vmr_hart *h, uint8_t *host, uint32_t size, uint64_t value) {
  bool held = h->res_ptr == host && h->res_size == size;
  h->res_ptr = NULL;
  if (!held) return 1;
  if (size == 4) {
    int32_t expected = (int32_t)h->res_value;
    return !__atomic_compare_exchange_n((int32_t *)host, &expected, (int32_t)value, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED);
  }
  int64_t expected = (int64_t)h->res_value;
  return !__atomic_compare_exchange_n((int64_t *)host, &expected, (int64_t)value, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_RELAXED);
}

#define STORE_CONDITIONAL(name, type) \
  OP4(name, AMO_HOST(type, VMR_STORE); RD = store_conditional(h, host, sizeof(type), RS2))
STORE_CONDITIONAL(sc_w, int32_t)
STORE_CONDITIONAL(sc_d, int64_t)
