"""Runs in the lab's host (L1): pytest, and once more what failed of it, one by one, where that is a test or two.

    python3 pytest_twice.py JUNIT PYTEST-ARGUMENT…

An emulated host fails a guest now and then, whichever VMM runs it. What passes the second time is named in `again.txt`
beside JUNIT, and so in the lab's last words; more failures than that are no accident.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

MOST = 2
_FAILED = 1
"""pytest's status where tests failed and nothing else is wrong."""


def failed(junit: Path, root: Path) -> list[str]:
    """Return the node ids below ``root`` of what failed."""
    return [
        f"{root / case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        for case in ElementTree.parse(junit).getroot().iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]


def main(junit: Path, arguments: Sequence[str], root: Path) -> int:
    """Return pytest's status, 0 where what failed passed the second time."""
    run = (sys.executable, "-m", "pytest", *(word for word in arguments if not word.endswith(".py")))
    files = [word for word in arguments if word.endswith(".py")]
    status = subprocess.run([*run, "--junitxml", str(junit), *files]).returncode
    again = failed(junit, root) if status == _FAILED else []
    if not 0 < len(again) <= MOST:
        return status
    print(f"lab: {len(again)} failed, once more", flush=True)
    second = subprocess.run([*run, "-n", "0", "--junitxml", str(junit.with_name("again.xml")), *again]).returncode
    if second == 0:
        junit.with_name("again.txt").write_text("".join(f"{test}\n" for test in again))
    return second


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:], Path("/lab/checkout")))
