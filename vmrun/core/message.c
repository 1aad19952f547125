/* A device's table of message-signalled interrupts. */
#include <errno.h>
#include <stdlib.h>

#include "core.h"

#define MESSAGES_MAX 2048 /* of one function's MSI-X table */

struct vmr_messages {
  pthread_mutex_t lock;
  vmr_msi to;
  uint32_t count;
  bool held;
  vmr_message table[];
};

static void messages_free(void *opaque) {
  vmr_messages *messages = opaque;
  pthread_mutex_destroy(&messages->lock);
  free(messages);
}

static const char *state_lock(void *object) {
  pthread_mutex_lock(&((vmr_messages *)object)->lock);
  return NULL;
}

static void state_unlock(void *object) { pthread_mutex_unlock(&((vmr_messages *)object)->lock); }

static const char *state_check(void *object) {
  const vmr_messages *messages = object;
  for (uint32_t i = 0; i < messages->count; i++)
    if (messages->table[i].pending && !messages->table[i].masked && !messages->held) return "a message waits for nothing";
  return NULL;
}

static void state_loaded(void *object) { (void)object; }

static const vmr_field table_fields[] = {VMR_FIELD(vmr_messages, held, 1)};
static const vmr_field message_fields[] = {
    VMR_FIELD(vmr_message, address, VMR_ANY), VMR_FIELD(vmr_message, data, VMR_ANY), VMR_FIELD(vmr_message, masked, 1),
    VMR_FIELD(vmr_message, pending, 1)};
static const vmr_state_ops state_ops = {"messages", 1, state_lock, state_unlock, state_check, state_loaded};

static int declare_state(vmr_machine *machine, vmr_messages *messages) {
  vmr_part *parts = calloc(messages->count + 1, sizeof *parts);
  if (!parts) return vmr_fail(machine, ENOMEM, "out of memory");
  parts[0] = (vmr_part){NULL, -1, messages, VMR_FIELDS(table_fields)};
  for (uint32_t i = 0; i < messages->count; i++)
    parts[i + 1] = (vmr_part){"message", (int)i, &messages->table[i], VMR_FIELDS(message_fields)};
  int rc = vmr_state_add(machine, &state_ops, messages, parts, messages->count + 1);
  free(parts);
  return rc;
}

int vmr_messages_new(vmr_machine *machine, uint32_t count, vmr_msi to, vmr_messages **out) {
  *out = NULL;
  if (!count || count > MESSAGES_MAX) return vmr_fail(machine, EINVAL, "1 to %d messages", MESSAGES_MAX);
  vmr_messages *messages = calloc(1, sizeof *messages + count * sizeof messages->table[0]);
  if (!messages) return vmr_fail(machine, ENOMEM, "out of memory");
  messages->to = to;
  messages->count = count;
  for (uint32_t i = 0; i < count; i++) messages->table[i].masked = 1;
  pthread_mutex_init(&messages->lock, NULL);
  int rc = vmr_on_free(machine, messages_free, messages);
  if (rc) {
    messages_free(messages);
    return rc;
  }
  rc = declare_state(machine, messages);
  if (!rc) *out = messages;
  return rc;
}

/* With the lock: what is pending leaves where nothing masks it. */
static void settle(vmr_messages *messages, vmr_message *message) {
  if (!message->pending || message->masked || messages->held) return;
  message->pending = 0;
  vmr_msi_send(messages->to, message->address, message->data); /* to nowhere: as a store that nobody takes */
}

int vmr_messages_get(vmr_messages *messages, uint32_t index, vmr_message *message) {
  if (index >= messages->count) return -EINVAL;
  pthread_mutex_lock(&messages->lock);
  *message = messages->table[index];
  pthread_mutex_unlock(&messages->lock);
  return 0;
}

int vmr_messages_put(vmr_messages *messages, uint32_t index, uint64_t address, uint32_t data) {
  if (index >= messages->count) return -EINVAL;
  pthread_mutex_lock(&messages->lock);
  messages->table[index].address = address;
  messages->table[index].data = data;
  pthread_mutex_unlock(&messages->lock);
  return 0;
}

int vmr_messages_mask(vmr_messages *messages, uint32_t index, int masked) {
  if (index >= messages->count) return -EINVAL;
  pthread_mutex_lock(&messages->lock);
  messages->table[index].masked = masked != 0;
  settle(messages, &messages->table[index]);
  pthread_mutex_unlock(&messages->lock);
  return 0;
}

void vmr_messages_hold(vmr_messages *messages, int held) {
  pthread_mutex_lock(&messages->lock);
  messages->held = held != 0;
  for (uint32_t i = 0; i < messages->count; i++) settle(messages, &messages->table[i]);
  pthread_mutex_unlock(&messages->lock);
}

int vmr_messages_raise(vmr_messages *messages, uint32_t index) {
  if (index >= messages->count) return -EINVAL;
  pthread_mutex_lock(&messages->lock);
  messages->table[index].pending = 1;
  settle(messages, &messages->table[index]);
  pthread_mutex_unlock(&messages->lock);
  return 0;
}
