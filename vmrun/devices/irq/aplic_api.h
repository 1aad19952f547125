/* APLIC (RISC-V Advanced Interrupt Architecture 1.0, chapter 4): one domain of S-mode, delivery by MSI. */
#ifndef VMR_APLIC_API_H
#define VMR_APLIC_API_H
#include "line_api.h"

#define VMR_APLIC_DOMAINCFG 0x0000
#define VMR_APLIC_DOMAINCFG_IE 0x100
#define VMR_APLIC_DOMAINCFG_DM 0x4   /* read-only 1: MSI delivery, as KVM's */
#define VMR_APLIC_SOURCECFG 0x0004   /* + 4 * (source - 1) */
#define VMR_APLIC_SOURCECFG_D 0x400  /* no domain is below: writes with it make the source inactive */
#define VMR_APLIC_SOURCECFG_SM 0x7
#define VMR_APLIC_SM_INACTIVE 0
#define VMR_APLIC_SM_DETACHED 1
#define VMR_APLIC_SM_EDGE1 4         /* rising */
#define VMR_APLIC_SM_EDGE0 5         /* falling */
#define VMR_APLIC_SM_LEVEL1 6
#define VMR_APLIC_SM_LEVEL0 7
#define VMR_APLIC_SETIP 0x1c00       /* one bit a source, as the other arrays of words */
#define VMR_APLIC_SETIPNUM 0x1cdc
#define VMR_APLIC_IN_CLRIP 0x1d00    /* read: rectified inputs */
#define VMR_APLIC_CLRIPNUM 0x1ddc
#define VMR_APLIC_SETIE 0x1e00
#define VMR_APLIC_SETIENUM 0x1edc
#define VMR_APLIC_CLRIE 0x1f00
#define VMR_APLIC_CLRIENUM 0x1fdc
#define VMR_APLIC_SETIPNUM_LE 0x2000
#define VMR_APLIC_SETIPNUM_BE 0x2004
#define VMR_APLIC_GENMSI 0x3000
#define VMR_APLIC_GENMSI_HART 0xfffc0000
#define VMR_APLIC_GENMSI_EIID 0x7ff
#define VMR_APLIC_TARGET 0x3004      /* + 4 * (source - 1) */
#define VMR_APLIC_TARGET_HART 0xfffc0000
#define VMR_APLIC_TARGET_EIID 0x7ff

typedef struct vmr_aplic vmr_aplic;
/* size: at least 16 KiB. sources: 1 to 1023, source 0 not counted. It becomes the machine's interrupt controller: pin n is
 * source n. The line of a level source tells that its handler is done when it asks for a look at the level again, by
 * setipnum (section 4.9.2). Messages go where `messages` leads, to the vCPU whose index is the target's hart index. */
int vmr_aplic_new(vmr_machine *machine, uint64_t gpa, uint64_t size, uint32_t sources, vmr_msi messages, vmr_aplic **aplic);
#endif
