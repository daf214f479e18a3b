"""A provider that speaks OpenAI's dialects: most of them do, and differ by their row alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Final

from proxy_core._credentials import CredentialPool
from proxy_core._failures import failure_from_answer
from proxy_core._http import HttpRequest, HttpResponse, HttpSender
from proxy_core._secret import Secret
from proxy_core._tapped import Tapped
from proxy_core._types import Call, Headers, Ready, Reply, Timeouts, Usage
from proxy_core.dialects import DIALECTS
from proxy_core.errors import (
    UpstreamError,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRefusedCredential,
    UpstreamThrottled,
)
from proxy_core.providers._rows import ProviderRow
from proxy_logging import Observer

__all__ = ["OpenAIProvider"]

_MAX_COMPLAINT: Final = 64 * 1024
"""Bytes of an error's body that we read."""
_COMPLAINT_TIME: Final = 1.0
"""Seconds for them: the status is known, and another deployment could be asked."""
_SHORTEST_KEY: Final = 4
_SHORTEST_HEADER: Final = 8
"""Characters; what is shorter is a placeholder or a flag, and to mask it would garble words."""
_JSON: Final = b"application/json"
_UNPACKED: Final = (b"", b"identity")
_NOTHING_TOLD: Final[Headers] = []
_NO_TIMEOUTS: Final = Timeouts()


