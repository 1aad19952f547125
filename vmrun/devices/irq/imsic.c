/* Incoming MSI controllers of harts: a page and an interrupt file of S-mode each (RISC-V Advanced Interrupt Architecture
 * 1.0, chapter 3). A lock a file keeps its output in step with its bits, whichever thread sends. */
#include <errno.h>
#include <stdlib.h>

#include "imsic.h"

#define NAME "imsic"
#define WORD_BITS 64
#define WORDS 32
#define IDENTITIES_MAX 2047
#define FILES_MAX 64
#define SELECT_FIRST VMR_ISELECT_EIDELIVERY
#define SELECT_LAST 0xff

struct vmr_imsic_file {
  pthread_mutex_t lock;
  vmr_line line;
  uint32_t identities;
  uint32_t delivery, threshold;
  bool output;
  uint64_t pending[WORDS], enabled[WORDS];
};

struct vmr_imsic {
  vmr_machine *machine;
  uint64_t gpa;
  uint32_t count;
  vmr_imsic_file files[FILES_MAX];
};

/* ---- one file, with its lock ------------------------------------------------------------------------------------- */

/* The lower an identity, the higher its priority (section 3.3). */
static uint32_t top(const vmr_imsic_file *file) {
  for (uint32_t word = 0; word <= file->identities / WORD_BITS; word++) {
    uint64_t bits = file->pending[word] & file->enabled[word];
    if (!bits) continue;
    uint32_t identity = word * WORD_BITS + (uint32_t)__builtin_ctzll(bits);
    return !file->threshold || identity < file->threshold ? identity : 0;
  }
  return 0;
}

static void update(vmr_imsic_file *file) {
  bool output = file->delivery && top(file);
  if (output == file->output) return;
  file->output = output;
  vmr_line_set(file->line, output);
}

/* Where a register that select chooses is kept, and which bits of it are there; NULL: it reads 0 and keeps nothing. */
static uint64_t *array_word(vmr_imsic_file *file, uint32_t select, uint64_t *there) {
  uint32_t word = (select & 0x3f) / 2;
  if (word > file->identities / WORD_BITS) return NULL;
  *there = word ? ~0ull : ~1ull; /* identity 0 is none */
  return select < VMR_ISELECT_EIE ? &file->pending[word] : &file->enabled[word];
}

static uint32_t modify_word(uint32_t *word, uint64_t value, uint64_t mask) {
  uint32_t old = *word;
  *word = (uint32_t)((old & ~mask) | (value & mask));
  return old;
}

static uint64_t modify(vmr_imsic_file *file, uint32_t select, uint64_t value, uint64_t mask) {
  if (select == VMR_ISELECT_EIDELIVERY) return modify_word(&file->delivery, value, mask & 1);
  if (select == VMR_ISELECT_EITHRESHOLD) return modify_word(&file->threshold, value, mask & IDENTITIES_MAX);
  uint64_t there = 0, *word = select < VMR_ISELECT_EIP ? NULL : array_word(file, select, &there);
  if (!word) return 0;
  uint64_t old = *word;
  *word = (old & ~(mask & there)) | (value & mask & there);
  return old;
}

/* ---- what harts and senders do ----------------------------------------------------------------------------------- */

/* Make an identity pending. One that the file does not have is ignored (section 3.5). */
static void send(vmr_imsic_file *file, uint32_t identity) {
  if (!identity || identity > file->identities) return;
  pthread_mutex_lock(&file->lock);
  file->pending[identity / WORD_BITS] |= 1ull << identity % WORD_BITS;
  update(file);
  pthread_mutex_unlock(&file->lock);
}

vmr_imsic_file *vmr_imsic_file_at(vmr_imsic *imsic, uint32_t index) {
  return index < imsic->count ? &imsic->files[index] : NULL;
}

uint32_t vmr_imsic_file_top(vmr_imsic_file *file) {
  pthread_mutex_lock(&file->lock);
  uint32_t identity = top(file);
  pthread_mutex_unlock(&file->lock);
  return identity;
}

