"""What a request's record tells at its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from proxy_api._arrival import Arrival
from proxy_api._face import face_of
from proxy_api._keys import Key
from proxy_api._recorder import Recorder
from proxy_core import Call, Ready, Reply, Usage
from proxy_core.dialects import DIALECTS, Document
from proxy_logging import NoTracer, RequestFinished
from proxy_logging.testing import RecordingObserver

PRICE = SimpleNamespace(of=lambda usage: 13)


def finished(reply: Reply | None, *, price: Any, flags_unpriced: bool = False) -> RequestFinished:
    """What is told of a request that was asked once, and of its answer."""
    observer = RecordingObserver()
    recorder = Recorder(observer, NoTracer(), flags_unpriced=flags_unpriced)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    arrival = Arrival({"headers": []}, receive, face_of(DIALECTS["openai.chat"]))
    with recorder.record(arrival) as record:
        record.key = Key("id", "the key")
        record.call = Call(dialect="openai.chat", body=Document(b"{}", {}), model="the model")
        plan: Any = SimpleNamespace(route="the route", chaos=None)
        record.plan = plan
        arrival.is_stream = True
        arrival.received_at -= 100
        attempt: Any = SimpleNamespace(
            deployment=SimpleNamespace(load=None),
            name="the deployment",
            provider="the provider",
            shown=b"shown",
            price=price,
        )
        with record.attempt(attempt):
            if reply is not None:
                record.answered(reply)
                record.spent(reply.usage)
    told = observer.of(RequestFinished)
    assert (len(told), told[0].request_id) == (1, arrival.request_id)
    return told[0]


def test_each_fact_is_told_in_its_place() -> None:
    """Whatever a field is, it holds what its name says."""
    usage = Usage(input_tokens=3, output_tokens=5, cached_tokens=2, reported=False)
    reply = Reply(Ready(b"x"), stream=True, usage=usage, status=201)
    told = finished(reply, price=PRICE)
    assert told == RequestFinished(
        request_id=told.request_id,
        surface="chat",
        status=201,
        outcome="ok",
        duration=told.duration,
        model="the model",
        route="the route",
        deployment="the deployment",
        provider="the provider",
        key="the key",
        stream=True,
        attempts=1,
        overhead=told.overhead,
        input_tokens=3,
        output_tokens=5,
        cached_tokens=2,
        usage_estimated=True,
        cost=13,
    )
    assert 100 <= (told.overhead or 0) <= told.duration < 150


def test_the_first_token_of_a_stream_is_timed() -> None:
    """From the request's head; without content there is none, and a whole answer has none."""
    for content_at, stream, timed in (
        (-50.0, True, True),
        (None, True, False),
        (1.0, False, False),
    ):
        reply = Reply(Ready(b"x"), stream=stream, content_at=content_at)
        assert (finished(reply, price=PRICE).first_token is not None) is timed


def test_only_an_answer_without_a_price_is_told_as_unpriced() -> None:
    """And only where the operator wants to know."""
    for price, answers, flags in ((None, True, True), (PRICE, True, True), (None, False, True)):
        reply = Reply(Ready(b"x")) if answers else None
        told = finished(reply, price=price, flags_unpriced=flags)
        assert told.unpriced is (price is None and answers)
    assert not finished(Reply(Ready(b"x")), price=None).unpriced
