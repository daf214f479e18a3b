"""Amazon Bedrock: Converse as a provider speaks it, and the framing of AWS event streams.

Its form: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from typing import Final

from proxy_core.dialects._bedrock._converse import ConverseCodec, converse_path, invoke_path
from proxy_core.dialects._bedrock._framing import AnthropicChunksFraming, EventStreamFraming

__all__ = [
    "CONVERSE_CODEC",
    "AnthropicChunksFraming",
    "ConverseCodec",
    "EventStreamFraming",
    "converse_path",
    "invoke_path",
]

CONVERSE_CODEC: Final = ConverseCodec()
