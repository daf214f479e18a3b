from __future__ import annotations

import json
from typing import Any

import pytest

from proxy_core import CHAT, COMPLETIONS, DIALECTS, EMBEDDINGS, Call, Usage, estimate_tokens
from proxy_core.errors import (
    InvalidRequest,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamThrottled,
)

BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
TWICE = b'{"include_usage":true,"include_usage":false}'
REPORT = b'{"prompt_tokens":9,"completion_tokens":4}'
ANSWER: dict[str, Any] = {"id": "c", "model": "up/x", "choices": [{"index": 0}]}


def read(dialect: str = "openai.chat", **fields: Any) -> Call:
    body: dict[str, Any] = {"openai.chat": BODY}.get(dialect, {"model": "chat"})
    return DIALECTS[dialect].read(json.dumps({**body, **fields}).encode())


def test_what_is_read_of_a_request() -> None:
    """The name, the stream, the cap and whether usage was asked for; the body as it came."""
    raw = (
        b'{"stream":true, "model":"chat","messages":[],"max_tokens":7,'
        b'"stream_options":{"include_usage":true},"max_completion_tokens":5,"tomorrow":1E400}'
    )
    call = CHAT.read(raw, "r-1")
    assert call.body.raw is raw
    assert (call.dialect, call.model, call.request_id) == ("openai.chat", "chat", "r-1")
    assert (call.stream, call.include_usage, call.max_tokens) == (True, True, 5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (False, False, None)),
        ({"stream": None, "max_tokens": None, "stream_options": None}, (False, False, None)),
        ({"stream": False, "stream_options": {"include_usage": True}}, (False, False, None)),
        ({"stream": True, "stream_options": {"include_usage": False}}, (True, False, None)),
        ({"max_completion_tokens": None, "max_tokens": 9}, (False, False, 9)),
        ({"max_tokens": -1}, (False, False, None)),
        ({"max_tokens": 0}, (False, False, 0)),
        ({"max_tokens": 10**30}, (False, False, 10**30)),
    ],
)
def test_null_and_absence_are_the_defaults(
    fields: dict[str, Any], expected: tuple[bool, bool, int | None]
) -> None:
    """As OpenAI takes them; -1 is "no limit", as local servers have it."""
    call = read(**fields)
    assert (call.stream, call.include_usage, call.max_tokens) == expected


def test_embeddings_never_stream() -> None:
    """A stray ``stream`` in a request for embeddings is none of ours."""
    assert not EMBEDDINGS.read(b'{"model":"e","input":"x","stream":true}').stream


@pytest.mark.parametrize(
    ("dialect", "raw", "param", "words"),
    [
        (CHAT, b'{"messages":[]}', "model", "missing"),
        (CHAT, b'{"model":"","messages":[]}', "model", "empty"),
        (CHAT, b'{"model":7,"messages":[]}', "model", "7: it must be a string"),
        (CHAT, b'{"model":null,"messages":[]}', "model", "null: it must be a string"),
        (CHAT, b'{"model":"m"}', "messages", "missing"),
        (CHAT, b'{"model":"m","messages":"hi"}', "messages", "an array of messages"),
        (COMPLETIONS, b'{"model":"m"}', "prompt", "missing"),
        (COMPLETIONS, b'{"model":"m","prompt":{}}', "prompt", "a string or an array"),
        (EMBEDDINGS, b'{"model":"m","input":null}', "input", "a string or an array"),
        (CHAT, b'{"model":"m","messages":[],"stream":"yes"}', "stream", "true or false"),
        (CHAT, b'{"model":"m","messages":[],"stream":1}', "stream", "true or false"),
        (CHAT, b'{"model":"m","messages":[],"max_tokens":1.5}', "max_tokens", "whole number"),
        (CHAT, b'{"model":"m","messages":[],"max_tokens":"9"}', "max_tokens", "whole number"),
        (CHAT, b'{"model":"m","model":"n","messages":[]}', "model", "occurs 2 times"),
        (
            CHAT,
            b'{"model":"m","messages":[],"stream":true,"stream_options":[]}',
            "stream_options",
            "must be an object",
        ),
        (
            CHAT,
            b'{"model":"m","messages":[],"stream":true,"stream_options":' + TWICE + b"}",
            "stream_options",
            "occurs 2 times",
        ),
        (CHAT, b"[]", None, "a JSON object was expected"),
        (CHAT, b'{"model":"\xff"}', None, "not valid UTF-8 at byte 10"),
        (CHAT, b"", None, "not valid JSON"),
    ],
)
def test_a_bad_request_names_its_field(
    dialect: Any, raw: bytes, param: str | None, words: str
) -> None:
    """The error says which field, what it is and what it must be."""
    with pytest.raises(InvalidRequest, match=words) as caught:
        dialect.read(raw)
    assert caught.value.param == param


