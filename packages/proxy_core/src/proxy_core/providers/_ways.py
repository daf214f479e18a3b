"""How a call gets from a client's dialect to a provider's: decided once, at construction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from proxy_core._types import Call, Headers, Usage
from proxy_core.dialects import (
    CLIENT_CODECS,
    DIALECTS,
    EMBED_CODECS,
    PASSED,
    UPLOADS,
    PassedDialect,
    UploadDialect,
    framing_of,
)
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._cache_prompt import CachePrompt, cached, on_last_block
from proxy_core.dialects._codec import ClientCodec, Framing
from proxy_core.dialects._dialect import Dialect, Tap
from proxy_core.dialects._embeddings import CLIENT as EMBEDDINGS
from proxy_core.dialects._embeddings import begin_embedding
from proxy_core.dialects._framing import EventFraming, ReframedTap
from proxy_core.dialects._passed_tap import PlainTap
from proxy_core.dialects._translate import Memory, Target, Translator, Unsupported
from proxy_core.errors import UpstreamModelMissing
from proxy_core.providers._counts import COUNTED_IN, Counter
from proxy_core.providers._registry import BUILT_IN, Registry
from proxy_core.providers._row import BodyEdits, Paths, ProviderRow

__all__ = ["RAW", "Fork", "Plan", "Way", "Ways", "is_spoken", "ways_of"]

RAW: Final = "raw"
"""The name of what is no dialect: a request to the provider itself, that nobody reads."""

_PREFIXES: Final = ("/openai/v1", "/openai", "/v1beta", "/v1", "/v2", "/api")
"""Beginnings of paths that a base URL may end with already, as some SDKs want it."""
_NOTHING: Final[Headers] = []

_encode = msgspec.json.Encoder().encode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Request(Protocol):
    def __call__(self, call: Call, model: str, *, ask_usage: bool) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Way:
    """What to do with a call: the verbs are those of a ``Dialect``."""

    url: str
    request: _Request
    tap: Callable[[Call, Usage], Tap]
    whole: Callable[[Call, bytes, Usage], bytes]
    stream_type: bytes
    """The media type of a stream."""
    announced: Headers = field(default_factory=lambda: _NOTHING)
    """Headers for the reply: to be copied."""
    is_native: bool = True
    """Whether it is the client's own dialect."""
    opens: tuple[str, ...] = ()
    """How media types begin that an answer may have beside JSON: then it passes as it comes."""
    is_raw: bool = False
    """Whether nobody but the client and the upstream knows what is asked and answered."""
    is_aside: bool = False
    """Whether a credential may lack the right to it, and be good for chats all the same."""


Fork = Callable[[Call, str], Way]
"""Finds the way where it depends upon the call or the upstream's name for the model. Raises
RequestError and UpstreamError."""


class Ways(NamedTuple):
    """By the client's dialect: those that are always the same, and the others."""

    ready: Mapping[str, Way]
    forks: Mapping[str, Fork]
    plan: Plan
    """What they were made of."""


class _Address:
    """A dialect's URLs at one provider."""

    def __init__(self, base: str, paths: Callable[[str, bool], str]) -> None:
        self._base = base
        self._paths = paths
        some = {paths(model, stream) for model in ("a", "b") for stream in (False, True)}
        self.fixed = self._joined(some.pop()) if len(some) == 1 else ""
        """The only one; empty where it depends upon the model, or on whether it is a stream."""

    def of(self, model: str, *, stream: bool) -> str:
        return self.fixed or self._joined(self._paths(model, stream))

    def _joined(self, path: str) -> str:
        return _joined(self._base, path)


def _joined(base: str, path: str) -> str:
    """What the base ends with and the path begins with is said once."""
    for prefix in _PREFIXES:
        if path.startswith(f"{prefix}/") and base.endswith(prefix):
            return base + path.removeprefix(prefix)
    return base + path


class Plan(NamedTuple):
    """All that the ways of a provider are made of."""

    row: ProviderRow
    base_url: str
    settings: Mapping[str, str]
    """What may stand in braces in a path: ``project``, ``location``, ``region``, ``api_version``.
    """
    memory: Memory
    can: Callable[[str, str], Abilities]
    """What a dialect's model takes."""
    unsupported: Unsupported = "refuse"
    clients: Mapping[str, ClientCodec] = CLIENT_CODECS
    registry: Registry = BUILT_IN
    """What providers speak, and how their streams are cut."""
    cache_prompt: CachePrompt | None = None
    """How long prompts are to be cached where it must be asked for and the client doesn't say."""


