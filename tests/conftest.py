"""What holds for all tests: nothing is judged by the clock of a fast machine."""

from __future__ import annotations

import hypothesis
import pytest

from patience import patience, slowness

hypothesis.settings.register_profile(
    "vmrun", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("vmrun")


def pytest_configure() -> None:
    """Measure this machine before there are workers: they inherit it."""
    slowness()


@pytest.fixture(scope="session", autouse=True)
def _device_bench() -> None:
    from vmrun.devices import testing

    testing.PATIENCE_S = patience(testing.PATIENCE_S)
