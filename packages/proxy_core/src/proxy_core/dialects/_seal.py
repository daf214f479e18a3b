"""Signatures in the hands of clients that speak another dialect than the provider that signed."""

from __future__ import annotations

from typing import Final

from proxy_core.dialects._canonical import Signature

__all__ = ["sealed", "unsealed"]

_MARK: Final = "lp1:"


def sealed(signature: Signature, dialect: str) -> str:
    """The text that a client of ``dialect`` keeps for us: as it is where it is its own."""
    if signature.origin == dialect:
        return signature.value
    return f"{_MARK}{signature.origin}:{signature.value}"


def unsealed(text: str, dialect: str) -> Signature:
    """What a client of ``dialect`` sent back."""
    if text.startswith(_MARK):
        origin, colon, value = text[len(_MARK) :].partition(":")
        if colon:
            return Signature(origin=origin, value=value)
    return Signature(origin=dialect, value=text)
