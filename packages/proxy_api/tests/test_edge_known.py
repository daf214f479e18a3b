"""What is known of the headers of a connection's requests, and when it doesn't count."""

from __future__ import annotations

from proxy_api._edge._known import KnownHead
from proxy_api._edge._rules import Rules
from proxy_api._settings_models import ServerSettings

LINES = ((b"host", b"a"), (b"x-api-key", b"one"), (b"x-api-key", b"two"), (b"accept", b"*/*"))
URL = b"/v1/chat/completions"


def request(body: bytes) -> bytes:
    lines = b"".join(b"%b: %b\r\n" % line for line in LINES)
    head = b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (URL, lines, len(body))
    return head + body


def known() -> KnownHead:
    """After a request with a body of three bytes."""
    headers = [*LINES, (b"content-length", b"3")]
    rules = Rules.of(ServerSettings())
    made = KnownHead.of(request(b"abc"), URL, headers, dict(headers), rules)
    assert made is not None
    return made


def asked(head: KnownHead, body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of another request with this head."""
    data = request(body)
    return head.headers(data, head.body_at(data))[0]


def test_each_request_has_the_first_values_and_its_own_length() -> None:
    """As who reads the headers anew finds them, also the second time."""
    head = known()
    for body in (b"x" * 10, b"", b"x" * 10):
        headers = asked(head, body)
        assert head.first_values(headers) == dict(reversed(headers))
        assert head.first_values(headers)[b"x-api-key"] == b"one"
        assert head.first_values(headers)[b"content-length"] == b"%d" % len(body)


def test_headers_that_were_changed_on_their_way_count() -> None:
    """Something between the edge and the app may put in, take out or replace some, in place."""
    head = known()
    headers = asked(head, b"abc")
    head.first_values(headers)
    headers[1] = (b"x-api-key", b"three")
    headers.append((b"x-more", b"1"))
    assert head.first_values(headers) == dict(reversed(headers))
    assert head.first_values(headers)[b"x-api-key"] == b"three"
    assert head.first_values(asked(head, b"abc"))[b"x-api-key"] == b"one"


def test_a_request_keeps_its_own_when_the_next_one_has_come() -> None:
    """Its length is its own, and so is what it was given."""
    head = known()
    first, second = asked(head, b"a"), asked(head, b"bc")
    assert head.first_values(first)[b"content-length"] == b"1"
    head.first_values(second)[b"x-api-key"] = b"other"
    assert head.first_values(second)[b"x-api-key"] == b"one"
