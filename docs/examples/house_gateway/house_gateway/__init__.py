"""A plugin for LLM Proxy: a provider with a dialect and signatures of its own, and an observer.

It is loaded where the configuration says ``plugins: [house]``.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any

from house_gateway._codec import DIALECT, HouseCodec

from proxy_api.plugins import hookimpl
from proxy_core import Headers, HttpSender, ProviderRow
from proxy_core.providers import ForeignDialect, Paths, SignerFactory
from proxy_logging import Event, Observer, RequestFinished, StructuredLogger

__all__ = ["HouseSigner", "dialects", "observers", "provider_rows", "signers"]


class HouseSigner:
    """Signs each body with a secret that the house and we share."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def sign(self, method: str, url: str, headers: Headers, body: bytes) -> Headers:
        """The headers, with the signature. One that has to fetch a token waits here."""
        mark = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        return [*headers, (b"x-house-signature", mark.encode())]


@hookimpl
def provider_rows() -> list[ProviderRow]:
    """``kind: house``; its address is for the operator to say."""
    return [ProviderRow("house", None, (DIALECT,), needs_key=False, signer="house")]


@hookimpl
def dialects() -> list[ForeignDialect]:
    """Where its API is, and how streams come: as lines of JSON."""
    return [ForeignDialect(HouseCodec(), Paths("/say"), framing="lines")]


@hookimpl
def signers() -> Mapping[str, SignerFactory]:
    """By the name that the row has. Providers with an ``api_key`` aren't signed."""

    def make(_settings: Mapping[str, Any], _http: HttpSender) -> HouseSigner:
        return HouseSigner(os.environ["HOUSE_SECRET"])

    return {"house": make}


@hookimpl
def observers() -> list[Observer]:
    """A line in the log for each answer that took more than a minute."""
    logger = StructuredLogger("house")

    def watch(event: Event) -> None:
        if isinstance(event, RequestFinished) and event.duration > 60:
            logger.warning("slow", request_id=event.request_id, seconds=round(event.duration, 1))

    return [watch]