def ways_of(plan: Plan) -> Ways:
    """The way of each dialect that a client may speak."""
    ready: dict[str, Way] = {}
    forks: dict[str, Fork] = {}
    clients = (*plan.row.dialects, *plan.clients, EMBEDDINGS, *COUNTED_IN, *_passed(plan.row))
    for client in dict.fromkeys(clients):
        found = list(_candidates(plan, client))
        if found and found[0].way is not None and not found[0].models:
            ready[client] = found[0].way
        elif found:
            forks[client] = _fork(found)
    forks[RAW] = _Below(plan.base_url)
    return Ways(ready, forks, plan)


def _passed(row: ProviderRow) -> tuple[str, ...]:
    """What is tried at whoever speaks OpenAI's API, unless its row says which of it there is.

    That it isn't there is the upstream's to say.
    """
    all_of_it = {one.name: one for one in (*PASSED, *UPLOADS)}
    is_said = any(name in all_of_it for name in row.dialects)
    is_like_openai = any(name.startswith("openai.") for name in row.dialects)
    return tuple(all_of_it) if is_like_openai and not is_said else ()


class _Raw:
    """The verbs of a dialect that nobody here speaks."""

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        return call.body.raw

    def tap(self, call: Call, usage: Usage) -> Tap:
        return PlainTap(may_be_empty=True)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        return raw


