"""From a client's dialect to an upstream's and back, by the canonical form. No I/O.

A ``Translator`` is a pair of dialects, a ``Translation`` one call: it has the body for the
upstream, what had to be left out of it, and reads the answer, whole or streamed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from proxy_core._types import Call, Headers, Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._body import read_json, unreadable_answer
from proxy_core.dialects._cache_prompt import marked
from proxy_core.dialects._canonical import (
    Answer,
    Broken,
    Conversation,
    Counted,
    Event,
    Finished,
    Media,
    Opened,
    Piece,
    Reasoning,
    ToolCall,
)
from proxy_core.dialects._client_words import in_words_of
from proxy_core.dialects._codec import (
    ClientCodec,
    Frame,
    Framing,
    Loss,
    Losses,
    StreamReader,
    StreamWriter,
    Told,
    UpstreamCodec,
)
from proxy_core.dialects._customs import CustomCalls, custom_names, without_customs
from proxy_core.dialects._hosted import without_hosted, without_lost_choice
from proxy_core.dialects._places import written
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import NotCarried, UpstreamError, UpstreamProtocolError

__all__ = [
    "DROPPED",
    "Listener",
    "Memory",
    "Target",
    "TranslatedTap",
    "Translation",
    "Translator",
    "Unsupported",
    "judged",
]

Unsupported = Literal["refuse", "announce", "strict"]
"""What becomes of a request that can't be carried whole: ``refuse`` it where the answer would be
another one and ``announce`` the rest, ``announce`` everything, or ``strict``: refuse always."""

DROPPED: Final = b"x-llm-proxy-dropped"
"""The reply's header that names the fields that were left out."""
_LONGEST: Final = 1024
"""Bytes of that header: servers on the way refuse heads of more than 8 KB."""
_DONE: Final = b"[DONE]"
_LAST_EVENTS: Final = frozenset({"message_stop", "message-end"})
"""Events behind which nothing comes, by their names (Anthropic, Cohere)."""

_NO_CUSTOMS: Final[frozenset[str]] = frozenset()

_encode = msgspec.json.Encoder().encode


class Listener(Protocol):
    """Hears the events of one streamed answer."""

    def hear(self, event: Event) -> None: ...


class Memory(Protocol):
    """Signatures that clients don't bring back; see ``SignatureMemory``."""

    def restored(self, conversation: Conversation, origin: str, scope: str = "") -> Conversation:
        """The conversation with what is known of its tool calls in the dialect ``origin``."""
        ...

    def remember(self, answer: Answer, scope: str = "") -> None: ...

    def listener(self, scope: str = "") -> Listener: ...


class Target(NamedTuple):
    """An upstream's side of a translation."""

    codec: UpstreamCodec
    framing: Callable[[], Framing]
    """Makes what cuts a stream."""
    asks_usage: bool = True
    """Whether it takes ``stream_options``."""
    customs: bool = False
    """Whether it has tools of free text."""
    finish: Callable[[dict[str, Any], Call], dict[str, Any]] | None = None
    """The last touch to a body, such as a field that goes by the URL instead."""


