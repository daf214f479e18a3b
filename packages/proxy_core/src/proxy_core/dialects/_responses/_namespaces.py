"""Tools that stand in a namespace: to other dialects they go under one flat name.

Only Responses have namespaces, and Codex uses them. A call comes back to the client by the name
and the namespace that it knows, and is read by them in the history.
Source: openai 3.54's ``NamespaceToolParam`` and ``ResponseFunctionToolCall``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec

from proxy_core.dialects._canonical import Json, Tool

__all__ = [
    "Home",
    "flat_name",
    "flat_names",
    "flattened",
    "format_of",
    "grouped",
    "home_of",
    "homes_of",
    "inside",
]

_LONGEST: Final = 64
"""Letters of a function's name, to OpenAI and Gemini."""
_HOME: Final = frozenset({"namespace", "name", "about"})
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")


class Home(NamedTuple):
    """Where a tool stands, and what it is called there."""

    namespace: str
    name: str


def flat_name(home: Home, taken: Iterable[str] = ()) -> str:
    """One name for both, which is none of those that are taken."""
    plain = f"{home.namespace.rstrip('_')}__{home.name}"
    name = _ODD.sub("_", plain)
    if name == plain and len(name) <= _LONGEST and name not in taken:
        return name
    salt = 0
    while True:
        seed = f"{home.namespace}\0{home.name}\0{salt}".encode(errors="surrogatepass")
        found = f"{name[: _LONGEST - 9]}_{hashlib.sha256(seed).hexdigest()[:8]}"
        if found not in taken:
            return found
        salt += 1


def flattened(tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """The same by names that are all different; those without a namespace keep theirs."""
    tools = tuple(tools)
    taken = {tool.name for tool in tools if home_of(tool) is None}
    told = []
    for tool in tools:
        home = home_of(tool)
        if home is not None:
            name = flat_name(home, taken)
            taken.add(name)
            told.append(msgspec.structs.replace(tool, name=name))
        else:
            told.append(tool)
    return tuple(told)


def home_of(tool: Tool) -> Home | None:
    """None of a tool that stands in no namespace."""
    own = tool.own
    if tool.kind not in ("function", "custom") or not isinstance(own, dict):
        return None
    namespace, name = own.get("namespace"), own.get("name")
    if not namespace or not isinstance(own.get("about"), str | None):
        return None
    return Home(namespace, name) if isinstance(namespace, str) and isinstance(name, str) else None


def format_of(tool: Tool) -> Json:
    """What a custom tool says of its text; None where it may be any."""
    if home_of(tool) is None:
        return tool.own
    return {name: value for name, value in tool.own.items() if name not in _HOME} or None


def inside(tool: Tool, namespace: str, about: str | None) -> Tool:
    """The same, which knows where it stands."""
    return msgspec.structs.replace(
        tool, own={**(tool.own or {}), "namespace": namespace, "name": tool.name, "about": about}
    )


def homes_of(tools: Iterable[Tool]) -> dict[str, Home]:
    """By the flat names."""
    return {tool.name: home for tool in tools if (home := home_of(tool)) is not None}


def flat_names(tools: Iterable[Tool]) -> Mapping[Home, str]:
    return {home: name for name, home in homes_of(tools).items()}


def grouped(written: Iterable[tuple[Tool, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Tools as Responses say them, those of a namespace inside it again."""
    told: list[dict[str, Any]] = []
    for namespace, ones in groupby(written, lambda one: _namespace(one[0])):
        if namespace is None:
            told += [json for _, json in ones]
            continue
        inner = list(ones)
        about = inner[0][0].own.get("about") or ""
        group = {"type": "namespace", "name": namespace, "description": about}
        told.append({**group, "tools": [_inner(tool, json, about) for tool, json in inner]})
    return told


def _namespace(tool: Tool) -> str | None:
    home = home_of(tool)
    return None if home is None else home.namespace


def _inner(tool: Tool, json: dict[str, Any], about: str) -> dict[str, Any]:
    told = {**json, "name": tool.own["name"]}
    if about and "description" in told:
        told["description"] = told["description"].removeprefix(about).lstrip("\n")
    return told
