"""Tools that only another provider runs: an agent that brings its own goes on without them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from proxy_core import DIALECTS
from proxy_core.dialects import CLIENT_CODECS, CODECS, FRAMINGS, framing_of
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._translate import DROPPED, Target, Translation, Translator
from proxy_core.errors import NotCarried
from proxy_core.providers._signatures import SignatureMemory

UPSTREAMS = (
    "openai.chat",
    "anthropic.messages",
    "gemini.generate",
    "bedrock.converse",
    "cohere.chat",
    "ollama.chat",
)
SEARCH = {"type": "web_search"}
SHELL = {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}}
PATCH = {"type": "custom", "name": "patch"}
CLAUDES = {"type": "web_search_20250305", "name": "web_search"}
OWN = {"name": "shell", "input_schema": {"type": "object", "properties": {}}}


def begun(
    upstream: str, body: dict[str, Any], client: str = "openai.responses", **options: Any
) -> Translation:
    call = DIALECTS[client].read(json.dumps({"model": "mine", **body}).encode())
    target = Target(CODECS[upstream], FRAMINGS[framing_of(upstream, {})])
    translator = Translator(CLIENT_CODECS[client], target, SignatureMemory(), **options)
    return translator.begin(call, "up-1", Abilities())


def announced(told: Translation) -> list[str]:
    return [name.decode() for key, names in told.announced for name in names.split(b", ")]


@pytest.mark.parametrize("own", [SHELL, PATCH], ids=["function", "custom"])
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_an_agent_goes_on_without_the_providers_tools(upstream: str, own: Any) -> None:
    """Beside a tool of the client's own it is left out and announced, and the own one is sent."""
    told = begun(upstream, {"input": "Hi", "tools": [SEARCH, own]})
    assert announced(told) == ["tools[0]"]
    assert told.announced[0][0] == DROPPED
    sent = told._body.decode()
    assert own["name"] in sent
    assert "web_search" not in sent


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": [SEARCH]},
        {"tools": [SHELL, SEARCH], "tool_choice": {"type": "web_search"}},
    ],
    ids=["alone", "demanded"],
)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_who_needs_the_providers_tool_is_refused(upstream: str, asked: Any) -> None:
    """Alone or demanded, its loss would make another answer: the field is named."""
    with pytest.raises(NotCarried) as refused:
        begun(upstream, {"input": "Hi", **asked})
    assert refused.value.param == f"tools[{len(asked['tools']) - 1}]"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_lost_tool_is_not_demanded(upstream: str) -> None:
    """Where the operator lets drop, nothing is sent that demands what isn't there."""
    demanded = {"input": "Hi", "tools": [SHELL, SEARCH], "tool_choice": {"type": "web_search"}}
    told = begun(upstream, demanded, unsupported="announce")
    assert "tools[1]" in announced(told)
    assert "web_search" not in told._body.decode()


def test_strict_is_strict() -> None:
    """Who wants to hear of every loss hears of this one too."""
    with pytest.raises(NotCarried, match="web_search"):
        begun("openai.chat", {"input": "Hi", "tools": [SHELL, SEARCH]}, unsupported="strict")


def test_it_holds_for_tools_of_other_providers() -> None:
    """Anthropic's own search is left out for OpenAI by the same rule."""
    asked = {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    told = begun("openai.responses", {**asked, "tools": [CLAUDES, OWN]}, "anthropic.messages")
    assert announced(told) == ["tools[0]"]
    with pytest.raises(NotCarried):
        begun("openai.responses", {**asked, "tools": [CLAUDES]}, "anthropic.messages")


def test_what_the_target_knows_stays() -> None:
    """A tool that the target has too is no loss, alone or not."""
    asked = {"messages": [{"role": "user", "content": "Hi"}], "tools": [SEARCH]}
    told = begun("openai.responses", asked, "openai.chat")
    assert json.loads(told._body)["tools"] == [SEARCH]
    assert told.announced == []


RECORDS: list[dict[str, Any]] = [
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    },
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"]},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "container_id": "c",
        "code": "1",
        "outputs": None,
    },
]
CONTENTS: list[dict[str, Any]] = [
    {
        "type": "local_shell_call",
        "id": "sh_1",
        "call_id": "c_1",
        "status": "completed",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
    {"type": "local_shell_call_output", "id": "sh_1", "output": "{}"},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"},
]


def history_with(item: dict[str, Any]) -> dict[str, Any]:
    said = {"type": "output_text", "text": "Spain won", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    asked = [{"role": "user", "content": text} for text in ("Who won?", "Sure?")]
    return {"input": [asked[0], item, {**message, "content": [said]}, asked[1]]}


@pytest.mark.parametrize("item", RECORDS, ids=lambda item: str(item["type"]))
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_conversation_goes_on_at_another_provider(upstream: str, item: dict[str, Any]) -> None:
    """The record of a hosted tool is left out and announced: the answer told what it found."""
    TypeAdapter(ResponseInputItemParam).validate_python(item)
    told = begun(upstream, history_with(item))
    assert announced(told) == ["input[1]"]
    assert "Spain won" in told._body.decode()


@pytest.mark.parametrize("item", CONTENTS, ids=lambda item: str(item["type"]))
def test_what_stands_nowhere_else_is_not_left_out(item: dict[str, Any]) -> None:
    """A shell's output, or what a conversation was compacted to, would be missed."""
    TypeAdapter(ResponseInputItemParam).validate_python(item)
    with pytest.raises(NotCarried) as refused:
        begun("anthropic.messages", history_with(item))
    assert refused.value.param == "input[1]"
