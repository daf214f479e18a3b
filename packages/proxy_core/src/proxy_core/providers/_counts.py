"""A count of tokens asked for in another dialect: the prompt is translated, not its number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Call, Headers, Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._body import read_json, unreadable_answer
from proxy_core.dialects._codec import ClientCodec, Losses, UpstreamCodec
from proxy_core.dialects._translate import judged
from proxy_core.errors import UpstreamProtocolError
from proxy_core.providers._guess import COUNTED

__all__ = ["COUNTED_IN", "Count", "Counter"]

_WRAPPED: Final = "generateContentRequest"

COUNTED_IN: Final[Mapping[str, str]] = MappingProxyType(
    {"anthropic.count_tokens": "anthropic.messages", "gemini.count_tokens": "gemini.generate"}
)
"""By the dialect of a count, that of the requests whose tokens it counts."""
_PROMPT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "anthropic.count_tokens": frozenset({"model", "messages", "system", "tools"}),
        "gemini.count_tokens": frozenset({"contents", "systemInstruction", "tools"}),
    }
)
"""What has tokens, of a request's fields; most of the others are refused in a count.

Sources: https://platform.claude.com/docs/en/api/messages-count-tokens,
https://ai.google.dev/api/tokens and
https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.publishers.models/countTokens
"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Counter(NamedTuple):
    """Two dialects of one upstream, decided at construction."""

    client: ClientCodec
    codec: UpstreamCodec
    upstream: str
    is_flat: bool
    """Whether Google wants the prompt at the top, as Vertex does, not inside a request."""

    def begin(self, call: Call, model: str, can: Abilities) -> Count:
        """Raises InvalidRequest. What can't be carried is announced: the number is without it."""
        given = read_json(call.body.raw)
        inner = given.get(_WRAPPED) if call.dialect == "gemini.count_tokens" else None
        losses = Losses()
        asked = self.client.read_request(inner if isinstance(inner, dict) else given, losses)
        body = self.codec.write_request(asked, model, can, losses)
        prompt = {name: body[name] for name in body if name in _PROMPT[self.upstream]}
        if self.upstream == "gemini.count_tokens" and not self.is_flat:
            prompt = {_WRAPPED: {"model": f"models/{model.removeprefix('models/')}", **prompt}}
        return Count(prompt, self.upstream, judged(losses.all, "announce", self.upstream))


class Count(NamedTuple):
    """One call. Its verbs are those of a ``Dialect``."""

    prompt: dict[str, Any]
    upstream: str
    announced: Headers

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        return _encode(self.prompt)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """The number by the client's name for it. Raises UpstreamError."""
        try:
            answer = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable_answer(error) from None
        told = answer if isinstance(answer, dict) else {}
        if told.get("error"):
            raise failure_in_body(_encode(told["error"]))
        field = COUNTED[self.upstream]
        count = told.get(field)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise UpstreamProtocolError(f"the upstream's answer has no whole number in {field!r}")
        return _encode({COUNTED[call.dialect]: count})
