/* Advanced platform-level interrupt controller: one domain of S-mode that turns wired interrupts into messages (RISC-V
 * Advanced Interrupt Architecture 1.0, chapter 4). It is the controller that KVM has in the kernel: little-endian, delivery
 * by MSI alone, so there are no delivery structures behind the registers; the addresses of messages are wired in. */
#include <errno.h>
#include <stdlib.h>

#include "aplic_api.h"
#include "core.h"

#define NAME "aplic"
#define WORDS 32
#define SOURCES_MAX 1023
#define REGISTER_BYTES 0x4000
#define ARRAY_BYTES (4 * WORDS)
#define DOMAINCFG_FIXED 0x80000000u /* tells the byte order (section 4.5.1) */
#define HART_SHIFT 18

struct vmr_aplic {
  vmr_machine *machine;
  vmr_msi messages;
  pthread_mutex_t lock;
  uint32_t sources, words;
  bool enabled_domain; /* domaincfg.IE */
  uint32_t genmsi;
  uint32_t level[WORDS], pending[WORDS], enabled[WORDS];
  uint8_t mode[SOURCES_MAX + 1];
  uint32_t target[SOURCES_MAX + 1];
  vmr_eoi *watchers[SOURCES_MAX + 1]; /* they stand still once the machine has started */
};

static bool bit(const uint32_t *words, uint32_t source) { return words[source / 32] >> source % 32 & 1; }
static void put_bit(uint32_t *words, uint32_t source, bool value) {
  words[source / 32] = (words[source / 32] & ~(1u << source % 32)) | (uint32_t)value << source % 32;
}

static bool is_active(const vmr_aplic *aplic, uint32_t source) {
  return source && source <= aplic->sources && aplic->mode[source] != VMR_APLIC_SM_INACTIVE;
}

static bool by_level(const vmr_aplic *aplic, uint32_t source) { return aplic->mode[source] >= VMR_APLIC_SM_LEVEL1; }

