"""Neutralises each line that gives something back, one by one; the tests must fail each time.

Run it as a script: it prints a table and exits with 1 when a change goes unnoticed. Each change is
made in a copy of its package, which stands before the others on PYTHONPATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELEASES = "test_releases.py"
GONE = "test_client_gone.py"
AT_ONCE = 2


@dataclass(frozen=True)
class Line:
    """A line of a package's source, what it gives back, and the tests that must miss it."""

    file: str
    text: str
    gives_back: str
    tests: str
    """An expression for pytest's ``-k``."""
    instead: str = "pass"
    module: str = RELEASES


LINES = (
    Line(
        "proxy_api/_journey.py",
        "reservation.settle(reply.usage.input_tokens + reply.usage.output_tokens)",
        "the tokens that were reserved and not used",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_journey.py",
        "reservation.settle(0)",
        "the tokens that a hit of the cache did not use",
        "of_the_cache",
    ),
    Line(
        "proxy_api/_journey.py",
        "house.ledger.record(record.request_id, key.id, reply.usage)",
        "the ledger's row",
        "answer_gives and whole",
    ),
    Line(
        "proxy_core/_limiter.py",
        "self._limiter._close(self, self._account)",
        "the slot",
        "answer_gives and whole",
    ),
    Line(
        "proxy_core/_limiter.py",
        "self.settle(0 if isinstance(error, Exception) else self.tokens)",
        "the tokens of a request that failed",
        "answer_gives and fails",
    ),
    Line(
        "proxy_core/_breaker.py",
        "self._breaker._report(self, verdict, error)",
        "the permit",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_recorder.py",
        "self._observe(finished)",
        "the request in flight",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_recorder.py",
        "self._tracing.__exit__(None, None, None)",
        "the span",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_response.py",
        "async with journey(arrival, self._house.snapshot) as reply, aclosing(reply.body):",
        "the body that was being sent",
        "mid_stream or fault_of_ours",
        instead="async with journey(arrival, self._house.snapshot) as reply:",
    ),
    Line(
        "proxy_api/_arrival.py",
        "self._signal.callback = None",
        "the client's hold on the task",
        "is_forgotten",
    ),
    Line(
        "proxy_api/_arrival.py",
        "self._watcher.cancel()",
        "the watcher",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_arrival.py",
        "others = self._task.uncancel()",
        "the cancellation",
        "is_forgotten",
        instead="others = 0",
    ),
    Line(
        "proxy_api/_arrival.py",
        'self._task.cancel("the client has gone")',
        "the task of a client that left",
        "leaves_before",
    ),
    Line(
        "proxy_core/_hold.py",
        "async with aclosing(reply.body):",
        "the rest of a held body",
        "held_body",
        instead="if True:",
    ),
    Line(
        "proxy_core/_hold.py",
        "await _ended(reading)",
        "the task that waits for content",
        "silent_reply or leaves_before",
    ),
    Line(
        "proxy_core/_hold.py",
        "reading.cancel()",
        "the wait for content",
        "silent_reply or leaves_before",
    ),
    Line(
        "proxy_core/_hold.py",
        "reading.exception()  # what nobody asks for would be logged",
        "a failure that nobody asks for",
        "silent_reply",
    ),
    Line(
        "proxy_core/_hold.py",
        "cancelled = again",
        "a second cancellation",
        "silent_reply",
        instead="raise",
    ),
    Line(
        "proxy_core/_http.py",
        "self._open.discard(response)",
        "the count of open answers",
        "connection_is_free",
    ),
    Line(
        "proxy_core/_http.py",
        "await answer.aclose()",
        "the connection",
        "connection_is_free",
    ),
    Line(
        "proxy_core/_http.py",
        "async with aclosing(response.body):",
        "the rest of an upstream's body",
        "upstreams_body",
        instead="if True:",
    ),
    Line(
        "proxy_core/providers/_openai.py",
        "async with aclosing(reply.body):",
        "the rest of a provider's body",
        "upstreams_body",
        instead="if True:",
    ),
    Line(
        "proxy_api/_protocol.py",
        "signal.callback()",
        "what a client that left was waiting for",
        "half_close_counts and asyncio",
        module=GONE,
    ),
)
