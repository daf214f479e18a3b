"""What the lines of one request have in common, carried by a context variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["REQUEST_FIELDS", "bound_request"]

REQUEST_FIELDS: ContextVar[Mapping[str, object]] = ContextVar(
    "proxy_logging_request", default={}  # noqa: B039 - nobody writes to it
)


@contextmanager
def bound_request(request_id: str, **fields: object) -> Iterator[None]:
    """Every line written inside carries the request's id and the fields, in tasks started here too.

    Blocks nest: an inner one adds to the outer one's fields, and leaving it restores exactly what
    was there. It may be left in another context than it was entered in, as an async generator that
    the garbage collector closes is.
    """
    before = REQUEST_FIELDS.get()
    bound = {**before, "request_id": request_id, **fields}
    token = REQUEST_FIELDS.set(bound)
    try:
        yield
    finally:
        try:
            REQUEST_FIELDS.reset(token)
        except ValueError:  # another context: it has at most a copy of ours
            if REQUEST_FIELDS.get() is bound:
                REQUEST_FIELDS.set(before)
