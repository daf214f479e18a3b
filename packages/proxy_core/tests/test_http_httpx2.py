"""The other engine: HTTP/2, outbound proxies, and that nothing else pays for it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from proxy_core import HttpClient, HttpRequest
from proxy_core.errors import ConfigurationError, ConnectFailed

TLS = Path(__file__).with_name("tls")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Plays a function with each connection; gives the port."""
    async with AsyncExitStack() as stack:

        async def start(play: Play, **options: Any) -> int:
            async def played(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await play(reader, writer)
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass
                finally:
                    writer.close()

            server = await asyncio.start_server(played, "127.0.0.1", 0, **options)
            stack.callback(server.close)
            port: int = server.sockets[0].getsockname()[1]
            return port

        yield start


@pytest.fixture
async def clients() -> AsyncIterator[Callable[..., HttpClient]]:
    """Makes clients that trust the tests' authority, and closes them."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> HttpClient:
            client = HttpClient(ca=str(TLS / "authority.pem"), **options)
            stack.push_async_callback(client.aclose)
            return client

        yield make


Clients = Callable[..., HttpClient]


async def ask(client: HttpClient, url: str) -> bytes:
    async with client.send(HttpRequest("POST", url, [(b"x-key", b"v")], b"{}")) as response:
        assert response.status == 200
        return await response.read()


class Http2:
    """A server for HTTP/2 that answers every request; ``heads`` are what it was asked."""

    def __init__(self) -> None:
        self.heads: list[list[tuple[bytes, bytes]]] = []
        self.connections = 0

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        speaker = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        speaker.initiate_connection()
        writer.write(speaker.data_to_send())
        while data := await reader.read(65536):
            for event in speaker.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.heads.append(list(event.headers))
                elif isinstance(event, h2.events.StreamEnded):
                    speaker.send_headers(event.stream_id, [(":status", "200"), ("X-A", "b")])
                    speaker.send_data(event.stream_id, b"hello", end_stream=True)
            writer.write(speaker.data_to_send())


def tls(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem")
    context.set_alpn_protocols(protocols)
    return context


async def test_http2_is_spoken_where_the_upstream_speaks_it(serve: Serve, clients: Clients) -> None:
    """Requests at the same time share one connection, and nothing packed is asked for."""
    server = Http2()
    port = await serve(server.play, ssl=tls("h2", "http/1.1"))
    client = clients(http2=True)
    url = f"https://localhost:{port}/v1/x"
    assert await ask(client, url) == b"hello"
    assert await asyncio.gather(*[ask(client, url) for _ in range(5)]) == [b"hello"] * 5
    assert server.connections == 1
    assert dict(server.heads[0]) == {
        b":method": b"POST",
        b":authority": b"localhost:%d" % port,
        b":scheme": b"https",
        b":path": b"/v1/x",
        b"x-key": b"v",
        b"accept-encoding": b"identity",
        b"content-length": b"2",
    }


async def test_http1_is_spoken_where_the_upstream_speaks_no_http2(
    serve: Serve, clients: Clients
) -> None:
    """It is agreed on in the handshake of TLS."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK)

    port = await serve(play, ssl=tls("http/1.1"))
    assert await ask(clients(http2=True), f"https://localhost:{port}/") == b"hello"


async def test_a_proxy_is_asked_for_the_upstream(serve: Serve, clients: Clients) -> None:
    """The name goes to the proxy unresolved, with the password that its URL holds."""
    heads = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    port = await serve(proxy)
    client = clients(proxy=f"http://me:secret@127.0.0.1:{port}")
    assert await ask(client, "http://gpu.invalid/v1/x") == b"hello"
    assert heads[0].startswith(b"POST http://gpu.invalid/v1/x HTTP/1.1\r\n")
    assert b"proxy-authorization: basic bwu6c2vjcmv0" in heads[0].lower()


async def test_tls_goes_through_a_proxy_to_the_upstream(serve: Serve, clients: Clients) -> None:
    """The proxy connects, and what it passes on it can't read."""

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK)

    asked = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        theirs, ours = await asyncio.open_connection("127.0.0.1", behind)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pipe(reader, ours), pipe(theirs, writer))

    behind = await serve(upstream, ssl=tls("http/1.1"))
    client = clients(proxy=f"http://127.0.0.1:{await serve(proxy)}")
    assert await ask(client, f"https://localhost:{behind}/") == b"hello"
    assert asked == [b"CONNECT localhost:%d HTTP/1.1" % behind]


async def test_a_proxy_that_refuses_is_a_failed_connection(serve: Serve, clients: Clients) -> None:
    """Nothing reached the upstream, and the password is not told."""

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")

    client = clients(proxy=f"http://me:secret@127.0.0.1:{await serve(proxy)}")
    with pytest.raises(ConnectFailed, match="outbound proxy would not connect: 407") as caught:
        await ask(client, "https://gpu.invalid/")
    assert "secret" not in str(caught.value)


async def test_a_proxy_is_not_asked_for_forbidden_addresses(serve: Serve, clients: Clients) -> None:
    """Nor is a proxy called that has one itself."""
    asked = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))

    client = clients(proxy=f"http://127.0.0.1:{await serve(proxy)}")
    for host in ("169.254.169.254", "metadata.google.internal", "[::ffff:169.254.169.254]"):
        with pytest.raises(ConnectFailed, match="metadata"):
            await ask(client, f"http://{host}/latest")
    assert asked == []
    with pytest.raises(ConnectFailed, match="metadata"):
        await ask(clients(proxy="http://169.254.169.254:3128"), "http://gpu.invalid/")


@pytest.mark.parametrize(
    "proxy", ["", "me:secret@h:1", "socks5://me:secret@h:1", "http://", "http://me:secret@h:x"]
)
def test_a_proxy_that_is_none_is_refused(proxy: str) -> None:
    """At construction, with what to write, and without its password."""
    with pytest.raises(ConfigurationError, match="write http://host:port") as caught:
        HttpClient(proxy=proxy)
    assert "secret" not in str(caught.value)
    assert caught.value.param == "proxy"


@pytest.mark.parametrize(
    ("missing", "option"),
    [("httpx2", "http2=True"), ("h2", "http2=True"), ("httpx2", "proxy='http://h:1'")],
)
def test_what_is_not_installed_is_named(missing: str, option: str) -> None:
    """The package, the setting that needs it, and the extra that brings it."""
    told = python(f"""
import sys
sys.modules[{missing!r}] = None
from proxy_core import HttpClient, errors
try:
    HttpClient({option})
except errors.ConfigurationError as error:
    print(error.param, error.message)
""")
    field = option.partition("=")[0]
    assert told.startswith(f"{field} {field} needs the package {missing!r}")
    assert told.endswith("pip install 'proxy-core[http2]'.")


def python(script: str) -> str:
    """What a script prints in a process of its own."""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return told.stdout.decode().strip()


def test_who_wants_neither_does_not_import_it() -> None:
    """Nor what it needs itself: importing it takes longer than all of proxy_core."""
    script = (
        "import sys, proxy_core; proxy_core.HttpClient();"
        "print(*{'httpx2', 'httpcore2', 'anyio', 'h2'} & set(sys.modules))"
    )
    assert python(script) == ""
