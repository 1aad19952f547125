"""The C core as mypy sees it. Made by tools/stubs from the headers that cffi reads: do not edit."""

from collections.abc import Callable
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar, overload

_F = TypeVar("_F", bound=Callable[..., Any])
CData: TypeAlias = Any
"""A pointer that is none to a struct, an array, and text."""

ffi: _Ffi
lib: _Lib

class vmr_aplic:
    ...

class vmr_bus_access:
    gpa: int
    value: int
    size: int
    write: int
    offset: int
    window: int
    width: int
    skip: int
    done: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_clock:
    ...

class vmr_disk_failure:
    doing: int
    overlay: int
    errnum: int
    count: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_exit:
    kind: int
    size: int
    gpa: int
    offset: int
    data: int
    window: int
    code: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_guest_error:
    device: CData
    what: CData
    count: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_imsic:
    ...

class vmr_kvm:
    ...

class vmr_kvm_device:
    ...

class vmr_kvm_fault:
    code: int
    exit_reason: int
    suberror: int
    data_count: int
    data: CData
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_kvm_route:
    gsi: int
    msi: int
    chip: int
    pin: int
    address: int
    data: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_kvm_stats:
    runs: int
    mmio: int
    pio: int
    python: int
    interrupted: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_kvm_x86_cpuid:
    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_kvm_x86_msr:
    index: int
    value: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_kvm_x86_segment:
    base: int
    limit: int
    selector: int
    access: int
    unusable: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_kvm_x86_state:
    rax: int
    rbx: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    rsp: int
    rbp: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    gdt_base: int
    idt_base: int
    gdt_limit: int
    idt_limit: int
    cs: vmr_kvm_x86_segment
    ds: vmr_kvm_x86_segment
    es: vmr_kvm_x86_segment
    fs: vmr_kvm_x86_segment
    gs: vmr_kvm_x86_segment
    ss: vmr_kvm_x86_segment
    tr: vmr_kvm_x86_segment
    ldt: vmr_kvm_x86_segment
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_line:
    ops: vmr_line_ops
    chip: CData
    pin: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_line_ops:
    ...

class vmr_machine:
    ...

class vmr_message:
    address: int
    data: int
    masked: int
    pending: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_messages:
    ...

class vmr_msi:
    ops: vmr_msi_ops
    chip: CData
    base: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_msi_ops:
    ...

class vmr_pl011:
    ...

class vmr_pl011_counters:
    rx_waiting: int
    tx_waiting: int
    irq: int
    in_open: int
    out_errno: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_plic:
    ...

class vmr_plic_source:
    level: int
    pending: int
    claimed: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_recorded:
    level: int
    edges: int
    ended: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_recorder:
    ...

class vmr_region:
    ...

class vmr_rv64_stats:
    instructions: int
    traps: int
    interrupts: int
    mmio: int
    tlb_fills: int
    pages_decoded: int
    sbi_calls: int
    wfi_ns: int
    jit_blocks: int
    jit_bytes: int
    jit_drops: int
    jit_ns: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_timer:
    ...

class vmr_uart16550:
    ...

class vmr_uart16550_counters:
    rx_waiting: int
    tx_waiting: int
    divisor: int
    irq: int
    in_open: int
    out_errno: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_vcpu:
    ...

class vmr_virtio_blk:
    ...

class vmr_virtio_blk_counters:
    sectors: int
    reads: int
    writes: int
    flushes: int
    errors: int
    host_errors: int
    overlay_clusters: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_virtio_console:
    ...

class vmr_virtio_console_counters:
    guest_open: int
    in_open: int
    out_open: int
    out_errno: int
    rx_bytes: int
    tx_bytes: int
    def __getitem__(self, index: int, /) -> Self: ...

class vmr_virtio_rng:
    ...

class vmr_window:
    ...

