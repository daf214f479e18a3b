"""Whether what arrived is what was said: by the table, and by the losses that were told."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

import msgspec

from proxy_core.dialects import _canonical as form
from proxy_core.dialects._codec import Losses

from .carries import REQUESTS, STOPS, USAGE
from .facts import UNSIGNED, Fact, facts

__all__ = [
    "EXAMPLE",
    "assistant",
    "calls",
    "carried_offences",
    "counted",
    "named",
    "request_offences",
    "signed",
    "spoiled",
    "stop_for",
    "stops",
    "with_arguments",
]

GIVES_WAY = frozenset({"effort", "budget", "no_reasoning"})
DEMANDED = frozenset({"max_tokens"})
"""Anthropic wants it always."""
_TOOLS = ("choice.none", "choice.named", "choice.several")
TAKEN_BY = {"tool": _TOOLS, "tool.strict": _TOOLS, "tool.cache": _TOOLS}
"""Where the choice is said by leaving tools out."""
IMAGES = ("image.url", "image.file")
"""The detail goes with its picture."""
BECOMES = {
    "cache_all": ("cache",),
    "call.custom": ("call",),
    "call.odd_id": ("call.id",),
    "choice.named": ("choice.required",),
    "choice.several": ("choice.required",),
    "effort": ("budget",),
    "file.text": ("file.base64", "file.text_bytes"),
    "file.text_bytes": ("file.text",),
    "file.url": ("file.url",),
    "image.file": ("file.file",),
    "reasoning.foreign": ("reasoning.unsigned",),
    "result.image": ("image.base64",),
    "result.odd_id": ("result.id",),
    "budget": ("effort",),
}
"""What is lossy may be found as another fact."""
AS_TEXT = ("refusal", "image")
"""Of an answer, what may be told in words."""
TEXTS = ("text.system", "text.user", "text.assistant")


def request_offences(
    said: form.Conversation,
    wire: Mapping[str, Any],
    heard: form.Conversation,
    losses: Losses,
    target: str,
) -> list[str]:
    """Every fact that did not arrive as the table promises, or vanished in silence."""
    before, after = _by_feature(facts(said, target)), _by_feature(facts(heard, target))
    promises = {feature: row[target] for feature, row in REQUESTS.items()}
    bytes_sent = json.dumps(wire, ensure_ascii=False)
    told = [loss.field for loss in losses.all]
    found: list[str] = []
    for feature in sorted(before.keys() | after.keys()):
        wanted, got, promise = before[feature], after[feature], promises[feature]
        if promise == "yes" and feature in TEXTS:
            found += _missing_texts(wanted, got)
        elif promise == "yes":
            if not _arrived(wanted, got, before, promises) and not _gave_way(wanted, told):
                found.append(f"{feature}: {_values(wanted)} became {_values(got)}")
        else:
            found += [
                f"{fact} vanished in silence"
                for fact in wanted
                if not named(fact, told) and not (promise == "lossy" and _is_in(fact, bytes_sent))
            ]
        if promise == "no" and got:
            found.append(f"{feature}: the table says no, but {_values(got)} arrived")
    return found


def _arrived(
    wanted: list[Fact],
    got: list[Fact],
    before: Mapping[str, list[Fact]],
    promises: Mapping[str, str],
) -> bool:
    """Whether these are the same, but for what something lossy became or took with it."""
    feature = (wanted or got)[0].feature
    if feature in DEMANDED and not wanted:
        return True
    more = sum(
        len(facts_of)
        for name, facts_of in before.items()
        if feature in BECOMES.get(name, ()) and promises[name] == "lossy"
    )
    takes = (name for name in TAKEN_BY.get(feature, ()) if promises[name] == "lossy")
    if feature == "image.detail":
        takes = (name for name in IMAGES if promises[name] != "yes")
    if any(before.get(name) for name in takes):
        wanted = [fact for fact in wanted if fact.value in _values(got)]
    rest = iter(_values(got))
    return all(fact.value in rest for fact in wanted) and len(got) <= len(wanted) + more


def _gave_way(wanted: list[Fact], told: list[str]) -> bool:
    """Whether something else that was asked for forbids it, and that is said."""
    return all(fact.feature in GIVES_WAY and named(fact, told) for fact in wanted)


def carried_offences(
    before: Iterable[Fact], after: Iterable[Fact], promises: Mapping[str, str]
) -> list[str]:
    """Every fact of an answer that did not arrive as promised. What is lossy is not looked at."""
    wanted, got = _by_feature(before), _by_feature(after)
    found = []
    for feature in sorted(wanted.keys() | got.keys()):
        promise = promises[feature]
        if promise == "no" and got[feature]:
            found.append(f"{feature}: the table says no, but {_values(got[feature])} arrived")
        if feature == "text" and any(wanted[name] for name in AS_TEXT if promises[name] == "lossy"):
            continue
        if promise == "yes" and _values(wanted[feature]) != _values(got[feature]):
            found.append(f"{feature}: {_values(wanted[feature])} became {_values(got[feature])}")
    return found


def named(fact: Fact, told: Iterable[str]) -> bool:
    """Whether a loss names a fact, or what it is a part of."""
    where = fact.where
    return any(
        field == where
        or where.startswith((f"{field}.", f"{field}["))
        or field.startswith((f"{where}.", f"{where}["))
        or (fact.feature == "citations" and field == f"{where[:where.find('.')]}.content.citations")
        or (where == "cache_control" and field.endswith("cache_control"))
        for field in told
    )


def _by_feature(all_facts: Iterable[Fact]) -> defaultdict[str, list[Fact]]:
    found: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in all_facts:
        found[fact.feature].append(fact)
    return found


def _values(some: Iterable[Fact]) -> list[Any]:
    return [fact.value for fact in some]


def _missing_texts(wanted: list[Fact], got: list[Fact]) -> Iterable[str]:
    """Texts may be joined, and others may stand between them, but in their order."""
    whole, at = "".join(_values(got)), 0
    for fact in wanted:
        place = whole.find(fact.value, at)
        if place < 0:
            yield f"{fact} is not in {whole!r} after {at}"
        else:
            at = place + len(fact.value)


def _is_in(fact: Fact, bytes_sent: str) -> bool:
    """Whether its words are sent as they are, or in base64; what has no words isn't looked for."""
    value = fact.value[-1] if isinstance(fact.value, tuple) and fact.value else fact.value
    if not isinstance(value, str):
        return True
    encoded = base64.b64encode(value.encode()).decode()
    if fact.feature == "file.text_bytes":
        return base64.b64decode(value).decode() in bytes_sent
    if fact.where.startswith("messages") and not fact.feature.endswith("id"):
        return json.dumps(value, ensure_ascii=False)[1:-1] in bytes_sent or encoded in bytes_sent
    return True


