"""The app factory: its signature, the short way of the hot routes, and what must switch it off."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from proxy_api import GatewayApp, InvalidSettings, Settings, create_app
from proxy_api.testing import settings_for

BODY = {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def settings() -> Settings:
    return settings_for("http://127.0.0.1:9/v1")


def client_of(app: Any) -> TestClient:
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 5000))


def test_a_config_path_that_is_not_there_is_named() -> None:
    """A missing file is an error with its name, never the defaults in silence."""
    with pytest.raises(InvalidSettings, match=r"no-such-file\.yaml"):
        create_app(config_path="/no-such-file.yaml")


def test_a_config_file_is_served(tmp_path: Path) -> None:
    """The models of the file are those that the app lists."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "providers: {up: {kind: vllm}}\n"
        "models: [{name: chat, target: up/x}, {name: 'a/b', target: up/y}]\n"
    )
    with client_of(create_app(file)) as client:
        listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert listed == ["chat", "a/b"]
        assert client.get("/v1/models/a/b").json()["id"] == "a/b"


def test_hot_routes_bypass_the_router(settings: Settings) -> None:
    """Without middleware a hot request never builds FastAPI's stack."""
    app = create_app(settings=settings)
    answer = asyncio.run(_post(app))
    assert answer == 404
    assert app.middleware_stack is None


def test_an_added_middleware_sees_every_request(settings: Settings) -> None:
    """The short way is closed as soon as somebody adds a middleware."""
    seen: list[str] = []
    app = create_app(settings=settings)

    class Watch:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    app.add_middleware(Watch)
    assert client_of(app).post("/v1/chat/completions", json=BODY).status_code == 404
    assert seen == ["/v1/chat/completions"]


def test_a_decorator_middleware_sees_every_request(settings: Settings) -> None:
    """FastAPI's ``@app.middleware`` closes the short way too."""
    seen: list[str] = []
    app = create_app(settings=settings)

    @app.middleware("http")
    async def watch(request: Any, call_next: Any) -> Any:
        seen.append(request.url.path)
        return await call_next(request)

    client_of(app).post("/v1/embeddings", json={"model": "nobody", "input": "x"})
    assert seen == ["/v1/embeddings"]


def test_a_replaced_stack_sees_every_request(settings: Settings) -> None:
    """Whoever replaces ``build_middleware_stack``, as an instrumentor does, is not bypassed."""
    seen: list[str] = []
    app = create_app(settings=settings)
    inner = app.build_middleware_stack

    def build() -> Any:
        stack = inner()

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await stack(scope, receive, send)

        return watched

    app.build_middleware_stack = build  # type: ignore[method-assign]
    client_of(app).post("/v1/chat/completions", json=BODY)
    assert "http" in seen


def test_opentelemetrys_instrumentor_sees_hot_requests(settings: Settings) -> None:
    """The FastAPI instrumentor makes a span for a hot request."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(settings=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    client_of(app).post("/v1/chat/completions", json=BODY)
    assert any("/v1/chat/completions" in span.name for span in exporter.get_finished_spans())


def test_it_serves_when_mounted(settings: Settings) -> None:
    """Mounted in another app, where no lifespan of ours runs, it answers at once."""
    outer = FastAPI()
    outer.mount("/llm", create_app(settings=settings))
    client = client_of(outer)
    assert client.get("/llm/v1/models").json()["data"][0]["id"] == "chat"
    answer = client.post("/llm/v1/chat/completions", json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_trusted_hosts_are_let_in(settings: Settings) -> None:
    """An embedder may name hosts; any other is refused while there are no keys."""
    refused = TestClient(create_app(settings=settings), client=("127.0.0.1", 1)).get("/v1/models")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    trusting = create_app(settings=settings, trust_hosts=["testserver"])
    assert TestClient(trusting, client=("127.0.0.1", 1)).get("/v1/models").status_code == 200


def test_metrics_can_be_switched_off(settings: Settings) -> None:
    """Without metrics ``/metrics`` has no sample of ours."""
    on = client_of(create_app(settings=settings)).get("/metrics").text
    off = client_of(create_app(settings=settings, enable_metrics=False)).get("/metrics").text
    assert "llm_proxy_build_info" in on
    assert "llm_proxy" not in off


def test_the_document_describes_the_hot_routes(settings: Settings) -> None:
    """The hot routes' requests and answers are in the document, and each reference resolves."""
    document = client_of(create_app(settings=settings)).get("/openapi.json").json()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        operation = document["paths"][path]["post"]
        wanted = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        for reference in (wanted, answer):
            assert reference.rpartition("/")[2] in document["components"]["schemas"]


