"""The six verbs of chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Answer, Conversation
from proxy_core.dialects._chat._answer_in import read_answer
from proxy_core.dialects._chat._answer_out import write_answer
from proxy_core.dialects._chat._request_in import read_request
from proxy_core.dialects._chat._request_out import write_request
from proxy_core.dialects._chat._stream_in import ChatStreamReader
from proxy_core.dialects._chat._stream_out import ChatStreamWriter
from proxy_core.dialects._chat._wire import DIALECT
from proxy_core.dialects._codec import Losses, Told

__all__ = ["ChatCodec"]


class ChatCodec:
    """Speaks ``openai.chat`` to clients and to providers. It has no state."""

    __slots__ = ()

    dialect: str = DIALECT

    def read_request(self, body: Mapping[str, Any], losses: Losses) -> Conversation:
        """What a client asks for. Raises InvalidRequest with the path of the field in ``param``."""
        return read_request(body, losses)

    def write_answer(self, answer: Answer, told: Told) -> dict[str, Any]:
        """A ``chat.completion``."""
        return write_answer(answer, told)

    def stream_writer(self, told: Told) -> ChatStreamWriter:
        """What writes one answer's ``chat.completion.chunk`` events."""
        return ChatStreamWriter(told)

    def write_request(
        self, conversation: Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        """The body for ``/chat/completions``."""
        return write_request(conversation, model, can, losses)

    def read_answer(self, body: Mapping[str, Any]) -> Answer:
        """The answer in a body. Raises UpstreamError."""
        return read_answer(body)

    def stream_reader(self) -> ChatStreamReader:
        """What reads one answer's chunks."""
        return ChatStreamReader()
