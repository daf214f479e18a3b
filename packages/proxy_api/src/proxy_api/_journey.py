"""The way of a request, top to bottom. The order is a decision; this page is where it is seen.

receive → authenticate → plan → admit → cache → condense → attempt → stream out → settle → record

Whatever is taken is held by a ``with`` until the last byte has been sent: on success, on failure,
and when the client leaves. Nothing else in this package calls the limiter, a breaker, the cache or
the condenser.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy_api._arrival import Arrival
from proxy_api._recorder import Record
from proxy_api._snapshot import Attempt, Hold, Plan, Snapshot
from proxy_core import Call, Reply
from proxy_core.errors import NoDeploymentAnswered, UpstreamError

__all__ = ["journey"]


@asynccontextmanager
async def journey(arrival: Arrival, house: Snapshot) -> AsyncIterator[Reply]:
    """One request. The caller stays inside while the body is being sent. Raises ProxyError."""
    with house.recorder.record(arrival) as record:
        # The key comes before the body: who has none may not make us read 32 MB.
        key = house.keys.authenticate(arrival)
        record.key = key.name
        call = arrival.dialect.read(await arrival.body(house.max_body), arrival.request_id)
        plan = house.plan(call, key)
        record.planned(call, plan)
        with house.limiter.reserve(key.id, key.limits, tokens=plan.dearest) as reservation:
            if (hit := house.cache.lookup(key.id, call)) is not None:
                reservation.settle(0)
                yield record.answered(hit)
                return
            call = house.condenser.condense(call)
            async with first_answer(call, plan, record) as reply:
                try:
                    yield house.cache.recording(key.id, call, record.answered(reply))
                finally:
                    # Synchronous: in a cancelled scope an await here might never run.
                    reservation.settle(reply.usage.input_tokens + reply.usage.output_tokens)
                    house.ledger.record(record.request_id, key.id, reply.usage)


@asynccontextmanager
async def first_answer(call: Call, plan: Plan, record: Record) -> AsyncIterator[Reply]:
    """Ask the plan's deployments in turn. One whose answer has content is kept, come what may."""
    failures: list[UpstreamError] = []
    group = ""
    for attempt in plan.attempts:
        if record.attempts == plan.most_attempts:
            break
        if not attempt.follows(failures[-1] if failures else None, group):
            continue
        group, committed = attempt.group, False
        try:
            async with asked(call, attempt, record, plan.hold) as reply:
                committed = True
                yield reply
                return
        except UpstreamError as failure:
            failures.append(failure)
            if committed or not (failure.retryable or plan.has_answer_to(failure)):
                raise
    raise failures[0] if len(failures) == 1 else NoDeploymentAnswered(call.model, failures)


@asynccontextmanager
async def asked(call: Call, attempt: Attempt, record: Record, hold: Hold) -> AsyncIterator[Reply]:
    """One attempt, its answer held back until there is content."""
    # The breaker's block is around the answer's, or it would never see a failure in the stream.
    with attempt.deployment.breaker.permit() as permit, record.attempt(attempt):
        asking = attempt.deployment.provider.send(
            call, model=attempt.model, timeouts=attempt.timeouts
        )
        async with asking as reply, hold(reply):
            if reply.has_content:
                permit.succeeded()
            yield reply
