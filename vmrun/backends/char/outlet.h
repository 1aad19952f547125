/* Where a guest's words leave for the host: bytes wait in a ring until the host takes them, and nobody blocks meanwhile.
 *
 * What is written to one pipe or socket has one outlet, however many devices write to it: so it comes out in the order in
 * which the guest wrote it, whether it wrote to a UART or called its firmware. NULL is an outlet that drops everything. */
#ifndef VMR_OUTLET_H
#define VMR_OUTLET_H
#include "stream.h"

#define VMR_OUTLET_BYTES 8192u
#define VMR_OUTLET_FIFO 16u /* bytes that a driver sends in one go once it is told that there is room */

typedef struct vmr_outlet vmr_outlet;

/* Who wants to know that the host has taken bytes; embedded in a device. */
typedef struct vmr_outlet_user {
  void (*moved)(void *opaque); /* on the I/O thread, with no lock of the outlet's */
  void *opaque;
  struct vmr_outlet_user *next; /* the outlet's */
} vmr_outlet_user;

/* The outlet to fd (-1: NULL), before the machine starts; the machine owns it, and frees it before the devices that were
 * registered earlier. user: may be NULL. 0 or -errno. */
int vmr_outlet_open(vmr_machine *machine, int fd, vmr_outlet_user *user, vmr_outlet **outlet);

/* Any thread, all of them. */

/* A byte to the host, at latest 2 ms of the machine's time later; false where there is no room. */
bool vmr_outlet_put(vmr_outlet *outlet, uint8_t byte);
/* The first of these bytes for which there is room, to the host at once; how many they are. */
uint32_t vmr_outlet_write(vmr_outlet *outlet, const void *bytes, uint64_t size);
/* Bytes that the host has not taken. */
uint32_t vmr_outlet_waiting(const vmr_outlet *outlet);
/* Why the host takes no more, and all is dropped; or 0. */
int vmr_outlet_errno(const vmr_outlet *outlet);

/* Whether a whole FIFO has room, which the next ones that put bytes here will find. */
static inline bool vmr_outlet_ready(const vmr_outlet *outlet) {
  return VMR_OUTLET_BYTES - vmr_outlet_waiting(outlet) >= VMR_OUTLET_FIFO;
}
#endif
