from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core.dialects import MAX_DEPTH, Document, MalformedDocument
from proxy_core.dialects._document import MAX_FIELDS

SHORT = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\", "/": "/"}
NUMBERS = ["0", "-0.0", "1E400", "1e-7", "-0", "1.0", "12345678901234567890123", "-1.5E+3", "0e0"]
OWNED = ("model", "stream")
NEW_VALUES = [b'"gpt"', b"true", b'{"include_usage":true}', b"7", '"é\u2028"'.encode(), b"[1, 2]"]


def escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))


@st.composite
def spelled(draw: st.DrawFn, text: str, *, plainly: bool = False) -> str:
    """A JSON string for this text, each character in one of its spellings."""
    out = []
    for character in text:
        may_stand = character not in '"\\' and character >= " "
        ways = [character] if may_stand else []
        if not plainly or not may_stand:
            short = ["\\" + SHORT[character]] if character in SHORT else []
            ways += [escaped(character), *short]
        out.append(draw(st.sampled_from(ways)))
    return '"' + "".join(out) + '"'


TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)


def spaces(plainly: bool) -> st.SearchStrategy[str]:
    return st.just("") if plainly else st.text(" \t\r\n", max_size=3)


@st.composite
def joined(draw: st.DrawFn, parts: list[str], ends: str) -> str:
    blank = spaces(plainly=False)
    inside = ",".join(draw(blank) + part + draw(blank) for part in parts)
    return ends[0] + (inside or draw(blank)) + ends[1]


@st.composite
def member(draw: st.DrawFn, value: str) -> str:
    blank = spaces(plainly=False)
    return draw(spelled(draw(TEXTS))) + draw(blank) + ":" + draw(blank) + value


SCALARS = st.one_of(
    st.sampled_from(["true", "false", "null", *NUMBERS]),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    TEXTS.flatmap(spelled),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).flatmap(lambda parts: joined(parts, "[]")),
        st.lists(inner.flatmap(member), max_size=3).flatmap(lambda parts: joined(parts, "{}")),
    ),
    max_leaves=5,
)


@dataclass(frozen=True)
class Field:
    key: str
    before: str
    """All from the bracket or comma to the value."""
    value: str
    after: str


@dataclass(frozen=True)
class Text:
    """A JSON object as text, in pieces whose borders are known."""

    lead: str
    fields: tuple[Field, ...]
    inside_when_empty: str
    trail: str

    def bytes(self, edits: dict[str, str] | None = None) -> bytes:
        edits = edits or {}
        present = {field.key for field in self.fields}
        pieces = [
            field.before + edits.get(field.key, field.value) + field.after for field in self.fields
        ]
        inside = ",".join(pieces) if pieces else self.inside_when_empty
        added = ",".join(
            json.dumps(key, ensure_ascii=False) + ":" + value
            for key, value in edits.items()
            if key not in present
        )
        comma = "," if pieces and added else ""
        return (self.lead + "{" + inside + comma + added + "}" + self.trail).encode()


@st.composite
def texts(draw: st.DrawFn, keys: st.SearchStrategy[str] | None = None) -> Text:
    """Objects of every spelling; their owned keys occur once, the others as it falls."""
    plainly = draw(st.booleans())
    blank = spaces(plainly)
    names = draw(
        st.lists(keys or st.one_of(st.sampled_from(["a", "ü", *OWNED]), TEXTS), max_size=6)
    )
    seen: set[str] = set()
    fields = []
    for name in names:
        if name in seen and (plainly or name in OWNED):
            continue
        seen.add(name)
        before = draw(blank) + draw(spelled(name, plainly=plainly)) + draw(blank) + ":"
        fields.append(Field(name, before + draw(blank), draw(VALUES), draw(blank)))
    return Text(draw(blank), tuple(fields), draw(blank), draw(blank))


def pairs(raw: bytes) -> Any:
    """What Python's own decoder reads, numbers as they are spelled and duplicates kept."""
    return json.loads(raw, object_pairs_hook=tuple, parse_int=str, parse_float=str)


@given(text=texts(), edits=st.dictionaries(st.sampled_from(OWNED), st.sampled_from(NEW_VALUES)))
def test_edits_change_the_edited_values_and_nothing_else(
    text: Text, edits: dict[str, bytes]
) -> None:
    """Every byte outside the edited values is the one that came; missing fields are appended."""
    document = Document.parse(text.bytes(), OWNED)
    result = document.replaced(edits)
    assert result == text.bytes({key: value.decode() for key, value in edits.items()})
    told = dict(pairs(result))
    for key, value in edits.items():
        assert told[key] == json.loads(value, object_pairs_hook=tuple, parse_int=str)


