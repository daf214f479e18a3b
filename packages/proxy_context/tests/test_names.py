"""The public names are the ones that are listed."""

from __future__ import annotations

import doctest
import types

import proxy_context
from proxy_context import errors, testing


def test_all_is_exact() -> None:
    """``__all__`` is sorted and is what a user finds, no more and no less."""
    public = {
        name
        for name, value in vars(proxy_context).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    public.discard("annotations")
    assert proxy_context.__all__ == sorted(proxy_context.__all__)
    assert set(proxy_context.__all__) - {"__version__"} == public


def test_every_error_is_in_the_drawn_tree() -> None:
    """The tree in the module's docstring has every error, and every error has the base."""
    for name in errors.__all__:
        assert name in (errors.__doc__ or "")
        assert issubclass(getattr(errors, name), errors.ContextError)


def test_the_package_docstring_works() -> None:
    """The lines at the top of the package do what they say."""
    assert doctest.testmod(proxy_context).failed == 0


def test_the_doubles_are_listed() -> None:
    """What testing lists is there."""
    assert all(hasattr(testing, name) for name in testing.__all__)
