"""Parts of a message's content, for an upstream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import CacheMark, Media, Part, Source, Text
from proxy_core.dialects._chat._wire import audio_format, cache_control, url_of
from proxy_core.dialects._codec import Losses

__all__ = ["PartsWriter"]


class PartsWriter:
    """Writes what the model takes, and names what it doesn't."""

    def __init__(self, can: Abilities, losses: Losses) -> None:
        self._can = can
        self._losses = losses

    def content(self, parts: Sequence[Part], path: str) -> str | list[dict[str, Any]]:
        """A string where that says all of it: not every server takes an array."""
        written: list[dict[str, Any]] = []
        for at, part in enumerate(parts):
            written += self._part(part, f"{path}[{at}]")
        if not written:
            return ""
        if len(written) == 1 and written[0].keys() == {"type", "text"}:
            text: str = written[0]["text"]
            return text
        return written

    def mark(self, holder: dict[str, Any], mark: CacheMark, path: str) -> None:
        """Set a cache mark, where the provider takes them."""
        if self._can.cache_marks:
            holder["cache_control"] = cache_control(mark)
        else:
            self._losses.drop(f"{path}.cache_control", "the provider takes no cache marks")

    def _part(self, part: Part, path: str) -> list[dict[str, Any]]:
        match part:
            case Text():
                written = [{"type": "text", "text": part.text}]
            case Media():
                written = list(self._media(part, path))
            case _:
                self._losses.drop(path, "it can't stand in this message", grave=True)
                return []
        if part.cache is not None and written:
            self.mark(written[-1], part.cache, path)
        return written

    def _media(self, media: Media, path: str) -> Iterator[dict[str, Any]]:
        why = self._refused(media)
        if why:
            self._losses.drop(path, why, grave=True)
            return
        if media.cites:
            self._losses.drop(f"{path}.citations", "chat completions can't ask for citations")
        if media.context:
            yield {"type": "text", "text": media.context}
        match media.kind:
            case "audio":
                form = audio_format(media.source.media_type)
                sound = {"data": media.source.data, "format": form}
                yield {"type": "input_audio", "input_audio": sound}
            case "video":
                url = url_of(media.source, "video/mp4")
                yield {"type": "video_url", "video_url": {"url": url}}
            case "image" if media.source.kind != "file":
                image = {"url": url_of(media.source, "image/png")}
                image |= {} if media.detail is None else {"detail": media.detail}
                yield {"type": "image_url", "image_url": image}
            case _ if media.source.kind == "text":
                name = f"{media.name}\n\n" if media.name else ""
                yield {"type": "text", "text": name + media.source.data}
            case _:
                if media.detail not in (None, "auto"):
                    self._losses.drop(f"{path}.detail", "a file has no such field")
                yield {"type": "file", "file": _file(media.source, media.name)}

    def _refused(self, media: Media) -> str:
        """Why it can't go; empty: it can."""
        can, source = self._can, media.source
        taken = {"image": can.images, "audio": can.audio, "video": can.video, "file": can.files}
        if source.kind == "text" and media.kind == "file":
            return ""
        if not taken[media.kind]:
            return f"the model takes no {media.kind}"
        if media.kind == "image" and source.kind == "url" and not can.image_urls:
            return "the model takes no picture by its address, but as base64"
        if media.kind == "audio" and source.kind != "base64":
            return "chat completions take a sound as base64 alone"
        if media.kind == "video" and source.kind not in ("base64", "url"):
            return "chat completions take no film by a file's id"
        return ""


def _file(source: Source, name: str | None) -> dict[str, Any]:
    if source.kind == "file":
        file = {"file_id": source.data}
    elif source.kind == "base64" and not source.media_type:
        file = {"file_data": source.data}
    else:
        file = {"file_data": url_of(source, "")}
    return file | ({} if name is None else {"filename": name})