@given(text=texts())
def test_fields_are_the_raw_values_of_the_last_of_each_key(text: Text) -> None:
    """``fields`` holds the exact JSON of each value; without edits not a byte is copied."""
    raw = text.bytes()
    document = Document.parse(raw, OWNED)
    assert {key: bytes(value).decode() for key, value in document.fields.items()} == {
        field.key: field.value for field in text.fields
    }
    assert document.replaced({}) is raw


@given(text=texts(), again=spelled("model"), at_front=st.booleans(), value=VALUES)
def test_an_owned_key_may_occur_once(text: Text, again: str, at_front: bool, value: str) -> None:
    """A second ``model``, however it is spelled, is refused and named; unowned it passes."""
    others = [field for field in text.fields if field.key != "model"]
    extra = [Field("model", again + ":", value, ""), Field("model", '"model":', '"x"', "")]
    fields = (*extra, *others) if at_front else (*others, *reversed(extra))
    raw = Text(text.lead, tuple(fields), "", text.trail).bytes()
    with pytest.raises(MalformedDocument, match="occurs 2 times") as caught:
        Document.parse(raw, OWNED)
    assert caught.value.key == "model"
    Document.parse(raw, ("stream",))


def test_all_of_an_unowned_duplicate_are_edited() -> None:
    """Whoever edits a key that it doesn't own reaches each of its places."""
    raw = b'{"a" : [1,"]"],"b":2,"a":{"x":"}"}, "\\u0061":"\\"","a":3}'
    assert Document.parse(raw).replaced({"a": b"0"}) == b'{"a" : 0,"b":2,"a":0, "\\u0061":0,"a":0}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"\\u001F":0,"model":1}',
        b'{"a":12,"model":1,"a":1}',
        b'{"a":"x\\"","model":1,"a":"x\\\\"}',
        b'{"a":[1,2],"model":1,"a":[1]}',
        b'{"\\/":0,"model":1}',
    ],
)
def test_spellings_of_equal_meaning_are_not_evened_out(raw: bytes) -> None:
    """Escapes of one length, and repeated keys whose values begin alike, stay as they are."""
    expected = raw.replace(b'"model":1', b'"model":2')
    assert Document.parse(raw, OWNED).replaced({"model": b"2"}) == expected


NASTY = ['"[[[["', '"\\"[{"', '"\\\\"', '"\\\\\\"]]}"', '""', '"]"', '"{\\u005b"', "1", '"é["']


@st.composite
def nested(draw: st.DrawFn, depth: int) -> str:
    """A value of exactly this depth, with strings about it that look like structure."""
    text = draw(st.sampled_from(NASTY)) if depth == 0 else ""
    for level in range(depth):
        beside = draw(st.sampled_from(["", *NASTY])) if level % 16 == 0 else ""
        if draw(st.booleans()) if level % 8 == 0 else level % 2:
            text = "[" + ",".join(part for part in (beside, text) if part) + "]"
        else:
            text = '{"k[":' + (text or "{}" * (level > 0) or "0") + "}"
    return text


@given(data=st.data(), width=st.integers(0, 40))
def test_depth_is_counted_exactly(data: st.DataObject, width: int) -> None:
    """128 levels pass and 129 don't, whatever stands in strings, and however wide it is."""
    wide = "[" + ",".join(["[[]]", *NASTY, '{"a":{}}'] * width) + "]"
    for depth, fits in ((MAX_DEPTH - 1, True), (MAX_DEPTH, False)):
        raw = f'{{"w":{wide},"a":{data.draw(nested(depth))}}}'.encode()
        if fits:
            assert Document.parse(raw).raw is raw
        else:
            with pytest.raises(MalformedDocument, match="128 levels"):
                Document.parse(raw)


