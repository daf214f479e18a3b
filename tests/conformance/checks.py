"""What each feature promises: a user of an SDK asks, an upstream is asked, each sees the right."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from .clients import CLIENTS
from .expected import CANT, Cell, note_of
from .said import PICTURE, PICTURE_URL, SCHEMA, TOOL, USAGE, Asked, Call, Got, Heard, Said
from .stage import MODELS, UPSTREAM_KEY, Stage
from .upstreams import UPSTREAMS

__all__ = ["played"]

_IDS: Final = {
    "chat": "call_62136354",
    "responses": "call_62136354",
    "messages": "toolu_01T1x1fJ34qAmk2tNTrN7Up6",
    "gemini": "",
    "bedrock": "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q",
}
"""As each provider makes them; Gemini doesn't."""
_PROOF: Final = "EqQBCkYIAxgCIkB0dXJuaW5nIHRvIHByb29m"
_WARM: Final = "It is warm: 12 °C"
_REPLY: Final = "A pixel. Größe: 1 x 1 \U0001f9ea"


def played(stage: Stage, cell: Cell) -> str:
    """Play the cell: ``✓``, or ``can't`` where the request is refused unasked, or can't be made.

    Raises whatever shows that the promise is broken.
    """
    if cell.feature == "several answers" and cell.row in ("responses", "messages"):
        assert "n" not in _parameters(stage, cell.row)
        return "can't"
    if note_of(CANT, cell):
        return _refused(stage, cell)
    _CHECKS[cell.feature](stage, cell)
    return "✓"


def _parameters(stage: Stage, row: str) -> Mapping[str, Any]:
    """What a client of this SDK can say."""
    return inspect.signature(getattr(stage.sdks[row], row).create).parameters


def _refused(stage: Stage, cell: Cell) -> str:
    """What can't be carried is refused by its name, before the upstream is asked."""
    module = CLIENTS[cell.row]
    wish = {"image URLs": Asked(picture_url=PICTURE_URL), "several answers": Asked(answers=2)}
    stage.play(cell.column, Said(text=_REPLY), stream=False)
    try:
        module.ask(stage.sdks[cell.row], f"to-{cell.column}", wish[cell.feature])
    except Exception as error:
        kind, _, message, _ = module.refusal(error)
        assert kind is module.KINDS["too_long"][0], kind
        assert "can't be carried over" in message
        assert not stage.was_asked
        return "can't"
    return "✓"


def _asked(stage: Stage, cell: Cell, asked: Asked, said: Said) -> tuple[Got, Heard]:
    """One exchange. Where both speak the same, the bytes are the client's."""
    stage.play(cell.column, said, stream=asked.stream)
    got: Got = CLIENTS[cell.row].ask(stage.sdks[cell.row], f"to-{cell.column}", asked)
    heard = stage.heard(cell.column)
    assert heard.stream is asked.stream
    if cell.row == cell.column:
        (sent,) = stage.sent
        name, own = (json.dumps(one).encode() for one in (f"to-{cell.column}", MODELS[cell.column]))
        assert stage.arrived.body == sent.replace(b'"model":' + name, b'"model":' + own, 1)
    assert stage.arrived.headers["authorization" if cell.column in _BEARERS else _KEYS[cell.column]]
    return got, heard


_BEARERS: Final = frozenset({"chat", "responses", "bedrock"})
_KEYS: Final = {"messages": "x-api-key", "gemini": "x-goog-api-key"}


def _text(stage: Stage, cell: Cell, *, stream: bool) -> None:
    asked = Asked(text="What is it? Größe?", system="Be kind.", stream=stream)
    got, heard = _asked(stage, cell, asked, Said(text=_REPLY))
    assert (got.text, got.calls) == (_REPLY, ())
    assert got.stop == CLIENTS[cell.row].ENDS[0]
    assert heard.texts == ["What is it? Größe?"]
    assert heard.system == "Be kind."


def _whole(stage: Stage, cell: Cell) -> None:
    _text(stage, cell, stream=False)


def _stream(stage: Stage, cell: Cell) -> None:
    _text(stage, cell, stream=True)


def _calls(column: str, *cities: str) -> tuple[Call, ...]:
    """As an upstream makes them: with ids of its own, or none."""
    own = _IDS[column]
    return tuple(
        Call(f"{own}{number}" if own else "", "get_weather", {"city": city})
        for number, city in enumerate(cities)
    )


def _tools_used(
    stage: Stage, cell: Cell, said: Said, *, stream: bool, effort: str = ""
) -> tuple[Got, Heard, Heard]:
    """Calls go to the client, what the tools said goes back; both by the right ids."""
    wish = Asked(tools=True, stream=stream, effort=effort)
    got, first = _asked(stage, cell, wish, said)
    assert first.tools == {"get_weather": dict(TOOL)}
    assert [(one.name, one.arguments) for one in got.calls] == [
        (one.name, one.arguments) for one in said.calls
    ]
    ids = [one.id for one in got.calls]
    if cell.column != "gemini":
        assert ids == [one.id for one in said.calls]
    elif cell.row != "gemini":
        assert all(ids)
        assert len(set(ids)) == len(ids)
    assert got.stop == CLIENTS[cell.row].ENDS[1]
    told = tuple(f"12 °C in {one.arguments['city']}" for one in got.calls)
    wish = Asked(tools=True, stream=stream, effort=effort, before=got, results=told)
    last, second = _asked(stage, cell, wish, Said(text=_WARM))
    assert (last.text, last.calls, last.stop) == (_WARM, (), CLIENTS[cell.row].ENDS[0])
    _came_back(cell, said, told, second)
    return got, first, second


