"""What models take, as data: facts with a source, the first row that fits counts.

An operator's own words come before (``abilities`` of a provider). What no row knows takes
everything that its dialect has a word for: a target judges best what it can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from proxy_core.dialects._abilities import Abilities
from proxy_core.errors import ConfigurationError

__all__ = ["KnownModels", "abilities_of"]

_MOST: Final = 512
"""Names of models that are remembered; they may be a client's."""

_WANTED: Final = MappingProxyType(
    {
        str(bool): "true or false",
        str(str): "text",
        str(int | None): "a whole number",
        str(float | None): "a number",
    }
)
"""By the type of an ability."""

_with = msgspec.structs.replace


class _Row(NamedTuple):
    can: Abilities
    models: tuple[str, ...] = ("*",)
    """Patterns of a model's name in small letters, without what stands before its last slash."""
    kinds: tuple[str, ...] = ("*",)


# --- Anthropic: https://platform.claude.com/docs/en/about-claude/models/overview for the output,
# /docs/en/build-with-claude/effort, /adaptive-thinking and /extended-thinking for the rest.

_CLAUDE: Final = Abilities(
    max_temperature=1.0,
    penalties=False,
    seed=False,
    logit_bias=False,
    logprobs=False,
    many_answers=False,
    json_object=False,
    open_schemas=False,
    late_system=False,
    sampling_while_reasoning=False,
    reasoning=("budget",),
    output_cap=4096,
)
# "`temperature` and `top_p` cannot both be specified for this model": since Opus 4.1.
_CLAUDE_4: Final = _with(_CLAUDE, temperature_and_top_p=False)
_CLAUDE_EFFORTS: Final = ("none", "low", "medium", "high")
_CLAUDE_NOW: Final = _with(
    _CLAUDE,
    temperature=False,
    top_p=False,
    top_k=False,
    reasoning=("effort", "adaptive"),
    efforts=(*_CLAUDE_EFFORTS, "xhigh", "max"),
    output_cap=128_000,
)
# System messages among the others: /docs/en/build-with-claude/mid-conversation-system-messages.
_CLAUDE_4_8: Final = _with(_CLAUDE_NOW, late_system=True)
_CLAUDE_4_6: Final = _with(
    _CLAUDE_4,
    reasoning=("effort", "adaptive", "budget"),
    efforts=(*_CLAUDE_EFFORTS, "max"),
    output_cap=128_000,
)
_CLAUDE_ROWS: Final = (
    _Row(_CLAUDE_4_6, ("*claude-opus-4[-.]6*", "*claude-sonnet-4[-.]6*")),
    _Row(
        _with(
            _CLAUDE_4, reasoning=("budget", "effort"), efforts=_CLAUDE_EFFORTS, output_cap=64_000
        ),
        ("*claude-opus-4[-.]5*",),
    ),
    _Row(_CLAUDE_NOW, ("*claude-opus-4[-.]7*", "*claude-mythos-preview*")),
    _Row(_CLAUDE_4_8, ("*claude-opus-4[-.][89]*", "*claude-mythos*", "*claude-fable*")),
    _Row(_CLAUDE_4_8, ("*claude-opus-[5-9]*", "*claude-sonnet-[5-9]*", "*claude-haiku-[5-9]*")),
    _Row(_with(_CLAUDE_4, output_cap=32_000), ("*claude-opus-4*",)),
    _Row(_with(_CLAUDE_4, output_cap=64_000), ("*claude-sonnet-4*", "*claude-haiku-4*")),
    _Row(_with(_CLAUDE, output_cap=64_000), ("*claude-3[-.]7-sonnet*",)),
    _Row(_with(_CLAUDE, reasoning=(), output_cap=8192), ("*claude-3[-.]5-*",)),
    _Row(_with(_CLAUDE, reasoning=()), ("*claude-3-*",)),
)

# "URL sources are not supported": pictures and documents reach Claude there as bytes alone.
_CLAUDE_ON_CLOUDS: Final = tuple(
    row._replace(can=_with(row.can, image_urls=False), kinds=("bedrock", "vertex"))
    for row in (*_CLAUDE_ROWS, _Row(_CLAUDE))
)

