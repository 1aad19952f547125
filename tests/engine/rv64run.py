"""Run one guest program on vmrun's software core and under QEMU, and bring back what it wrote to memory.

A program is an image for ``PAYLOAD``, entered there in U-mode (``qemu-riscv64``) or in S-mode with address
translation off (the core, ``qemu-system-riscv64``), that ends with a jump to ``EXIT``. The page at ``ORIGIN`` holds
what differs between them: the way in and the way out. The result is the content of the range that the program names
as its dump.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import rv64elf
import rv64translator
from rv64asm import Asm

from patience import patience

RAM = 0x8000_0000
RAM_SIZE = 64 << 20
ORIGIN = RAM + 0x20_0000
EXIT = ORIGIN
_ENTRY = ORIGIN + 0x80
PAYLOAD = ORIGIN + 0x1000
TIMEBASE = 10_000_000  # of QEMU's virt board, in Hz
FINISH = f"li t0, {EXIT}; jr t0"
_SRST = 0x53525354
_POWEROFF = 0x5555
_FAIL = 0x3333
_INSTRUCTION_BOUND = 500_000_000
_TIMEOUT = 60  # seconds
_MINIMUM_QEMU = 9  # has svadu as a property and the bare rv64i CPU

CPU = (
    "rv64i,m=true,a=true,f=true,d=true,c=true,s=true,u=true,zicsr=true,zifencei=true,zicntr=true,"
    "zba=true,zbb=true,zbs=true,svinval=true,svadu=true"
)
"""Just what the core has, so that what QEMU has beyond it traps."""
SYSTEM_CPU = CPU + ",sstc=true,mmu=true,pmp=true,sv48=true,sv57=false,zawrs=false,zihintpause=true"

_GO = ORIGIN + 0x100
_TRAP = ORIGIN + 0x200
_TRAP_LOG = ORIGIN + 0xF00
_TABLES = RAM + 0x10_0000
APLIC, IMSIC, UART = 0x0D00_0000, 0x2800_0000, 0x1000_0000
"""Of QEMU's virt board with ``aia``: the domain and the first interrupt file of S-mode. The UART has source 10."""
_MACHINE_APLIC = 0x0C00_0000
_ALIAS = 0x4000_0000  # S-mode's own view of RAM while U-mode runs
WAY_IN_SUPERVISOR = (
    f"li t0, 0x6000; csrs sstatus, t0; li t0, {_TRAP}; csrw stvec, t0; li t0, {PAYLOAD}; jr t0"  # FS = dirty
)
WAY_OUT_SUPERVISOR = f"li a7, {_SRST}; li a6, 0; li a0, 0; li a1, 0; ecall"
WAY_IN_TRANSLATED = f"li t0, {_GO + _ALIAS}; csrw stvec, t0; li t0, {8 << 60 | _TABLES >> 12}; csrw satp, t0; nop"
GO_TRANSLATED = f"""
        sfence.vma                 # the fetch fault after the write to satp led here
        li   t0, {_TRAP + _ALIAS}
        csrw stvec, t0
        li   t0, 0x100
        csrc sstatus, t0           # SPP = U
        li   t0, 0x6000
        csrs sstatus, t0
        li   t0, 7
        csrw scounteren, t0
        li   t0, {PAYLOAD}
        csrw sepc, t0
        sret
"""
_TRAP_STUB = """
        csrr t0, scause
        addi t1, t0, -8            # ecall from U-mode: EXIT was reached
        beqz t1, leave
        li   t2, {log}
        li   t1, 1
        sd   t1, 0(t2)
        sd   t0, 8(t2)
        csrr t1, sepc
        sd   t1, 16(t2)
        csrr t1, stval
        sd   t1, 24(t2)
leave:  {way_out}
"""
WAY_OUT_USER = """
        li   a1, {dump}
        li   a2, {size}
more:   li   a0, 1
        li   a7, 64        # write
        ecall
        blez a0, done
        add  a1, a1, a0
        sub  a2, a2, a0
        bnez a2, more
done:   li   a0, 0
        li   a7, 93        # exit
        ecall
"""
AIA_SHIM = f"""
        li   t0, {_MACHINE_APLIC}
        li   t1, {IMSIC >> 12}
        li   t2, 0x1bc8
        add  t2, t2, t0
        sw   t1, 0(t2)             # smsiaddrcfg: where messages to S-mode go
        li   t1, 0x400             # sourcecfg.D: every source is S-mode's
        addi t2, t0, {4 * 96}
give:   sw   t1, 4(t0)
        addi t0, t0, 4
        bltu t0, t2, give
"""
"""What M-mode's software does to the root domain first."""
MACHINE_SHIM = f"""
        la   t0, trap
        csrw mtvec, t0
        li   t0, -1
        csrw pmpaddr0, t0
        li   t0, 0x1f              # NAPOT, RWX: everything
        csrw pmpcfg0, t0
        li   t0, 0xb1ff            # all that S-mode can take, but for its own ecall
        csrw medeleg, t0
        li   t0, 0x222
        csrw mideleg, t0
        li   t0, 7
        csrw mcounteren, t0
        li   t0, {1 << 63 | 1 << 61}   # STCE, ADUE
        csrw menvcfg, t0
        li   t0, -1
        csrw stimecmp, t0
        li   t0, 0x800             # MPP = S
        csrw mstatus, t0
        li   t0, {_ENTRY}
        csrw mepc, t0
        li   a0, 0
        li   a1, 0
        mret
        .align 4
trap:   csrr t0, mcause
        li   t1, 9
        bne  t0, t1, bad
        li   t1, {_SRST}
        bne  a7, t1, bad
        li   t1, {_POWEROFF}
        j    out
bad:    slli t0, t0, 16
        li   t1, {_FAIL}
        or   t1, t1, t0
out:    li   t2, 0x100000          # sifive_test
        sw   t1, 0(t2)
hang:   j    hang
"""


