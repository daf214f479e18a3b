"""A provider that is asked over HTTP: all of them are, and differ by their row alone."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Final, NamedTuple

import msgspec

from proxy_core._credentials import CredentialPool, is_of_credential
from proxy_core._failures import failure_from_answer
from proxy_core._http import HttpRequest, HttpResponse, HttpSender
from proxy_core._secret import Secret
from proxy_core._tapped import Tapped
from proxy_core._types import Call, Headers, Ready, Reply, Timeouts, Usage
from proxy_core.dialects._cache_prompt import CachePrompt
from proxy_core.dialects._passed_tap import PlainTap
from proxy_core.dialects._translate import Unsupported
from proxy_core.dialects._unsealed_told import told_of
from proxy_core.errors import (
    UpstreamError,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamThrottled,
)
from proxy_core.providers._guess import COUNTED, Guess
from proxy_core.providers._row import ProviderRow
from proxy_core.providers._signatures import SignatureMemory
from proxy_core.providers._signing import Signer
from proxy_core.providers._standing import headers_of, masked, masked_details, secrets_of
from proxy_core.providers._ways import RAW, Way, Ways, is_spoken, ways_of
from proxy_logging import Observer

__all__ = ["Access", "HttpProvider"]

_MAX_COMPLAINT: Final = 64 * 1024
"""Bytes of an error's body that we read."""
_COMPLAINT_TIME: Final = 1.0
"""Seconds for them: the status is known, and another deployment could be asked."""
_JSON: Final = b"application/json"
_UNPACKED: Final = b"identity"
_PACKED: Final = "the upstream compressed its answer although it was asked not to"
_OURS: Final = frozenset({401, 402, 403, 429})
"""What an upstream says of our credential or our limits there, and not of a raw request."""
_TOLD: Final = frozenset(
    {
        *(b"accept-ranges", b"cache-control", b"content-disposition", b"content-language"),
        *(b"content-range", b"etag", b"last-modified", b"openai-processing-ms", b"openai-version"),
    }
)
"""Headers of an upstream that go on with the answer to a raw request."""
_NO_TIMEOUTS: Final = Timeouts()


class Access(NamedTuple):
    """What an upstream lets us in by."""

    api_keys: Sequence[Secret] = ()
    headers: Mapping[str, str] = MappingProxyType({})
    """The operator's own."""
    signer: Signer | None = None


