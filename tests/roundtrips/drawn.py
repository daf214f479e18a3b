"""Conversations and answers of every kind, drawn by hypothesis."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
from hypothesis import strategies as st

from proxy_core._types import Usage
from proxy_core.dialects import _canonical as form

from .providers import STOP_WORDS

__all__ = ["ORIGINS", "answers", "conversations", "signature"]

ORIGINS = (
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "gemini.generate",
    "bedrock.converse",
)
"""The dialects whose providers sign."""
SIGN_CALLS = ("gemini.generate", "openai.chat")
FREE_IDS = ("openai.chat", "openai.responses", "gemini.generate", "cohere.chat")
"""Anthropic and Bedrock say which characters their ids have, Ollama gives none."""
CITED = ("openai.chat", "openai.responses")
SCORED = ("openai.chat", "gemini.generate")
PNG = b"\x89PNG\r\n\x1a\n"
LETTERS = 'aZ09 "\\\n\té中😀\u2028\u200d<&{}'
PLAIN_IDS = ("call_{}", "toolu_01Ab{}", "fc-{}")
ODD_IDS = ("a.b:c#{}", "id with spaces {}", "é/{}", "lpx_00{}")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def signature(origin: str, number: int) -> form.Signature:
    """Base64, as all of them are; no two are the same."""
    value = base64.b64encode(f"{origin} signs {number}, and nobody else".encode()).decode()
    return form.Signature(origin=origin, value=value)


class Maker:
    """Draws parts. Whatever it makes bears a number of its own, so that it is known again."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._last = 0

    def number(self) -> int:
        self._last += 1
        return self._last

    def maybe(self) -> bool:
        return self._draw(st.integers(0, 3)) == 3

    def one_of(self, *these: Any) -> Any:
        return these[self._draw(st.integers(0, len(these) - 1))]

    def words(self) -> str:
        return f"w{self.number()} {self._draw(st.text(LETTERS, max_size=4))}."

    def mark(self) -> form.CacheMark | None:
        return form.CacheMark(ttl=self.one_of(None, "1h")) if self.maybe() else None

    def signature(self) -> form.Signature:
        return signature(self.one_of(*ORIGINS), self.number())

    def text(self, *, cache: bool = False) -> form.Text:
        return form.Text(text=self.words(), cache=self.mark() if cache else None)

    def image(self) -> form.Media:
        kind = self.one_of("base64", "base64", "url", "file")
        data = {
            "base64": base64.b64encode(PNG + bytes([self.number() % 256, 7])).decode(),
            "url": f"https://pictures.example/{self.number()}.png",
            "file": f"file-{self.number()}",
        }[kind]
        media_type = "image/png" if kind == "base64" else ""
        source = form.Source(kind=kind, data=data, media_type=media_type)
        return form.Media(kind="image", source=source, detail=self.one_of(None, "low", "high"))

    def picture(self) -> form.Media:
        """Drawn by a tool, or by the model."""
        data = base64.b64encode(PNG + bytes([self.number() % 256, 9])).decode()
        source = form.Source(kind="base64", data=data, media_type="image/png")
        return form.Media(kind="image", source=source)

    def file(self) -> form.Media:
        kind = self.one_of("base64", "url", "file", "text")
        data = {
            "base64": base64.b64encode(f"%PDF {self.number()}".encode()).decode(),
            "url": f"https://papers.example/{self.number()}.pdf",
            "file": f"file-{self.number()}",
            "text": f"paper {self.number()}",
        }[kind]
        media_type = {"base64": "application/pdf", "text": "text/plain"}.get(kind, "")
        source = form.Source(kind=kind, data=data, media_type=media_type)
        return form.Media(kind="file", source=source, name=self.one_of(None, "a.pdf"))

    def sound(self) -> form.Media:
        data = base64.b64encode(f"RIFF{self.number()}".encode()).decode()
        source = form.Source(kind="base64", data=data, media_type="audio/wav")
        return form.Media(kind="audio", source=source)

    def call(self, *, custom: bool = False, odd: bool = True) -> form.ToolCall:
        number = self.number()
        ids = ODD_IDS if odd and self._draw(st.booleans()) else PLAIN_IDS
        value = {"a": self.words()} if self._draw(st.booleans()) else {"b": [1, -2.5, None, True]}
        arguments = self.words() if custom else compact({} if self.maybe() else value)
        return form.ToolCall(
            id=self.one_of(*ids).format(number),
            name=f"tool_{number}",
            arguments=arguments,
            custom=custom,
            signature=self.signature() if self.maybe() else None,
        )

    def result(self, call: form.ToolCall) -> form.ToolResult:
        parts: list[form.Text | form.Media] = [form.Text(text=self.words())]
        if self.maybe():
            parts = [form.Text(text=compact({"told": self.number()}))]
        if self.maybe():
            parts.append(self.picture())
        return form.ToolResult(
            id=call.id,
            name=call.name,
            parts=tuple(parts),
            is_error=self.maybe(),
            custom=call.custom,
        )

    def reasoning(self) -> form.Reasoning:
        kind = self.one_of("signed", "signed", "bare", "redacted")
        if kind == "redacted":
            return form.Reasoning(redacted=True, signature=self.signature())
        signed = self.signature() if kind == "signed" else None
        return form.Reasoning(text=self.words(), signature=signed)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@st.composite