def test_the_document_describes_the_other_routes(settings: Settings) -> None:
    """Models, metrics and their errors are described as they answer; an empty model is refused."""
    document = client_of(create_app(settings=settings)).get("/openapi.json").json()
    paths, schemas = document["paths"], document["components"]["schemas"]
    listing = paths["/v1/models"]["get"]["responses"]
    one = paths["/v1/models/{model}"]["get"]
    assert set(listing) == {"200", "401", "403"}
    assert set(one["responses"]) == {"200", "401", "403", "404"}
    assert [parameter["name"] for parameter in one["parameters"]] == ["model"]
    for answer, schema in ((listing["200"], "ModelList"), (one["responses"]["404"], "Error")):
        wanted = answer["content"]["application/json"]["schema"]["$ref"]
        assert wanted == f"#/components/schemas/{schema}"
        assert schema in schemas
    assert set(paths["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}
    for request in ("ChatRequest", "CompletionRequest", "EmbeddingRequest"):
        assert schemas[request]["properties"]["model"]["minLength"] == 1


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_answers_head(settings: Settings, path: str) -> None:
    """HEAD has GET's status and no body, for balancers that ask so."""
    app = create_app(settings=settings)
    client = client_of(app)
    assert (client.head(path).status_code, client.head(path).content) == (200, b"")
    app.gateway.not_ready_while(lambda: True)
    refused = client.head(path)
    assert (
        refused.status_code == client.get(path).status_code == (503 if path == "/readyz" else 200)
    )
    assert refused.content == b""


@pytest.mark.parametrize("path", ["/", "/v2/chat"])
def test_an_unknown_route_points_to_those_there_are(settings: Settings, path: str) -> None:
    """Who opens the address in a browser is told of /docs and /v1, in OpenAI's shape."""
    answer = client_of(create_app(settings=settings)).get(path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "not_found")
    assert "/docs" in error["message"]
    assert "/v1" in error["message"]


def test_a_key_with_scopes_alone_may_use_no_model() -> None:
    """A key for metrics doesn't open the models because nobody said which."""
    settings = settings_for(
        "http://127.0.0.1:9/v1",
        keys=[
            {"name": "watcher", "key": "watcher-key", "scopes": ["metrics"]},
            {"name": "both", "key": "both-key", "scopes": ["metrics"], "models": ["*"]},
            {"name": "user", "key": "user-key"},
        ],
    )
    client = client_of(create_app(settings=settings))
    listed = [
        len(client.get("/v1/models", headers={"x-api-key": f"{name}-key"}).json()["data"])
        for name in ("watcher", "both", "user")
    ]
    assert listed == [0, 1, 1]
    asked = client.post("/v1/chat/completions", json=BODY, headers={"x-api-key": "watcher-key"})
    assert asked.status_code in (403, 404)


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json"])
def test_scoped_routes_need_a_key_on_an_open_listener(path: str) -> None:
    """Off loopback they deny by default: no key 401, without the scope 403, with it 200."""
    scope = "metrics" if path == "/metrics" else "docs"
    settings = settings_for(
        "http://127.0.0.1:9/v1",
        server={"host": "0.0.0.0"},
        keys=[
            {"name": "plain", "key": "plain-key", "models": ["chat"]},
            {"name": "watcher", "key": "watcher-key", "models": ["chat"], "scopes": [scope]},
        ],
    )
    client = client_of(create_app(settings=settings))
    statuses = [
        client.get(path, headers={"authorization": f"Bearer {key}"} if key else {}).status_code
        for key in ("", "plain-key", "watcher-key")
    ]
    assert statuses == [401, 403, 200]


async def _post(app: GatewayApp) -> int:
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {
            "type": "http.request",
            "body": b'{"model":"nobody","messages":[]}',
            "more_body": False,
        }

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "extensions": {"llm_proxy.client_gone": _Never()},
    }
    await app(scope, receive, send)
    return statuses[0]


class _Never:
    callback = None


def test_scoped_routes_are_closed_to_foreign_names(settings: Settings) -> None:
    """A name that was rebound to this machine, or a balancer on it, doesn't open the metrics."""
    app = create_app(settings=settings.model_copy(update={"keys": ()}))
    rebound = TestClient(app, base_url="http://evil.example", client=("127.0.0.1", 1))
    assert [rebound.get(path).status_code for path in ("/metrics", "/docs")] == [403, 403]
