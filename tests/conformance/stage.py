"""One gateway, one scripted upstream and the four SDKs, for all cells."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from unittest import mock

import httpx2

from proxy_api import Settings, create_app
from proxy_api.testing import serving

from .clients import CLIENTS
from .said import Heard
from .upstream_bedrock import MODEL
from .upstreams import UPSTREAMS

__all__ = ["KEY", "MODELS", "UPSTREAM_KEY", "Arrived", "Stage", "opened"]

KEY: Final = "sk-conformance-0123456789"
UPSTREAM_KEY: Final = "sk-upstream-0123456789"
MODELS: Final = {
    "chat": "gpt-5.2",
    "responses": "gpt-5.2",
    "messages": "claude-sonnet-4-6",
    "gemini": "gemini-3-flash-preview",
    "bedrock": MODEL,
}
"""The upstreams' own names."""
_TYPES: Final = {"bedrock": "application/vnd.amazon.eventstream"}
_AWS: Final = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+b",
    "AWS_BEARER_TOKEN_BEDROCK": "",
}


class Arrived(NamedTuple):
    """A request, as an upstream got it."""

    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What an upstream answers."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    kind: str = "application/json"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arrived: list[Arrived] = []
        self.answers: list[Answer] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Keep the request, give the next answer."""
        server: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.arrived.append(Arrived(self.path, headers, body))
        answer = server.answers.pop(0)
        self.send_response(answer.status)
        self.send_header("content-type", answer.kind)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.kind == "application/json":
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
        else:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            # Pieces that end anywhere: in an event, in a character.
            for at in range(0, len(answer.body), 999):
                piece = answer.body[at : at + 999]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is told."""


class Stage:
    """What a cell plays on."""

    def __init__(self, url: str, server: _Server, sdks: dict[str, Any], sent: list[bytes]) -> None:
        self.url = url
        self.sdks = sdks
        self.sent = sent
        """The bodies that the SDKs sent."""
        self._server = server

    def play(self, column: str, said: Any, *, stream: bool) -> None:
        """The next answer of this upstream; then what it is asked can be heard."""
        module = UPSTREAMS[column]
        if stream:
            self._next(module.events(said), kind=_TYPES.get(column, "text/event-stream"))
        else:
            self._next(module.whole(said))

    def break_off(self, column: str) -> None:
        """The next answer is a stream that fails after its first words."""
        module = UPSTREAMS[column]
        self._next(module.in_stream(), kind=_TYPES.get(column, "text/event-stream"))

    def refuse(self, column: str, kind: str) -> None:
        """The next answer is an error."""
        status, headers, body = UPSTREAMS[column].ERRORS[kind]
        self._next(body, status, headers)

    def _next(
        self,
        body: bytes,
        status: int = 200,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        self._server.arrived.clear()
        self.sent.clear()
        self._server.answers[:] = [Answer(body, status, headers or {}, kind)]

    def heard(self, column: str) -> Heard:
        """What the upstream was asked, judged by who wrote its API. Exactly one request came."""
        arrived = self.arrived
        body = json.loads(arrived.body)
        module = UPSTREAMS[column]
        module.check(body)
        heard: Heard = module.hear(arrived.path, body)
        return heard

    @property
    def arrived(self) -> Arrived:
        (arrived,) = self._server.arrived
        return arrived

    @property
    def was_asked(self) -> bool:
        return bool(self._server.arrived)


def _provider(column: str, url: str) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "chat": {"kind": "openai", "base_url": f"{url}/v1", "dialects": ["openai.chat"]},
        "responses": {"kind": "openai", "base_url": f"{url}/v1", "dialects": ["openai.responses"]},
        "messages": {"kind": "anthropic", "base_url": url},
        "gemini": {"kind": "gemini", "base_url": url},
        "bedrock": {
            "kind": "bedrock",
            "base_url": url,
            "region": "eu-central-1",
            "dialects": ["bedrock.converse"],
        },
    }
    key = {} if column == "bedrock" else {"api_key": UPSTREAM_KEY}
    return {**kinds[column], **key}


def _settings(url: str) -> Settings:
    """A model for each column; one for each row of it too, whose provider may be refused a key."""
    providers: dict[str, Any] = {}
    models = []
    for column in UPSTREAMS:
        for name in (column, *(f"{column}-{row}-{kind}" for row in CLIENTS for kind in _LASTING)):
            providers[name] = _provider(column, url)
            models.append({"name": f"to-{name}", "target": f"{name}/{MODELS[column]}"})
    routing = {"retry": {"attempts": 1}, "breaker": {"failures": 1000}}
    sections: dict[str, Any] = {"providers": providers, "models": models, "routing": routing}
    sections["keys"] = [{"name": "conformance", "key": KEY}]
    return Settings(**sections)


_LASTING: Final = ("key", "throttled")
"""Errors that a provider remembers."""


@contextmanager
def opened() -> Iterator[Stage]:
    """The stage, for as long as the block lasts."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", _AWS))
        server = stack.enter_context(_Server())
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        stack.callback(server.shutdown)
        upstream = f"http://127.0.0.1:{server.server_address[1]}"
        url = stack.enter_context(serving(create_app(settings=_settings(upstream))))
        sent: list[bytes] = []

        def keep(request: httpx2.Request) -> None:
            sent.append(request.read())

        sdks = {}
        for name, client in CLIENTS.items():
            http = httpx2.Client(event_hooks={"request": [keep]}, timeout=30)
            sdks[name] = client.connect(url, KEY, stack.enter_context(http))
        yield Stage(url, server, sdks, sent)
