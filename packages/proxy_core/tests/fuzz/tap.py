"""The tap's quick way and its strict way give the same, whatever an upstream sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy_core import Usage
from proxy_core.dialects import StreamTap

HEAD = b'{"id":"c-1","object":"chat.completion.chunk","created":17,'
TEMPLATES = [
    # OpenAI
    HEAD + b'"model":"gpt-5","service_tier":"default","system_fingerprint":"fp","choices":[{"index"'
    b':0,"delta":{"content":"@"},"logprobs":null,"finish_reason":null}],"usage":null,'
    b'"obfuscation":"aB3"}',
    # llama.cpp
    (
        b'{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"@"}}],"created":17,'
        b'"id":"c-1","model":"smol","system_fingerprint":"b5","object":"chat.completion.chunk"}'
    ),
    # vLLM
    HEAD + b'"model":"llama","choices":[{"index":0,"delta":{"reasoning_content":"@"},'
    b'"logprobs":null,"finish_reason":null,"token_ids":null}]}',
    # Ollama
    HEAD + b'"model":"qwen","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"@"},"finish_reason":null}]}',
    # what json.dumps writes
    b'{"id": "c", "model": "m", "choices": [{"index": 1, "delta": {"content": "@"}}], "x": 1E400}',
    # completions
    (
        b'{"id":"c-1","object":"text_completion","created":17,"choices":[{"index":0,"text":"@",'
        b'"logprobs":null,"finish_reason":null,"stop_reason":null}],"model":"m","usage":null}'
    ),
    # a tool's arguments
    HEAD + b'"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":'
    b'{"arguments":"@"}}]},"logprobs":null,"finish_reason":null}]}',
    # the same key twice, a text that looks like another field
    b'{"model":"a","choices":[{"delta":{"content":"x","content":"@"}}],"model":"b"}',
    b'{"obfuscation":"q1","choices":[{"delta":{"content":"@"}}],"usage":null,"obfuscation":"q2"}',
]
OTHERS = [
    HEAD + b'"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    b'{"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}',
    b'{"error":{"message":"full","code":"rate_limit_exceeded"}}',
    b'{"choices":[{"index":0,"delta":{"content":"z"}}],"error":null}',
    b'{"choices":[{"delta":{"content":"z"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}',
    b'{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}',
    b"[DONE]",
    b"{oops}",
]


def one_input(data: bytes) -> None:
    """Lines of these bytes become texts of events; a line that begins with "!" is one of OTHERS."""
    if len(data) < 3:
        return
    template = TEMPLATES[data[0] % len(TEMPLATES)]
    events = []
    for line in data[3:].split(b"\n"):
        if line[:1] == b"!":
            event = OTHERS[(line[1] if len(line) > 1 else 0) % len(OTHERS)]
        elif line[:1] == b"?":
            event = line[1:]
        else:
            event = template.replace(b"@", line)
            event = event.replace(b"aB3", b"aB3" + b"x" * (len(line) % 3))
        events.append(b"data: " + event + (b"\r\n\r\n" if line[-1:] == b"~" else b"\n\n"))
    raw = b"".join(events)
    size = data[1] or len(raw)
    assert_same([raw[at : at + size] for at in range(0, len(raw), size)], keep_usage=data[2] > 127)


def assert_same(pieces: Iterable[bytes], *, keep_usage: bool) -> None:
    """Each read gives the same bytes and leaves the tap in the same state, learned or not."""
    quick, strict = _tap(keep_usage), _tap(keep_usage, lessons=0)
    for piece in pieces:
        assert _after(*quick, quick[0].feed(piece)) == _after(*strict, strict[0].feed(piece))
    assert _after(*quick, quick[0].end()) == _after(*strict, strict[0].end())


def _tap(keep_usage: bool, **lessons: Any) -> tuple[StreamTap, Usage]:
    usage = Usage(input_tokens=5)
    return StreamTap("chat", keep_usage=keep_usage, usage=usage, **lessons), usage


def _after(tap: StreamTap, usage: Usage, passed: bytes) -> tuple[Any, ...]:
    failure = tap.failure
    return passed, tap.has_content, tap.done, type(failure), str(failure), repr(usage)
