"""Where a request would go: what ``llm-proxy explain`` says, and what processes tell each other."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy_api import Settings, create_app
from proxy_api._cli import app as command
from proxy_core import CircuitBreaker, FleetHints
from proxy_core.errors import ConfigurationError
from proxy_core.testing import Valkey

SECRETS = ["sk-one-credential", "sk-other-credential", "sk-ci-client", "sk-narrow-client"]
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "x",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
}


def run(*words: str, **environ: str) -> Any:
    given = {"LLM_PROXY_CONFIG": "", "LLM_PROXY_ADMIN_SOCKET": "", **environ}
    return CliRunner().invoke(command, ["explain", *words], env=given)


def post(url: str, model: str, key: str = "sk-ci-client", **headers: str) -> tuple[int, str]:
    """The status of a request, and who was asked for it."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["x-llm-proxy-deployment"]
    except urllib.error.HTTPError as error:
        return error.code, error.headers["x-llm-proxy-deployment"] or ""


class Upstream:
    """Answers as ``says`` has it for the upstream's model: a status, and seconds to wait."""

    def __init__(self, start: Callable[..., Any]) -> None:
        self.says: dict[str, tuple[int, int]] = {}
        self.url = start(self._answer).url

    async def _answer(self, asked: Any, writer: asyncio.StreamWriter) -> None:
        status, wait = self.says.get(json.loads(asked.body)["model"], (200, 0))
        told = ANSWER if status == 200 else {"error": {"message": "no", "type": "x"}}
        body = json.dumps(told).encode()
        later = f"retry-after: {wait}\r\n" if wait else ""
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{later}"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


CONFIG = """
version: 1
providers:
  one:
    kind: openai_compatible
    base_url: "URL"
    api_keys: [sk-one-credential, sk-other-credential]
  gpu: {kind: openai_compatible, base_url: "URL"}
models:
  - {name: chat, target: one/small, weight: 3, context: 8000}
  - {name: chat, target: gpu/small}
  - {name: chat, target: gpu/spare, order: 2}
  - {name: large, target: one/large, price: {input: 0.25, output: 2}}
  - {name: sick, target: gpu/sick}
  - {name: sick, target: gpu/well, order: 2}
  - {name: "claude-*", target: "gpu/claude-*"}
fallbacks:
  chat: [{on: error, to: [claude-sonnet]}, {on: context_length, to: [large]}]
routing:
  rules:
    - {model: chat, when: {tokens_above: 20000}, to: large}
    - {model: chat, when: {header: {x-tier: "batch*"}}, to: sick}
    - {model: "*", when: {tag: cheap}, to: claude-haiku}
keys:
  - {name: ci, key: sk-ci-client}
  - {name: nightly, key: sk-narrow-client, models: [chat, "claude-*"], tags: [cheap]}
"""


@pytest.fixture(scope="module")
def upstream(http_upstream: Callable[..., Any]) -> Upstream:
    return Upstream(http_upstream)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for admin sockets: pytest's own may have too long a path for one."""
    with tempfile.TemporaryDirectory(prefix="ex") as folder:
        yield Path(folder)


def started(
    process: Callable[..., Any], config: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    return process(config)


@pytest.fixture(scope="module")
def server(lasting_process: Callable[..., Any], upstream: Upstream, place: Path) -> SimpleNamespace:
    """``llm-proxy serve`` with an admin socket."""
    with pytest.MonkeyPatch.context() as patch:
        process = started(lasting_process, CONFIG.replace("URL", upstream.url), place, patch)
    return SimpleNamespace(url=process.url, socket=str(place / "admin.sock"))


def asked(server: SimpleNamespace, *words: str) -> dict[str, Any]:
    """What a running process says, for programs."""
    done = run(*words, "--json", "--socket", server.socket)
    assert done.exit_code == 0, done.output
    assert not any(secret in done.output for secret in SECRETS)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def row(told: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in told["pool"]["deployments"] if row["name"] == name)
    return found


def test_it_reads_well(server: SimpleNamespace) -> None:
    """The model, its pool in order with a reason each, and each fallback with its occasion."""
    done = run("chat", "--tokens", "9000", "--key", "ci", "--socket", server.socket)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "chat by the key ci, 9000 tokens: at most 3 attempts",
        "",
        "chat: weighted",
        "   1  gpu/small          order 1, drawn first 100% of the time, weight 1; no price",
        "   2  gpu/spare          order 2, drawn first 100% of the time, weight 1; no price",
        "   -  one/small          its window of 8000 tokens is too small for 9000; no price",
        "",
        "on error, when they have failed, or for the last attempt:",
        "claude-*: weighted",
        "   1  gpu/claude-sonnet  order 1, drawn first 100% of the time, weight 1; no price",
        "",
        "on context_length, when the prompt is too long for them:",
        "large: weighted",
        (
            "   1  one/large          order 1, drawn first 100% of the time, weight 1; "
            "$0.25 in, $2 out for 1M tokens (configured)"
        ),
    ]


