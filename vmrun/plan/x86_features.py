"""CPU features of x86 by the names of the kernel's /proc/cpuinfo, and the CPUID bits behind them.

Source: Linux ``arch/x86/include/asm/cpufeatures.h`` (words 0, 1, 4, 6, 9, 10, 12, 13, 16, 18) and, for what falls with
a feature, ``arch/x86/kernel/cpu/cpuid-deps.c``.
"""

from __future__ import annotations

from functools import cache

Bit = tuple[int, int, str, int]
"""CPUID function, index, register, bit."""

_WORDS = {
    (1, 0, "edx"): """fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov
        pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe""",
    (1, 0, "ecx"): """pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm
        - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor""",
    (0x80000001, 0, "edx"): """- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt
        pdpe1gb rdtscp - lm 3dnowext 3dnow""",
    (0x80000001, 0, "ecx"): """lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs
        xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc
        mwaitx - -""",
    (7, 0, "ebx"): """fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a
        avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni
        avx512bw avx512vl""",
    (7, 0, "ecx"): """- avx512vbmi umip pku - waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg
        tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc -""",
    (7, 0, "edx"): """- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect - md_clear - - - serialize -
        tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 - - flush_l1d arch_capabilities - -""",
    (7, 1, "eax"): "- - - - avx_vnni avx512_bf16" + " -" * 20 + " lam - - - - -",
    (0xD, 1, "eax"): "xsaveopt xsavec xgetbv1 xsaves" + " -" * 28,
    (0x80000008, 0, "ebx"): "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd" + " -" * 22,
}

_FALLS_WITH = {
    "fxsr": ("sse", "fxsr_opt", "xsave"),
    "sse": ("sse2", "mmxext"),
    "sse2": ("pni", "pclmulqdq", "aes", "sha_ni", "gfni", "avx"),
    "pni": ("ssse3", "sse4a"),
    "ssse3": ("sse4_1",),
    "sse4_1": ("sse4_2",),
    "xsave": ("xsaveopt", "xsavec", "xsaves", "xgetbv1", "xsaveerptr", "avx", "pku", "mpx", "amx_tile"),
    "avx": ("avx2", "fma", "f16c", "fma4", "xop", "vaes", "vpclmulqdq"),
    "avx2": ("avx_vnni", "avx512f"),
    "avx512f": tuple(
        name for words in _WORDS.values() for name in words.split() if name.startswith("avx512") and name != "avx512f"
    ),
    "amx_tile": ("amx_bf16", "amx_int8"),
}

XSTATE = {"avx": 0b100, "mpx": 0b11000, "avx512f": 0b11100000, "pku": 1 << 9, "amx_tile": 0b11 << 17}
"""Feature -> the components of extended state that it alone uses (Intel SDM vol. 1, 13.1)."""


@cache
def bits() -> dict[str, Bit]:
    """Return every feature that has a name, with its bit."""
    return {
        name: (function, index, register, bit)
        for (function, index, register), words in _WORDS.items()
        for bit, name in enumerate(words.split())
        if name != "-"
    }


def with_dependents(name: str) -> frozenset[str]:
    """Return ``name`` and every feature that cannot be without it."""
    found: set[str] = set()
    todo = [name]
    while todo:
        feature = todo.pop()
        if feature not in found:
            found.add(feature)
            todo += _FALLS_WITH.get(feature, ())
    return frozenset(found)
