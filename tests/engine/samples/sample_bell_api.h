/* A sample device. */
#ifndef VMR_SAMPLE_BELL_API_H
#define VMR_SAMPLE_BELL_API_H
#include "line_api.h"

#define VMR_SAMPLE_GREETING 0
#define VMR_SAMPLE_BELL 4

typedef struct vmr_sample_bell vmr_sample_bell;
int vmr_sample_bell_new(vmr_machine *machine, uint64_t gpa, uint64_t size, vmr_line line, uint32_t greeting,
                        vmr_sample_bell **bell);
#endif
