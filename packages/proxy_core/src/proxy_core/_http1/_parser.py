"""What an upstream answers, byte by byte, without I/O. llhttp parses; what it lets pass is refused.

llhttp 9 in its strict mode refuses folded headers, control characters, bare line feeds, a repeated
or odd content-length, one beside a transfer-encoding, and bad chunks. It accepts, and we don't:
HTTP/0.9, HTTP/2.0, RTSP and ICE, codings other than chunked, chunks in HTTP/1.0, heads of any size.
"""

from __future__ import annotations

from typing import Final, NoReturn

import httptools

from proxy_core._types import Headers

__all__ = ["MOST_HEADERS", "MOST_HEAD_BYTES", "BadAnswer", "ResponseParser"]

MOST_HEAD_BYTES: Final = 32 * 1024
"""Of all heads of one answer, the interim ones included, and of what lies between two chunks."""
MOST_HEADERS: Final = 100


class BadAnswer(Exception):
    """What came is no HTTP/1.1 answer. The message says why and quotes nothing of it."""


class ResponseParser:
    """Reads one answer after the other: ``expect``, then ``feed`` until ``complete``.

    ``status`` is 0 until the head is whole; ``parts`` is the body that came and was not taken yet.
    """

    __slots__ = (
        "_head_bytes",
        "_is_head",
        "_llhttp",
        "_quiet",
        "_why",
        "complete",
        "headers",
        "keep_alive",
        "on_body",
        "parts",
        "started",
        "status",
        "surplus",
        "until_close",
    )

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.on_body = self.parts.append  # llhttp calls it: no frame of ours for each chunk
        self._is_head = False
        self.expect(is_head=False)
        self._llhttp = httptools.HttpResponseParser(self)

    def expect(self, *, is_head: bool) -> None:
        """Begin the next answer. The last one was complete, and nothing came after it."""
        if self._is_head:  # llhttp still waits for the body that its length told of
            self._llhttp = httptools.HttpResponseParser(self)
        self._is_head = is_head
        self.parts.clear()
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self.keep_alive = False
        """Whether the connection may be used again, known once the answer is complete."""
        self.until_close = False
        """Whether only the end of the connection ends the body."""
        self.surplus = False
        """Whether more came than the answer: the connection is of no more use."""
        self.started = False
        """Whether a byte came."""
        self._head_bytes = 0
        self._quiet = 0
        self._why = ""

    def feed(self, data: memoryview) -> None:
        """Take what was read. Raises BadAnswer; what came before the fault can still be had."""
        if self.complete:
            self.surplus = True
        elif self.status:
            self._feed_body(data)
        else:
            self._feed_head(data)

    def eof(self) -> None:
        """Tell that the connection ended. Raises BadAnswer unless that is the end of the body."""
        if self.until_close:
            self.complete = True
        elif not self.complete:
            raise BadAnswer(
                "it closed in the middle of its answer"
                if self.started
                else "it closed without an answer"
            )

    def _feed_head(self, data: memoryview) -> None:
        if not self.started:
            self.started = True
            if data[0] != 0x48:
                raise BadAnswer("its answer does not begin with HTTP/")
        room = MOST_HEAD_BYTES - self._head_bytes
        self._head_bytes += len(data)
        self._run(data if len(data) <= room else data[:room])
        if len(data) >= room and not self.status:
            raise BadAnswer(f"the head of its answer is larger than {MOST_HEAD_BYTES} bytes")
        if len(data) > room:
            self.feed(data[room:])

    def _feed_body(self, data: memoryview) -> None:
        had = len(self.parts)
        self._run(data)
        if len(self.parts) > had or self.complete:
            self._quiet = 0
            return
        self._quiet += len(data)
        if self._quiet > MOST_HEAD_BYTES:
            raise BadAnswer(f"more than {MOST_HEAD_BYTES} bytes lie between two chunks")

    def _run(self, data: memoryview) -> None:
        try:
            self._llhttp.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise BadAnswer(self._why or str(error)) from None
            self.surplus = True
        if self._is_head and self.parts:
            self.parts.clear()
            self.surplus = True

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """Read no second answer where one was asked for: its body would become part of ours."""
        if self.complete:
            self._refuse("it sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes behind the body, a trailer, is let go."""
        if not self.status:
            self.headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """Judge the head, and how its body ends."""
        status = self._llhttp.get_status_code()
        if len(self.headers) > MOST_HEADERS:
            self._refuse(f"it sent more than {MOST_HEADERS} headers")
        version = self._llhttp.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._refuse("its answer is of another version of HTTP")
        if status < 200:
            self._skip(status)
        else:
            self._frame(status, version)
            self.status = status
            if self._is_head:
                self.on_message_complete()

    def on_message_complete(self) -> None:
        """See whether the connection may go on. A trailer too may have said that it closes."""
        if self.status and not self.complete:
            self.complete = True
            self.keep_alive = self.keep_alive and self._llhttp.should_keep_alive()

    def _skip(self, status: int) -> None:
        if status < 100:
            self._refuse("its status is below 100")
        if status == 101:
            self._refuse("it switched to another protocol")
        if not self._llhttp.should_keep_alive():
            self._refuse("its interim answer ends the connection")
        self.headers.clear()

    def _frame(self, status: int, version: str) -> None:
        coding = length = None
        for name, value in self.headers:
            if name == b"transfer-encoding":
                if coding is not None or version != "1.1" or value.lower() != b"chunked":
                    self._refuse("its transfer-encoding is not chunked")
                coding = value
            elif name == b"content-length":
                length = value
        is_framed = coding is not None or length is not None
        self.until_close = not (is_framed or self._is_head or status in {204, 304})
        # A 204 has no body, but one that is announced may come: better not to read on behind it.
        self.keep_alive = not self.until_close and not (status == 204 and is_framed)

    def _refuse(self, why: str) -> NoReturn:
        self._why = why
        raise BadAnswer(why)
