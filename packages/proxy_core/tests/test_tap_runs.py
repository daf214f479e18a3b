from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import Usage, estimate_tokens
from proxy_core.dialects import StreamTap
from proxy_core.dialects._document import Document


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"fuzz_{name}", Path(__file__).parent / "fuzz" / f"{name}.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TAP, DOCUMENT = load("tap"), load("document")
ESCAPES = [
    rb"\n",
    rb"\"",
    rb"\\",
    rb"\u00e9",
    rb"\ud83d\ude00",
    rb"\ud83d",
    rb"\udc00",
    rb"\x",
    b'"',
]
TEXTS = st.one_of(
    st.text("ab é{}[]\u2028😀", max_size=5).map(str.encode),
    st.lists(st.sampled_from([*ESCAPES, b" a", b"@"]), max_size=3).map(b"".join),
    st.sampled_from(
        [b"", b"\\", b"\0", b"\1", b"\x7f", b"\xff", b"\xc3", b"\r", b'"},{"', b"chat"]
    ),
)
GOOD = st.text("ab é{}", min_size=1, max_size=5).map(str.encode)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Like events in a row, then others, more often than not undamaged."""
    events: list[bytes] = []
    for _ in range(draw(st.integers(1, 3))):
        template = draw(st.sampled_from(TAP.TEMPLATES))
        for text in draw(st.lists(st.one_of(GOOD, GOOD, GOOD, TEXTS), max_size=8)):
            noise = b"aB3" + b"x" * len(text)
            events.append(template.replace(b"@", text).replace(b"aB3", noise))
        events += draw(st.lists(st.sampled_from(TAP.OTHERS), max_size=1))
    ending = draw(st.sampled_from([b"\n\n"] * 4 + [b"\r\n\r\n", b"\n\r\n"]))
    return b"".join(b"data: " + event + ending for event in events)


@st.composite
def pieces(draw: st.DrawFn, raw: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    return [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


@given(raw=streams(), keep=st.booleans(), data=st.data())
def test_a_run_is_what_its_events_are_one_by_one(
    raw: bytes, keep: bool, data: st.DataObject
) -> None:
    """The quick way gives the bytes, the usage and the failures of the strict one, read by read."""
    TAP.assert_same(data.draw(pieces(raw)), keep_usage=keep)


@given(raw=streams(), damage=st.data())
def test_damage_is_seen_in_a_run_too(raw: bytes, damage: st.DataObject) -> None:
    """Bytes cut out of a stream, changed or put in: both ways see the same."""
    for _ in range(damage.draw(st.integers(1, 2))):
        at = damage.draw(st.integers(0, len(raw)))
        cut = damage.draw(st.sampled_from([0, 0, 1, 2, 40]))
        put = damage.draw(
            st.sampled_from([b"", b'"', b"\\", b"\n", b"\r", b"}", b"\0", b"\xff", b"x"])
        )
        raw = raw[:at] + put + raw[at + cut :]
    TAP.assert_same(damage.draw(pieces(raw)), keep_usage=False)


@given(data=st.binary(min_size=3, max_size=200))
def test_the_fuzzers_entry_holds(data: bytes) -> None:
    """What the fuzzer calls can be called: any bytes are an input."""
    TAP.one_input(data)
    DOCUMENT.one_input(data)


SCRAPS = [
    *(b'"model":', b'"model"', b'"', b":", b": ", b",", b", ", b"1", b"{}", b"[", b"]", b"{", b"}"),
    *(b'"a":1', b'"stream_options":null', b"\n  ", b"\\", b'"\\u006dodel":2', b"\xff"),
]


@given(number=st.integers(0, 4), scraps=st.lists(st.sampled_from(SCRAPS), max_size=8))
def test_bodies_are_read_as_by_a_strict_decoder(number: int, scraps: list[bytes]) -> None:
    """Accepted or refused, and edited, as the slow reference does it."""
    DOCUMENT.one_input(bytes([number]) + b"".join(scraps))


def event(template: bytes, text: bytes) -> bytes:
    return b"data: " + template.replace(b"@", text) + b"\n\n"


ODD = [
    b"\0",
    b"a\0b",
    b"\1",
    b"\xff",
    b"\xc3",
    "é".encode(),
    b"",
    b"a b",
    rb"\"",
    rb"\x",
    b"\x1f",
    b'"',
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", [b"@", b"aB3"], ids=["text", "noise"])
def test_odd_bytes_in_a_like_event_are_read_strictly(odd: bytes, place: bytes) -> None:
    """In the text and in the second string that differs, alone in a read and among others."""
    template = TAP.TEMPLATES[0]
    like = [event(template, b"one"), event(template, b"two").replace(b"aB3", b"q9")]
    other = event(template.replace(place, odd), b"three")
    bare = event(template.replace(b'"obfuscation":"aB3"', b'"x":""'), b"four\0five")
    for pieces in ([*like, other, *like], [like[0], b"".join([like[1], other, like[0], bare])]):
        TAP.assert_same(pieces, keep_usage=False)


@pytest.mark.parametrize("instead", [b"", b"\1", b"\0", b"\1\1"])
def test_what_stands_between_text_and_noise_is_checked(instead: bytes) -> None:
    """An event that lacks the fields between its two strings is malformed, in a run as alone."""
    template = TAP.TEMPLATES[0]
    like = event(template, b"one")
    between = like[like.index(b'one"') + 3 : like.index(b"aB3")]
    other = like.replace(between, instead)
    for pieces in ([like, other], [like, like + other + like], [like, like + like + other]):
        TAP.assert_same(pieces, keep_usage=False)


@pytest.mark.parametrize("template", TAP.TEMPLATES[:6])
def test_an_event_that_lacks_a_quote_is_malformed(template: bytes) -> None:
    """It begins and ends as the others do, but both take the same quote for theirs."""
    like, other = event(template, b"one"), event(template.replace(b'"@"', b'"'), b"")
    for pieces in ([like, like, other], [like, other, like]):
        TAP.assert_same(pieces, keep_usage=False)


@pytest.mark.parametrize("size", [0, 2000])
def test_text_and_noise_may_stand_far_apart(size: int) -> None:
    """However much is between them, events that come alone are what they are among others."""
    between = b'"logprobs":"' + b"x" * size + b'",'
    template = TAP.TEMPLATES[0].replace(b'"logprobs":null,', between)
    pieces = [event(template, b"%d" % number) for number in range(3)]
    TAP.assert_same([*pieces, b"".join(pieces), *pieces], keep_usage=False)


def test_a_text_that_stands_twice_is_not_learned_from() -> None:
    """Of two equal strings it isn't known which is the text: the other may differ next."""
    template = b'{"id":"%b","model":"m","choices":[{"delta":{"content":"@"}}]}'
    pieces = [event(template % name, b"a") for name in (b"a", b"longer than that", b"a")]
    TAP.assert_same(pieces, keep_usage=False)


