"""The ordinary routes: models, health, metrics, docs; and a shape for every error."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from proxy_api import _openapi
from proxy_api._admin import add_admin
from proxy_api._arrival import new_request_id
from proxy_api._error_shapes import (
    ErrorAnswer,
    Shape,
    answer_of,
    answer_to,
    shape_for,
)
from proxy_api._errors import Fault
from proxy_api._gateway import Gateway
from proxy_api._keys import Key, is_addressed_locally
from proxy_api._loopback import is_loopback_host
from proxy_api._models_list import Listed, listed, listed_one
from proxy_api._response import Surface
from proxy_api._surfaces import MODEL_LISTS, ModelPath, Surfaces, missing_operation
from proxy_core.errors import InvalidRequest, ModelNotFound, PermissionRefused, ProxyError

__all__ = ["add_error_shapes", "add_routes"]


_HIDDEN: Final[Mapping[str, Any]] = MappingProxyType({"include_in_schema": False})


def add_routes(app: FastAPI, gateway: Gateway, surfaces: Surfaces) -> None:
    """Register every route; the hot ones too, for apps with middleware and for mounting."""
    for path, surface in surfaces.exact.items():
        app.add_api_route(
            path, _handover(surface), methods=["POST"], **(_openapi.described(path) or _HIDDEN)
        )
    for row in surfaces.named:
        app.add_api_route(
            row.pattern,
            _named_handover(row),
            methods=["POST"],
            **(_openapi.described(row.pattern) or _HIDDEN),
        )
    for other in surfaces.others:
        for method in other.methods:
            told = _openapi.kept_route(other.path, other.summary, other.takes)
            is_told = other.summary and method != "HEAD"
            app.add_api_route(
                other.path,
                _handover(other.surface),
                methods=[method],
                **(told if is_told else _HIDDEN),
            )
    _add_models(app, gateway)
    _add_health(app, gateway)
    _add_scoped(app, gateway)
    add_admin(app, gateway)


def add_error_shapes(app: FastAPI) -> None:
    """Answer every error as the client's own API does, never with ``{"detail": …}``."""

    async def ours(request: Request, error: Exception) -> Response:
        return _answer(request, error)

    async def http(request: Request, error: Exception) -> Response:
        return _http_error(request, cast(HTTPException, error))

    async def invalid(request: Request, error: Exception) -> Response:
        first = cast(RequestValidationError, error).errors()[0]
        field = ".".join(map(str, first["loc"][1:]))
        return _answer(request, InvalidRequest(f"{first['msg']}.", param=field))

    app.add_exception_handler(ProxyError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, ours)


class _Caller:
    """The head of an ordinary request, as authentication looks at it."""

    def __init__(self, request: Request) -> None:
        self._headers = request.headers
        self.peer = request.client.host if request.client else None

    def header(self, name: bytes) -> str:
        return self._headers.get(name.decode(), "")


class _Handover(Response):
    """A response that hands its ASGI call over to a surface."""

    def __init__(self, surface: Surface, model: str = "") -> None:
        super().__init__()
        self._surface = surface
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._surface(scope, receive, send, self._model)


def _handover(surface: Surface) -> Any:
    # A bare Request and a bare Response: FastAPI reads no body and validates nothing.
    async def hot(_: Request) -> Response:
        return _Handover(surface)

    return hot


def _named_handover(row: ModelPath) -> Any:
    async def hot(request: Request) -> Response:
        return _Handover(row.chosen(request.scope), request.path_params["model"])

    return hot


def _add_models(app: FastAPI, gateway: Gateway) -> None:
    async def models(request: Request) -> Response:
        names = gateway.snapshot.names(_key_of(gateway, request))
        shape = _shape(request)
        return _told(listed([_listed(name, gateway) for name in names], shape), shape)

    async def model(request: Request) -> Response:
        key, model = _key_of(gateway, request), request.path_params["model"]
        if not key.may_use(model) or gateway.snapshot.routes.lookup(model) is None:
            raise ModelNotFound(f"There is no model {model!r} for this key.", param="model")
        shape = _shape(request)
        return _told(listed_one(_listed(model, gateway), shape), shape)

    for path in MODEL_LISTS:
        app.add_api_route(path, models, **(_openapi.models_route(path) or _HIDDEN))
        one = path + "/{model:path}"  # FastAPI isn't shown the parameter: it would bring a 422
        app.add_api_route(one, model, **(_openapi.model_route(one) or _HIDDEN))


