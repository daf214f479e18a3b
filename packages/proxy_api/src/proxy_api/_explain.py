"""Where a request would go, and why, in words. It asks nobody and counts nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from proxy_api._compose import allowed_models
from proxy_api._plan import Deployment, Route
from proxy_api._pricing import told_price
from proxy_api._settings import Settings
from proxy_api._snapshot import UNSAID_OUTPUT, Snapshot, credentials_of
from proxy_core import (
    Asked,
    CredentialPool,
    Match,
    Place,
    Rule,
    conversation_key,
    explain,
    match_model,
)
from proxy_core.errors import InvalidRequest, ModelNotFound, PermissionRefused

__all__ = ["Question", "asked_by", "explained"]

_LOCAL: Final = "local"
"""Who asks when there are no keys."""


class Question(NamedTuple):
    """A request, as far as routing looks at it."""

    model: str
    key: str = ""
    """The name of a key."""
    tokens: int = 0
    """Of the prompt."""
    headers: Mapping[bytes, str] = {}
    """By lower-case names."""
    tags: tuple[str, ...] = ()
    """Beside those of the key."""


def asked_by(
    model: str, key: str = "", tokens: int = 0, header: Sequence[str] = (), tag: Sequence[str] = ()
) -> Question:
    """A question by its parts; ``header`` has ``NAME=VALUE``."""
    pairs = (each.partition("=") for each in header)
    headers = {name.strip().lower().encode(): value for name, _, value in pairs}
    return Question(model, key, tokens, headers, tuple(tag))


def explained(
    settings: Settings, house: Snapshot, question: Question, *, live: bool
) -> dict[str, Any]:
    """What becomes of such a request, as JSON has it; times are seconds.

    ``live``: whether the snapshot serves, so that its breakers and credentials know something.
    Raises InvalidRequest, ModelNotFound and PermissionRefused.
    """
    asked = _asked(settings, question)
    way = house.explain(asked)
    if way is None:
        raise ModelNotFound(_unknown(house, question.model))
    pools = _Pools(settings, asked, live=live)
    return {
        "model": question.model,
        "key": asked.key or None,
        "tokens": question.tokens,
        "health": "live" if live else "unknown",
        "detail": "",
        "pattern": way.match.pattern,
        "rule": _rule(house, way.rule),
        "attempts": settings.routing.retry.attempts,
        "plugins": list(settings.plugins),
        "pool": pools.told(way.moved),
        "last_resort": None if way.after else pools.last_resort(way.moved),
        "fallbacks": [
            {
                "on": fallback.on,
                "pools": [
                    pools.told(match)
                    for name in fallback.to
                    if (match := house.routes.lookup(name))
                ],
            }
            for fallback in way.after
        ],
    }


class _Pools:
    """Tells of pools, as one request would find them."""

    def __init__(self, settings: Settings, asked: Asked, *, live: bool) -> None:
        self._routing = settings.routing
        self._asked = asked
        self._live = live

    def told(self, match: Match[Route]) -> dict[str, Any]:
        pool = match.values[0].pool
        members = {member.label: member.value for member in pool.all}
        return {
            "model": match.pattern,
            "strategy": self._routing.strategy,
            "sticky": self._routing.sticky,
            "deployments": [
                self._deployment(place, members[place.label], match.wildcard)
                for place in explain(pool, self._asked)
            ],
        }

    def last_resort(self, match: Match[Route]) -> str | None:
        """Who is tried now and then when nobody may be asked; None: somebody may, or nobody is."""
        pool = match.values[0].pool
        row = None if pool.able(self._asked) else pool.last_resort()
        return None if row is None else row.attempt(match.wildcard).name

    def _deployment(self, place: Place, row: Deployment, wildcard: str) -> dict[str, Any]:
        attempt = row.attempt(wildcard)
        credentials = credentials_of(row.provider) if self._live else None
        waiting = [] if credentials is None else [*_waiting(credentials, attempt.model)]
        reason = place.reason
        if credentials is not None and len(waiting) == len(credentials):
            reason += ", but none of its credentials may be used now"
        return {
            "name": attempt.name,
            "place": place.place,
            "reason": reason,
            "free_in": None if place.free_in is None else round(place.free_in, 1),
            "breaker": row.breaker.state if self._live else None,
            "credentials": None if credentials is None else len(credentials),
            "waiting": waiting,
            "price": told_price(attempt.price),
        }


def _waiting(pool: CredentialPool, model: str) -> Iterator[dict[str, Any]]:
    """Credentials that may not be used now, by fingerprint, and for how long."""
    throttled = pool.waits()
    for secret, quarantine in zip(pool.secrets, pool.quarantines, strict=True):
        mark = secret.fingerprint
        if quarantine.wait:
            yield _wait(mark, "refused by the upstream", quarantine.wait)
        elif wait := throttled.get(f"{mark}/{model}"):
            yield _wait(mark, "throttled", wait)


def _wait(credential: str, reason: str, seconds: float) -> dict[str, Any]:
    return {"credential": credential, "reason": reason, "free_in": round(seconds, 1)}


def _asked(settings: Settings, question: Question) -> Asked:
    name, tags = question.key, question.tags
    rows = {row.name: row for row in settings.keys}
    if name in rows:
        row = rows[name]
        models = allowed_models(row)
        if match_model(question.model, models) is None:
            may = f"it may use {', '.join(models)}" if models else "it may use none"
            raise PermissionRefused(
                f"the key {name!r} may not use the model {question.model!r}: {may}"
            )
        tags = (*row.tags, *tags)
    elif name and (rows or name != _LOCAL):
        near = difflib.get_close_matches(name, rows, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise InvalidRequest(f"there is no key with the name {name!r}{hint}")

    def header(lower: bytes) -> str:
        return question.headers.get(lower, "")

    return Asked(
        model=question.model,
        key=name or ("" if rows else _LOCAL),
        tags=tags,
        tokens=question.tokens,
        output=UNSAID_OUTPUT if question.tokens else 0,
        conversation=conversation_key({}, header) if settings.routing.sticky else None,
        header=header,
    )


def _unknown(house: Snapshot, model: str) -> str:
    near = house.routes.nearest(model)
    known = house.routes.names(patterns=True)
    if near:
        return f"there is no model {model!r}: did you mean {near!r}?"
    some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    return f"there is no model {model!r}: there are {some}"


def _rule(house: Snapshot, rule: Rule | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    number = house.rules.all.index(rule) + 1
    return {"number": number, "to": rule.to, "because": " and ".join(_conditions(rule))}


def _conditions(rule: Rule) -> Iterator[str]:
    if rule.model != "*":
        yield f"the model is {rule.model}"
    if rule.tokens_above is not None:
        yield f"the prompt has more than {rule.tokens_above} tokens"
    if rule.tag:
        yield f"the key has the tag {rule.tag}"
    if rule.key:
        yield f"the key is {rule.key}"
    for name, value in rule.header.items():
        yield f"the header {name} is " + ("there" if value == "*" else value)
