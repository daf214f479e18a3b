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
    api_key: str | Secret | None = None,
    headers: Mapping[str, str] | None = None,
    dialects: Sequence[str] = (),
    http: HttpSender | None = None,
) -> OpenAIProvider:
    """A provider of this kind.

    ``base_url`` is what the provider's own SDK takes; its row has a default for most kinds.
    ``dialects`` says what it speaks where its kind doesn't: names of ``proxy_core.DIALECTS``.
    ``http`` is the client to use (the provider closes it); by default it gets a pool of its own.
    Raises ConfigurationError.
    """
    row = provider_row(kind)
    if dialects:
        row = replace(row, dialects=_known(dialects))
    url = base_url or row.base_url
    if url is None:
        raise ConfigurationError(f"A provider of kind {kind!r} needs a base_url.", param="base_url")
    check_url(url)
    if row.needs_key and not api_key:
        raise ConfigurationError(f"A provider of kind {kind!r} needs an api_key.", param="api_key")
    key = Secret(api_key) if isinstance(api_key, str) else api_key
    check_api_key(key)
    check_headers(headers or {})
    return OpenAIProvider(
        name or kind,
        row,
        http or HttpClient(),
        base_url=url,
        api_key=key,
        headers=headers or {},
    )


def _known(dialects: Sequence[str]) -> tuple[str, ...]:
    for dialect in dialects:
        if dialect not in DIALECTS:
            raise ConfigurationError(
                f"There is no dialect {dialect!r}: use some of {', '.join(DIALECTS)}.",
                param="dialects",
            )
    return tuple(dialects)
