"""Where settings come from, which of them wins, and what is refused."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proxy_api._rows import Rows
from proxy_api._settings import InvalidSettings, Problem, Settings, checked, load_settings
from proxy_api._settings_models import ModelSettings, ProviderSettings
from proxy_core import Limit

Load = Callable[..., Settings]
ONE = "providers: {gpu: {kind: vllm}}\nmodels: [{name: chat, target: gpu/llama}]\n"
DESIGN = """
version: 1
server: {host: 127.0.0.1, port: 4000, workers: 1, drain: 300s, max_body: 32MB, allowed_hosts: []}
providers:
  openai: {kind: openai, api_key: "${OPENAI_API_KEY}"}
  gpu:    {kind: vllm, base_url: http://10.0.0.5:8000/v1}
  claude: {kind: openai_compatible, base_url: "http://10.0.0.6/v1", api_key: "credential:anthropic"}
models:
  - {name: chat, target: openai/gpt-5-mini, weight: 2}
  - {name: chat, target: gpu/llama-3.3-70b, order: 2}
  - {name: "claude-*", target: "claude/claude-*"}
fallbacks: {chat: [claude-sonnet-4-5]}
timeouts: {connect: 5s, first_byte: 60s, between_events: 60s, total: 600s}
routing: {strategy: weighted}
keys:
  - {name: ci, key: "${CI_KEY}", models: [chat], limits: {requests: 60/minute,
     tokens: 100000/minute, concurrent: 10}, budget: {usd: 10, per: month, hard: true}}
cache: {enabled: false}
context: {enabled: false}
redis: null
database: null
observability: {logs: json, metrics: {listen: null}, tracing: {enabled: false, otlp_endpoint: null}}
plugins: []
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a configuration from its text."""

    def loaded(
        text: str,
        *,
        suffix: str = ".yaml",
        environ: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Settings:
        path = tmp_path / f"config{suffix}"
        path.write_text(text)
        return load_settings(path, environ=environ or {}, **more)

    return loaded


@pytest.fixture
def problems(load: Load) -> Callable[..., dict[str, Problem]]:
    """The problems of a configuration, by their paths."""

    def found(text: str, **more: Any) -> dict[str, Problem]:
        with pytest.raises(InvalidSettings) as caught:
            load(text, **more)
        return {problem.path: problem for problem in caught.value.problems}

    return found


def test_the_design_s_configuration_is_read(load: Load, tmp_path: Path) -> None:
    """Each section of the documented configuration becomes what it says."""
    (tmp_path / "anthropic").write_text("sk-ant-1\n")
    settings = load(
        DESIGN,
        environ={
            "OPENAI_API_KEY": "sk-1",
            "CI_KEY": "ci-1",
            "CREDENTIALS_DIRECTORY": str(tmp_path),
        },
    )
    assert settings.server.drain == 300.0
    assert settings.server.max_body == 32_000_000
    assert [secret.get_secret_value() for secret in settings.providers["claude"].secrets] == [
        "sk-ant-1"
    ]
    assert [(m.provider, m.upstream, m.weight, m.order) for m in settings.models] == [
        ("openai", "gpt-5-mini", 2.0, 1),
        ("gpu", "llama-3.3-70b", 1.0, 2),
        ("claude", "claude-*", 1.0, 1),
    ]
    (rule,) = settings.fallbacks["chat"]
    assert (rule.on, rule.to) == ("error", ("claude-sonnet-4-5",))
    (key,) = settings.keys
    assert key.key.get_secret_value() == "ci-1"
    assert key.budget is not None
    assert key.budget.usd == Decimal(10)
    assert settings.not_in_force() == ()


def test_later_layers_win(load: Load) -> None:
    """Defaults are below the file, the file below the environment, that below the command line."""
    text = 'server: {host: "::1", port: 1, workers: 2}'
    environ = {"LLM_PROXY_SERVER__PORT": "2", "LLM_PROXY_SERVER__WORKERS": "3"}
    settings = load(text, environ=environ, overrides={"server": {"workers": 4, "host": None}})
    assert settings.server.max_body == 32_000_000
    assert (settings.server.host, settings.server.port, settings.server.workers) == ("::1", 2, 4)


def test_toml_says_the_same_as_yaml(load: Load) -> None:
    """A file's suffix decides its format, not what can be said in it."""
    toml = '[providers.gpu]\nkind = "vllm"\n[[models]]\nname = "chat"\ntarget = "gpu/llama"\n'
    assert load(toml, suffix=".toml") == load(ONE)


def test_other_suffixes_are_refused(problems: Callable[..., dict[str, Problem]]) -> None:
    """A file whose format isn't known is named with the suffixes that are."""
    (problem,) = problems("{}", suffix=".json").values()
    assert ".yaml, .yml or .toml" in problem.message


def test_lists_and_mappings_come_as_json(load: Load) -> None:
    """A variable for a list or a mapping holds JSON; one for a value inside holds the value."""
    settings = load(
        ONE,
        environ={
            "LLM_PROXY_KEYS": '[{"name": "a", "key": "k"}]',
            "LLM_PROXY_PROVIDERS__GPU__API_KEY": "123",
            "LLM_PROXY_FALLBACKS": '{"chat": ["other"]}',
            "LLM_PROXY_MODELS": '[{"name": "chat", "target": "gpu/a"},'
            ' {"name": "other", "target": "gpu/b"}]',
            "LLM_PROXY_REDIS": "",
        },
    )
    assert [key.name for key in settings.keys] == ["a"]
    assert [secret.get_secret_value() for secret in settings.providers["gpu"].secrets] == ["123"]
    assert [model.name for model in settings.models] == ["chat", "other"]
    assert settings.fallbacks["chat"][0].to == ("other",)


def test_broken_json_in_a_variable_names_it(
    problems: Callable[..., dict[str, Problem]],
) -> None:
    """JSON that isn't any is told with the variable and the place, never with its text."""
    found = problems(ONE, environ={"LLM_PROXY_KEYS": '[{"key": "sk-canary"'})
    assert "JSON (line 1, column 21)" in found["LLM_PROXY_KEYS"].message
    assert "sk-canary" not in str(found)


def test_an_unknown_variable_is_told(problems: Callable[..., dict[str, Problem]]) -> None:
    """A variable with our prefix that is no setting is an error with the nearest name."""
    environ = {"LLM_PROXY_SERVR__PORT": "1", "LLM_PROXY_SERVER_PORT": "1", "LLM_PROXY_ZZZ": "1"}
    found = problems(ONE, environ=environ)
    assert found["LLM_PROXY_SERVR__PORT"].hint == "Did you mean LLM_PROXY_SERVER__PORT?"
    assert found["LLM_PROXY_SERVER_PORT"].hint == "Did you mean LLM_PROXY_SERVER__PORT?"
    assert "server" in found["LLM_PROXY_ZZZ"].hint


def test_variables_of_the_command_are_no_settings(load: Load) -> None:
    """What client commands and workers read from the environment is let be."""
    names = ("LLM_PROXY_CONFIG", "LLM_PROXY_URL", "LLM_PROXY_KEY", "LLM_PROXY_WORKER_CHOICES")
    assert load(ONE, environ=dict.fromkeys(names, "x")) == load(ONE)


def test_a_variable_that_the_file_refers_to_is_no_setting(load: Load) -> None:
    """An operator may name secrets with our prefix, as long as the file uses them."""
    text = ONE + 'keys: [{name: ci, key: "${LLM_PROXY_CI_KEY}"}]'
    (key,) = load(text, environ={"LLM_PROXY_CI_KEY": "k"}).keys
    assert key.key.get_secret_value() == "k"


def test_without_a_path_the_variable_names_the_file(tmp_path: Path) -> None:
    """``$LLM_PROXY_CONFIG`` is read when nothing else names a file, and must be there."""
    path = tmp_path / "a.yml"
    path.write_text("server: {port: 7}")
    assert load_settings(environ={"LLM_PROXY_CONFIG": str(path)}).server.port == 7
    with pytest.raises(InvalidSettings, match=r"nope\.yaml.*no such file.*LLM_PROXY_CONFIG"):
        load_settings(environ={"LLM_PROXY_CONFIG": str(tmp_path / "nope.yaml")})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path that was given and leads nowhere is an error that names it."""
    with pytest.raises(InvalidSettings, match=r"nope\.yaml: there is no such file"):
        load_settings(tmp_path / "nope.yaml", environ={})
    with pytest.raises(InvalidSettings, match="is not a file"):
        load_settings(tmp_path, environ={})


def test_settings_made_directly_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Settings(...)`` is what it was given, whatever the process's environment says."""
    monkeypatch.setenv("LLM_PROXY_SERVER__PORT", "9")
    assert Settings().server.port == 4000


def test_settings_are_frozen() -> None:
    """Nothing changes a configuration once it is made."""
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.server.port = 1
    with pytest.raises(ValidationError):
        settings.version = 1


def test_an_empty_file_and_empty_sections_are_defaults(load: Load) -> None:
    """A section of which every line is commented out is as good as none."""
    assert load("") == load("keys:\nserver:\n") == Settings()


def test_times_are_the_model_s_over_the_provider_s(load: Load) -> None:
    """A deployment's times are its own, then its provider's, then the general ones."""
    settings = load("""
providers: {gpu: {kind: vllm, timeouts: {connect: 1s, total: 2m}}}
models: [{name: chat, target: gpu/x, timeouts: {total: 500ms}}]
timeouts: {first_byte: 7}
""")
    times = settings.timeouts_for(settings.models[0])
    assert (times.connect, times.first_byte, times.between_events, times.total) == (1, 7, 60, 0.5)


def test_limits_are_what_the_limiter_reads(load: Load) -> None:
    """A rate that the configuration accepts is one that the limiter can parse."""
    settings = load(ONE + "keys: [{name: a, key: k, limits: {requests: ' 5/10s '}}]")
    limits = settings.keys[0].limits
    assert limits is not None
    assert limits.requests is not None
    assert Limit.parse(limits.requests) == Limit("requests", 5, 10.0)


@pytest.mark.parametrize(
    ("written", "rules"),
    [
        ("[b, c]", [("error", ("b", "c"))]),
        ("b", [("error", ("b",))]),
        ("{on: context_length, to: [b]}", [("context_length", ("b",))]),
        (
            "[{on: error, to: [b]}, {on: content_policy, to: [c]}]",
            [("error", ("b",)), ("content_policy", ("c",))],
        ),
    ],
)
def test_fallbacks_have_one_form(load: Load, written: str, rules: list[Any]) -> None:
    """Whatever way fallbacks are written, they are rules with a cause and targets."""
    settings = load(f"""
providers: {{gpu: {{kind: vllm}}}}
models: [{{name: a, target: gpu/a}}, {{name: b, target: gpu/b}}, {{name: c, target: gpu/c}}]
fallbacks: {{a: {written}}}
""")
    assert [(rule.on, rule.to) for rule in settings.fallbacks["a"]] == rules


def test_secrets_are_never_shown(load: Load) -> None:
    """No representation and no dump of settings holds a secret."""
    settings = load("""
providers:
  gpu: {kind: vllm, api_keys: [canary-1, canary-2], headers: {x-auth: canary-3}}
keys: [{name: a, key: canary-5}]
redis: redis://:canary-6@localhost
database: postgresql://u:canary-7@localhost/x
""")
    shown = f"{settings!r} {settings} {settings.model_dump_json()} {settings.not_in_force()}"
    assert "canary" not in shown
    assert settings.providers["gpu"].secrets[1].get_secret_value() == "canary-2"


def test_errors_never_show_a_secret(load: Load) -> None:
    """No error, and no traceback of one, holds a secret or what a reference led to."""
    text = """
providers:
  gpu: {kind: vllm, api_key: " canary-1", api_kye: canary-2, headers: {a: [canary-3]}}
  one: canary-4
  two: {kind: "${CANARY}", base_url: "http://u:canary-5@h/v1"}
keys: [{name: a, key: "canary 6\\u00e9"}, canary-7]
redis: http://canary-8
server: {port: "${CANARY}", host: "${CANARY}", workers: "${CANARY}"}
"""
    with pytest.raises(InvalidSettings) as caught:
        load(text, environ={"CANARY": "canary-9", "LLM_PROXY_PROVIDERS__GPU__HTTP2": "maybe"})
    error = caught.value
    shown = "".join(traceback.format_exception_only(error)) + repr(error.problems)
    assert error.__context__ is None
    assert len(caught.value.problems) >= 9
    assert "canary" not in shown


def test_what_is_not_in_force_is_told(load: Load) -> None:
    """Each setting that is accepted and doesn't act yet has a sentence that names its path."""
    settings = load("""
server: {trusted_proxies: [10.1.2.3/8]}
providers: {gpu: {kind: vllm, api_keys: [a, b]}}
models: [{name: a, target: gpu/a, price: {input: 0.25}, context: 4096,
          limits: {requests: 1/second}}]
keys: [{name: k, key: s, budget: {usd: 1}}]
routing: {strategy: fastest, sticky: true}
cache: {enabled: true}
context: {enabled: yes}
redis: unix:///run/redis.sock
database: sqlite:///var/lib/x.db
observability: {metrics: {listen: "127.0.0.1:9464"}}
""")
    told = [sentence.partition(" ")[0] for sentence in settings.not_in_force()]
    assert sorted(told) == sorted(
        [
            "cache.enabled",
            "context.enabled",
            "observability.metrics.listen",
            "database",
        ]
    )
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)