class _Ffi:
    NULL: Final[Any]
    @overload
    def new(self, kind: Literal["vmr_bus_access *"], /) -> vmr_bus_access: ...
    @overload
    def new(self, kind: Literal["vmr_disk_failure *"], /) -> vmr_disk_failure: ...
    @overload
    def new(self, kind: Literal["vmr_exit *"], /) -> vmr_exit: ...
    @overload
    def new(self, kind: Literal["vmr_guest_error *"], /) -> vmr_guest_error: ...
    @overload
    def new(self, kind: Literal["vmr_kvm_fault *"], /) -> vmr_kvm_fault: ...
    @overload
    def new(self, kind: Literal["vmr_kvm_route *"], /) -> vmr_kvm_route: ...
    @overload
    def new(self, kind: Literal["vmr_kvm_stats *"], /) -> vmr_kvm_stats: ...
    @overload
    def new(self, kind: Literal["vmr_kvm_x86_cpuid *"], /) -> vmr_kvm_x86_cpuid: ...
    @overload
    def new(self, kind: Literal["vmr_kvm_x86_msr *"], /) -> vmr_kvm_x86_msr: ...
    @overload
    def new(self, kind: Literal["vmr_kvm_x86_segment *"], /) -> vmr_kvm_x86_segment: ...
    @overload
    def new(self, kind: Literal["vmr_kvm_x86_state *"], /) -> vmr_kvm_x86_state: ...
    @overload
    def new(self, kind: Literal["vmr_line *"], /) -> vmr_line: ...
    @overload
    def new(self, kind: Literal["vmr_message *"], /) -> vmr_message: ...
    @overload
    def new(self, kind: Literal["vmr_msi *"], /) -> vmr_msi: ...
    @overload
    def new(self, kind: Literal["vmr_pl011_counters *"], /) -> vmr_pl011_counters: ...
    @overload
    def new(self, kind: Literal["vmr_plic_source *"], /) -> vmr_plic_source: ...
    @overload
    def new(self, kind: Literal["vmr_recorded *"], /) -> vmr_recorded: ...
    @overload
    def new(self, kind: Literal["vmr_rv64_stats *"], /) -> vmr_rv64_stats: ...
    @overload
    def new(self, kind: Literal["vmr_uart16550_counters *"], /) -> vmr_uart16550_counters: ...
    @overload
    def new(self, kind: Literal["vmr_virtio_blk_counters *"], /) -> vmr_virtio_blk_counters: ...
    @overload
    def new(self, kind: Literal["vmr_virtio_console_counters *"], /) -> vmr_virtio_console_counters: ...
    @overload
    def new(self, kind: str, given: Any = ..., /) -> CData: ...
    def string(self, text: CData, most: int = ..., /) -> bytes: ...
    def buffer(self, array: CData, size: int = ..., /) -> Any: ...
    def def_extern(self) -> Callable[[_F], _F]: ...
    def new_handle(self, value: object, /) -> CData: ...
    def from_handle(self, handle: CData, /) -> Any: ...

