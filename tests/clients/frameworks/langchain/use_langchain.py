"""LangChain: python use_langchain.py URL KEY prints what each of its ways gave."""

# mypy: ignore-errors

from __future__ import annotations

import json
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

url, key, question, about_tools = sys.argv[1:]


def get_weather(city: str) -> str:
    """The weather of a city."""
    return {"Paris": "sun", "Oslo": "rain"}[city]


def use(model: Any) -> dict[str, Any]:
    agent = create_agent(model, [get_weather])
    *_, last = agent.invoke({"messages": [("user", about_tools)]})["messages"]
    return {
        "chat": model.invoke(question).text,
        "stream": "".join(part.text for part in model.stream(question)),
        "tools": last.text,
    }


def openai(model: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=key, max_retries=0, **options)


def anthropic(model: str) -> ChatAnthropic:
    return ChatAnthropic(model=model, base_url=url, api_key=key, max_retries=0)


print(
    json.dumps(
        {
            "chat, messages behind": use(openai("messages")),
            "chat, gemini behind": use(openai("gemini")),
            "responses, chat behind": use(openai("chat", use_responses_api=True)),
            "messages, chat behind": use(anthropic("chat")),
            "messages, responses behind": use(anthropic("responses")),
        }
    )
)
