"""Where a request would go, and why: each member of a pool with its place or what keeps it out."""

from __future__ import annotations

from typing import Any, NamedTuple

from proxy_core._choose import Pool
from proxy_core._member import ANYTHING, Asked, Crowd, Member, why_out

__all__ = ["Place", "explain"]


class Place(NamedTuple):
    """One member of a pool, as a request would find it."""

    label: str
    place: int | None
    """1 is asked first; None: it isn't asked."""
    reason: str
    """Why there, or why not."""
    free_in: float | None = None
    """Seconds until it may be asked; None: it may be now, or nobody knows."""


def explain(pool: Pool[Any], asked: Asked = ANYTHING) -> tuple[Place, ...]:
    """Each member of the pool: those who would be asked, in order, then the others.

    Where the order is drawn, it is the likeliest. Nothing is asked or counted by this.
    """
    crowd = pool.able(asked)
    ranked = pool.strategy.likeliest(crowd, asked)
    out = [member for member in pool.all if member not in ranked]
    return (
        *(
            Place(member.label, at, _inside(pool, member, crowd, asked))
            for at, member in enumerate(ranked, 1)
        ),
        *(_outside(pool, member, asked) for member in out),
    )


def _inside(pool: Pool[Any], member: Member[Any], crowd: Crowd[Any], asked: Asked) -> str:
    told = [f"order {member.order}", pool.strategy.why(member, crowd, asked)]
    if member.breaker.state != "closed":
        told.append("as a probe of its breaker")
    elif member.breaker.weight < 1:
        told.append("starting slowly after its breaker closed")
    if asked.tokens > member.window:
        told.append(f"its window of {member.context} tokens is the largest there is")
    return ", ".join(told)


def _outside(pool: Pool[Any], member: Member[Any], asked: Asked) -> Place:
    if member not in pool.members:
        return Place(member.label, None, "weight 0: out of traffic")
    wait, reason = why_out(member, pool.clock())
    if reason:
        return Place(member.label, None, reason, wait)
    told = f"its window of {member.context} tokens is too small for {asked.tokens}"
    return Place(member.label, None, told)
