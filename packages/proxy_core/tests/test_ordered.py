from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.dialects._canonical import (
    Begun,
    Choice,
    Closed,
    Counted,
    Event,
    Finished,
    Opened,
    Piece,
    Text,
    ToolCall,
)
from proxy_core.dialects._fold import folded
from proxy_core.dialects._ordered import Ordered

BEGUN = Begun(id="a", model="m")


def opened(index: int, choice: int = 0) -> Opened:
    return Opened(index=index, part=Text(text=""), choice=choice)


def ordered(events: list[Event]) -> list[Event]:
    order = Ordered()
    return [told for event in events for told in order.push(event)]


def test_a_part_waits_for_the_one_before() -> None:
    """Pieces of a second part come after the first part's end, in their own order."""
    first, second = Piece(index=0, text="a"), Piece(index=1, text="b")
    events: list[Event] = [opened(0), opened(1), second, first, Closed(index=0), Closed(index=1)]
    assert ordered(events) == [
        opened(0),
        first,
        Closed(index=0),
        opened(1),
        second,
        Closed(index=1),
    ]


def test_a_second_part_flows_once_the_first_is_closed() -> None:
    """Nothing is held back longer than until the part before it has ended."""
    order = Ordered()
    order.push(opened(0))
    assert order.push(opened(1)) == []
    assert order.push(Closed(index=0)) == [Closed(index=0), opened(1)]
    assert order.push(Piece(index=1, text="x")) == [Piece(index=1, text="x")]


def test_what_belongs_to_no_part_passes_at_once() -> None:
    """Usage and the beginning are never held back."""
    order = Ordered()
    order.push(opened(0))
    counted = Counted(Usage(1, 2))
    assert order.push(BEGUN) == [BEGUN]
    assert order.push(counted) == [counted]


def test_the_end_of_a_choice_closes_what_was_left_open() -> None:
    """What waits comes out before the end, each part with its own end, and only that choice's."""
    end = Finished(stop="end")
    told = ordered([opened(0), opened(1), opened(0, 1), Piece(index=1, text="b"), end])
    assert told == [
        opened(0),
        opened(0, 1),
        Closed(index=0),
        opened(1),
        Piece(index=1, text="b"),
        Closed(index=1),
        end,
    ]


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_turns_give_the_same_answer_in_order(data: st.DataObject) -> None:
    """However parts take turns, they are told one by one, and the answer is the same."""
    texts = data.draw(st.lists(st.text(max_size=3), min_size=1, max_size=4))
    parts = [ToolCall(id=f"c{at}", name="f", arguments=text) for at, text in enumerate(texts)]
    rows: list[list[Event]] = [
        [
            Opened(index=at, part=ToolCall(id=f"c{at}", name="f", arguments="")),
            *(Piece(index=at, text=letter) for letter in text),
            Closed(index=at),
        ]
        for at, text in enumerate(texts)
    ]
    events: list[Event] = [BEGUN, *(row.pop(0) for row in rows)]
    while any(rows):
        events.append(data.draw(st.sampled_from([row for row in rows if row])).pop(0))
    events.append(Finished(stop="tool_calls"))
    told = ordered(events)
    answer = folded(told)
    assert answer.choices == (Choice(parts=tuple(parts), stop="tool_calls"),)
    indices = [event.index for event in told if isinstance(event, Opened | Piece | Closed)]
    assert indices == sorted(indices)
