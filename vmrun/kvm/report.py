"""What a person needs when a vCPU fell over: KVM's words, the registers, the instruction, the kernel's symbol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmrun.frozen import frozen
from vmrun.kvm.symbols import Symbols
from vmrun.kvm.vm import Fault

EXITS = {
    0: "KVM_EXIT_UNKNOWN",
    1: "KVM_EXIT_EXCEPTION",
    2: "KVM_EXIT_IO",
    3: "KVM_EXIT_HYPERCALL",
    4: "KVM_EXIT_DEBUG",
    5: "KVM_EXIT_HLT",
    6: "KVM_EXIT_MMIO",
    7: "KVM_EXIT_IRQ_WINDOW_OPEN",
    8: "KVM_EXIT_SHUTDOWN",
    9: "KVM_EXIT_FAIL_ENTRY",
    10: "KVM_EXIT_INTR",
    11: "KVM_EXIT_SET_TPR",
    12: "KVM_EXIT_TPR_ACCESS",
    16: "KVM_EXIT_NMI",
    17: "KVM_EXIT_INTERNAL_ERROR",
    24: "KVM_EXIT_SYSTEM_EVENT",
    26: "KVM_EXIT_IOAPIC_EOI",
    27: "KVM_EXIT_HYPERV",
    28: "KVM_EXIT_ARM_NISV",
    29: "KVM_EXIT_X86_RDMSR",
    30: "KVM_EXIT_X86_WRMSR",
    32: "KVM_EXIT_AP_RESET_HOLD",
    33: "KVM_EXIT_X86_BUS_LOCK",
    35: "KVM_EXIT_RISCV_SBI",
    36: "KVM_EXIT_RISCV_CSR",
    37: "KVM_EXIT_NOTIFY",
    39: "KVM_EXIT_MEMORY_FAULT",
}
"""``exit_reason`` of kvm_run, from Linux ``include/uapi/linux/kvm.h``."""

SUBERRORS = {
    1: "KVM cannot emulate the instruction",
    2: "an exception arose while KVM emulated another",
    3: "the processor left the guest while it delivered an event",
    4: "the processor left the guest for a reason that KVM does not know",
}
"""``suberror`` of an internal error, from the same file."""

TRIPLE_FAULT, INTERNAL_ERROR, FAILED_ENTRY, UNKNOWN_EXIT, MEMORY_FAULT, GUEST_CRASH, UNDONE_ACCESS = range(1, 8)
"""VMR_KVM_* of kvm_api.h."""

_EMULATION = 1
_HAS_BYTES = 1
LONGEST_INSTRUCTION = 15
_COLUMNS = 4

_RESET_VECTOR = 0xFFFFFFF0


@frozen
class Scene:
    """Where a vCPU fell over. ``code`` is memory at the linear ``pc``, as far as it could be read, in the ``isa``
    x86-16, x86-32, x86-64, aarch64 or riscv64."""

    vcpu: int
    fault: Fault
    registers: Mapping[str, int]
    pc: int
    code: bytes
    isa: str


def is_reset(scene: Scene) -> bool:
    """Return whether KVM has reset the vCPU after its fall, so that its registers say nothing of the guest.

    AMD's processors leave a guest that shuts down in no defined state; KVM puts it through INIT before it tells
    (Linux arch/x86/kvm/svm/svm.c, shutdown_interception).
    """
    return scene.fault.code == TRIPLE_FAULT and scene.pc == _RESET_VECTOR and scene.isa == "x86-16"


def summary(scene: Scene, symbols: Symbols | None = None) -> str:
    """Return one line: which vCPU, what happened, where, at which instruction."""
    if is_reset(scene):
        return f"vCPU {scene.vcpu}: {cause(scene.fault)}; KVM on this processor has reset its registers"
    where = f"{scene.pc:#x}"
    name = symbols.at(scene.pc) if symbols else None
    instruction = disassemble(instruction_bytes(scene), scene.pc, scene.isa)
    shown = f": {instruction[0].strip()}" if instruction else ""
    return f"vCPU {scene.vcpu}: {cause(scene.fault)}, at {where}{f' ({name})' if name else ''}{shown}"


def cause(fault: Fault) -> str:
    """Return what happened, in words."""
    if fault.code == TRIPLE_FAULT:
        return "triple fault"
    if fault.code == INTERNAL_ERROR:
        return f"KVM internal error {fault.suberror} ({SUBERRORS.get(fault.suberror, 'of an unknown kind')})"
    if fault.code == FAILED_ENTRY:
        reason = fault.data[0] if fault.data else 0
        return f"the processor refused to enter the guest (hardware reason {reason:#x})"
    if fault.code == MEMORY_FAULT:
        gpa = fault.data[1] if len(fault.data) > 1 else 0
        return f"KVM cannot reach the guest's memory at {gpa:#x}"
    if fault.code == GUEST_CRASH:
        return f"the guest told KVM that it crashed (event {fault.suberror})"
    if fault.code == UNDONE_ACCESS:
        return "KVM cannot carry out this instruction's access to a device"
    if fault.code == UNKNOWN_EXIT:
        return f"vmrun does not serve {EXITS.get(fault.exit_reason, f'KVM exit {fault.exit_reason}')}"
    return "halted for good, with no interrupt controller to wake it"


def instruction_bytes(scene: Scene) -> bytes:
    """Return the instruction's bytes: those that KVM names, else what lies at pc."""
    fault = scene.fault
    told = fault.code == INTERNAL_ERROR and fault.suberror == _EMULATION and len(fault.data) >= 3
    if told and fault.data[0] & _HAS_BYTES:
        raw = b"".join(word.to_bytes(8, "little") for word in fault.data[1:3])
        size = min(raw[0], LONGEST_INSTRUCTION)
        if size:
            return raw[1 : 1 + size]
    return scene.code[:LONGEST_INSTRUCTION]


def disassemble(code: bytes, address: int, isa: str, count: int = 1) -> list[str]:
    """Return up to ``count`` instructions as text: bytes, and words where the package capstone is installed."""
    if not code:
        return []
    try:
        import capstone
    except ImportError:
        return [code.hex(" ")]
    engines = {
        "x86-16": (capstone.CS_ARCH_X86, capstone.CS_MODE_16),
        "x86-32": (capstone.CS_ARCH_X86, capstone.CS_MODE_32),
        "x86-64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN),
        "riscv64": (capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
    }
    found = capstone.Cs(*engines[isa]).disasm(code, address, count)
    lines = [f"{i.bytes.hex(' ')}  {i.mnemonic} {i.op_str}".rstrip() for i in found]
    return lines or [f"{code.hex(' ')}  (no instruction)"]


def lines(scene: Scene, symbols: Symbols | None = None) -> Sequence[str]:
    """Return the whole report: cause, KVM's data, registers, code."""
    fault = scene.fault
    out = [summary(scene, symbols)]
    if fault.code:
        exit_name = EXITS.get(fault.exit_reason, "unknown")
        out.append(f"exit reason {fault.exit_reason} ({exit_name}), suberror {fault.suberror}")
    if fault.data:
        out.append("data " + " ".join(f"{word:#x}" for word in fault.data))
    if is_reset(scene):
        return out
    named = [f"{name:>10} {value:016x}" for name, value in scene.registers.items()]
    out += ["".join(named[i : i + _COLUMNS]) for i in range(0, len(named), _COLUMNS)]
    code = instruction_bytes(scene)
    out += [f"code {line}" for line in disassemble(code, scene.pc, scene.isa)]
    return out
