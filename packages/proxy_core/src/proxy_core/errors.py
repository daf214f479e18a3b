"""What can go wrong, as facts. HTTP statuses and wire shapes belong to whoever answers a client.

::

    ProxyError
    ├── ConfigurationError               the operator's settings can't be used
    ├── RequestError                     the client's fault: changing the request is the remedy
    │   ├── InvalidRequest               malformed, a wrong type, a missing field
    │   ├── BodyTooLarge
    │   ├── UnsupportedMedia             content type or encoding
    │   ├── AuthenticationFailed         no key, or one that nobody knows
    │   ├── PermissionRefused            a known key, for something that it may not do
    │   ├── ModelNotFound
    │   ├── NotFound                     nothing of that id belongs to the key
    │   ├── NotSupported                 a known route that can't be served here
    │   └── LimitExceeded                a limit of ours (retry_after says when it is free)
    ├── Overloaded                       we ourselves are full
    │   └── ShuttingDown                 we stop, and the time to finish is over
    └── UpstreamError                    a deployment, or the way to it
        ├── CircuitOpen                  not asked: its breaker is open
        ├── PoolExhausted                not asked: no connection was free in time (our own limit)
        ├── ConnectFailed                nothing was sent: DNS, refused, TLS, connect timeout
        ├── UpstreamTimeout              ``phase`` says which: first_byte, between_events, total
        ├── UpstreamDisconnected         the connection broke, or the body ended before its end
        ├── UpstreamProtocolError        an answer that isn't one: HTML, over a cap, truncated
        ├── UpstreamFailed               a 5xx, an odd 4xx, an error inside a 200 or a stream
        ├── UpstreamThrottled            429
        ├── UpstreamRefusedCredential    401, 402, 403: our key, not the client's
        ├── UpstreamModelMissing         404, or a 403 that is about one model
        ├── UpstreamRejected             400, 413, 415, 422: the upstream judged the request;
        │                                404 of what the request names: a file, a thread
        ├── NotCarried                   not asked: its dialect or model can't take what is asked
        │   └── ThreadNotCarried         nor keep what Anthropic's ``thread`` leaves unsaid
        └── NoDeploymentAnswered         every deployment failed; ``failures`` has them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from proxy_core._limits import LimitState

__all__ = [
    "AuthenticationFailed",
    "BodyTooLarge",
    "CircuitOpen",
    "ConfigurationError",
    "ConnectFailed",
    "InvalidRequest",
    "LimitExceeded",
    "ModelNotFound",
    "NoDeploymentAnswered",
    "NotCarried",
    "NotFound",
    "NotSupported",
    "Overloaded",
    "PermissionRefused",
    "PoolExhausted",
    "ProxyError",
    "RequestError",
    "ShuttingDown",
    "ThreadNotCarried",
    "UnsupportedMedia",
    "UpstreamDisconnected",
    "UpstreamError",
    "UpstreamFailed",
    "UpstreamModelMissing",
    "UpstreamProtocolError",
    "UpstreamRefusedCredential",
    "UpstreamRejected",
    "UpstreamThrottled",
    "UpstreamTimeout",
]

Verdict = Literal["succeeded", "failed", "let_go"]
"""What an outcome says of the endpoint's health: a breaker counts only the first two."""