_CLAUDE_4_6_ON_BEDROCK: Final = _Row(
    _with(_CLAUDE_4_6, reasoning=("effort", "adaptive")),
    ("*claude-opus-4[-.]6*", "*claude-sonnet-4[-.]6*"),
)
"""Budgets are deprecated there: https://docs.aws.amazon.com/bedrock/latest/userguide/
claude-messages-adaptive-thinking.html"""

# --- Google: https://ai.google.dev/gemini-api/docs/thinking

_GEMINI: Final = Abilities(most_stops=5, logit_bias=False)
_LEVELS: Final = ("low", "medium", "high")
_GEMINI_ROWS: Final = (
    _Row(_with(_GEMINI, reasoning=("effort",), efforts=("low", "high")), ("gemini-3-pro*",)),
    _Row(
        _with(_GEMINI, reasoning=("effort",), efforts=_LEVELS),
        ("gemini-3.[1-9]-pro*", "gemini-3.[78]-flash*", "gemini-[4-9]*"),
    ),
    _Row(_with(_GEMINI, reasoning=("effort",), efforts=("minimal", *_LEVELS)), ("gemini-3*",)),
    _Row(
        _with(_GEMINI, reasoning=("budget",), least_budget=128, efforts=("minimal", *_LEVELS)),
        ("gemini-2.5-pro*",),
    ),
    _Row(_with(_GEMINI, reasoning=("budget",), least_budget=512), ("gemini-2.5-flash-lite*",)),
    _Row(_with(_GEMINI, reasoning=("budget",), least_budget=1), ("gemini-2.5*",)),
    _Row(_with(_GEMINI, reasoning=()), ("gemini-2*", "gemini-1*")),
)

# --- OpenAI: https://platform.openai.com/docs/guides/reasoning and /latest-model

# Its cache needs no marks, and another provider's are refused: "Unknown parameter".
_OPENAI: Final = Abilities(
    max_temperature=2.0,
    top_k=False,
    most_stops=4,
    reasoning=("effort",),
    reasoning_back=False,
    cache_marks=False,
)
_THINKER: Final = _with(
    _OPENAI,
    temperature=False,
    top_p=False,
    penalties=False,
    logprobs=False,
    logit_bias=False,
    most_stops=0,
)
_OPENAI_ROWS: Final = (
    _Row(_with(_OPENAI, reasoning=()), ("gpt-4*", "gpt-3*", "chatgpt-*", "gpt-5-chat*")),
    _Row(_with(_THINKER, efforts=("high",)), ("gpt-5-pro*",)),
    _Row(
        _with(_OPENAI, sampling_while_reasoning=False, efforts=("none", "low", "medium", "high")),
        ("gpt-5.1*",),
    ),
    _Row(
        _with(
            _OPENAI,
            sampling_while_reasoning=False,
            efforts=("none", "low", "medium", "high", "xhigh"),
        ),
        ("gpt-5.[2-9]*", "gpt-[6-9]*"),
    ),
    _Row(_with(_THINKER, efforts=("minimal", "low", "medium", "high")), ("gpt-5*",)),
    _Row(_with(_THINKER, efforts=("low", "medium", "high")), ("o1*", "o3*", "o4*")),
)

# --- Who speaks OpenAI's chat: the older name of the cap is the one that all of them know.