uint32_t vmr_imsic_file_claim(vmr_imsic_file *file) {
  pthread_mutex_lock(&file->lock);
  uint32_t identity = top(file);
  if (identity) {
    file->pending[identity / WORD_BITS] &= ~(1ull << identity % WORD_BITS);
    update(file);
  }
  pthread_mutex_unlock(&file->lock);
  return identity;
}

bool vmr_imsic_file_modify(vmr_imsic_file *file, uint32_t select, uint64_t value, uint64_t mask, uint64_t *old) {
  if (select < SELECT_FIRST || select > SELECT_LAST) return false;
  if (select >= VMR_ISELECT_EIP && select & 1) return false; /* the arrays' odd registers are those of 32-bit harts */
  pthread_mutex_lock(&file->lock);
  *old = modify(file, select, value, mask);
  update(file);
  pthread_mutex_unlock(&file->lock);
  return true;
}

/* ---- the pages --------------------------------------------------------------------------------------------------- */

static uint64_t imsic_read(void *device, uint64_t offset, uint32_t size) {
  (void)device, (void)offset, (void)size;
  return 0; /* in all cases (section 3.5) */
}

/* A store of 32 bits; false: no register takes it. */
static bool store(vmr_imsic *imsic, uint64_t offset, uint32_t value) {
  uint64_t file = offset / VMR_IMSIC_PAGE, reg = offset % VMR_IMSIC_PAGE;
  if (file >= imsic->count || (reg != VMR_IMSIC_SETEIPNUM_LE && reg != VMR_IMSIC_SETEIPNUM_BE)) return false;
  send(&imsic->files[file], reg == VMR_IMSIC_SETEIPNUM_BE ? __builtin_bswap32(value) : value);
  return true;
}

static void imsic_write(void *device, uint64_t offset, uint32_t size, uint64_t value) {
  vmr_imsic *imsic = device;
  (void)size;
  if (!store(imsic, offset, (uint32_t)value)) vmr_guest_did_wrong(imsic->machine, NAME, "write of a reserved offset");
}

static int message(void *chip, uint64_t address, uint32_t data) {
  vmr_imsic *imsic = chip;
  return address >= imsic->gpa && store(imsic, address - imsic->gpa, data) ? 0 : -EINVAL;
}

static const vmr_bus_ops bus_ops = {.read = imsic_read, .write = imsic_write, .min_width = 4, .max_width = 4};
static const vmr_msi_ops msi_ops = {.send = message};

/* ---- state ------------------------------------------------------------------------------------------------------- */

static const char *state_lock(void *object) {
  vmr_imsic *imsic = object;
  for (uint32_t i = 0; i < imsic->count; i++) pthread_mutex_lock(&imsic->files[i].lock);
  return NULL;
}

static void state_unlock(void *object) {
  vmr_imsic *imsic = object;
  for (uint32_t i = imsic->count; i-- > 0;) pthread_mutex_unlock(&imsic->files[i].lock);
}

static const char *state_check(void *object) {
  const vmr_imsic *imsic = object;
  for (uint32_t i = 0; i < imsic->count; i++) {
    const vmr_imsic_file *file = &imsic->files[i];
    uint64_t beyond = (file->pending[0] | file->enabled[0]) & 1;
    for (uint32_t word = file->identities / WORD_BITS + 1; word < WORDS; word++)
      beyond |= file->pending[word] | file->enabled[word];
    if (beyond) return "an identity that is not there";
  }
  return NULL;
}

static void state_loaded(void *object) {
  vmr_imsic *imsic = object;
  for (uint32_t i = 0; i < imsic->count; i++) update(&imsic->files[i]);
}

static const vmr_field fields[] = {
    VMR_FIELD(vmr_imsic_file, delivery, 1), VMR_FIELD(vmr_imsic_file, threshold, IDENTITIES_MAX),
    VMR_ARRAY(vmr_imsic_file, pending, VMR_ANY), VMR_ARRAY(vmr_imsic_file, enabled, VMR_ANY)};
