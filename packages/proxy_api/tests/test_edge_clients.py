"""Who is asking: believed from trusted proxies alone; and which pages may."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_api import InvalidSettings
from proxy_api._edge._forwarded import Trust
from proxy_api._edge._proxy_protocol import NotProxied, Proxied, read_preface
from proxy_api._keys import LocalOnly
from proxy_api._settings import Settings, checked
from proxy_core.errors import PermissionRefused

Start = Callable[..., Any]
NEAR = ["127.0.0.0/8"]
TRUST = Trust(["10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32"])
XFF, FORWARDED = b"x-forwarded-for", b"forwarded"


async def whoami(scope: Any, receive: Any, send: Any) -> None:
    body = json.dumps(scope["client"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def asking(*lines: bytes, method: bytes = b"GET") -> bytes:
    head = [method + b" / HTTP/1.1", b"host: a", b"connection: close", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n"


def host_of(got: bytes) -> Any:
    return json.loads(got.partition(b"\r\n\r\n")[2])[0]


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([], None),
        ([(XFF, b"203.0.113.9")], "203.0.113.9"),
        ([(XFF, b"127.0.0.1, 203.0.113.9")], "203.0.113.9"),
        ([(XFF, b"198.51.100.1, 203.0.113.9, 10.1.2.3")], "203.0.113.9"),
        ([(XFF, b"198.51.100.1"), (XFF, b"203.0.113.9 , 10.1.2.3")], "203.0.113.9"),
        ([(XFF, b"10.9.9.9, 10.1.2.3")], "10.9.9.9"),
        ([(XFF, b"203.0.113.9:1234")], "203.0.113.9"),
        ([(XFF, b"[2001:db8:1::1]:1234, 2001:db8::2")], "2001:db8:1::1"),
        ([(XFF, b"::ffff:203.0.113.9")], "203.0.113.9"),
        ([(XFF, b"203.0.113.9, unknown")], None),
        ([(XFF, b"203.0.113.9, unknown, 10.1.2.3")], "10.1.2.3"),
        ([(XFF, b"")], None),
        ([(XFF, b"\xff\xfe")], None),
        ([(FORWARDED, b"for=198.51.100.1, for=203.0.113.9;proto=https")], "203.0.113.9"),
        ([(FORWARDED, b'proto=https;For="[2001:dead::1]:99"')], "2001:dead::1"),
        ([(FORWARDED, b"for=_hidden")], None),
        ([(FORWARDED, b"for=198.51.100.1"), (XFF, b"203.0.113.9")], "203.0.113.9"),
    ],
)
def test_the_last_address_that_is_no_proxy_of_ours(
    headers: list[tuple[bytes, bytes]], client: str | None
) -> None:
    """What stands before it was written by somebody whom nobody knows."""
    assert TRUST.client(headers) == client


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_stands_there_is_an_address_or_nothing(one: bytes, two: bytes) -> None:
    """Nothing that a header holds makes it fail."""
    TRUST.client([(XFF, one), (FORWARDED, two)])


def test_a_trusted_proxy_is_believed(edge: Start) -> None:
    """From a listed address the header names the client; it stays what it is for the app."""
    got = edge(whoami, trusted_proxies=NEAR).ask(asking(b"x-forwarded-for: 203.0.113.9"))
    assert host_of(got) == "203.0.113.9"


@pytest.mark.parametrize("line", [b"x-forwarded-for: 203.0.113.9", b"forwarded: for=203.0.113.9"])
def test_anybody_else_is_not(edge: Start, line: bytes) -> None:
    """From an address that isn't listed, nothing is believed."""
    got = edge(whoami, trusted_proxies=["10.0.0.0/8"]).ask(asking(line))
    assert host_of(got) == "127.0.0.1"


def second(command: int, family: int, addresses: bytes) -> bytes:
    head = b"\r\n\r\n\x00\r\nQUIT\n" + bytes([command, family])
    return head + len(addresses).to_bytes(2, "big") + addresses


