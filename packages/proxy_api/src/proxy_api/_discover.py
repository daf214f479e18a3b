"""Providers that are there without being configured: keys in the environment, local servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from proxy_api._rows import Rows
from proxy_core import HttpClient, HttpRequest, PoolLimits, provider_kinds, provider_row
from proxy_core.errors import ProxyError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Discovery", "Found", "Probe", "discover"]

Probe = Callable[[str], Awaitable[tuple[str, ...] | None]]
"""From a base URL to the models that are served there; None where no such server answers."""

PROBE_SECONDS = 0.3
"""For each server, connection and answer together; they are all asked at once."""
_MAX_ANSWER = 1_000_000
_SHOWN_MODELS = 5

_CLOUDS: tuple[tuple[str, str], ...] = tuple(
    (row.kind, row.key_variable)
    for row in map(provider_row, provider_kinds())
    # Others, such as GITHUB_TOKEN, are there for other reasons.
    if row.key_variable is not None and row.key_variable.endswith("_API_KEY")
    if row.base_url and not row.needs
)
_LOCAL: tuple[tuple[str, int], ...] = (
    ("ollama", 11434),
    ("lmstudio", 1234),
    ("vllm", 8000),
    ("llamacpp", 8080),
)
_OUR_KEYS = "sk-lp-"
_OPENAI_HOST = "api.openai.com"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Found:
    """One provider that is there. Its key is named by its variable, never held."""

    name: str
    """Also its kind."""
    variable: str = ""
    """Where its key is; empty for a local server."""
    base_url: str = ""
    """Empty: the usual one of its kind."""
    models: tuple[str, ...] = ()
    """What it serves; none for a cloud, which isn't asked."""

    @property
    def row(self) -> dict[str, Any]:
        """The provider as the configuration would have it."""
        row = {"kind": self.name}
        if self.base_url:
            row["base_url"] = self.base_url
        if self.variable:
            row["api_key"] = f"${{{self.variable}}}"
        return row


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found. ``rows()`` is for ``load_settings``, ``table()`` for people."""

    found: tuple[Found, ...] = ()

    def rows(self) -> Rows:
        """Rows as if configured.

        A cloud's models are ``provider/*``; a local server's have their own names, and
        ``provider/model`` where two would have the same.
        """
        models: list[dict[str, str]] = []
        for provider in self.found:
            targets = provider.models if provider.base_url and not provider.variable else ("*",)
            for model in targets:
                name = f"{provider.name}/*" if model == "*" else model
                models.append({"name": name, "target": f"{provider.name}/{model}"})
        names = [model["name"] for model in models]
        doubled = {name for name in names if names.count(name) > 1}
        return Rows(
            providers={provider.name: provider.row for provider in self.found},
            models=tuple(
                {**model, "name": model["target"]} if model["name"] in doubled else model
                for model in models
            ),
        )

    def table(self) -> Table:
        """What was found, where, and its models. Names variables, never their values."""
        from rich.table import Table
        from rich.text import Text

        table = Table("what", "where", "models", title="found")
        for provider in self.found:
            where = f"${provider.variable}" if provider.variable else provider.base_url
            if provider.variable and provider.base_url:
                where += f" at {provider.base_url}"
            models = ", ".join(provider.models[:_SHOWN_MODELS]) or f"{provider.name}/…"
            more = len(provider.models) - _SHOWN_MODELS
            if more > 0:
                models += f" and {more} more"
            table.add_row(Text(provider.name), Text(where), Text(models))
        return table


async def discover(
    environ: Mapping[str, str], *, probe: Probe | None = None, own_ports: Collection[int] = ()
) -> Discovery:
    """Look for provider keys in ``environ`` and for local servers on their usual ports.

    ``own_ports``: where this proxy listens; they are not asked, so that it doesn't find itself.
    A cloud is not asked for anything. It takes 0.3 s at most; whatever a port answers that isn't
    a listing of models counts as nothing there.
    """
    clouds = [
        cloud for kind, variable in _CLOUDS if (cloud := _cloud(kind, variable, environ, own_ports))
    ]
    ports = [(kind, port) for kind, port in _LOCAL if port not in own_ports]
    urls = [f"http://127.0.0.1:{port}/v1" for _, port in ports]
    async with _prober(probe) as ask:
        listings = await asyncio.gather(*(_asked(url, ask) for url in urls))
    local = [
        Found(kind, base_url=url, models=models)
        for (kind, _), url, models in zip(ports, urls, listings, strict=True)
        if models
    ]
    return Discovery((*clouds, *local))


def _cloud(
    kind: str, variable: str, environ: Mapping[str, str], own_ports: Collection[int]
) -> Found | None:
    """A key that is one of ours, or that is meant for this proxy, is no provider's key."""
    key = environ.get(variable, "").strip()
    if not key or key.startswith(_OUR_KEYS):
        return None
    base_url = environ.get("OPENAI_BASE_URL", "").strip() if kind == "openai" else ""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not base_url or host == _OPENAI_HOST:
        return Found(kind, variable)
    if host in _LOOPBACK and port in own_ports:
        return None
    return Found(kind, variable, base_url)


async def _asked(url: str, probe: Probe) -> tuple[str, ...] | None:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await probe(url)
    except (ProxyError, OSError):  # nothing is there, or nothing that speaks HTTP in time
        return None


@asynccontextmanager
async def _prober(probe: Probe | None) -> AsyncIterator[Probe]:
    if probe is not None:
        yield probe
        return
    client = HttpClient(PoolLimits(max_answer=_MAX_ANSWER))
    try:
        yield partial(_list_models, client)
    finally:
        await client.aclose()


async def _list_models(client: HttpClient, base_url: str) -> tuple[str, ...] | None:
    """The ids of ``GET {base_url}/models``; None for anything that isn't OpenAI's listing."""
    request = HttpRequest("GET", f"{base_url}/models", [(b"accept", b"application/json")])
    async with client.send(request) as response:
        if response.status != 200:
            return None
        return _ids(await response.read())


def _ids(body: bytes) -> tuple[str, ...] | None:
    try:
        listing = json.loads(body)
    except (ValueError, RecursionError):
        return None
    rows = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(rows, list):
        return None
    ids = [row.get("id") for row in rows if isinstance(row, dict)]
    return tuple(dict.fromkeys(name for name in ids if isinstance(name, str) and _usable(name)))


def _usable(name: str) -> bool:
    """Whether it can stand in a target: no pattern, no space, nothing that a terminal obeys."""
    return bool(name) and name.isprintable() and " " not in name and "*" not in name
