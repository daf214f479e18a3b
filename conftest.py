"""How the tests are shared out when several processes run them."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What installs or boots runs in one process: it needs the machine more than a core."""
    for item in items:
        if "systemd" in item.path.parts or item.get_closest_marker("packaging"):
            item.add_marker(pytest.mark.xdist_group("machine"))