def counted(answer: form.Answer, dialect: str, *, stream: bool = False) -> dict[str, int]:
    """Those of the counts that a dialect has."""
    kept = ("yes",) if stream else ("yes", "lossy")
    names = [name for name, row in USAGE.items() if row[dialect] in kept]
    return {name: getattr(answer.usage, name) for name in names}


def stops(answer: form.Answer) -> list[str | None]:
    return [choice.stop for choice in answer.choices]


def stop_for(client: str, at: int, choice: form.Choice) -> str:
    """What the table says; but Responses tell a refusal by its part, where nothing was cut off."""
    stop = STOPS[choice.stop or "end"][at]
    refuses = any(isinstance(part, form.Refusal) for part in choice.parts)
    if client == "openai.responses" and refuses and choice.stop in ("end", "refusal"):
        return "refusal"
    return stop


def assistant(parts: tuple[form.Part, ...]) -> form.Turn:
    return form.Turn(role="assistant", parts=parts)


def signed(turn: form.Turn) -> list[tuple[str, str, str]]:
    """What bears a signature, its text, and the signature."""
    found = []
    for part in turn.parts:
        signature = getattr(part, "signature", None)
        if signature is not None and signature.value != UNSIGNED:
            found.append((type(part).__name__, getattr(part, "text", ""), signature.value))
    return sorted(found)


def calls(turn: form.Turn, origin: str) -> list[tuple[str, str, Any]]:
    """Each call; its arguments as they are spelled where the dialect has them as text."""
    spelled = origin in ("openai.chat", "openai.responses", "cohere.chat")
    return [
        (part.id, part.name, part.arguments if spelled else json.loads(part.arguments))
        for part in turn.parts
        if isinstance(part, form.ToolCall)
    ]


EXAMPLE = form.Conversation(
    model="m",
    turns=(
        form.Turn(role="system", parts=(form.Text(text="be kind"),)),
        form.Turn(role="user", parts=(form.Text(text="one"), form.Text(text="two"))),
        form.Turn(
            role="assistant",
            parts=(form.ToolCall(id="a", name="f"), form.ToolCall(id="b", name="f")),
        ),
        form.Turn(
            role="tool",
            parts=(
                form.ToolResult(id="b", name="f", parts=(form.Text(text="three"),)),
                form.ToolResult(id="a", name="f", parts=(form.Text(text="four"),)),
            ),
        ),
    ),
    tools=(form.Tool(name="f", description="does", strict=True),),
    sampling=form.Sampling(temperature=0.5, seed=0),
    stop=("END",),
    n=2,
    max_tokens=9,
    user="ann",
)


def with_arguments(arguments: str) -> form.Conversation:
    """The example, whose first call has these."""
    call = form.ToolCall(id="a", name="f", arguments=arguments)
    said = form.Turn(role="assistant", parts=(call, *EXAMPLE.turns[2].parts[1:]))
    turns = (*EXAMPLE.turns[:2], said, *EXAMPLE.turns[3:])
    return msgspec.structs.replace(EXAMPLE, turns=turns)


def spoiled(heard: form.Conversation, chosen: Random) -> Iterator[form.Conversation]:
    """The same without one thing that was said, or with two parts in another order."""
    for name in ("stop", "tools"):
        yield msgspec.structs.replace(heard, **{name: ()})
    for name in ("n", "max_tokens", "user"):
        yield msgspec.structs.replace(heard, **{name: None})
    for name in ("temperature", "seed"):
        sampling = msgspec.structs.replace(heard.sampling, **{name: None})
        yield msgspec.structs.replace(heard, sampling=sampling)
    for at, turn in enumerate(heard.turns):
        left = chosen.randrange(len(turn.parts))
        fewer = turn.parts[:left] + turn.parts[left + 1 :]
        for parts in (fewer, tuple(reversed(turn.parts))):
            if parts != turn.parts:
                other = msgspec.structs.replace(turn, parts=parts)
                turns = (*heard.turns[:at], other, *heard.turns[at + 1 :])
                yield msgspec.structs.replace(heard, turns=turns)
