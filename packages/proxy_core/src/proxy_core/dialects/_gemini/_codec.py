"""Gemini's generateContent, to be translated: as clients and as providers speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Answer, Conversation
from proxy_core.dialects._codec import Losses, Told
from proxy_core.dialects._gemini._read_answer import GeminiReader, read_answer
from proxy_core.dialects._gemini._read_request import read_request
from proxy_core.dialects._gemini._words import DIALECT
from proxy_core.dialects._gemini._write_answer import GeminiWriter, write_answer
from proxy_core.dialects._gemini._write_request import write_request

__all__ = ["GeminiCodec"]


class GeminiCodec:
    """Both sides. Model and stream are the URL's: whoever reads a request sets them."""

    dialect: str = DIALECT

    def read_request(self, body: Mapping[str, Any], losses: Losses) -> Conversation:
        """What is asked for; ``model`` is empty unless the body has one.

        Raises InvalidRequest with the path of the field in ``param``.
        """
        return read_request(body, losses)

    def write_request(
        self, conversation: Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        """The JSON for an upstream, whose model stands in the URL.

        Raises InvalidRequest for a tool result without its call, and names that don't fit.
        """
        del model
        return write_request(conversation, can, losses)

    def read_answer(self, body: Mapping[str, Any]) -> Answer:
        """The answer in a body. Raises UpstreamProtocolError for what is none.

        UpstreamRejected where the prompt was blocked, UpstreamFailed where the model stumbled.
        """
        return read_answer(body)

    def write_answer(self, answer: Answer, told: Told) -> dict[str, Any]:
        """A whole GenerateContentResponse."""
        return write_answer(answer, told)

    def stream_reader(self) -> GeminiReader:
        return GeminiReader()

    def stream_writer(self, told: Told) -> GeminiWriter:
        return GeminiWriter(told)
