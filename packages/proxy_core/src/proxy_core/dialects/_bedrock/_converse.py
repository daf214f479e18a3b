"""The codec of Converse, and where it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._bedrock._answer import read_answer
from proxy_core.dialects._bedrock._request import write_request
from proxy_core.dialects._bedrock._stream import ConverseReader
from proxy_core.dialects._canonical import Answer, Conversation
from proxy_core.dialects._codec import Losses, StreamReader

__all__ = ["ConverseCodec", "converse_path", "invoke_path"]


class ConverseCodec:
    """Requests and answers of Converse and ConverseStream."""

    dialect = "bedrock.converse"

    def write_request(
        self, conversation: Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        """The body. The model and whether to stream stand in the path alone."""
        return write_request(conversation, can, losses)

    def read_answer(self, body: Mapping[str, Any]) -> Answer:
        return read_answer(body)

    def stream_reader(self) -> StreamReader:
        return ConverseReader()


def converse_path(model: str, *, stream: bool) -> str:
    """Where a model's id or ARN is asked, encoded as AWS's own clients encode it."""
    return f"/model/{quote(model, safe='-._~')}/{'converse-stream' if stream else 'converse'}"


def invoke_path(model: str, *, stream: bool) -> str:
    """The same for InvokeModel, which takes the model's own dialect."""
    verb = "invoke-with-response-stream" if stream else "invoke"
    return f"/model/{quote(model, safe='-._~')}/{verb}"