V4 = socket.inet_aton("203.0.113.9") + socket.inet_aton("10.0.0.1") + b"\x04\xd2\x01\xbb"
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::9") * 2 + b"\x04\xd2\x01\xbb"
PREFACES = [
    (b"PROXY TCP4 203.0.113.9 10.0.0.1 1234 443\r\n", ("203.0.113.9", 1234)),
    (b"PROXY TCP6 2001:db8::9 ::1 1234 443\r\n", ("2001:db8::9", 1234)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    (second(0x21, 0x11, V4), ("203.0.113.9", 1234)),
    (second(0x21, 0x21, V6 + b"\x04\x00\x01\x00"), ("2001:db8::9", 1234)),
    (second(0x20, 0x00, b""), None),
    (second(0x21, 0x31, b"/" * 216), None),
]


@pytest.mark.parametrize(("preface", "client"), PREFACES)
def test_the_proxy_protocol_is_read(preface: bytes, client: tuple[str, int] | None) -> None:
    """Both versions, wherever they are cut; what follows is left alone."""
    assert read_preface(preface + b"GET") == Proxied(len(preface), client)
    assert [read_preface(preface[:end]) for end in range(len(preface))] == [None] * len(preface)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 here there 1 2\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY " + b"x" * 200,
        second(0x31, 0x11, V4),
        second(0x21, 0x11, V4[:6]),
        second(0x21, 0x11, b"x" * 4000),
    ],
)
def test_what_is_no_such_line_is_refused(sent: bytes) -> None:
    """A trusted peer that doesn't begin with it can't be what it is taken for."""
    with pytest.raises(NotProxied):
        read_preface(sent)


@pytest.mark.parametrize("preface", [PREFACES[0][0], PREFACES[4][0]])
def test_a_balancer_says_who_is_behind_it(edge: Start, preface: bytes) -> None:
    """The connection's client is the one of the line, however the line arrives."""
    server = edge(whoami, trusted_proxies=NEAR, proxy_protocol=True)
    assert host_of(server.ask(preface + asking())) == "203.0.113.9"
    assert host_of(server.ask(preface[:7], preface[7:], asking())) == "203.0.113.9"


def test_who_is_behind_a_balancer_is_not_believed(edge: Start) -> None:
    """A TCP balancer passes headers on as they are: what they say is the client's own word."""
    server = edge(whoami, trusted_proxies=NEAR, proxy_protocol=True)
    spoofed = asking(b"x-forwarded-for: 198.51.100.1")
    assert host_of(server.ask(PREFACES[0][0] + spoofed)) == "203.0.113.9"
    inner = b"PROXY TCP4 127.0.0.2 10.0.0.1 1 2\r\n"
    assert host_of(server.ask(inner + spoofed)) == "198.51.100.1"


def test_a_trusted_peer_must_speak_it(edge: Start) -> None:
    """Without the line it gets 400; a peer that isn't listed is an ordinary client."""
    assert edge(whoami, trusted_proxies=NEAR, proxy_protocol=True).ask(asking())[9:12] == b"400"
    other = edge(whoami, trusted_proxies=["10.0.0.0/8"], proxy_protocol=True)
    assert host_of(other.ask(asking())) == "127.0.0.1"
    assert other.ask(PREFACES[0][0] + asking())[9:12] == b"400"


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"proxy_protocol": True}, "trusted_proxies"),
        ({"cors": {"origins": ["https://App.example.com"]}}, "lower case"),
        ({"cors": {"origins": ["https://app.example.com/"]}}, "without a path"),
        ({"limits": {"connections": 0}}, "connections"),
        ({"limits": {"header_timeout": "0s"}}, "header_timeout"),
    ],
)
def test_a_setting_that_can_not_work_is_told(server: dict[str, Any], told: str) -> None:
    """With its path and the remedy."""
    with pytest.raises((InvalidSettings, ValueError), match=told):
        checked(Settings.model_validate({"server": server}))