/* The rectified input: 1 where the wire says "interrupt" (section 4.5.2). */
static bool input(const vmr_aplic *aplic, uint32_t source) {
  uint8_t mode = aplic->mode[source];
  bool inverted = mode == VMR_APLIC_SM_EDGE0 || mode == VMR_APLIC_SM_LEVEL0;
  return mode >= VMR_APLIC_SM_EDGE1 && bit(aplic->level, source) != inverted;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void send(const vmr_aplic *aplic, uint32_t target) {
  uint64_t address = aplic->messages.base + (uint64_t)(target >> HART_SHIFT) * VMR_MSI_STRIDE;
  if (vmr_msi_send(aplic->messages, address, target & VMR_APLIC_TARGET_EIID))
    vmr_guest_did_wrong(aplic->machine, NAME, "message to a hart that is not there");
}

/* A message leaves for every source that is pending and enabled, which then is no longer pending (section 4.9). */
static void forward(vmr_aplic *aplic) {
  if (!aplic->enabled_domain) return;
  for (uint32_t word = 0; word < aplic->words; word++) {
    uint32_t bits = aplic->pending[word] & aplic->enabled[word];
    aplic->pending[word] &= ~bits;
    for (; bits; bits &= bits - 1) send(aplic, aplic->target[word * 32 + (uint32_t)__builtin_ctz(bits)]);
  }
}

/* ---- pending bits (section 4.7) ---------------------------------------------------------------------------------- */

static void source_set(void *chip, uint32_t source, bool level) {
  vmr_aplic *aplic = chip;
  pthread_mutex_lock(&aplic->lock);
  bool before = input(aplic, source);
  put_bit(aplic->level, source, level);
  bool now = input(aplic, source);
  if (now && !before) {
    put_bit(aplic->pending, source, true);
    forward(aplic);
  } else if (!now && by_level(aplic, source)) {
    put_bit(aplic->pending, source, false);
  }
  pthread_mutex_unlock(&aplic->lock);
}

static int source_watch(void *chip, uint32_t source, vmr_eoi *eoi) {
  vmr_aplic *aplic = chip;
  eoi->next = aplic->watchers[source];
  aplic->watchers[source] = eoi;
  return 0;
}

static const vmr_line_ops line_ops = {.set = source_set, .watch = source_watch};

static int aplic_line(void *chip, uint32_t source, vmr_line *line) {
  const vmr_aplic *aplic = chip;
  if (!source || source > aplic->sources) return -EINVAL;
  *line = (vmr_line){&line_ops, chip, source};
  return 0;
}

static const vmr_irqchip_ops chip_ops = {.line = aplic_line};

/* A level that is low cannot be pending, whatever is written. */
static void set_pending(vmr_aplic *aplic, uint32_t source) {
  if (is_active(aplic, source) && (!by_level(aplic, source) || input(aplic, source)))
    put_bit(aplic->pending, source, true);
}

static void clear_pending(vmr_aplic *aplic, uint32_t source) {
  if (is_active(aplic, source)) put_bit(aplic->pending, source, false);
}

static void enable(vmr_aplic *aplic, uint32_t source) {
  if (is_active(aplic, source)) put_bit(aplic->enabled, source, true);
}

static void disable(vmr_aplic *aplic, uint32_t source) {
  if (is_active(aplic, source)) put_bit(aplic->enabled, source, false);
}

static void configure(vmr_aplic *aplic, uint32_t source, uint32_t value) {
  uint8_t mode = value & VMR_APLIC_SOURCECFG_D ? VMR_APLIC_SM_INACTIVE : value & VMR_APLIC_SOURCECFG_SM;
  if (mode > VMR_APLIC_SM_DETACHED && mode < VMR_APLIC_SM_EDGE1) mode = VMR_APLIC_SM_INACTIVE; /* reserved (WARL) */
  aplic->mode[source] = mode;
  if (mode == VMR_APLIC_SM_INACTIVE) {
    put_bit(aplic->pending, source, false);
    put_bit(aplic->enabled, source, false);
    aplic->target[source] = 0;
  } else if (by_level(aplic, source)) {
    put_bit(aplic->pending, source, input(aplic, source)); /* a level that is there already is not lost */
  }
}

/* ---- registers --------------------------------------------------------------------------------------------------- */

typedef void act(vmr_aplic *aplic, uint32_t source);

/* The registers that act on sources: an array with a bit a source, and one that takes a source's number. */
typedef struct family {
  uint32_t array, number;
  act *act;
} family;

static const family families[] = {
    {VMR_APLIC_SETIP, VMR_APLIC_SETIPNUM, set_pending},
    {VMR_APLIC_IN_CLRIP, VMR_APLIC_CLRIPNUM, clear_pending},
    {VMR_APLIC_SETIE, VMR_APLIC_SETIENUM, enable},
    {VMR_APLIC_CLRIE, VMR_APLIC_CLRIENUM, disable},
};
#define FAMILIES (sizeof families / sizeof *families)

/* The source of a register in an array of one a source; 0: there is none. A source that is not implemented has one that
 * is read-only zero. */
static uint32_t source_at(uint64_t offset, uint32_t first) {
  return offset >= first && offset < first + 4 * SOURCES_MAX ? (uint32_t)(offset - first) / 4 + 1 : 0;
}

static uint32_t inputs(const vmr_aplic *aplic, uint32_t word) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < 32; i++)
    if (word * 32 + i <= aplic->sources) found |= (uint32_t)input(aplic, word * 32 + i) << i;
  return found;
}

