"""The parts of the HTTP edge: what a request's head may be, who is speaking, how it is answered.

``proxy_api._protocol`` has the connection that is made of them.
"""

from __future__ import annotations