def conversations(draw: st.DrawFn) -> form.Conversation:
    """Turns of every kind, and some of the options; what contradicts itself is not drawn."""
    maker = Maker(draw)
    turns = _leading(maker)
    calls: list[form.ToolCall] = []
    for _ in range(draw(st.integers(1, 2))):
        turns.append(_asked(maker))
        if maker.maybe():
            turns.append(form.Turn(role="system", parts=(maker.text(),)))
            turns.append(form.Turn(role="user", parts=(maker.text(),)))
        said = _said(maker)
        turns.append(form.Turn(role="assistant", parts=said))
        made = [part for part in said if isinstance(part, form.ToolCall)]
        calls += made
        if made:
            answered = draw(st.permutations(made))
            turns.append(form.Turn(role="tool", parts=tuple(map(maker.result, answered))))
    if draw(st.booleans()) or not calls:
        turns.append(_asked(maker))
    return form.Conversation(
        model="m", turns=tuple(turns), **_tools(maker, calls), **_options(maker)
    )


def _leading(maker: Maker) -> list[form.Turn]:
    turns = []
    for role in ("system", "developer"):
        if maker.maybe():
            turns.append(form.Turn(role=role, parts=(maker.text(cache=True),)))
    return turns


def _asked(maker: Maker) -> form.Turn:
    parts: list[form.Part] = [maker.text(cache=True)]
    for make in (maker.image, maker.file, maker.sound, maker.text):
        if maker.maybe():
            parts.append(make())
    return form.Turn(role="user", parts=tuple(parts), name="ann" if maker.maybe() else None)


def _said(maker: Maker) -> tuple[form.Part, ...]:
    parts: list[form.Part] = [maker.reasoning()] if maker.one_of(False, True) else []
    text = maker.text()
    if maker.maybe():
        where = f"https://cited.example/{maker.number()}"
        cited = form.Citation(kind="url", url=where, title="There", start=0, end=2)
        text = form.Text(text=text.text, citations=(cited,))
    elif maker.maybe():
        text = form.Text(text=text.text, signature=maker.signature())
    parts.append(form.Refusal(text=maker.words()) if maker.maybe() else text)
    for _ in range(maker.one_of(0, 1, 2, 3)):
        parts.append(maker.call(custom=maker.maybe() and maker.maybe()))
    return tuple(parts)


def _tools(maker: Maker, calls: list[form.ToolCall]) -> dict[str, Any]:
    tools = []
    for call in calls:
        if call.custom:
            tools.append(form.Tool(name=call.name, kind="custom"))
            continue
        told = maker.one_of(None, maker.words())
        schema = maker.one_of(None, SCHEMA)
        strict = maker.one_of(None, False, True)
        tools.append(
            form.Tool(
                name=call.name,
                description=told,
                parameters=schema,
                strict=strict,
                cache=maker.mark(),
            )
        )
    names = tuple(tool.name for tool in tools if tool.kind == "function")
    if not names:
        return {"tools": tuple(tools)}
    mode = maker.one_of(None, "auto", "none", "required", "named", "several")
    if mode in ("named", "several"):
        named = names[:1] if mode == "named" else names[:2]
        choice: form.ToolChoice | None = form.ToolChoice(mode="named", names=named)
    else:
        choice = None if mode is None else form.ToolChoice(mode=mode)
    parallel = None if mode == "none" else maker.one_of(None, False, True)
    return {"tools": tuple(tools), "tool_choice": choice, "parallel": parallel}


