"""What each package exports is what it says that it exports."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ["proxy_api", "proxy_context", "proxy_core", "proxy_logging"]
_FUTURE = importlib.import_module("__future__").annotations


def _public(package: ModuleType) -> Iterator[str]:
    """Name what a user sees: no underscore, no submodule, no `from __future__`."""
    for name, value in vars(package).items():
        if not name.startswith("_") and not isinstance(value, ModuleType) and value is not _FUTURE:
            yield name


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_all_is_sorted(package: ModuleType) -> None:
    """`__all__` is in the order of sorted(), without repetition."""
    assert list(package.__all__) == sorted(set(package.__all__))


def test_all_is_the_public_names(package: ModuleType) -> None:
    """`__all__` holds each public name and nothing else; dunders may be added."""
    exported = {name for name in package.__all__ if not name.startswith("__")}
    for name in package.__all__:
        getattr(package, name)  # a name that is resolved when it is asked for stands here then
    assert exported == set(_public(package))


def test_version_is_the_one_of_the_file(package: ModuleType) -> None:
    """`__version__` is what `_version.py` says."""
    file = importlib.import_module(f"{package.__name__}._version")
    assert package.__version__ == file.__version__


def test_the_docstring_says_what_it_is_for(package: ModuleType) -> None:
    """A package's docstring says what it is for, and shows a line of code that imports it."""
    assert package.__doc__
    assert f"from {package.__name__} import" in package.__doc__
