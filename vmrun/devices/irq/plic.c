/* Platform-level interrupt controller, one S-mode context a hart. Lines are levels: each source's gateway lets one
 * request through, and the next only after its completion (specification 1.0.0, chapters 1.1 and 9). */
#include <errno.h>
#include <stdlib.h>

#include "plic_api.h"
#include "core.h"

#define NAME "plic"
#define WORDS 32
#define SOURCES_MAX 1023
#define CONTEXTS_MAX 64

typedef struct context {
  uint32_t enable[WORDS];
  uint32_t threshold;
  bool output;
  vmr_line line;
} context;

struct vmr_plic {
  vmr_machine *machine;
  pthread_mutex_t lock;
  uint32_t sources, contexts, words;
  uint32_t level[WORDS], pending[WORDS], claimed[WORDS];
  uint8_t priority[SOURCES_MAX + 1];
  context context[CONTEXTS_MAX];
  vmr_eoi *watchers[SOURCES_MAX + 1]; /* of each source's completion; they stand still once the machine has started */
};

static bool bit(const uint32_t *words, uint32_t source) { return words[source / 32] >> source % 32 & 1; }
static void set_bit(uint32_t *words, uint32_t source) { words[source / 32] |= 1u << source % 32; }
static void clear_bit(uint32_t *words, uint32_t source) { words[source / 32] &= ~(1u << source % 32); }

/* The bits of a word that are those of sources: 1 to plic->sources. */
static uint32_t sources_of(const vmr_plic *plic, uint32_t word) {
  uint32_t top = (plic->sources + 1) % 32;
  uint32_t there = word >= plic->words ? 0 : word == plic->words - 1 && top ? (1u << top) - 1 : ~0u;
  return word ? there : there & ~1u;
}

/* The pending, enabled source of highest priority above floor, lowest number first; 0: none. */
static uint32_t best(const vmr_plic *plic, const context *ctx, uint32_t floor) {
  uint32_t found = 0;
  for (uint32_t word = 0; word < plic->words; word++) {
    for (uint32_t bits = plic->pending[word] & ctx->enable[word]; bits; bits &= bits - 1) {
      uint32_t source = word * 32 + (uint32_t)__builtin_ctz(bits);
      if (plic->priority[source] > floor) {
        found = source;
        floor = plic->priority[source];
      }
    }
  }
  return found;
}

static void update(vmr_plic *plic) {
  for (uint32_t i = 0; i < plic->contexts; i++) {
    context *ctx = &plic->context[i];
    bool output = best(plic, ctx, ctx->threshold) != 0;
    if (output == ctx->output) continue;
    ctx->output = output;
    vmr_line_set(ctx->line, output);
  }
}

/* The gateway: a high line becomes one request unless one is pending or being served. */
static void gate(vmr_plic *plic, uint32_t source) {
  if (bit(plic->level, source) && !bit(plic->claimed, source)) set_bit(plic->pending, source);
}

static void source_set(void *chip, uint32_t source, bool level) {
  vmr_plic *plic = chip;
  pthread_mutex_lock(&plic->lock);
  if (level) {
    set_bit(plic->level, source);
    gate(plic, source);
    update(plic);
  } else {
    clear_bit(plic->level, source); /* a request that went through stays */
  }
  pthread_mutex_unlock(&plic->lock);
}

static int source_watch(void *chip, uint32_t source, vmr_eoi *eoi) {
  vmr_plic *plic = chip;
  eoi->next = plic->watchers[source];
  plic->watchers[source] = eoi;
  return 0;
}

static const vmr_line_ops line_ops = {.set = source_set, .watch = source_watch};

static int plic_line(void *chip, uint32_t source, vmr_line *line) {
  const vmr_plic *plic = chip;
  if (!source || source > plic->sources) return -EINVAL;
  *line = (vmr_line){&line_ops, chip, source};
  return 0;
}

static const vmr_irqchip_ops chip_ops = {.line = plic_line};

static uint32_t claim(vmr_plic *plic, context *ctx) {
  uint32_t source = best(plic, ctx, 0); /* the threshold masks the notification, not the claim (section 8) */
  if (!source) return 0;
  clear_bit(plic->pending, source);
  set_bit(plic->claimed, source);
  update(plic);
  return source;
}