class Translator:
    """Two dialects of one upstream, decided at construction.

    Args:
        client: the codec of what clients speak.
        target: the upstream's side.
        memory: of signatures, shared by all that the upstream answers.
        unsupported: what to do about losses.
    """

    def __init__(
        self,
        client: ClientCodec,
        target: Target,
        memory: Memory,
        *,
        unsupported: Unsupported = "refuse",
    ) -> None:
        self.client = client
        self.upstream = target.codec
        self.framing = target.framing
        self.memory = memory
        self._target = target
        self._unsupported: Unsupported = unsupported

    def begin(self, call: Call, model: str, can: Abilities) -> Translation:
        """Translate a request. Raises InvalidRequest, and NotCarried where ``unsupported`` says.

        ``model`` is the upstream's name, ``can`` what it takes.
        """
        losses = Losses()
        said = _read(call.body.raw)
        asked = self.client.read_request(said, losses)
        asked = msgspec.structs.replace(
            asked, model=call.model, stream=call.stream, include_usage=call.include_usage
        )
        wanted = self.memory.restored(asked, self.upstream.dialect, call.scope)
        wanted = marked(wanted, call, self.upstream.dialect)
        customs = _NO_CUSTOMS if self._target.customs else custom_names(wanted)
        if customs:
            wanted = without_customs(wanted)
        write = partial(self.upstream.write_request, wanted, model, can)
        body = written(write, losses, wanted.turns)
        lost = without_hosted(wanted, losses.all)
        free = without_lost_choice(wanted, lost)
        if free is not wanted:
            body = self.upstream.write_request(free, model, can, Losses())
        if not self._target.asks_usage:
            body.pop("stream_options", None)
        if self._target.finish is not None:
            body = self._target.finish(body, call)
        words = partial(in_words_of, self.client.dialect, said=said)
        announced = judged(lost, self._unsupported, self.upstream.dialect, words)
        told = Told(call.model, asked, call.request_id, int(time.time()))
        return Translation(self, _encode(body), announced, told, customs)


class Translation:
    """One call. Its verbs are those of a ``Dialect``."""

    __slots__ = ("_body", "_customs", "_told", "_translator", "announced")

    def __init__(
        self,
        translator: Translator,
        body: bytes,
        announced: Headers,
        told: Told,
        customs: frozenset[str],
    ) -> None:
        self._translator = translator
        self._body = body
        self._told = told
        self._customs = customs
        self.announced = announced
        """Headers for the reply: what was left out."""

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The body for the upstream."""
        return self._body

    def tap(self, call: Call, usage: Usage) -> TranslatedTap:
        """What translates a streamed answer; it fills ``usage``."""
        return TranslatedTap(self._translator, self._told, self._customs, call, usage)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """A whole answer in the client's dialect; fills ``usage``. Raises UpstreamError."""
        translator = self._translator
        try:
            answer = translator.upstream.read_answer(_object(raw))
            _settle(call, raw, answer, usage)
            translator.memory.remember(answer, call.scope)
            if self._customs:
                answer = CustomCalls(self._customs).answer(answer)
            return _encode(translator.client.write_answer(answer, self._told))
        except Exception as error:
            raise _as_upstream_error(error) from error


