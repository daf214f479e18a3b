"""A form with files, read strictly: where its fields stand, and no byte that two readers differ on.

What is unusual is refused, not guessed: a key is judged by the model that we read here, and the
upstream must read the same one. Sources: RFC 7578, RFC 2046 section 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

__all__ = ["Form", "MalformedForm", "boundary_of", "media_of", "read_form"]

MAX_PARTS: Final = 1_000
MAX_HEAD: Final = 8 * 1024
"""Bytes of one part's headers."""
MAX_FIELD: Final = 1024
"""Bytes of a field that we read."""

_TYPE: Final = re.compile(
    r"multipart/form-data[ \t]*;[ \t]*boundary="
    r"(?:\"([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])\""
    r"|([0-9A-Za-z'+_.-]{1,70}))[ \t]*",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_DISPOSITION: Final = re.compile(
    rb"form-data((?:[ \t]*;[ \t]*[0-9A-Za-z-]+\*?=(?:\"[^\"\\\r\n\0]*\"|[0-9A-Za-z._-]+))*)[ \t]*",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rb"([0-9A-Za-z-]+\*?)=(?:\"([^\"]*)\"|([0-9A-Za-z._-]+))")
_PLAIN_ENCODINGS: Final = frozenset({b"7bit", b"8bit", b"binary"})
_PLAIN_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'+_.-]+")


class MalformedForm(ValueError):
    """It is no form as it should be. ``field`` names the one at fault."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Form(NamedTuple):
    """Where the values of the fields stand that were looked for."""

    boundary: bytes
    fields: dict[str, tuple[int, int]]

    def text(self, raw: bytes, field: str) -> str | None:
        """The value of a field; None where it is missing. Raises MalformedForm."""
        if field not in self.fields:
            return None
        start, end = self.fields[field]
        if end - start > MAX_FIELD:
            raise MalformedForm(f"it is longer than {MAX_FIELD} bytes", field=field)
        try:
            return raw[start:end].decode()
        except UnicodeDecodeError:
            raise MalformedForm("it is not valid UTF-8", field=field) from None

    def replaced(self, raw: bytes, field: str, value: bytes) -> bytes:
        """The same form with another value, which is put before all others where there is none."""
        if field in self.fields:
            start, end = self.fields[field]
            view = memoryview(raw)
            return b"".join((view[:start], value, view[end:]))
        head = b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
        return b"".join((head % (self.boundary, field.encode()), value, b"\r\n", raw))


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that the content type names; None where it is no form's, or an odd one."""
    match = _TYPE.fullmatch(content_type.strip())
    return None if match is None else (match[1] or match[2]).encode()


def media_of(boundary: bytes) -> bytes:
    """The content type of a form, in the one spelling that everybody reads alike."""
    quoted = b"%b" if _PLAIN_BOUNDARY.fullmatch(boundary) else b'"%b"'
    return b"multipart/form-data; boundary=" + quoted % boundary


def read_form(raw: bytes, boundary: bytes, owned: Collection[str]) -> Form:
    """Find the owned fields, none of which may occur twice. Raises MalformedForm."""
    delimiter = b"--" + boundary
    fields: dict[str, tuple[int, int]] = {}
    at, found = 0, 1
    if not raw.startswith(delimiter):
        raise MalformedForm("it does not begin with the boundary that the content-type names")
    while True:
        at += len(delimiter)
        tail = raw[at : at + 2]
        if tail == b"--":
            break
        if tail != b"\r\n" or found > MAX_PARTS:
            raise MalformedForm(
                "a boundary is not followed by a line end"
                if tail != b"\r\n"
                else f"it has more than {MAX_PARTS} parts"
            )
        name, start = _head(raw, at + 2, owned)
        # The line end before a boundary belongs to it, also where a part is empty.
        end = raw.find(b"\r\n" + delimiter, start)
        if end < 0:
            raise MalformedForm("its last boundary is missing: the body was cut")
        if name:
            if name in fields:
                raise MalformedForm("it occurs more than once", field=name)
            fields[name] = (start, end)
        at, found = end + 2, found + 1
    if raw[at + 2 :] not in (b"", b"\r\n"):
        raise MalformedForm("something follows its last boundary")
    if raw.count(delimiter) != found:
        raise MalformedForm("its boundary also stands inside a part: use another one")
    return Form(boundary, fields)


def _head(raw: bytes, at: int, owned: Collection[str]) -> tuple[str, int]:
    """The owned field that this part is, empty if it is another one, and where its value begins."""
    end = raw.find(b"\r\n\r\n", at, at + MAX_HEAD)
    if end < 0:
        raise MalformedForm(f"the headers of a part have no end within {MAX_HEAD} bytes")
    headers: dict[bytes, bytes] = {}
    for line in raw[at:end].split(b"\r\n"):
        match = _HEADER.fullmatch(line)
        if match is None or match[1].lower() in headers:
            raise MalformedForm("a part has a header that can't be read, or one twice")
        headers[match[1].lower()] = match[2]
    disposition = _DISPOSITION.fullmatch(headers.get(b"content-disposition", b""))
    if disposition is None:
        raise MalformedForm("a part has no content-disposition of form-data that can be read")
    parameters: dict[bytes, bytes] = {}
    for key, quoted, token in _PARAMETER.findall(disposition[1]):
        if key.lower() in parameters or key.lower() == b"name*":
            raise MalformedForm("a part has more than one name")
        parameters[key.lower()] = quoted or token
    name = parameters.get(b"name")
    if name is None:
        raise MalformedForm("a part has no name")
    field = _owned(name, owned)
    if field:
        encoding = headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in _PLAIN_ENCODINGS or parameters.keys() & {b"filename", b"filename*"}:
            raise MalformedForm("it is a file or encoded: send it as a plain field", field=field)
    return field, end + 4


def _owned(name: bytes, owned: Collection[str]) -> str:
    """Raises MalformedForm for what some readers take for an owned field, and others don't."""
    text = name.decode("latin-1")
    if text in owned:
        return text
    near = text.strip().lower().partition("[")[0].strip()
    if near in owned:
        raise MalformedForm(f"write the name of the field {text!r} as {near!r}", field=near)
    return ""