class HttpProvider:
    """One upstream account. ``name`` is the operator's; it owns its HTTP client."""

    def __init__(
        self,
        name: str,
        row: ProviderRow,
        http: HttpSender,
        ways: Ways,
        *,
        access: Access,
        memory: SignatureMemory,
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.http = http
        self.ways = ways.ready
        self.signer = access.signer
        self.signatures = memory
        self._row = row
        self._forks = ways.forks
        self._plan = ways.plan
        self._account: HttpProvider | None = None
        keys = access.api_keys
        self.credentials = CredentialPool(name, keys, observer=observer) if keys else None
        """None: it needs no key."""
        self._headers = [headers_of(row, key, access.headers) for key in keys or (None,)]
        self._own = frozenset(header.lower().encode("latin-1") for header in access.headers)
        self._secrets = secrets_of(keys, access.headers)
        self._last_timeouts = (_NO_TIMEOUTS, _NO_TIMEOUTS)

    @property
    def dialects(self) -> tuple[str, ...]:
        """What the upstream speaks."""
        return self._row.dialects

    @property
    def speaks(self) -> tuple[str, ...]:
        """What a client may speak: those and what is translated."""
        return tuple(name for name in (*self.ways, *self._forks) if name != RAW)

    @property
    def keeps_files(self) -> bool:
        """Whether it is known to keep files for its clients."""
        return self._row.keeps_files

    @property
    def held_bytes(self) -> int:
        return self.http.held_bytes + self.signatures.held_bytes

    def send(
        self, call: Call, *, model: str, timeouts: Timeouts = Timeouts()
    ) -> AbstractAsyncContextManager[Reply]:
        """Ask ``model``. Raises UpstreamError with the deployment, also while the body is read."""
        if call.dialect in COUNTED and not self._counts(model):
            return Guess(call)
        if call.seal is not None:
            call = msgspec.structs.replace(call, seal=partial(call.seal, self.name))
        return _Asking(self, call, model, timeouts)

    def _counts(self, model: str) -> bool:
        """Whether the upstream itself says how many tokens a prompt has, in whatever dialect."""
        row = self._row
        return any(
            name in row.dialects and is_spoken(model, row.only.get(name, ())) for name in COUNTED
        )

    async def aclose(self) -> None:
        await self.http.aclose()

    @property
    def account(self) -> HttpProvider:
        """The provider that this one is a view of; else itself."""
        return self._account or self

    def under(
        self, unsupported: Unsupported | None = None, *, cache_prompt: CachePrompt | None = None
    ) -> HttpProvider:
        """A view of the same account that goes by another policy: it shares all that lives.

        Closing one closes the other.
        """
        view, plan = copy.copy(self), self._plan
        ready, forks, plan = ways_of(
            plan._replace(
                unsupported=unsupported or plan.unsupported,
                cache_prompt=cache_prompt or plan.cache_prompt,
            )
        )
        vars(view).update(ways=ready, _forks=forks, _plan=plan, _account=self.account)
        return view

    def fork(self, call: Call, model: str) -> Way:
        """The way of a call that isn't in ``ways``. Raises RequestError and UpstreamError."""
        fork = self._forks.get(call.dialect)
        if fork is None:
            raise UpstreamModelMissing(f"the provider {self.name!r} does not speak {call.dialect}")
        return fork(call, model)

    def request(self, call: Call, way: Way, model: str, credential: int) -> HttpRequest:
        """What to send, with the credential of this number."""
        body = way.request(call, model, ask_usage=self._row.asks_usage)
        request = HttpRequest(call.method, way.url, self._headers[credential], body)
        if (call.headers or call.media or way.is_raw) and way.is_native:
            request.headers = self._with(request.headers, call, way)
        return request

    def _with(self, headers: Headers, call: Call, way: Way) -> Headers:
        """Those of the client that the row lets pass, in the place of ours, not the operator's.

        Of a raw call all of them pass: who made it has chosen them.
        """
        own, passes = self._own, self._row.passes
        told = [
            (name, value)
            for name, value in call.headers
            if (way.is_raw or name in passes) and name not in own
        ]
        names = {name for name, _ in told}
        if call.media or way.is_raw:
            names.add(b"content-type")
            told += [(b"content-type", call.media)] if call.media else []
        return [header for header in headers if header[0] not in names] + told

    def patient(self, timeouts: Timeouts) -> Timeouts:
        """For an answer that begins when all of it is generated. A provider sees few of them."""
        given, patient = self._last_timeouts
        if given is not timeouts:
            total = timeouts.total
            patient = Timeouts(timeouts.connect, total, total, total, timeouts.pool)
            self._last_timeouts = (timeouts, patient)
        return patient

    def masked(self, told: bytes) -> bytes:
        """What an upstream said, without our credentials."""
        return masked(told.decode("latin-1"), self._secrets).encode("latin-1", "replace")

    def sign(self, failure: UpstreamError, model: str) -> None:
        """Say in an error whose it is. An upstream may quote our credential: that is masked."""
        secrets = self._secrets
        failure.deployment = failure.deployment or f"{self.name}/{model}"
        failure.message = masked(failure.message, secrets)
        failure.args = (failure.message,)
        failure.param = failure.param and masked(failure.param, secrets)
        failure.upstream_code = failure.upstream_code and masked(failure.upstream_code, secrets)
        failure.details = failure.details and masked_details(failure.details, secrets)


class _Asking:
    """One call: it sends when it is entered; when it is left the connection is given back."""

    __slots__ = ("_body", "_call", "_exchange", "_head", "_model", "_provider", "_timeouts", "_way")

    def __init__(self, provider: HttpProvider, call: Call, model: str, timeouts: Timeouts) -> None:
        self._provider = provider
        self._call = call
        self._model = model
        self._timeouts = timeouts

    async def __aenter__(self) -> Reply:
        provider = self._provider
        pool = provider.credentials
        call = self._call
        alone: CredentialPool | None = None
        try:
            way = provider.ways.get(call.dialect)
            self._way = provider.fork(call, self._model) if way is None else way
            if pool is None or pool.is_plain:
                alone = pool
                reply = await self._entered(0)
            else:
                reply = await self._lent(pool)
        except UpstreamError as failure:
            provider.sign(failure, self._model)
            if alone is not None:
                self._only_failed(alone, failure)
            raise
        # Ours, whatever others put around it: what it holds is given back with it.
        self._body = reply.body
        return reply

    def _only_failed(self, pool: CredentialPool, error: UpstreamError) -> None:
        """It was asked with the only credential, of which the pool hears failures alone."""
        if pool.is_plain:
            pool.take(self._model).failed(error, self._told(), aside=self._way.is_aside)
        if isinstance(error, UpstreamThrottled):
            error.retry_after = max(error.retry_after or 0.0, pool.retry_after(self._model))

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
                loan.failed(error, self._told(), aside=self._way.is_aside)
                if not is_of_credential(error):
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
            loan.answered(self._told())
            return reply

    async def _entered(self, credential: int) -> Reply:
        self._head: HttpResponse | None = None
        provider, call, timeouts = self._provider, self._call, self._timeouts
        request = provider.request(call, self._way, self._model, credential)
        if provider.signer is not None:
            request.headers = await provider.signer.sign(
                request.method, request.url, request.headers, request.body
            )
        if not call.stream:
            timeouts = provider.patient(timeouts)
        exchange = self._exchange = provider.http.send(request, timeouts=timeouts)
        response = self._head = await exchange.__aenter__()
        try:
            return await self._reply(response)
        except BaseException as error:
            await exchange.__aexit__(type(error), error, error.__traceback__)
            raise

    def _told(self) -> Headers:
        """What the last answer's headers say: they are looked at for a pool that wants to know."""
        return [] if self._head is None else self._head.headers

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and isinstance(error, UpstreamError):
            self._provider.sign(error, self._model)
        body = self._body
        try:
            if isinstance(body, Ready):
                body.chunks.clear()
            else:
                await body.aclose()
        finally:
            await self._exchange.__aexit__(kind, error, trace)

    async def _reply(self, response: HttpResponse) -> Reply:
        call, way = self._call, self._way
        if way.is_raw and response.status not in _OURS and response.status < 500:
            return await self._raw(response)
        if response.status != 200:
            # No variable keeps the body: a refusal may quote our key, and logs show frames.
            raise failure_from_answer(response.status, response.headers, await _beginning(response))
        kind = response.header(b"content-type")
        if kind != _JSON:
            kind = kind.partition(b";")[0].strip().lower()
        packed = response.header(b"content-encoding")
        if packed and packed.lower() != _UNPACKED:
            raise UpstreamProtocolError(_PACKED)
        if way.opens and kind.decode("latin-1").startswith(way.opens):
            return self._passing(response, may_be_empty=False)
        if kind == _JSON or not kind:
            usage = Usage()
            answer = way.whole(call, await response.read(), usage)
            reply = Reply(Ready(answer), usage=usage, content_at=time.monotonic())
            if call.stream:
                if not way.opens:
                    raise UpstreamProtocolError(
                        "the upstream answered a whole body where a stream was asked for"
                    )
                reply.media = _JSON  # whisper-1 answers whole, whatever it was asked for
                return reply
        elif call.stream and kind == way.stream_type:
            reply = Reply(body=response.body, stream=True)
            tap = way.tap(call, reply.usage)
            reply.body = Tapped(response, tap, reply, self._sign)
        else:
            wanted = way.stream_type if call.stream else _JSON
            told = f"{kind.decode('latin-1')!r} where {wanted.decode()}"
            raise UpstreamProtocolError(f"the upstream answered {told} was asked for")
        if way.announced:
            reply.headers.extend(way.announced)
        elif call.body.cleaned and way.is_native:
            reply.headers += told_of(call.body)
        return reply

    async def _raw(self, response: HttpResponse) -> Reply:
        """Whatever it is. What an error says may quote our credential: that is masked."""
        if response.status < 400:
            reply = self._passing(response, may_be_empty=True)
            reply.content_at = time.monotonic()
        else:
            told = self._provider.masked(await _beginning(response))
            now, media = time.monotonic(), response.header(b"content-type")
            reply = Reply(Ready(told), content_at=now, media=media, status=response.status)
        reply.headers = [header for header in response.headers if header[0] in _TOLD]
        return reply

    def _passing(self, response: HttpResponse, *, may_be_empty: bool) -> Reply:
        """An answer that isn't ours to understand."""
        packed, kind = response.header(b"content-encoding"), response.header(b"content-type")
        if packed and packed.lower() != _UNPACKED:
            raise UpstreamProtocolError(_PACKED)
        reply = Reply(response.body, stream=True, media=kind, status=response.status)
        reply.body = Tapped(response, PlainTap(may_be_empty=may_be_empty), reply, self._sign)
        return reply

    def _sign(self, failure: UpstreamError) -> None:
        self._provider.sign(failure, self._model)


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
