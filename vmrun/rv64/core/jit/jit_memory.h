/* Memory for code that the translator writes: the same pages at two addresses, one to write by, one to run by, so that
 * nothing is ever writable and executable at one address. */
#ifndef VMR_JIT_MEMORY_H
#define VMR_JIT_MEMORY_H
#include <stddef.h>
#include <stdint.h>

typedef struct vmr_code_memory {
  uint8_t *write;
  const uint8_t *run;
  size_t size; /* 0: there is none */
} vmr_code_memory;

/* Make size bytes, which is a multiple of the page size. A fork's child does not have them. 0, or -errno of a host that
 * allows no such memory (EACCES and EPERM: a security policy). */
int vmr_code_memory_new(vmr_code_memory *memory, size_t size);
/* Have the pages at the address to write by mapped anew when they are written next: they are then not counted twice as
 * the process's memory. */
void vmr_code_memory_settle(vmr_code_memory *memory);
void vmr_code_memory_free(vmr_code_memory *memory);
#endif
