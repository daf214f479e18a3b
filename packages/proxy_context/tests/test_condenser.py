"""The condenser loses nothing, and what it said once it says again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_context import CondenserSettings, ContextCondenser, KeepsContext, Segment
from proxy_context.errors import ReferenceBroken, SettingsError

LINES_ONLY = CondenserSettings(minify_json=False, min_block_lines=2, min_block_chars=60)
REFERENCE = "[3 lines identical to lines 1-3 of tool result 1 above]"

lines = st.sampled_from(
    [
        "",
        "a",
        "def find_the_needle(haystack: list[str]) -> str:",
        "    return next(straw for straw in haystack if 'needle' in straw)",
        "the quick brown fox jumps over the lazy dog, again and again",
        "zeile mit umlauten: äöü und einem \r wagenrücklauf",
        REFERENCE,
        "\\" + REFERENCE,
        "\\\\" + REFERENCE,
        "[2 lines identical to lines 0-9 of tool result 1 above]",
    ]
)
texts = st.one_of(st.lists(lines, max_size=14).map("\n".join), st.text(max_size=20))
kinds = st.sampled_from(["tool_result", "tool_result", "tool_result", "text", "tool_call", "other"])
segments_of = st.lists(
    st.builds(Segment, role=st.sampled_from(["user", "tool", "system"]), kind=kinds, text=texts),
    max_size=8,
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.sampled_from(' \t\n"\\:,{}[]aä😀'), max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def result(text: str) -> Segment:
    return Segment("tool", "tool_result", text)


def tokens_of(text: str) -> Any:
    """What JSON means, with every number's spelling, every key in order and every duplicate."""
    return json.loads(
        text, parse_float=str, parse_int=str, object_pairs_hook=lambda pairs: (1, pairs)
    )


FILE = "\n".join(
    f"line {number} of a file that an agent reads more than once" for number in range(20)
)


def test_the_defaults_alone_are_useful() -> None:
    """A file that is read twice stands once, and a line says where."""
    segments = [result(FILE), Segment("assistant", "text", FILE), result("$ cat file\n" + FILE)]
    condensed = ContextCondenser().condense(segments)
    assert dict(condensed.edits) == {
        2: "$ cat file\n[20 lines identical to lines 1-20 of tool result 1 above]"
    }
    assert condensed.saved_bytes == condensed.steps["dedupe_lines"] > 900
    assert ContextCondenser().expand(condensed.apply(segments)) == segments


def test_a_reference_names_lines_as_they_were_sent() -> None:
    """Line numbers count in the earlier result as the model sees it, references included."""
    other = FILE.replace("line", "row")
    segments = [result(FILE), result(FILE + "\n" + other), result(other)]
    edits = ContextCondenser().condense(segments).edits
    assert edits[1].startswith("[20 lines identical to lines 1-20 of tool result 1 above]\nrow 0")
    assert edits[2] == "[20 lines identical to lines 2-21 of tool result 2 above]"


def test_a_repeated_single_line_becomes_a_reference() -> None:
    """A whole result that came before is replaced, however few its lines."""
    text = json.dumps([{"flight": number, "seats": "none left"} for number in range(20)], indent=2)
    condensed = ContextCondenser().condense([result(text), result(text)])
    assert condensed.edits[1] == "[1 lines identical to lines 1-1 of tool result 1 above]"
    assert set(condensed.steps) == {"minify_json", "dedupe_lines"}


@settings(max_examples=300)
@given(segments_of)
def test_expand_gives_the_originals_back(segments: list[Segment]) -> None:
    """Without the JSON step, expanding what was condensed gives every byte back."""
    condenser = ContextCondenser(LINES_ONLY)
    assert condenser.expand(condenser.condense(segments).apply(segments)) == segments


@settings(max_examples=300)
@given(segments_of, segments_of)
def test_the_shared_prefix_keeps_its_bytes(segments: list[Segment], more: list[Segment]) -> None:
    """A conversation that goes on is condensed to the same bytes as far as it went before."""
    condenser = ContextCondenser(LINES_ONLY)
    before = condenser.condense(segments).apply(segments)
    after = condenser.condense(segments + more).apply(segments + more)
    assert after[: len(segments)] == before


@given(segments_of, st.integers(0, 3))
def test_only_tool_results_change_and_never_the_newest(segments: list[Segment], keep: int) -> None:
    """Other kinds, and as many segments at the end as the settings say, stay as they are."""
    condenser = ContextCondenser(
        CondenserSettings(min_block_lines=2, min_block_chars=60, keep_newest=keep)
    )
    condensed = condenser.condense(segments)
    for index, text in condensed.edits.items():
        assert segments[index].kind == "tool_result"
        assert index < len(segments) - keep
        assert text != segments[index].text
    before = sum(len(segment.text.encode()) for segment in segments)
    after = sum(len(segment.text.encode()) for segment in condensed.apply(segments))
    assert condensed.saved_bytes == before - after
    assert condensed == condenser.condense(segments)