/* What is reserved reads 0 (section 4.5). */
static uint32_t read_register(const vmr_aplic *aplic, uint64_t offset) {
  uint32_t source;
  if (offset == VMR_APLIC_DOMAINCFG)
    return DOMAINCFG_FIXED | VMR_APLIC_DOMAINCFG_DM | (aplic->enabled_domain ? VMR_APLIC_DOMAINCFG_IE : 0);
  if (offset == VMR_APLIC_GENMSI) return aplic->genmsi; /* never busy: the message has left */
  if ((source = source_at(offset, VMR_APLIC_SOURCECFG))) return aplic->mode[source];
  if ((source = source_at(offset, VMR_APLIC_TARGET))) return aplic->target[source];
  if (offset - VMR_APLIC_SETIP < ARRAY_BYTES) return aplic->pending[(offset - VMR_APLIC_SETIP) / 4];
  if (offset - VMR_APLIC_SETIE < ARRAY_BYTES) return aplic->enabled[(offset - VMR_APLIC_SETIE) / 4];
  if (offset - VMR_APLIC_IN_CLRIP < ARRAY_BYTES) return inputs(aplic, (uint32_t)(offset - VMR_APLIC_IN_CLRIP) / 4);
  return 0;
}

/* true: the offset is one of a register that acts on sources. */
static bool write_family(vmr_aplic *aplic, uint64_t offset, uint32_t value) {
  for (size_t i = 0; i < FAMILIES; i++) {
    const family *f = &families[i];
    if (offset == f->number) {
      f->act(aplic, value);
      return true;
    }
    if (offset - f->array >= ARRAY_BYTES) continue;
    uint32_t first = (uint32_t)(offset - f->array) / 4 * 32;
    for (; value; value &= value - 1) f->act(aplic, first + (uint32_t)__builtin_ctz(value));
    return true;
  }
  return false;
}

static void write_register(vmr_aplic *aplic, uint64_t offset, uint32_t value) {
  uint32_t source;
  if (offset == VMR_APLIC_DOMAINCFG) {
    aplic->enabled_domain = value & VMR_APLIC_DOMAINCFG_IE;
  } else if ((source = source_at(offset, VMR_APLIC_SOURCECFG))) {
    if (source <= aplic->sources) configure(aplic, source, value);
  } else if ((source = source_at(offset, VMR_APLIC_TARGET))) {
    if (is_active(aplic, source)) aplic->target[source] = value & (VMR_APLIC_TARGET_HART | VMR_APLIC_TARGET_EIID);
  } else if (offset == VMR_APLIC_SETIPNUM_LE) {
    set_pending(aplic, value);
  } else if (offset == VMR_APLIC_SETIPNUM_BE) {
    set_pending(aplic, __builtin_bswap32(value));
  } else if (offset == VMR_APLIC_GENMSI) {
    aplic->genmsi = value & (VMR_APLIC_GENMSI_HART | VMR_APLIC_GENMSI_EIID);
    send(aplic, aplic->genmsi); /* whatever IE says (section 4.5.15) */
  } else if (!write_family(aplic, offset, value)) {
    vmr_guest_did_wrong(aplic->machine, NAME, "write of a reserved offset");
  }
  forward(aplic);
}

static uint64_t aplic_read(void *device, uint64_t offset, uint32_t size) {
  vmr_aplic *aplic = device;
  (void)size;
  pthread_mutex_lock(&aplic->lock);
  uint32_t value = read_register(aplic, offset);
  pthread_mutex_unlock(&aplic->lock);
  return value;
}

/* Whom a write tells that an interrupt has ended: a handler of a level source writes its number to setipnum last, so that
 * a level that still stands is sent again (section 4.9.2). */
static vmr_eoi *ended_by(const vmr_aplic *aplic, uint64_t offset, uint32_t value) {
  uint32_t source = offset == VMR_APLIC_SETIPNUM_BE ? __builtin_bswap32(value) : value;
  if (offset != VMR_APLIC_SETIPNUM && offset != VMR_APLIC_SETIPNUM_LE && offset != VMR_APLIC_SETIPNUM_BE) return NULL;
  return is_active(aplic, source) && by_level(aplic, source) ? aplic->watchers[source] : NULL;
}

static void aplic_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  vmr_aplic *aplic = device;
  (void)size;
  pthread_mutex_lock(&aplic->lock);
  write_register(aplic, offset, (uint32_t)value);
  vmr_eoi *ended = ended_by(aplic, offset, (uint32_t)value);
  pthread_mutex_unlock(&aplic->lock);
  vmr_eoi_tell(ended);
}

