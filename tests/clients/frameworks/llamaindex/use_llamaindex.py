"""LlamaIndex: python use_llamaindex.py URL KEY prints what each of its ways gave."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike

url, key, question, about_tools = sys.argv[1:]


def get_weather(city: str) -> str:
    """The weather of a city."""
    return {"Paris": "sun", "Oslo": "rain"}[city]


async def ask_agent(model: Any) -> str:
    return str(await FunctionAgent(tools=[get_weather], llm=model).run(about_tools))


def use(model: Any) -> dict[str, Any]:
    messages = [ChatMessage(role="user", content=question)]
    return {
        "chat": model.chat(messages).message.content,
        "stream": "".join(part.delta or "" for part in model.stream_chat(messages)),
        "tools": asyncio.run(ask_agent(model)),
    }


def openai(model: str) -> OpenAILike:
    options = {"is_chat_model": True, "is_function_calling_model": True, "max_retries": 0}
    return OpenAILike(model=model, api_base=f"{url}/v1", api_key=key, **options)


responses = OpenAIResponses(
    model="gpt-4.1", api_base=f"{url}/v1", api_key=key, max_retries=0
)  # it takes no name that it doesn't know
claude = Anthropic(model="claude-sonnet-4-5", base_url=url, api_key=key, max_retries=0)
print(
    json.dumps(
        {
            "chat, messages behind": use(openai("messages")),
            "chat, gemini behind": use(openai("gemini")),
            "responses, chat behind": use(responses),
            "messages, chat behind": use(claude),
        }
    )
)