@given(data=st.data())
def test_depth_is_counted_exactly_where_containers_are_opened(data: st.DataObject) -> None:
    """Levels count the same in one of many messages, in its parts, in arrays and in objects."""
    around = data.draw(
        st.sampled_from(
            [
                ('{"messages":[%s{"role":"user","content":', "}]}", 3),
                ('{"messages":[%s{"content":[{"type":"text","text":', "}]}]}", 5),
                ('{"tools":{"a":[[],{}],"b":[%s[', "]]}}", 4),
                ('{"input":[%s', "]}", 2),
            ]
        )
    )
    beginning, ending, levels = around
    rows = '{"role":"user","content":"[[{\\"["},' * data.draw(st.integers(40, 80))
    for depth, fits in ((MAX_DEPTH - levels, True), (MAX_DEPTH - levels + 1, False)):
        raw = (beginning % rows + data.draw(nested(depth)) + ending).encode()
        if fits:
            assert Document.parse(raw).raw is raw
        else:
            with pytest.raises(MalformedDocument, match="128 levels"):
                Document.parse(raw)


BRACKETS = {
    "arrays": b"[" + b"[]," * 1_500_000 + b"1]",
    "objects": b"[" + b"{}," * 1_500_000 + b"1]",
    "nested": b"[" * 2_000_000 + b"]" * 2_000_000,
    "strings and brackets": b"[" + b'["["],' * 700_000 + b"1]",
}


@pytest.mark.parametrize("value", BRACKETS.values(), ids=list(BRACKETS))
def test_a_body_of_brackets_is_refused_soon(value: bytes) -> None:
    """Counting their levels would take a second for 32 MB; 4 MB take some milliseconds."""
    begun = time.process_time()
    with pytest.raises(MalformedDocument, match=r"brackets|128 levels"):
        Document.parse(b'{"model":"m","messages":%s}' % value)
    assert time.process_time() - begun < 0.2


def test_large_texts_are_not_taken_for_depth() -> None:
    """Megabytes of code, JSON in strings and many messages are no structure."""
    code = json.dumps('{"a": [[1, 2], {"b": []}], "c": "\\\\"}\n' * 2_000)
    rows = ",".join(f'{{"role":"user","content":{code}}}' for _ in range(20))
    for raw in (f'{{"messages":[{rows}]}}', f'{{"input":[{",".join([code] * 20)}]}}'):
        assert len(raw) > 1_500_000
        assert Document.parse(raw.encode()).raw


@pytest.mark.parametrize("gap", [None, 2, "\t"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_common_layouts_are_kept(gap: Any, end: str) -> None:
    """What json.dumps and pretty printers write, with and without a line break at the end."""
    value = {"id": "c", "model": "a", "choices": [{"n": {"model": "x"}}], "usage": {}}
    raw = (json.dumps(value, indent=gap) + end).encode()
    expected = (json.dumps(value | {"model": "b"}, indent=gap) + end).encode()
    for owned in ((), OWNED):
        document = Document.parse(raw, owned)
        assert document.replaced({"model": b'"b"'}) == expected
        told = document.replaced({"model": b'"b"', "seed": b"7"})
        assert json.loads(told) == value | {"model": "b", "seed": 7}


BAD = {
    "empty": b"",
    "blank": b" \n",
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a":1}'.encode("utf-16-le"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "latin-1": '{"a":"é"}'.encode("latin-1"),
    "half of a character": b'{"a":"\xc3"}',
    "overlong": b'{"a":"\xc0\xaf"}',
    "a surrogate as UTF-8": b'{"a":"\xed\xa0\x80"}',
    "a lone surrogate": b'{"a":"\\ud83d"}',
    "a lone low surrogate": b'{"a":["\\udc00x"]}',
    "a lone surrogate as a key": b'{"\\ud83d":1}',
    "two high surrogates": b'{"a":"\\ud83d\\ud83d"}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":[-Infinity]}',
    "a NUL": b'{"a":"\x00"}',
    "a raw line break in a string": b'{"a":"\n"}',
    "an unknown escape": b'{"a":"\\x41"}',
    "leading zero": b'{"a":01}',
    "a trailing comma": b'{"a":1,}',
    "trailing bytes": b'{"a":1} x',
    "two documents": b'{"a":1}{"b":2}',
    "truncated": b'{"a":[1,',
    "no object": b"[1]",
    "a string": b'"model"',
    "null": b"null",
    "a number": b"1",
    "100,000 arrays": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 open arrays": b"[" * 100_000,
    "many fields": b"{" + b",".join(b'"%d":1' % n for n in range(MAX_FIELDS + 1)) + b"}",
    "many duplicates": b"{" + b",".join([b'"a":1'] * (MAX_FIELDS + 1)) + b"}",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=list(BAD))
def test_what_is_no_strict_json_object_is_refused(raw: bytes) -> None:
    """Each of these is a MalformedDocument, never another exception."""
    with pytest.raises(MalformedDocument):
        Document.parse(raw, OWNED)


@pytest.mark.parametrize("count", [MAX_FIELDS + 1, 100_000])
def test_too_many_fields_are_called_so(count: int) -> None:
    """Whether they are counted while or after they are decoded."""
    raw = b"{" + b",".join(b'"%d":1' % n for n in range(count)) + b"}"
    with pytest.raises(MalformedDocument, match=f"^more than {MAX_FIELDS} fields$"):
        Document.parse(raw, OWNED)


def no_constants(name: str) -> None:
    raise ValueError(name)


def strictly(raw: bytes) -> bool:
    """Whether Python's decoder, made strict, takes it for an object."""
    try:
        value = json.loads(raw.decode(), parse_constant=no_constants)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return isinstance(value, dict)


@given(text=texts(), data=st.data())
def test_damaged_documents_are_judged_as_a_strict_decoder_judges_them(
    text: Text, data: st.DataObject
) -> None:
    """After any bytes are cut, changed or put in: accepted when strict JSON, else refused."""
    raw = text.bytes()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 3)))
    put = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\\", b",", b"}"])))
    damaged = raw[:start] + put + raw[end:]
    try:
        Document.parse(damaged)
    except MalformedDocument:
        assert not strictly(damaged)
    else:
        assert strictly(damaged)


