"""What can go wrong, as facts.

::

    ContextError
    ├── SettingsError (ValueError)       an argument or a setting can't be used
    ├── RecordingEnded                   a recording was fed after complete() or after its block
    ├── ReferenceBroken                  expand() met a reference to lines that are not there
    ├── ModelListUnavailable             no list to give; ``retry_after`` says when to ask again
    └── CredentialRefused                raised by a fetch: this credential may not list models
"""

from __future__ import annotations

__all__ = [
    "ContextError",
    "CredentialRefused",
    "ModelListUnavailable",
    "RecordingEnded",
    "ReferenceBroken",
    "SettingsError",
]


class ContextError(Exception):
    """The base of every error of this package. The message is for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SettingsError(ContextError, ValueError):
    """The message names the argument, the value and the remedy."""


class RecordingEnded(ContextError):
    """A recording takes chunks only inside its block and before ``complete()``."""


class ReferenceBroken(ContextError):
    """The segments given to ``expand`` are not the ones that ``condense`` gave."""


class ModelListUnavailable(ContextError):
    """No fresh list, none old enough to serve, and the provider could not be asked.

    ``retry_after``: seconds until the next ``get`` asks again. ``__cause__`` is the fetch's error.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialRefused(ContextError):
    """A fetch raises this when the provider refused the credential (401, 403).

    The list that was kept for that credential is dropped, in memory and on disk: what a revoked
    key could see is not served on.
    """