def test_a_program_gets_all_of_it(server: SimpleNamespace) -> None:
    """The same as JSON, with the states of breakers and the numbers of credentials."""
    told = asked(server, "chat")
    assert {name: told[name] for name in ("model", "key", "tokens", "health", "rule")} == {
        "model": "chat",
        "key": None,
        "tokens": 0,
        "health": "live",
        "rule": None,
    }
    assert row(told, "one/small") == {
        "name": "one/small",
        "place": 1,
        "reason": "order 1, drawn first 75% of the time, weight 3",
        "free_in": None,
        "breaker": "closed",
        "credentials": 2,
        "waiting": [],
        "price": None,
    }
    assert [each["on"] for each in told["fallbacks"]] == ["error", "context_length"]


RULED = {
    "size": (["--tokens", "20001"], 1, "large", "the prompt has more than 20000 tokens"),
    "header": (["--header", "X-Tier=batch-1"], 2, "sick", "the header x-tier is batch*"),
    "tag": (["--tag", "cheap"], 3, "claude-*", "the key has the tag cheap"),
    "key": (["--key", "nightly"], 3, "claude-*", "the key has the tag cheap"),
}


@pytest.mark.parametrize("by", RULED)
def test_a_rule_that_moves_it_is_named(server: SimpleNamespace, by: str) -> None:
    """Which one, where to, and on what condition; the pool is the other one's."""
    words, number, pool, because = RULED[by]
    told = asked(server, "chat", *words)
    rule = told["rule"]
    assert rule["number"] == number
    assert because in rule["because"]
    assert told["pool"]["model"] == pool
    shown = run("chat", *words, "--socket", server.socket).stdout
    assert f"rule {number} sends it to {rule['to']}: " in shown
    # The proxy does what it says.
    headers = {"x-tier": "batch-1"} if by == "header" else {}
    if by in ("header", "key"):
        key = "sk-narrow-client" if by == "key" else "sk-ci-client"
        went = post(server.url, "chat", key, **headers)
        assert went == (200, told["pool"]["deployments"][0]["name"])


def test_a_pattern_is_told(server: SimpleNamespace) -> None:
    """The upstream's name is written out, and the pattern is named."""
    told = asked(server, "claude-opus")
    assert (told["pattern"], row(told, "gpu/claude-opus")["place"]) == ("claude-*", 1)
    shown = run("claude-opus", "--socket", server.socket).stdout
    assert "found by the pattern claude-*" in shown


WRONG = {
    "a model": (["chad"], "there is no model 'chad': did you mean 'chat'?"),
    "a strange model": (["qwertz"], "there are chat, large, sick, claude-*"),
    "a key": (["chat", "--key", "nighty"], "did you mean 'nightly'?"),
    "another's model": (
        ["large", "--key", "nightly"],
        "the key 'nightly' may not use the model 'large': it may use chat, claude-*",
    ),
    "a header": (["chat", "--header", "x-tier"], "give NAME=VALUE"),
}


def test_nobody_else_may_ask(server: SimpleNamespace) -> None:
    """By the port there is no such route, with a key or without."""
    for key in ({}, {"authorization": "Bearer sk-ci-client"}):
        request = urllib.request.Request(f"{server.url}/admin/explain?model=chat", headers=key)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(request, timeout=10)


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_sentence(server: SimpleNamespace, what: str) -> None:
    """The exit status is 1, and the sentence has the nearest name or the remedy."""
    words, told = WRONG[what]
    done = run(*words, "--socket", server.socket)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert told in done.stderr