class ProxyError(Exception):
    """The base of every error of ours. ``code`` is stable, the message is for people."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ConfigurationError(ProxyError):
    code = "invalid_configuration"


class RequestError(ProxyError):
    code = "invalid_request"


class InvalidRequest(RequestError):
    code = "invalid_request"


class BodyTooLarge(RequestError):
    code = "request_too_large"


class UnsupportedMedia(RequestError):
    code = "unsupported_media_type"


class AuthenticationFailed(RequestError):
    code = "invalid_api_key"


class PermissionRefused(RequestError):
    code = "permission_denied"


class ModelNotFound(RequestError):
    code = "model_not_found"


class NotFound(RequestError):
    code = "not_found"


class NotSupported(RequestError):
    code = "not_supported"


class LimitExceeded(RequestError):
    """A limit of ours refused, and nothing was consumed.

    ``limit`` is its name, ``retry_after`` the seconds until the same request fits, if nobody else
    takes it; None means that it can never fit. ``subject`` and ``scope`` say whose limit it is
    (key, user, model), ``states`` where that subject stood with each of its limits.
    """

    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        retry_after: float | None,
        subject: str = "",
        scope: str = "",
        states: Sequence[LimitState] = (),
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.retry_after = retry_after
        self.subject = subject
        self.scope = scope
        self.states = tuple(states)


class Overloaded(ProxyError):
    code = "overloaded"


class ShuttingDown(Overloaded):
    code = "gateway_shutdown"


class UpstreamError(ProxyError):
    """A deployment failed us. ``retryable``: another deployment may be asked for the same call."""

    code = "upstream_error"
    retryable: ClassVar[bool] = True
    verdict: ClassVar[Verdict] = "failed"

    def __init__(
        self,
        message: str,
        *,
        deployment: str = "",
        upstream_status: int | None = None,
        upstream_code: str | None = None,
        retry_after: float | None = None,
        param: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.details = details
        """Anthropic's, beside its message: an ``error_code``, and fields that belong to it."""
        self.deployment = deployment
        self.upstream_status = upstream_status
        self.upstream_code = upstream_code
        self.retry_after = retry_after

    @property
    def reason(self) -> str:
        """Which fallback this calls for: error, context_length, content_policy; empty: none."""
        return "error" if self.retryable else ""


class CircuitOpen(UpstreamError):
    code = "circuit_open"
    verdict = "let_go"


class PoolExhausted(UpstreamError):
    code = "pool_exhausted"
    verdict = "let_go"


class ConnectFailed(UpstreamError):
    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"

    def __init__(self, message: str, *, phase: str, deployment: str = "") -> None:
        super().__init__(message, deployment=deployment)
        self.phase = phase


class UpstreamDisconnected(UpstreamError):
    code = "upstream_disconnected"


class UpstreamProtocolError(UpstreamError):
    code = "bad_upstream_response"


class UpstreamFailed(UpstreamError):
    code = "upstream_failed"


class UpstreamThrottled(UpstreamError):
    code = "upstream_rate_limited"
    verdict = "let_go"


class UpstreamRefusedCredential(UpstreamError):
    code = "upstream_credential_refused"
    verdict = "let_go"


class UpstreamModelMissing(UpstreamError):
    code = "upstream_model_not_found"
    verdict = "let_go"


class UpstreamRejected(UpstreamError):
    """The endpoint is alive and said no: asking another one for the same would be noise."""

    code = "invalid_request"
    retryable = False
    verdict = "succeeded"

    _REASONS: ClassVar[dict[str, str]] = {
        "context_length_exceeded": "context_length",
        "exceed_context_size_error": "context_length",
        "content_policy_violation": "content_policy",
        "content_filter": "content_policy",
    }

    @property
    def reason(self) -> str:
        """``context_length``, ``content_policy`` or none: elsewhere the same may fit."""
        return self._REASONS.get(self.upstream_code or "", "")


class NotCarried(UpstreamError):
    """Translated, the request would be another one: a deployment of another kind may take it."""

    code = "unsupported_parameter"
    verdict = "let_go"


class ThreadNotCarried(NotCarried):
    """Anthropic's own code for it: its SDK then sends the whole conversation, without ``thread``.

    Source: ``ThreadUnsupportedRequestErrorDetails`` of https://github.com/anthropics/anthropic-sdk-python.
    """

    code = "thread_unsupported_request"


class NoDeploymentAnswered(UpstreamError):
    """Every deployment failed before it answered; the last one asked gives the tone."""

    code = "no_deployment_answered"
    retryable = False
    verdict = "let_go"

    def __init__(self, model: str, failures: Sequence[UpstreamError]) -> None:
        told = "; ".join(f"{failure.deployment}: {failure.message}" for failure in failures)
        super().__init__(
            f"no deployment of {model!r} answered: {told}"
            if told
            else f"{model!r} has no deployment to ask"
        )
        self.failures = tuple(failures)
