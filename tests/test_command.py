"""The llm-proxy command as a user runs it, in processes of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "proxy_api"]
BODY = {"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}


TLS = Path(__file__).parents[1] / "packages/proxy_core/tests/tls"


def run(
    *words: str, said: bytes | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *words],
        input=said or b"",
        capture_output=True,
        env={**clean_environment(), **variables},
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
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
    """Without a model it exits with EX_CONFIG, which systemd takes as final, and three ways on."""
    done = run("serve")
    assert done.returncode == 78
    assert all(word in done.stderr for word in ("--local-model", "--discover", "--config"))


def test_an_open_listener_without_keys_is_refused(config: Path) -> None:
    """Serving others without keys is an error that names the setting and the remedy."""
    done = run("serve", "--config", str(config), "--host", "0.0.0.0")
    assert done.returncode == 78
    assert "keys" in done.stderr
    assert "127.0.0.1" in done.stderr


def test_check_tells_every_problem(tmp_path: Path, config: Path) -> None:
    """The exit status says whether the file can be used; the text names paths and nearest names."""
    good = run("check", str(config))
    assert (good.returncode, good.stderr) == (0, "")
    assert "1 provider, 1 model, 0 keys" in good.stdout
    empty = tmp_path / "empty.yaml"
    empty.write_text("models: []\n")
    warned = run("check", str(empty))
    assert (warned.returncode, warned.stderr) == (
        0,
        "warning: no models: there is nothing to serve\n",
    )
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
    assert done.returncode == 78
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
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
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
    assert run("--version").stdout == run("version").stdout


def test_a_taken_port_is_one_line(config: Path) -> None:
    """A second proxy on the port ends with 1 before anything of it starts."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("serve", "--config", str(config), "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"llm-proxy: port {port} of 127.0.0.1 is taken: use --port\n"


def test_what_is_no_proxy_is_told() -> None:
    """Advice to start one is for where nobody listens; elsewhere it is said what came."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"

        def leave() -> None:
            other.accept()[0].close()

        with ThreadPoolExecutor(1) as pool:
            pool.submit(leave)
            done = run("models", "--url", url)
    for told in (done.stderr, run("models", "--url", "localhost:4000").stderr):
        assert told.startswith("llm-proxy: ")
        assert told.count("\n") == 1
        assert not any(word in told for word in ("Start one", "upstream", ".."))


class Echo(BaseHTTPRequestHandler):
    """Answers as a proxy that streams what it was told; 'slow' makes it wait for ever."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._start("application/json")
        self.wfile.write(b'{"data": [{"id": "echo"}]}')

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"]
        self._start("text/event-stream")
        self._tell({"content": json.dumps([message["content"] for message in messages])})
        while messages[-1]["content"] == "slow":
            time.sleep(0.05)
            self._tell({"content": "."})
        self._tell({}, "stop")

    def _start(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()

    def _tell(self, delta: dict[str, str], finish: str | None = None) -> None:
        chunk = {"choices": [{"delta": delta, "finish_reason": finish}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())


class EchoServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""


@pytest.fixture
def echo() -> Iterator[str]:
    server = EchoServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_piped_in_follows_the_prompt(echo: str) -> None:
    """A prompt about a text: the text of standard input comes after a blank line."""
    done = run("chat", "--url", echo, "Sum", "up", said="Käse\n".encode())
    assert json.loads(done.stdout) == ["Sum up\n\nKäse"]
    bad = run("chat", "--url", echo, "Sum", said=b"\xff\xfe")
    assert bad.returncode == 1
    assert bad.stderr == "llm-proxy: what came on standard input isn't text in UTF-8\n"


def test_a_reader_may_leave_an_answer(echo: str) -> None:
    """``chat … | head -c 20`` ends quietly."""
    with subprocess.Popen(
        [*COMMAND, "chat", "--url", echo, "slow"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(5)
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_ctrl_c_ends_one_answer_then_the_conversation(echo: str) -> None:
    """In an answer it ends that answer; at the prompt, with or without a line begun, it ends."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND, "chat", "--url", echo])
    read_until(terminal, b"> ")
    os.write(terminal, b"slow\n")
    read_until(terminal, b"]..")
    os.write(terminal, b"\x03")
    read_until(terminal, b"> ")
    os.write(terminal, b"again\n")
    # The prompt behind the answer, not the one that the line above was typed at.
    told = read_until(terminal, b'"again"]')
    if b"> " not in told.rpartition(b'"again"]')[2]:
        read_until(terminal, b"> ")
    time.sleep(0.3)  # Python loses a Ctrl-C between the prompt and the read behind it
    os.write(terminal, b"half a line\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    os.close(terminal)


def read_until(terminal: int, wanted: bytes) -> bytes:
    told = b""
    while wanted not in told:
        assert select.select([terminal], [], [], 30)[0], told
        told += os.read(terminal, 4096)
    return told


def test_it_serves_https_and_greets_on_standard_output(config: Path) -> None:
    """With server.tls it speaks TLS; the log alone is on standard error, each line JSON."""
    pem = str(TLS / "localhost.pem")
    with config.open("a") as file:
        file.write(f"server: {{tls: {{cert: '{pem}', key: '{pem}'}}}}\n")
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    assert process.stdout is not None
    greeting = process.stdout.readline().decode()
    trusting = ssl.create_default_context(cafile=str(TLS / "authority.pem"))
    with urllib.request.urlopen(f"https://localhost:{port}/livez", context=trusting) as answer:
        assert answer.status == 200
    process.terminate()
    log = process.communicate(timeout=30)[1]
    assert greeting == f"Serving smollm2 at https://127.0.0.1:{port}. Try:\n"
    assert {json.loads(line)["service"] for line in log.splitlines()} == {"llm-proxy"}
