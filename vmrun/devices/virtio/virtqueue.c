/* Split virtqueues (Virtual I/O Device 1.2, section 2.7), device side. Rings lie in guest RAM and change under our hands:
 * each field is read once, then checked, then used. */
#include <string.h>

#include "virtio.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio fields are little endian and so must the host be");

#define DESC_NEXT 1 /* 2.7.5 */
#define DESC_WRITE 2
#define DESC_INDIRECT 4
#define AVAIL_NO_INTERRUPT 1 /* 2.7.6 */

typedef struct descriptor {
  uint64_t gpa;
  uint32_t size;
  uint16_t flags;
  uint16_t next;
} descriptor;

static uint16_t load(const uint8_t *field) { return __atomic_load_n((const uint16_t *)(const void *)field, __ATOMIC_ACQUIRE); }
static void store(uint8_t *field, uint16_t value) { __atomic_store_n((uint16_t *)(void *)field, value, __ATOMIC_RELEASE); }

/* Offsets in the rings; each has flags and idx before its entries, and one event index after them. */
static const uint8_t *avail_entry(const vmr_virtq *queue, uint16_t i) { return queue->avail + 4 + 2 * (i & (queue->num - 1)); }
static uint8_t *used_entry(const vmr_virtq *queue, uint16_t i) { return queue->used + 4 + 8 * (i & (queue->num - 1)); }
static const uint8_t *used_event(const vmr_virtq *queue) { return queue->avail + 4 + 2 * queue->num; }
static uint8_t *avail_event(const vmr_virtq *queue) { return queue->used + 4 + 8 * queue->num; }

bool vmr_virtq_locate(vmr_virtio *virtio, vmr_virtq *queue) {
  uint32_t num = queue->num;
  queue->generation = vmr_memory_generation(virtio->machine);
  queue->desc = vmr_gpa_ptr(virtio->machine, queue->desc_gpa, 16 * num);
  queue->avail = vmr_gpa_ptr(virtio->machine, queue->avail_gpa, 6 + 2 * num);
  queue->used = vmr_gpa_ptr_for_write(virtio->machine, queue->used_gpa, 6 + 8 * num);
  return queue->desc && queue->avail && queue->used;
}

/* The queue can be used: its rings are there. Each use begins here, since memory may have changed since the last. */
static bool usable(vmr_virtio *virtio, vmr_virtq *queue) {
  if (!queue->ready || !vmr_virtio_live(virtio)) return false;
  if (queue->generation == vmr_memory_generation(virtio->machine) || vmr_virtq_locate(virtio, queue)) return true;
  queue->ready = false;
  vmr_virtio_break(virtio, "queue whose rings are no longer in RAM");
  return false;
}

static bool is_shape(const vmr_virtq *queue) {
  uint32_t num = queue->num;
  return num && num <= VMR_VIRTQ_SIZE && !(num & (num - 1)) && !(queue->desc_gpa % 16) && !(queue->avail_gpa % 2) &&
         !(queue->used_gpa % 4);
}

bool vmr_virtq_valid(const vmr_virtio *virtio, const vmr_virtq *queue) {
  uint32_t num = queue->num;
  return is_shape(queue) && vmr_gpa_holds(virtio->machine, queue->desc_gpa, 16 * num, false) &&
         vmr_gpa_holds(virtio->machine, queue->avail_gpa, 6 + 2 * num, false) &&
         vmr_gpa_holds(virtio->machine, queue->used_gpa, 6 + 8 * num, true);
}

bool vmr_virtq_enable(vmr_virtio *virtio, vmr_virtq *queue) {
  queue->ready = is_shape(queue) && vmr_virtq_locate(virtio, queue);
  queue->last_avail = queue->used_idx = queue->signalled = 0;
  return queue->ready;
}

void vmr_virtq_reset(vmr_virtq *queue) { *queue = (vmr_virtq){.num = VMR_VIRTQ_SIZE}; }

