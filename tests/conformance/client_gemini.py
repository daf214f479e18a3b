"""Google's SDK, google-genai."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import httpx2
from google import genai
from google.genai import errors, types

from .said import SCHEMA, TOOL, Asked, Call, Got

__all__ = ["ENDS", "KINDS", "LOSES", "ask", "connect", "refusal"]

ENDS: Final = ("STOP", "STOP")
LOSES: Final = frozenset({"cache_write_tokens"})
KINDS: Final[dict[str, Any]] = {
    "too_long": (errors.ClientError, "INVALID_ARGUMENT"),
    "key": (errors.ServerError, "UNAVAILABLE"),
    "throttled": (errors.ClientError, "RESOURCE_EXHAUSTED"),
    "busy": (errors.ServerError, "UNAVAILABLE"),
}


def connect(url: str, key: str, http: httpx2.Client) -> genai.Client:
    """The SDK."""
    options = types.HttpOptions(base_url=url, timeout=30_000, httpx_client=http)
    return genai.Client(api_key=key, http_options=options)


def ask(sdk: genai.Client, model: str, asked: Asked) -> Got:
    """One question, and its answer."""
    wishes = types.GenerateContentConfig()
    if asked.system:
        wishes.system_instruction = asked.system
    if asked.tools:
        function = types.FunctionDeclaration(
            name="get_weather", description="The weather", parameters_json_schema=dict(TOOL)
        )
        wishes.tools = [types.Tool(function_declarations=[function])]
    if asked.schema:
        wishes.response_mime_type = "application/json"
        wishes.response_json_schema = dict(SCHEMA)
    if asked.effort:
        level = types.ThinkingLevel(asked.effort.upper())
        wishes.thinking_config = types.ThinkingConfig(include_thoughts=True, thinking_level=level)
    if asked.answers > 1:
        wishes.candidate_count = asked.answers
    models: Any = sdk.models
    wished = {"model": model, "contents": _contents(asked), "config": wishes}
    if asked.stream:
        return _got(list(models.generate_content_stream(**wished)))
    return _got([models.generate_content(**wished)])


def _contents(asked: Asked) -> list[types.Content]:
    parts = [types.Part(text=asked.text)]
    if asked.picture:
        parts.append(types.Part.from_bytes(data=asked.picture, mime_type="image/png"))
    if asked.picture_url:
        parts.append(types.Part.from_uri(file_uri=asked.picture_url, mime_type="image/png"))
    contents = [types.Content(role="user", parts=parts)]
    if asked.before is not None:
        results = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=call.id or None, name=call.name, response={"result": text}
                )
            )
            for call, text in asked.said
        ]
        contents += [
            types.Content(role="model", parts=asked.before.echo),
            types.Content(role="user", parts=results),
        ]
    return contents


def _parts(chunks: Iterable[types.GenerateContentResponse], at: int) -> list[types.Part]:
    return [
        part
        for chunk in chunks
        for number, one in enumerate(chunk.candidates or ())
        if (one.index or (number if one.index is None else 0)) == at and one.content is not None
        for part in one.content.parts or ()
    ]


def _got(chunks: list[types.GenerateContentResponse]) -> Got:
    parts = _parts(chunks, 0)
    calls = [
        Call(one.function_call.id or "", one.function_call.name or "", one.function_call.args or {})
        for one in parts
        if one.function_call is not None
    ]
    ends = [
        one.finish_reason for chunk in chunks for one in chunk.candidates or () if not one.index
    ]
    usage = chunks[-1].usage_metadata
    assert usage is not None
    thought = usage.thoughts_token_count or 0
    output = (usage.candidates_token_count or 0) + thought
    assert usage.total_token_count == (usage.prompt_token_count or 0) + output
    texts = []
    for at in range(1 + max(one.index or 0 for one in chunks[-1].candidates or ())):
        texts.append("".join(one.text or "" for one in _parts(chunks, at) if not one.thought))
    return Got(
        text=texts[0],
        calls=tuple(calls),
        stop=str(ends[-1].value) if ends[-1] is not None else "",
        usage={
            "input_tokens": usage.prompt_token_count or 0,
            "cached_tokens": usage.cached_content_token_count or 0,
            "cache_write_tokens": 0,
            "output_tokens": output,
            "reasoning_tokens": thought,
        },
        thought="".join(one.text or "" for one in parts if one.thought),
        echo=parts,
        answers=tuple(texts),
    )


def refusal(error: Exception) -> tuple[Any, str, str, str]:
    """Class, status, message and the seconds to wait. Raises for what isn't the SDK's."""
    if not isinstance(error, errors.APIError):
        raise error
    details: Any = error.details
    told = details.get("error", details)
    waits = [one.get("retryDelay", "") for one in told.get("details", ())]
    wait = next((one.removesuffix("s") for one in waits if one), "")
    return type(error), str(error.status), str(error.message), wait
