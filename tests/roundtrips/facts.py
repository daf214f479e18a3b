"""What a conversation or an answer says, fact by fact, so that two of them can be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from proxy_core.dialects import _canonical as form

__all__ = ["Fact", "answer_facts", "facts"]


class Fact(NamedTuple):
    feature: str
    """A row of the table."""
    value: Any
    """Hashable."""
    where: str
    """The path that a loss has which names it."""

    @property
    def said(self) -> tuple[str, Any]:
        return self.feature, self.value


UNSIGNED = "skip_thought_signature_validator"
"""What Google wants where a call has none: https://ai.google.dev/gemini-api/docs/thought-signatures"""
_OPTIONS = (
    *("max_tokens", "stop", "verbosity", "user", "metadata", "cache_key", "store"),
    *("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty"),
    *("logit_bias", "logprobs", "top_logprobs"),
)
_PLAIN = re.compile(r"[a-zA-Z0-9_-]*")
_CALLED = {"cache_key": "prompt_cache_key"}


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def facts(asked: form.Conversation, dialect: str) -> list[Fact]:
    """All of a request, for a target: the signatures of its own ``dialect`` are worth something."""
    return [*_content(asked, dialect), *_tools(asked), *_options(asked)]


def _content(asked: form.Conversation, dialect: str) -> Iterator[Fact]:
    begun = False
    parts = [part for turn in asked.turns for part in turn.parts]
    calls = {part.id: n for n, part in enumerate(parts) if isinstance(part, form.ToolCall)}
    for at, turn in enumerate(asked.turns):
        where = f"messages[{at}]"
        begun = begun or turn.role not in ("system", "developer")
        if turn.name is not None:
            yield Fact("name", turn.name, f"{where}.name")
        if turn.role == "developer":
            text = "".join(part.text for part in turn.parts if isinstance(part, form.Text))
            yield Fact("role.developer", text, where)
        numbered = list(enumerate(turn.parts))
        if dialect == "ollama.chat" and turn.role == "tool":  # no id says whose a result is
            numbered.sort(key=lambda one: calls.get(getattr(one[1], "id", ""), 0))
        for number, part in numbered:
            yield from _part(part, turn.role, where, f"{where}.content[{number}]", dialect, begun)


def _part(
    part: form.Part, role: str, turn: str, where: str, dialect: str, begun: bool
) -> Iterator[Fact]:
    signature = getattr(part, "signature", None)
    if getattr(part, "cache", None) is not None:
        yield Fact("cache", part.cache.ttl or "5m", "cache_control")  # type: ignore[union-attr]
    match part:
        case form.Text():
            kind = role if role in ("user", "assistant") else "system"
            late = kind == "system" and begun
            if part.text:
                yield Fact("text.late_system" if late else f"text.{kind}", part.text, turn)
            for one in part.citations:
                yield Fact("citations", (one.url, one.title), f"{where}.citations")
        case form.Refusal():
            yield Fact("refusal", part.text, where)
        case form.Media():
            is_text = part.source.kind == "base64" and part.source.media_type == "text/plain"
            kind = "text_bytes" if is_text else part.source.kind
            kind = "of_model" if role == "assistant" else kind
            yield Fact(f"{part.kind}.{kind}", part.source.data, where)
            if part.detail not in (None, "auto"):
                yield Fact("image.detail", part.detail, f"{where}.detail")
        case form.ToolCall():
            name = "call.custom" if part.custom else "call"
            given = part.arguments if part.custom else _plain(json.loads(part.arguments or "{}"))
            yield Fact(name, (part.name, given), where)
            yield Fact(f"call.{_id(part.id)}", part.id, where)
        case form.ToolResult():
            yield from _result(part, where)
        case form.Reasoning():
            yield from _reasoning(part, turn, dialect)
            return
    if signature is not None and signature.value != UNSIGNED:
        own = "own" if signature.origin == dialect else "foreign"
        yield Fact(f"signature.{own}", signature.value, f"{turn}.reasoning")


def _id(given: str) -> str:
    return "id" if _PLAIN.fullmatch(given) else "odd_id"


