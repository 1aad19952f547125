"""What both views say, in the same words."""

from __future__ import annotations

from vmrun.plan.model import MachinePlan
from vmrun.printable import clean
from vmrun.run.outcome import CODE_DEAD, CODE_TIMEOUT, CODE_VMRUN, FAULTS, Outcome
from vmrun.units import format_size, format_time_ns

FIRST_INSTRUCTION = "kernel"
"""The phase that begins with the guest's first instruction."""


def seconds(ns: int) -> str:
    """Return nanoseconds as seconds with two places, right for a column."""
    return f"{ns / 1e9:7.2f}s"


def machine_line(plan: MachinePlan) -> str:
    """Return the machine on one line: its name, board, vCPUs, memory."""
    ram = format_size(sum(region.size for region in plan.ram))
    cpus = f"{plan.cpu.count} {'hart' if plan.cpu.arch == 'riscv64' else 'vCPU'}{'s' if plan.cpu.count != 1 else ''}"
    return clean(f"{plan.name}: {plan.board}, {cpus}, {ram}, {len(plan.devices)} devices")


def engine_line(plan: MachinePlan) -> str:
    """Return the engine and why it runs the guest."""
    return clean(f"engine {plan.engine}: {plan.why}")


def phase_lengths(outcome: Outcome) -> dict[str, int]:
    """Return the nanoseconds of every phase by its name, phases of the same name together, in order."""
    sums: dict[str, int] = {}
    for phase in outcome.phases:
        sums[phase.name] = sums.get(phase.name, 0) + phase.end_ns - phase.start_ns
    return sums


def phases_line(outcome: Outcome) -> str:
    """Return every phase with its time."""
    return " · ".join(f"{name} {format_time_ns(ns)}" for name, ns in phase_lengths(outcome).items())


def total_ns(outcome: Outcome) -> int:
    """Return the nanoseconds from the process's start to the end of the last phase."""
    return max((phase.end_ns for phase in outcome.phases), default=0)


def guest_error_lines(outcome: Outcome) -> list[str]:
    """Return what the guest did wrong, one device and cause a line."""
    return [f"the guest did wrong: {g.device}: {g.what} ({g.times} times)" for g in outcome.guest_errors]


def report_lines(outcome: Outcome) -> list[str]:
    """Return what the engine tells of a fault beyond the verdict, line by line."""
    lines = outcome.report.splitlines() if outcome.reason in FAULTS else []
    return [f"  {clean(line)}" for line in lines if line != outcome.detail]


def died(outcome: Outcome) -> bool:
    """Return whether the end of the console is worth showing: the guest did not end as it should have."""
    return outcome.code in (CODE_TIMEOUT, CODE_VMRUN, CODE_DEAD) and outcome.status is None


def tail_lines(outcome: Outcome, count: int) -> list[str]:
    """Return the last ``count`` lines of the console that say something."""
    text = outcome.tail.decode("utf-8", "replace").replace("\r", "")
    lines = ("".join(c if c.isprintable() or c == "\t" else "" for c in line).rstrip() for line in text.split("\n"))
    return [line for line in lines if line][-count:]
