/* The software core for riscv64 guests, as Python sees it. Read by the compiler and by cffi, like core_api.h. */
#ifndef VMR_RV64_API_H
#define VMR_RV64_API_H
#include "imsic_api.h"

/* ISA extensions a hart announces; an instruction or CSR outside them raises an illegal-instruction trap.
 * I, Zicsr, Zifencei and Zicntr are always there. */
#define VMR_RV64_M 1
#define VMR_RV64_A 2
#define VMR_RV64_F 4
#define VMR_RV64_D 8
#define VMR_RV64_C 16
#define VMR_RV64_ZBA 32
#define VMR_RV64_ZBB 64
#define VMR_RV64_ZBS 128
#define VMR_RV64_SSTC 256
#define VMR_RV64_SVINVAL 512
#define VMR_RV64_SV48 1024 /* satp.MODE 9 is accepted; Sv39 always is */
#define VMR_RV64_SSAIA 2048 /* stopei, and what siselect reaches of an IMSIC, are there where the machine has one */

/* Add hart number `hartid` (equal to the vCPU index). isa: VMR_RV64_* bits. timebase_hz: frequency of the time CSR.
 * cache_bytes bounds the decoded-code cache of this hart. */
int vmr_rv64_new(vmr_machine *machine, uint32_t isa, uint32_t timebase_hz, uint64_t cache_bytes, vmr_vcpu **vcpu);
/* Start state of SBI HSM: the boot hart runs in S-mode at pc with a0 = hartid and a1 = opaque; others wait stopped. */
int vmr_rv64_boot(vmr_vcpu *vcpu, uint64_t pc, uint64_t opaque);

/* Translate what a hart runs often into code of the host. threshold: how often a jump leads to an instruction before it
 * is translated from there on, 1 to 255; 0: never, which is how a hart begins. code_bytes bounds the code (at least
 * VMR_RV64_JIT_LEAST); when it is full it is begun anew. Before the hart has run. -ENOTSUP: not for this host's
 * processor; -EACCES, -EPERM and others: the host allows no memory that is written and then run, the hart interprets. */
#define VMR_RV64_JIT_LEAST 65536
int vmr_rv64_jit(vmr_vcpu *vcpu, uint32_t threshold, uint64_t code_bytes);
/* Whether this host has what vmr_rv64_jit needs: 0, or the same errors. */
int vmr_rv64_jit_probe(void);

/* Registers, for tests, dumps and reports; only while the hart is not running.
 * 0..31 x, 32 pc, 33 privilege (0 U, 1 S), 64..95 f (raw 64 bits), 4096 + n: CSR n. -ENOENT: no such register. */
int vmr_rv64_get(vmr_vcpu *vcpu, uint32_t reg, uint64_t *value);
int vmr_rv64_set(vmr_vcpu *vcpu, uint32_t reg, uint64_t value);

/* Give the hart the interrupt file of its index, which Ssaia's CSRs then reach. Before the machine starts. -ENOENT: there is
 * no such file. */
int vmr_rv64_set_imsic(vmr_vcpu *vcpu, vmr_imsic *imsic);

/* Run at most `instructions` (0: no bound, same as vmr_vcpu_run); returns with kind VMR_EXIT_BUDGET when they are used up. */
#define VMR_EXIT_BUDGET 6
int vmr_rv64_run(vmr_vcpu *vcpu, uint64_t instructions, vmr_exit *exit);

typedef struct vmr_rv64_stats {
  uint64_t instructions;
  uint64_t traps;
  uint64_t interrupts;
  uint64_t mmio;
  uint64_t tlb_fills;
  uint64_t pages_decoded;
  uint64_t sbi_calls;
  uint64_t wfi_ns; /* host time slept */
  uint64_t jit_blocks; /* translations made */
  uint64_t jit_bytes; /* their code, all in all */
  uint64_t jit_drops; /* pages whose code was dropped: their bytes changed, or room was needed */
  uint64_t jit_ns; /* host time spent translating */
} vmr_rv64_stats;
/* A snapshot; safe while the hart runs (may lag by one time slice). */
int vmr_rv64_get_stats(vmr_vcpu *vcpu, vmr_rv64_stats *stats);

/* Where SBI DBCN (and earlycon=sbi) writes: a host fd, or -1 to drop; in_fd for DBCN reads, or -1. One per machine, before
 * it starts. Where a UART writes to the same pipe or socket, the guest's order of both is kept. */
int vmr_rv64_debug_console(vmr_machine *machine, int in_fd, int out_fd);
#endif
