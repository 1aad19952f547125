/* Saving and loading by the tables that objects declare (state_api.h has the form of the bytes). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

#define NAME_BYTES 96

struct vmr_state {
  vmr_state *next;
  const vmr_state_ops *ops;
  void *object;
  size_t count;
  vmr_part parts[];
};

int vmr_state_add(vmr_machine *machine, const vmr_state_ops *ops, void *object, const vmr_part *parts, size_t count) {
  vmr_state *state = calloc(1, sizeof *state + count * sizeof *parts);
  if (!state) return vmr_fail(machine, ENOMEM, "out of memory");
  *state = (vmr_state){machine->states, ops, object, count};
  memcpy(state->parts, parts, count * sizeof *parts);
  machine->states = state;
  return 0;
}

void vmr_state_fini(vmr_machine *machine) {
  while (machine->states) {
    vmr_state *state = machine->states;
    machine->states = state->next;
    free(state);
  }
}

static const vmr_state *find(const vmr_machine *machine, const void *object) {
  const vmr_state *state = machine->states;
  while (state && state->object != object) state = state->next;
  return state;
}

static void name_of(const vmr_part *part, const vmr_field *field, char name[NAME_BYTES]) {
  if (!part->name) snprintf(name, NAME_BYTES, "%s", field->name);
  else if (part->index < 0) snprintf(name, NAME_BYTES, "%s.%s", part->name, field->name);
  else snprintf(name, NAME_BYTES, "%s[%d].%s", part->name, part->index, field->name);
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

typedef struct sink {
  uint8_t *bytes;
  uint64_t capacity, size;
} sink;

static void put(sink *to, const void *data, size_t size) {
  if (to->size + size <= to->capacity) memcpy(to->bytes + to->size, data, size);
  to->size += size;
}

static void put_text(sink *to, const char *text) {
  uint8_t length = (uint8_t)strlen(text);
  put(to, &length, 1);
  put(to, text, length);
}

/* With the object's lock. */
static void write_fields(const vmr_state *state, sink *to) {
  uint32_t magic = VMR_STATE_MAGIC, count = 0;
  for (size_t i = 0; i < state->count; i++) count += (uint32_t)state->parts[i].field_count;
  put(to, &magic, sizeof magic);
  put(to, &state->ops->version, sizeof state->ops->version);
  put_text(to, state->ops->kind);
  put(to, &count, sizeof count);
  for (size_t i = 0; i < state->count; i++) {
    const vmr_part *part = &state->parts[i];
    for (size_t j = 0; j < part->field_count; j++) {
      const vmr_field *field = &part->fields[j];
      char name[NAME_BYTES];
      name_of(part, field, name);
      put_text(to, name);
      put(to, &field->width, 1);
      put(to, &field->count, sizeof field->count);
      put(to, (const uint8_t *)part->base + field->offset, (size_t)field->width * field->count);
    }
  }
}