def test_a_long_value_is_shown_in_part() -> None:
    """A message of an error stays short, whatever was sent."""
    with pytest.raises(InvalidRequest) as caught:
        read(max_tokens=["x" * 10_000])
    assert len(caught.value.message) < 120


def test_a_request_that_needs_nothing_goes_on_as_it_came() -> None:
    """The upstream's own name and no stream: the client's bytes, not a copy."""
    call = read(seed=12345678901234567890)
    assert CHAT.request(call, "chat", ask_usage=True) is call.body.raw


def test_the_name_is_replaced_in_place() -> None:
    """Only the model's value changes."""
    raw = b'{ "messages":[ ] ,"model" : "chat" , "n":1E400}\n'
    assert CHAT.request(CHAT.read(raw), 'a/"b"', ask_usage=True) == raw.replace(
        b'"chat"', b'"a/\\"b\\""'
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, b'{"include_usage":true}'),
        (b"null", b'{"include_usage":true}'),
        (b"{}", b'{"include_usage":true}'),
        (b'{ "x" : 1E400 }', b'{ "x" : 1E400 ,"include_usage":true}'),
        (b'{"include_usage": false ,"\\u0078":[1 ]}', b'{"include_usage": true ,"\\u0078":[1 ]}'),
        (b'{"include_usage":null}', b'{"include_usage":true}'),
        (b'{"include_usage":true,"x":1}', b'{"include_usage":true,"x":1}'),
    ],
)
def test_usage_is_asked_for_inside_the_clients_options(
    options: bytes | None, expected: bytes
) -> None:
    """``include_usage`` is set among what the client sent, whose other bytes stay."""
    sent = b"" if options is None else b',"stream_options":' + options
    raw = b'{"model":"m","messages":[],"stream":true' + sent + b"}"
    asked = CHAT.request(CHAT.read(raw), "m", ask_usage=True)
    assert asked == b'{"model":"m","messages":[],"stream":true,"stream_options":' + expected + b"}"


@pytest.mark.parametrize(
    ("stream", "ask"), [(True, False), (False, True)], ids=["can't be asked", "no stream"]
)
def test_usage_is_asked_for_only_of_streams_and_of_those_that_take_it(
    stream: bool, ask: bool
) -> None:
    """Upstreams that refuse the field, and whole answers, get the client's bytes."""
    call = read(stream=stream, stream_options={"x": 1})
    assert CHAT.request(call, "chat", ask_usage=ask) is call.body.raw


def test_a_whole_answer_has_the_asked_name() -> None:
    """All else is the upstream's, byte for byte."""
    raw = b'{"model" : "up/x","choices":[{"n":1E400}], "usage":' + REPORT + b"}"
    usage = Usage()
    assert CHAT.whole(read(), raw, usage) == raw.replace(b"up/x", b"chat")
    assert usage == Usage(9, 4, reported=True)


@pytest.mark.parametrize("name", [b'"model":"chat",', b""])
def test_an_answer_with_the_right_name_or_none_is_not_copied(name: bytes) -> None:
    """Nothing to change, nothing changed."""
    raw = b"{" + name + b'"choices":[{}]}'
    assert CHAT.whole(read(), raw, Usage()) is raw


def test_without_a_report_usage_is_estimated() -> None:
    """From the sizes of both bodies, high rather than low, and marked as such."""
    call, usage = read(), Usage()
    CHAT.whole(call, json.dumps({**ANSWER, "usage": None}).encode(), usage)
    assert not usage.reported
    assert usage.input_tokens == estimate_tokens(len(call.body.raw))
    assert usage.output_tokens == estimate_tokens(len('[{"index": 0}]'))