class _Lib:
    VMR_APLIC_CLRIE: Final[int]
    VMR_APLIC_CLRIENUM: Final[int]
    VMR_APLIC_CLRIPNUM: Final[int]
    VMR_APLIC_DOMAINCFG: Final[int]
    VMR_APLIC_DOMAINCFG_DM: Final[int]
    VMR_APLIC_DOMAINCFG_IE: Final[int]
    VMR_APLIC_GENMSI: Final[int]
    VMR_APLIC_GENMSI_EIID: Final[int]
    VMR_APLIC_GENMSI_HART: Final[int]
    VMR_APLIC_IN_CLRIP: Final[int]
    VMR_APLIC_SETIE: Final[int]
    VMR_APLIC_SETIENUM: Final[int]
    VMR_APLIC_SETIP: Final[int]
    VMR_APLIC_SETIPNUM: Final[int]
    VMR_APLIC_SETIPNUM_BE: Final[int]
    VMR_APLIC_SETIPNUM_LE: Final[int]
    VMR_APLIC_SM_DETACHED: Final[int]
    VMR_APLIC_SM_EDGE0: Final[int]
    VMR_APLIC_SM_EDGE1: Final[int]
    VMR_APLIC_SM_INACTIVE: Final[int]
    VMR_APLIC_SM_LEVEL0: Final[int]
    VMR_APLIC_SM_LEVEL1: Final[int]
    VMR_APLIC_SOURCECFG: Final[int]
    VMR_APLIC_SOURCECFG_D: Final[int]
    VMR_APLIC_SOURCECFG_SM: Final[int]
    VMR_APLIC_TARGET: Final[int]
    VMR_APLIC_TARGET_EIID: Final[int]
    VMR_APLIC_TARGET_HART: Final[int]
    VMR_BUS_DONE: Final[int]
    VMR_BUS_NONE: Final[int]
    VMR_BUS_PYTHON: Final[int]
    VMR_DISK_DISCARDING: Final[int]
    VMR_DISK_FAILURES: Final[int]
    VMR_DISK_FINISHING: Final[int]
    VMR_DISK_FLUSHING: Final[int]
    VMR_DISK_OVERLAY: Final[int]
    VMR_DISK_READING: Final[int]
    VMR_DISK_RO: Final[int]
    VMR_DISK_RW: Final[int]
    VMR_DISK_WRITING: Final[int]
    VMR_DISK_ZEROING: Final[int]
    VMR_ERROR_THREADS: Final[int]
    VMR_EXIT_BUDGET: Final[int]
    VMR_EXIT_FAULT: Final[int]
    VMR_EXIT_HALT: Final[int]
    VMR_EXIT_MMIO_READ: Final[int]
    VMR_EXIT_MMIO_WRITE: Final[int]
    VMR_EXIT_STOPPED: Final[int]
    VMR_EXIT_SYSTEM: Final[int]
    VMR_FP_ADD_D: Final[int]
    VMR_FP_ADD_S: Final[int]
    VMR_FP_CLASS_D: Final[int]
    VMR_FP_CLASS_S: Final[int]
    VMR_FP_CVT_D_L: Final[int]
    VMR_FP_CVT_D_LU: Final[int]
    VMR_FP_CVT_D_S: Final[int]
    VMR_FP_CVT_D_W: Final[int]
    VMR_FP_CVT_D_WU: Final[int]
    VMR_FP_CVT_LU_D: Final[int]
    VMR_FP_CVT_LU_S: Final[int]
    VMR_FP_CVT_L_D: Final[int]
    VMR_FP_CVT_L_S: Final[int]
    VMR_FP_CVT_S_D: Final[int]
    VMR_FP_CVT_S_L: Final[int]
    VMR_FP_CVT_S_LU: Final[int]
    VMR_FP_CVT_S_W: Final[int]
    VMR_FP_CVT_S_WU: Final[int]
    VMR_FP_CVT_WU_D: Final[int]
    VMR_FP_CVT_WU_S: Final[int]
    VMR_FP_CVT_W_D: Final[int]
    VMR_FP_CVT_W_S: Final[int]
    VMR_FP_DIV_D: Final[int]
    VMR_FP_DIV_S: Final[int]
    VMR_FP_DZ: Final[int]
    VMR_FP_EQ_D: Final[int]
    VMR_FP_EQ_S: Final[int]
    VMR_FP_FMA_D: Final[int]
    VMR_FP_FMA_S: Final[int]
    VMR_FP_LE_D: Final[int]
    VMR_FP_LE_S: Final[int]
    VMR_FP_LT_D: Final[int]
    VMR_FP_LT_S: Final[int]
    VMR_FP_MAX_D: Final[int]
    VMR_FP_MAX_S: Final[int]
    VMR_FP_MIN_D: Final[int]
    VMR_FP_MIN_S: Final[int]
    VMR_FP_MUL_D: Final[int]
    VMR_FP_MUL_S: Final[int]
    VMR_FP_NV: Final[int]
    VMR_FP_NX: Final[int]
    VMR_FP_OF: Final[int]
    VMR_FP_SOFT: Final[int]
    VMR_FP_SQRT_D: Final[int]
    VMR_FP_SQRT_S: Final[int]
    VMR_FP_SUB_D: Final[int]
    VMR_FP_SUB_S: Final[int]
    VMR_FP_UF: Final[int]
    VMR_IMSIC_PAGE: Final[int]
    VMR_IMSIC_SETEIPNUM_BE: Final[int]
    VMR_IMSIC_SETEIPNUM_LE: Final[int]
    VMR_ISELECT_EIDELIVERY: Final[int]
    VMR_ISELECT_EIE: Final[int]
    VMR_ISELECT_EIP: Final[int]
    VMR_ISELECT_EITHRESHOLD: Final[int]
    VMR_KVM_FAILED_ENTRY: Final[int]
    VMR_KVM_GUEST_CRASH: Final[int]
    VMR_KVM_INTERNAL_ERROR: Final[int]
    VMR_KVM_MEMORY_FAULT: Final[int]
    VMR_KVM_TRIPLE_FAULT: Final[int]
    VMR_KVM_UNDONE_ACCESS: Final[int]
    VMR_KVM_UNKNOWN_EXIT: Final[int]
    VMR_MSI_STRIDE: Final[int]
    VMR_NEVER: Final[int]
    VMR_NOWHERE: Final[int]
    VMR_PIO: Final[int]
    VMR_PL011_CR: Final[int]
    VMR_PL011_CR_DTR: Final[int]
    VMR_PL011_CR_LBE: Final[int]
    VMR_PL011_CR_OUT1: Final[int]
    VMR_PL011_CR_OUT2: Final[int]
    VMR_PL011_CR_RTS: Final[int]
    VMR_PL011_DMACR: Final[int]
    VMR_PL011_DR: Final[int]
    VMR_PL011_DR_OE: Final[int]
    VMR_PL011_FBRD: Final[int]
    VMR_PL011_FR: Final[int]
    VMR_PL011_FR_BUSY: Final[int]
    VMR_PL011_FR_CTS: Final[int]
    VMR_PL011_FR_DCD: Final[int]
    VMR_PL011_FR_DSR: Final[int]
    VMR_PL011_FR_RI: Final[int]
    VMR_PL011_FR_RXFE: Final[int]
    VMR_PL011_FR_RXFF: Final[int]
    VMR_PL011_FR_TXFE: Final[int]
    VMR_PL011_FR_TXFF: Final[int]
    VMR_PL011_IBRD: Final[int]
    VMR_PL011_ICR: Final[int]
    VMR_PL011_IFLS: Final[int]
    VMR_PL011_IFLS_RX: Final[int]
    VMR_PL011_ILPR: Final[int]
    VMR_PL011_IMSC: Final[int]
    VMR_PL011_LCRH: Final[int]
    VMR_PL011_LCRH_FEN: Final[int]
    VMR_PL011_MIS: Final[int]
    VMR_PL011_PCELLID0: Final[int]
    VMR_PL011_PCELLID1: Final[int]
    VMR_PL011_PCELLID2: Final[int]
    VMR_PL011_PCELLID3: Final[int]
    VMR_PL011_PERIPHID0: Final[int]
    VMR_PL011_PERIPHID1: Final[int]
    VMR_PL011_PERIPHID2: Final[int]
    VMR_PL011_PERIPHID3: Final[int]
    VMR_PL011_RIS: Final[int]
    VMR_PL011_RIS_CTS: Final[int]
    VMR_PL011_RIS_DCD: Final[int]
    VMR_PL011_RIS_DSR: Final[int]
    VMR_PL011_RIS_OE: Final[int]
    VMR_PL011_RIS_RI: Final[int]
    VMR_PL011_RIS_RT: Final[int]
    VMR_PL011_RIS_RX: Final[int]
    VMR_PL011_RIS_TX: Final[int]
    VMR_PL011_RSR: Final[int]
    VMR_PL011_RSR_OE: Final[int]
    VMR_PLIC_CLAIM: Final[int]
    VMR_PLIC_CONTEXT: Final[int]
    VMR_PLIC_CONTEXT_STRIDE: Final[int]
    VMR_PLIC_ENABLE: Final[int]
    VMR_PLIC_ENABLE_STRIDE: Final[int]
    VMR_PLIC_PENDING: Final[int]
    VMR_PLIC_PRIORITY: Final[int]
    VMR_PLIC_PRIORITY_MAX: Final[int]
    VMR_PLIC_THRESHOLD: Final[int]
    VMR_PORT_CONSOLE: Final[int]
    VMR_PORT_HANGUP: Final[int]
    VMR_REGION_FLASH: Final[int]
    VMR_REGION_RAM: Final[int]
    VMR_REGION_ROM: Final[int]
    VMR_RM_RDN: Final[int]
    VMR_RM_RMM: Final[int]
    VMR_RM_RNE: Final[int]
    VMR_RM_RTZ: Final[int]
    VMR_RM_RUP: Final[int]
    VMR_RV64_A: Final[int]
    VMR_RV64_C: Final[int]
    VMR_RV64_D: Final[int]
    VMR_RV64_F: Final[int]
    VMR_RV64_JIT_LEAST: Final[int]
    VMR_RV64_M: Final[int]
    VMR_RV64_SSAIA: Final[int]
    VMR_RV64_SSTC: Final[int]
    VMR_RV64_SV48: Final[int]
    VMR_RV64_SVINVAL: Final[int]
    VMR_RV64_ZBA: Final[int]
    VMR_RV64_ZBB: Final[int]
    VMR_RV64_ZBS: Final[int]
    VMR_STATE_MAGIC: Final[int]
    VMR_SYSTEM_COLD_REBOOT: Final[int]
    VMR_SYSTEM_POWEROFF: Final[int]
    VMR_SYSTEM_WARM_REBOOT: Final[int]
    VMR_UART_DLL: Final[int]
    VMR_UART_DLM: Final[int]
    VMR_UART_FCR: Final[int]
    VMR_UART_FCR_CLEAR_RX: Final[int]
    VMR_UART_FCR_CLEAR_TX: Final[int]
    VMR_UART_FCR_ENABLE: Final[int]
    VMR_UART_FCR_TRIGGER: Final[int]
    VMR_UART_IER: Final[int]
    VMR_UART_IER_MSR: Final[int]
    VMR_UART_IER_RDA: Final[int]
    VMR_UART_IER_RLS: Final[int]
    VMR_UART_IER_THRE: Final[int]
    VMR_UART_IIR: Final[int]
    VMR_UART_IIR_FIFO: Final[int]
    VMR_UART_IIR_MSR: Final[int]
    VMR_UART_IIR_NONE: Final[int]
    VMR_UART_IIR_RDA: Final[int]
    VMR_UART_IIR_RLS: Final[int]
    VMR_UART_IIR_THRE: Final[int]
    VMR_UART_IIR_TIMEOUT: Final[int]
    VMR_UART_LCR: Final[int]
    VMR_UART_LCR_DLAB: Final[int]
    VMR_UART_LSR: Final[int]
    VMR_UART_LSR_DR: Final[int]
    VMR_UART_LSR_OE: Final[int]
    VMR_UART_LSR_TEMT: Final[int]
    VMR_UART_LSR_THRE: Final[int]
    VMR_UART_MCR: Final[int]
    VMR_UART_MCR_LOOP: Final[int]
    VMR_UART_MSR: Final[int]
    VMR_UART_RBR: Final[int]
    VMR_UART_SCR: Final[int]
    VMR_UART_THR: Final[int]
    VMR_VIRTIO_BLK_F_BLK_SIZE: Final[int]
    VMR_VIRTIO_BLK_F_DISCARD: Final[int]
    VMR_VIRTIO_BLK_F_FLUSH: Final[int]
    VMR_VIRTIO_BLK_F_RO: Final[int]
    VMR_VIRTIO_BLK_F_SEG_MAX: Final[int]
    VMR_VIRTIO_BLK_F_WRITE_ZEROES: Final[int]
    VMR_VIRTIO_BLK_S_IOERR: Final[int]
    VMR_VIRTIO_BLK_S_OK: Final[int]
    VMR_VIRTIO_BLK_S_UNSUPP: Final[int]
    VMR_VIRTIO_BLK_T_DISCARD: Final[int]
    VMR_VIRTIO_BLK_T_FLUSH: Final[int]
    VMR_VIRTIO_BLK_T_GET_ID: Final[int]
    VMR_VIRTIO_BLK_T_IN: Final[int]
    VMR_VIRTIO_BLK_T_OUT: Final[int]
    VMR_VIRTIO_BLK_T_WRITE_ZEROES: Final[int]
    VMR_VIRTIO_CONSOLE_CONSOLE_PORT: Final[int]
    VMR_VIRTIO_CONSOLE_DEVICE_READY: Final[int]
    VMR_VIRTIO_CONSOLE_F_MULTIPORT: Final[int]
    VMR_VIRTIO_CONSOLE_F_SIZE: Final[int]
    VMR_VIRTIO_CONSOLE_PORT_ADD: Final[int]
    VMR_VIRTIO_CONSOLE_PORT_NAME: Final[int]
    VMR_VIRTIO_CONSOLE_PORT_OPEN: Final[int]
    VMR_VIRTIO_CONSOLE_PORT_READY: Final[int]
    VMR_VIRTIO_CONSOLE_RESIZE: Final[int]
    VMR_VIRTIO_F_EVENT_IDX: Final[int]
    VMR_VIRTIO_F_INDIRECT_DESC: Final[int]
    VMR_VIRTIO_F_VERSION_1: Final[int]
    VMR_VIRTIO_ID_BLK: Final[int]
    VMR_VIRTIO_ID_CONSOLE: Final[int]
    VMR_VIRTIO_ID_RNG: Final[int]
    VMR_VIRTIO_INT_CONFIG: Final[int]
    VMR_VIRTIO_INT_VRING: Final[int]
    VMR_VIRTIO_MAGIC: Final[int]
    VMR_VIRTIO_MMIO_CONFIG: Final[int]
    VMR_VIRTIO_MMIO_CONFIG_GENERATION: Final[int]
    VMR_VIRTIO_MMIO_DEVICE_FEATURES: Final[int]
    VMR_VIRTIO_MMIO_DEVICE_FEATURES_SEL: Final[int]
    VMR_VIRTIO_MMIO_DEVICE_ID: Final[int]
    VMR_VIRTIO_MMIO_DRIVER_FEATURES: Final[int]
    VMR_VIRTIO_MMIO_DRIVER_FEATURES_SEL: Final[int]
    VMR_VIRTIO_MMIO_INTERRUPT_ACK: Final[int]
    VMR_VIRTIO_MMIO_INTERRUPT_STATUS: Final[int]
    VMR_VIRTIO_MMIO_MAGIC: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_DESC_HIGH: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_DESC_LOW: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_DEVICE_HIGH: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_DEVICE_LOW: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_DRIVER_HIGH: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_DRIVER_LOW: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_NOTIFY: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_NUM: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_NUM_MAX: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_READY: Final[int]
    VMR_VIRTIO_MMIO_QUEUE_SEL: Final[int]
    VMR_VIRTIO_MMIO_SHM_BASE_HIGH: Final[int]
    VMR_VIRTIO_MMIO_SHM_BASE_LOW: Final[int]
    VMR_VIRTIO_MMIO_SHM_LEN_HIGH: Final[int]
    VMR_VIRTIO_MMIO_SHM_LEN_LOW: Final[int]
    VMR_VIRTIO_MMIO_SHM_SEL: Final[int]
    VMR_VIRTIO_MMIO_STATUS: Final[int]
    VMR_VIRTIO_MMIO_VENDOR_ID: Final[int]
    VMR_VIRTIO_MMIO_VERSION: Final[int]
    VMR_VIRTIO_STATUS_ACKNOWLEDGE: Final[int]
    VMR_VIRTIO_STATUS_DRIVER: Final[int]
    VMR_VIRTIO_STATUS_DRIVER_OK: Final[int]
    VMR_VIRTIO_STATUS_FAILED: Final[int]
    VMR_VIRTIO_STATUS_FEATURES_OK: Final[int]
    VMR_VIRTIO_STATUS_NEEDS_RESET: Final[int]
    VMR_VIRTIO_VENDOR: Final[int]
    VMR_VIRTQ_SIZE: Final[int]
    vmr_python_expired: CData
    def vmr_aplic_new(self, machine: vmr_machine, gpa: int, size: int, sources: int, messages: vmr_msi, aplic: CData, /) -> int: ...
    def vmr_bus_ask(self, access: vmr_bus_access, exit: vmr_exit, /) -> None: ...
    def vmr_bus_begin(self, machine: vmr_machine, access: vmr_bus_access, /) -> int: ...
    def vmr_bus_claim(self, machine: vmr_machine, gpa: int, size: int, id: int, min_width: int, max_width: int, window: CData, /) -> int: ...
    def vmr_bus_move(self, machine: vmr_machine, window: vmr_window, gpa: int, /) -> int: ...
    def vmr_bus_peek(self, machine: vmr_machine, gpa: int, size: int, value: CData, /) -> int: ...
    def vmr_bus_poke(self, machine: vmr_machine, gpa: int, size: int, value: int, /) -> int: ...
    def vmr_bus_remove(self, machine: vmr_machine, window: vmr_window, /) -> int: ...
    def vmr_bus_take(self, access: vmr_bus_access, exit: vmr_exit, /) -> int: ...
    def vmr_clock_advance(self, clock: vmr_clock, ns: int, /) -> int: ...
    def vmr_clock_day(self, clock: vmr_clock, /) -> int: ...
    def vmr_clock_hold(self, clock: vmr_clock, /) -> None: ...
    def vmr_clock_make_virtual(self, clock: vmr_clock, day: int, /) -> int: ...
    def vmr_clock_release(self, clock: vmr_clock, /) -> None: ...
    def vmr_clock_time(self, clock: vmr_clock, /) -> int: ...
    def vmr_dirty_fetch(self, region: vmr_region, bits: CData, count: int, /) -> int: ...
    def vmr_dirty_start(self, region: vmr_region, /) -> int: ...
    def vmr_dirty_stop(self, region: vmr_region, /) -> int: ...
    def vmr_fp_op(self, op: int, rm: int, a: int, b: int, c: int, result: CData, flags: CData, /) -> int: ...
    def vmr_fp_ops(self, op: int, rm: int, n: int, a: CData, b: CData, c: CData, result: CData, flags: CData, /) -> int: ...
    def vmr_guest_error_at(self, machine: vmr_machine, index: int, out: vmr_guest_error, /) -> int: ...
    def vmr_imsic_claim(self, imsic: vmr_imsic, file: int, /) -> int: ...
    def vmr_imsic_get(self, imsic: vmr_imsic, file: int, select: int, value: CData, /) -> int: ...
    def vmr_imsic_new(self, machine: vmr_machine, gpa: int, size: int, files: int, identities: int, outputs: vmr_line, imsic: CData, /) -> int: ...
    def vmr_imsic_output(self, imsic: vmr_imsic, file: int, /) -> int: ...
    def vmr_imsic_set(self, imsic: vmr_imsic, file: int, select: int, value: int, mask: int, /) -> int: ...
    def vmr_imsic_top(self, imsic: vmr_imsic, file: int, /) -> int: ...
    def vmr_irqchip_line(self, machine: vmr_machine, pin: int, line: vmr_line, /) -> int: ...
    def vmr_kvm_arm_vcpu_init(self, vcpu: vmr_vcpu, features: int, powered: int, /) -> int: ...
    def vmr_kvm_capability(self, kvm_fd: int, capability: int, /) -> int: ...
    def vmr_kvm_device_get(self, device: vmr_kvm_device, group: int, attribute: int, value: CData, /) -> int: ...
    def vmr_kvm_device_new(self, kvm: vmr_kvm, kind: int, device: CData, /) -> int: ...
    def vmr_kvm_device_set(self, device: vmr_kvm_device, group: int, attribute: int, value: CData, /) -> int: ...
    def vmr_kvm_device_test(self, kvm: vmr_kvm, kind: int, /) -> int: ...
    def vmr_kvm_get_fault(self, vcpu: vmr_vcpu, fault: vmr_kvm_fault, /) -> int: ...
    def vmr_kvm_get_mp_state(self, vcpu: vmr_vcpu, state: CData, /) -> int: ...
    def vmr_kvm_get_reg(self, vcpu: vmr_vcpu, id: int, value: CData, /) -> int: ...
    def vmr_kvm_get_stats(self, vcpu: vmr_vcpu, stats: vmr_kvm_stats, /) -> int: ...
    def vmr_kvm_ioeventfd(self, kvm: vmr_kvm, eventfd: int, gpa: int, size: int, match: CData, attach: int, /) -> int: ...
    def vmr_kvm_irqfd(self, kvm: vmr_kvm, eventfd: int, gsi: int, resample: int, attach: int, /) -> int: ...
    def vmr_kvm_messages(self, kvm: vmr_kvm, base: int, /) -> int: ...
    def vmr_kvm_new(self, machine: vmr_machine, kvm_fd: int, type: int, kvm: CData, /) -> int: ...
    def vmr_kvm_reg_list(self, vcpu: vmr_vcpu, ids: CData, capacity: int, /) -> int: ...
    def vmr_kvm_riscv64_console(self, kvm: vmr_kvm, in_fd: int, out_fd: int, /) -> int: ...
    def vmr_kvm_set_mp_state(self, vcpu: vmr_vcpu, state: int, /) -> int: ...
    def vmr_kvm_set_reg(self, vcpu: vmr_vcpu, id: int, value: int, /) -> int: ...
    def vmr_kvm_set_routes(self, kvm: vmr_kvm, routes: vmr_kvm_route, count: int, /) -> int: ...
    def vmr_kvm_signal_msi(self, kvm: vmr_kvm, address: int, data: int, /) -> int: ...
    def vmr_kvm_vcpu_attr_has(self, vcpu: vmr_vcpu, group: int, attribute: int, /) -> int: ...
    def vmr_kvm_vcpu_attr_set(self, vcpu: vmr_vcpu, group: int, attribute: int, value: CData, /) -> int: ...
    def vmr_kvm_vcpu_new(self, kvm: vmr_kvm, id: int, vcpu: CData, /) -> int: ...
    def vmr_kvm_version(self, kvm_fd: int, /) -> int: ...
    def vmr_kvm_wire(self, kvm: vmr_kvm, /) -> int: ...
    def vmr_kvm_x86_get_msrs(self, vcpu: vmr_vcpu, msrs: vmr_kvm_x86_msr, count: int, /) -> int: ...
    def vmr_kvm_x86_get_state(self, vcpu: vmr_vcpu, state: vmr_kvm_x86_state, /) -> int: ...
    def vmr_kvm_x86_get_xsave(self, vcpu: vmr_vcpu, area: CData, /) -> int: ...
    def vmr_kvm_x86_irqchip(self, kvm: vmr_kvm, split: int, /) -> int: ...
    def vmr_kvm_x86_pit(self, kvm: vmr_kvm, /) -> int: ...
    def vmr_kvm_x86_real_mode_pages(self, kvm: vmr_kvm, tss_gpa: int, identity_gpa: int, /) -> int: ...
    def vmr_kvm_x86_set_cpuid(self, vcpu: vmr_vcpu, entries: vmr_kvm_x86_cpuid, count: int, /) -> int: ...
    def vmr_kvm_x86_set_lint(self, vcpu: vmr_vcpu, lint0: int, lint1: int, /) -> int: ...
    def vmr_kvm_x86_set_msrs(self, vcpu: vmr_vcpu, msrs: vmr_kvm_x86_msr, count: int, /) -> int: ...
    def vmr_kvm_x86_set_state(self, vcpu: vmr_vcpu, state: vmr_kvm_x86_state, /) -> int: ...
    def vmr_kvm_x86_supported_cpuid(self, kvm_fd: int, entries: vmr_kvm_x86_cpuid, capacity: int, /) -> int: ...
    def vmr_kvm_x86_translate(self, vcpu: vmr_vcpu, linear: int, gpa: CData, /) -> int: ...
    def vmr_kvm_x86_tsc_khz(self, vcpu: vmr_vcpu, /) -> int: ...
    def vmr_line_lower(self, line: vmr_line, /) -> None: ...
    def vmr_line_pulse(self, line: vmr_line, /) -> None: ...
    def vmr_line_raise(self, line: vmr_line, /) -> None: ...
    def vmr_machine_clock(self, machine: vmr_machine, /) -> vmr_clock: ...
    def vmr_machine_drain(self, machine: vmr_machine, timeout_ms: int, /) -> int: ...
    def vmr_machine_error(self, machine: vmr_machine, /) -> CData: ...
    def vmr_machine_free(self, machine: vmr_machine, /) -> None: ...
    def vmr_machine_halt(self, machine: vmr_machine, patience_ms: int, /) -> None: ...
    def vmr_machine_msi(self, machine: vmr_machine, to: vmr_msi, /) -> int: ...
    def vmr_machine_new(self, machine: CData, /) -> int: ...
    def vmr_machine_start(self, machine: vmr_machine, /) -> int: ...
    def vmr_machine_stop(self, machine: vmr_machine, /) -> None: ...
    def vmr_machine_trouble(self, machine: vmr_machine, /) -> int: ...
    def vmr_messages_get(self, messages: vmr_messages, index: int, message: vmr_message, /) -> int: ...
    def vmr_messages_hold(self, messages: vmr_messages, held: int, /) -> None: ...
    def vmr_messages_mask(self, messages: vmr_messages, index: int, masked: int, /) -> int: ...
    def vmr_messages_new(self, machine: vmr_machine, count: int, to: vmr_msi, messages: CData, /) -> int: ...
    def vmr_messages_put(self, messages: vmr_messages, index: int, address: int, data: int, /) -> int: ...
    def vmr_messages_raise(self, messages: vmr_messages, index: int, /) -> int: ...
    def vmr_msi_send(self, to: vmr_msi, address: int, data: int, /) -> int: ...
    def vmr_pl011_get_counters(self, uart: vmr_pl011, state: vmr_pl011_counters, /) -> None: ...
    def vmr_pl011_new(self, machine: vmr_machine, gpa: int, size: int, line: vmr_line, in_fd: int, out_fd: int, uart: CData, /) -> int: ...
    def vmr_plic_get_source(self, plic: vmr_plic, source: int, state: vmr_plic_source, /) -> int: ...
    def vmr_plic_new(self, machine: vmr_machine, gpa: int, size: int, sources: int, contexts: int, outputs: vmr_line, plic: CData, /) -> int: ...
    def vmr_plic_output(self, plic: vmr_plic, context: int, /) -> int: ...
    def vmr_ram_add(self, machine: vmr_machine, gpa: int, size: int, /) -> int: ...
    def vmr_ram_load_fd(self, machine: vmr_machine, gpa: int, fd: int, offset: int, size: int, /) -> int: ...
    def vmr_ram_read(self, machine: vmr_machine, gpa: int, data: CData, size: int, /) -> int: ...
    def vmr_ram_write(self, machine: vmr_machine, gpa: int, data: CData, size: int, /) -> int: ...
    def vmr_recorder_end(self, recorder: vmr_recorder, pin: int, /) -> int: ...
    def vmr_recorder_get(self, recorder: vmr_recorder, pin: int, recorded: vmr_recorded, /) -> int: ...
    def vmr_recorder_line(self, recorder: vmr_recorder, pin: int, line: vmr_line, /) -> int: ...
    def vmr_recorder_message(self, recorder: vmr_recorder, pin: int, address: CData, data: CData, /) -> int: ...
    def vmr_recorder_msi(self, recorder: vmr_recorder, base: int, to: vmr_msi, /) -> int: ...
    def vmr_recorder_new(self, machine: vmr_machine, pins: int, recorder: CData, /) -> int: ...
    def vmr_recorder_watch(self, recorder: vmr_recorder, pin: int, line: vmr_line, /) -> int: ...
    def vmr_region_add(self, machine: vmr_machine, gpa: int, size: int, kind: int, shared: int, region: CData, /) -> int: ...
    def vmr_region_fd(self, region: vmr_region, /) -> int: ...
    def vmr_region_move(self, region: vmr_region, gpa: int, /) -> int: ...
    def vmr_region_ptr(self, region: vmr_region, offset: int, size: int, /) -> CData: ...
    def vmr_region_read(self, region: vmr_region, offset: int, data: CData, size: int, /) -> int: ...
    def vmr_region_remove(self, region: vmr_region, /) -> int: ...
    def vmr_region_trap(self, region: vmr_region, trap: int, /) -> int: ...
    def vmr_region_write(self, region: vmr_region, offset: int, data: CData, size: int, /) -> int: ...
    def vmr_rv64_boot(self, vcpu: vmr_vcpu, pc: int, opaque: int, /) -> int: ...
    def vmr_rv64_debug_console(self, machine: vmr_machine, in_fd: int, out_fd: int, /) -> int: ...
    def vmr_rv64_get(self, vcpu: vmr_vcpu, reg: int, value: CData, /) -> int: ...
    def vmr_rv64_get_stats(self, vcpu: vmr_vcpu, stats: vmr_rv64_stats, /) -> int: ...
    def vmr_rv64_jit(self, vcpu: vmr_vcpu, threshold: int, code_bytes: int, /) -> int: ...
    def vmr_rv64_jit_probe(self) -> int: ...
    def vmr_rv64_new(self, machine: vmr_machine, isa: int, timebase_hz: int, cache_bytes: int, vcpu: CData, /) -> int: ...
    def vmr_rv64_run(self, vcpu: vmr_vcpu, instructions: int, exit: vmr_exit, /) -> int: ...
    def vmr_rv64_set(self, vcpu: vmr_vcpu, reg: int, value: int, /) -> int: ...
    def vmr_rv64_set_imsic(self, vcpu: vmr_vcpu, imsic: vmr_imsic, /) -> int: ...
    def vmr_state_load(self, machine: vmr_machine, object: CData, bytes: CData, size: int, /) -> int: ...
    def vmr_state_save(self, machine: vmr_machine, object: CData, bytes: CData, capacity: int, /) -> int: ...
    def vmr_timer_arm(self, timer: vmr_timer, deadline: int, /) -> None: ...
    def vmr_timer_cancel(self, timer: vmr_timer, /) -> None: ...
    def vmr_timer_deadline(self, timer: vmr_timer, /) -> int: ...
    def vmr_timer_new(self, machine: vmr_machine, expired: CData, opaque: CData, timer: CData, /) -> int: ...
    def vmr_uart16550_get_counters(self, uart: vmr_uart16550, state: vmr_uart16550_counters, /) -> None: ...
    def vmr_uart16550_new(self, machine: vmr_machine, gpa: int, size: int, line: vmr_line, in_fd: int, out_fd: int, uart: CData, /) -> int: ...
    def vmr_vcpu_fault(self, vcpu: vmr_vcpu, /) -> CData: ...
    def vmr_vcpu_kick(self, vcpu: vmr_vcpu, /) -> None: ...
    def vmr_vcpu_line(self, machine: vmr_machine, index: int, input: int, line: vmr_line, /) -> int: ...
    def vmr_vcpu_run(self, vcpu: vmr_vcpu, exit: vmr_exit, /) -> int: ...
    def vmr_vcpu_total(self, machine: vmr_machine, /) -> int: ...
    def vmr_virtio_blk_failure_at(self, disk: vmr_virtio_blk, index: int, failure: vmr_disk_failure, /) -> int: ...
    def vmr_virtio_blk_get_counters(self, disk: vmr_virtio_blk, state: vmr_virtio_blk_counters, /) -> None: ...
    def vmr_virtio_blk_new(self, machine: vmr_machine, gpa: int, size: int, line: vmr_line, fd: int, mode: int, overlay_fd: int, serial: CData, disk: CData, /) -> int: ...
    def vmr_virtio_console_get_counters(self, console: vmr_virtio_console, port: int, state: vmr_virtio_console_counters, /) -> int: ...
    def vmr_virtio_console_new(self, machine: vmr_machine, gpa: int, size: int, line: vmr_line, ports: int, cols: int, rows: int, console: CData, /) -> int: ...
    def vmr_virtio_console_port(self, console: vmr_virtio_console, port: int, name: CData, flags: int, in_fd: int, out_fd: int, /) -> int: ...
    def vmr_virtio_console_resize(self, console: vmr_virtio_console, cols: int, rows: int, /) -> int: ...
    def vmr_virtio_rng_new(self, machine: vmr_machine, gpa: int, size: int, line: vmr_line, source_fd: int, rng: CData, /) -> int: ...