/* Returns whom to tell of it. */
static vmr_eoi *complete(vmr_plic *plic, const context *ctx, uint64_t source) {
  if (!source || source > plic->sources || !bit(ctx->enable, (uint32_t)source)) {
    vmr_guest_did_wrong(plic->machine, NAME, "completion of a source that the context has not enabled");
    return NULL;
  }
  clear_bit(plic->claimed, (uint32_t)source);
  gate(plic, (uint32_t)source);
  update(plic);
  return plic->watchers[source];
}

/* Which enable word an offset names; false where there is none. */
static bool enable_word(const vmr_plic *plic, uint64_t offset, uint32_t *index, uint32_t *word) {
  *index = (uint32_t)((offset - VMR_PLIC_ENABLE) / VMR_PLIC_ENABLE_STRIDE);
  *word = (uint32_t)((offset - VMR_PLIC_ENABLE) % VMR_PLIC_ENABLE_STRIDE / 4);
  return *index < plic->contexts && *word < plic->words;
}

static uint32_t read_register(vmr_plic *plic, uint64_t offset) {
  uint32_t index, word;
  if (offset < VMR_PLIC_PENDING) {
    if (offset / 4 <= plic->sources) return plic->priority[offset / 4];
  } else if (offset < VMR_PLIC_ENABLE) {
    if ((offset - VMR_PLIC_PENDING) / 4 < plic->words) return plic->pending[(offset - VMR_PLIC_PENDING) / 4];
  } else if (offset < VMR_PLIC_CONTEXT) {
    if (enable_word(plic, offset, &index, &word)) return plic->context[index].enable[word];
  } else if ((offset - VMR_PLIC_CONTEXT) / VMR_PLIC_CONTEXT_STRIDE < plic->contexts) {
    context *ctx = &plic->context[(offset - VMR_PLIC_CONTEXT) / VMR_PLIC_CONTEXT_STRIDE];
    if (offset % VMR_PLIC_CONTEXT_STRIDE == VMR_PLIC_THRESHOLD) return ctx->threshold;
    if (offset % VMR_PLIC_CONTEXT_STRIDE == VMR_PLIC_CLAIM) return claim(plic, ctx);
  }
  vmr_guest_did_wrong(plic->machine, NAME, "read of a reserved offset");
  return 0;
}

/* Returns whom to tell that an interrupt has ended. */
static vmr_eoi *write_register(vmr_plic *plic, uint64_t offset, uint32_t value) {
  uint32_t index, word;
  if (offset < VMR_PLIC_PENDING && offset / 4 <= plic->sources && offset) {
    plic->priority[offset / 4] = value & VMR_PLIC_PRIORITY_MAX; /* WARL */
    update(plic);
    return NULL;
  }
  if (offset >= VMR_PLIC_ENABLE && offset < VMR_PLIC_CONTEXT && enable_word(plic, offset, &index, &word)) {
    plic->context[index].enable[word] = value & sources_of(plic, word);
    update(plic);
    return NULL;
  }
  if (offset >= VMR_PLIC_CONTEXT && (offset - VMR_PLIC_CONTEXT) / VMR_PLIC_CONTEXT_STRIDE < plic->contexts) {
    context *ctx = &plic->context[(offset - VMR_PLIC_CONTEXT) / VMR_PLIC_CONTEXT_STRIDE];
    if (offset % VMR_PLIC_CONTEXT_STRIDE == VMR_PLIC_THRESHOLD) {
      ctx->threshold = value & VMR_PLIC_PRIORITY_MAX;
      update(plic);
      return NULL;
    }
    if (offset % VMR_PLIC_CONTEXT_STRIDE == VMR_PLIC_CLAIM) return complete(plic, ctx, value);
  }
  vmr_guest_did_wrong(plic->machine, NAME, "write of a reserved or read-only offset");
  return NULL;
}

static uint64_t plic_read(void *device, uint64_t offset, uint32_t size) {
  vmr_plic *plic = device;
  (void)size;
  pthread_mutex_lock(&plic->lock);
  uint32_t value = read_register(plic, offset);
  pthread_mutex_unlock(&plic->lock);
  return value;
}

static void plic_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  vmr_plic *plic = device;
  (void)size;
  pthread_mutex_lock(&plic->lock);
  vmr_eoi *ended = write_register(plic, offset, (uint32_t)value);
  pthread_mutex_unlock(&plic->lock);
  vmr_eoi_tell(ended);
}

static const vmr_bus_ops bus_ops = {.read = plic_read, .write = plic_write, .min_width = 4, .max_width = 4};