def _key_of(gateway: Gateway, request: Request) -> Key:
    return gateway.snapshot.keys.authenticate(_Caller(request))


def _listed(name: str, gateway: Gateway) -> Listed:
    match = gateway.snapshot.routes.lookup(name)
    owner = match.values[0].deployments[0].provider.name if match else ""
    return Listed(name, owner, gateway.started_at)


def _told(content: dict[str, Any], shape: Shape) -> Response:
    return JSONResponse(content, headers=_ids(shape, new_request_id()))


def _add_health(app: FastAPI, gateway: Gateway) -> None:
    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", tags=["health"], summary="200 whenever the process turns")
    async def livez(request: Request) -> Response:
        return _head_or_whole(request, JSONResponse({"status": "alive"}))

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["health"], summary="200 when requests can be served")
    async def readyz(request: Request) -> Response:
        if gateway.ready:
            return _head_or_whole(request, JSONResponse({"status": "ready"}))
        refusal = JSONResponse({"status": "not ready"}, 503, {"retry-after": "1"})
        return _head_or_whole(request, refusal)


def _head_or_whole(request: Request, response: Response) -> Response:
    if request.method == "HEAD":
        response.body = b""  # its content-length stays that of GET's
    return response


def _add_scoped(app: FastAPI, gateway: Gateway) -> None:
    @app.get(
        "/metrics",
        tags=["health"],
        summary="Prometheus metrics",
        response_class=Response,
        responses=_openapi.metrics_answers(),
    )
    async def metrics(request: Request) -> Response:
        _require(gateway, request, "metrics")
        body, kind = gateway.metrics.render(request.headers.get("accept"))
        return Response(body, headers={"content-type": kind})

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        _require(gateway, request, "docs")
        return JSONResponse(_openapi.document(app))

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        _require(gateway, request, "docs")
        return get_swagger_ui_html(openapi_url="openapi.json", title=f"{app.title} {app.version}")


def _require(gateway: Gateway, request: Request, scope: str) -> None:
    """Open on a loopback listener to this machine; anywhere else it needs a key with that scope."""
    caller = _Caller(request)
    server = gateway.settings.server
    local = server.uds is not None or is_loopback_host(server.host)
    if local and is_addressed_locally(caller):
        return
    key = gateway.snapshot.keys.authenticate(caller)
    if scope not in key.scopes:
        raise PermissionRefused(f"The key {key.name!r} does not have the scope {scope!r}.")


def _http_error(request: Request, error: HTTPException) -> Response:
    method, path = request.scope["method"], request.scope["path"]
    below = path.removeprefix(request.scope.get("root_path", ""))
    status = error.status_code
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    missing = missing_operation(below) if status in (404, 405) and method == "POST" else ""
    if missing:
        status, headers = 404, {}
    elif status == 405:
        headers["allow"] = ", ".join(_taken(request))
    told = {
        404: missing
        or f"There is no route {method} {path}: the API is below /v1, its description at /docs.",
        405: f"The route {path} does not take {method}: it takes {headers.get('allow')}.",
    }.get(status, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")
    fault = Fault(status, "invalid_request_error", told, code)
    shape, request_id = _shape(request), new_request_id()
    told_with = [(k.encode(), v.encode()) for k, v in headers.items()]
    return _whole(answer_of(fault, shape, request_id, told_with), shape, request_id)


def _taken(request: Request) -> list[str]:
    """The methods of all routes with this path, in one order."""
    scope = request.scope
    found = (route for route in scope["app"].routes if route.matches(scope)[0] != Match.NONE)
    return sorted({method for route in found for method in getattr(route, "methods", None) or ()})


def _answer(request: Request, error: Exception) -> Response:
    shape, request_id = _shape(request), new_request_id()
    return _whole(answer_to(error, shape, request_id), shape, request_id)


def _whole(answer: ErrorAnswer, shape: Shape, request_id: str) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers | _ids(shape, request_id))


def _ids(shape: Shape, request_id: str) -> dict[str, str]:
    return {name.decode(): request_id for name in shape.id_headers}


def _shape(request: Request) -> Shape:
    """That of the path, as it is below where the app is mounted; else the client's."""
    path: str = request.scope["path"]
    return shape_for(path.removeprefix(request.scope.get("root_path", "")), _Caller(request).header)