@pytest.mark.parametrize("template", TAP.TEMPLATES[:6])
def test_like_events_are_read_once(template: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred chunks of each known server one is parsed; all are renamed and counted."""
    parsed = []
    parse = Document.parse.__func__  # type: ignore[attr-defined]

    def counted(*arguments: Any) -> Any:
        parsed.append(arguments)
        return parse(*arguments)

    monkeypatch.setattr(Document, "parse", classmethod(counted))
    raw = b"".join(event(template, b"word%d" % number) for number in range(100))
    usage = Usage()
    tap = StreamTap("chat", keep_usage=False, usage=usage)
    passed = b"".join(tap.feed(raw[at : at + 1000]) for at in range(0, len(raw), 1000))
    assert len(parsed) == 1
    assert passed.count(b'"chat"') == 100 and len(passed.split(b"\n\n")) == 101
    assert usage.output_tokens == estimate_tokens(10 * 7 + 90 * 8)


def test_a_stream_whose_events_differ_is_learned_from_no_more() -> None:
    """Learning costs time: after some forms that nothing fits, events are read and that is all."""
    tap = StreamTap("chat", keep_usage=False, usage=Usage())
    forms = []
    for number in range(20):
        tap.feed(event(TAP.TEMPLATES[2].replace(b"c-1", b"c-%d" % number), b"x"))
        forms.append(tap._form)
    assert len(set(forms)) == 8 and forms[-1] is forms[-2] is not None
    assert tap.failure is None
