"""One request's parts, each alone: the parser of answers, the dialect, the tap, the policies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy_core import (
    CHAT,
    CircuitBreaker,
    Limits,
    ModelTable,
    RateLimiter,
    Usage,
    order_deployments,
)
from proxy_core._http1._parser import ResponseParser

EVENTS = 64


def _body(size: int, *, stream: bool = False) -> bytes:
    messages = [{"role": "user", "content": "x" * 4000} for _ in range(max(size // 4030, 0))]
    messages.append({"role": "user", "content": "What does a gateway do? " * 30})
    data: dict[str, Any] = {"model": "chat", "stream": stream, "messages": messages}
    return json.dumps(data, separators=(",", ":")).encode()


def _event(number: int, delta: dict[str, str], finish: str | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-CkQ3vW8nTzJ5yRb2Lx0HqMfUaPd7E",
        "object": "chat.completion.chunk",
        "created": 1763745600,
        "model": "gpt-mock-2026-11-01",
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        "usage": None,
        "obfuscation": "Zk3Qv9TtB1xWcR8y"[: 1 + number * 7 % 16],
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


_STREAM = [
    *(_event(number, {"content": f" word{number}"}) for number in range(EVENTS)),
    _event(0, {}, "stop"),
    b"data: [DONE]\n\n",
]
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-CkQ3vW8nTzJ5yRb2Lx0HqMfUaPd7E",
        "object": "chat.completion",
        "created": 1763745600,
        "model": "gpt-mock-2026-11-01",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It carries bytes. " * 12},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 18, "completion_tokens": 12, "total_tokens": 30},
    },
    separators=(",", ":"),
).encode()


def _framed(kind: str, *chunks: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-request-id: req_5f0d1c7a9e\r\n"
    if len(chunks) == 1:
        return f"{head}content-length: {len(chunks[0])}\r\n\r\n".encode() + chunks[0]
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return f"{head}transfer-encoding: chunked\r\n\r\n".encode() + body + b"0\r\n\r\n"


@pytest.mark.parametrize("kind", ["whole", "burst"])
def bench_parser(benchmark: Any, kind: str) -> None:
    """An answer in one read, by a parser that a kept connection uses again."""
    burst = kind == "burst"
    data = memoryview(
        _framed("text/event-stream", *_STREAM) if burst else _framed("application/json", _ANSWER)
    )
    parser = ResponseParser()

    def parse() -> bool:
        parser.expect(is_head=False)
        parser.feed(data)
        return parser.complete

    assert benchmark(parse)


@pytest.mark.parametrize("size", [1_000, 50_000, 1_000_000])
def bench_request(benchmark: Any, size: int) -> None:
    """A client's body: read, then written for the deployment with its model's name."""
    raw = _body(size)

    def rewrite() -> bytes:
        return bytes(CHAT.request(CHAT.read(raw), "gpt-mock", ask_usage=True))

    assert b'"gpt-mock"' in benchmark(rewrite)


def bench_whole_answer(benchmark: Any) -> None:
    """An answer that isn't streamed: its usage is read, its model renamed."""
    call = CHAT.read(_body(1_000))
    assert b'"chat"' in benchmark(lambda: CHAT.whole(call, _ANSWER, Usage()))


@pytest.mark.parametrize("reads", ["burst", "paced"])
def bench_tap(benchmark: Any, reads: str) -> None:
    """A stream of 64 content events, in one read or one each."""
    call = CHAT.read(_body(1_000, stream=True))
    parts = [b"".join(_STREAM)] if reads == "burst" else _STREAM

    def pass_on() -> int:
        tap = CHAT.tap(call, Usage())
        return sum(len(tap.feed(part)) for part in parts)

    assert benchmark(pass_on) > EVENTS


def bench_breaker(benchmark: Any) -> None:
    """A permit that ends well."""
    breaker = CircuitBreaker("mock")

    def pass_through() -> None:
        with breaker.permit() as permit:
            permit.succeeded()

    benchmark(pass_through)
    assert breaker.state == "closed"


def bench_limiter(benchmark: Any) -> None:
    """A reservation under all three limits, settled, among 1,000 subjects."""
    limits = Limits.parse(
        requests="1000000000/minute", tokens="100000000000/minute", concurrent=1000
    )
    limiter = RateLimiter()
    for number in range(1000):
        limiter.reserve(f"key-{number}", limits, tokens=1).__exit__(None, None, None)

    def reserve() -> None:
        with limiter.reserve("key-777", limits, tokens=300) as reservation:
            reservation.settle(30)

    benchmark(reserve)
    assert limiter.slots_in_use == 0


class _Deployment:
    __slots__ = ("order", "weight")

    def __init__(self, order: int, weight: float) -> None:
        self.order = order
        self.weight = weight


@pytest.mark.parametrize("name", ["chat-7", "gpt-5-mini"])
def bench_router(benchmark: Any, name: str) -> None:
    """A model's name looked up among 101, exact or by a pattern, and its pool of three drawn."""
    pool = [_Deployment(1, 2.0), _Deployment(1, 1.0), _Deployment(2, 1.0)]
    rows = [(f"chat-{number}", one) for number in range(100) for one in pool]
    table = ModelTable([*rows, *(("gpt-*", one) for one in pool)])

    def route() -> int:
        found = table.lookup(name)
        assert found is not None
        return len(order_deployments(found.values))

    assert benchmark(route) == len(pool)
