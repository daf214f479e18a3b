"""``llm-proxy chat``: one question, or a conversation."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing

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

    def run(self, prompt: str) -> None:
        """Answer the prompt and what is piped in after it; without both, hold a conversation.

        Raises ClientFailure; KeyboardInterrupt, in a conversation only at its prompt.
        """
        on_terminal = sys.stdin is not None and sys.stdin.isatty()
        piped = "" if on_terminal else _piped()
        question = "\n\n".join(part for part in (prompt, piped) if part)
        if not question and not on_terminal:
            raise ClientFailure("there is nothing to say: give a prompt, or pipe one in")
        model = self._model or self._first_model()
        if question:
            self._answer(model, question)
        else:
            self._converse(model)

    def _converse(self, model: str) -> None:
        typer.echo(f"Talking to {model}. An empty line or Ctrl-D ends it.", err=True)
        # Asked outside of asyncio.run: in there Ctrl-C would wait for the line.
        while line := self._ask():
            try:
                self._answer(model, line)
            except KeyboardInterrupt:
                sys.stdout.write("\n")

    def _answer(self, model: str, question: str) -> None:
        self._messages.append({"role": "user", "content": question})
        answer: list[str] = []
        try:
            asyncio.run(self._stream(model, answer))
        finally:
            # A question that got no answer is forgotten: roles must alternate.
            if answer:
                self._messages.append({"role": "assistant", "content": "".join(answer)})
            else:
                self._messages.pop()

    async def _stream(self, model: str, answer: list[str]) -> None:
        pieces = self._client.stream(model, tuple(self._messages), self._max_tokens)
        async with aclosing(pieces):
            async for text in pieces:
                answer.append(text)
                sys.stdout.write(text)
                sys.stdout.flush()
        sys.stdout.write("\n")

    def _first_model(self) -> str:
        names = asyncio.run(self._client.models())
        if not names:
            raise ClientFailure("the proxy lists no model by name: say which with --model")
        return names[0]

    @staticmethod
    def _ask() -> str:
        try:
            return input("> ").strip()
        except EOFError:
            return ""


def _piped() -> str:
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError:
        raise ClientFailure("what came on standard input isn't text in UTF-8") from None