def test_defaults_are_all_in_force() -> None:
    """A configuration that says nothing has nothing that doesn't act."""
    assert Settings().not_in_force() == ()


def test_found_rows_are_merged_below_the_file(load: Load) -> None:
    """What was found joins what was written; a name that is taken gets its provider's."""
    rows = Rows(
        providers={
            "ollama": {"kind": "ollama", "base_url": "http://127.0.0.1:11434/v1"},
            "gpu": {"kind": "openai_compatible"},
            "groq": {"kind": "groq", "api_key": "${GROQ_API_KEY}"},
        },
        models=(
            {"name": "chat", "target": "ollama/chat"},
            {"name": "phi", "target": "ollama/phi"},
            {"name": "lost", "target": "gpu/lost"},
        ),
    )
    text = ONE + "keys: [{name: a, key: k, models: [phi]}]"
    settings = load(text, rows=[rows], environ={"GROQ_API_KEY": "g"})
    assert settings.providers["gpu"].kind == "vllm"
    assert settings.providers["groq"].secrets[0].get_secret_value() == "g"
    assert [model.name for model in settings.models] == ["chat", "ollama/chat", "phi"]


def test_the_proxy_does_not_find_itself(load: Load) -> None:
    """A found server at the port that this proxy takes is left out with its models."""
    rows = Rows(
        providers={"vllm": {"kind": "vllm", "base_url": "http://127.0.0.1:8000/v1"}},
        models=({"name": "x", "target": "vllm/x"},),
    )
    settings = load(ONE, rows=[rows], environ={"LLM_PROXY_SERVER__PORT": "8000"})
    assert (list(settings.providers), len(settings.models)) == (["gpu"], 1)
    assert list(load(ONE, rows=[rows]).providers) == ["gpu", "vllm"]
    ours = Rows({"openai": {"kind": "openai", "base_url": "http://localhost:4000/v1"}})
    assert list(load(ONE, rows=[ours]).providers) == ["gpu"]


