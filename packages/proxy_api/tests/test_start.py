"""What the start costs: what is imported, what is shared, what is left undone."""

from __future__ import annotations

import ssl
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from proxy_api import Settings
from proxy_api._compose import Parts, compose
from proxy_api._snapshot import Runtime
from proxy_logging import NoTracer


@dataclass
class Asked:
    """The head of a request with a key."""

    key: str
    peer: str | None = None

    def header(self, name: bytes) -> str:
        return {b"x-api-key": self.key}.get(name, "")


def composed(runtime: Runtime | None = None, **sections: Any) -> Any:
    return compose(
        Settings(**sections), runtime or Runtime(), Parts(lambda event: None, NoTracer())
    )


def told(program: str, *arguments: str) -> list[str]:
    """What a program prints in an interpreter of its own."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_asking_a_running_proxy_waits_for_no_server() -> None:
    """``llm-proxy status`` and its like start without FastAPI, pydantic, structlog or rich."""
    program = (
        "import sys, proxy_api._cli;"
        "print(*{'fastapi', 'pydantic', 'structlog', 'rich', 'uvicorn'} & {*sys.modules})"
    )
    assert told(program) == []


def test_the_collector_is_at_work_when_the_proxy_serves() -> None:
    """Garbage isn't looked for during the start, and is from then on."""
    program = (
        "import gc; gc.disable(); from proxy_api._serve import _settle; _settle();"
        "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    )
    assert told(program) == ["True", "True"]


def test_keys_that_may_do_the_same_share_it() -> None:
    """A thousand keys with equal limits and models hold one value of each; others their own."""
    limited = {"models": ["chat"], "limits": {"requests": "60/minute", "concurrent": 3}}
    other = {"models": ["chat", "code"], "limits": {"requests": "61/minute", "concurrent": 3}}
    rows = [
        {"name": "a", "key": "sk-a", **limited},
        {"name": "b", "key": "sk-b", **limited},
        {"name": "c", "key": "sk-c", **other},
    ]
    ring = composed(keys=rows).keys
    a, b, c = (ring.authenticate(Asked(f"sk-{name}")) for name in "abc")
    assert a.limits is b.limits
    assert a.models is b.models
    assert (a.limits.requests.amount, c.limits.requests.amount) == (60, 61)
    assert (a.may_use("code"), c.may_use("code")) == (False, True)


@pytest.mark.parametrize(
    ("provider", "read"),
    [
        ({"kind": "vllm"}, 0),
        ({"kind": "openai_compatible", "base_url": "http://10.0.0.5:8000/v1"}, 0),
        ({"kind": "openai_compatible", "base_url": "https://10.0.0.5:8000/v1"}, 1),
        ({"kind": "openai", "api_key": "sk-upstream"}, 1),
    ],
)
def test_the_systems_certificates_are_read_where_tls_is_spoken(
    monkeypatch: pytest.MonkeyPatch, provider: dict[str, Any], read: int
) -> None:
    """Once for all the providers that are reached by https, never for those by http."""
    made: list[ssl.SSLContext] = []
    default = ssl.create_default_context

    def reading(*given: Any, **named: Any) -> ssl.SSLContext:
        made.append(default(*given, **named))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", reading)
    runtime = Runtime()
    composed(
        runtime,
        providers={"one": provider, "two": provider},
        models=[{"name": "m", "target": "one/m"}, {"name": "m", "target": "two/m"}],
    )
    assert len(made) == read
    assert runtime.tls is (made[0] if read else None)