static const vmr_bus_ops bus_ops = {.read = aplic_read, .write = aplic_write, .min_width = 4, .max_width = 4};

/* ---- state ------------------------------------------------------------------------------------------------------- */

static const char *state_lock(void *object) {
  pthread_mutex_lock(&((vmr_aplic *)object)->lock);
  return NULL;
}

static void state_unlock(void *object) { pthread_mutex_unlock(&((vmr_aplic *)object)->lock); }

/* What can stand in a source's registers: see `configure` and `set_pending`. */
static const char *check_source(const vmr_aplic *aplic, uint32_t source) {
  uint8_t mode = aplic->mode[source];
  bool pending = bit(aplic->pending, source), enabled = bit(aplic->enabled, source);
  if (mode > VMR_APLIC_SM_DETACHED && mode < VMR_APLIC_SM_EDGE1) return "a reserved mode";
  if (!is_active(aplic, source) && (pending || enabled || aplic->target[source])) return "a source that is not active";
  if ((!source || source > aplic->sources) && (mode || bit(aplic->level, source))) return "a source that is not there";
  if (pending && by_level(aplic, source) && !input(aplic, source)) return "a level that is pending and low";
  if (pending && enabled && aplic->enabled_domain) return "an interrupt that was not sent";
  return NULL;
}

static const char *state_check(void *object) {
  const char *wrong = NULL;
  for (uint32_t source = 0; source <= SOURCES_MAX && !wrong; source++) wrong = check_source(object, source);
  return wrong;
}

static void state_loaded(void *object) { (void)object; } /* its messages have left, and are the receivers' state */

static const vmr_field fields[] = {
    VMR_FIELD(vmr_aplic, enabled_domain, 1),  VMR_BITS(vmr_aplic, genmsi, VMR_APLIC_GENMSI_HART | VMR_APLIC_GENMSI_EIID),
    VMR_ARRAY(vmr_aplic, level, VMR_ANY),     VMR_ARRAY(vmr_aplic, pending, VMR_ANY),
    VMR_ARRAY(vmr_aplic, enabled, VMR_ANY),   VMR_ARRAY(vmr_aplic, mode, VMR_APLIC_SM_LEVEL0),
    {"target", offsetof(vmr_aplic, target), sizeof(uint32_t), SOURCES_MAX + 1, VMR_ANY,
     VMR_APLIC_TARGET_HART | VMR_APLIC_TARGET_EIID}};
static const vmr_state_ops state_ops = {NAME, 1, state_lock, state_unlock, state_check, state_loaded};

/* ---- its life ---------------------------------------------------------------------------------------------------- */

static void aplic_free(void *device) {
  vmr_aplic *aplic = device;
  pthread_mutex_destroy(&aplic->lock);
  free(aplic);
}

int vmr_aplic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t sources, vmr_msi messages, vmr_aplic **out) {
  *out = NULL;
  if (!sources || sources > SOURCES_MAX) return vmr_fail(machine, EINVAL, NAME ": 1 to %d sources", SOURCES_MAX);
  if (size < REGISTER_BYTES) return vmr_fail(machine, EINVAL, NAME ": the window is smaller than %d bytes", REGISTER_BYTES);
  vmr_aplic *aplic = calloc(1, sizeof *aplic);
  if (!aplic) return vmr_fail(machine, ENOMEM, "out of memory");
  aplic->machine = machine;
  aplic->messages = messages;
  aplic->sources = sources;
  aplic->words = sources / 32 + 1;
  pthread_mutex_init(&aplic->lock, NULL);
  int rc = vmr_on_free(machine, aplic_free, aplic);
  if (rc) {
    aplic_free(aplic);
    return rc;
  }
  vmr_part part = {NULL, -1, aplic, VMR_FIELDS(fields)};
  rc = vmr_state_add(machine, &state_ops, aplic, &part, 1);
  if (!rc) rc = vmr_irqchip_register(machine, &chip_ops, aplic);
  if (!rc) rc = vmr_bus_add(machine, gpa, size, &bus_ops, aplic);
  if (!rc) *out = aplic;
  return rc;
}