class TranslatedTap:
    """One streamed answer on its way; see ``Tap``."""

    __slots__ = (
        "_customs",
        "_framing",
        "_has_counted",
        "_listener",
        "_reader",
        "_said",
        "_usage",
        "_writer",
        "done",
        "failure",
        "has_content",
    )

    def __init__(
        self,
        translator: Translator,
        told: Told,
        customs: frozenset[str],
        call: Call,
        usage: Usage,
    ) -> None:
        self._customs = CustomCalls(customs) if customs else None
        self._framing = translator.framing()
        self._reader: StreamReader = translator.upstream.stream_reader()
        self._writer: StreamWriter = translator.client.stream_writer(told)
        self._listener = translator.memory.listener(call.scope)
        self._usage = usage
        usage.input_tokens = estimate_tokens(len(call.body.raw))
        self._said = 0
        self._has_counted = False
        self.done = False
        self.has_content = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for what was read from the upstream: whole events."""
        out: list[bytes] = []
        if not self.done and self.failure is None:
            try:
                self._take(self._framing.feed(data), out)
            except Exception as error:  # noqa: BLE001 - whatever it is, the upstream sent it
                self.failure = _as_upstream_error(error)
        return b"".join(out)

    def end(self) -> bytes:
        """The body has ended: what the client is owed. Sets ``failure`` if it broke off."""
        out: list[bytes] = []
        if not self.done and self.failure is None:
            try:
                self._take(self._framing.end(), out)
                if not self.done:
                    self._finish(out)
            except Exception as error:  # noqa: BLE001
                self.failure = _as_upstream_error(error)
        return b"".join(out)

    def _take(self, frames: Iterable[Frame], out: list[bytes]) -> None:
        for frame in frames:
            if frame.data.strip() == _DONE:
                return self._finish(out)
            for event in self._reader.read(frame):
                self._pass_on(event, out)
            if frame.name in _LAST_EVENTS:
                return self._finish(out)
        return None

    def _finish(self, out: list[bytes]) -> None:
        for event in self._reader.end():
            self._pass_on(event, out)
        if not self._has_counted:
            out.append(self._writer.write(Counted(msgspec.structs.replace(self._usage))))
        out.append(self._writer.end())
        self.done = True

    def _pass_on(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, Broken):
            raise event.error
        if isinstance(event, Counted):
            if not event.usage.reported:
                return
            self._has_counted = True
            self._usage.take(event.usage)
        else:
            self._note(event)
            self._listener.hear(event)
        told = [event] if self._customs is None else self._customs.events(event)
        out += [self._writer.write(one) for one in told]

    def _note(self, event: Event) -> None:
        """Content, and how much of it while nobody tells."""
        if isinstance(event, Piece):
            if event.text:
                self._said += len(event.text.encode())
                self.has_content = True
                usage = self._usage
                usage.reported = False  # a report that came before this text did not count it
                usage.output_tokens = max(usage.output_tokens, estimate_tokens(self._said))
            elif event.citation is not None:
                self.has_content = True
        elif isinstance(event, Finished):
            self.has_content = True
        elif isinstance(event, Opened):
            part = event.part
            is_whole = isinstance(part, Reasoning) and part.redacted
            if is_whole or isinstance(part, ToolCall | Media):
                self.has_content = True


def judged(
    losses: Iterable[Loss],
    unsupported: Unsupported,
    target: str,
    words: Callable[[str], str] = str,
) -> Headers:
    """The header that announces what is left out; nothing where nothing is.

    Raises NotCarried for the first loss that ``unsupported`` doesn't let pass; ``words`` is the
    client's own name for a field.
    """
    fields: dict[str, None] = {}
    for loss in losses:
        if unsupported == "strict" or (loss.grave and unsupported == "refuse"):
            field = words(loss.field)
            raise NotCarried(
                f"{field!r} can't be carried over to {target}: {loss.why}. {loss.remedy}, ask "
                "another model, or let the proxy drop it with `unsupported: announce`.",
                param=field,
            )
        fields[_printable(loss.field)] = None
    if not fields:
        return []
    told = ", ".join(fields)
    if len(told) > _LONGEST:
        told = told[: told.rfind(", ", 0, _LONGEST)] if ", " in told[:_LONGEST] else told[:_LONGEST]
    return [(DROPPED, told.encode())]


def _printable(field: str) -> str:
    """A client's own name for a field, as a header can hold it."""
    return "".join(one if " " < one <= "~" and one != "," else "?" for one in field[:_LONGEST])


def _read(raw: bytes) -> Mapping[str, Any]:
    """A client's body, known to be a JSON object; what stands in it is looked at only here."""
    body: Mapping[str, Any] = read_json(raw)
    return body


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable_answer(error) from None
    if isinstance(body, list) and len(body) == 1:
        body = body[0]  # Gemini puts an error in an array where a stream was meant
    if not isinstance(body, dict):
        raise UpstreamProtocolError("the upstream's answer is no JSON object")
    return body


def _settle(call: Call, raw: bytes, answer: Answer, usage: Usage) -> None:
    if answer.usage.reported:
        usage.take(answer.usage)
        return
    usage.input_tokens = estimate_tokens(len(call.body.raw))
    usage.output_tokens = estimate_tokens(len(raw))
    answer.usage = msgspec.structs.replace(usage)


def _as_upstream_error(error: Exception) -> UpstreamError:
    """What a codec trips over came from the upstream: it is no fault of the client or of ours."""
    if isinstance(error, UpstreamError):
        return error
    return UpstreamProtocolError(
        f"the upstream's answer could not be translated ({type(error).__name__}: {error})"[:300]
    )
