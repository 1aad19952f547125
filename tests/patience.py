"""How long tests and benchmarks wait before they call something hung. The only place that knows how fast a machine is.

Limits are written as they hold on a quiet machine of two processors at 3 GHz; `patience` makes of them what this
machine needs, by one measurement for a whole session: processes of the session inherit it, and so does the lab's host.
As a program it prints a limit in whole seconds:

    python tests/patience.py SECONDS
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from functools import cache

VARIABLE = "VMRUN_TEST_SLOWNESS"
"""The environment variable in which the measurement is handed on; set by hand, it takes the measurement's place."""
_REFERENCE_S = 0.08
"""What `_work` takes on the machine for which limits are written."""
_LOOKS = 3
_MOST = 40.0
"""A machine that is slower yet is stuck, and a limit is to say so."""


def patience(seconds: float) -> float:
    """Return how long to wait here for what is done within ``seconds`` on the machine that limits are written for."""
    return seconds * slowness()


@cache
def slowness() -> float:
    """Return how many times slower this machine is, at least 1.

    Load is slowness too: the worst of a few looks counts, and the best one times what runs on a processor at a time,
    since a scheduler is kind to who begins.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return float(given)
    looks = [_work() / _REFERENCE_S for _ in range(_LOOKS)]
    found = min(max(1.0, max(looks), min(looks) * _load()), _MOST)
    os.environ[VARIABLE] = f"{found:.2f}"
    return found


def _load() -> float:
    """Return how many threads there are for each processor, this one among them."""
    return (os.getloadavg()[0] + 1) / (os.cpu_count() or 1)


def _work() -> float:
    """Return the seconds that some arithmetic and a new process take: what tests mostly do."""
    start = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number & 7
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(math.ceil(patience(float(sys.argv[1]))))
