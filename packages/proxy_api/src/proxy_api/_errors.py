"""Our errors as facts for a client: one table from types to statuses. Shapes write them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from proxy_core import errors, rate_limit_headers, retry_headers

__all__ = ["Fault", "LimitStyle", "code_of", "fault_of", "status_of", "telling_of", "wait_headers"]

Headers = list[tuple[bytes, bytes]]
LimitStyle = Literal["openai", "anthropic"]

_LONG_WAIT: Final = 60.0
"""Seconds above which SDKs must not wait: one would sleep for days, another retries at once."""


class _Row(NamedTuple):
    status: int
    type: str


_TABLE: Final[Mapping[type[Exception], _Row]] = MappingProxyType(
    {
        errors.InvalidRequest: _Row(400, "invalid_request_error"),
        errors.BodyTooLarge: _Row(413, "invalid_request_error"),
        errors.UnsupportedMedia: _Row(415, "invalid_request_error"),
        errors.AuthenticationFailed: _Row(401, "authentication_error"),
        errors.PermissionRefused: _Row(403, "permission_error"),
        errors.ModelNotFound: _Row(404, "invalid_request_error"),
        errors.NotFound: _Row(404, "invalid_request_error"),
        errors.NotSupported: _Row(501, "invalid_request_error"),
        errors.LimitExceeded: _Row(429, "rate_limit_error"),
        errors.RequestError: _Row(400, "invalid_request_error"),
        errors.Overloaded: _Row(503, "server_error"),
        errors.CircuitOpen: _Row(503, "server_error"),
        errors.PoolExhausted: _Row(503, "server_error"),
        errors.ConnectFailed: _Row(503, "server_error"),
        errors.UpstreamTimeout: _Row(504, "server_error"),
        errors.UpstreamThrottled: _Row(429, "rate_limit_error"),
        errors.UpstreamModelMissing: _Row(404, "invalid_request_error"),
        errors.UpstreamRejected: _Row(400, "invalid_request_error"),
        errors.NotCarried: _Row(400, "invalid_request_error"),
        # A refused credential is ours, not the client's, so it is no 401 here.
        errors.UpstreamError: _Row(502, "server_error"),
        errors.ProxyError: _Row(500, "server_error"),
        Exception: _Row(500, "server_error"),
    }
)
_SAYS_LITTLE: Final = (
    errors.CircuitOpen,
    errors.NotCarried,
    errors.UpstreamModelMissing,
    errors.UpstreamRefusedCredential,
)
_FULL: Final = (
    errors.Overloaded,
    errors.CircuitOpen,
    errors.PoolExhausted,
    errors.UpstreamFailed,
)
_OUR_OWN: Final = "The proxy met an error of its own; its log has the request id."
_WORTH_WAITING: Final = frozenset({429, 503})
_BUSY: Final = frozenset({503, 529})


class Fault(NamedTuple):
    """An error as a client is told of it, whatever the shape."""

    status: int
    type: str
    """OpenAI's word for its kind."""
    message: str
    code: str
    param: str | None = None
    """The path of the field that is wrong."""
    wait: float | None = None
    """Seconds until it is worth asking again, where that is known."""
    is_overload: bool = False
    """Whether somebody is full, and another moment will do."""
    details: Mapping[str, object] | None = None
    """What an upstream says beside its message as Anthropic does, with an ``error_code``."""


def status_of(error: Exception) -> int:
    """The HTTP status that stands for an error."""
    if isinstance(error, errors.UpstreamRejected):
        given = error.upstream_status or 400
        return given if 400 <= given < 500 else 400
    if isinstance(error, errors.NoDeploymentAnswered):
        return status_of(telling_of(error))
    if isinstance(error, errors.LimitExceeded) and _never_fits(error):
        return 400
    if isinstance(error, errors.UpstreamFailed) and error.upstream_status in _BUSY:
        return 503
    return _row(error).status


def fault_of(error: Exception) -> Fault:
    """What there is to tell of an error; of one that isn't ours, no more than that it was."""
    status, telling = status_of(error), telling_of(error)
    return Fault(
        status,
        "rate_limit_error" if status == 429 else _row(telling).type,
        error.message if isinstance(error, errors.ProxyError) else _OUR_OWN,
        code_of(error),
        telling.param if isinstance(telling, errors.ProxyError) else None,
        _wait(error),
        status == 503 and isinstance(telling, _FULL),
        telling.details if isinstance(telling, errors.UpstreamError) else None,
    )


def wait_headers(error: Exception, style: LimitStyle) -> Headers:
    """When to ask again, and where the key stands with its limits, as that style names them."""
    if isinstance(error, errors.LimitExceeded):
        states = rate_limit_headers(error.states, style=style, now=time.time())
        return retry_headers(error) + states
    return _retry_headers(error, status_of(error))


def _row(error: Exception) -> _Row:
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)


def code_of(error: Exception) -> str:
    """The code that the client sees: the upstream's own where it judged the request."""
    telling = telling_of(error)
    if isinstance(telling, errors.UpstreamRejected):
        return telling.upstream_code or telling.code
    if isinstance(telling, errors.LimitExceeded) and telling.limit == "budget":
        return "insufficient_quota"
    if isinstance(telling, errors.NotCarried):
        return telling.code
    return error.code if isinstance(error, errors.ProxyError) else "internal_error"


def telling_of(error: Exception) -> Exception:
    """The error that says most: of several deployments' that of the last one asked."""
    return _most_telling(error) if isinstance(error, errors.NoDeploymentAnswered) else error


def _most_telling(error: errors.NoDeploymentAnswered) -> Exception:
    if not error.failures:
        return errors.Overloaded(error.message)
    # Lasting faults of ours (a wrong name, a dead key) hide a passing one that a retry would cure.
    telling = [failure for failure in error.failures if not isinstance(failure, _SAYS_LITTLE)]
    asked = [failure for failure in error.failures if not isinstance(failure, errors.CircuitOpen)]
    return (telling or asked or error.failures)[-1]


def _never_fits(error: errors.LimitExceeded) -> bool:
    """Whether the request itself is too large; a budget that is used up isn't its fault."""
    return error.retry_after is None and error.limit != "budget"


def _retry_headers(error: Exception, status: int) -> Headers:
    wait = _wait(error)
    if isinstance(telling_of(error), errors.UpstreamRefusedCredential | errors.NotSupported):
        return [(b"x-should-retry", b"false")]
    if status not in _WORTH_WAITING:
        return []
    if wait is None:
        return [(b"retry-after", b"1")] if status == 503 else []
    headers = [
        (b"retry-after", b"%d" % max(1, math.ceil(wait))),
        (b"retry-after-ms", b"%d" % max(1, math.ceil(wait * 1000))),
    ]
    return [*headers, (b"x-should-retry", b"false")] if wait > _LONG_WAIT else headers


def _wait(error: Exception) -> float | None:
    if isinstance(error, errors.NoDeploymentAnswered):
        waits = [
            failure.retry_after for failure in error.failures if failure.retry_after is not None
        ]
        return min(waits, default=None)
    wait = getattr(error, "retry_after", None)
    return wait if isinstance(wait, float | int) and math.isfinite(wait) else None