uint32_t vmr_virtq_waiting(vmr_virtio *virtio, vmr_virtq *queue) {
  if (!usable(virtio, queue)) return 0;
  uint16_t waiting = (uint16_t)(load(queue->avail + 2) - queue->last_avail);
  if (waiting <= queue->num) return waiting;
  vmr_virtio_break(virtio, "available index runs ahead of the queue");
  return 0;
}

/* Where a chain's descriptors are read from: the queue's own table, or an indirect one. */
typedef struct table {
  const uint8_t *base;
  uint32_t count;
  bool indirect;
} table;

static descriptor fetch(const table *table, uint32_t index) {
  descriptor desc;
  memcpy(&desc, table->base + 16 * (size_t)index, sizeof desc);
  __asm__ volatile("" ::: "memory"); /* no second look at what the guest may change */
  return desc;
}

static void *buffer_at(vmr_virtio *virtio, uint64_t gpa, uint64_t size, bool writable) {
  return writable ? vmr_gpa_ptr_for_write(virtio->machine, gpa, size) : (void *)vmr_gpa_ptr(virtio->machine, gpa, size);
}

/* Add one buffer to the chain; NULL, or what is wrong with it. */
static const char *add_buffer(vmr_virtio *virtio, vmr_chain *chain, const descriptor *desc) {
  bool writable = desc->flags & DESC_WRITE;
  if (!writable && chain->writable) return "readable buffer after a writable one";
  if (!desc->size) return NULL;
  void *hva = buffer_at(virtio, desc->gpa, desc->size, writable);
  if (!hva) return "buffer outside RAM";
  uint32_t at = chain->readable + chain->writable;
  if (at == VMR_VIRTQ_SIZE) return "chain longer than the queue";
  chain->iov[at] = (struct iovec){hva, desc->size};
  chain->gpa[at] = desc->gpa;
  if (writable) chain->writable++, chain->writable_bytes += desc->size;
  else chain->readable++, chain->readable_bytes += desc->size;
  return NULL;
}

static const char *enter_indirect(vmr_virtio *virtio, const descriptor *desc, table *table) {
  if (!vmr_virtio_accepted(virtio, VMR_VIRTIO_F_INDIRECT_DESC)) return "indirect table that was not negotiated";
  if (table->indirect) return "indirect table in an indirect table";
  if (desc->flags & DESC_NEXT) return "indirect descriptor with a next one";
  if (!desc->size || desc->size % 16) return "indirect table of a broken size";
  table->base = vmr_gpa_ptr(virtio->machine, desc->gpa, desc->size);
  table->count = desc->size / 16;
  table->indirect = true;
  return table->base ? NULL : "indirect table outside RAM";
}

static const char *walk(vmr_virtio *virtio, const vmr_virtq *queue, vmr_chain *chain) {
  table table = {queue->desc, queue->num, false};
  uint32_t index = chain->head;
  if (index >= queue->num) return "head beyond the descriptor table";
  for (uint32_t seen = 0; seen <= VMR_VIRTQ_SIZE; seen++) { /* a loop ends here */
    descriptor desc = fetch(&table, index);
    const char *wrong;
    if (desc.flags & DESC_INDIRECT) {
      wrong = enter_indirect(virtio, &desc, &table);
      index = 0;
    } else {
      wrong = add_buffer(virtio, chain, &desc);
      if (!wrong && !(desc.flags & DESC_NEXT)) return NULL;
      index = desc.next;
      if (!wrong && index >= table.count) wrong = "next descriptor beyond the table";
    }
    if (wrong) return wrong;
  }
  return "chain longer than the queue";
}

static const char *describe(vmr_virtio *virtio, const vmr_virtq *queue, uint16_t head, vmr_chain *chain) {
  chain->head = head;
  chain->readable = chain->writable = 0;
  chain->readable_bytes = chain->writable_bytes = 0;
  chain->generation = queue->generation;
  return walk(virtio, queue, chain);
}

