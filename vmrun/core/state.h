/* How something that lives declares its state: a table of fields, by name. Pointers and caches are no state: `loaded` makes
 * them anew. */
#ifndef VMR_STATE_H
#define VMR_STATE_H
#include <stddef.h>

#include "state_api.h"

typedef struct vmr_field {
  const char *name;
  uint32_t offset;
  uint8_t width;  /* of an element: 1, 2, 4 or 8 bytes */
  uint32_t count; /* of elements */
  uint64_t most;  /* the largest value of an element */
  uint64_t bits;  /* the bits that an element may have */
} vmr_field;

#define VMR_ANY UINT64_MAX
#define VMR_MEMBER(type, member) (((type *)0)->member)
#define VMR_WIDTH(type, member) sizeof VMR_MEMBER(type, member)
/* A number of at most `limit`; one with no bits but `mask`; an array of numbers. */
#define VMR_FIELD(type, member, limit) {#member, offsetof(type, member), VMR_WIDTH(type, member), 1, (limit), VMR_ANY}
#define VMR_BITS(type, member, mask) {#member, offsetof(type, member), VMR_WIDTH(type, member), 1, VMR_ANY, (mask)}
#define VMR_ARRAY(type, member, limit)                                                           \
  {#member, offsetof(type, member), VMR_WIDTH(type, member[0]),                                  \
   VMR_WIDTH(type, member) / VMR_WIDTH(type, member[0]), (limit), VMR_ANY}
#define VMR_FIELDS(table) table, sizeof table / sizeof *table

/* Fields at `base`, which does not move. Their names stand behind the part's: "queue[2].num"; without a name, alone. */
typedef struct vmr_part {
  const char *name; /* a literal, or NULL */
  int index;        /* below 0: the part stands once */
  void *base;
  const vmr_field *fields;
  size_t field_count;
} vmr_part;

typedef struct vmr_state_ops {
  const char *kind;
  uint32_t version;
  /* Hold the object still, with nothing in flight. Returns NULL, or why it cannot be saved now (then without the lock). */
  const char *(*lock)(void *object);
  void (*unlock)(void *object);
  /* With the lock, of fields that were just loaded, each within its bounds: NULL, or what is wrong with them together. It
   * changes nothing. May be NULL. */
  const char *(*check)(void *object);
  /* With the lock: make pointers and caches anew, drive lines, arm timers. */
  void (*loaded)(void *object);
} vmr_state_ops;

/* Declare the state of an object that lives as long as the machine. The parts are copied. */
int vmr_state_add(vmr_machine *machine, const vmr_state_ops *ops, void *object, const vmr_part *parts, size_t count);
#endif