class OpenAIProvider:
    """One upstream account. ``name`` is the operator's; it owns its HTTP client."""

    def __init__(
        self,
        name: str,
        row: ProviderRow,
        http: HttpSender,
        *,
        base_url: str,
        api_keys: Sequence[Secret] = (),
        headers: Mapping[str, str],
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self._row = row
        self._http = http
        self.credentials = CredentialPool(name, api_keys, observer=observer) if api_keys else None
        """None: it needs no key."""
        self._headers = [_headers(row, key, headers) for key in api_keys or (None,)]
        self._secrets = _secrets(api_keys, headers)
        base = base_url.rstrip("/")
        self._last_timeouts = (_NO_TIMEOUTS, _NO_TIMEOUTS)
        self._urls = {dialect: base + DIALECTS[dialect].path for dialect in row.dialects}

    @property
    def dialects(self) -> tuple[str, ...]:
        return self._row.dialects

    @property
    def held_bytes(self) -> int:
        return self._http.held_bytes

    def send(
        self, call: Call, *, model: str, timeouts: Timeouts = Timeouts()
    ) -> AbstractAsyncContextManager[Reply]:
        """Ask ``model``. Raises UpstreamError with the deployment, also while the body is read."""
        return _Asking(self, call, model, timeouts)

    async def aclose(self) -> None:
        await self._http.aclose()

    def exchange(
        self, call: Call, model: str, timeouts: Timeouts, credential: int
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """The request on its way, with the credential of this number."""
        url = self._urls.get(call.dialect)
        if url is None:
            raise UpstreamModelMissing(f"the provider {self.name!r} does not speak {call.dialect}")
        if not call.stream:
            timeouts = self._patient(timeouts)
        body = DIALECTS[call.dialect].request(call, model, ask_usage=self._row.asks_usage)
        return self._http.send(
            HttpRequest("POST", url, self._headers[credential], body), timeouts=timeouts
        )

    def _patient(self, timeouts: Timeouts) -> Timeouts:
        """For an answer that begins when all of it is generated. A provider sees few of them."""
        given, patient = self._last_timeouts
        if given is not timeouts:
            total = timeouts.total
            patient = Timeouts(timeouts.connect, total, total, total, timeouts.pool)
            self._last_timeouts = (timeouts, patient)
        return patient

    def sign(self, failure: UpstreamError, model: str) -> None:
        """Say in an error whose it is. An upstream may quote our credential: that is masked."""
        secrets = self._secrets
        failure.deployment = failure.deployment or f"{self.name}/{model}"
        failure.message = _masked(failure.message, secrets)
        failure.args = (failure.message,)
        failure.param = failure.param and _masked(failure.param, secrets)
        failure.upstream_code = failure.upstream_code and _masked(failure.upstream_code, secrets)


class _Asking:
    """One call: it sends when it is entered; when it is left the connection is given back."""

    __slots__ = ("_body", "_call", "_exchange", "_model", "_provider", "_timeouts", "_told")

    def __init__(
        self, provider: OpenAIProvider, call: Call, model: str, timeouts: Timeouts
    ) -> None:
        self._provider = provider
        self._call = call
        self._model = model
        self._timeouts = timeouts

    async def __aenter__(self) -> Reply:
        provider = self._provider
        pool = provider.credentials
        try:
            if pool is None:
                reply = await self._entered(0)
            elif pool.is_plain:
                reply = await self._plain(pool)
            else:
                reply = await self._lent(pool)
        except UpstreamError as failure:
            provider.sign(failure, self._model)
            raise
        # Ours, whatever others put around it: what it holds is given back with it.
        self._body = reply.body
        return reply

    async def _plain(self, pool: CredentialPool) -> Reply:
        """Ask with the only credential. The pool hears of failures alone."""
        try:
            return await self._entered(0)
        except UpstreamError as error:
            self._sign(error)
            if pool.is_plain:
                pool.take(self._model).failed(error, self._told)
            if isinstance(error, UpstreamThrottled):
                error.retry_after = max(error.retry_after or 0.0, pool.retry_after(self._model))
            raise

    async def _lent(self, pool: CredentialPool) -> Reply:
        """Ask with one credential after the other, until one isn't throttled or refused."""
        model = self._model
        tried: tuple[int, ...] = ()
        throttled: UpstreamThrottled | None = None
        while True:
            loan = pool.take(model, tried)
            try:
                reply = await self._entered(loan.number)
            except BaseException as error:
                if isinstance(error, UpstreamError):
                    self._sign(error)  # before anybody is told: it may quote the credential
                loan.failed(error, self._told)
                if not isinstance(error, UpstreamThrottled | UpstreamRefusedCredential):
                    raise
                tried = (*tried, loan.number)
                if isinstance(error, UpstreamThrottled):
                    throttled = error
                if pool.retry_after(model, tried) == 0:
                    continue
                if throttled is None:
                    raise
                # The last one need not be the one that is free first.
                throttled.retry_after = pool.retry_after(model)
                raise throttled from None
            loan.answered(self._told)
            return reply

    async def _entered(self, credential: int) -> Reply:
        self._told = _NOTHING_TOLD
        provider = self._provider
        self._exchange = provider.exchange(self._call, self._model, self._timeouts, credential)
        response = await self._exchange.__aenter__()
        self._told = response.headers
        try:
            return await self._reply(response)
        except BaseException as error:
            await self._exchange.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, UpstreamError):
            self._provider.sign(error, self._model)
        try:
            await self._body.aclose()
        finally:
            await self._exchange.__aexit__(kind, error, trace)

    async def _reply(self, response: HttpResponse) -> Reply:
        call = self._call
        if response.status != 200:
            # No variable keeps the body: a refusal may quote our key, and logs show frames.
            raise failure_from_answer(response.status, response.headers, await _beginning(response))
        kind = response.header(b"content-type")
        if kind != _JSON:
            kind = kind.partition(b";")[0].strip().lower()
        if response.header(b"content-encoding").lower() not in _UNPACKED:
            raise UpstreamProtocolError(
                "the upstream compressed its answer although it was asked not to"
            )
        if kind == _JSON or not kind:
            usage = Usage()
            answer = DIALECTS[call.dialect].whole(call, await response.read(), usage)
            if call.stream:
                raise UpstreamProtocolError(
                    "the upstream answered a whole body where a stream was asked for"
                )
            return Reply(Ready(answer), usage=usage, content_at=time.monotonic())
        if call.stream and kind == b"text/event-stream":
            reply = Reply(body=response.body, stream=True)
            tap = DIALECTS[call.dialect].tap(call, reply.usage)
            reply.body = Tapped(response, tap, reply, self._sign)
            return reply
        wanted = "text/event-stream" if call.stream else "application/json"
        raise UpstreamProtocolError(
            f"the upstream answered {kind.decode('latin-1')!r} where {wanted} was asked for"
        )

    def _sign(self, failure: UpstreamError) -> None:
        self._provider.sign(failure, self._model)


def _masked(text: str, secrets: tuple[Secret, ...]) -> str:
    for secret in secrets:
        value = secret.reveal()
        text = text.replace(value, "***")
        # Texts are cut to a length, maybe in the middle of it.
        for size in range(len(value) - 1, _SHORTEST_HEADER - 1, -1):
            if text.endswith(value[:size]):
                text = text[:-size] + "***"
    return text


def _secrets(api_keys: Sequence[Secret], extra: Mapping[str, str]) -> tuple[Secret, ...]:
    """What to mask, the longest first: the keys, and headers with and without their scheme."""
    values = {part for value in extra.values() for part in (value, value.partition(" ")[2])}
    found = {value for value in values if len(value) >= _SHORTEST_HEADER}
    keys = (key.reveal() for key in api_keys)
    found.update(key for key in keys if len(key) >= _SHORTEST_KEY)
    return tuple(Secret(value) for value in sorted(found, key=len, reverse=True))


async def _beginning(response: HttpResponse) -> bytes:
    """The first bytes of an error's body; its status is worth more than the rest, or its end."""
    begun = b""
    with suppress(UpstreamError, TimeoutError):
        async with asyncio.timeout(_COMPLAINT_TIME):
            async for part in response.body:
                begun += part
                if len(begun) >= _MAX_COMPLAINT:
                    break
    return begun[:_MAX_COMPLAINT]


def _headers(row: ProviderRow, api_key: Secret | None, extra: Mapping[str, str]) -> Headers:
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        # What is compressed can't be tapped, and a small body could unpack into a large one.
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"llm-proxy"),
    ]
    if api_key:
        value = api_key.reveal()
        bearer = f"Bearer {value}" if row.auth_header == "authorization" else value
        headers.append((row.auth_header.encode(), bearer.encode()))
    own = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in extra.items()}
    return [(name, value) for name, value in headers if name not in own] + list(own.items())
