/* A hart's interrupt file, as the hart itself and the senders of messages use it. Any thread. */
#ifndef VMR_IMSIC_H
#define VMR_IMSIC_H
#include "core.h"
#include "imsic_api.h"

typedef struct vmr_imsic_file vmr_imsic_file;

/* File number `index`, or NULL. It lives as long as the machine. */
vmr_imsic_file *vmr_imsic_file_at(vmr_imsic *imsic, uint32_t index);
/* The pending and enabled identity of highest priority that passes the threshold; 0: none. */
uint32_t vmr_imsic_file_top(vmr_imsic_file *file);
/* The same, and it is no longer pending. */
uint32_t vmr_imsic_file_claim(vmr_imsic_file *file);
/* Write the bits of mask to the register that select chooses and return in old what it held before, in one step.
 * false: there is no such register. */
bool vmr_imsic_file_modify(vmr_imsic_file *file, uint32_t select, uint64_t value, uint64_t mask, uint64_t *old);
#endif
