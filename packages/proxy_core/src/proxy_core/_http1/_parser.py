"""What an upstream answers, byte by byte, without I/O. llhttp parses; what it lets pass is refused.

llhttp 9 in its strict mode refuses folded headers, control characters, bare line feeds, a repeated
or odd content-length, one beside a transfer-encoding, and bad chunks. It accepts, and we don't:
HTTP/0.9, HTTP/2.0, RTSP and ICE, codings other than chunked, chunks in HTTP/1.0, heads of any size.
"""

from __future__ import annotations

from typing import Final, NoReturn

import httptools

from proxy_core._http1._head import Head

__all__ = ["MOST_HEADERS", "MOST_HEAD_BYTES", "BadAnswer", "ResponseParser"]

MOST_HEAD_BYTES: Final = 32 * 1024
"""Of all heads of one answer, the interim ones included, and of what lies between two chunks."""
MOST_HEADERS: Final = 100
_VERSIONS: Final = (b"HTTP/1.1", b"HTTP/1.0")
_BODILESS: Final = frozenset({204, 304})


class BadAnswer(Exception):
    """What came is no HTTP/1.1 answer. The message says why and quotes nothing of it."""


class ResponseParser:
    """Reads one answer after the other: ``expect``, then ``feed`` until ``complete``.

    ``status`` is 0 until the head is whole, and then there is ``head``; ``parts`` is the body that
    came and was not taken yet. After an error, a ``surplus``, or an answer without ``keep_alive``
    nothing more can be expected.
    """

    __slots__ = (
        "_begun",
        "_head_at",
        "_is_head",
        "_llhttp",
        "_quiet",
        "_why",
        "complete",
        "head",
        "keep_alive",
        "on_body",
        "parts",
        "status",
        "surplus",
        "until_close",
    )

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.on_body = self.parts.append  # llhttp calls it: no frame of ours for each chunk
        self.head: Head
        self.keep_alive = False
        """Whether the connection may be used again, known once the answer is complete."""
        self.until_close = False
        """Whether only the end of the connection ends the body."""
        self.surplus = False
        """Whether more came than the answer: the connection is of no more use."""
        self._is_head = False
        self._begun = b""
        self._head_at = 0
        self._quiet = 0
        self._why = ""
        self.expect(is_head=False)
        self._llhttp = httptools.HttpResponseParser(self)

    @property
    def started(self) -> bool:
        """Whether a byte came."""
        return bool(self.status or self._begun)

    def expect(self, *, is_head: bool) -> None:
        """Begin the next answer. The last one was complete, and nothing came after it."""
        if self._is_head:  # llhttp still waits for the body that its length told of
            self._llhttp = httptools.HttpResponseParser(self)
        self._is_head = is_head
        if self.parts:  # nobody has taken the last body
            self.parts.clear()
        self.status = 0
        self.complete = False

    def feed(self, data: memoryview) -> None:
        """Take what was read. Raises BadAnswer; what came before the fault can still be had."""
        if not self.status:
            self._feed_head(data)
            return
        if self.complete:
            self.surplus = True
            return
        try:
            self._llhttp.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stop(error)
        if self.parts or self.complete:
            self._quiet = 0
            return
        self._quiet += len(data)
        if self._quiet > MOST_HEAD_BYTES:
            raise BadAnswer(f"more than {MOST_HEAD_BYTES} bytes lie between two chunks")

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
        rest = None
        begun = self._begun + data
        if len(begun) > MOST_HEAD_BYTES:
            room = MOST_HEAD_BYTES - len(self._begun)
            data, rest = data[:room], data[room:]
        self._begun = begun
        try:
            self._llhttp.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stop(error)
        if self._is_head and self.parts:
            self.parts.clear()
            self.surplus = True
        if rest is not None:
            if not self.status:
                raise BadAnswer(f"the head of its answer is larger than {MOST_HEAD_BYTES} bytes")
            self.feed(rest)

    def _stop(self, error: Exception) -> None:
        if not self.complete:
            raise BadAnswer(self._why or str(error)) from None
        self.surplus = True

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """Read no second answer where one was asked for: its body would become part of ours."""
        if self.complete:
            self._refuse("it sent more than one answer")

    def on_headers_complete(self) -> None:
        """Judge the head, and how its body ends."""
        begun, start = self._begun, self._head_at
        end = begun.find(b"\r\n\r\n", start) + 2
        head = Head(begun[start:end])
        if not head.raw.startswith(_VERSIONS):
            self._refuse("its answer is not of HTTP/1.1 or does not begin with it")
        if head.raw.count(b"\r\n") > MOST_HEADERS + 1:
            self._refuse(f"it sent more than {MOST_HEADERS} headers")
        status = self._llhttp.get_status_code()
        if status < 200:
            self._skip(status)
            self._head_at = end + 2
            return
        self._frame(status, head)
        self.head = head
        self.status = status
        self._begun = b""
        self._head_at = 0
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

    def _frame(self, status: int, head: Head) -> None:
        lower = head.lower
        is_framed = b"\r\ncontent-length:" in lower
        codings = lower.count(b"\r\ntransfer-encoding:")
        if codings:
            is_chunked = codings == 1 and head.first(b"transfer-encoding").lower() == b"chunked"
            if not is_chunked or lower.startswith(b"http/1.0"):
                self._refuse("its transfer-encoding is not chunked")
            is_framed = True
        if is_framed:
            self.until_close = False
            # A 204 has no body, but one that is announced may come: better not to read behind it.
            self.keep_alive = status != 204
        else:
            self.keep_alive = self._is_head or status in _BODILESS
            self.until_close = not self.keep_alive

    def _refuse(self, why: str) -> NoReturn:
        self._why = why
        raise BadAnswer(why)
