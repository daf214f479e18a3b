"""Which tests need the machine for themselves; the others run in several processes."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what boots, builds or installs: it is timed, or takes the machine's time from others."""
    for item in items:
        if "systemd" in item.path.parts or item.get_closest_marker("packaging"):
            item.add_marker("machine")