def test_health_is_told(server: SimpleNamespace, upstream: Upstream) -> None:
    """A breaker that is open, a credential that waits, one that was refused: and for how long."""
    upstream.says = {"sick": (500, 0)}
    for _ in range(5):
        assert post(server.url, "sick") == (200, "gpu/well")
    told = asked(server, "sick")
    out = row(told, "gpu/sick")
    assert (out["place"], out["breaker"]) == (None, "open")
    assert 0 < out["free_in"] < 60
    assert "breaker open for" in out["reason"]
    assert row(told, "gpu/well")["place"] == 1
    assert told["last_resort"] is None
    upstream.says["well"] = (500, 0)
    for _ in range(5):
        post(server.url, "sick")
    told = asked(server, "sick")
    soonest = min(told["pool"]["deployments"], key=lambda each: each["free_in"])
    assert told["last_resort"] == soonest["name"]
    shown = run("sick", "--socket", server.socket).stdout
    assert shown.splitlines()[-1].endswith(f"now and then a request tries {soonest['name']}")

    upstream.says = {"large": (429, 40)}
    assert post(server.url, "large")[0] == 429
    throttled = row(asked(server, "large"), "one/large")
    assert "none of its credentials may be used" in throttled["reason"]
    for wait in throttled["waiting"]:
        assert 30 < wait["free_in"] <= 40
        assert wait["reason"] == "throttled"
    assert row(asked(server, "chat"), "one/small")["waiting"] == []

    upstream.says = {"large": (401, 0), "small": (401, 0)}
    while len(row(asked(server, "chat"), "one/small")["waiting"]) < 2:
        assert post(server.url, "chat")[0] == 200
    told = asked(server, "chat")
    waits = row(told, "one/small")["waiting"]
    assert {each["reason"] for each in waits} == {"refused by the upstream"}
    assert "none of its credentials may be used" in row(told, "one/small")["reason"]
    shown = run("chat", "--socket", server.socket).stdout
    fingerprint = waits[0]["credential"]
    assert f"credential {fingerprint} refused by the upstream for" in shown
    assert not any(secret in shown for secret in SECRETS)


def test_without_a_server_the_configuration_tells(upstream: Upstream, tmp_path: Path) -> None:
    """The usual file is compiled, and it is said that health is not known."""
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.replace("URL", upstream.url))
    nowhere = str(tmp_path / "admin.sock")
    done = run("chat", "--socket", nowhere, LLM_PROXY_CONFIG=str(file))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1] == (
        f"health is not known: no proxy runs at {nowhere}, this is what {file} says"
    )
    assert "   1  one/small          order 1, drawn first 75%" in done.stdout
    told = json.loads(run("chat", "--json", "--config", str(file), "--socket", nowhere).stdout)
    assert told["health"] == "unknown"
    assert {each["breaker"] for each in told["pool"]["deployments"]} == {None}
    unknown = run("chad", "--config", str(file))
    assert (unknown.exit_code, "did you mean 'chat'?" in unknown.stderr) == (1, True)


def test_a_file_that_cannot_be_used_is_told_with_its_problems(tmp_path: Path) -> None:
    """As ``llm-proxy check`` does, with the exit status 1."""
    file = tmp_path / "config.yaml"
    file.write_text("modls: []\n")
    done = run("chat", "--config", str(file))
    assert (done.exit_code, "Did you mean 'models'" in done.stderr) == (1, True)


def test_with_neither_server_nor_file_it_says_both(tmp_path: Path) -> None:
    """One line: where it looked for a proxy, and how to name a file."""
    done = run("chat", "--socket", str(tmp_path / "admin.sock"))
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert "is it running" in done.stderr
    assert "--config" in done.stderr


def test_an_instance_beside_it_is_pointed_at(upstream: Upstream, tmp_path: Path) -> None:
    """Where instances run, the file alone is no answer."""
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.replace("URL", upstream.url))
    (tmp_path / "blue").mkdir()
    (tmp_path / "blue/admin.sock").touch()
    done = run("chat", "--socket", str(tmp_path / "admin.sock"), LLM_PROXY_CONFIG=str(file))
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"--socket {tmp_path}/blue/admin.sock" in done.stderr


# --- What processes tell each other. ---

FLEET = """
version: 1
redis: "STORE"
providers:
  gpu: {kind: openai_compatible, base_url: "URL"}
  one: {kind: openai_compatible, base_url: "URL", api_key: sk-one-credential}
models:
  - {name: down, target: gpu/down}
  - {name: full, target: one/full}
  - {name: fine, target: gpu/fine}
routing: {breaker: {failures: 5, open_for: 60s}}
"""


