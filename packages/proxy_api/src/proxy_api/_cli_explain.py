"""``llm-proxy explain``: asks the running process, or reads its configuration when none runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy_api._cli_admin import AdminFailure, NobodyThere, ask_explanation
from proxy_core.errors import ProxyError

__all__ = ["Asking", "explanation", "told_explanation"]

_WHEN: Final = {
    "error": "when they have failed, or for the last attempt",
    "context_length": "when the prompt is too long for them",
    "content_policy": "when their content policy refuses",
}


class Asking(NamedTuple):
    """What was said on the command line."""

    model: str
    key: str | None
    tokens: int
    headers: Sequence[str]
    """``NAME=VALUE``"""
    tags: Sequence[str]

    def query(self) -> dict[str, Any]:
        """As the admin socket takes it. Raises AdminFailure."""
        for header in self.headers:
            name, equals, _ = header.partition("=")
            if not (name.strip() and equals):
                raise AdminFailure(f"--header {header!r}: give NAME=VALUE, such as x-tier=batch")
        return {
            "model": self.model,
            "key": self.key or "",
            "tokens": self.tokens,
            "header": self.headers,
            "tag": self.tags,
        }


def explanation(path: Path, config: Path | None, asking: Asking) -> dict[str, Any]:
    """What the process behind this socket says, or what its configuration says without it.

    With ``config`` nobody is asked. Raises AdminFailure.
    """
    query = asking.query()
    if config is not None:
        return _compiled(config, query, f"nobody was asked, this is what {config} says")
    try:
        return ask_explanation(path, query)
    except NobodyThere as nobody:
        return _by_file(path, query, nobody)


def _by_file(path: Path, query: dict[str, Any], nobody: NobodyThere) -> dict[str, Any]:
    from proxy_api._settings_sources import which_file

    try:
        file = which_file(None, os.environ)
    except ProxyError as error:
        raise AdminFailure(f"{nobody}\n{error.message}") from None
    if file is None:
        raise AdminFailure(f"{nobody} Or give --config FILE.") from None
    return _compiled(file, query, f"no proxy runs at {path}, this is what {file} says")


def _compiled(config: Path, query: dict[str, Any], why: str) -> dict[str, Any]:
    from proxy_api._compose import compiled
    from proxy_api._explain import asked_by, explained
    from proxy_api._settings import load_settings

    try:
        settings = load_settings(config)
        told = explained(settings, compiled(settings), asked_by(**query), live=False)
    except ProxyError as error:
        raise AdminFailure(error.message) from None
    return {**told, "detail": why}


def told_explanation(told: dict[str, Any]) -> Iterator[str]:
    """An explanation, line by line, for people."""
    by = f" by the key {told['key']}" if told["key"] else ""
    size = f", {told['tokens']} tokens" if told["tokens"] else ""
    yield f"{told['model']}{by}{size}: at most {told['attempts']} attempts"
    if told["health"] == "unknown":
        yield f"health is not known: {told['detail']}"
    if plugins := told.get("plugins"):
        yield f"plugins: {', '.join(plugins)}"
    if told["pattern"] != told["model"]:
        yield f"found by the pattern {told['pattern']}"
    if rule := told["rule"]:
        yield f"rule {rule['number']} sends it to {rule['to']}: {rule['because']}"
    pools = [told["pool"], *(pool for each in told["fallbacks"] for pool in each["pools"])]
    names = [row["name"] for pool in pools for row in pool["deployments"]]
    width = max(map(len, names), default=0)
    yield ""
    yield from _told_pool(told["pool"], width)
    if last := told["last_resort"]:
        yield f"  nobody else is left to ask: now and then a request tries {last}"
    for fallback in told["fallbacks"]:
        yield ""
        yield f"on {fallback['on']}, {_WHEN.get(fallback['on'], 'then')}:"
        for pool in fallback["pools"]:
            yield from _told_pool(pool, width)


def _told_pool(pool: dict[str, Any], width: int) -> Iterator[str]:
    sticks = ", conversations stay where they are" if pool["sticky"] else ""
    yield f"{pool['model']}: {pool['strategy']}{sticks}"
    for row in pool["deployments"]:
        place = "-" if row["place"] is None else row["place"]
        yield f"  {place:>2}  {row['name']:{width}}  {row['reason']}; {_told_price(row['price'])}"
        for wait in row["waiting"]:
            known = f"credential {wait['credential']} {wait['reason']}"
            yield f"      {'':{width}}  {known} for {wait['free_in']:g} s more"


def _told_price(price: dict[str, Any] | None) -> str:
    if price is None:
        return "no price"
    return f"${price['input']:g} in, ${price['output']:g} out for 1M tokens ({price['source']})"
