"""Context for language models: cached answers, shorter conversations, model lists, memory.

Each part stands alone and needs no gateway around it. SmartCache keeps exact answers, whole
streams included, bounded in entries, bytes and time, with the tenant in every key.
ContextCondenser makes conversations shorter without losing anything. TokenCounter counts,
ModelCache remembers what a provider offers, MemoryManager sheds when the process runs short.

>>> from proxy_context import SmartCache
>>> cache = SmartCache(max_size=1000, ttl=3600)
>>> cache.set("greeting", b"hello"), cache.get("greeting")
(True, b'hello')
"""

from __future__ import annotations

from proxy_context._cache import CacheStats, NoCache, ResponseCache, SmartCache
from proxy_context._condenser import (
    Condensed,
    CondenserSettings,
    ContextCondenser,
    KeepsContext,
    Segment,
)
from proxy_context._keys import CacheKey
from proxy_context._memory import (
    Holder,
    HolderReport,
    MemoryManager,
    MemoryReport,
    MemorySettings,
    Pressure,
)
from proxy_context._models import ModelCache, ModelCacheSettings, ModelFetch, ModelKey, ModelList
from proxy_context._recording import Recording
from proxy_context._store import Entry
from proxy_context._tokens import Encoder, TokenCounter, estimate_tokens
from proxy_context._usage import memory_limit, read_rss
from proxy_context._version import __version__
from proxy_context.errors import ContextError

__all__ = [
    "CacheKey",
    "CacheStats",
    "Condensed",
    "CondenserSettings",
    "ContextCondenser",
    "ContextError",
    "Encoder",
    "Entry",
    "Holder",
    "HolderReport",
    "KeepsContext",
    "MemoryManager",
    "MemoryReport",
    "MemorySettings",
    "ModelCache",
    "ModelCacheSettings",
    "ModelFetch",
    "ModelKey",
    "ModelList",
    "NoCache",
    "Pressure",
    "Recording",
    "ResponseCache",
    "Segment",
    "SmartCache",
    "TokenCounter",
    "__version__",
    "estimate_tokens",
    "memory_limit",
    "read_rss",
]