/* ---- state ------------------------------------------------------------------------------------------------------- */

static const char *state_lock(void *object) {
  pthread_mutex_lock(&((vmr_plic *)object)->lock);
  return NULL;
}

static void state_unlock(void *object) { pthread_mutex_unlock(&((vmr_plic *)object)->lock); }

static bool within(const vmr_plic *plic, const uint32_t *words) {
  for (uint32_t word = 0; word < WORDS; word++) {
    if (words[word] & ~sources_of(plic, word)) return false;
  }
  return true;
}

static const char *state_check(void *object) {
  const vmr_plic *plic = object;
  bool right = within(plic, plic->level) && within(plic, plic->pending) && within(plic, plic->claimed);
  for (uint32_t i = 0; i < plic->contexts; i++) right &= within(plic, plic->context[i].enable);
  return right ? NULL : "a source that is not there";
}

static void state_loaded(void *object) { update(object); }

static const vmr_field fields[] = {VMR_ARRAY(vmr_plic, level, VMR_ANY), VMR_ARRAY(vmr_plic, pending, VMR_ANY),
                                   VMR_ARRAY(vmr_plic, claimed, VMR_ANY),
                                   VMR_ARRAY(vmr_plic, priority, VMR_PLIC_PRIORITY_MAX)};
static const vmr_field context_fields[] = {VMR_ARRAY(context, enable, VMR_ANY),
                                           VMR_FIELD(context, threshold, VMR_PLIC_PRIORITY_MAX)};
static const vmr_state_ops state_ops = {NAME, 1, state_lock, state_unlock, state_check, state_loaded};

static int declare_state(vmr_machine *machine, vmr_plic *plic) {
  vmr_part parts[CONTEXTS_MAX + 1] = {{NULL, -1, plic, VMR_FIELDS(fields)}};
  for (uint32_t i = 0; i < plic->contexts; i++)
    parts[i + 1] = (vmr_part){"context", (int)i, &plic->context[i], VMR_FIELDS(context_fields)};
  return vmr_state_add(machine, &state_ops, plic, parts, plic->contexts + 1);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void plic_free(void *device) {
  vmr_plic *plic = device;
  pthread_mutex_destroy(&plic->lock);
  free(plic);
}

int vmr_plic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t sources, uint32_t contexts,
                 const vmr_line *outputs, vmr_plic **out) {
  *out = NULL;
  if (!sources || sources > SOURCES_MAX || !contexts || contexts > CONTEXTS_MAX)
    return vmr_fail(machine, EINVAL, NAME ": 1 to %d sources and 1 to %d contexts", SOURCES_MAX, CONTEXTS_MAX);
  if (size < VMR_PLIC_CONTEXT + (uint64_t)contexts * VMR_PLIC_CONTEXT_STRIDE)
    return vmr_fail(machine, EINVAL, NAME ": the window is too small for %u contexts", contexts);
  vmr_plic *plic = calloc(1, sizeof *plic);
  if (!plic) return vmr_fail(machine, ENOMEM, "out of memory");
  plic->machine = machine;
  plic->sources = sources;
  plic->contexts = contexts;
  plic->words = sources / 32 + 1;
  for (uint32_t i = 0; i < contexts; i++) plic->context[i].line = outputs[i];
  pthread_mutex_init(&plic->lock, NULL);
  int rc = vmr_on_free(machine, plic_free, plic);
  if (rc) {
    plic_free(plic);
    return rc;
  }
  rc = declare_state(machine, plic);
  if (!rc) rc = vmr_irqchip_register(machine, &chip_ops, plic);
  if (!rc) rc = vmr_bus_add(machine, gpa, size, &bus_ops, plic);
  if (!rc) *out = plic;
  return rc;
}

int vmr_plic_get_source(vmr_plic *plic, uint32_t source, vmr_plic_source *state) {
  if (!source || source > plic->sources) return -EINVAL;
  pthread_mutex_lock(&plic->lock);
  *state = (vmr_plic_source){bit(plic->level, source), bit(plic->pending, source), bit(plic->claimed, source)};
  pthread_mutex_unlock(&plic->lock);
  return 0;
}

int vmr_plic_output(vmr_plic *plic, uint32_t context) {
  if (context >= plic->contexts) return -EINVAL;
  pthread_mutex_lock(&plic->lock);
  int level = plic->context[context].output;
  pthread_mutex_unlock(&plic->lock);
  return level;
}
