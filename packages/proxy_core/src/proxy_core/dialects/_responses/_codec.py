"""Both sides of the codec, as one object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Answer, Conversation
from proxy_core.dialects._codec import Losses, StreamReader, StreamWriter, Told
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._answer_in import read_answer
from proxy_core.dialects._responses._answer_out import ResponsesWriter, write_answer
from proxy_core.dialects._responses._request_in import read_request
from proxy_core.dialects._responses._request_out import write_request
from proxy_core.dialects._responses._stream_in import ResponsesReader
from proxy_core.dialects._responses._words import DIALECT

__all__ = ["ResponsesCodec"]


class ResponsesCodec:
    """ClientCodec and UpstreamCodec of OpenAI's Responses."""

    dialect: Final = DIALECT

    def read_request(self, body: Mapping[str, Any], losses: Losses) -> Conversation:
        return read_request(Value(body), losses)

    def write_answer(self, answer: Answer, told: Told) -> dict[str, Any]:
        return write_answer(answer, told)

    def stream_writer(self, told: Told) -> StreamWriter:
        return ResponsesWriter(told)

    def write_request(
        self, conversation: Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        return write_request(conversation, model, can, losses)

    def read_answer(self, body: Mapping[str, Any]) -> Answer:
        return read_answer(body)

    def stream_reader(self) -> StreamReader:
        return ResponsesReader()
