"""The public surface is what `__all__` says."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import proxy_logging
from proxy_logging import testing


def test_all_is_sorted_and_exact() -> None:
    """Every public name of the package is listed, nothing else, in order."""
    for name in proxy_logging.__all__:
        getattr(proxy_logging, name)  # it stands there once it was asked for
    public = {
        name
        for name, value in vars(proxy_logging).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert proxy_logging.__all__ == sorted(public)


@pytest.mark.parametrize(
    "name",
    [found.name for found in pkgutil.iter_modules(proxy_logging.__path__, "proxy_logging.")],
)
def test_each_module_lists_names_that_exist(name: str) -> None:
    """A module's `__all__` is sorted and names only what the module has."""
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert listed == sorted(listed)
    assert all(hasattr(module, public) for public in listed)


def test_testing_is_importable_by_path() -> None:
    """The doubles are public under `proxy_logging.testing`."""
    assert testing.__all__ == ["CountedSpan", "CountingTracer", "RecordingObserver", "captured"]


def test_who_tells_of_events_waits_for_no_library() -> None:
    """Events and ``fan_out`` come without structlog and prometheus-client, which take 100 ms."""
    program = (
        "import sys; from proxy_logging import BreakerChanged, RequestFinished, fan_out;"
        "print(*{'structlog', 'prometheus_client'} & {*sys.modules})"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout.split() == []