def _result(part: form.ToolResult, where: str) -> Iterator[Fact]:
    yield Fact("result", "".join(p.text for p in part.parts if isinstance(p, form.Text)), where)
    yield Fact(f"result.{_id(part.id)}", part.id, where)
    if part.is_error:
        yield Fact("result.is_error", True, f"{where}.is_error")
    for number, one in enumerate(part.parts):
        if isinstance(one, form.Media):
            yield Fact("result.image", one.source.data, f"{where}.content[{number}]")


def _reasoning(part: form.Reasoning, turn: str, dialect: str) -> Iterator[Fact]:
    signature = part.signature
    if signature is None:
        yield Fact("reasoning.unsigned", part.text, f"{turn}.reasoning")
    elif signature.origin == dialect:
        yield Fact("reasoning.own", (part.text, signature.value), f"{turn}.reasoning")
    else:
        yield Fact("reasoning.foreign", part.text, f"{turn}.reasoning")


def _tools(asked: form.Conversation) -> Iterator[Fact]:
    for at, tool in enumerate(asked.tools):
        where = f"tools[{at}]"
        if tool.kind == "custom":
            yield Fact("tool.custom", tool.name, where)
            continue
        schema = _plain(tool.parameters or {"type": "object", "properties": {}})
        yield Fact("tool", (tool.name, tool.description, schema), where)
        if tool.strict:
            yield Fact("tool.strict", tool.name, f"{where}.strict")
        if tool.cache is not None:
            yield Fact("tool.cache", tool.name, "cache_control")
    choice = asked.tool_choice
    if choice is not None and choice.mode != "auto":
        several = choice.mode == "named" and len(choice.names) > 1
        yield Fact(f"choice.{'several' if several else choice.mode}", choice.names, "tool_choice")
    if asked.parallel is False:
        yield Fact("one_call_at_a_time", False, "parallel_tool_calls")


def _options(asked: form.Conversation) -> Iterator[Fact]:
    for name in _OPTIONS:
        value = getattr(asked if hasattr(asked, name) else asked.sampling, name)
        if value is not None and value is not False and value not in ((), {}):
            known = value if isinstance(value, int | float | str | tuple) else _plain(value)
            yield Fact(name, known, _CALLED.get(name, name))
    if asked.n is not None and asked.n > 1:
        yield Fact("n", asked.n, "n")
    if asked.output is not None:
        schema = None if asked.output.kind == "json" else _plain(asked.output.schema)
        yield Fact(f"output.{asked.output.kind}", schema, "response_format")
    if "audio" in asked.modalities:
        yield Fact("speech", True, "modalities")
    if asked.service_tier not in (None, "auto", "default"):
        yield Fact(f"tier.{asked.service_tier}", True, "service_tier")
    if asked.cache_all is not None:
        yield Fact("cache_all", True, "cache_control")
    yield from _wish(asked.reasoning)


def _wish(wish: form.ReasoningWish | None) -> Iterator[Fact]:
    if wish is None:
        return
    if wish.enabled is False or wish.effort == "none" or wish.budget == 0:
        yield Fact("no_reasoning", True, "reasoning_effort")
    elif wish.effort is not None:
        yield Fact("effort", wish.effort, "reasoning_effort")
    elif wish.budget is not None:
        yield Fact("budget", wish.budget, "reasoning_effort")


def answer_facts(answer: form.Answer, *, choices: int = 9, ids: bool = True) -> list[Fact]:
    """What so many choices of an answer say; the ids of calls where they are not made up anew."""
    found = []
    for number, choice in enumerate(answer.choices[:choices]):
        said = [one for part in choice.parts for one in _answer_part(part, ids=ids)]
        if choice.logprobs:
            said.append(("logprobs", (_plain(choice.logprobs["content"]),)))
        found += [Fact(feature, (number, *value), "") for feature, value in said]
    return found


def _answer_part(part: form.Part, *, ids: bool) -> Iterator[tuple[str, tuple[Any, ...]]]:
    match part:
        case form.Text():
            yield "text", (part.text,)
            for one in part.citations:
                yield "citation.url", (one.url, one.title)
        case form.Reasoning() if part.text:
            yield "reasoning", (part.text,)
        case form.ToolCall():
            yield "call", (part.id if ids else "", part.name, part.arguments)
        case form.Refusal():
            yield "refusal", (part.text,)
        case form.Media():
            yield "image", (part.source.data,)