def test_a_process_learns_from_another_what_is_sick(
    lasting_process: Callable[..., Any],
    upstream: Upstream,
    valkey: Valkey,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One process meets five failures and a throttle: the other opens at its first, and waits."""
    config = FLEET.replace("URL", upstream.url).replace("STORE", valkey.url)
    fleet = [started(lasting_process, config, place / name, monkeypatch) for name in "ab"]
    one, other = (
        SimpleNamespace(url=process.url, socket=str(place / name / "admin.sock"))
        for process, name in zip(fleet, "ab", strict=True)
    )
    upstream.says = {"down": (500, 0), "full": (429, 50)}
    for _ in range(5):
        post(one.url, "down")
    assert row(asked(one, "down"), "gpu/down")["breaker"] == "open"
    assert post(one.url, "full")[0] == 429
    deadline = time.monotonic() + 10
    while not (waiting := row(asked(other, "full"), "one/full")["waiting"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert waiting[0]["free_in"] > 30
    assert row(asked(other, "down"), "gpu/down")["breaker"] == "closed"
    post(other.url, "down")
    assert row(asked(other, "down"), "gpu/down")["breaker"] == "open"
    assert "another process finds it sick" in fleet[1].log

    # Without the store only the hints are missing.
    valkey.kill()
    for server in (one, other):
        for _ in range(20):
            assert post(server.url, "fine")[0] == 200
    for process in fleet:
        process.signal(15)
    for process in fleet:
        process.ended()
        assert {line["event"] for line in process.lines if line["level"] == "error"} <= {
            "store_away"  # the limiter's word
        }


def fleet_settings(**providers: dict[str, Any]) -> Settings:
    models: Any = [{"name": name, "target": f"{name}/x"} for name in providers]
    sections: Any = {"providers": providers, "models": models, "redis": "unix:///nowhere.sock"}
    return Settings(**sections)


async def test_a_reload_shares_what_is_new_and_forgets_what_is_gone() -> None:
    """Breakers and credentials of the configuration in force, and no others, are the fleet's."""
    here = {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-a"}
    there = {**here, "base_url": "http://127.0.0.1:10/v1"}
    gateway = create_app(settings=fleet_settings(a=here, b=here)).gateway
    hints: Any = gateway.runtime.hints
    before = {row.label: row.breaker for row in gateway.snapshot.deployments}
    hints._news.clear()
    before["a/x"].force_open()
    assert hints._news.is_set()  # it is told at once
    gateway.reload(fleet_settings(a=here, b=there, c=here))
    after = {row.label: row.breaker for row in gateway.snapshot.deployments}
    assert id(gateway.runtime.hints) == id(hints)
    watched = {name: each.machine for name, each in hints._breakers.items()}
    assert watched == {
        name: breaker._machine
        for name, breaker in after.items()
        if isinstance(breaker, CircuitBreaker)
    }
    assert before["a/x"] is after["a/x"]
    assert before["b/x"] is not after["b/x"]
    assert set(hints._pools) == {"a", "b", "c"}
    gateway.reload(fleet_settings(c=here))
    assert (set(hints._breakers), set(hints._pools)) == ({"c/x"}, {"c"})
    # Who is no longer shared probes when it likes.
    for breaker in (*before.values(), after["a/x"], after["b/x"]):
        assert breaker._machine.may_probe()  # type: ignore[union-attr]
        assert breaker._machine.may_probe.__name__ == "always"  # type: ignore[union-attr]
    await gateway.aclose()


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
async def test_a_store_that_is_away_is_no_error(scheme: str) -> None:
    """However it is reached, an exchange says that it failed, and why; it raises nothing."""
    hints = FleetHints.at(f"{scheme}://127.0.0.1:9/0")
    assert not await hints.exchange()
    assert hints.trouble
    assert not hints.is_connected
    await hints.aclose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:pa55word@h/0?socket_timeout=x", "redis://127.0.0.1:6379/0"),
        ("redis+sentinel://:pa55word@h:26379", "redis+sentinel://host:26379/mymaster"),
    ],
)
def test_a_store_that_cannot_be_reached_so_is_told(url: str, told: str) -> None:
    """At the start: the setting and the form that fits, never the password."""
    with pytest.raises(ConfigurationError) as failed:
        create_app(settings=Settings(redis=url))  # type: ignore[arg-type]
    assert "redis" in failed.value.message
    assert told in failed.value.message
    assert "pa55word" not in failed.value.message


@pytest.mark.parametrize("words", [["check"], ["serve", "--config"]], ids=["check", "serve"])
def test_a_store_without_its_library_names_the_extra(words: list[str], tmp_path: Path) -> None:
    """Both before anything runs: the setting, and the command that installs what is missing."""
    file = tmp_path / "config.yaml"
    file.write_text(FLEET.replace("STORE", "redis://127.0.0.1:1/0").replace("URL", "http://h/v1"))
    program = "import sys; sys.modules['redis'] = None; from proxy_api._cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words, str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == (1 if words == ["check"] else 78)
    assert "redis: " in done.stderr
    assert "pip install 'proxy-api[redis]'" in done.stderr


def test_a_start_without_a_store_brings_no_client_of_one() -> None:
    """redis-py is imported when ``redis:`` is set, and only then."""
    program = (
        "import sys; from proxy_api import Settings, create_app;"
        "create_app(settings=Settings(**({'redis': sys.argv[1]} if sys.argv[1:] else {})));"
        "print('redis' in sys.modules)"
    )
    for words, told in (([], "False"), (["redis://127.0.0.1:1/0"], "True")):
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split()[-1] == told