class RunError(Exception):
    """The program did not come to its end: how it stopped."""


@dataclass(frozen=True, slots=True)
class Program:
    """``image`` for PAYLOAD and the range ``[dump, dump + size)`` to bring back."""

    image: bytes
    dump: int
    size: int


def _user_stub(program: Program) -> bytes:
    """The first page for qemu-riscv64."""
    out = Asm().text(WAY_OUT_USER.format(dump=program.dump, size=program.size)).assemble(EXIT)
    start = Asm().text(f"li t0, {PAYLOAD}; jr t0").assemble(_ENTRY)
    return (out.ljust(_ENTRY - ORIGIN, b"\0") + start).ljust(PAYLOAD - ORIGIN, b"\0")


def _supervisor_stub(*, translated: bool) -> bytes:
    """The first page for the core and qemu-system-riscv64."""
    page = bytearray(PAYLOAD - ORIGIN)
    log = _TRAP_LOG + (_ALIAS if translated else 0)
    for address, text in {
        EXIT: WAY_OUT_SUPERVISOR,
        _ENTRY: WAY_IN_TRANSLATED if translated else WAY_IN_SUPERVISOR,
        _GO: GO_TRANSLATED,
        _TRAP: _TRAP_STUB.format(log=log, way_out=WAY_OUT_SUPERVISOR),
    }.items():
        code = Asm().text(text).assemble(address)
        page[address - ORIGIN : address - ORIGIN + len(code)] = code
    return bytes(page)


def supervisor_image(program: Program) -> tuple[bytes, int]:
    """Return what lies from ORIGIN on for a run in S-mode, untranslated, and where it is entered."""
    return _supervisor_stub(translated=False) + program.image, _ENTRY


@cache
def _tables() -> bytes:
    """Sv39 tables: RAM one to one for U-mode in 4 KiB pages whose A and D are clear, and the alias for S-mode."""
    pages = RAM_SIZE >> 12
    leaves = b"".join(((RAM >> 12) + n << 10 | 0x1F).to_bytes(8, "little") for n in range(pages))
    middle = b"".join(((_TABLES >> 12) + 2 + n << 10 | 1).to_bytes(8, "little") for n in range(pages >> 9))
    root = bytearray(4096)
    root[16:24] = ((_TABLES >> 12) + 1 << 10 | 1).to_bytes(8, "little")
    root[24:32] = (RAM >> 12 << 10 | 0xCF).to_bytes(8, "little")
    return bytes(root) + middle.ljust(4096, b"\0") + leaves