_COMPATIBLE: Final = Abilities(cap_field="max_tokens", reasoning=("effort",))
# They refuse what they don't know by name, among it thinking that comes back:
# https://github.com/BerriAI/litellm/issues/30835, https://github.com/janhq/jan/issues/8136,
# https://github.com/anomalyco/opencode/issues/33413, https://github.com/Gitlawb/openclaude/issues/740
_STRICT: Final = _with(
    _COMPATIBLE, reasoning_back=False, store=False, cache_key=False, cache_marks=False
)
_NO_FILES: Final = _with(_COMPATIBLE, files=False)
_XAI: Final = _with(_COMPATIBLE, penalties=False, most_stops=0, logit_bias=False)
_COMPATIBLE_ROWS: Final = (
    *(row._replace(kinds=("openai", "azure", "github")) for row in _OPENAI_ROWS),
    _Row(_OPENAI, kinds=("openai", "azure")),
    # https://docs.mistral.ai/api: a field that it doesn't know is an error
    _Row(
        _with(
            _STRICT,
            seed=False,
            logit_bias=False,
            logprobs=False,
            top_k=False,
            reasoning=(),
            call_id_size=9,  # "Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9"
            service_tiers=False,
            user=False,
            audio=False,
            video=False,
        ),
        kinds=("mistral",),
    ),
    # https://console.groq.com/docs/openai
    _Row(_with(_STRICT, logprobs=False, logit_bias=False, many_answers=False), kinds=("groq",)),
    # https://api-docs.deepseek.com/api/create-chat-completion
    _Row(
        _with(
            _NO_FILES,
            images=False,
            audio=False,
            video=False,
            json_schema=False,
            many_answers=False,
            logit_bias=False,
            seed=False,
        ),
        kinds=("deepseek",),
    ),
    # https://docs.x.ai/docs/guides/reasoning
    _Row(_with(_XAI, efforts=("low", "high")), ("grok-3-mini*",), ("xai",)),
    _Row(
        _with(_XAI, reasoning=()), ("grok-4", "grok-4-0*", "grok-4-fast*", "grok-code*"), ("xai",)
    ),
    # https://inference-docs.cerebras.ai/resources/openai
    _Row(
        _with(_STRICT, files=False, penalties=False, logit_bias=False, many_answers=False),
        kinds=("cerebras",),
    ),
    # "Extra inputs are not permitted": https://github.com/musistudio/claude-code-router/issues/377
    _Row(_with(_COMPATIBLE, cache_marks=False), kinds=("fireworks",)),
    # https://docs.perplexity.ai/api-reference/chat-completions-post
    _Row(
        _with(
            _COMPATIBLE,
            tools=False,
            seed=False,
            logit_bias=False,
            logprobs=False,
            many_answers=False,
            json_object=False,
        ),
        kinds=("perplexity",),
    ),
    # https://platform.moonshot.ai/docs/guide/migrating-from-openai-to-kimi
    _Row(_with(_NO_FILES, max_temperature=1.0, forced_tools=False), kinds=("moonshot",)),
    # https://docs.z.ai/api-reference/llm/chat-completion
    _Row(
        _with(_NO_FILES, max_temperature=1.0, forced_tools=False, most_stops=1),
        kinds=("zai", "zhipu"),
    ),
    # https://platform.minimax.io/docs/api-reference/text-openai-api
    _Row(_with(_NO_FILES, max_temperature=1.0, many_answers=False), kinds=("minimax",)),
    # https://docs.ollama.com/api/openai-compatibility
    _Row(
        _with(
            _NO_FILES,
            logit_bias=False,
            many_answers=False,
            forced_tools=False,
            user=False,
            image_urls=False,
        ),
        kinds=("ollama",),
    ),
    _Row(_NO_FILES, kinds=("vllm", "llamacpp", "lmstudio")),
    _Row(_COMPATIBLE),
)

