from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core.dialects import EventSplitter, EventTooLarge, ServerEvent
from proxy_core.dialects._sse import MAX_EVENT, read_event, with_data

ENDINGS = [b"\n", b"\r\n", b"\r"]
LINES = [
    b"data: x",
    b"data:y",
    b"data",
    b"data: ",
    b": note",
    b"event: error",
    b"id: 1",
    b"odd",
    b"",
]
STREAMS = st.one_of(
    st.lists(st.sampled_from([*LINES, *ENDINGS * 4])).map(b"".join),
    st.sampled_from(ENDINGS).flatmap(
        lambda ending: st.lists(st.sampled_from(LINES)).map(
            lambda lines: ending.join(lines) + ending
        )
    ),
    st.binary(max_size=40),
)


def split(*pieces: bytes) -> tuple[list[ServerEvent], bytes]:
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events, bytes(splitter.rest)


@st.composite
def cuts(draw: st.DrawFn, raw: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    return [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


@given(data=st.data(), raw=STREAMS)
def test_the_pieces_never_matter(data: st.DataObject, raw: bytes) -> None:
    """Any chunking of the same bytes gives the same events, which joined are the bytes."""
    whole, rest = split(raw)
    assert split(*data.draw(cuts(raw))) == (whole, rest)
    assert split(*[raw[at : at + 1] for at in range(len(raw))]) == (whole, rest)
    assert b"".join(event.raw for event in whole) + rest == raw


def by_the_standard(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Names and data of the events, read line by line as the standard tells it."""
    events = []
    name = b""
    data: list[bytes] = []
    lines = re.split(rb"\r\n|\n|\r", raw)
    for line in lines[:-1]:
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


@given(raw=STREAMS)
def test_events_are_those_of_the_standard(raw: bytes) -> None:
    """A second reader, line by line, finds the same names and data."""
    # A last carriage return waits for its line feed, so none stands at the end here.
    events, _ = split(raw + b":\n")
    told = [(event.name, event.data) for event in events if event.data is not None]
    assert told == by_the_standard(raw + b":\n")


@given(raw=STREAMS.filter(lambda raw: raw.count(b"data") > 0), new=st.sampled_from([b"", b"{}"]))
def test_other_data_changes_the_data_alone(raw: bytes, new: bytes) -> None:
    """``with_data`` gives an event with that data, and all other lines as they were."""
    for event in split(raw + b"\n\n")[0]:
        if event.data is None:
            assert with_data(event, new) == event.raw
            continue
        lines = event.data.split(b"\n")
        fresh = b"\n".join([new] * len(lines))
        changed = read_event(with_data(event, fresh))
        assert (changed.data, changed.name) == (fresh, event.name)
        assert others(changed.raw) == others(event.raw)


def others(raw: bytes) -> list[bytes]:
    return [
        line for line in raw.splitlines(keepends=True) if not re.match(rb"data(:|\r|\n|$)", line)
    ]


def test_the_same_data_gives_the_same_bytes() -> None:
    """An event over several lines of three spellings keeps each of them."""
    raw = b'event: x\r\ndata: {"a":1,\r\ndata:"b":2,\rdata\ndata:"c":3}\r\n: end\r\n\r\n'
    event = read_event(raw)
    assert event.data == b'{"a":1,\n"b":2,\n\n"c":3}'
    assert with_data(event, event.data) == raw


def test_data_of_fewer_lines_leaves_empty_ones() -> None:
    """What was edited away leaves lines without text, which JSON doesn't mind."""
    event = read_event(b'data: {"model":[\ndata: "x"],\ndata: "a":1}\n\n')
    assert with_data(event, b'{"model":"y",\n"a":1}') == (
        b'data: {"model":"y",\ndata: "a":1}\ndata: \n\n'
    )


def test_a_large_event_passes_and_a_larger_one_is_cut() -> None:
    """8 MB without a blank line are kept, one byte more is too much."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: " + b"x" * (MAX_EVENT - 6)) == []
    (event,) = splitter.feed(b"\n\n")
    assert event.data is not None and len(event.data) == MAX_EVENT - 6
    splitter.feed(b"y" * MAX_EVENT)
    with pytest.raises(EventTooLarge, match=str(MAX_EVENT)):
        splitter.feed(b"y")


def test_events_come_as_soon_as_they_are_whole() -> None:
    """With line feeds no event waits for the next one."""
    splitter = EventSplitter()
    assert [event.data for event in splitter.feed(b"data: 1\n\ndata: 2\n\nda")] == [b"1", b"2"]
    assert [event.data for event in splitter.feed(b"ta: 3\r\n\r\n")] == [b"3"]
    assert splitter.rest == b""