def _check_trap(log: bytes, where: str) -> None:
    """Raise RunError where the program trapped while it had no handler of its own."""
    seen, cause, pc, value = struct.unpack("<4Q", log)
    if seen:
        raise RunError(f"{where}: unexpected trap, scause={cause:#x} sepc={pc:#x} stval={value:#x}")


# ---- what is installed


@cache
def missing_tool(name: str) -> str:
    """Return why the QEMU binary ``name`` cannot serve, or an empty text."""
    if not shutil.which(name):
        return f"needs {name}, version {_MINIMUM_QEMU} or later"
    banner = subprocess.run(
        [name, "--version"], capture_output=True, text=True, timeout=patience(20), check=False
    ).stdout
    version = re.search(r"version (\d+)", banner)
    if not version or int(version[1]) < _MINIMUM_QEMU:
        return f"needs {name}, version {_MINIMUM_QEMU} or later; found: {banner.splitlines()[:1]}"
    return ""


def missing_core() -> str:
    """Return why the software core cannot serve, or an empty text."""
    try:
        from vmrun import _core  # noqa: F401
    except ImportError as error:
        return f"needs the built extension vmrun._core: {error}"
    return ""


# ---- QEMU


def run_qemu_user(program: Program) -> bytes:
    """Run in U-mode under qemu-riscv64. Raises RunError where it dies."""
    image = _user_stub(program) + program.image
    memory = max(len(image), program.dump + program.size - ORIGIN)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program")
        path.write_bytes(rv64elf.executable(image, ORIGIN, _ENTRY, memory))
        path.chmod(0o755)
        done = subprocess.run(
            ["qemu-riscv64", "-cpu", CPU, str(path)], capture_output=True, timeout=patience(_TIMEOUT), check=False
        )
    if done.returncode or len(done.stdout) != program.size:
        raise RunError(f"qemu-riscv64: status {done.returncode}, {len(done.stdout)} bytes, {done.stderr[-300:]!r}")
    return done.stdout


