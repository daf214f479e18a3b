"""Watches an OpenAI stream as it passes: renames, strips, counts, tells whole from broken."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._event_tap import EventTap, unreadable
from proxy_core.dialects._mend import ENDS, Mender
from proxy_core.dialects._run import Form, is_text
from proxy_core.dialects._sse import ServerEvent, with_data
from proxy_core.dialects._usage import read_usage
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

__all__ = ["StreamTap"]

_NOTHING: Final = msgspec.Raw()
_EMPTY: Final = frozenset({b"", b'""', b"null", b"[]", b"{}"})
_DONE: Final = b"[DONE]"
_OBJECT: Final = b'"chat.completion.chunk"'
_MOST_CHOICES: Final = 1024
"""Of one stream: providers take an ``n`` of 128 at most."""
_LESSONS: Final = 8
"""Forms learned in a row without a run; after that the stream is one whose events differ."""
_TRIES: Final = 4
"""Runs looked for in one read: each looks through the rest of it."""


class _Delta(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NOTHING
    tool_calls: msgspec.Raw = _NOTHING
    function_call: msgspec.Raw = _NOTHING
    reasoning_content: msgspec.Raw = _NOTHING
    reasoning: msgspec.Raw = _NOTHING
    reasoning_details: msgspec.Raw = _NOTHING
    refusal: msgspec.Raw = _NOTHING
    audio: msgspec.Raw = _NOTHING
    role: msgspec.Raw = _NOTHING

    def parts(self) -> list[msgspec.Raw]:
        """The values that carry something."""
        parts = (
            self.content,
            self.tool_calls,
            self.function_call,
            self.reasoning_content,
            self.reasoning,
            self.reasoning_details,
            self.refusal,
            self.audio,
        )
        return [part for part in filter(None, parts) if _size(part)]


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: msgspec.Raw = _NOTHING
    finish_reason: str | None = None

    def is_odd(self, mender: Mender) -> bool:
        """Whether SDKs may trip over it; notes its role where they don't."""
        delta = self.delta
        if delta is None or delta.tool_calls is not _NOTHING:
            return True
        has_role = delta.role is not _NOTHING and bytes(delta.role) != b"null"
        if has_role == mender.has_role(self.index):
            return True
        if has_role:
            mender.note_role(self.index)
        return self.finish_reason is not None and self.finish_reason not in ENDS

    def parts(self) -> list[msgspec.Raw]:
        """The values that carry something."""
        parts = self.delta.parts() if self.delta is not None else []
        return [*parts, self.text] if self.text is not _NOTHING and _size(self.text) else parts

    def is_text(self) -> bool:
        """Whether it may be one of many that differ in a text alone."""
        delta = self.delta
        return not self.finish_reason and (delta is None or delta.tool_calls is _NOTHING)


_read_choices = msgspec.json.Decoder(list[_Choice]).decode


