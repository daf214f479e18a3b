"""Claude Code and Codex do a job through the proxy, whatever dialect the upstream speaks.

The upstream is scripted: it asks for a file to be read, and knows the end of the story only when
the agent's tool has told it what stands in that file.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

AGENTS = Path(__file__).parents[1] / "clients/agents/node_modules"
NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there: who asks anybody but the proxy fails at once."""
QUESTION = "What bird does the note name?"
ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "gemini": "/v1beta/models/scripted:streamGenerateContent",
}


def run(script: Path, words: list[str], home: Path, at: Path, **env: str) -> str:
    """What an agent prints. It has a home of its own, and no network but this machine."""
    assert script.is_file(), "it is missing: scripts/test tests/real_clients installs it"
    ran = subprocess.run(
        [shutil.which("node") or "node", str(script), *words],
        cwd=at,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "HTTPS_PROXY": NOWHERE,
            "HTTP_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1",
            **env,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def claude_code(house: Any, model: str, home: Path) -> dict[str, Any]:
    """Its report of the job."""
    words = ["-p", QUESTION, "--output-format", "json", "--model", model]
    told = run(
        AGENTS / "@anthropic-ai/claude-code/cli-wrapper.cjs",
        [*words, "--allowedTools", "Read"],
        home,
        house.note.parent,
        ANTHROPIC_BASE_URL=house.url,
        ANTHROPIC_AUTH_TOKEN=house.key,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    report: dict[str, Any] = json.loads(told)
    return report


def codex(house: Any, model: str, home: Path, wish: str = QUESTION) -> list[dict[str, Any]]:
    """The events that it reports."""
    (home / "config.toml").write_text(f"""
        model = "{model}"
        model_provider = "proxy"
        check_for_update_on_startup = false
        [model_providers.proxy]
        name = "proxy"
        base_url = "{house.url}/v1"
        env_key = "PROXY_KEY"
        wire_api = "responses"
        """)
    # The file is this test's own, so nothing has to be fenced in.
    words = [
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
    ]
    told = run(
        AGENTS / "@openai/codex/bin/codex.js",
        [*words, wish],
        home,
        house.note.parent,
        CODEX_HOME=str(home),
        PROXY_KEY=house.key,
    )
    return [json.loads(line) for line in told.splitlines()]


def check_codex(events: list[dict[str, Any]], word: str) -> None:
    """It ran the command, and said what the upstream says to who has done so."""
    done = [event["item"] for event in events if event["type"] == "item.completed"]
    (command,) = [item for item in done if item["type"] == "command_execution"]
    assert (command["aggregated_output"], command["exit_code"]) == (f"{word}\n", 0)
    assert [i["text"] for i in done if i["type"] == "agent_message"] == ["The note names a bird."]
    assert events[-1]["type"] == "turn.completed"
    usage = events[-1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (40, 20)


@pytest.mark.parametrize("model", ["messages", "chat", "responses", "gemini"])
def test_claude_code_reads_a_file(house: Any, tmp_path: Path, model: str) -> None:
    """Claude Code calls its tool, tells what it gave, and ends well, over every dialect."""
    house.paths()
    report = claude_code(house, model, tmp_path)
    assert (report["subtype"], report["is_error"]) == ("success", False)
    assert report["result"] == "The note names a bird."
    assert (report["stop_reason"], report["num_turns"]) == ("end_turn", 2)
    assert (report["usage"]["input_tokens"], report["usage"]["output_tokens"]) == (40, 20)
    assert house.paths() == [ENDPOINTS[model]] * 2


@pytest.mark.parametrize("model", ["responses", "chat", "messages", "gemini"])
def test_codex_reads_a_file(house: Any, tmp_path: Path, model: str) -> None:
    """Codex as it comes runs its command and ends well, over every dialect."""
    house.paths()
    check_codex(codex(house, model, tmp_path), house.word)
    assert house.paths() == [ENDPOINTS[model]] * 2


@pytest.mark.parametrize("model", ["chat", "messages", "gemini"])
def test_codex_runs_a_function_of_a_namespace(house: Any, tmp_path: Path, model: str) -> None:
    """Its tools for sub-agents stand in a namespace: it is called by that, and answers so."""
    house.paths()
    events = codex(house, model, tmp_path, "Send agent Smith home")
    done = [event["item"] for event in events if event["type"] == "item.completed"]
    (call,) = [item for item in done if item["type"] == "collab_tool_call"]
    assert (call["tool"], call["receiver_thread_ids"]) == ("close_agent", [house.smith])
    assert call["agents_states"][house.smith]["status"] == "not_found"
    assert [i["text"] for i in done if i["type"] == "agent_message"] == ["Nobody was there."]
    assert events[-1]["type"] == "turn.completed"
    assert house.paths() == [ENDPOINTS[model]] * 2
