"""What an exception says of the endpoint that was asked."""

from __future__ import annotations

from collections.abc import Callable

from proxy_core._breaker_settings import Counts
from proxy_core.errors import ProxyError, UpstreamError, Verdict

__all__ = ["judge_by"]


def judge_by(counts: Counts) -> Callable[[BaseException], Verdict]:
    """The judge of those who count these exceptions beside ours."""
    fails = _predicate(counts)

    def judge(error: BaseException) -> Verdict:
        if isinstance(error, UpstreamError):
            return error.verdict
        if isinstance(error, ProxyError) or not isinstance(error, Exception):
            return "let_go"
        return "failed" if fails(error) else "let_go"

    return judge


def _predicate(counts: Counts) -> Callable[[Exception], bool]:
    """Whether an exception counts, in one call."""
    if isinstance(counts, type | tuple):
        return lambda error: isinstance(error, counts)
    return counts
