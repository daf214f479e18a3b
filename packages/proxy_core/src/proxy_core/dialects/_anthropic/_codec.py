"""Anthropic's messages for the translation, as clients and as providers speak them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic._answers import read_answer, write_answer
from proxy_core.dialects._anthropic._read_request import read_request
from proxy_core.dialects._anthropic._reader import AnthropicStreamReader
from proxy_core.dialects._anthropic._words import DIALECT
from proxy_core.dialects._anthropic._write_request import write_request
from proxy_core.dialects._anthropic._writer import AnthropicStreamWriter
from proxy_core.dialects._canonical import Answer, Conversation
from proxy_core.dialects._codec import Losses, Told

__all__ = ["AnthropicCodec"]


class AnthropicCodec:
    """Both a ``ClientCodec`` and an ``UpstreamCodec``."""

    dialect = DIALECT

    def read_request(self, body: Mapping[str, Any], losses: Losses) -> Conversation:
        return read_request(body, losses)

    def write_answer(self, answer: Answer, told: Told) -> dict[str, Any]:
        return write_answer(answer, told)

    def stream_writer(self, told: Told) -> AnthropicStreamWriter:
        return AnthropicStreamWriter(told)

    def write_request(
        self, conversation: Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        return write_request(conversation, model, can, losses)

    def read_answer(self, body: Mapping[str, Any]) -> Answer:
        return read_answer(body)

    def stream_reader(self) -> AnthropicStreamReader:
        return AnthropicStreamReader()
