/* PLIC (RISC-V Platform-Level Interrupt Controller Specification 1.0.0, chapter 3). */
#ifndef VMR_PLIC_API_H
#define VMR_PLIC_API_H
#include "line_api.h"

#define VMR_PLIC_PRIORITY 0          /* + 4 * source */
#define VMR_PLIC_PENDING 4096        /* one bit a source */
#define VMR_PLIC_ENABLE 8192         /* + 128 * context, one bit a source */
#define VMR_PLIC_ENABLE_STRIDE 128
#define VMR_PLIC_CONTEXT 2097152     /* + 4096 * context */
#define VMR_PLIC_CONTEXT_STRIDE 4096
#define VMR_PLIC_THRESHOLD 0         /* in a context */
#define VMR_PLIC_CLAIM 4             /* in a context: read claims, write completes */
#define VMR_PLIC_PRIORITY_MAX 7

typedef struct vmr_plic vmr_plic;
/* sources: 1 to 1023, source 0 not counted. contexts: 1 to 64; context i drives outputs[i]. It becomes the machine's
 * interrupt controller: pin n is source n. The line of a source tells of its completion. */
int vmr_plic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t sources, uint32_t contexts,
                 const vmr_line *outputs, vmr_plic **plic);
typedef struct vmr_plic_source {
  uint32_t level;   /* of the wired line */
  uint32_t pending;
  uint32_t claimed; /* claimed and not completed */
} vmr_plic_source;
int vmr_plic_get_source(vmr_plic *plic, uint32_t source, vmr_plic_source *state);
/* The level of a context's interrupt output (0 or 1), or -EINVAL. */
int vmr_plic_output(vmr_plic *plic, uint32_t context);
#endif
