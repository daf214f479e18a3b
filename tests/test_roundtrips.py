"""Requests, answers and streams between all dialects: what a target can carry arrives.

What that is stands in roundtrips/carries.py, a table that was written from the providers' pages.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_core.errors import InvalidRequest

FOLDER = Path(__file__).parent / "roundtrips"
DOCUMENT = Path(__file__).parents[1] / "docs" / "dialects.md"


def _helpers() -> None:
    """Make the folder a package: tests are not on the path."""
    spec = importlib.util.spec_from_file_location(
        "roundtrips", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["roundtrips"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["roundtrips"])


_helpers()
carries, drawn, echoes, facts, judge, ways = (
    importlib.import_module(f"roundtrips.{name}")
    for name in ("carries", "drawn", "echoes", "facts", "judge", "ways")
)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
FEW = settings(
    max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=SLOW
)
MANY = settings(max_examples=1000, database=None, deadline=None, suppress_health_check=SLOW)
cuts = st.lists(st.integers(0, 5000), max_size=5)


def provided(origin: str) -> Any:
    """Answers of a provider; several at once where it gives them."""
    return drawn.answers(origin, several=origin in ("openai.chat", "gemini.generate"))


def check_request(client: str, wanted: Any) -> None:
    said = ways.asked(client, wanted)
    for target in carries.DIALECTS:
        wire, losses = ways.sent(target, said)
        offences = judge.request_offences(said, wire, ways.heard(target, wire), losses, target)
        assert not offences, f"{client} to {target}: {offences}"


def check_answer(origin: str, answer: Any, places: list[int]) -> None:
    read = ways.given(origin, answer)
    has_ids = origin != "ollama.chat"
    everything = dict.fromkeys(carries.ANSWERS, "yes")
    said, got = (facts.answer_facts(one, ids=has_ids) for one in (answer, read))
    assert not judge.carried_offences(said, got, everything), origin
    assert judge.counted(read, origin) == judge.counted(answer, origin)
    for at, client in enumerate(carries.CLIENTS):
        promises = {feature: row[client] for feature, row in carries.ANSWERS.items()}
        choices = read.choices if promises["several_choices"] == "yes" else read.choices[:1]
        _, whole = ways.answered(client, read)
        said = facts.answer_facts(read, choices=len(choices))
        offences = judge.carried_offences(said, facts.answer_facts(whole), promises)
        assert not offences, f"{origin} to {client}: {offences}"
        assert judge.counted(whole, client) == judge.counted(read, client)
        assert judge.stops(whole) == [judge.stop_for(client, at, choice) for choice in choices]
        streamed = ways.streamed_on(origin, client, answer, places)
        told = facts.answer_facts(streamed, ids=has_ids)
        assert told == facts.answer_facts(whole, ids=has_ids), f"{origin} to {client}, streamed"
        assert judge.stops(streamed) == judge.stops(whole)
        assert judge.counted(streamed, client, stream=True) == judge.counted(
            whole, client, stream=True
        )


def check_history(origin: str, answer: Any) -> None:
    read = ways.given(origin, answer)
    first = judge.assistant(read.choices[0].parts)
    for client in carries.CLIENTS:
        wire, _ = ways.answered(client, read)
        asked = ways.understood(client, echoes.next_request(client, wire))
        sent, _ = ways.sent(origin, asked)
        (back,) = (turn for turn in ways.heard(origin, sent).turns if turn.role == "assistant")
        assert judge.signed(judge.assistant(back.parts)) == judge.signed(first), client
        if origin != "ollama.chat":
            assert judge.calls(back, origin) == judge.calls(first, origin), client
        for other in (one for one in carries.DIALECTS if one != origin):
            check_failover(other, asked, [value for *_, value in judge.signed(first)])


def check_failover(other: str, asked: Any, signatures: list[str]) -> None:
    wire, losses = ways.sent(other, asked)
    offences = judge.request_offences(asked, wire, ways.heard(other, wire), losses, other)
    assert not offences, f"over to {other}: {offences}"
    raw = json.dumps(wire)
    assert not [value for value in (*signatures, "lp1:") if value in raw], f"it leaks to {other}"
    if signatures:
        assert any(re.fullmatch(r"messages\[1\]\.reasoning", loss.field) for loss in losses.all)


@pytest.mark.parametrize("client", carries.CLIENTS)
@given(wanted=drawn.conversations())
@FEW
def test_a_request_arrives(client: str, wanted: Any) -> None:
    """Whatever the target can carry arrives there as the client said it; a loss names the rest."""
    check_request(client, wanted)


@pytest.mark.parametrize("origin", carries.DIALECTS)
@given(data=st.data(), places=cuts)
@FEW
def test_an_answer_arrives(origin: str, data: st.DataObject, places: list[int]) -> None:
    """An answer reaches clients of every dialect, and streamed, however it is cut, as the same."""
    check_answer(origin, data.draw(provided(origin)), places)


@pytest.mark.parametrize("origin", carries.DIALECTS)
@given(data=st.data())
@FEW
def test_a_history_comes_back(origin: str, data: st.DataObject) -> None:
    """What a client's SDK sends back has the provider's ids, arguments and signatures.

    Another provider gets all of it but the signatures, and that is announced.
    """
    check_history(origin, data.draw(provided(origin)))


@pytest.mark.parametrize("target", ["anthropic.messages", "gemini.generate"])
def test_arguments_of_no_object_are_refused_by_their_place(target: str) -> None:
    """Where a call must be an object, the error names the message of the one that is none."""
    with pytest.raises(InvalidRequest) as refused:
        ways.sent(target, judge.with_arguments("[1]"))
    assert str(refused.value.param).startswith("messages[2].content[0]")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@given(data=st.data(), places=cuts)
@MANY
def test_all_of_it_with_many_more(data: st.DataObject, places: list[int]) -> None:
    """The same three promises, with other examples each time."""
    check_request(data.draw(st.sampled_from(carries.CLIENTS)), data.draw(drawn.conversations()))
    origin = data.draw(st.sampled_from(carries.DIALECTS))
    answer = data.draw(provided(origin))
    check_answer(origin, answer, places)
    check_history(origin, answer)


def test_the_judge_sees_what_is_missing() -> None:
    """A request that arrives without one of its facts is an offence, whichever fact that is."""
    chosen = random.Random(7)
    example = ways.asked("openai.chat", judge.EXAMPLE)
    wire, losses = ways.sent("openai.chat", example)
    heard = ways.heard("openai.chat", wire)
    assert not judge.request_offences(example, wire, heard, losses, "openai.chat")
    for spoiled in judge.spoiled(heard, chosen):
        assert judge.request_offences(example, wire, spoiled, losses, "openai.chat"), spoiled


def test_the_table_is_whole() -> None:
    """Each cell of the matrix has a value, and what is lossy says how."""
    for table in (carries.REQUESTS, carries.ANSWERS, carries.USAGE):
        for feature, row in table.items():
            for dialect in row:
                said = carries.cell(table, feature, dialect)
                assert re.fullmatch(r"yes|-|lossy: .+|no: https://\S+", said), (feature, dialect)


def test_the_document_shows_the_table() -> None:
    """docs/dialects.md holds the matrix that is tested here."""
    assert carries.matrix() in DOCUMENT.read_text(encoding="utf-8")
