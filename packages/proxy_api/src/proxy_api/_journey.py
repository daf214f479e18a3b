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
from proxy_api._plan import Attempt, Plan
from proxy_api._recorder import Record
from proxy_api._snapshot import Snapshot
from proxy_core import Call, Reply, held
from proxy_core.errors import NoDeploymentAnswered, UpstreamError

__all__ = ["journey"]


@asynccontextmanager
async def journey(arrival: Arrival, house: Snapshot) -> AsyncIterator[Reply]:
    """One request. The caller stays inside while the body is being sent. Raises ProxyError."""
    with house.recorder.record(arrival) as record:
        # The key comes before the body: who has none may not make us read 32 MB.
        key = house.keys.authenticate(arrival)
        record.key = key.name
        record.call = call = await arrival.call(house.max_body)
        record.plan = plan = house.plan(call, key)
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
    course = plan.course()
    while (attempt := course.next(failures, record.attempts)) is not None:
        committed = False
        try:
            async with asked(call, attempt, record) as reply:
                committed = True
                yield reply
                return
        except UpstreamError as failure:
            failures.append(failure)
            if committed or record.is_committed:
                raise
    raise failures[0] if len(failures) == 1 else NoDeploymentAnswered(call.model, failures)


@asynccontextmanager
async def asked(call: Call, attempt: Attempt, record: Record) -> AsyncIterator[Reply]:
    """One attempt, its answer held back until there is content."""
    # The breaker's block is around the answer's, or it would never see a failure in the stream.
    with attempt.deployment.breaker.permit() as permit, record.attempt(attempt):
        asking = attempt.deployment.provider.send(
            call, model=attempt.model, timeouts=attempt.deployment.timeouts
        )
        async with asking as reply, held(reply):
            if reply.has_content:
                permit.succeeded()
            yield reply
