"""Forms are read as strictly as by nobody else, and what passes is told whole from broken."""

from __future__ import annotations

import json
from email import policy
from email.parser import BytesParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import DIALECTS, Call, Usage
from proxy_core.dialects import UploadDialect
from proxy_core.errors import InvalidRequest, ProxyError, UnsupportedMedia

MEDIA = "multipart/form-data; boundary=B"
FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n'
MODEL = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
END = b"--B--\r\n"


def read(raw: bytes, media: str = MEDIA) -> Call:
    dialect = DIALECTS["openai.transcriptions"]
    assert isinstance(dialect, UploadDialect)
    return dialect.read(raw, media=media)


def sent(call: Call, model: str) -> bytes:
    return DIALECTS[call.dialect].request(call, model, ask_usage=True)


@settings(max_examples=60)
@given(st.binary(max_size=80), st.text("abc-/.ä", min_size=1, max_size=9), st.booleans())
def test_only_the_model_changes(content: bytes, name: str, first: bool) -> None:
    """Python's own reader of mail finds the other model; every byte of the file is as it was."""
    if b"--B" in content:
        content = content.replace(b"--B", b"")
    model, file = MODEL % name.encode(), FILE % content
    raw = (model + file if first else file + model) + END
    call = read(raw)
    assert call.model == name
    assert sent(call, name) == raw
    changed = sent(call, "another")
    assert changed == raw.replace(model, MODEL % b"another")
    head = f"Content-Type: {call.media.decode()}\r\n\r\n".encode()
    mail = BytesParser(policy=policy.HTTP).parsebytes(head + changed)
    parts = {
        part.get_param("name", header="content-disposition"): part for part in mail.iter_parts()
    }
    assert parts["model"].get_payload(decode=True) == b"another"
    assert set(parts) == {"model", "file"}


def part(head: bytes, value: bytes = b"m") -> bytes:
    return b"--B\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


FIELD = b'Content-Disposition: form-data; name="model"'
ODD = {
    "twice": MODEL % b"a" + MODEL % b"b" + END,
    "none": FILE % b"x" + END,
    "empty": MODEL % b"" + END,
    "long": MODEL % (b"m" * 1025) + END,
    "no text": MODEL % b"\xff" + END,
    "a line": MODEL % b"a\r\nb" + END,
    "a file": part(FIELD + b'; filename="m"') + END,
    "encoded": part(FIELD + b"\r\nContent-Transfer-Encoding: base64") + END,
    "other case": MODEL % b"a" + part(FIELD.replace(b"model", b"Model")) + END,
    "an array": MODEL % b"a" + part(FIELD.replace(b"model", b"model[]")) + END,
    "two names": MODEL % b"a" + part(FIELD + b'; name="file"') + END,
    "a name in code": MODEL % b"a" + part(FIELD + b"; name*=utf-8''file") + END,
    "a quote": MODEL % b"a" + part(FIELD.replace(b"model", rb"mo\"del")) + END,
    "folded": MODEL % b"a" + part(FIELD.replace(b"; ", b";\r\n ")) + END,
    "two heads": MODEL % b"a" + part(FIELD + b"\r\n" + FIELD) + END,
    "no head": MODEL % b"a" + part(b"X: y") + END,
    "line feeds": MODEL % b"a"
    + FILE % b'x\n--B\nContent-Disposition: form-data; name="model"\n\nb'
    + END,
    "a preamble": b"x\r\n" + MODEL % b"a" + END,
    "an epilogue": MODEL % b"a" + END + b"x",
    "cut": MODEL % b"a" + FILE % b"x",
    "cut in a head": MODEL % b"a" + b"--B\r\nContent-",
    "another boundary": (MODEL % b"a" + END).replace(b"--B", b"--C"),
    "a longer boundary": MODEL % b"a" + FILE % b"x\r\n--BB" + END,
    "many": (FILE % b"") * 1001 + END,
    "nothing": b"",
}


@pytest.mark.parametrize("raw", ODD.values(), ids=list(ODD))
def test_what_two_readers_could_read_otherwise_is_refused(raw: bytes) -> None:
    """A form that names no model, or one that not everybody would find, goes nowhere."""
    with pytest.raises(InvalidRequest):
        read(raw)


