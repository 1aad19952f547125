/* IMSIC (RISC-V Advanced Interrupt Architecture 1.0, chapter 3): one interrupt file of S-mode a hart. */
#ifndef VMR_IMSIC_API_H
#define VMR_IMSIC_API_H
#include "line_api.h"

#define VMR_IMSIC_PAGE 4096
#define VMR_IMSIC_SETEIPNUM_LE 0     /* in a page */
#define VMR_IMSIC_SETEIPNUM_BE 4

/* Registers that siselect chooses, by its value. */
#define VMR_ISELECT_EIDELIVERY 0x70
#define VMR_ISELECT_EITHRESHOLD 0x72
#define VMR_ISELECT_EIP 0x80         /* 64 identities at each even number */
#define VMR_ISELECT_EIE 0xc0

typedef struct vmr_imsic vmr_imsic;
/* A page for each of `files` interrupt files, 1 to 64; file i drives outputs[i]. identities: 63 to 2047, one less than a
 * multiple of 64. It becomes the place where the machine's messages go. */
int vmr_imsic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t files, uint32_t identities,
                  const vmr_line *outputs, vmr_imsic **imsic);
/* What the hart does through siselect and sireg. -ENOENT: there is no such register. set writes the bits of mask. */
int vmr_imsic_get(vmr_imsic *imsic, uint32_t file, uint32_t select, uint64_t *value);
int vmr_imsic_set(vmr_imsic *imsic, uint32_t file, uint32_t select, uint64_t value, uint64_t mask);
/* The hart's stopei: the identity of highest priority, 0 for none. claim clears its pending bit. -EINVAL: no such file. */
int vmr_imsic_top(vmr_imsic *imsic, uint32_t file);
int vmr_imsic_claim(vmr_imsic *imsic, uint32_t file);
/* The level of a file's interrupt output (0 or 1), or -EINVAL. */
int vmr_imsic_output(vmr_imsic *imsic, uint32_t file);
#endif
