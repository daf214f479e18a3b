"""The providers, one row each. Adding one that speaks a known dialect is adding a line.

Base URLs, dialects and headers are as each provider's own documentation says them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy_core.providers._row import BodyEdits, Paths, ProviderRow

__all__ = ["ROWS", "ProviderRow"]

_ALL: Final = ("openai.chat", "openai.completions", "openai.embeddings")
_RESPONSES: Final = (*_ALL, "openai.responses")
_NO_LEGACY: Final = ("openai.chat", "openai.embeddings")
_CHAT: Final = ("openai.chat",)
_CHAT_RESPONSES: Final = ("openai.chat", "openai.responses")
_MESSAGES: Final = ("anthropic.messages", "anthropic.count_tokens")
_GENERATE: Final = ("gemini.generate", "gemini.count_tokens")

_ANTHROPIC_HEADERS: Final = frozenset({b"anthropic-beta", b"anthropic-version"})
_ANTHROPIC_VERSION: Final = MappingProxyType({"anthropic-version": "2023-06-01"})

_ENGINES: Final = (
    ProviderRow("openai_compatible", None, needs_key=False),
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    ProviderRow("vllm", "http://127.0.0.1:8000/v1", _RESPONSES, needs_key=False),
    # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    ProviderRow(
        "llamacpp",
        "http://127.0.0.1:8080/v1",
        (*_RESPONSES, *_MESSAGES),
        needs_key=False,
        passes=_ANTHROPIC_HEADERS,
    ),
    # https://docs.ollama.com/api/openai-compatibility
    ProviderRow("ollama", "http://127.0.0.1:11434/v1", _RESPONSES, needs_key=False),
    # https://docs.ollama.com/api/chat
    ProviderRow(
        "ollama_native",
        "http://127.0.0.1:11434",
        ("ollama.chat", "ollama.embed"),
        needs_key=False,
        paths={"ollama.chat": Paths("/api/chat")},
    ),
    # https://lmstudio.ai/docs/developer/openai-compat
    ProviderRow("lmstudio", "http://127.0.0.1:1234/v1", _RESPONSES, needs_key=False),
)

_PASSED_AT: Final = {
    "openai.images": "/images/generations",
    "openai.image_edits": "/images/edits",
    "openai.speech": "/audio/speech",
    "openai.transcriptions": "/audio/transcriptions",
    "openai.translations": "/audio/translations",
}
"""Of what is never translated, what Azure has."""
_AZURE_V1: Final = MappingProxyType(
    {
        **{name: Paths(f"/openai/v1{path}") for name, path in _PASSED_AT.items()},
        "openai.chat": Paths("/openai/v1/chat/completions"),
        "openai.completions": Paths("/openai/v1/completions"),
        "openai.embeddings": Paths("/openai/v1/embeddings"),
        "openai.responses": Paths("/openai/v1/responses"),
    }
)
_DEPLOYMENT: Final = "/openai/deployments/{model}"
_AZURE_CLASSIC: Final = MappingProxyType(
    {
        **{
            name: Paths(f"{_DEPLOYMENT}{path}?api-version={{api_version}}")
            for name, path in _PASSED_AT.items()
        },
        "openai.chat": Paths(f"{_DEPLOYMENT}/chat/completions?api-version={{api_version}}"),
        "openai.completions": Paths(f"{_DEPLOYMENT}/completions?api-version={{api_version}}"),
        "openai.embeddings": Paths(f"{_DEPLOYMENT}/embeddings?api-version={{api_version}}"),
        "openai.responses": Paths("/openai/responses?api-version={api_version}"),
    }
)

_VERTEX: Final = "/v1/projects/{project}/locations/{location}/publishers"
_VERTEX_PATHS: Final = MappingProxyType(
    {
        "gemini.generate": Paths(
            f"{_VERTEX}/google/models/{{model}}:generateContent",
            f"{_VERTEX}/google/models/{{model}}:streamGenerateContent?alt=sse",
        ),
        "gemini.count_tokens": Paths(f"{_VERTEX}/google/models/{{model}}:countTokens"),
        "anthropic.messages": Paths(
            f"{_VERTEX}/anthropic/models/{{model}}:rawPredict",
            f"{_VERTEX}/anthropic/models/{{model}}:streamRawPredict",
        ),
        "anthropic.count_tokens": Paths(f"{_VERTEX}/anthropic/models/count-tokens:rawPredict"),
        "vertex.embed": Paths(f"{_VERTEX}/google/models/{{model}}:predict"),
    }
)
_BEDROCK_PATHS: Final = MappingProxyType(
    {
        "anthropic.messages": Paths(
            "/model/{model}/invoke", "/model/{model}/invoke-with-response-stream"
        ),
        "bedrock.converse": Paths("/model/{model}/converse", "/model/{model}/converse-stream"),
    }
)

_BEDROCK_EMBEDS: Final = MappingProxyType(
    {
        "bedrock.titan_embed": ("amazon.titan-embed*", "*.amazon.titan-embed*"),
        "bedrock.cohere_embed": ("cohere.embed*", "*.cohere.embed*"),
    }
)

_CLOUDS: Final = (
    # https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
    ProviderRow(
        "azure",
        None,
        (*_RESPONSES, *_PASSED_AT),
        "AZURE_OPENAI_API_KEY",
        customs=True,
        auth_header="api-key",
        paths=_AZURE_V1,
        versioned_paths=_AZURE_CLASSIC,
    ),
    # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference and
    # https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai
    ProviderRow(
        "vertex",
        "https://{location}-aiplatform.googleapis.com",
        (*_MESSAGES, *_GENERATE, "vertex.embed"),
        needs_key=False,
        auth_header="x-goog-api-key",
        passes=frozenset({b"anthropic-beta"}),
        paths=_VERTEX_PATHS,
        bodies={
            "anthropic.messages": BodyEdits(
                without=("model",),
                default={"anthropic_version": "vertex-2023-10-16"},
                marks_last=True,
            ),
            "anthropic.count_tokens": BodyEdits(default={"anthropic_version": "vertex-2023-10-16"}),
        },
        only={
            "anthropic.messages": ("claude*",),
            "anthropic.count_tokens": ("claude*",),
            "gemini.generate": ("!claude*",),
            "gemini.count_tokens": ("!claude*",),
        },
        counts_flat=True,
        signer="google",
        needs=("project", "location"),
    ),
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
    # https://platform.claude.com/docs/en/build-with-claude/claude-on-amazon-bedrock
    ProviderRow(
        "bedrock",
        "https://bedrock-runtime.{region}.amazonaws.com",
        ("anthropic.messages", "bedrock.converse", *_BEDROCK_EMBEDS),
        "AWS_BEARER_TOKEN_BEDROCK",
        needs_key=False,
        paths=_BEDROCK_PATHS,
        framings={"anthropic.messages": "aws_chunks"},
        bodies={
            "anthropic.messages": BodyEdits(
                without=("model", "stream"),
                default={"anthropic_version": "bedrock-2023-05-31"},
                lists={b"anthropic-beta": "anthropic_beta"},
                marks_last=True,
            )
        },
        only={"anthropic.messages": ("anthropic.*", "*.anthropic.*"), **_BEDROCK_EMBEDS},
        signer="aws",
        needs=("region",),
    ),
)

_MAKERS: Final = (
    ProviderRow(
        "openai",
        "https://api.openai.com/v1",
        _RESPONSES,
        "OPENAI_API_KEY",
        customs=True,
        keeps_files=True,
    ),
    # https://platform.claude.com/docs/en/api/overview
    ProviderRow(
        "anthropic",
        "https://api.anthropic.com",
        _MESSAGES,
        "ANTHROPIC_API_KEY",
        auth_header="x-api-key",
        headers=_ANTHROPIC_VERSION,
        passes=_ANTHROPIC_HEADERS,
    ),
    # https://ai.google.dev/api
    ProviderRow(
        "gemini",
        "https://generativelanguage.googleapis.com",
        (*_GENERATE, "gemini.embed"),
        "GEMINI_API_KEY",
        auth_header="x-goog-api-key",
    ),
    # https://docs.cohere.com/reference/chat
    ProviderRow(
        "cohere",
        "https://api.cohere.com",
        ("cohere.chat", "cohere.embed", "rerank"),
        "CO_API_KEY",
        paths={"cohere.chat": Paths("/v2/chat"), "rerank": Paths("/v2/rerank")},
    ),
    # Mistral refuses fields that it doesn't know, and reports usage unasked.
    ProviderRow(
        "mistral", "https://api.mistral.ai/v1", _NO_LEGACY, "MISTRAL_API_KEY", asks_usage=False
    ),
    ProviderRow("deepseek", "https://api.deepseek.com/v1", _CHAT, "DEEPSEEK_API_KEY"),
    # https://docs.x.ai/docs/api-reference
    ProviderRow("xai", "https://api.x.ai/v1", _CHAT_RESPONSES, "XAI_API_KEY"),
    ProviderRow("moonshot", "https://api.moonshot.ai/v1", _CHAT, "MOONSHOT_API_KEY"),
    ProviderRow("zai", "https://api.z.ai/api/paas/v4", _CHAT, "ZAI_API_KEY"),
    ProviderRow("zhipu", "https://open.bigmodel.cn/api/paas/v4", _NO_LEGACY, "ZHIPUAI_API_KEY"),
    ProviderRow(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        _NO_LEGACY,
        "DASHSCOPE_API_KEY",
    ),
    ProviderRow("minimax", "https://api.minimax.io/v1", _CHAT, "MINIMAX_API_KEY"),
    ProviderRow(
        "volcengine", "https://ark.cn-beijing.volces.com/api/v3", _NO_LEGACY, "ARK_API_KEY"
    ),
)

_HOSTS: Final = (
    # https://openrouter.ai/docs/api-reference/responses-api/overview
    ProviderRow(
        "openrouter",
        "https://openrouter.ai/api/v1",
        _RESPONSES,
        "OPENROUTER_API_KEY",
    ),
    # https://console.groq.com/docs/responses-api
    ProviderRow("groq", "https://api.groq.com/openai/v1", _CHAT_RESPONSES, "GROQ_API_KEY"),
    ProviderRow("together", "https://api.together.xyz/v1", key_variable="TOGETHER_API_KEY"),
    # https://docs.fireworks.ai/api-reference/post-responses
    ProviderRow(
        "fireworks", "https://api.fireworks.ai/inference/v1", _RESPONSES, "FIREWORKS_API_KEY"
    ),
    ProviderRow("deepinfra", "https://api.deepinfra.com/v1/openai", _ALL, "DEEPINFRA_API_KEY"),
    ProviderRow(
        "cerebras",
        "https://api.cerebras.ai/v1",
        ("openai.chat", "openai.completions"),
        "CEREBRAS_API_KEY",
    ),
    ProviderRow("perplexity", "https://api.perplexity.ai", _CHAT, "PERPLEXITY_API_KEY"),
    ProviderRow("nvidia", "https://integrate.api.nvidia.com/v1", _ALL, "NVIDIA_API_KEY"),
    ProviderRow("sambanova", "https://api.sambanova.ai/v1", _NO_LEGACY, "SAMBANOVA_API_KEY"),
    ProviderRow("huggingface", "https://router.huggingface.co/v1", _CHAT, "HF_TOKEN"),
    ProviderRow("github", "https://models.github.ai/inference", _NO_LEGACY, "GITHUB_TOKEN"),
    ProviderRow("hyperbolic", "https://api.hyperbolic.xyz/v1", _CHAT, "HYPERBOLIC_API_KEY"),
    ProviderRow("novita", "https://api.novita.ai/openai/v1", _ALL, "NOVITA_API_KEY"),
    ProviderRow("nebius", "https://api.tokenfactory.nebius.com/v1", _ALL, "NEBIUS_API_KEY"),
    ProviderRow("baseten", "https://inference.baseten.co/v1", _CHAT, "BASETEN_API_KEY"),
    ProviderRow(
        "featherless",
        "https://api.featherless.ai/v1",
        ("openai.chat", "openai.completions"),
        "FEATHERLESS_API_KEY",
    ),
    ProviderRow("siliconflow", "https://api.siliconflow.com/v1", _NO_LEGACY, "SILICONFLOW_API_KEY"),
    ProviderRow("scaleway", "https://api.scaleway.ai/v1", _NO_LEGACY, "SCW_SECRET_KEY"),
)

ROWS: Final[Mapping[str, ProviderRow]] = MappingProxyType(
    {row.kind: row for row in (*_MAKERS, *_ENGINES, *_CLOUDS, *_HOSTS)}
)