class _Below(_Raw):
    """The Fork of what a client asks of the upstream itself, below its base URL."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def __call__(self, call: Call, model: str) -> Way:
        url = _joined(self._base_url, call.path)
        return Way(url, self.request, self.tap, self.whole, b"", is_raw=True, is_aside=True)


class _Candidate(NamedTuple):
    models: tuple[str, ...]
    """Patterns; empty: all."""
    fork: Fork
    way: Way | None = None
    """Where it is always the same."""


def _candidates(plan: Plan, client: str) -> Iterator[_Candidate]:
    """Its own dialect first, then those that it can be translated to."""
    row = plan.row
    if client in DIALECTS and (client in row.dialects or client in _passed(row)):
        yield _native(plan, DIALECTS[client])
    for upstream in row.dialects:
        if upstream != client and client in plan.clients and upstream in plan.registry.codecs:
            yield _translated(plan, client, upstream)
        elif client == EMBEDDINGS and upstream in EMBED_CODECS:
            yield _embedding(plan, upstream)
        elif upstream != client and client in COUNTED_IN and upstream in COUNTED_IN:
            yield _counted(plan, client, upstream)


def _fork(found: list[_Candidate]) -> Fork:
    def fork(call: Call, model: str) -> Way:
        for one in found:
            if is_spoken(model, one.models):
                return one.fork(call, model)
        raise UpstreamModelMissing(f"the upstream does not take {call.dialect} for this model")

    return fork


def is_spoken(model: str, patterns: tuple[str, ...]) -> bool:
    """Whether a model speaks what is said to be spoken by these alone; no patterns: all do."""
    if not patterns:
        return True
    return any(
        not fnmatchcase(model, one[1:]) if one.startswith("!") else fnmatchcase(model, one)
        for one in patterns
    )


def _native(plan: Plan, dialect: Dialect) -> _Candidate:
    row = plan.row
    address = _address(plan, dialect.name)
    edits = row.bodies.get(dialect.name)
    request: _Request = dialect.request if edits is None else _edited(dialect.request, edits)
    if plan.cache_prompt is not None:
        request = _caching(request, plan.cache_prompt)
    framing, stream_type = _framing(plan, dialect.name)
    tap = dialect.tap if framing is EventFraming else _reframed(dialect, framing)
    aside = isinstance(dialect, PassedDialect | UploadDialect)
    opens = dialect.opens if isinstance(dialect, PassedDialect | UploadDialect) else ()
    way = Way(address.fixed, request, tap, dialect.whole, stream_type, opens=opens, is_aside=aside)

    def fork(call: Call, model: str) -> Way:
        return replace(way, url=address.of(model, stream=call.stream))

    return _Candidate(row.only.get(dialect.name, ()), fork, way if address.fixed else None)


def _reframed(dialect: Dialect, framing: Callable[[], Framing]) -> Callable[[Call, Usage], Tap]:
    return lambda call, usage: ReframedTap(framing(), dialect.tap(call, usage))


def _translated(plan: Plan, client: str, upstream: str) -> _Candidate:
    row = plan.row
    address = _address(plan, upstream)
    framing, kind = _framing(plan, upstream)
    edits = row.bodies.get(upstream)
    target = Target(
        plan.registry.codecs[upstream],
        framing,
        asks_usage=row.asks_usage,
        customs=row.customs,
        finish=None if edits is None else lambda body, call: _finished(body, call, edits),
    )
    client_codec, unsupported = plan.clients[client], plan.unsupported
    translator = Translator(client_codec, target, plan.memory, unsupported=unsupported)

    def fork(call: Call, model: str) -> Way:
        url = address.of(model, stream=call.stream)
        asked = call if plan.cache_prompt is None else cached(call, plan.cache_prompt)
        one = translator.begin(asked, model, plan.can(upstream, model))
        return Way(url, one.request, one.tap, one.whole, kind, one.announced, is_native=False)

    return _Candidate(row.only.get(upstream, ()), fork)


def _embedding(plan: Plan, upstream: str) -> _Candidate:
    address, codec, unsupported = _address(plan, upstream), EMBED_CODECS[upstream], plan.unsupported

    def fork(call: Call, model: str) -> Way:
        one = begin_embedding(codec, call, model, unsupported)
        url = address.of(model, stream=False)
        return Way(url, one.request, _Raw().tap, one.whole, b"", one.announced, is_native=False)

    return _Candidate(plan.row.only.get(upstream, ()), fork)


def _counted(plan: Plan, client: str, upstream: str) -> _Candidate:
    address, form = _address(plan, upstream), COUNTED_IN[upstream]
    asked = plan.clients[COUNTED_IN[client]]
    counter = Counter(asked, plan.registry.codecs[form], upstream, plan.row.counts_flat)
    edits = plan.row.bodies.get(upstream)

    def fork(call: Call, model: str) -> Way:
        one = counter.begin(call, model, plan.can(form, model))
        request: _Request = one.request if edits is None else _edited(one.request, edits)
        url = address.of(model, stream=False)
        return Way(url, request, _Raw().tap, one.whole, b"", one.announced, is_native=False)

    return _Candidate(plan.row.only.get(upstream, ()), fork)


def _framing(plan: Plan, dialect: str) -> tuple[Callable[[], Framing], bytes]:
    """What cuts its streams, and their media type.

    Raises ConfigurationError where the library is missing that reads it.
    """
    framing, stream_type = plan.registry.framings[framing_of(dialect, plan.row.framings)]
    framing()
    return framing, stream_type


def _address(plan: Plan, dialect: str) -> _Address:
    has_version = bool(plan.settings.get("api_version"))
    paths = (has_version and plan.row.versioned_paths) or plan.row.paths
    known = paths.get(dialect)
    if known is None:
        native = DIALECTS.get(dialect) or EMBED_CODECS[dialect]
        return _Address(plan.base_url, lambda model, stream: native.path(model, stream=stream))
    return _Address(plan.base_url, _template(known, plan.settings))


def _template(paths: Paths, settings: Mapping[str, str]) -> Callable[[str, bool], str]:
    known = {name: quote(value, safe="") for name, value in settings.items()}
    stream_path = paths.stream or paths.whole

    def path(model: str, stream: bool) -> str:
        chosen = stream_path if stream else paths.whole
        return chosen.format_map({**known, "model": quote(model, safe="@")})

    return path


def _caching(request: _Request, ttl: CachePrompt) -> _Request:
    def asked(call: Call, model: str, *, ask_usage: bool) -> bytes:
        return request(cached(call, ttl), model, ask_usage=ask_usage)

    return asked


def _edited(request: _Request, edits: BodyEdits) -> _Request:
    """A dialect's own body with what this provider wants otherwise; the values stay as they came.

    Whitespace between fields doesn't, nor do fields that were there twice.
    """

    def edited(call: Call, model: str, *, ask_usage: bool) -> bytes:
        fields: dict[str, Any] = _read_fields(request(call, model, ask_usage=ask_usage))
        return _encode(_finished(fields, call, edits))

    return edited


def _finished(body: dict[str, Any], call: Call, edits: BodyEdits) -> dict[str, Any]:
    words = {
        field: [word.strip().decode("latin-1") for word in value.split(b",") if word.strip()]
        for name, value in call.headers
        if (field := edits.lists.get(name))
    }
    kept = {name: value for name, value in body.items() if name not in edits.without}
    if edits.marks_last:
        kept = on_last_block(kept)
    return {**edits.default, **words, **kept}
