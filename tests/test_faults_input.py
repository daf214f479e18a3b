"""Whatever JSON, or nearly JSON, a client sends: an answer, or an error that SDKs understand."""

from __future__ import annotations

import http.client
import json
from asyncio import StreamWriter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_api.testing import settings_for

SURFACES = {
    "/v1/chat/completions": ("messages", "[]"),
    "/v1/completions": ("prompt", '"hi"'),
    "/v1/embeddings": ("input", '"hi"'),
}
"""With the field that each needs."""
ANSWER = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"data":[1]}'
EVENTS = (
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"x"},"finish_reason":"stop"}]}\n\n'
)
EVENTS += b"data: [DONE]\n\n"
QUICK = settings(
    max_examples=120,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def answers(asked: Any, writer: StreamWriter) -> None:
    streams = json.loads(asked.body).get("stream") is True and "embeddings" not in asked.path
    kind, body = ("text/event-stream", EVENTS) if streams else ("application/json", ANSWER)
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s"
        % (kind.encode(), len(body), body)
    )


class House:
    """A gateway, and one kept connection to it: each answer leaves it usable for the next."""

    def __init__(self, connection: http.client.HTTPConnection, upstream: Any) -> None:
        self._connection = connection
        self.upstream = upstream

    def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        self._connection.request("POST", path, body, {"content-type": "application/json"})
        with self._connection.getresponse() as answer:
            return answer.status, answer.read()

    def check(self, path: str, body: bytes) -> int:
        """Ask; the answer must be one, or a refusal in OpenAI's shape. Its status."""
        before = len(self.upstream.asked)
        status, answer = self.ask(path, body)
        if status == 200:
            assert answer in (ANSWER, EVENTS)
            assert len(self.upstream.asked) == before + 1
            return status
        assert status in (400, 404), answer
        told = json.loads(answer)
        assert list(told) == ["error"]
        assert set(told["error"]) == {"message", "type", "param", "code"}
        assert told["error"]["type"] == "invalid_request_error"
        assert 0 < len(told["error"]["message"]) < 500
        assert len(self.upstream.asked) == before
        return status


@pytest.fixture(scope="module")
def house(
    http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str]
) -> Iterator[House]:
    upstream = http_upstream(answers)
    url = lasting_gateway(settings_for(upstream.url))
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)) as connection:
        yield House(connection, upstream)


# --- Anything. ---

TEXTS = st.text(max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
OWNED = ("model", "messages", "prompt", "input", "stream", "stream_options")
OTHERS = ("max_tokens", "max_completion_tokens", "n", "tools", "metadata", "user", "temperature")
FIELDS = st.sampled_from([*OWNED, *OTHERS])
RIGHT: dict[str, Any] = {"model": "chat", "messages": [], "prompt": "hi", "input": "hi"}
PATHS = st.sampled_from(list(SURFACES))


@QUICK
@given(path=PATHS, value=VALUES, is_ascii=st.booleans())
def test_any_json_is_answered(house: House, path: str, value: Any, is_ascii: bool) -> None:
    """Any JSON at all, NaN and lone surrogates too, is refused as OpenAI would."""
    body = json.dumps(value, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    assert house.check(path, body) in (400, 404)


@QUICK
@given(path=PATHS, wrong=st.dictionaries(FIELDS, VALUES, min_size=1, max_size=3))
def test_any_value_in_any_field_is_answered(house: House, path: str, wrong: dict[str, Any]) -> None:
    """Whatever the fields hold, together or alone, there is an answer or a refusal."""
    house.check(path, json.dumps({**RIGHT, **wrong}).encode())


@QUICK
@given(body=st.binary(max_size=200), path=PATHS)
def test_any_bytes_are_answered(house: House, path: str, body: bytes) -> None:
    """Bytes that are no JSON are refused."""
    assert house.check(path, body) == 400


@QUICK
@given(
    path=PATHS,
    at=st.integers(0, 90),
    removed=st.integers(0, 3),
    added=st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b",", b"\\", b"[", b":"]),
)
def test_a_damaged_body_is_answered(
    house: House, path: str, at: int, removed: int, added: bytes
) -> None:
    """A good body with some bytes taken, added or changed: read as what it is, or refused."""
    good = json.dumps({**RIGHT, "stream": False, "max_tokens": 5}).encode()
    house.check(path, good[:at] + added + good[at + removed :])


