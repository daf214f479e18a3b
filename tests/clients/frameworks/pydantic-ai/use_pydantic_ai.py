"""Pydantic AI: python use_pydantic_ai.py URL KEY prints what each of its ways gave."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

url, key, question, about_tools = sys.argv[1:]


def get_weather(city: str) -> str:
    """The weather of a city."""
    return {"Paris": "sun", "Oslo": "rain"}[city]


async def use(model: Any) -> dict[str, Any]:
    agent = Agent(model)
    async with agent.run_stream(question) as stream:
        streamed = [part async for part in stream.stream_text(delta=True)]
    return {
        "chat": (await agent.run(question)).output,
        "stream": "".join(streamed),
        "tools": (await Agent(model, tools=[get_weather]).run(about_tools)).output,
    }


async def main() -> None:
    openai = OpenAIProvider(base_url=f"{url}/v1", api_key=key)
    anthropic = AnthropicProvider(base_url=url, api_key=key)
    google = GoogleProvider(base_url=url, api_key=key)
    told = {
        "chat, messages behind": await use(OpenAIChatModel("messages", provider=openai)),
        "chat, gemini behind": await use(OpenAIChatModel("gemini", provider=openai)),
        "responses, chat behind": await use(OpenAIResponsesModel("chat", provider=openai)),
        "messages, chat behind": await use(AnthropicModel("chat", provider=anthropic)),
        "messages, responses behind": await use(AnthropicModel("responses", provider=anthropic)),
        "gemini, messages behind": await use(GoogleModel("messages", provider=google)),
    }
    print(json.dumps(told))


asyncio.run(main())
