"""A small client of the proxy's own API, for the command line."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from proxy_api._urls import is_url
from proxy_core import HttpClient, HttpRequest, HttpResponse, Timeouts
from proxy_core.dialects import EventSplitter
from proxy_core.errors import ConnectFailed, UpstreamError

__all__ = ["Client", "ClientFailure"]

_PATIENCE = Timeouts(first_byte=600.0, between_events=600.0, total=3600.0)


class ClientFailure(Exception):
    """What went wrong, in a sentence for a person."""


class Client:
    """Talks to a proxy at ``url`` (without ``/v1``) with a key, if it has one.

    Each call opens a connection of its own, so each may run in an event loop of its own.
    Raises ClientFailure for what is no URL.
    """

    def __init__(self, url: str, key: str | None) -> None:
        if not is_url(url, ("http", "https")):
            raise ClientFailure(f"{url!r} is no URL such as http://127.0.0.1:4000: use --url")
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = [(b"content-type", b"application/json"), (b"user-agent", b"llm-proxy")]
        if key:
            self._headers.append((b"authorization", f"Bearer {key}".encode()))
        self._tls = ssl.create_default_context()

    async def models(self) -> list[str]:
        """The names of the models. Raises ClientFailure."""
        async with self._asked("GET", "/v1/models") as answer:
            listing = json.loads(await answer.read())
            return [str(model["id"]) for model in listing["data"]]

    async def stream(
        self, model: str, messages: Sequence[dict[str, str]], max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        """The text of an answer, piece by piece. Raises ClientFailure, also in the middle."""
        body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": True}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        finished = False
        async with self._asked("POST", "/v1/chat/completions", json.dumps(body).encode()) as answer:
            async for chunk in _chunks(answer):
                for choice in chunk.get("choices", ()):
                    finished = finished or choice.get("finish_reason") is not None
                    if text := (choice.get("delta") or {}).get("content"):
                        yield text
        if not finished:
            raise ClientFailure("the answer broke off")

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: bytes = b""
    ) -> AsyncGenerator[HttpResponse, None]:
        request = HttpRequest(method, self._url + path, self._headers, body)
        http = HttpClient(tls=self._tls)
        try:
            async with http.send(request, timeouts=_PATIENCE) as answer:
                if answer.status != 200:
                    raise ClientFailure(_told(await answer.read(), answer.status))
                yield answer
        except UpstreamError as error:
            raise ClientFailure(self._failed(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ClientFailure(f"what answers at {self._url} is no LLM Proxy") from None
        finally:
            await http.aclose()

    def _failed(self, error: UpstreamError) -> str:
        if isinstance(error, ConnectFailed) and _nobody_listens(self._url):
            return f"no proxy listens at {self._url}. Start one with: llm-proxy serve"
        told = error.message.replace("upstream", "proxy").rstrip(".")
        return f"no proxy answers at {self._url}: {told}"


def _nobody_listens(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), 1.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


async def _chunks(answer: HttpResponse) -> AsyncGenerator[dict[str, Any], None]:
    splitter = EventSplitter()
    async for data in answer.body:
        for event in splitter.feed(data):
            if event.data is None or event.data == b"[DONE]":
                continue
            chunk = json.loads(event.data)
            if "error" in chunk:
                raise ClientFailure(str(chunk["error"].get("message")))
            yield chunk


def _told(body: bytes, status: int) -> str:
    try:
        return f"{json.loads(body)['error']['message']} ({status})"
    except (ValueError, KeyError, TypeError):
        return f"the proxy answered {status}"