def test_what_is_right_is_answered(house: House) -> None:
    """The body that the others damage is a good one, on every surface."""
    for path in SURFACES:
        assert house.check(path, json.dumps(RIGHT).encode()) == 200
        assert house.check(path, json.dumps({**RIGHT, "stream": True}).encode()) == 200


# --- Wrong types, field by field, on each surface. ---

NUMBERS = ("5", "-1", "1.5", "1e5", "1e999", "-0")
CAPS = ('"5"', "1.5", "1e999", "true", "[]", "{}", "[5]", "9" * 5000, "1" + "0" * 400 + ".5")
WRONG = {
    "model": (*NUMBERS, "null", "true", "[]", '["chat"]', "{}", '""'),
    "messages": (*NUMBERS, "null", "true", '"hi"', "{}"),
    "prompt": (*NUMBERS, "null", "true", "{}"),
    "input": (*NUMBERS, "null", "true", "{}"),
    "stream": (*NUMBERS, '"true"', "[]", "{}", "[true]"),
    "max_tokens": CAPS,
    "max_completion_tokens": CAPS,
}
TABLE = [
    (path, field, value)
    for path, (needed, _) in SURFACES.items()
    for field, values in WRONG.items()
    if field not in {need for need, _ in SURFACES.values()} - {needed}
    for value in values
    if not (field == "stream" and "embeddings" in path)
]


def body_of(path: str, **fields: str) -> bytes:
    needed, right = SURFACES[path]
    whole = {"model": '"chat"', needed: right, **fields}
    return b"{%s}" % ",".join(f'"{name}":{value}' for name, value in whole.items()).encode()


@pytest.mark.parametrize(("path", "field", "value"), TABLE, ids=lambda each: each[:24])
def test_a_wrong_type_is_refused_on_each_surface(
    house: House, path: str, field: str, value: str
) -> None:
    """A field that the proxy reads and can't use is 400 and named, whoever is asked."""
    before = len(house.upstream.asked)
    status, answer = house.ask(path, body_of(path, **{field: value}))
    assert status == 400
    assert json.loads(answer)["error"]["param"] == field
    assert len(house.upstream.asked) == before


PASSES = {
    "a number beyond doubles": '"temperature":1e999',
    "a long number": '"seed":' + "7" * 4000,
    "a long fraction": '"top_p":0.' + "1" * 4000,
    "minus nothing": '"top_p":-0',
    "equal keys": '"x":1,"x":2,"x":{"x":[],"x":3}',
    "keys that look like ours": '"Model":"a","model ":"b","\\u0000model":"c","stream\\n":true',
    "our keys inside": '"x":{"model":"a","model":"b","stream":true,"stream":5,"messages":7}',
    "CRLF": '"metadata":{"a\\r\\nb":"\\r\\nset-cookie: c"},"user":"\\r\\n\\r\\nGET / HTTP/1.1"',
    "NUL": '"user":"\\u0000","metadata":{"\\u0000":"\\u0000"}',
    "escapes": '"user":"\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00"',
    "other spaces": '"user" \n:\t"\u2028\u2029\u0085\ufeff" ',
    "127 levels": '"x":' + "[" * 127 + "]" * 127,
    "an empty key": '"":{"":""}',
    "a thousand fields": ",".join(f'"k{number}":{number}' for number in range(990)),
}


@pytest.mark.parametrize("path", list(SURFACES))
@pytest.mark.parametrize("name", list(PASSES))
def test_what_is_not_ours_passes_as_it_is(house: House, path: str, name: str) -> None:
    """JSON outside our fields reaches the upstream byte for byte, however odd it is."""
    sent = body_of(path)[:-1] + b"," + PASSES[name].encode() + b"}"
    assert house.check(path, sent) == 200
    assert house.upstream.asked[-1].body == sent
