"""aimock, an upstream that speaks every dialect from a script, and the proxy in front of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from proxy_api import Settings

CLIENTS: Final = Path(__file__).parents[1] / "clients"
KEY: Final = "sk-tests"
WORD: Final = "heron-4711"
"""What stands in the note that agents are to read, and nowhere else."""
ROUTES: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        "chat": {"kind": "openai_compatible", "dialects": ["openai.chat"]},
        "responses": {"kind": "openai_compatible", "dialects": ["openai.responses"]},
        "messages": {"kind": "anthropic", "api_key": "k"},
        "gemini": {"kind": "gemini", "api_key": "k"},
    }
)
"""A model for each dialect of an upstream, and how the provider behind it is configured."""

SMITH: Final = "018f0000-0000-7000-8000-000000000000"
KNOWN_NAMES: Final = ("gpt-4.1", "claude-sonnet-4-5")


@dataclass(frozen=True)
class House:
    """The proxy, with a model for each of ROUTES."""

    url: str
    """Without /v1."""
    key: str
    note: Path
    """A file that agents are to read; its word is ``word``."""
    word: str
    _mock: str
    smith: str = SMITH
    """The id of an agent that is not there."""

    def paths(self) -> list[str]:
        """What the upstream was asked since the last time, without queries."""
        with urllib.request.urlopen(f"{self._mock}/__aimock/journal", timeout=10) as answer:
            told = [entry["path"].partition("?")[0] for entry in json.load(answer)]
        reset = urllib.request.Request(f"{self._mock}/__aimock/reset/journal", method="POST")
        urllib.request.urlopen(reset, timeout=10).close()
        return told


def script(note: Path) -> dict[str, Any]:
    """What aimock answers: a row for each question, and one for what the tools said.

    The second row of a pair is found only if the tool's result and the call's id have arrived.
    """
    weather = [("call_paris", "Paris"), ("call_oslo", "Oslo")]
    calls: Any = [{"id": i, "name": "get_weather", "arguments": {"city": c}} for i, c in weather]
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    asked = {"userMessage": "weather in Paris and Oslo"}
    read = {"name": "Read", "arguments": {"file_path": str(note)}, "id": "call_read"}
    # So a function of a namespace is called where there are none.
    close = {"name": "multi_agent_v1__close_agent", "arguments": {"target": SMITH}}
    close["id"] = "call_close"
    shell = {"name": "exec_command", "arguments": {"cmd": f"cat {note}"}, "id": "call_shell"}
    rows = [
        ({"toolResultContains": "rain", "toolCallId": "call_oslo"}, {"content": "Take a coat."}),
        ({**asked, "hasToolResult": False}, {"content": "I look.", "toolCalls": calls}),
        ({"toolResultContains": WORD}, {"content": "The note names a bird."}),
        ({"userMessage": "the note", "toolName": "Read"}, {"toolCalls": [read]}),
        ({"userMessage": "the note", "toolName": "exec_command"}, {"toolCalls": [shell]}),
        ({"toolCallId": "call_close"}, {"content": "Nobody was there."}),
        ({"userMessage": "Send agent Smith home"}, {"toolCalls": [close]}),
        ({"userMessage": "Count to five"}, {"content": "one two three four five"}),
    ]
    return {"fixtures": [{"match": m, "response": {**r, "usage": usage}} for m, r in rows]}


@pytest.fixture(scope="session")
def note(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in a folder of its own."""
    file = tmp_path_factory.mktemp("agent") / "note.txt"
    file.write_text(f"{WORD}\n")
    return file


@pytest.fixture(scope="session")
def aimock(note: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL. It answers what is not in its script with an error."""
    folder = tmp_path_factory.mktemp("aimock")
    rows, log = folder / "rows.json", folder / "log.txt"
    rows.write_text(json.dumps(script(note)))
    command = ["node", str(CLIENTS / "node_modules/@copilotkit/aimock/dist/cli.js")]
    command += ["--port", "0", "--fixtures", str(rows), "--strict", "--journal-max", "0"]
    with log.open("w") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env=dict(os.environ))
    try:
        yield _url_in(log)
    finally:
        child.terminate()
        child.wait(10)


def _url_in(log: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        _, found, rest = log.read_text().partition("listening on ")
        if found and "\n" in rest:
            return rest.split()[0]
        time.sleep(0.05)
    raise TimeoutError(f"aimock has not started (scripts/test installs it): {log.read_text()}")


@pytest.fixture(scope="module")
def house(aimock: str, note: Path, lasting_gateway: Callable[..., str]) -> House:
    """The proxy in front of aimock."""
    bases = {"chat": f"{aimock}/v1", "responses": f"{aimock}/v1"}
    providers: dict[str, Any] = {
        name: {**row, "base_url": bases.get(name, aimock)} for name, row in ROUTES.items()
    }
    sections: dict[str, Any] = {
        "providers": providers,
        "models": [
            *({"name": name, "target": f"{name}/scripted"} for name in providers),
            # LlamaIndex asks for no model whose name it doesn't know.
            *({"name": name, "target": "chat/scripted"} for name in KNOWN_NAMES),
        ],
        "keys": [{"name": "tests", "key": KEY}],
    }
    return House(lasting_gateway(Settings(**sections)), KEY, note, WORD, aimock)