def test_a_string_of_escapes_costs_no_multiple_of_itself() -> None:
    """The scanner keeps no way back for each escape: peak memory stays near the body's size."""
    raw = b'{"a":"' + b"\\n" * 1_000_000 + b'", "a":1, "model":"x"}'
    tracemalloc.start()
    try:
        with pytest.raises(MalformedDocument, match="too large to skip"):
            Document.parse(raw, OWNED)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(raw)


def test_a_document_is_not_printed() -> None:
    """What a client has written gets into no log by the repr of what holds it."""
    assert "hunter2" not in repr(Document.parse(b'{"a":"hunter2"}'))


def test_brackets_of_a_value_that_is_nearly_all_are_counted() -> None:
    """Also where braces in its texts are many: 128 levels pass and 129 don't."""
    rows = '{"role":"user","content":"{{[["},' * 200
    for depth, fits in ((MAX_DEPTH - 3, True), (MAX_DEPTH - 2, False)):
        row = '{"content":' + "[" * depth + "]" * depth + "}"
        raw = f'{{"messages":[{rows}{row}],"model":"m"}}'.encode()
        if fits:
            assert Document.parse(raw).raw is raw
        else:
            with pytest.raises(MalformedDocument, match="128 levels"):
                Document.parse(raw)


def test_a_document_of_plain_values() -> None:
    """``of`` makes a compact document from what Python has."""
    assert Document.of({"model": "ü", "n": [1]}).raw == '{"model":"ü","n":[1]}'.encode()


@pytest.mark.parametrize(
    "skipped",
    [
        b"[" + b"[]," * 100_000 + b"1]",
        b'["' + b'","' * 100_000 + b'"]',
        b'"' + b"x" * 300_000 + b'"',
        b"1" * 300_000,
    ],
    ids=["brackets", "strings", "one-string", "number"],
)
def test_a_large_value_is_not_skipped(skipped: bytes) -> None:
    """The end of a repeated value is searched in Python: 256 KB of them are the most."""
    raw = b'{"model":"m","x":%s,"x":1}' % skipped
    with pytest.raises(MalformedDocument, match="too large to skip; send it once") as caught:
        Document.parse(raw, ["model"])
    assert caught.value.key == "x"
    assert Document.parse(raw.replace(b'"x":1}', b'"y":1}'), ["model"]).raw


def test_repeated_values_share_one_allowance() -> None:
    """Many values that are each small enough are as slow as one that is large."""
    part = b'"x":[' + b"[]," * 10_000 + b"1],"
    Document.parse(b'{"model":"m",' + part * 8 + b'"x":1}', ["model"])
    with pytest.raises(MalformedDocument, match="too large to skip"):
        Document.parse(b'{"model":"m",' + part * 9 + b'"x":1}', ["model"])


def test_a_value_too_large_to_skip_is_not_walked() -> None:
    """What it costs doesn't grow with the value: the steps stop at the allowance."""
    raw = b'{"x":[' + b'"",' * 3_000_000 + b'1],"x":1}'
    document = Document.parse(raw)
    begun = time.process_time()
    with pytest.raises(MalformedDocument, match="too large to skip"):
        document.replaced({"x": b"2"})
    assert time.process_time() - begun < 0.5
