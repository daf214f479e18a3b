"""A small client of the proxy's own API, for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2

__all__ = ["Client", "ClientFailure"]


class ClientFailure(Exception):
    """What went wrong, in a sentence for a person."""


class Client:
    """Talks to a proxy at ``url`` (without ``/v1``) with a key, if it has one."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(
            headers=headers, trust_env=False, timeout=httpx2.Timeout(600.0, connect=5.0)
        )

    def models(self) -> list[str]:
        """The names of the models. Raises ClientFailure."""
        try:
            answer = self._http.get(f"{self._url}/v1/models")
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status_code != 200:
            raise ClientFailure(_told(answer.content, answer.status_code))
        return [str(model["id"]) for model in answer.json()["data"]]

    def stream(
        self, model: str, messages: list[dict[str, str]], max_tokens: int | None
    ) -> Iterator[str]:
        """The text of an answer, piece by piece. Raises ClientFailure, also in the middle."""
        body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        try:
            with self._http.stream("POST", f"{self._url}/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    raise ClientFailure(_told(answer.read(), answer.status_code))
                yield from _texts(answer.iter_lines())
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> ClientFailure:
        return ClientFailure(
            f"no proxy answers at {self._url} ({error}). Start one with: llm-proxy serve"
        )


def _texts(lines: Iterator[str]) -> Iterator[str]:
    finished = False
    for line in lines:
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise ClientFailure(str(chunk["error"].get("message")))
        for choice in chunk.get("choices", ()):
            finished = finished or choice.get("finish_reason") is not None
            if text := choice.get("delta", {}).get("content"):
                yield text
    if not finished:
        raise ClientFailure("the answer broke off")


def _told(body: bytes, status: int) -> str:
    try:
        return f"{json.loads(body)['error']['message']} ({status})"
    except (ValueError, KeyError, TypeError):
        return f"the proxy answered {status}"
