"""The provider factory: a kind and a few settings in, something that answers calls out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypedDict, Unpack, get_args

from proxy_core._http import HttpClient, HttpSender
from proxy_core._secret import Secret
from proxy_core.dialects._translate import Unsupported
from proxy_core.errors import ConfigurationError
from proxy_core.providers._checks import check_api_key, check_headers, check_url
from proxy_core.providers._http_provider import Access, HttpProvider
from proxy_core.providers._models import KnownModels
from proxy_core.providers._options import checked_settings
from proxy_core.providers._registry import BUILT_IN, ForeignDialect, Registry, SignerFactory
from proxy_core.providers._row import BodyEdits, Paths, ProviderRow
from proxy_core.providers._signatures import SignatureMemory
from proxy_core.providers._signing import Signer
from proxy_core.providers._ways import Plan, ways_of
from proxy_logging import Observer

__all__ = [
    "BUILT_IN",
    "BodyEdits",
    "ForeignDialect",
    "HttpProvider",
    "Paths",
    "ProviderOptions",
    "ProviderRow",
    "Registry",
    "Signer",
    "SignerFactory",
    "create_provider",
    "provider_kinds",
    "provider_row",
]


class ProviderOptions(TypedDict, total=False):
    """What only some kinds need, and how to translate."""

    region: str | None
    """AWS's, such as ``eu-central-1``."""
    project: str | None
    """Google's."""
    location: str | None
    """Google's, such as ``europe-west4`` or ``global``."""
    api_version: str | None
    """Azure's, such as ``2024-10-21``: then deployments stand in the URL. Without it the newer API
    is asked, which has no versions."""
    credentials_file: str | None
    """Google's, of a service account. Without it the environment is asked."""
    profile: str | None
    """AWS's, in its own files. Without it its own chain is asked: environment, files, login."""
    instance_metadata: bool
    """Whether that chain may ask AWS's instance metadata, which have a link-local address."""
    unsupported: Unsupported
    """What becomes of a request that can't be translated whole: ``refuse`` it where its answer
    would be another one (and announce the rest), ``announce`` what is dropped, or ``strict``:
    refuse always. What is announced stands in the header ``x-llm-proxy-dropped``."""
    abilities: Mapping[str, Mapping[str, Any]] | None
    """What models take, by patterns of their upstream names, where it isn't what is known of them:
    ``{"my-model*": {"images": False}}``. The fields are those of ``Abilities``."""
    signer: Signer | None
    """Signs each request, in the place of what the kind has for it."""
    registry: Registry
    """The kinds that there are, where it isn't only the built-in ones: ``BUILT_IN.plus(...)``."""


def provider_kinds() -> tuple[str, ...]:
    """Every kind that ``create_provider`` knows by itself."""
    return BUILT_IN.kinds


def provider_row(kind: str) -> ProviderRow:
    """What is known of a kind. Raises ConfigurationError for one that nobody knows."""
    return BUILT_IN.row(kind)


def create_provider(
    kind: str,
    *,
    name: str | None = None,
    base_url: str | None = None,
    api_key: str | Secret | Sequence[str | Secret] | None = None,
    headers: Mapping[str, str] | None = None,
    dialects: Sequence[str] = (),
    http: HttpSender | None = None,
    observer: Observer | None = None,
    **options: Unpack[ProviderOptions],
) -> HttpProvider:
    """A provider of this kind.

    ``base_url`` is what the provider's own SDK takes; its row has a default for most kinds.
    ``dialects`` says what it speaks where its kind doesn't: names of ``DIALECTS`` and ``CODECS``.
    A call in another dialect is translated to the first of them that can be.
    ``api_key`` may be several: the one with most room left, as the upstream tells, is used.
    ``http`` is the client to use (the provider closes it); by default it gets a pool of its own.
    ``observer`` gets a CredentialChanged when a credential goes out or comes back.
    Raises ConfigurationError.
    """
    registry = options.get("registry") or BUILT_IN
    row = registry.row(kind)
    if dialects:
        row = replace(row, dialects=_known(dialects, registry))
    row = registry.completed(row)
    _check_names(options)
    settings = checked_settings(options)
    url = _base_url(row, base_url, settings)
    keys = _keys(api_key)
    if row.needs_key and not keys:
        raise ConfigurationError(f"A provider of kind {kind!r} needs an api_key.", param="api_key")
    for key in keys:
        check_api_key(key)
    check_headers(headers or {})
    memory = SignatureMemory()
    models = KnownModels(kind, options.get("abilities") or {})
    unsupported = _unsupported(options.get("unsupported") or "refuse")
    plan = Plan(row, url, settings, memory, models.abilities, unsupported, registry=registry)
    http = http or HttpClient()
    with _blamed(f"The dialects of the kind {kind!r} can't be used"):
        ways = ways_of(plan)
    return HttpProvider(
        name or kind,
        row,
        http,
        ways,
        access=Access(keys, headers or {}, _signer(row, keys, options, http)),
        memory=memory,
        observer=observer,
    )


def _check_names(options: ProviderOptions) -> None:
    for option in options:
        if option not in ProviderOptions.__annotations__:
            raise TypeError(f"create_provider() got an unexpected keyword argument {option!r}")


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """What others wrote may raise anything: it becomes a problem of the configuration."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{what}: {type(error).__name__}: {error}.") from error


def _base_url(row: ProviderRow, given: str | None, settings: Mapping[str, str]) -> str:
    """Checked, with its settings, and without a slash at its end."""
    for needed in row.needs:
        if needed not in settings:
            raise ConfigurationError(
                f"A provider of kind {row.kind!r} needs a {needed}.", param=needed
            )
    url = given or row.base_url
    if url is None:
        raise ConfigurationError(
            f"A provider of kind {row.kind!r} needs a base_url.", param="base_url"
        )
    if not given:
        # Google's worldwide location has no name in its host.
        url = url.format_map(settings).replace("//global-", "//")
    check_url(url)
    return url.rstrip("/")


def _signer(
    row: ProviderRow, keys: Sequence[Secret], options: ProviderOptions, http: HttpSender
) -> Signer | None:
    given = options.get("signer")
    if given is not None or keys or not row.signer:
        return given
    registry = options.get("registry") or BUILT_IN
    with _blamed(f"The signer {row.signer!r} of the kind {row.kind!r} can't be made"):
        return registry.signers[row.signer](options, http)


def _keys(given: str | Secret | Sequence[str | Secret] | None) -> list[Secret]:
    several = [given] if isinstance(given, str | Secret) else given or ()
    return [Secret(key) if isinstance(key, str) else key for key in several if key]


def _known(dialects: Sequence[str], registry: Registry) -> tuple[str, ...]:
    known = registry.known_dialects
    for dialect in dialects:
        if dialect not in known:
            raise ConfigurationError(
                f"There is no dialect {dialect!r}: use some of {', '.join(known)}.",
                param="dialects",
            )
    return tuple(dialects)


def _unsupported(word: Unsupported) -> Unsupported:
    if word not in get_args(Unsupported):
        raise ConfigurationError(
            f"unsupported is {word!r}: it must be one of {', '.join(get_args(Unsupported))}.",
            param="unsupported",
        )
    return word
