"""What is told of two configurations: short sentences in a stable order, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest

from proxy_api import Settings
from proxy_api._settings_diff import changes, in_force, needs_restart

BASE: dict[str, Any] = {
    "providers": {"openai": {"kind": "openai", "api_key": "old-secret"}, "gpu": {"kind": "vllm"}},
    "models": [
        {"name": "chat", "target": "openai/gpt"},
        {"name": "chat", "target": "gpu/llama", "order": 2},
    ],
    "keys": [{"name": "ci", "key": "ci-secret", "limits": {"requests": "60/minute"}}],
}


def settings(**sections: Any) -> Settings:
    return Settings(**{**BASE, **sections})


def test_equal_configurations_differ_in_nothing() -> None:
    """The same file again, with its rows in another order, is no change."""
    again = settings(models=BASE["models"][::-1])
    assert changes(settings(), again) == ()
    assert needs_restart(settings(), again) == ()


CHANGED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a model more": (
        {"models": [*BASE["models"], {"name": "x", "target": "gpu/x"}]},
        ("models: + x → gpu/x",),
    ),
    "a model less": ({"models": BASE["models"][:1]}, ("models: - chat → gpu/llama",)),
    "a row before the others": (
        {"models": [{"name": "x", "target": "gpu/x"}, {**BASE["models"][0], "weight": 2.5}]},
        (
            "models: + x → gpu/x",
            "models[chat → openai/gpt].weight: 1 → 2.5",
            "models: - chat → gpu/llama",
        ),
    ),
    "a limit": (
        {"keys": [{**BASE["keys"][0], "limits": {"requests": "90/minute"}}]},
        ("keys.ci.limits.requests: 60/minute → 90/minute",),
    ),
    "no limits": (
        {"keys": [{"name": "ci", "key": "ci-secret"}]},
        ("keys.ci.limits.requests: 60/minute → none",),
    ),
    "another key": (
        {"keys": [{"name": "dev", "key": "dev-secret"}]},
        ("keys: + dev", "keys: - ci"),
    ),
    "models of a key": (
        {"keys": [{**BASE["keys"][0], "models": ["chat"]}]},
        ("keys.ci.models: [*] → [chat]",),
    ),
    "scopes, and with them no models": (
        {"keys": [{**BASE["keys"][0], "scopes": ["metrics"]}]},
        ("keys.ci.models: [*] → []", "keys.ci.scopes: [] → [metrics]"),
    ),
    "a fallback": (
        {"fallbacks": {"chat": ["chat2"]}},
        ("fallbacks: + chat",),
    ),
    "a section": (
        {"server": {"drain": "1m", "max_body": "1MB", "allowed_hosts": ["llm.example.com"]}},
        (
            "server.drain: 300 → 60",
            "server.max_body: 32000000 → 1000000",
            "server.allowed_hosts: [] → [llm.example.com]",
        ),
    ),
    "a switch": ({"cache": {"enabled": True}}, ("cache.enabled: false → true",)),
    "certificates of ours": (
        {"server": {"tls": {"cert": "/new.pem", "key": "/k.pem"}}},
        (),
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_differs_is_told(case: str) -> None:
    """Each difference is one sentence with the setting's path, its old and its new value."""
    sections, told = CHANGED[case]
    assert changes(settings(), settings(**sections)) == told


def test_a_fallback_is_shown_with_its_cause() -> None:
    """A rule that became another one is told as both of them."""
    old = settings(fallbacks={"chat": ["a"]})
    new = settings(fallbacks={"chat": {"on": "context_length", "to": ["b"]}})
    assert changes(old, new) == (
        "fallbacks.chat: [{on: error, to: [a]}] → [{on: context_length, to: [b]}]",
    )


def provider(**fields: Any) -> Settings:
    return settings(providers={**BASE["providers"], "openai": {"kind": "openai", **fields}})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"api_key": "old-secret"}, {"api_key": "new-secret"}, "api_key changed"),
        ({"api_key": "old-secret"}, {}, "api_key removed"),
        ({}, {"api_keys": ["new-secret", "more"]}, "api_keys added"),
        ({"api_keys": ["old-secret"]}, {"api_keys": ["new-secret"]}, "api_keys changed"),
        ({"headers": {"x": "old-secret"}}, {"headers": {"x": "new-secret"}}, "headers.x changed"),
        ({}, {"headers": {"x": "new-secret"}}, "headers: + x"),
    ],
)
def test_of_a_secret_only_the_fact_is_told(
    before: dict[str, Any], after: dict[str, Any], told: str
) -> None:
    """Keys and headers are told as changed, added or removed; nothing of them is shown."""
    assert changes(provider(**before), provider(**after)) == (f"providers.openai.{told}",)


def test_a_stores_password_is_not_shown() -> None:
    """The address of a store is a secret too."""
    old, new = settings(redis="redis://:old@h"), settings(redis="redis://:new@h")
    assert needs_restart(old, new) == ("redis",)
    assert changes(old, new) == ()


def test_a_long_value_is_cut() -> None:
    """A list of hundreds of names does not fill the log."""
    long = settings(server={"allowed_hosts": [f"host{n}.example.com" for n in range(500)]})
    (told,) = changes(settings(), long)
    assert told.endswith("...") and len(told) < 200


def test_what_a_process_decides_at_its_start_is_listed_apart() -> None:
    """Where it listens, its logs and traces need a restart, and are no changes."""
    new = settings(
        server={"port": 5000, "host": "0.0.0.0", "reuse_port": True, "drain": 60},
        observability={"logs": "json", "tracing": {"enabled": True}},
    )
    assert changes(settings(), new) == ("server.drain: 300 → 60",)
    assert needs_restart(settings(), new) == (
        "server.host",
        "server.port",
        "server.reuse_port",
        "observability.logs",
        "observability.tracing.enabled",
    )


def test_what_needs_a_restart_is_not_in_force() -> None:
    """A process works by the new settings, but for those that it can't change."""
    new = settings(server={"port": 5000, "drain": 60}, observability={"logs": "json"})
    works_by = in_force(settings(), new)
    assert (works_by.server.port, works_by.server.drain) == (4000, 60)
    assert works_by.observability.logs == "auto"
    assert needs_restart(works_by, new) == ("server.port", "observability.logs")


def test_other_certificate_files_are_taken_over_but_not_https_itself() -> None:
    """Paths of the listener's certificate may change in a running process; plain stays plain."""
    plain = settings()
    one = settings(server={"tls": {"cert": "/a.pem", "key": "/a.key"}})
    two = settings(server={"tls": {"cert": "/b.pem", "key": "/a.key"}})
    assert changes(one, two) == ("server.tls.cert: /a.pem → /b.pem",)
    assert needs_restart(one, two) == ()
    assert changes(plain, one) == changes(one, plain) == ()
    assert needs_restart(plain, one) == ("server.tls.cert", "server.tls.key")
    assert in_force(plain, one).server.tls is None
