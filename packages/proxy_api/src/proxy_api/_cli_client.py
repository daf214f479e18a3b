"""A small client of the proxy's own API, for the command line."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from proxy_core import HttpClient, HttpRequest, HttpResponse, Timeouts
from proxy_core.dialects import EventSplitter
from proxy_core.errors import UpstreamError

__all__ = ["Client", "ClientFailure"]

_PATIENCE = Timeouts(first_byte=600.0, between_events=600.0, total=3600.0)


class ClientFailure(Exception):
    """What went wrong, in a sentence for a person."""


class Client:
    """Talks to a proxy at ``url`` (without ``/v1``) with a key, if it has one."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = [(b"content-type", b"application/json"), (b"user-agent", b"llm-proxy")]
        if key:
            self._headers.append((b"authorization", f"Bearer {key}".encode()))
        self._http = HttpClient()

    async def models(self) -> list[str]:
        """The names of the models. Raises ClientFailure."""
        async with self._asked("GET", "/v1/models") as answer:
            listing = json.loads(await answer.read())
        return [str(model["id"]) for model in listing["data"]]

    async def stream(
        self, model: str, messages: list[dict[str, str]], max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        """The text of an answer, piece by piece. Raises ClientFailure, also in the middle."""
        body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
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
        try:
            async with self._http.send(request, timeouts=_PATIENCE) as answer:
                if answer.status != 200:
                    raise ClientFailure(_told(await answer.read(), answer.status))
                yield answer
        except UpstreamError as error:
            told = f"no proxy answers at {self._url}: {error.message}"
            raise ClientFailure(f"{told}. Start one with: llm-proxy serve") from None


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
