"""``llm-proxy chat``: one question, or a conversation."""

from __future__ import annotations

import sys

import typer

from proxy_api._cli_client import Client, ClientFailure

__all__ = ["Chat"]


class Chat:
    """Keeps the messages; prints answers as they come."""

    def __init__(
        self, client: Client, model: str | None, system: str | None, max_tokens: int | None
    ) -> None:
        self._client = client
        self._model = model
        self._max_tokens = max_tokens
        self._messages = [{"role": "system", "content": system}] if system else []

    async def run(self, prompt: str) -> None:
        """Answer ``prompt``; without one, standard input, or a conversation on a terminal."""
        model = self._model or await self._first_model()
        if not prompt and not sys.stdin.isatty():
            prompt = sys.stdin.read().strip()
            if not prompt:
                raise ClientFailure("there is nothing to say: give a prompt, or pipe one in")
        if prompt:
            await self._say(model, prompt)
            return
        typer.echo(f"Talking to {model}. An empty line or Ctrl-D ends it.", err=True)
        while line := self._ask():
            await self._say(model, line)

    async def _say(self, model: str, prompt: str) -> None:
        self._messages.append({"role": "user", "content": prompt})
        answer: list[str] = []
        async for text in self._client.stream(model, self._messages, self._max_tokens):
            answer.append(text)
            sys.stdout.write(text)
            sys.stdout.flush()
        sys.stdout.write("\n")
        self._messages.append({"role": "assistant", "content": "".join(answer)})

    async def _first_model(self) -> str:
        names = await self._client.models()
        if not names:
            raise ClientFailure("the proxy lists no model by name: say which with --model")
        return names[0]

    @staticmethod
    def _ask() -> str:
        try:
            return input("> ").strip()
        except EOFError:
            return ""
