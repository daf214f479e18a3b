"""The journey is one page, and the only place that calls the policies."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "packages" / "proxy_api" / "src" / "proxy_api"
VERBS = {
    "admission": {"place", "enter", "wait"},
    "limiter": {"reserve", "ask", "take", "look"},
    "held": {"settle"},
    "breaker": {"permit", "enter", "force_open", "force_close", "reset"},
    "cache": {"lookup", "recording", "store", "get", "set"},
    "condenser": {"condense", "expand"},
    "reservation": {"settle"},
    "permit": {"succeeded"},
    "ledger": {"record"},
}
MUST_STAND = {
    "admission.place",
    "limiter.reserve",
    "limiter.ask",
    "breaker.permit",
    "cache.lookup",
    "cache.recording",
    "condenser.condense",
}


def calls_in(file: Path) -> set[str]:
    """Every ``….limiter.reserve(…)``, ``….breaker.permit(…)`` and so on of one module."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if node.func.attr in VERBS.get(name.lstrip("_"), ()):
            found.add(f"{name.lstrip('_')}.{node.func.attr}")
    return found


def test_only_the_journey_calls_limiter_breaker_cache_and_condenser() -> None:
    """Every other module of proxy_api leaves the policies alone; the journey calls each of them."""
    callers = {file.name: calls for file in SOURCE.rglob("*.py") if (calls := calls_in(file))}
    assert set(callers) == {"_journey.py"}, callers
    assert callers["_journey.py"] >= MUST_STAND


def test_the_journey_reads_on_about_a_page() -> None:
    """The page has at most 125 lines, its functions at most forty."""
    text = (SOURCE / "_journey.py").read_text()
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.AsyncFunctionDef)
    ]
    assert text.count("\n") <= 125
    assert all((node.end_lineno or 0) - node.lineno < 40 for node in functions)


def test_the_composition_root_alone_builds_collaborators() -> None:
    """Breakers, limiters, providers and key rings are built in one file."""
    builders = {
        *("CircuitBreaker", "RateLimiter", "SharedRateLimiter", "Pool"),
        *("create_provider", "KeyRing", "LocalOnly"),
    }
    where = {
        file.name
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in builders
    }
    assert where == {"_compose.py"}
