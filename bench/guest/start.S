# Entry in S-mode with a0 = hartid, at RAM base + 2 MiB, as SBI firmware and vmrun enter a kernel.
    .section .text.start
    .globl _start
_start:
    csrw    satp, zero
    li      t0, 0x6000             # sstatus.FS: the F and D units are on
    csrs    sstatus, t0
    la      sp, stacks
    addi    t0, a0, 1
    slli    t0, t0, 16             # 64 KiB of stack a hart
    add     sp, sp, t0
    la      t0, started
    li      t1, 1
    amoadd.w t1, t1, (t0)
    bnez    t1, 1f
    call    boot_main
1:  call    other_main
2:  wfi
    j       2b

    .section .bss
    .balign 16
stacks:
    .skip   8 * 65536
    .data
    .balign 4
started:
    .word   0
