"""Model lists on disk: one small file a key, replaced as a whole, never trusted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["DiskTier", "SavedList"]

_VERSION = 1
_MAX_FILE = 8 << 20


class SavedList(msgspec.Struct, frozen=True):
    """What a file holds. ``saved_at`` is wall time: the only clock that survives a restart."""

    saved_at: float
    models: tuple[dict[str, Any], ...]
    version: int = _VERSION


class DiskTier:
    """Files named by a digest of the key: no provider, no fingerprint is readable in a listing."""

    def __init__(self, directory: Path, max_files: int) -> None:
        self._directory = directory
        self._max_files = max_files

    def read(self, key: tuple[str, str]) -> SavedList | None:
        """What was saved, or None: missing, unreadable, too large, damaged, another version."""
        path = self._path(key)
        try:
            if path.stat().st_size > _MAX_FILE:
                return None
            saved = msgspec.json.decode(path.read_bytes(), type=SavedList)
        except (OSError, msgspec.MsgspecError, RecursionError):
            return None
        usable = saved.version == _VERSION and all(
            isinstance(model.get("id"), str) for model in saved.models
        )
        return saved if usable else None

    def write(self, key: tuple[str, str], saved: SavedList) -> bool:
        """Replace the file atomically; readable by its owner only. False when the disk refuses."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(prefix=".models-", dir=self._directory)
        except OSError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(saved))
            Path(temporary).replace(self._path(key))
            self._prune()
        except (OSError, TypeError, ValueError):
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            return False
        return True

    def remove(self, key: tuple[str, str]) -> None:
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: tuple[str, str]) -> Path:
        lengths = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in key)
        return self._directory / f"models-{hashlib.sha256(lengths).hexdigest()}.json"

    def _prune(self) -> None:
        files = sorted(self._directory.glob("models-*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[: -self._max_files]:
            path.unlink(missing_ok=True)