def test_rows_that_must_be_there_say_when_they_can_not(
    problems: Callable[..., dict[str, Problem]],
) -> None:
    """The local model isn't dropped in silence when its provider's name is taken."""
    rows = Rows({"gpu": {"kind": "vllm"}}, ({"name": "x", "target": "gpu/x"},), remedy="Rename it")
    assert problems(ONE, rows=[rows])["providers.gpu"].hint == "Rename it"


def test_settings_made_directly_can_be_checked() -> None:
    """``checked`` finds in direct settings what ``load_settings`` finds in a file."""
    fine = Settings(
        providers={"up": ProviderSettings(kind="vllm")},
        models=(ModelSettings(name="a", target="up/a"),),
    )
    assert checked(fine) is fine
    with pytest.raises(InvalidSettings, match="there is no provider 'upp'"):
        checked(Settings(models=(ModelSettings(name="a", target="upp/a"),)))


def test_the_example_files_are_valid_and_equal(tmp_path: Path) -> None:
    """The two examples for operators load, say the same, and have nothing that doesn't act."""
    folder = next(
        path / "systemd"
        for path in Path(__file__).parents
        if (path / "systemd" / "config.example.yaml").is_file()
    )
    for name in ("openai", "ci"):
        (tmp_path / name).write_text(f"secret-of-{name}")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    yaml = load_settings(folder / "config.example.yaml", environ=environ)
    toml = load_settings(folder / "config.example.toml", environ=environ)
    assert yaml == toml
    assert yaml.not_in_force() == ()