const char *vmr_virtq_again(vmr_virtio *virtio, const vmr_virtq *queue, uint16_t head, vmr_chain *chain) {
  vmr_virtq rings = *queue;
  return vmr_virtq_locate(virtio, &rings) ? describe(virtio, &rings, head, chain) : "rings that are not in RAM";
}

bool vmr_virtq_pop(vmr_virtio *virtio, vmr_virtq *queue, vmr_chain *chain) {
  if (!vmr_virtq_waiting(virtio, queue)) return false;
  const char *wrong = describe(virtio, queue, load(avail_entry(queue, queue->last_avail++)), chain);
  if (wrong) vmr_virtio_break(virtio, wrong);
  return !wrong;
}

bool vmr_chain_renew(vmr_virtio *virtio, vmr_chain *chain) {
  uint64_t generation = vmr_memory_generation(virtio->machine);
  if (chain->generation == generation) return true;
  for (uint32_t i = 0; i < chain->readable + chain->writable; i++) {
    struct iovec *iov = &chain->iov[i];
    iov->iov_base = buffer_at(virtio, chain->gpa[i], iov->iov_len, i >= chain->readable);
    if (iov->iov_base) continue;
    vmr_virtio_break(virtio, "buffer that is no longer in RAM");
    return false;
  }
  chain->generation = generation;
  return true;
}

void vmr_chain_mark(vmr_virtio *virtio, const vmr_chain *chain) {
  for (uint32_t i = chain->readable; i < chain->readable + chain->writable; i++)
    vmr_mark_dirty(virtio->machine, chain->iov[i].iov_base, chain->iov[i].iov_len);
}

void vmr_virtq_push(vmr_virtio *virtio, vmr_virtq *queue, const vmr_chain *chain, uint64_t written) {
  vmr_chain_mark(virtio, chain); /* whether or not it can be handed back */
  if (!usable(virtio, queue)) return;
  uint32_t entry[2] = {chain->head, written > UINT32_MAX ? UINT32_MAX : (uint32_t)written};
  uint8_t *at = used_entry(queue, queue->used_idx);
  memcpy(at, entry, sizeof entry);
  store(queue->used + 2, ++queue->used_idx); /* release: the entry, and the data, are there before the index */
  vmr_mark_dirty(virtio->machine, at, sizeof entry);
  vmr_mark_dirty(virtio->machine, queue->used + 2, 2);
}

void vmr_virtq_signal(vmr_virtio *virtio, vmr_virtq *queue) {
  if (!usable(virtio, queue)) return;
  uint16_t before = queue->signalled, now = queue->used_idx;
  if (before == now) return;
  queue->signalled = now;
  atomic_thread_fence(memory_order_seq_cst); /* the index is out before we ask whether the driver waits (2.7.7.2, 2.7.8.2) */
  bool wanted;
  if (vmr_virtio_accepted(virtio, VMR_VIRTIO_F_EVENT_IDX))
    wanted = (uint16_t)(now - load(used_event(queue)) - 1) < (uint16_t)(now - before);
  else
    wanted = !(load(queue->avail) & AVAIL_NO_INTERRUPT);
  if (wanted) vmr_virtio_interrupt(virtio, VMR_VIRTIO_INT_VRING);
}

bool vmr_virtq_arm(vmr_virtio *virtio, vmr_virtq *queue) {
  if (!usable(virtio, queue)) return false;
  if (vmr_virtio_accepted(virtio, VMR_VIRTIO_F_EVENT_IDX)) {
    store(avail_event(queue), queue->last_avail);
    vmr_mark_dirty(virtio->machine, avail_event(queue), 2);
  }
  atomic_thread_fence(memory_order_seq_cst); /* the wish is out before the last look */
  return vmr_virtq_waiting(virtio, queue) != 0;
}
