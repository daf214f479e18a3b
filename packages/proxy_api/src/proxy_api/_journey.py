"""The way of a request, top to bottom. The order is a decision; this page is where it is seen.

receive → authenticate → plan → admit → cache → condense → attempt → stream out → settle → record

Whatever is taken is held by a ``with`` until ``deliver`` has sent the last byte: on success, on
failure, and when the client leaves. Nothing else in this package calls the limiter, a breaker, the
cache or the condenser.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy_api._arrival import Arrival
from proxy_api._plan import Attempt, Plan
from proxy_api._recorder import Record
from proxy_api._snapshot import Snapshot
from proxy_core import Call, Ready, Reply, hold
from proxy_core.errors import NoDeploymentAnswered, UpstreamError

__all__ = ["Deliver", "journey"]

Deliver = Callable[[Reply], Awaitable[None]]
"""Sends an answer; when it returns, or raises, the answer is over."""


async def journey(arrival: Arrival, house: Snapshot, deliver: Deliver) -> None:
    """One request, to its last byte. Raises ProxyError."""
    with house.recorder.record(arrival) as record:
        # The key comes before the body: who has none may not make us read 32 MB.
        key = house.keys.authenticate(arrival)
        record.key = key.name
        record.call = call = await arrival.call(house.max_body)
        record.plan = plan = house.plan(call, key)
        with house.limiter.reserve(key.id, key.limits, tokens=plan.dearest) as reservation:
            if (hit := house.cache.lookup(key.id, call)) is not None:
                reservation.settle(0)
                await deliver(record.answered(hit))
                return

            async def settled(reply: Reply) -> None:
                try:
                    await deliver(house.cache.recording(key.id, call, record.answered(reply)))
                finally:
                    # Synchronous: in a cancelled scope an await here might never run.
                    reservation.settle(reply.usage.input_tokens + reply.usage.output_tokens)
                    house.ledger.record(record.request_id, key.id, reply.usage)

            await first_answer(house.condenser.condense(call), plan, record, settled)


async def first_answer(call: Call, plan: Plan, record: Record, deliver: Deliver) -> None:
    """Ask the plan's deployments in turn. One whose answer has content is kept, come what may."""
    failures: list[UpstreamError] = []
    course = plan.course()
    while (attempt := course.next(failures, record.attempts)) is not None:
        try:
            await asked(call, attempt, record, deliver)
        except UpstreamError as failure:
            failures.append(failure)
            if record.is_committed:
                raise
        else:
            return
    raise failures[0] if len(failures) == 1 else NoDeploymentAnswered(call.model, failures)


async def asked(call: Call, attempt: Attempt, record: Record, deliver: Deliver) -> None:
    """One attempt, its answer held back until there is content."""
    deployment = attempt.deployment
    # The breaker's block is around the answer's, or it would never see a failure in the stream.
    with deployment.breaker.permit() as permit:
        began = record.attempt(attempt)
        try:
            asked_of = deployment.provider.send(
                call, model=attempt.model, timeouts=deployment.timeouts
            )
            async with asked_of as reply:
                if not isinstance(reply.body, Ready):
                    await hold(reply)
                if reply.has_content:
                    permit.succeeded()
                await deliver(reply)
        except UpstreamError as failure:
            record.failed(attempt, failure, began)
            raise