def test_embeddings_report_input_alone() -> None:
    """Their output is none, reported or estimated."""
    call = read("openai.embeddings", input="hi")
    reported, guessed = Usage(), Usage()
    raw = {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    EMBEDDINGS.whole(call, json.dumps(raw).encode(), reported)
    EMBEDDINGS.whole(call, json.dumps({**raw, "usage": {}}).encode(), guessed)
    assert reported == Usage(2, 0, reported=True)
    assert (guessed.output_tokens, guessed.reported) == (0, False)
    assert guessed.input_tokens > 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices":null}',
        b'{"choices":[]}',
        b'{"choices":[ ]}',
        b'{"choices":{}}',
        b'{"choices":[{"a":"\xff"}]}',
        b'{"choices":[{}]',
        b'{"detail":"Not Found"}',
    ],
)
def test_what_is_no_answer_is_an_error_of_the_upstream(raw: bytes) -> None:
    """No 200 without an answer in it reaches a client."""
    with pytest.raises(UpstreamProtocolError):
        CHAT.whole(read(), raw, Usage())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "m", "code": "rate_limit_exceeded"}, UpstreamThrottled),
        ({"message": "m", "code": 429}, UpstreamThrottled),
        ({"message": "m"}, UpstreamFailed),
        ("m", UpstreamFailed),
    ],
)
def test_an_error_inside_a_200_is_one(error: Any, kind: type[Exception]) -> None:
    """Also when an answer stands beside it."""
    with pytest.raises(kind, match="m"):
        CHAT.whole(read(), json.dumps({**ANSWER, "error": error}).encode(), Usage())


def test_a_null_error_beside_an_answer_is_none() -> None:
    """Some upstreams always have the field."""
    raw = b'{"choices":[{}],"error":null}'
    assert CHAT.whole(read(), raw, Usage()) is raw


def test_a_tap_knows_its_call() -> None:
    """It renames to the asked name, keeps usage that was asked for, and guesses the input."""
    usage = Usage()
    call = read(stream=True, stream_options={"include_usage": True})
    tap = CHAT.tap(call, usage)
    last = (
        b'data: {"model":"chat","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    )
    assert usage.input_tokens == estimate_tokens(len(call.body.raw))
    assert tap.feed(last.replace(b'"chat"', b'"up/x"')) == last


def test_dialects_are_found_by_their_names() -> None:
    """Each has its own name and path."""
    for name, path in (
        ("openai.chat", "/chat/completions"),
        ("openai.completions", "/completions"),
        ("openai.embeddings", "/embeddings"),
    ):
        assert DIALECTS[name].path("m", stream=False) == path
    assert all(dialect.name == name for name, dialect in DIALECTS.items())


@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS, EMBEDDINGS], ids=str)
def test_the_input_comes_once(dialect: Any) -> None:
    """Of two inputs one would be checked, and maybe the other one answered."""
    field = dialect.needs[0]
    raw = json.dumps({"model": "m", field: ["a"]})[:-1] + f', "{field}": ["b"]}}'
    with pytest.raises(InvalidRequest, match="occurs 2 times; send it once") as caught:
        dialect.read(raw.encode())
    assert caught.value.param == field


def test_small_duplicates_of_others_pass_as_they_came() -> None:
    """What we don't own is the upstream's to judge."""
    raw = b'{"model":"m", "seed":[1], "messages":[], "seed":2}'
    call = CHAT.read(raw)
    assert CHAT.request(call, "up", ask_usage=True) == raw.replace(b'"m"', b'"up"')


def test_an_answer_that_is_too_slow_to_rename_is_broken() -> None:
    """A large value under a key that comes twice is an error of the upstream, not of ours."""
    large = b"[" + b"[]," * 100_000 + b"1]"
    raw = b'{"x":%s,"x":1,"model":"up","choices":[{}]}' % large
    with pytest.raises(UpstreamProtocolError, match="too large to skip"):
        CHAT.whole(CHAT.read(b'{"model":"m","messages":[]}'), raw, Usage())
