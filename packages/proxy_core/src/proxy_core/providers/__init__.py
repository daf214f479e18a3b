"""The provider factory: a kind and a few settings in, something that answers calls out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from proxy_core._http import HttpClient, HttpSender
from proxy_core._secret import Secret
from proxy_core.dialects import DIALECTS
from proxy_core.errors import ConfigurationError
from proxy_core.providers._checks import check_api_key, check_headers, check_url
from proxy_core.providers._openai import OpenAIProvider
from proxy_core.providers._rows import ROWS, ProviderRow
from proxy_logging import Observer

__all__ = ["ProviderRow", "create_provider", "provider_kinds", "provider_row"]


def provider_kinds() -> tuple[str, ...]:
    """Every kind that ``create_provider`` knows."""
    return tuple(ROWS)


def provider_row(kind: str) -> ProviderRow:
    """What is known of a kind. Raises ConfigurationError for one that nobody knows."""
    try:
        return ROWS[kind]
    except KeyError:
        raise ConfigurationError(
            f"There is no provider kind {kind!r}: use one of {', '.join(ROWS)}; "
            "openai_compatible with a base_url serves any other.",
            param="kind",
        ) from None


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
) -> OpenAIProvider:
    """A provider of this kind.

    ``base_url`` is what the provider's own SDK takes; its row has a default for most kinds.
    ``dialects`` says what it speaks where its kind doesn't: names of ``proxy_core.DIALECTS``.
    ``api_key`` may be several: the one with most room left, as the upstream tells, is used.
    ``http`` is the client to use (the provider closes it); by default it gets a pool of its own.
    ``observer`` gets a CredentialChanged when a credential goes out or comes back.
    Raises ConfigurationError.
    """
    row = provider_row(kind)
    if dialects:
        row = replace(row, dialects=_known(dialects))
    url = base_url or row.base_url
    if url is None:
        raise ConfigurationError(f"A provider of kind {kind!r} needs a base_url.", param="base_url")
    check_url(url)
    keys = _keys(api_key)
    if row.needs_key and not keys:
        raise ConfigurationError(f"A provider of kind {kind!r} needs an api_key.", param="api_key")
    for key in keys:
        check_api_key(key)
    check_headers(headers or {})
    return OpenAIProvider(
        name or kind,
        row,
        http or HttpClient(),
        base_url=url,
        api_keys=keys,
        headers=headers or {},
        observer=observer,
    )


def _keys(given: str | Secret | Sequence[str | Secret] | None) -> list[Secret]:
    several = [given] if isinstance(given, str | Secret) else given or ()
    return [Secret(key) if isinstance(key, str) else key for key in several if key]


def _known(dialects: Sequence[str]) -> tuple[str, ...]:
    for dialect in dialects:
        if dialect not in DIALECTS:
            raise ConfigurationError(
                f"There is no dialect {dialect!r}: use some of {', '.join(DIALECTS)}.",
                param="dialects",
            )
    return tuple(dialects)
