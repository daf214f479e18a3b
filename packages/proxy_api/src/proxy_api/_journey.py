"""The way of a request, top to bottom. The order is a decision; this page is where it is seen.

receive → authenticate → plan → admit → cache → condense → attempt → stream out → settle → record

Whatever is taken is held by a ``with`` until ``deliver`` has sent the last byte: on success, on
failure, and when the client leaves. Nothing else in this package calls the limiter, a breaker, the
cache or the condenser.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy_api._arrival import Arrival
from proxy_api._plan import Attempt, Course, Plan
from proxy_api._recorder import Record
from proxy_api._snapshot import Reserved, Snapshot
from proxy_core import Call, Limits, Ready, Reply, hold
from proxy_core.errors import LimitExceeded, UpstreamError

__all__ = ["Deliver", "journey"]

Deliver = Callable[[Reply], Awaitable[None]]
"""Sends an answer; when it returns, or raises, the answer is over."""


async def journey(arrival: Arrival, house: Snapshot, deliver: Deliver) -> None:
    """One request, to its last byte. Raises ProxyError."""
    with house.recorder.record(arrival) as record:
        # The key comes before the body: who has none may not make us read 32 MB.
        record.key = key = house.keys.authenticate(arrival)
        with house.admission.place():
            record.call = call = await arrival.call(house, key)
            record.plan = plan = house.plan(call, key, arrival)
            with await _reserved(house, key.id, key.limits, plan) as reservation:
                if (hit := house.cache.lookup(key.id, call)) is not None:
                    reservation.settle(0, output=0, money=0)
                    await deliver(record.answered(hit))
                    return
                try:
                    await first_answer(house.condenser.condense(call), plan, house, record, deliver)
                finally:
                    _settle(reservation, record, house)


async def first_answer(
    call: Call, plan: Plan, house: Snapshot, record: Record, deliver: Deliver
) -> None:
    """Ask the plan's deployments in turn. One whose answer has content is kept, come what may."""
    course = plan.course()
    while (attempt := course.next(record.attempts)) is not None:
        try:
            if (limits := attempt.deployment.limits) is None:
                await asked(call, attempt, course, house, record, deliver)
            else:
                held = await _held(attempt, limits, plan, house)
                asking = asked(call, attempt, course, house, record, deliver)
                await _within(held, asking, record)
        except UpstreamError as failure:
            course.failures.append(failure)
            if record.is_committed:
                raise
        else:
            return
    raise course.ends(call.model)


async def asked(
    call: Call, attempt: Attempt, course: Course, house: Snapshot, record: Record, deliver: Deliver
) -> None:
    """One attempt, its answer held back until there is content."""
    deployment, plan, stream = attempt.deployment, course.plan, call.stream
    permit = deployment.breaker.permit(stream=stream, last=course.is_last)
    # The breaker's block is around the answer's, or it would never see a failure in the stream.
    with permit, record.attempt(attempt) as turn:
        times = plan.deadline.inherited(deployment.timeouts, turn.began, stream=stream)
        provider = plan.chaos.around(deployment.provider) if plan.chaos else deployment.provider
        async with provider.send(call, model=attempt.model, timeouts=times) as reply:
            if not isinstance(reply.body, Ready):
                await hold(reply)
            if reply.content_at is not None:
                permit.succeeded()
                turn.answered(reply)
                plan.retries.answered(record.attempts)
            kept = house.cache.recording(record.key.id, record.call, record.answered(reply))
            await deliver(kept)


async def _within(held: Reserved, asking: Awaitable[None], record: Record) -> None:
    """An attempt at a deployment that has limits of its own."""
    with held:
        try:
            await asking
        finally:
            if record.reply is not None:
                tokens, output, money = record.spent(record.reply.usage)
                held.settle(tokens, output=output, money=money)


async def _held(attempt: Attempt, limits: Limits, plan: Plan, house: Snapshot) -> Reserved:
    """Of the deployment's own limits. When they are reached another one is asked."""
    try:
        return await _reserved(house, attempt.deployment.subject, limits, plan)
    except LimitExceeded as full:
        raise attempt.is_full(full) from None


def _settle(reservation: Reserved, record: Record, house: Snapshot) -> None:
    """Of an answer, what it has used. An await in here might never run in a cancelled scope."""
    if (reply := record.reply) is not None:
        tokens, output, money = record.spent(reply.usage)
        reservation.settle(tokens, output=output, money=money)
        house.ledger.record(record.request_id, record.key.id, reply.usage)


async def _reserved(house: Snapshot, subject: str, limits: Limits, plan: Plan) -> Reserved:
    """What the request may take at most. Raises LimitExceeded."""
    tokens, output = plan.wanted(limits)
    limiter, money = house.limiter, plan.money
    reserved = limiter.reserve(subject, limits, tokens=tokens, output=output, money=money)
    if reserved is None:  # limits that processes share can't always be told at once
        reserved = await limiter.ask(subject, limits, tokens=tokens, output=output, money=money)
    return reserved