def _options(maker: Maker) -> dict[str, Any]:
    """Some of them at a time, as clients do."""
    logprobs = maker.maybe()
    sampling = form.Sampling(
        temperature=maker.one_of(None, 0.0, 0.25, 1.0),
        top_p=maker.one_of(None, 0.5),
        top_k=maker.one_of(None, 7),
        presence_penalty=maker.one_of(None, 0.5),
        frequency_penalty=maker.one_of(None, -0.5),
        seed=maker.one_of(None, 0, 42),
        logit_bias=maker.one_of(None, {"50256": -100}),
        logprobs=True if logprobs else None,
        top_logprobs=3 if logprobs else None,
    )
    return {
        "sampling": sampling,
        "max_tokens": maker.one_of(None, 40_000),
        "stop": maker.one_of((), ("END",), ("one", "two")),
        "n": maker.one_of(None, 1, 2),
        "output": maker.one_of(
            None,
            form.OutputFormat(kind="json"),
            form.OutputFormat(kind="schema", name="told", schema=SCHEMA, strict=True),
        ),
        "modalities": maker.one_of((), ("text",), ("text", "audio")),
        "reasoning": maker.one_of(
            None,
            form.ReasoningWish(effort="low"),
            form.ReasoningWish(effort="high"),
            form.ReasoningWish(enabled=True, budget=3000),
            form.ReasoningWish(enabled=False, effort="none"),
        ),
        "verbosity": maker.one_of(None, "low"),
        "service_tier": maker.one_of(None, "auto", "flex"),
        "user": maker.one_of(None, "user-1"),
        "metadata": maker.one_of(None, {"team": "blue"}),
        "cache_key": maker.one_of(None, "key-1"),
        "cache_all": maker.one_of(None, form.CacheMark()),
        "store": maker.one_of(None, False, True),
    }


_STOPS = ("end", "stop_sequence", "length", "content_filter", "refusal", "pause", "context_window")


@st.composite
def answers(draw: st.DrawFn, origin: str, *, several: bool = False) -> form.Answer:
    """What a provider of this dialect says, signed by it where it signs at all."""
    maker = Maker(draw)
    count = 2 if several and maker.maybe() else 1
    return form.Answer(
        id="answer-1",
        model="its-model",
        created=1_700_000_000,
        choices=tuple(_choice(maker, origin) for _ in range(count)),
        usage=_usage(maker),
    )


def _choice(maker: Maker, origin: str) -> form.Choice:
    sealed = signature(origin, maker.number()) if origin in ORIGINS else None
    parts: list[form.Part] = []
    if maker.one_of(False, True):
        parts.append(form.Reasoning(text=maker.words(), signature=sealed))
    parts.append(_answer_text(maker, origin))
    if origin == "gemini.generate" and maker.maybe():
        parts.append(maker.picture())
    calls = [
        msgspec.structs.replace(
            maker.call(odd=origin in FREE_IDS), signature=sealed if origin in SIGN_CALLS else None
        )
        for _ in range(maker.one_of(0, 0, 1, 3))
    ]
    others = [one for one in STOP_WORDS.get(origin, _STOPS) if one != "tool_calls"]
    refused = any(isinstance(part, form.Refusal) for part in parts)
    stop: Any = "tool_calls" if calls else "refusal" if refused else maker.one_of(*others)
    matched = "END" if stop == "stop_sequence" and origin == "anthropic.messages" else None
    scored = origin in SCORED and maker.maybe() and isinstance(parts[-1], form.Text)
    token = {"token": "w", "logprob": -0.5, "bytes": [119], "top_logprobs": []}
    return form.Choice(
        parts=(*parts, *calls),
        stop=stop,
        stop_sequence=matched,
        logprobs={"content": [token], "refusal": None} if scored else None,
    )


def _answer_text(maker: Maker, origin: str) -> form.Text | form.Refusal:
    if origin in CITED and maker.maybe():
        where = f"https://cited.example/{maker.number()}"
        cited = form.Citation(kind="url", url=where, title="There", start=0, end=2)
        return form.Text(text=maker.words(), citations=(cited,))
    if origin in CITED and maker.maybe():
        return form.Refusal(text=maker.words())
    return maker.text()


def _usage(maker: Maker) -> Usage:
    """Counts that add up: each of the smaller ones is a part of a bigger one."""
    cached, written, kept = (maker.one_of(0, 3, 50) for _ in range(3))
    reasoning, audio = maker.one_of(0, 8), maker.one_of(0, 4)
    return Usage(
        input_tokens=cached + written + audio + maker.one_of(1, 900),
        output_tokens=reasoning + audio + maker.one_of(0, 77),
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(kept, written),
        reasoning_tokens=reasoning,
        audio_input_tokens=audio,
        audio_output_tokens=audio,
        reported=True,
    )