_NOVA: Final = Abilities(top_k_field="inferenceConfig.topK", reasoning=())
_HOSTED: Final = Abilities(cache_marks=False, top_k=False, reasoning=())
_BEDROCK_ROWS: Final = (
    # The highest effort goes with no temperature, top_p and cap.
    _Row(
        _with(
            _NOVA,
            reasoning=("effort",),
            efforts=("none", "low", "medium"),
            effort_field="reasoningConfig.maxReasoningEffort",
        ),
        ("*amazon.nova-2*",),
    ),
    _Row(_NOVA, ("*amazon.nova*",)),
    _Row(
        _with(
            _HOSTED,
            reasoning=("effort",),
            efforts=("low", "medium", "high"),
            effort_field="reasoning_effort",
        ),
        ("*openai.*",),
    ),
    _Row(_with(_HOSTED, top_k=True, top_k_field="k"), ("*cohere.*",)),
    _Row(_with(_HOSTED, top_k=True), ("*mistral.mistral-7b*", "*mistral.mixtral*")),
    _Row(
        _HOSTED,
        ("*meta.*", "*mistral.*", "*ai21.*", "*deepseek.*", "*qwen.*", "*writer.*", "*titan-*"),
    ),
)
"""Only Claude and Nova take cache points, and Claude's own fields are Claude's alone; what stands
behind a profile's ARN isn't known, and gets what Claude gets:
https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html and /model-parameters.html,
https://docs.aws.amazon.com/nova/latest/userguide/using-converse-api.html and
/nova2-userguide/using-converse-api.html"""
_COHERE: Final = Abilities(
    max_temperature=1.0, most_stops=5, many_answers=False, logit_bias=False, reasoning=("budget",)
)
"""https://docs.cohere.com/reference/chat"""
_OLLAMA: Final = Abilities(
    many_answers=False, logit_bias=False, forced_tools=False, image_urls=False, files=False
)
"""https://github.com/ollama/ollama/blob/main/docs/api.md"""

_ROWS: Final[Mapping[str, tuple[_Row, ...]]] = MappingProxyType(
    {
        "anthropic.messages": (*_CLAUDE_ON_CLOUDS, *_CLAUDE_ROWS, _Row(_CLAUDE)),
        "bedrock.converse": (_CLAUDE_4_6_ON_BEDROCK, *_CLAUDE_ROWS, *_BEDROCK_ROWS),
        "gemini.generate": (*_GEMINI_ROWS, _Row(_GEMINI)),
        "openai.chat": _COMPATIBLE_ROWS,
        "openai.responses": (
            *(row._replace(kinds=("openai", "azure")) for row in _OPENAI_ROWS),
            _Row(Abilities(top_k=False, reasoning=("effort",))),
        ),
        "cohere.chat": (_Row(_COHERE),),
        "ollama.chat": (_Row(_OLLAMA),),
    }
)


def abilities_of(kind: str, dialect: str, model: str) -> Abilities:
    """What is known of a model; ``model`` is the upstream's name."""
    name = model.lower().rpartition("/")[2]
    for row in _ROWS.get(dialect, ()):
        if _fits(kind, row.kinds) and _fits(name, row.models):
            return row.can
    return Abilities()


class KnownModels:
    """The same for one provider, with what its operator says.

    ``overrides``: by pattern of the upstream's name, fields of ``Abilities``; all patterns that fit
    count, the last one most. Raises ConfigurationError for a field or a value that is none.
    """

    def __init__(self, kind: str, overrides: Mapping[str, Mapping[str, Any]]) -> None:
        self._kind = kind
        self._overrides = {
            pattern: _checked(pattern, fields) for pattern, fields in overrides.items()
        }
        self._known: dict[tuple[str, str], Abilities] = {}

    def abilities(self, dialect: str, model: str) -> Abilities:
        known = self._known.get((dialect, model))
        if known is None:
            known = abilities_of(self._kind, dialect, model)
            for pattern, fields in self._overrides.items():
                if fnmatchcase(model, pattern):
                    known = _with(known, **fields)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[dialect, model] = known
        return known


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _checked(pattern: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name: field.type for field in msgspec.structs.fields(Abilities)}
    return {name: _one(pattern, name, value, known) for name, value in fields.items()}


def _one(pattern: str, name: str, value: object, known: Mapping[str, Any]) -> Any:
    """The value of an ability, as it is kept. Raises ConfigurationError."""
    if name not in known:
        raise ConfigurationError(
            f"For {pattern!r} there is no ability {name!r}: use some of {', '.join(known)}.",
            param="abilities",
        )
    try:
        return msgspec.convert(value, known[name])
    except msgspec.ValidationError:
        wanted = _WANTED.get(str(known[name]), "a list of words")
        raise ConfigurationError(
            f"For {pattern!r}, {name} is {value!r}: it must be {wanted}.", param="abilities"
        ) from None
