"""What an operator may ask of a running process, by its admin socket and in no other way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from proxy_api._arrival import ADMIN_SOCKET
from proxy_api._explain import asked_by, explained
from proxy_api._gateway import Gateway
from proxy_api._plan import Breaker
from proxy_api._reload import Past, Reloader
from proxy_api._version import __version__
from proxy_core.errors import RequestError

__all__ = ["add_admin"]

_NO_RELOADER: Final = "this process can't load its configuration again: it was started by a program"


class _AdminRoute(APIRoute):
    """A route that isn't there for any other connection: it denies by default."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if ADMIN_SOCKET not in (scope.get("extensions") or {}):
            return Match.NONE, {}
        return super().matches(scope)


def add_admin(app: FastAPI, gateway: Gateway) -> None:
    """Register ``GET /admin/status``, ``GET /admin/explain`` and ``POST /admin/reload``."""
    router = APIRouter(prefix="/admin", route_class=_AdminRoute, include_in_schema=False)

    @router.get("/status")
    async def status() -> JSONResponse:
        return JSONResponse(_status(gateway))

    @router.get("/explain")
    async def explain(
        model: str,
        key: str = "",
        tokens: int = 0,
        header: Annotated[Sequence[str], Query()] = (),
        tag: Annotated[Sequence[str], Query()] = (),
    ) -> JSONResponse:
        question = asked_by(model, key, tokens, header, tag)
        try:
            told = explained(gateway.settings, gateway.snapshot, question, live=True)
        except RequestError as error:
            return JSONResponse({"problem": error.message}, 409)
        return JSONResponse(told)

    @router.post("/reload")
    async def reload() -> JSONResponse:
        if gateway.reloader is None:
            return JSONResponse({"result": "refused", "problem": _NO_RELOADER}, 409)
        outcome = await gateway.reloader.reload()
        told = {
            "result": outcome.result,
            "changes": outcome.changes,
            "needs_restart": outcome.needs_restart,
            "problem": outcome.problem,
        }
        return JSONResponse(told, 200 if outcome.applied else 409)

    app.include_router(router)


def _status(gateway: Gateway) -> dict[str, Any]:
    reloader = gateway.reloader
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime": int(gateway.uptime),
        "ready": gateway.ready,
        "draining": gateway.draining,
        "in_flight": gateway.in_flight,
        "models": len({model.name for model in gateway.settings.models}),
        "config": (reloader.source or None) if reloader else None,
        "last_reload": _past(reloader),
        "deployments": _deployments(gateway),
    }


def _past(reloader: Reloader | None) -> dict[str, Any] | None:
    past: Past | None = reloader.last if reloader else None
    if past is None:
        return None
    at = datetime.fromtimestamp(past.at, UTC).isoformat(timespec="seconds")
    outcome = past.outcome
    return {
        "at": at,
        "result": outcome.result,
        "problem": outcome.problem,
        "needs_restart": outcome.needs_restart,
    }


def _deployments(gateway: Gateway) -> list[dict[str, Any]]:
    """Each once, although several models may lead to it. ``retry_in``: seconds; None: no limit."""
    breakers = {row.label: row.breaker for row in gateway.snapshot.deployments}
    return [{"name": label, **_judgement(breaker)} for label, breaker in breakers.items()]


def _judgement(breaker: Breaker) -> dict[str, Any]:
    if breaker.state == "closed":
        return {"breaker": "closed"}
    wait = breaker.retry_after
    return {"breaker": breaker.state, "retry_in": None if wait is None else round(wait, 1)}