PAGE = b"https://app.example.com"
CORS = {"origins": [PAGE.decode()]}


def lines_of(got: bytes) -> dict[bytes, bytes]:
    return dict(line.split(b": ", 1) for line in got.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])


def preflight(origin: bytes, headers: bytes = b"authorization") -> bytes:
    return asking(
        b"origin: " + origin,
        b"access-control-request-method: POST",
        b"access-control-request-headers: " + headers,
        method=b"OPTIONS",
    )


def test_without_the_setting_no_page_is_told_anything(edge: Start) -> None:
    """CORS is off: its headers are not sent, and OPTIONS is the app's."""
    got = edge(whoami).ask(preflight(PAGE))
    assert got.startswith(b"HTTP/1.1 200 ") and b"access-control" not in got


def test_a_listed_page_may_ask(edge: Start) -> None:
    """Its preflight is answered with what the SDKs send, and no cookie is ever allowed."""
    asked = b"Authorization, content-type,x-stainless-lang , anthropic-version,cookie,x-evil"
    got = edge(whoami, cors=CORS).ask(preflight(PAGE, asked))
    lines = lines_of(got)
    assert got.startswith(b"HTTP/1.1 204 ")
    assert lines[b"access-control-allow-origin"] == PAGE
    assert lines[b"vary"] == b"Origin"
    assert b"POST" in lines[b"access-control-allow-methods"]
    assert lines[b"access-control-allow-headers"] == (
        b"authorization, content-type, x-stainless-lang, anthropic-version"
    )
    assert b"access-control-allow-credentials" not in lines


def test_a_listed_page_sees_the_answer(edge: Start) -> None:
    """Also the headers that tell of limits and requests; so it does with errors of the edge."""
    server = edge(whoami, cors=CORS, limits={"body_timeout": 0.2})
    slow = b"POST / HTTP/1.1\r\nhost: a\r\norigin: %b\r\ncontent-length: 9\r\n\r\n" % PAGE

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    for got in (
        server.ask(asking(b"origin: " + PAGE)),
        edge(reads, cors=CORS, limits={"body_timeout": 0.1}).ask(slow),
    ):
        lines = lines_of(got)
        assert lines[b"access-control-allow-origin"] == PAGE
        exposed = lines[b"access-control-expose-headers"].split(b", ")
        assert {b"x-request-id", b"retry-after", b"x-llm-proxy-cost"} <= set(exposed)


def test_another_page_is_not_helped(edge: Start) -> None:
    """Its preflight is 403; its answers have no header that lets it read them."""
    server = edge(whoami, cors=CORS)
    refused = server.ask(preflight(b"https://evil.example"))
    assert refused.startswith(b"HTTP/1.1 403 ") and b'"code":"origin_not_allowed"' in refused
    for sent in (asking(b"origin: https://evil.example"), asking()):
        lines = lines_of(server.ask(sent))
        assert b"access-control-allow-origin" not in lines
        assert lines[b"vary"] == b"Origin"


def test_any_page_when_it_is_said(edge: Start) -> None:
    """With ``*`` every page may."""
    got = edge(whoami, cors={"origins": ["*"]}).ask(asking(b"origin: https://any.example"))
    assert lines_of(got)[b"access-control-allow-origin"] == b"*"


class Page:
    """The head of a page's request on this machine."""

    peer = "127.0.0.1"

    def header(self, name: bytes) -> str:
        return {b"host": "localhost", b"origin": PAGE.decode()}.get(name, "")


def test_without_keys_a_listed_page_is_let_in() -> None:
    """But never every page: then the whole web could spend."""
    assert LocalOnly(origins=[PAGE.decode()]).authenticate(Page()).name == "local"
    for origins in ([], ["*"], ["https://other.example"]):
        with pytest.raises(PermissionRefused):
            LocalOnly(origins=origins).authenticate(Page())
