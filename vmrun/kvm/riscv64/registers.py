"""The registers of a riscv64 vCPU by KVM's numbers, as data: ISA and SBI extensions, configuration, core, CSRs, timer.

One table serves the probe of a host, a plan, the devicetree and the engine. Every number comes from Linux
``arch/riscv/include/uapi/asm/kvm.h``, up to Linux 7.2; a KVM that does not know one answers ENOENT.
"""

from __future__ import annotations

from vmrun.frozen import frozen

_RISCV = 0x8000_0000_0000_0000
_U64 = 0x0030_0000_0000_0000
_CONFIG, _CORE, _CSR, _TIMER = 0x01 << 24, 0x02 << 24, 0x03 << 24, 0x04 << 24
_ISA_EXT, _SBI_EXT = 0x07 << 24, 0x08 << 24

ISA = (
    *("a", "c", "d", "f", "h", "i", "m", "svpbmt", "sstc", "svinval", "zihintpause", "zicbom", "zicboz", "zbb"),
    *("ssaia", "v", "svnapot", "zba", "zbs", "zicntr", "zicsr", "zifencei", "zihpm", "smstateen", "zicond", "zbc"),
    *("zbkb", "zbkc", "zbkx", "zknd", "zkne", "zknh", "zkr", "zksed", "zksh", "zkt", "zvbb", "zvbc", "zvkb", "zvkg"),
    *("zvkned", "zvknha", "zvknhb", "zvksed", "zvksh", "zvkt", "zfh", "zfhmin", "zihintntl", "zvfh", "zvfhmin", "zfa"),
    *("ztso", "zacas", "sscofpmf", "zimop", "zca", "zcb", "zcd", "zcf", "zcmop", "zawrs"),
    *("smnpm", "ssnpm", "svade", "svadu", "svvptc", "zabha", "ziccrse", "zaamo", "zalrsc", "zicbop"),
    *("zfbfmin", "zvfbfmin", "zvfbfwma", "zclsd", "zilsd", "zalasr"),
)
"""ISA extensions by their place in ``enum KVM_RISCV_ISA_EXT_ID``; the name is the kernel's and the devicetree's."""

SBI = (
    *("v01", "time", "ipi", "rfence", "srst", "hsm", "pmu", "experimental", "vendor", "dbcn", "sta", "susp", "fwft"),
    "mpxy",
)
"""SBI extensions by their place in ``enum KVM_RISCV_SBI_EXT_ID``."""

CONFIG = (
    *("isa", "zicbom_block_size", "mvendorid", "marchid", "mimpid", "zicboz_block_size", "satp_mode"),
    "zicbop_block_size",
)
"""``struct kvm_riscv_config``."""

CORE = (
    *("pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"),
    *("s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6", "mode"),
)
"""``struct kvm_riscv_core``: user_regs_struct of asm/ptrace.h, and the mode (1: S, 0: U)."""

CSRS = (*("sstatus", "sie", "stvec", "sscratch", "sepc", "scause", "stval", "sip", "satp", "scounteren", "senvcfg"),)
"""``struct kvm_riscv_csr``."""

TIMER = ("frequency", "time", "compare", "state")
"""``struct kvm_riscv_timer``."""

BLOCKS = ("zicbom", "zicboz", "zicbop")
"""ISA extensions whose instructions work on blocks of a size that a guest has to be told."""

SATP_MODES = {8: "sv39", 9: "sv48", 10: "sv57"}
"""MODE of satp -> its name in the devicetree (RISC-V privileged architecture, "Encoding of satp MODE field")."""


@frozen
class Register:
    """A register: ``id`` is KVM's number of it, ``name`` what a message calls it."""

    name: str
    id: int


def isa(name: str) -> Register:
    """Return the switch of an ISA extension (KVM_REG_RISCV_ISA_SINGLE): 1, the vCPU has it."""
    return Register(name, _RISCV | _U64 | _ISA_EXT | ISA.index(name))


def sbi(name: str) -> Register:
    """Return the switch of an SBI extension (KVM_REG_RISCV_SBI_SINGLE)."""
    return Register(f"SBI {name.upper()}", _RISCV | _U64 | _SBI_EXT | SBI.index(name))


def config(name: str) -> Register:
    """Return a register of the vCPU's configuration."""
    return Register(name, _RISCV | _U64 | _CONFIG | CONFIG.index(name))


def core(name: str) -> Register:
    """Return an integer register, ``pc`` or ``mode``."""
    return Register(name, _RISCV | _U64 | _CORE | CORE.index(name))


def csr(name: str) -> Register:
    """Return a control and status register of S-mode."""
    return Register(name, _RISCV | _U64 | _CSR | CSRS.index(name))


def timer(name: str) -> Register:
    """Return a register of the timer."""
    return Register(name, _RISCV | _U64 | _TIMER | TIMER.index(name))
