/* Interrupt inputs of a hart, as its vCPU numbers them: the codes of RISC-V's major interrupts (Privileged ISA, scause). */
#ifndef VMR_RISCV_IRQ_H
#define VMR_RISCV_IRQ_H

#define VMR_RISCV_IRQ_S_SOFT 1
#define VMR_RISCV_IRQ_S_TIMER 5
#define VMR_RISCV_IRQ_S_EXT 9
#endif