class StreamTap(EventTap):
    """One streamed answer. ``feed`` gives what goes on to the client, always whole events.

    ``failure`` is set when the stream turned out broken: what ``feed`` gave before it may be sent,
    and then it must be raised. ``done`` is True after ``[DONE]``.
    """

    __slots__ = ("_awaited", "_finished", "_form", "_keep_usage", "_lessons", "_mender", "_seen")

    def __init__(
        self,
        model: str,
        *,
        keep_usage: bool,
        usage: Usage,
        lessons: int = _LESSONS,
        is_chat: bool = False,
    ) -> None:
        """With no ``lessons`` each event is read strictly: slower, and the same to the client.

        The chunks of a chat are put right where SDKs would trip over them.
        """
        super().__init__(model, usage)
        self._keep_usage = keep_usage
        # No sets: most streams have one choice, and an empty set takes 216 bytes.
        self._seen: tuple[int, ...] = ()
        self._finished: tuple[int, ...] = ()
        self._form: Form | None = None
        self._awaited: Form | None = None
        """The same where a read may be one event of it: nothing waits for its end, or was one."""
        self._lessons = lessons
        self._mender = Mender() if is_chat else None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for what was read from the upstream."""
        form = self._awaited
        lone = form.lone(data) if form is not None else None
        if lone is None:
            return self._read(data)
        passed, said = lone
        if said:
            self._note_said(said + 2)
        self._lessons = _LESSONS
        return passed

    def _read(self, data: bytes) -> bytes:
        passed = super().feed(data)
        splitter = self._splitter
        is_clear = splitter.at == len(splitter.buffer) and not self.done and self.failure is None
        self._awaited = self._form if is_clear else None
        return passed

    def _break(self) -> UpstreamError | None:
        self._awaited = None
        return None if self._is_whole() else _unfinished()

    def _is_whole(self) -> bool:
        return bool(self._finished) and len(self._seen) == len(self._finished)

    def _pass_on(self, out: list[bytes]) -> None:
        tries = _TRIES
        splitter = self._splitter
        while not self.done and splitter.at < len(splitter.buffer):
            form = self._form
            if form is not None and tries and splitter.buffer.startswith(form.before, splitter.at):
                tries -= 1
                run = self._run(form)
                if run:
                    out.append(run)
                    continue
            event = splitter.pop()
            if event is None:
                return
            out.append(self._event(event))

    def _run(self, form: Form) -> bytes:
        """The events from here on that are like the one learned from; empty where none is."""
        splitter = self._splitter
        buffer = splitter.buffer
        run = form.run(buffer, splitter.at) if isinstance(buffer, bytes) else None
        if run is None:
            return b""
        passed, end, said = run
        splitter.skip(end)
        if said:
            self._note_said(said)
        self._lessons = _LESSONS
        return passed

    def _learn(self, event: ServerEvent, passed: bytes, choice: _Choice, noise: bytes) -> None:
        said = choice.parts()
        if len(said) == 1:
            text = bytes(said[0])
            if text.startswith(b'"'):
                self._lessons -= 1
                self._form = Form.of(event.raw, passed, text, noise) or self._form

    def _event(self, event: ServerEvent) -> bytes:
        if event.name == b"error":
            raise _told_error(event.data or b"")
        data = event.data
        bare = data.strip() if data is not None else b""
        if data is None or not bare:
            return self._without_data(event)
        if not is_text(event.raw):
            raise UpstreamProtocolError("the upstream's stream has an event that is not UTF-8")
        if bare == _DONE:
            self.done = True
            if not self._is_whole():
                raise _unfinished()
            return event.raw
        chunk = _read_chunk(data)
        error = chunk.fields.get("error")
        if error is not None and bytes(error) != b"null":
            raise failure_in_body(error)
        choices = self._choices(chunk)
        usage = chunk.fields.get("usage")
        edits: dict[str, bytes] = {}
        is_like_others = True
        if self._mender is not None:
            if usage is None and "choices" not in chunk.fields:
                return b""  # no chunk at all, such as a ping
            is_like_others = all(self._mender.has_role(choice.index) for choice in choices)
            edits = _mends(chunk, choices, self._mender)
        if usage is None or bytes(usage) == b"null":
            self._watch(choices)
            passed = self._passed(event, chunk, edits)
            if self._lessons and is_like_others and len(choices) == 1 and choices[0].is_text():
                self._learn(event, passed, choices[0], bytes(chunk.fields.get("obfuscation", b"")))
            return passed
        self._watch(choices, read_usage(usage))
        has_choices = "choices" in chunk.fields or "choices" in edits
        unasked = not choices and not self._keep_usage and has_choices
        return b"" if unasked else self._passed(event, chunk, edits)

    def _watch(self, choices: list[_Choice], reported: Usage | None = None) -> None:
        """Note content, ends and usage."""
        for choice in choices:
            if choice.index not in self._seen:
                self._seen = _noted(self._seen, choice.index)
            said = sum(map(len, choice.parts()))
            if said:
                self._note_said(said)
            if choice.finish_reason:
                if choice.index not in self._finished:
                    self._finished = _noted(self._finished, choice.index)
                self.has_content = True
        if reported is not None:
            self._usage.take(reported)

    def _choices(self, chunk: Document) -> list[_Choice]:
        raw = chunk.fields.get("choices")
        if raw is None or bytes(raw) == b"null":
            return []
        try:
            return _read_choices(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamProtocolError(
                f"the upstream's stream has malformed choices: {error}"
            ) from None

    def _passed(self, event: ServerEvent, chunk: Document, edits: dict[str, bytes]) -> bytes:
        """The event by the name that was asked for, with these edits."""
        told = chunk.fields.get("model")
        if told is not None and bytes(told) != self._name:
            edits["model"] = self._name
        if not edits:
            return event.raw
        try:
            return with_data(event, chunk.replaced(edits))
        except MalformedDocument as error:
            raise unreadable(error) from None


def _mends(chunk: Document, choices: list[_Choice], mender: Mender) -> dict[str, bytes]:
    """What SDKs need otherwise, to take a chunk as it was meant."""
    edits: dict[str, bytes] = {}
    odd = [choice.is_odd(mender) for choice in choices]  # each notes what it has said
    if True in odd:
        told = msgspec.json.decode(chunk.fields["choices"])
        if mender.mended(told):
            edits["choices"] = msgspec.json.encode(told)
    if "choices" not in chunk.fields:
        edits["choices"] = b"[]"
    if choices and bytes(chunk.fields.get("object", b"")) != _OBJECT:
        edits["object"] = _OBJECT
    return edits


def _size(raw: msgspec.Raw) -> int:
    size = len(raw)
    return 0 if size <= 4 and bytes(raw) in _EMPTY else size


def _unfinished() -> UpstreamDisconnected:
    return UpstreamDisconnected("the upstream's stream ended without a finish_reason")


def _told_error(data: bytes) -> UpstreamError:
    try:
        told = Document.parse(data).fields.get("error", data)
    except MalformedDocument:
        told = data
    return failure_in_body(told)


def _read_chunk(data: bytes) -> Document:
    try:
        return Document.parse(data)
    except MalformedDocument as error:
        raise unreadable(error) from None


def _noted(known: tuple[int, ...], index: int) -> tuple[int, ...]:
    if len(known) >= _MOST_CHOICES:
        raise UpstreamProtocolError(f"the upstream's stream has more than {_MOST_CHOICES} choices")
    return (*known, index)
