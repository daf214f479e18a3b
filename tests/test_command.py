"""The llm-proxy command as a user runs it, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "proxy_api"]
BODY = {"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), **variables}
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(*words: str, port: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", str(port), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
    )
    try:
        deadline = time.monotonic() + 60
        while status(f"http://127.0.0.1:{port}/readyz") != 200:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture
def config(tmp_path: Path, llama: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"providers: {{here: {{kind: llamacpp, base_url: '{llama}'}}}}\n"
        "models: [{name: smollm2, target: here/smollm2}]\n"
    )
    return file


def test_help_lists_every_command() -> None:
    """``--help`` names what one can do."""
    told = run("--help").stdout
    assert all(word in told for word in ("serve", "check", "models", "chat", "version"))


def test_nothing_to_serve_says_what_to_do() -> None:
    """Without a model it exits with 1 and three ways on."""
    done = run("serve")
    assert done.returncode == 1
    assert all(word in done.stderr for word in ("--local-model", "--discover", "--config"))


def test_an_open_listener_without_keys_is_refused(config: Path) -> None:
    """Serving others without keys is an error that names the setting and the remedy."""
    done = run("serve", "--config", str(config), "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "keys" in done.stderr
    assert "127.0.0.1" in done.stderr


def test_check_tells_every_problem(tmp_path: Path, config: Path) -> None:
    """The exit status says whether the file can be used; the text names paths and nearest names."""
    good = run("check", str(config))
    assert (good.returncode, good.stderr) == (0, "")
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "providers: {openai: {kind: opnai, api_kye: x}}\n"
        "models: [{name: m, target: opnai/m}]\nservr: {}\n"
    )
    done = run("check", str(bad))
    assert done.returncode == 1
    for told in ("providers.openai.kind", "providers.openai.api_kye", "api_key", "servr", "server"):
        assert told in done.stderr
    assert run("check", str(tmp_path / "missing.yaml")).returncode == 1


def test_settings_of_every_layer(config: Path) -> None:
    """The environment overrides the file, the command line overrides both."""
    port = free_port()
    with served("--config", str(config), port=port):
        assert status(f"http://127.0.0.1:{port}/livez") == 200
    done = run("serve", "--config", str(config), LLM_PROXY_SERVER__PORT="none")
    assert done.returncode == 1
    assert "LLM_PROXY_SERVER__PORT" in done.stderr or "server.port" in done.stderr


def test_the_local_model_serves_and_ends_with_the_proxy() -> None:
    """``serve --local-model`` answers for real, greets with lines to paste, stops with status 0."""
    port = free_port()
    with served("--local-model", port=port) as process:
        url = f"http://127.0.0.1:{port}"
        listed = run("models", "--url", url)
        assert listed.stdout.split() == ["smollm2"]
        said = run("chat", "--url", url, "--max-tokens", "8", "Hello")
        assert (said.returncode, bool(said.stdout.strip())) == (0, True), said.stderr
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 1
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=20)[0]
        assert process.returncode == 0, told
        assert f"llm-proxy chat --url {url}" in told or f"proxy_api chat --url {url}" in told
        assert "curl" in told
        assert not Path(f"/proc/{children[0]}").exists()


def test_it_serves_on_a_unix_socket(config: Path, tmp_path: Path) -> None:
    """``--uds`` listens there, and requests without a peer address are this machine's."""
    path = tmp_path / "s.sock"
    process = subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config), "--uds", str(path)], env=clean_environment()
    )
    try:
        deadline = time.monotonic() + 60
        answer = ""
        while not answer and time.monotonic() < deadline:
            answer = _over(path, "/v1/models")
            time.sleep(0.1)
        assert json.loads(answer)["data"][0]["id"] == "smollm2"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _over(path: Path, target: str) -> str:
    done = subprocess.run(
        ["curl", "-s", "--unix-socket", str(path), f"http://localhost{target}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_workers_share_the_port(config: Path) -> None:
    """``--workers 2`` serves from two processes of one parent."""
    port = free_port()
    with served("--config", str(config), "--workers", "2", port=port):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(BODY).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["choices"]


def test_a_proxy_that_is_not_there_is_told() -> None:
    """``chat`` and ``models`` say that nobody answers, and how to start one."""
    done = run("models", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "llm-proxy serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_version() -> None:
    """``version`` prints the package's version."""
    from proxy_api import __version__

    assert __version__ in run("version").stdout
