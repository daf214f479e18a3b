"""What is found without being configured, and what is left alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from rich.console import Console

from proxy_api import _discover
from proxy_api._discover import Discovery, Found, discover
from proxy_api._settings import load_settings

Probe = Callable[[str], Awaitable[tuple[str, ...] | None]]


def probing(**models: tuple[str, ...]) -> Probe:
    """A probe that finds these models, by port: ``p8000=("a",)``."""

    async def probe(url: str) -> tuple[str, ...] | None:
        port = url.removeprefix("http://127.0.0.1:").removesuffix("/v1")
        return models.get(f"p{port}")

    return probe


@asynccontextmanager
async def answering(
    answer: bytes, *, hang: bool = False, connections: int = 1
) -> AsyncIterator[int]:
    """A server on a loopback port that answers anything with these bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if hang:
                await reader.read()
        except OSError:
            pass  # the client had enough
        finally:
            writer.transport.abort()
            handled.release()

    handled = asyncio.Semaphore(0)
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(connections):
            await handled.acquire()


def http(body: bytes, status: str = "200 OK") -> bytes:
    """A whole answer."""
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def test_keys_in_the_environment_become_providers() -> None:
    """A key that is there gives its provider, and all its models below its name."""
    environ = {"OPENAI_API_KEY": "sk-1", "GROQ_API_KEY": "gsk-1", "XAI_API_KEY": " "}
    rows = (await discover(environ, probe=probing())).rows()
    assert rows.providers == {
        "openai": {"kind": "openai", "api_key": "${OPENAI_API_KEY}"},
        "groq": {"kind": "groq", "api_key": "${GROQ_API_KEY}"},
    }
    assert rows.models == (
        {"name": "openai/*", "target": "openai/*"},
        {"name": "groq/*", "target": "groq/*"},
    )


async def test_local_servers_give_their_models() -> None:
    """A local server's models keep their names, but for one that two servers have."""
    probe = probing(p11434=("llama3:8b", "phi"), p8080=("phi",), p1234=())
    rows = (await discover({}, probe=probe)).rows()
    assert set(rows.providers) == {"ollama", "llamacpp"}
    assert [model["name"] for model in rows.models] == ["llama3:8b", "ollama/phi", "llamacpp/phi"]


async def test_what_is_found_can_be_loaded() -> None:
    """Rows of every kind that can be found make valid settings."""
    environ = {variable: f"key-of-{kind}" for kind, variable in _discover._CLOUDS}
    ports = {f"p{port}": (f"model-at-{port}",) for _, port in _discover._LOCAL}
    found = await discover(environ, probe=probing(**ports))
    settings = load_settings(environ=environ, rows=[found.rows()])
    known = len(_discover._CLOUDS) + len(_discover._LOCAL)
    assert len(settings.providers) == len(settings.models) == known
    assert {"openai", "anthropic", "gemini", "ollama"} <= settings.providers.keys()
    secrets = [p.secrets[0].get_secret_value() for p in settings.providers.values() if p.secrets]
    assert secrets == [f"key-of-{kind}" for kind, _ in _discover._CLOUDS]


async def test_own_ports_are_not_asked() -> None:
    """The proxy doesn't ask the port that it listens on itself."""
    asked: list[str] = []

    async def probe(url: str) -> None:
        asked.append(url)

    await discover({}, probe=probe, own_ports={8000, 4000})
    assert sorted(asked) == [f"http://127.0.0.1:{port}/v1" for port in (11434, 1234, 8080)]


@pytest.mark.parametrize(
    "environ",
    [
        {"OPENAI_API_KEY": "sk-lp-abc-def"},
        {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "http://localhost:4000/v1"},
        {"OPENAI_API_KEY": ""},
    ],
)
async def test_a_client_s_settings_for_this_proxy_are_no_provider(
    environ: dict[str, str],
) -> None:
    """A key of ours, or one that is meant for us, is never taken for OpenAI's."""
    assert (await discover(environ, probe=probing(), own_ports={4000})).found == ()


async def test_a_key_goes_only_where_its_owner_sends_it() -> None:
    """With $OPENAI_BASE_URL the key belongs to that address, not to OpenAI's."""
    environ = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "https://llm.example.com/v1"}
    (found,) = (await discover(environ, probe=probing())).found
    assert found.row["base_url"] == "https://llm.example.com/v1"


async def test_real_servers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a socket, OpenAI's listing is read and what no target can hold is left out."""
    body = b'{"data": [{"id": "a"}, {"id": "a"}, {"id": "b*"}, {"id": "c d"}, {"id": 1}, "x"]}'
    async with answering(http(body)) as port:
        monkeypatch.setattr(_discover, "_LOCAL", (("vllm", port),))
        (found,) = (await discover({})).found
    assert (found.name, found.models) == ("vllm", ("a",))


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html>"),
        http(b"[]"),
        http(b'{"data": {}}'),
        http(b'{"data": []}'),
        http(b'{"data": [{"id": "a"}]}', "404 Not Found"),
        http(b'{"data": [{"id": "' + b"a" * 1_000_001 + b'"}]}'),
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
async def test_whatever_else_listens_is_ignored(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that answers anything but a listing counts as nothing there, and nothing raises."""
    async with answering(answer) as port:
        monkeypatch.setattr(_discover, "_LOCAL", (("vllm", port),))
        assert (await discover({})).found == ()


async def test_silent_servers_do_not_hold_up_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four servers that never finish cost the time limit once, not four times."""
    async with answering(b"HTTP/1.1 200 OK\r\n", hang=True, connections=4) as port:
        monkeypatch.setattr(_discover, "_LOCAL", tuple((f"s{i}", port) for i in range(4)))
        started = time.monotonic()
        assert (await discover({})).found == ()
        assert time.monotonic() - started < 4 * _discover.PROBE_SECONDS


def test_the_table_names_variables_not_keys() -> None:
    """People see what was found and where, and never a key."""
    found = Discovery(
        (
            Found("openai", "OPENAI_API_KEY"),
            Found("ollama", base_url="http://127.0.0.1:11434/v1", models=tuple("abcdefg")),
        )
    )
    console = Console(width=120)
    with console.capture() as capture:
        console.print(found.table())
    shown = capture.get()
    assert "$OPENAI_API_KEY" in shown
    assert "http://127.0.0.1:11434/v1" in shown
    assert "a, b, c, d, e and 2 more" in shown
