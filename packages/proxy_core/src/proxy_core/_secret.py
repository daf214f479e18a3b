"""A text that can't be printed by accident."""

from __future__ import annotations

import hashlib

__all__ = ["Secret"]


class Secret:
    """Holds a credential. Only ``reveal()`` gives it out; repr, str, format and pickling don't."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that tell credentials apart in logs; not a way back to one."""
        return hashlib.sha256(b"fingerprint:" + self._value.encode()).hexdigest()[:8]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> str:
        raise TypeError("a Secret can't be pickled")