static const vmr_state_ops state_ops = {NAME, 1, state_lock, state_unlock, state_check, state_loaded};

static int declare_state(vmr_machine *machine, vmr_imsic *imsic) {
  vmr_part parts[FILES_MAX];
  for (uint32_t i = 0; i < imsic->count; i++)
    parts[i] = (vmr_part){"file", (int)i, &imsic->files[i], VMR_FIELDS(fields)};
  return vmr_state_add(machine, &state_ops, imsic, parts, imsic->count);
}

/* ---- its life ---------------------------------------------------------------------------------------------------- */

static void imsic_free(void *device) {
  vmr_imsic *imsic = device;
  for (uint32_t i = 0; i < FILES_MAX; i++) pthread_mutex_destroy(&imsic->files[i].lock);
  free(imsic);
}

int vmr_imsic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t files, uint32_t identities,
                  const vmr_line *outputs, vmr_imsic **out) {
  *out = NULL;
  if (!files || files > FILES_MAX) return vmr_fail(machine, EINVAL, NAME ": 1 to %d interrupt files", FILES_MAX);
  if (!identities || identities > IDENTITIES_MAX || (identities + 1) % WORD_BITS)
    return vmr_fail(machine, EINVAL, NAME ": 63 to %d identities, one less than a multiple of 64", IDENTITIES_MAX);
  if (size < (uint64_t)files * VMR_IMSIC_PAGE)
    return vmr_fail(machine, EINVAL, NAME ": the window is too small for %u interrupt files", files);
  vmr_imsic *imsic = calloc(1, sizeof *imsic);
  if (!imsic) return vmr_fail(machine, ENOMEM, "out of memory");
  imsic->machine = machine;
  imsic->gpa = gpa;
  imsic->count = files;
  for (uint32_t i = 0; i < files; i++) {
    imsic->files[i].identities = identities;
    imsic->files[i].line = outputs[i];
  }
  for (uint32_t i = 0; i < FILES_MAX; i++) pthread_mutex_init(&imsic->files[i].lock, NULL);
  int rc = vmr_on_free(machine, imsic_free, imsic);
  if (rc) {
    imsic_free(imsic);
    return rc;
  }
  rc = declare_state(machine, imsic);
  if (!rc) rc = vmr_msi_register(machine, (vmr_msi){&msi_ops, imsic, gpa});
  if (!rc) rc = vmr_bus_add(machine, gpa, size, &bus_ops, imsic);
  if (!rc) *out = imsic;
  return rc;
}

/* ---- for those who look on --------------------------------------------------------------------------------------- */

int vmr_imsic_get(vmr_imsic *imsic, uint32_t file, uint32_t select, uint64_t *value) {
  if (file >= imsic->count) return -EINVAL;
  return vmr_imsic_file_modify(&imsic->files[file], select, 0, 0, value) ? 0 : -ENOENT;
}

int vmr_imsic_set(vmr_imsic *imsic, uint32_t file, uint32_t select, uint64_t value, uint64_t mask) {
  uint64_t old;
  if (file >= imsic->count) return -EINVAL;
  return vmr_imsic_file_modify(&imsic->files[file], select, value, mask, &old) ? 0 : -ENOENT;
}

int vmr_imsic_top(vmr_imsic *imsic, uint32_t file) {
  return file < imsic->count ? (int)vmr_imsic_file_top(&imsic->files[file]) : -EINVAL;
}

int vmr_imsic_claim(vmr_imsic *imsic, uint32_t file) {
  return file < imsic->count ? (int)vmr_imsic_file_claim(&imsic->files[file]) : -EINVAL;
}

int vmr_imsic_output(vmr_imsic *imsic, uint32_t file) {
  if (file >= imsic->count) return -EINVAL;
  pthread_mutex_lock(&imsic->files[file].lock);
  int level = imsic->files[file].output;
  pthread_mutex_unlock(&imsic->files[file].lock);
  return level;
}