@pytest.mark.parametrize(
    "media",
    [
        *("multipart/form-data", "multipart/mixed; boundary=B", "multipart/form-data; boundary="),
        *("multipart/form-data; boundary=B; boundary=C", 'multipart/form-data; boundary="B'),
        *(f"multipart/form-data; boundary={'B' * 71}", "application/json", ""),
    ],
)
def test_an_odd_content_type_is_refused(media: str) -> None:
    """A boundary that isn't plainly said is none."""
    with pytest.raises(UnsupportedMedia):
        read(MODEL % b"a" + END, media)


def test_a_boundary_may_be_quoted() -> None:
    """It goes on in the one spelling that needs no guess."""
    raw = (MODEL % b"a" + END).replace(b"--B", b"--B: c")
    assert read(raw, 'Multipart/Form-Data; boundary="B: c"').media == (
        b'multipart/form-data; boundary="B: c"'
    )


@given(st.binary(max_size=60))
@settings(max_examples=60)
def test_no_form_breaks_the_reader(junk: bytes) -> None:
    """Whatever comes is read, or refused by an error of ours."""
    for raw in (junk, b"--B" + junk, MODEL % b"a" + junk + END):
        try:
            assert read(raw).model
        except ProxyError:
            continue


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


COUNTS = {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"image_tokens": 4}}
DELTA = event(type="image_generation.partial_image", b64_json="QUJD")
LAST = event(type="image_generation.completed", b64_json="QUJD", usage=COUNTS)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_pass_as_they_came(size: int) -> None:
    """However they are cut: the same bytes, the usage of the last one, and the end is known."""
    call = DIALECTS["openai.images"].read(b'{"model":"m","prompt":"p","stream":true}')
    usage = Usage()
    tap = DIALECTS["openai.images"].tap(call, usage)
    raw = b": wait\n\n" + DELTA + LAST
    out = b"".join(tap.feed(raw[at : at + size]) for at in range(0, len(raw), size)) + tap.end()
    assert (out, tap.failure, tap.has_content) == (raw, None, True)
    assert (usage.input_tokens, usage.output_tokens, usage.image_input_tokens) == (9, 2, 4)


@pytest.mark.parametrize(
    "raw",
    [
        *(DELTA, b"", DELTA + b"data: {\n\n", event(type="error", message="full")),
        event(error={"message": "no", "code": "overloaded_error"}),
    ],
)
def test_a_stream_without_its_end_is_broken(raw: bytes) -> None:
    """One that breaks off, is garbled or tells an error doesn't count as whole."""
    call = DIALECTS["openai.images"].read(b'{"model":"m","prompt":"p","stream":true}')
    tap = DIALECTS["openai.images"].tap(call, Usage())
    tap.feed(raw)
    tap.end()
    assert tap.failure is not None


@pytest.mark.parametrize(
    ("dialect", "body", "answer"),
    [
        ("openai.moderations", {"input": "x"}, {"data": []}),
        ("openai.images", {"prompt": "x"}, {"error": {"message": "no", "code": "content_filter"}}),
        ("rerank", {"documents": ["a"]}, {"detail": "no"}),
    ],
)
def test_an_answer_that_is_none_is_refused(dialect: str, body: object, answer: object) -> None:
    """A whole answer has the field that it is for, and no error in it."""
    call = DIALECTS[dialect].read(json.dumps({"model": "m", **dict(body)}).encode())  # type: ignore[call-overload]
    with pytest.raises(ProxyError):
        DIALECTS[dialect].whole(call, json.dumps(answer).encode(), Usage())


def test_usage_is_counted_as_each_api_tells_it() -> None:
    """Images, transcriptions and rerankers report in their own words; nonsense is no report."""
    call = DIALECTS["openai.images"].read(b'{"model":"m","prompt":"p"}')
    for told, expected in (
        (COUNTS, (9, 2, True)),
        ({"total_tokens": 7}, (7, 0, True)),
        ({"prompt_tokens": 3, "total_tokens": 3}, (3, 0, True)),
        ({"input_tokens": -1}, (0, 0, False)),
        ({"type": "duration", "seconds": 3}, (0, 0, False)),
    ):
        usage = Usage()
        raw = json.dumps({"data": [], "usage": told}).encode()
        assert DIALECTS["openai.images"].whole(call, raw, usage) == raw
        assert (usage.input_tokens, usage.output_tokens, usage.reported) == expected
