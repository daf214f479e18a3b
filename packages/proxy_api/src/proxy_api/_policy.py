"""What a provider does for one model and not for its others."""

from __future__ import annotations

from proxy_api._settings_models import ModelSettings
from proxy_core import HttpProvider, Provider

__all__ = ["account_of", "by_policy"]


def by_policy(provider: Provider, model: ModelSettings) -> Provider:
    """The provider as it is to serve this model: connections, credentials and memory are shared."""
    if not isinstance(provider, HttpProvider):
        return provider
    if model.unsupported is None and model.cache_prompt is None:
        return provider
    return provider.under(model.unsupported, cache_prompt=model.cache_prompt)


def account_of(provider: Provider) -> Provider:
    """What lives behind it, and is to be closed but once; views of it come and go."""
    return provider.account if isinstance(provider, HttpProvider) else provider