@given(values, st.sampled_from([None, 1, 2, "\t"]), st.sampled_from(["", " ", "\r\n"]))
def test_minified_json_means_the_same(value: Any, indent: Any, around: str) -> None:
    """Only whitespace between tokens goes: spellings, order and strings stay."""
    text = around + json.dumps(value, indent=indent, ensure_ascii=False) + around
    edits = ContextCondenser().condense([result(text)]).edits
    if not isinstance(value, (list, dict)):
        assert edits == {}
        return
    smaller = edits.get(0, text)
    assert tokens_of(smaller) == tokens_of(text)
    assert smaller == json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def test_json_keeps_spellings_and_duplicates() -> None:
    """A number's spelling, an escape and a repeated key come out as they went in."""
    text = '{ "a" : 1.50, "a" : 1E+2, "b\\u0020" : [ -0.0, 12345678901234567890123, 1e999 ] }'
    edits = ContextCondenser().condense([result(text)]).edits
    assert edits == {0: '{"a":1.50,"a":1E+2,"b\\u0020":[-0.0,12345678901234567890123,1e999]}'}


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        "[NaN, 1]",
        '["\\ud800", 1]',
        '[ "\ud800" ]',
        "{'a': 1}",
        "[1, 2] and more",
        "[01, 2]",
        '["tab\there", 1]',
        "[ " * 100_000 + "]" * 100_000,
        "12 ",
        '"a" ',
        "",
        "[1,2]",
    ],
)
def test_what_is_not_strict_json_stays(text: str) -> None:
    """Anything that a strict reader refuses, and anything already small, is left alone."""
    assert ContextCondenser().condense([result(text)]).edits == {}


def test_each_step_can_be_switched_off() -> None:
    """With both steps off nothing changes, and expanding changes nothing either."""
    condenser = ContextCondenser(CondenserSettings(minify_json=False, dedupe_lines=False))
    segments = [result("[ 1 ]"), result(FILE), result(FILE), result(REFERENCE)]
    assert condenser.condense(segments).edits == {}
    assert condenser.expand(segments) == segments
    off = KeepsContext()
    assert off.condense(segments).apply(segments) == off.expand(segments) == segments


def test_a_line_that_reads_like_a_reference_is_told_apart() -> None:
    """Text that looks like a reference gets a backslash, and loses it again."""
    condenser = ContextCondenser()
    segments = [result(FILE), result(f"{REFERENCE}\n\\{REFERENCE}\nplain")]
    condensed = condenser.condense(segments)
    assert condensed.edits == {1: f"\\{REFERENCE}\n\\\\{REFERENCE}\nplain"}
    assert condensed.saved_bytes == -2
    assert condenser.expand(condensed.apply(segments)) == segments


@pytest.mark.parametrize(
    "line",
    [
        "[3 lines identical to lines 1-3 of tool result 9 above]",
        "[3 lines identical to lines 0-2 of tool result 1 above]",
        "[99 lines identical to lines 1-99 of tool result 1 above]",
        "[1 lines identical to lines 1-1 of tool result 2 above]",
    ],
)
def test_a_reference_to_nothing_is_an_error(line: str) -> None:
    """Expanding a part of a conversation fails rather than giving something else."""
    with pytest.raises(ReferenceBroken, match="tool result 2 refers to"):
        ContextCondenser().expand([result(FILE), result(line)])


def test_small_repeats_stay() -> None:
    """A block under either limit is not worth a reference."""
    few = "\n".join(["a line of some length, but there are only three of it" * 2] * 3)
    short = "\n".join("abcdefgh")
    segments = [
        result(few + "\nend"),
        result("x\n" + few),
        result(short + "\n"),
        result("y\n" + short),
    ]
    assert ContextCondenser().condense(segments).edits == {}


def test_memory_for_comparing_is_bounded() -> None:
    """When the memory for comparing is full, what is known can be referred to, and nothing else."""
    cost = len(FILE) + 20 * 300
    condenser = ContextCondenser(CondenserSettings(max_index_bytes=cost))
    late = FILE.replace("line", "row")
    segments = [result(FILE), result(late), result(late), result(FILE), result(FILE + "\n" + late)]
    condensed = condenser.condense(segments)
    assert set(condensed.edits) == {3}
    assert condenser.expand(condensed.apply(segments)) == segments


def test_a_reference_is_never_longer_than_what_it_replaces() -> None:
    """However low the limits are set, nothing grows but look-alikes."""
    tiny = CondenserSettings(min_block_lines=2, min_block_chars=1)
    segments = [result("a\nb\nc"), result("a\nb\nc"), result("a\nb")]
    assert ContextCondenser(tiny).condense(segments).edits == {}


@pytest.mark.parametrize(
    ("name", "value"), [("min_block_lines", 1), ("min_block_chars", 0), ("keep_newest", -1)]
)
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: Any) -> None:
    """The error names the setting and the value."""
    with pytest.raises(SettingsError, match=f"{name} is {value}"):
        CondenserSettings(**{name: value})
