"""The HTTP/1.1 edge: a protocol class for uvicorn's server that may face the internet.

It gives each request to the ASGI app, and says at once when a client has gone. What stock uvicorn
leaves open is bounded: time for heads and bodies, size and number of headers, connections, what a
client sends ahead, and how long it may take nothing.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

from proxy_api._edge._connection import Connection
from proxy_api._edge._wire import State
from proxy_api._inherited import is_readable

__all__ = ["GatewayProtocol", "State"]

_LINGER: Final = 5.0
"""Seconds for a client that is still sending to take its answer: a close would reset it."""


class GatewayProtocol(Connection):
    """For ``uvicorn.Config(http=GatewayProtocol)``, or with ``partial(GatewayProtocol, rules=…)``.

    One object is one connection. Requests are answered in the order in which they came.
    """

    __slots__ = ()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being read or answered, and all that was answered has been taken."""
        is_quiet = self.running is None and not self.queue and self._reader.incoming is None
        return is_quiet and not self.transport.get_write_buffer_size()

    def look(self, now: float) -> None:
        """Once in a while: end what takes too long."""
        waited = now - self._since - self.house.tick
        if self.writable is not None or self.transport.is_closing():
            self._look_at_unsent(now)
            return
        self._unsent = -1
        if self._lingers:
            if waited >= _LINGER:
                self.transport.abort()
        elif not self._drops and (overdue := self._reader.overdue(now)) is not None:
            self._refuse(overdue)
        elif self.running is None and not self.queue and not self._reader.is_reading:
            rules = self.house.rules
            if waited >= (rules.idle_timeout if self.has_asked else rules.header_timeout):
                self.close_unless_asked()

    def close_unless_asked(self) -> None:
        """Close an idle connection, unless something waits unread: a close would reset it.

        The end is sent at once. The loop closes in its next round, and until then a client that
        looks before it asks would find the connection open.
        """
        if self.transport.is_closing():
            # TLS says farewell, and waits for an answer. Asked twice, asyncio's forgets itself.
            self.transport.abort()
            return
        number = self.transport.get_extra_info("socket").fileno()
        if number < 0 or is_readable(number):
            return
        if self.transport.get_extra_info("ssl_object") is None:
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as same:
                same.shutdown(socket.SHUT_WR)
        self.transport.close()

    def shutdown(self) -> None:
        """Uvicorn's own server stops."""
        if self.running is None and not self.queue:
            self.transport.close()
        else:
            self.end_after_this()

    def _look_at_unsent(self, now: float) -> None:
        """A client that takes nothing has gone, however long it stays."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since >= self.write_stall:
            self.transport.abort()
