"""What each dialect can carry of a request and of an answer: written from the providers' own pages.

It is data for the tests of the translation, and the matrix that docs/dialects.md shows. A cell is
``yes``; ``lossy``, where it arrives changed (``HOW`` says how); or ``no``, for the reason that the
page under ``PAGES`` has no word for it. ``-`` is a question that does not arise there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = [
    "ANSWERS",
    "CLIENTS",
    "DIALECTS",
    "HOW",
    "PAGES",
    "REQUESTS",
    "STOPS",
    "USAGE",
    "cell",
    "matrix",
]

DIALECTS: Final = (
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "gemini.generate",
    "bedrock.converse",
    "ollama.chat",
    "cohere.chat",
)
CLIENTS: Final = DIALECTS[:4]

PAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai.chat": "https://platform.openai.com/docs/api-reference/chat/create",
        "openai.responses": "https://platform.openai.com/docs/api-reference/responses/create",
        "anthropic.messages": "https://platform.claude.com/docs/en/api/messages",
        "gemini.generate": "https://ai.google.dev/api/generate-content",
        "bedrock.converse": (
            "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html"
        ),
        "ollama.chat": "https://docs.ollama.com/api/chat",
        "cohere.chat": "https://docs.cohere.com/reference/chat",
    }
)

_REQUESTS: Final = """
                        chat   resp   anthr  gemini bedr   ollama cohere
    text.system         yes    yes    yes    yes    yes    yes    yes
    text.late_system    yes    yes    lossy  lossy  lossy  yes    yes
    text.user           yes    yes    yes    yes    yes    yes    yes
    text.assistant      yes    yes    yes    yes    yes    yes    yes
    role.developer      lossy  yes    lossy  lossy  lossy  lossy  lossy
    name                yes    no     no     no     no     no     no
    refusal             yes    yes    lossy  lossy  lossy  lossy  lossy
    citations           no     yes    lossy  no     no     no     no
    image.base64        yes    yes    yes    yes    yes    yes    yes
    image.url           yes    yes    yes    yes    no     no     yes
    image.file          lossy  yes    yes    no     no     no     no
    image.of_model      yes    yes    no     yes    no     yes    no
    image.detail        yes    yes    no     no     no     no     yes
    file.base64         yes    yes    yes    yes    yes    no     no
    file.url            lossy  yes    yes    yes    no     no     no
    file.file           yes    yes    yes    no     no     no     no
    file.text           lossy  lossy  yes    lossy  lossy  lossy  lossy
    file.text_bytes     yes    yes    lossy  yes    yes    no     no
    audio.base64        yes    no     no     yes    yes    no     no
    call                yes    yes    yes    yes    yes    yes    yes
    call.id             yes    yes    yes    yes    yes    lossy  yes
    call.odd_id         yes    yes    yes    yes    lossy  lossy  yes
    call.custom         yes    yes    lossy  lossy  lossy  lossy  lossy
    result              yes    yes    yes    yes    yes    yes    yes
    result.id           yes    yes    yes    yes    yes    lossy  yes
    result.odd_id       yes    yes    yes    yes    lossy  lossy  yes
    result.is_error     no     no     yes    yes    yes    no     no
    result.image        lossy  yes    yes    yes    yes    no     no
    reasoning.own       yes    yes    yes    yes    yes    -      -
    reasoning.foreign   no     no     no     no     no     lossy  lossy
    reasoning.unsigned  yes    no     no     no     no     yes    yes
    signature.own       yes    -      -      yes    -      -      -
    signature.foreign   no     no     no     no     no     no     no
    cache               yes    no     yes    no     yes    no     no
    tool                yes    yes    yes    yes    yes    yes    yes
    tool.strict         yes    yes    yes    no     yes    no     lossy
    tool.custom         yes    yes    no     no     no     no     no
    tool.cache          yes    no     yes    no     yes    no     no
    choice.required     yes    yes    yes    yes    yes    no     yes
    choice.none         yes    yes    yes    yes    lossy  lossy  yes
    choice.named        yes    yes    yes    yes    yes    no     lossy
    choice.several      yes    yes    no     yes    lossy  no     lossy
    one_call_at_a_time  yes    yes    yes    no     no     no     no
    max_tokens          yes    yes    yes    yes    yes    yes    yes
    temperature         yes    yes    yes    yes    yes    yes    yes
    top_p               yes    yes    yes    yes    yes    yes    yes
    top_k               yes    no     yes    yes    yes    yes    yes
    presence_penalty    yes    no     no     yes    no     yes    yes
    frequency_penalty   yes    no     no     yes    no     yes    yes
    seed                yes    no     no     yes    no     yes    yes
    logit_bias          yes    no     no     no     no     no     no
    logprobs            yes    yes    no     yes    no     lossy  lossy
    top_logprobs        yes    yes    no     yes    no     lossy  no
    stop                yes    no     yes    yes    yes    yes    yes
    n                   yes    no     no     yes    no     no     no
    output.json         yes    yes    no     yes    no     yes    yes
    output.schema       yes    yes    yes    yes    yes    yes    yes
    speech              yes    no     no     yes    no     no     no
    effort              yes    yes    yes    yes    lossy  yes    lossy
    budget              lossy  lossy  yes    yes    yes    lossy  yes
    no_reasoning        yes    yes    yes    yes    yes    yes    yes
    verbosity           yes    yes    no     no     no     no     no
    tier.flex           yes    yes    no     yes    yes    no     no
    user                yes    yes    yes    no     no     no     no
    metadata            yes    yes    no     lossy  yes    no     no
    cache_key           yes    yes    no     no     no     no     no
    cache_all           yes    no     yes    no     lossy  no     no
    store               yes    yes    no     no     no     no     no
