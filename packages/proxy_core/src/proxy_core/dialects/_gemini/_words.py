"""Gemini's words and ours: why an answer ended, names of functions, signatures."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy_core.dialects._canonical import Signature, StopReason
from proxy_core.dialects._seal import sealed, unsealed
from proxy_core.errors import InvalidRequest

__all__ = [
    "DIALECT",
    "FAILED_ENDS",
    "OWN_TOOLS",
    "SKIP_SIGNATURE",
    "UNSIGNED",
    "end_of",
    "name_back",
    "safe_name",
    "signature_read",
    "signature_text",
    "word_for",
]

DIALECT: Final = "gemini.generate"

SKIP_SIGNATURE: Final = "skip_thought_signature_validator"
"""In place of the signature that Gemini 3 demands of the first call of each step of the current
turn, where history comes from elsewhere: https://ai.google.dev/gemini-api/docs/thought-signatures
"""

UNSIGNED: Final = base64.b64encode(
    sealed(Signature(origin="", value=""), DIALECT).encode()
).decode()
"""What a client keeps with the first call of an answer that no provider signed: by it the call is
known where it comes back on its way to Gemini, and gets ``SKIP_SIGNATURE`` there."""

OWN_TOOLS: Final = frozenset(
    {
        "codeExecution",
        "computerUse",
        "enterpriseWebSearch",
        "fileSearch",
        "googleMaps",
        "googleSearch",
        "googleSearchRetrieval",
        "mcpServers",
        "retrieval",
        "urlContext",
    }
)
"""Tools that Google runs: fields of a Tool beside ``functionDeclarations``."""

_ENDS: Final[Mapping[str, StopReason]] = MappingProxyType(
    {
        "STOP": "end",
        "MAX_TOKENS": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "LANGUAGE": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "IMAGE_PROHIBITED_CONTENT": "content_filter",
        "IMAGE_RECITATION": "content_filter",
        "IMAGE_OTHER": "content_filter",
        "NO_IMAGE": "content_filter",
        "MODEL_ARMOR": "content_filter",
        "ESCALATION": "content_filter",
        "PUP_LIMITED_DISABLED": "content_filter",
        "CONTINUATION": "pause",
    }
)
"""https://ai.google.dev/api/generate-content#FinishReason"""

FAILED_ENDS: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "OTHER",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)
"""The model stumbled: asked again, it may answer."""

_WORDS: Final[Mapping[StopReason, str]] = MappingProxyType(
    {
        "length": "MAX_TOKENS",
        "context_window": "MAX_TOKENS",
        "content_filter": "SAFETY",
        "refusal": "SAFETY",
    }
)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
"""https://googleapis.github.io/java-genai/javadoc/google-genai/com.google.genai.types/
-function-declaration/-builder/name.html"""
_CODED: Final = "lpn_"
_LONGEST_NAME: Final = 64
_URL_SAFE: Final = str.maketrans("+/", "-_")


def end_of(word: str, calls: bool) -> StopReason:
    """What a ``finishReason`` means; Google says STOP behind a function call too."""
    end = _ENDS.get(word, "end")
    return "tool_calls" if end == "end" and calls else end


def word_for(end: StopReason | None) -> str:
    return _WORDS.get(end or "end", "STOP")


def safe_name(name: str, path: str) -> str:
    """The name as Gemini takes it; ``name_back`` gives the client's again.

    Raises InvalidRequest for one that has no room.
    """
    if _NAME.fullmatch(name) and not name.startswith(_CODED):
        return name
    coded = _CODED + base64.b32encode(name.encode()).decode().rstrip("=").lower()
    if not name or len(coded) > _LONGEST_NAME:
        raise InvalidRequest(
            f"The field {path!r} is {name[:80]!r}: for Gemini it must be at most {_LONGEST_NAME}"
            " letters, digits, underscores, dots, colons and dashes, and begin with a letter or an"
            " underscore.",
            param=path,
        )
    return coded


def name_back(name: str) -> str:
    if not name.startswith(_CODED):
        return name
    coded = name[len(_CODED) :].upper()
    try:
        return base64.b32decode(coded + "=" * (-len(coded) % 8)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return name


def signature_text(signature: Signature) -> str:
    """For a client: base64 in any case, as its SDK decodes the field."""
    if signature.origin == DIALECT:
        return signature.value
    return base64.urlsafe_b64encode(sealed(signature, DIALECT).encode()).decode()


def signature_read(text: str) -> Signature | None:
    """What a client sent back: one of ours, or Gemini's own as it is; None for ``UNSIGNED``."""
    try:
        opened = base64.b64decode(text.translate(_URL_SAFE), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return Signature(origin=DIALECT, value=text)
    signature = unsealed(opened, DIALECT)
    if signature.origin == DIALECT:
        return Signature(origin=DIALECT, value=text)
    return signature if signature.origin else None
