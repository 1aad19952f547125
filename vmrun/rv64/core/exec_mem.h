/* The fast path of loads and stores: a hit in the data TLB. */
#ifndef VMR_RV64_EXEC_MEM_H
#define VMR_RV64_EXEC_MEM_H
#include "exec.h"

#define ADDRESS (RS1 + IMM)
#define TLB_SLOT(table, va) (&(table)[((va) >> 12) & (VMR_TLB_SIZE - 1)])
/* The page, and the low bits that make an access misaligned: no entry has those set. */
#define TLB_TAG(va, type) ((va) & (~VMR_PAGE_MASK | (sizeof(type) - 1)))
#define HOST(type, va, entry) ((type *)((va) + (entry)->addend))

#define LOAD_BODY(type, ...) \
  uint64_t va = ADDRESS; \
  const vmr_tlb_entry *e = TLB_SLOT(h->load_tlb, va); \
  if (VMR_UNLIKELY(e->tag != TLB_TAG(va, type))) GO(load_slow, n); \
  type loaded = __atomic_load_n(HOST(const type, va, e), __ATOMIC_RELAXED); \
  __VA_ARGS__

#define STORE_BODY(type, value) \
  uint64_t va = ADDRESS; \
  const vmr_tlb_entry *e = TLB_SLOT(h->store_tlb, va); \
  if (VMR_UNLIKELY(e->tag != TLB_TAG(va, type))) GO(store_slow, n); \
  __atomic_store_n(HOST(type, va, e), (type)(value), __ATOMIC_RELAXED)
#endif
