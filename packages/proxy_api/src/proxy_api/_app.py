"""The FastAPI app, and the short way of its hot routes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from proxy_api._arrival import new_request_id
from proxy_api._compose import Parts
from proxy_api._gateway import Gateway
from proxy_api._plugins import load_plugins
from proxy_api._routes import add_error_shapes, add_routes
from proxy_api._settings import Settings, checked, load_settings
from proxy_api._surfaces import Surfaces, make_surfaces
from proxy_api._version import __version__
from proxy_logging import (
    LogObserver,
    Metrics,
    NoMetrics,
    NoTracer,
    Observer,
    OpenTelemetryConfig,
    StructuredLogger,
    Tracer,
    create_tracer,
    fan_out,
)

__all__ = ["GatewayApp", "create_app"]

_ITS_OWN_STACK: Final = FastAPI.build_middleware_stack


class GatewayApp(FastAPI):
    """A FastAPI app whose hot routes are looked up before its router.

    The short way holds only while nobody has added a middleware or replaced the stack that builds
    them (OpenTelemetry's instrumentor does): what was added must see every request.
    """

    gateway: Gateway
    surfaces: Surfaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # No scope but that of a request has a method.
        if (
            scope.get("method") == "POST"
            and not self.user_middleware
            and "build_middleware_stack" not in self.__dict__
            and type(self).build_middleware_stack is _ITS_OWN_STACK
        ):
            path = scope["path"]
            surface = self.surfaces.exact.get(path)
            if surface is not None:
                await surface(scope, receive, send)
                return
            if (found := self.surfaces.find(path)) is not None:
                row, model = found
                await row.chosen(scope)(scope, receive, send, model)
                return
        await super().__call__(scope, receive, _with_request_id(send))


def create_app(
    config_path: str | Path | None = None,
    *,
    enable_metrics: bool = True,
    enable_tracing: bool = False,
    otel_config: OpenTelemetryConfig | None = None,
    settings: Settings | None = None,
    trust_hosts: Sequence[str] = (),
    observers: Sequence[Observer] = (),
    logger: StructuredLogger | None = None,
) -> GatewayApp:
    """The gateway as a FastAPI app.

    Args:
        config_path: a YAML or TOML file; without it ``$LLM_PROXY_CONFIG``, then
            ``/etc/proxy/config.yaml`` if it is there, then the defaults.
        enable_metrics: serve Prometheus metrics at ``/metrics``.
        enable_tracing: send spans, as ``otel_config``, the configuration file and the standard
            ``OTEL_*`` variables say. Without the extra ``otel`` it warns once and goes on.
        otel_config: where spans go; given, it also enables tracing.
        settings: a configuration that is already loaded, instead of a file.
        trust_hosts: host names that are let in although there are no keys, for those who embed.
        observers: called with every event, beside logs and metrics.
        logger: instead of one named ``llm-proxy``.

    Raises:
        InvalidSettings: with every problem of the configuration at once.
    """
    settings = load_settings(config_path) if settings is None else checked(settings)
    logger = logger or StructuredLogger("llm-proxy")
    theirs = load_plugins(settings.plugins).observers(settings)
    metrics = Metrics(version=__version__) if enable_metrics else NoMetrics()
    tracer = _tracer(settings, otel_config, enabled=enable_tracing)
    observer = fan_out(LogObserver(logger), metrics, *theirs, *observers)
    gateway = Gateway(settings, metrics, Parts(observer, tracer, trust_hosts), logger)
    return _app(gateway)


def _app(gateway: Gateway) -> GatewayApp:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.aclose()

    app = GatewayApp(
        title="LLM Proxy",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.gateway = gateway
    app.surfaces = make_surfaces(gateway, gateway.logger)
    add_routes(app, gateway, app.surfaces)
    add_error_shapes(app)
    return app


def _tracer(settings: Settings, config: OpenTelemetryConfig | None, *, enabled: bool) -> Tracer:
    tracing = settings.observability.tracing
    if config is None and (enabled or tracing.enabled):
        config = OpenTelemetryConfig.from_env(os.environ)
        if tracing.otlp_endpoint:
            config = replace(config, otlp_endpoint=tracing.otlp_endpoint)
    return create_tracer(config) if config is not None else NoTracer()


def _with_request_id(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if not any(name == b"x-request-id" for name, _ in headers):
                headers.append((b"x-request-id", new_request_id().encode()))
            message = {**message, "headers": headers}
        await send(message)

    return sending