def run_qemu_system(program: Program, *, translated: bool = False, aia: bool = False) -> bytes:
    """Run in S-mode on qemu-system-riscv64's virt board, below a shim that delegates as KVM and SBI firmware do.

    ``aia``: the board has APLICs and IMSICs in place of the PLIC.
    """
    image = _supervisor_stub(translated=translated) + program.image
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        ram = Path(folder, "ram")
        with ram.open("wb") as file:
            file.truncate(RAM_SIZE)
            file.write(Asm().text((AIA_SHIM if aia else "") + MACHINE_SHIM).assemble(RAM))
            file.seek(_TABLES - RAM)
            file.write(_tables())
            file.seek(ORIGIN - RAM)
            file.write(image)
        board = "virt,memory-backend=ram" + (",aia=aplic-imsic" if aia else "")
        command = [
            "qemu-system-riscv64", "-M", board, "-cpu", SYSTEM_CPU, "-m", f"{RAM_SIZE >> 20}M",
            "-object", f"memory-backend-file,id=ram,size={RAM_SIZE},mem-path={ram},share=on",
            "-nodefaults", "-display", "none", "-bios", "none", "-no-reboot",
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, timeout=patience(_TIMEOUT), stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise RunError(
                f"qemu-system-riscv64: status {done.returncode} (mcause if from the shim), {done.stderr[-300:]!r}"
            )
        with ram.open("rb") as file:
            file.seek(_TRAP_LOG - RAM)
            _check_trap(file.read(32), "qemu-system-riscv64")
            file.seek(program.dump - RAM)
            return file.read(program.size)


# ---- the core


def run_core(program: Program, *, translated: bool = False, harts: int = 1, aia: bool = False) -> bytes:
    """Run on vmrun's software core, in S-mode or, ``translated``, in U-mode under Sv39. Raises RunError where it dies.

    ``harts`` beyond the first wait for SBI HSM. ``aia``: the machine has an APLIC, IMSICs and a UART.

    The core runs in a child process: one that crashes or hangs fails one test, with the sequence that did it.
    """
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        signal.alarm(math.ceil(patience(_TIMEOUT)))
        try:
            answer = b"+" + _run_core_here(program, translated=translated, harts=harts, aia=aia)
        except BaseException as error:  # the parent raises it
            answer = b"-" + str(error).encode()
        with os.fdopen(send, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise RunError(f"the core's process ended with {status} (negative: signal)")
    if not answer.startswith(b"+"):
        raise RunError(answer[1:].decode())
    return answer[1:]


def _run_core_here(program: Program, *, translated: bool, harts: int, aia: bool) -> bytes:
    from aia_kit import add_aia

    from vmrun._core import ffi, lib

    extensions = ("M", "A", "F", "D", "C", "ZBA", "ZBB", "ZBS", "SSTC", "SVINVAL", "SV48", *(["SSAIA"] if aia else []))
    isa = sum(getattr(lib, f"VMR_RV64_{name}") for name in extensions)
    image = _supervisor_stub(translated=translated) + program.image
    holder = ffi.new("vmr_machine **")
    if lib.vmr_machine_new(holder):
        raise RunError("vmr_machine_new failed")
    machine = holder[0]

    def check(result: int, what: str) -> None:
        if result:
            raise RunError(f"{what}: {result}, {ffi.string(lib.vmr_machine_error(machine)).decode()}")

    try:
        check(lib.vmr_ram_add(machine, RAM, RAM_SIZE), "vmr_ram_add")
        check(lib.vmr_ram_write(machine, ORIGIN, image, len(image)), "vmr_ram_write")
        check(lib.vmr_ram_write(machine, _TABLES, _tables(), len(_tables())), "vmr_ram_write")
        cpu = ffi.new("vmr_vcpu *[]", harts)
        for number in range(harts):
            check(lib.vmr_rv64_new(machine, isa, TIMEBASE, 16 << 20, cpu + number), "vmr_rv64_new")
            check(rv64translator.equip(cpu[number]), "vmr_rv64_jit")
        if aia:
            add_aia(machine, list(cpu), 96, 255)
            uart, line = ffi.new("vmr_uart16550 **"), ffi.new("vmr_line *")
            check(lib.vmr_irqchip_line(machine, 10, line), "vmr_irqchip_line")
            check(lib.vmr_uart16550_new(machine, UART, 0x100, line[0], -1, -1, uart), "vmr_uart16550_new")
        check(lib.vmr_rv64_boot(cpu[0], _ENTRY, 0), "vmr_rv64_boot")
        check(lib.vmr_machine_start(machine), "vmr_machine_start")
        threads = [
            threading.Thread(target=lib.vmr_vcpu_run, args=(cpu[n], ffi.new("vmr_exit *"))) for n in range(1, harts)
        ]
        for thread in threads:
            thread.start()
        left = ffi.new("vmr_exit *")
        check(lib.vmr_rv64_run(cpu[0], _INSTRUCTION_BOUND if harts == 1 else 0, left), "vmr_rv64_run")
        if left.kind != lib.VMR_EXIT_SYSTEM:
            raise RunError(f"the core left with kind {left.kind} {_where(cpu[0])}")
        lib.vmr_machine_stop(machine)
        for thread in threads:
            thread.join()

        def read(address: int, size: int) -> bytes:
            found = ffi.new("uint8_t[]", size)
            check(lib.vmr_ram_read(machine, address, found, size), "vmr_ram_read")
            return bytes(ffi.buffer(found))

        _check_trap(read(_TRAP_LOG, 32), "the core")
        return read(program.dump, program.size)
    finally:
        lib.vmr_machine_stop(machine)
        lib.vmr_machine_free(machine)


def run_core_translated(program: Program) -> bytes:
    """Run on the core in U-mode, every page mapped by Sv39 in 4 KiB pages."""
    return run_core(program, translated=True)


def _where(vcpu: object) -> str:
    """The hart's pc, privilege and last trap, for a message."""
    from vmrun._core import ffi, lib

    value = ffi.new("uint64_t *")
    shown = []
    for name, number in {"pc": 32, "privilege": 33, "scause": 4096 + 0x142, "sepc": 4096 + 0x141}.items():
        if lib.vmr_rv64_get(vcpu, number, value) == 0:
            shown.append(f"{name}={value[0]:#x}")
    return " ".join(shown)