def _came_back(cell: Cell, said: Said, told: tuple[str, ...], heard: Heard) -> None:
    assert [(one.name, one.arguments) for one in heard.calls] == [
        (one.name, one.arguments) for one in said.calls
    ]
    if cell.column != "gemini":
        assert heard.calls == list(said.calls)
        assert list(heard.results) == [one.id for one in said.calls]
    assert len(heard.results) == len(told)
    for text, result in zip(told, heard.results.values(), strict=True):
        # Of Gemini it is an object, which keeps its form.
        assert text == result or text in json.loads(result).values()
    if cell.column in ("messages", "gemini", "bedrock"):
        assert len(heard.roles) == 3, "all results stand in the one message behind the calls"


def _tools(stage: Stage, cell: Cell) -> None:
    for stream in (False, True):
        said = Said(text="Let me look.", calls=_calls(cell.column, 'Köln "am" Rhein\n'))
        got, _, _ = _tools_used(stage, cell, said, stream=stream)
        assert got.text == "Let me look."


def _parallel(stage: Stage, cell: Cell) -> None:
    for stream in (False, True):
        said = Said(calls=_calls(cell.column, "Köln", "Łódź", "Aix"))
        _tools_used(stage, cell, said, stream=stream)


def _images(stage: Stage, cell: Cell) -> None:
    got, heard = _asked(stage, cell, Asked(picture=PICTURE), Said(text=_REPLY))
    assert got.text == _REPLY
    assert heard.pictures == [PICTURE]
    assert heard.texts == ["What is it?"]


def _image_urls(stage: Stage, cell: Cell) -> None:
    got, heard = _asked(stage, cell, Asked(picture_url=PICTURE_URL), Said(text=_REPLY))
    assert got.text == _REPLY
    assert heard.picture_urls == [PICTURE_URL]


def _schema(stage: Stage, cell: Cell) -> None:
    text = '{"city": "Köln", "degrees": 7.50}'
    for stream in (False, True):
        got, heard = _asked(stage, cell, Asked(schema=True, stream=stream), Said(text=text))
        assert got.text == text
        assert heard.schema == dict(SCHEMA)


def _reasoning(stage: Stage, cell: Cell) -> None:
    proof = "" if cell.column == "chat" else _PROOF
    for stream in (False, True):
        calls = _calls(cell.column, "Köln")
        said = Said(calls=calls, thought="They want the weather. I look.", proof=proof)
        got, first, second = _tools_used(stage, cell, said, stream=stream, effort="high")
        assert got.thought == said.thought
        assert (first.effort, second.effort) == ("high", "high")
        assert second.proofs == ([proof] if proof else [])


def _several(stage: Stage, cell: Cell) -> None:
    for stream in (False, True):
        said = Said(text=_REPLY, others=("A dot.",))
        got, heard = _asked(stage, cell, Asked(answers=2, stream=stream), said)
        assert got.answers == (_REPLY, "A dot.")
        assert heard.answers == 2


def _errors(stage: Stage, cell: Cell) -> None:
    module = CLIENTS[cell.row]
    for kind, (wanted, code) in module.KINDS.items():
        # A provider that refused the key, or the pace, is not asked again at once.
        lasts = kind in ("key", "throttled")
        model = f"to-{cell.column}-{cell.row}-{kind}" if lasts else f"to-{cell.column}"
        stage.refuse(cell.column, kind)
        told = _failed(stage, cell, model, Asked(stream=kind == "busy"))
        assert stage.was_asked
        assert told[:2] == (wanted, code), told
        if kind == "key":
            assert "credential" in told[2]
            assert UPSTREAM_KEY[-4:] not in told[2]
            continue
        assert _message(cell.column, kind) in told[2]
        if kind == "throttled" and cell.column != "bedrock":
            assert float(told[3]) == 7
    stage.break_off(cell.column)
    told = _failed(stage, cell, f"to-{cell.column}", Asked(stream=True))
    assert _BREAKS[cell.column] in told[2]


_BREAKS: Final = {
    "chat": "The server had an error",
    "responses": "The server had an error",
    "messages": "Overloaded",
    "gemini": "The model is overloaded",
    "bedrock": "The model had an error",
}
"""What the upstreams say in a stream that breaks."""


def _failed(stage: Stage, cell: Cell, model: str, asked: Asked) -> tuple[Any, str, str, str]:
    module = CLIENTS[cell.row]
    try:
        got = module.ask(stage.sdks[cell.row], model, asked)
    except Exception as error:
        told: tuple[Any, str, str, str] = module.refusal(error)
        return told
    raise AssertionError(f"an error was taken for an answer: {got}")


def _message(column: str, kind: str) -> str:
    """In the upstream's words."""
    body = json.loads(UPSTREAMS[column].ERRORS[kind][2])
    return str(body.get("error", body)["message"])


def _usage(stage: Stage, cell: Cell) -> None:
    silent = {"gemini": {"cache_write_tokens"}, "bedrock": {"reasoning_tokens"}}
    unsaid = silent.get(cell.column, set()) | CLIENTS[cell.row].LOSES
    wanted = {name: 0 if name in unsaid else count for name, count in USAGE.items()}
    for stream in (False, True):
        said = Said(text=_REPLY, thought="A pixel, I think.", proof=_PROOF)
        got, _ = _asked(stage, cell, Asked(stream=stream), said)
        assert got.usage == wanted


_CHECKS: Final[Mapping[str, Callable[[Stage, Cell], None]]] = MappingProxyType(
    {
        "whole": _whole,
        "stream": _stream,
        "tools": _tools,
        "parallel tools": _parallel,
        "images": _images,
        "image URLs": _image_urls,
        "JSON schema": _schema,
        "reasoning": _reasoning,
        "several answers": _several,
        "errors": _errors,
        "usage": _usage,
    }
)
