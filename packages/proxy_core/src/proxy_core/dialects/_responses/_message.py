"""A message of an answer while it is told: neighbouring texts and refusals are one."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy_core.dialects._canonical import Citation, Json
from proxy_core.dialects._responses._citations import annotation
from proxy_core.dialects._responses._open import Place, Wire, added, done

__all__ = ["Message", "TextPart"]


class Message:
    """It is done when it has ended and all its parts are closed."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.item: Wire = {
            "type": "message",
            "id": place.id,
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        self._open = 0
        self._status = ""

    def begin(self) -> list[Wire]:
        return [added(self.place, {**self.item, "content": []})]

    def join(self, part: Wire) -> int:
        """The place of one more part."""
        self._open += 1
        self.item["content"].append(part)
        return len(self.item["content"]) - 1

    def closed(self) -> list[Wire]:
        """One part is."""
        self._open -= 1
        return self._done()

    def end(self, status: str) -> list[Wire]:
        self._status = status
        return self._done()

    def _done(self) -> list[Wire]:
        if self._open or not self._status:
            return []
        self.item["status"] = self._status
        return [done(self.place, self.item)]


class TextPart:
    """A text or a refusal."""

    def __init__(self, message: Message, *, is_refusal: bool) -> None:
        self._message = message
        self._said: list[str] = []
        self._for_all: list[Citation] = []
        """Those of the whole text, whose length is known at its end."""
        self._logprobs: list[Json] = []
        self._field = "refusal" if is_refusal else "text"
        self._event = "response.refusal" if is_refusal else "response.output_text"
        self._part: Wire = (
            {"type": "refusal", "refusal": ""}
            if is_refusal
            else {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        )
        self._at = message.join(self._part)

    def begin(self) -> list[Wire]:
        part = dict(self._part)
        if self._field == "text":
            part |= {"annotations": [], "logprobs": []}
        return [self._tell("response.content_part.added", part=part)]

    def piece(self, text: str, logprobs: Json) -> list[Wire]:
        self._said.append(text)
        if self._field == "refusal":
            return [self._tell("response.refusal.delta", delta=text)]
        sure = [_logprob(one) for one in logprobs or ()]
        self._logprobs += sure
        return [self._tell("response.output_text.delta", delta=text, logprobs=sure)]

    def cite(self, citation: Citation) -> list[Wire]:
        """A citation without a place, such as Anthropic's, is one of the whole text."""
        if citation.url is None or citation.end is not None:
            return self._note(citation)
        self._for_all.append(citation)
        return []

    def _note(self, citation: Citation) -> list[Wire]:
        notes = self._part.get("annotations")
        if notes is None:
            return []
        note = annotation(citation)
        notes.append(note)
        kind = "response.output_text.annotation.added"
        return [self._tell(kind, annotation_index=len(notes) - 1, annotation=note)]

    def close(self) -> list[Wire]:
        said = "".join(self._said)
        self._part[self._field] = said
        ended: dict[str, Any] = {self._field: said}
        if self._field == "text":
            self._part["logprobs"] = ended["logprobs"] = self._logprobs
        place = {"start": 0, "end": len(said)}
        notes = [self._note(msgspec.structs.replace(one, **place)) for one in self._for_all]
        told = [
            *(wire for note in notes for wire in note),
            self._tell(f"{self._event}.done", **ended),
            self._tell("response.content_part.done", part=self._part),
        ]
        return told + self._message.closed()

    def _tell(self, kind: str, **fields: Any) -> Wire:
        return self._message.place.event(kind, content_index=self._at, **fields)


def _logprob(told: Json) -> Json:
    """A token in Responses' form, which requires its bytes."""
    return {**_token(told), "top_logprobs": [_token(one) for one in told.get("top_logprobs") or ()]}


def _token(told: Json) -> dict[str, Any]:
    token = told.get("token") or ""
    given = told.get("bytes")
    spelled = list(token.encode(errors="surrogatepass")) if given is None else given
    return {"token": token, "logprob": told.get("logprob") or 0.0, "bytes": spelled}