int64_t vmr_state_save(vmr_machine *machine, void *object, uint8_t *bytes, uint64_t capacity) {
  const vmr_state *state = find(machine, object);
  if (!state) return vmr_fail(machine, ENOENT, "nothing is known of its state");
  sink to = {bytes, capacity, 0};
  const char *why = state->ops->lock(object);
  if (why) return vmr_fail(machine, EBUSY, "%s cannot be saved now: %s", state->ops->kind, why);
  write_fields(state, &to);
  state->ops->unlock(object);
  return (int64_t)to.size;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

typedef struct source {
  const uint8_t *bytes;
  uint64_t left;
} source;

static bool take(source *from, void *data, size_t size) {
  if (from->left < size) return false;
  memcpy(data, from->bytes, size);
  from->bytes += size;
  from->left -= size;
  return true;
}

static bool take_text(source *from, char text[UINT8_MAX + 1]) {
  uint8_t length;
  if (!take(from, &length, 1) || !take(from, text, length)) return false;
  text[length] = 0;
  return strlen(text) == length;
}

typedef struct entry {
  char name[UINT8_MAX + 1];
  uint8_t width;
  uint32_t count;
  const uint8_t *data;
} entry;

static bool take_entry(source *from, entry *found) {
  if (!take_text(from, found->name) || !take(from, &found->width, 1) || !take(from, &found->count, sizeof found->count))
    return false;
  if (found->width != 1 && found->width != 2 && found->width != 4 && found->width != 8) return false;
  uint64_t size = (uint64_t)found->width * found->count;
  if (from->left < size) return false;
  found->data = from->bytes;
  from->bytes += size;
  from->left -= size;
  return true;
}

static uint64_t element(const uint8_t *data, uint8_t width, uint32_t index) {
  uint64_t value = 0;
  memcpy(&value, data + (size_t)width * index, width); /* little-endian, as every host */
  return value;
}

/* Look for a field among all of them, and at its values. */
static int check_field(vmr_machine *machine, const char *kind, source all, const char *name, const vmr_field *field,
                       const uint8_t **data) {
  entry found;
  while (all.left && take_entry(&all, &found)) {
    if (strcmp(found.name, name)) continue;
    if (found.width != field->width || found.count != field->count)
      return vmr_fail(machine, EINVAL, "%s: `%s` has %u elements of %u bytes, and not %u of %u", kind, name, found.count,
                      found.width, field->count, field->width);
    for (uint32_t i = 0; i < found.count; i++) {
      uint64_t value = element(found.data, found.width, i);
      if (value > field->most || value & ~field->bits)
        return vmr_fail(machine, EINVAL, "%s: `%s` cannot be %#llx", kind, name, (unsigned long long)value);
    }
    *data = found.data;
    return 0;
  }
  return vmr_fail(machine, EINVAL, "%s: `%s` is missing", kind, name);
}

/* Go through the fields: look at each, or, once all were looked at, copy them. */
static int read_fields(vmr_machine *machine, const vmr_state *state, source fields, bool copy) {
  for (size_t i = 0; i < state->count; i++) {
    const vmr_part *part = &state->parts[i];
    for (size_t j = 0; j < part->field_count; j++) {
      const vmr_field *field = &part->fields[j];
      const uint8_t *data = NULL;
      char name[NAME_BYTES];
      name_of(part, field, name);
      int rc = check_field(machine, state->ops->kind, fields, name, field, &data);
      if (rc) return rc;
      if (copy) memcpy((uint8_t *)part->base + field->offset, data, (size_t)field->width * field->count);
    }
  }
  return 0;
}

/* The kind and the version, and that there are as many fields as there must be: with each one there, none is beside. */
static int read_head(vmr_machine *machine, const vmr_state *state, source *from) {
  uint32_t magic, version, count, wanted = 0;
  char kind[UINT8_MAX + 1];
  for (size_t i = 0; i < state->count; i++) wanted += (uint32_t)state->parts[i].field_count;
  if (!take(from, &magic, sizeof magic) || magic != VMR_STATE_MAGIC || !take(from, &version, sizeof version) ||
      !take_text(from, kind) || !take(from, &count, sizeof count))
    return vmr_fail(machine, EINVAL, "%s: these bytes are no state", state->ops->kind);
  if (strcmp(kind, state->ops->kind)) return vmr_fail(machine, EINVAL, "%s: this is the state of %s", state->ops->kind, kind);
  if (version != state->ops->version)
    return vmr_fail(machine, EINVAL, "%s: the state has version %u, and %u is known here", kind, version, state->ops->version);
  if (count != wanted) return vmr_fail(machine, EINVAL, "%s: the state has %u fields, and not %u", kind, count, wanted);
  source all = *from;
  entry each;
  for (uint32_t i = 0; i < count; i++)
    if (!take_entry(&all, &each)) return vmr_fail(machine, EINVAL, "%s: the state ends in the midst of it", kind);
  return all.left ? vmr_fail(machine, EINVAL, "%s: %llu bytes follow the state", kind, (unsigned long long)all.left) : 0;
}

/* With the object's lock. What stands there comes back where the new values do not go together. */
static int exchange(vmr_machine *machine, const vmr_state *state, source fields) {
  sink size = {0};
  write_fields(state, &size);
  uint8_t *before = malloc(size.size);
  if (!before) return vmr_fail(machine, ENOMEM, "out of memory");
  sink to = {before, size.size, 0};
  write_fields(state, &to);
  int rc = read_fields(machine, state, fields, true);
  const char *wrong = !rc && state->ops->check ? state->ops->check(state->object) : NULL;
  if (wrong) {
    source back = {before, size.size};
    rc = read_head(machine, state, &back);
    if (!rc) rc = read_fields(machine, state, back, true);
    rc = vmr_fail(machine, EINVAL, "%s: %s", state->ops->kind, wrong);
  }
  if (!rc) state->ops->loaded(state->object);
  free(before);
  return rc;
}

int vmr_state_load(vmr_machine *machine, void *object, const uint8_t *bytes, uint64_t size) {
  const vmr_state *state = find(machine, object);
  if (!state) return vmr_fail(machine, ENOENT, "nothing is known of its state");
  source fields = {bytes, size};
  int rc = read_head(machine, state, &fields);
  if (!rc) rc = read_fields(machine, state, fields, false);
  if (rc) return rc;
  const char *why = state->ops->lock(object);
  if (why) return vmr_fail(machine, EBUSY, "%s cannot be loaded now: %s", state->ops->kind, why);
  vmr_reader reader; /* what is loaded may look at memory */
  vmr_visit(machine, &reader, false);
  rc = exchange(machine, state, fields);
  vmr_visit_end(&reader);
  state->ops->unlock(object);
  return rc;
}
