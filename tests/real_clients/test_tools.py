"""Tools through each SDK and each dialect of an upstream: two calls at once, results, an end.

aimock gives the last answer only to who brings the results back under the ids of its calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

QUESTION: Final = "Tell the weather in Paris and Oslo."
NAME: Final = "get_weather"
WHAT: Final = "The weather of a city."
SCHEMA: Final[Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
WEATHER: Final = {"Paris": "sun", "Oslo": "rain"}
ENDPOINTS: Final = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "gemini": "/v1beta/models/scripted:",
}
CITIES: Final = [{"city": "Paris"}, {"city": "Oslo"}]
Step = tuple[str, list[Any], str, tuple[int, int]]
"""Text, the arguments of the calls, why it ended, tokens in and out."""


def said(arguments: dict[str, str]) -> str:
    return WEATHER[arguments["city"]]


def chat_way(house: Any, model: str, *, stream: bool) -> Iterator[Step]:
    """OpenAI's SDK for Python, chat completions."""
    tools: Any = [
        {"type": "function", "function": {"name": NAME, "description": WHAT, "parameters": SCHEMA}}
    ]
    messages: Any = [{"role": "user", "content": QUESTION}]
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key=house.key, max_retries=0) as sdk:
        for _ in range(2):
            asked: Any = {"model": model, "messages": messages, "tools": tools}
            if stream:
                options: Any = {"include_usage": True}
                with sdk.chat.completions.stream(**asked, stream_options=options) as events:
                    answer: Any = events.get_final_completion()
            else:
                answer = sdk.chat.completions.create(**asked)
            message, usage = answer.choices[0].message, answer.usage
            calls = message.tool_calls or []
            given = [json.loads(call.function.arguments) for call in calls]
            end = answer.choices[0].finish_reason
            yield message.content, given, end, (usage.prompt_tokens, usage.completion_tokens)
            messages.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": said(arguments)}
                for call, arguments in zip(calls, given, strict=True)
            ]


def responses_way(house: Any, model: str, *, stream: bool) -> Iterator[Step]:
    """OpenAI's SDK for Python, responses, without a server that remembers."""
    tools: Any = [{"type": "function", "name": NAME, "description": WHAT, "parameters": SCHEMA}]
    items: Any = [{"role": "user", "content": QUESTION}]
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key=house.key, max_retries=0) as sdk:
        for _ in range(2):
            asked: Any = {"model": model, "input": items, "tools": tools, "store": False}
            if stream:
                with sdk.responses.stream(**asked) as events:
                    answer: Any = events.get_final_response()
            else:
                answer = sdk.responses.create(**asked)
            calls = [item for item in answer.output if item.type == "function_call"]
            given, usage = [json.loads(call.arguments) for call in calls], answer.usage
            yield (
                answer.output_text,
                given,
                "tool_calls" if calls else {"completed": "stop"}[answer.status],
                (usage.input_tokens, usage.output_tokens),
            )
            items += [
                item.model_dump(exclude_none=True, exclude={"parsed_arguments"})
                for item in answer.output
            ]
            items += [
                {"type": "function_call_output", "call_id": call.call_id, "output": said(arguments)}
                for call, arguments in zip(calls, given, strict=True)
            ]


def messages_way(house: Any, model: str, *, stream: bool) -> Iterator[Step]:
    """Anthropic's SDK for Python."""
    tools: Any = [{"name": NAME, "description": WHAT, "input_schema": SCHEMA}]
    messages: Any = [{"role": "user", "content": QUESTION}]
    words = {"tool_use": "tool_calls", "end_turn": "stop"}
    with anthropic.Anthropic(base_url=house.url, api_key=house.key, max_retries=0) as sdk:
        for _ in range(2):
            asked: Any = {"model": model, "max_tokens": 99, "messages": messages, "tools": tools}
            if stream:
                with sdk.messages.stream(**asked) as events:
                    answer: Any = events.get_final_message()
            else:
                answer = sdk.messages.create(**asked)
            calls = [block for block in answer.content if block.type == "tool_use"]
            text = "".join(block.text for block in answer.content if block.type == "text")
            count = (answer.usage.input_tokens, answer.usage.output_tokens)
            yield text, [call.input for call in calls], words[answer.stop_reason], count
            messages.append({"role": "assistant", "content": answer.content})
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": said(call.input)}
                for call in calls
            ]
            messages.append({"role": "user", "content": results})


def google_way(house: Any, model: str, *, stream: bool) -> Iterator[Step]:
    """Google's SDK for Python."""
    tool = types.FunctionDeclaration(name=NAME, description=WHAT, parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[tool])])
    turns: Any = [types.UserContent(QUESTION)]
    options = types.HttpOptions(base_url=house.url)
    with closing(genai.Client(api_key=house.key, http_options=options)) as sdk:
        for _ in range(2):
            asked: Any = {"model": model, "contents": turns, "config": config}
            if stream:
                answers = list(sdk.models.generate_content_stream(**asked))
            else:
                answers = [sdk.models.generate_content(**asked)]
            parts = [part for answer in answers for part in answer.parts or []]
            calls = [part.function_call for part in parts if part.function_call]
            end = (answers[-1].candidates or [])[0].finish_reason
            usage = answers[-1].usage_metadata
            assert end == "STOP" and usage is not None
            yield (
                "".join(part.text or "" for part in parts),
                [call.args for call in calls],
                "tool_calls" if calls else "stop",
                (usage.prompt_token_count or 0, usage.candidates_token_count or 0),
            )
            results: Any = [
                {"id": call.id, "name": call.name, "response": {"result": said(call.args or {})}}
                for call in calls
            ]
            turns.append({"role": "model", "parts": parts})
            turns.append({"role": "user", "parts": [{"function_response": r} for r in results]})


WAYS: Final = (chat_way, responses_way, messages_way, google_way)
PAIRS: Final = [
    # aimock's Gemini ends calls with FUNCTION_CALL, which Google's SDK doesn't know.
    (way, model)
    for way in WAYS
    for model in ENDPOINTS
    if (way, model) != (google_way, "gemini")
]


@pytest.mark.parametrize(("way", "model"), PAIRS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_two_tools_at_once(
    house: Any, way: Callable[..., Iterator[Step]], model: str, *, stream: bool
) -> None:
    """Text, both calls, ends and counts arrive, and the results go back under their ids."""
    house.paths()
    asked, answered = way(house, model, stream=stream)
    assert asked == ("I look.", CITIES, "tool_calls", (20, 10))
    assert answered == ("Take a coat.", [], "stop", (20, 10))
    paths = house.paths()
    assert len(paths) == 2
    assert all(path.startswith(ENDPOINTS[model]) for path in paths)