"""

_ANSWERS: Final = """
                        chat   resp   anthr  gemini
    text                yes    yes    yes    yes
    several_choices     yes    no     no     yes
    order_of_parts      lossy  yes    yes    yes
    reasoning           yes    yes    yes    yes
    call                yes    yes    yes    yes
    refusal             yes    yes    lossy  lossy
    citation.url        yes    yes    yes    lossy
    image               yes    yes    lossy  yes
    logprobs            yes    yes    no     yes
    stop_sequence       no     no     yes    no
"""

_USAGE: Final = """
                        chat   resp   anthr  gemini bedr   ollama cohere
    input_tokens        yes    yes    yes    yes    yes    yes    yes
    output_tokens       yes    yes    yes    yes    yes    yes    yes
    cached_tokens       yes    yes    yes    yes    yes    no     yes
    cache_write_tokens  yes    yes    yes    no     yes    no     no
    cache_write_1h_tokens no   no     lossy  no     yes    no     no
    reasoning_tokens    yes    yes    yes    yes    no     no     no
    audio_input_tokens  yes    no     no     yes    no     no     no
    audio_output_tokens yes    no     no     yes    no     no     no
"""

HOW: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("text.late_system", ""): "as the user's text, marked as the system's",
        ("text.late_system", "anthropic.messages"): "behind the user's where the model takes it, "
        "else as the user's text, marked as the system's",
        ("image", "anthropic.messages"): "its address, else a note that it was left out",
        ("role.developer", ""): "as the system's",
        ("refusal", ""): "as text",
        ("citations", "anthropic.messages"): "its own alone, and those that are whole",
        ("image.file", "openai.chat"): "as a file",
        ("file.url", "openai.chat"): "the address stands where the bytes would",
        ("file.text", ""): "its words as text, or as base64 of text/plain",
        ("file.text_bytes", "anthropic.messages"): "as the text that the bytes are",
        ("call.id", "ollama.chat"): "results follow their calls' order and name",
        ("result.id", "ollama.chat"): "by the name of the tool",
        ("call.odd_id", "bedrock.converse"): "another one, the same for its result",
        ("result.odd_id", "bedrock.converse"): "another one, the same as of its call",
        ("call.odd_id", "ollama.chat"): "results follow their calls' order and name",
        ("result.odd_id", "ollama.chat"): "by the name of the tool",
        ("call.custom", ""): "as a function's call with one field, input",
        ("result.image", "openai.chat"): "it follows as the user's",
        ("reasoning.foreign", ""): "its words without their proof",
        ("tool.strict", "cohere.chat"): "of all tools or none",
        ("choice.none", ""): "the tools are not sent; where some were called before, they are",
        ("choice.named", "cohere.chat"): "it alone is sent, and demanded",
        ("choice.several", ""): "they alone are sent, and one is demanded",
        ("logprobs", ""): "not asked for: the translation does not read them from there",
        ("top_logprobs", ""): "not asked for: the translation does not read them from there",
        ("effort", ""): "as tokens",
        ("budget", ""): "as the nearest effort that has room for it",
        ("metadata", "gemini.generate"): "as labels, which only Vertex takes",
        ("cache_all", "bedrock.converse"): "as a mark behind the last message",
        ("cache_write_1h_tokens", "anthropic.messages"): "not at the end of a stream",
        (
            "order_of_parts",
            "openai.chat",
        ): "text, pictures, calls, each in order; thinking where it stood",
        ("citation.url", "gemini.generate"): "with the address and the title of its source",
    }
)
"""Of what is lossy, by dialect or (empty) by all that have it so."""


def _table(text: str, columns: tuple[str, ...]) -> Mapping[str, Mapping[str, str]]:
    rows = [line.split() for line in text.strip().splitlines()[1:]]
    return MappingProxyType(
        {name: MappingProxyType(dict(zip(columns, cells, strict=True))) for name, *cells in rows}
    )


REQUESTS: Final = _table(_REQUESTS, DIALECTS)
ANSWERS: Final = _table(_ANSWERS, CLIENTS)
USAGE: Final = _table(_USAGE, DIALECTS)

STOPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # in the answer    chat              responses         anthropic         gemini
        "end": ("end", "end", "end", "end"),
        "stop_sequence": ("end", "end", "stop_sequence", "end"),
        "length": ("length", "length", "length", "length"),
        "tool_calls": ("tool_calls", "tool_calls", "tool_calls", "tool_calls"),
        "content_filter": ("content_filter", "content_filter", "refusal", "content_filter"),
        "refusal": ("content_filter", "content_filter", "refusal", "content_filter"),
        "pause": ("end", "end", "pause", "end"),
        "context_window": ("length", "length", "context_window", "length"),
    }
)
"""What a client reads of why an answer ended, in the order of ``CLIENTS``."""


def cell(table: Mapping[str, Mapping[str, str]], feature: str, dialect: str) -> str:
    """``yes``, ``lossy: how``, ``no: page``, ``-``."""
    said = table[feature][dialect]
    if said == "lossy":
        return f"lossy: {HOW.get((feature, dialect)) or HOW[feature, '']}"
    return f"no: {PAGES[dialect]}" if said == "no" else said


def matrix() -> str:
    """The tables in Markdown: ``~`` with a number is lossy, and the notes say how."""
    notes: list[str] = []
    lines: list[str] = []
    for title, table in (("A request", REQUESTS), ("An answer", ANSWERS), ("Usage", USAGE)):
        columns = list(next(iter(table.values())))
        lines += ["", f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for feature, row in table.items():
            cells = [_shown(cell(table, feature, dialect), notes) for dialect in row]
            lines.append(f"| {feature} | {' | '.join(cells)} |")
    listed = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*lines[1:], "", *listed]) + "\n"


def _shown(said: str, notes: list[str]) -> str:
    kind, _, how = said.partition(": ")
    if kind == "lossy":
        if how not in notes:
            notes.append(how)
        return f"~ {notes.index(how) + 1}"
    return {"yes": "yes", "no": "no", "-": ""}[kind]
