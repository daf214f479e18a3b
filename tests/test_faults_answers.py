"""Whatever an upstream says in good HTTP: an answer, or an error of its own, never one of ours."""

from __future__ import annotations

import http.client
import json
from asyncio import StreamWriter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy_api import create_app
from proxy_api.testing import serving, settings_for

QUICK = settings(
    max_examples=80,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class House:
    """A gateway whose upstream answers what it was told last."""

    def __init__(self, connection: http.client.HTTPConnection, upstream: Any) -> None:
        self._connection = connection
        self.upstream = upstream
        self.answer = b""

    def ask(self, answer: bytes, *, stream: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Let the upstream answer this; what the client gets of it."""
        self.answer = answer
        body = json.dumps({"model": "chat", "messages": [], "stream": stream})
        self._connection.request(
            "POST", "/v1/chat/completions", body, {"content-type": "application/json"}
        )
        with self._connection.getresponse() as got:
            headers = {name.lower(): value for name, value in got.getheaders()}
            return got.status, headers, got.read()


@pytest.fixture(scope="module")
def house(http_upstream: Callable[..., Any]) -> Iterator[House]:
    async def answer(asked: Any, writer: StreamWriter) -> None:
        writer.write(made[0].answer)

    upstream = http_upstream(answer)
    app = create_app(settings=settings_for(upstream.url))
    for breaker in app.gateway.runtime.breakers.values():
        breaker.force_close()  # or nobody would be asked again and again
    with serving(app) as url:
        port = urlsplit(url).port
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            made = [House(connection, upstream)]
            yield made[0]


def whole(body: bytes, status: int = 200, kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def check_error(body: bytes) -> dict[str, Any]:
    told = json.loads(body)
    assert list(told) == ["error"]
    error: dict[str, Any] = told["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] != "internal_error"
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    return error


TEXTS = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
ERRORS = VALUES | st.dictionaries(
    st.sampled_from(["message", "type", "param", "code", "status", "details"]), VALUES, max_size=4
)
DELTAS = st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls", "reasoning", "refusal"]), VALUES, max_size=2
)
CHOICES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(0, 3) | VALUES,
            "delta": DELTAS | VALUES,
            "message": VALUES,
            "finish_reason": st.just("stop") | VALUES,
        },
    ),
    max_size=3,
)
ANSWERS = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "choices": CHOICES | VALUES,
        "model": VALUES,
        "usage": VALUES | st.dictionaries(st.sampled_from(["prompt_tokens", "total"]), VALUES),
        "error": ERRORS,
        "id": VALUES,
    },
)
STATUSES = st.sampled_from([200, 201, 206, 400, 401, 403, 404, 408, 409, 422, 429, 451, 500, 503])


@QUICK
@given(value=ANSWERS, status=STATUSES)
@example(value={"error": {"code": 7, "message": ["x"], "param": {"a": 1}}}, status=400)
def test_any_whole_answer_is_understood(house: House, value: Any, status: int) -> None:
    """Any JSON with any status is an answer that passes, or an error that is the upstream's."""
    got, _, body = house.ask(whole(json.dumps(value).encode(), status))
    if got == 200:
        assert isinstance(value, dict)
        assert status == 200
        assert json.loads(body)["choices"] == value["choices"]
    else:
        assert got in (400, 404, 408, 409, 413, 422, 429, 451, 502, 503, 504)
        check_error(body)


@QUICK
@given(values=st.lists(ANSWERS, max_size=4), done=st.booleans())
def test_any_events_are_understood(house: House, values: list[Any], done: bool) -> None:
    """Any JSON in the events of a stream ends well, or with an error as the last event."""
    events = [b"data: %s\n\n" % json.dumps(value).encode() for value in values]
    stream = b"".join(events) + (b"data: [DONE]\n\n" if done else b"")
    status, _, body = house.ask(whole(stream, kind="text/event-stream"), stream=True)
    if status != 200:
        assert status in (400, 404, 429, 502, 503)
        check_error(body)
        return
    last = body.removesuffix(b"\n\n").split(b"\n\n")[-1].removeprefix(b"data: ")
    if last != b"[DONE]" and "error" in (told := json.loads(last)) and told["error"] is not None:
        check_error(last)
    else:
        assert b'"finish_reason"' in body


@QUICK
@given(stream=st.binary(max_size=100) | st.text('data: {}[]\r\n"x:,', max_size=60))
def test_any_bytes_of_a_stream_are_understood(house: House, stream: bytes | str) -> None:
    """What is no event, or no text, is an error with a status: nothing was said yet."""
    raw = stream.encode() if isinstance(stream, str) else stream
    status, _, body = house.ask(whole(raw, kind="text/event-stream"), stream=True)
    assert status == 502
    assert check_error(body)["code"] in ("bad_upstream_response", "upstream_disconnected")


WAITS = {
    "7": "7",
    "0": None,
    "-5": None,
    "1e999": None,
    "nan": None,
    "inf": None,
    "0x10": None,
    "": None,
    "soon": None,
    "9" * 4000: None,
    "\u0663": None,
    "Wed, 99 Foo 2099 99:99:99 GMT": None,
    "Thu, 01 Jan 1970 00:00:00 GMT": None,
}


@pytest.mark.parametrize("value", list(WAITS), ids=lambda value: ascii(value)[:12])
@pytest.mark.parametrize("status", [429, 503])
def test_an_odd_retry_after_is_no_fault_of_ours(house: House, status: int, value: str) -> None:
    """What it says is told on where it is a sane number of seconds, and only then."""
    more = f"retry-after: {value}\r\n".encode()
    answer = whole(b"{}", status).replace(b"content-length", more + b"content-length")
    got, headers, body = house.ask(answer)
    assert got == status
    check_error(body)
    told = headers.get("retry-after")
    if WAITS[value] is not None:
        assert told == WAITS[value]
    else:
        assert told is None or 1 <= int(told) <= 3600


@pytest.mark.parametrize("size", [100, 100_000, 5_000_000])
def test_a_long_complaint_is_cut(house: House, size: int) -> None:
    """The upstream's own message goes on to the client, but not the whole of a book."""
    told = {"error": {"message": "no " * (size // 3), "code": "c" * size, "param": "p" * size}}
    status, _, body = house.ask(whole(json.dumps(told).encode(), 400))
    assert status == 400
    assert check_error(body)["message"]
    assert len(body) < 100_000
