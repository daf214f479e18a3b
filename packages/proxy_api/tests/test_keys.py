"""Who is let in: keys by their digest, and without any this machine alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from proxy_api._keys import Key, KeyRing, LocalOnly, is_addressed_locally
from proxy_core import Secret
from proxy_core.errors import AuthenticationFailed, PermissionRefused


@dataclass
class Head:
    """The head of a request."""

    peer: str | None = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)

    def header(self, name: bytes) -> str:
        return self.headers.get(name.decode(), "")


def head(peer: str | None = "127.0.0.1", **headers: str) -> Head:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(peer, {"host": "localhost:4000", **named})


RING = KeyRing([(Secret("sk-one"), Key("1", "one")), (Secret("sk-two"), Key("2", "two"))])


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-two"},
        {"authorization": "bearer  sk-two "},
        {"x_api_key": "sk-two"},
        {"api_key": "sk-two"},
        {"x_goog_api_key": "sk-two"},
    ],
)
def test_a_key_is_found_in_each_header(headers: dict[str, str]) -> None:
    """All the SDKs' ways of sending a key are understood."""
    assert RING.authenticate(head("203.0.113.9", **headers)).name == "two"


@pytest.mark.parametrize(
    "given", ["", "sk-", "sk-twoo", "SK-TWO", "sk-two\x00", "\udcff", "x" * 9999]
)
def test_what_is_no_key_is_refused(given: str) -> None:
    """Nothing but the exact key is let in, and the answer never repeats what was sent."""
    with pytest.raises(AuthenticationFailed) as caught:
        RING.authenticate(head(authorization=f"Bearer {given}"))
    assert len(given) < 3 or given not in caught.value.message


def test_the_ring_does_not_hold_the_keys() -> None:
    """Neither its attributes nor its repr have a key in them."""
    assert "sk-one" not in repr(vars(RING))


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", None])
def test_without_keys_this_machine_is_served(peer: str | None) -> None:
    """Loopback peers and unix sockets are let in."""
    assert LocalOnly().authenticate(head(peer)).name == "local"


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", "203.0.113.9", "fe80::1", "::ffff:10.0.0.1", "unknown"]
)
def test_without_keys_nobody_else_is(peer: str) -> None:
    """Any other peer is refused."""
    with pytest.raises(AuthenticationFailed):
        LocalOnly().authenticate(head(peer))


@pytest.mark.parametrize(
    "name", ["x_forwarded_for", "forwarded", "x_real_ip", "via", "x_forwarded_host"]
)
def test_a_reverse_proxy_on_this_machine_is_not_this_machine(name: str) -> None:
    """Who speaks for somebody else is refused without keys, and opens no metrics."""
    forwarded = head(**{name: "203.0.113.9"})
    with pytest.raises(AuthenticationFailed):
        LocalOnly().authenticate(forwarded)
    assert not is_addressed_locally(forwarded)
    assert is_addressed_locally(head())


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "[::2]"]
)
def test_a_foreign_host_is_refused(host: str) -> None:
    """A name that was rebound to this machine doesn't get in, nor one over a unix socket."""
    with pytest.raises(PermissionRefused):
        LocalOnly().authenticate(head(host=host))
    assert not is_addressed_locally(head("127.0.0.1", host=host))
    assert is_addressed_locally(head(None, host=host)) == (not host)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example"]
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    """A web page of somebody else can't spend through the proxy; one of this machine can."""
    with pytest.raises(PermissionRefused):
        LocalOnly().authenticate(head(origin=origin))
    assert LocalOnly().authenticate(head(origin="http://localhost:3000")).name == "local"
