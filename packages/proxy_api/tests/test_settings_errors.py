"""Everything that is wrong is told at once, with its path and a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy_api._settings import InvalidSettings, Problem, load_settings
from proxy_core.errors import ConfigurationError

Problems = Callable[..., dict[str, Problem]]
GPU = "providers: {gpu: {kind: vllm}}\n"
ABC = (
    GPU + "models: [{name: a, target: gpu/a}, {name: b, target: gpu/b}, {name: c, target: gpu/c}]\n"
)


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """The problems of a configuration's text, by their paths."""

    def found(text: str, *, suffix: str = ".yaml", **environ: str) -> dict[str, Problem]:
        path = tmp_path / f"config{suffix}"
        path.write_text(text)
        with pytest.raises(InvalidSettings) as caught:
            load_settings(path, environ=environ)
        return {
            problem.path.replace(str(path), "FILE"): problem for problem in caught.value.problems
        }

    return found


@pytest.fixture
def accepted(tmp_path: Path) -> Callable[[str], Any]:
    """The settings of a configuration's text."""

    def load(text: str) -> Any:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return load_settings(path, environ={})

    return load


def test_all_problems_come_at_once(problems: Problems) -> None:
    """One run tells of a wrong type, an unknown name, a missing variable and a wrong target."""
    found = problems("""
version: "1"
server: {port: 99999, prot: 1}
providers:
  openai: {kind: opnai, api_kye: x}
  groq: {kind: groq, api_key: "${GROQ_API_KEY}"}
models: [{name: a, target: opena/x, wieght: 2}]
fallbacks: {a: [nix]}
""")
    assert set(found) == {
        "version",
        "server.port",
        "server.prot",
        "providers.openai.api_kye",
        "providers.openai.kind",
        "providers.groq.api_key",
        "models[0].wieght",
        "models[0].target",
        "fallbacks.a",
    }
    assert found["version"].hint == "Write 1 without quotes"
    assert found["server.prot"].hint == "Did you mean 'port'?"
    assert found["providers.openai.api_kye"].hint == "Did you mean 'api_key'?"
    assert found["providers.openai.kind"].hint.startswith("Did you mean 'openai'?")
    assert "GROQ_API_KEY is not set" in found["providers.groq.api_key"].message
    assert found["models[0].target"].hint == "Did you mean 'openai/x'?"


def test_the_error_is_a_readable_list(tmp_path: Path) -> None:
    """The text names the file and has one line for each problem, in the order of the schema."""
    path = tmp_path / "c.yaml"
    path.write_text("plugins: 1\nserver: {port: x}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environ={})
    assert str(caught.value).splitlines() == [
        f"the configuration has 2 problems in {path}:",
        "  - server.port: must be a whole number, not 'x'",
        "  - plugins: must be a list, not a number",
    ]


@pytest.mark.parametrize(
    ("text", "suffix", "where", "what"),
    [
        ("a: [1\nb: 2", ".yaml", "FILE, line 2, column 2", "not YAML"),
        ("\tx: 1", ".yaml", "FILE, line 1, column 1", "not YAML"),
        ("a: *b", ".yaml", "FILE, line 1, column 4", "not YAML"),
        ("a: \x07", ".yaml", "FILE", "not YAML"),
        ("x: !!python/object:os.system {}", ".yaml", "FILE, line 1, column 4", "not YAML"),
        ("a = \n", ".toml", "FILE, line 1, column 5", "not TOML"),
        ("a = 1\na = 2\n", ".toml", "FILE, line 2, column 6", "not TOML"),
        ("- a", ".yaml", "FILE", "mapping at the top"),
        ("version: 1\n---\nversion: 1", ".yaml", "FILE, line 2, column 1", "not YAML"),
    ],
)
def test_broken_files_are_told_with_their_place(
    problems: Problems, text: str, suffix: str, where: str, what: str
) -> None:
    """An error of syntax names the file and, where the parser knows them, line and column."""
    assert what in problems(text, suffix=suffix)[where].message


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    """Bytes that aren't UTF-8 are told with their line."""
    path = tmp_path / "c.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(InvalidSettings, match=r"c\.yaml: is not UTF-8 text \(line 2\)"):
        load_settings(path, environ={})


def test_names_that_stand_twice_are_refused(problems: Problems) -> None:
    """YAML's last one wins in silence; here every second one is told with both lines."""
    found = problems("version: 1\nserver: {port: 1, port: 2}\nversion: 1")
    assert "'version'" in found["FILE, line 3"].message
    assert "line 1" in found["FILE, line 3"].hint
    assert "'port'" in found["FILE, line 2"].message


@pytest.mark.parametrize(
    ("text", "path", "shown"),
    [
        ("providers: {3: {kind: vllm}}", "providers", '"3"'),
        ("fallbacks: {true: [a]}", "fallbacks", '"true"'),
        ("null: 1", "the top", "quotes"),
    ],
)
def test_names_that_are_no_text_are_told(
    problems: Problems, text: str, path: str, shown: str
) -> None:
    """A number or a boolean where a name should be is told with the remedy: quotes."""
    assert shown in problems(text)[path].hint


def test_a_file_that_refers_to_itself_ends(problems: Problems) -> None:
    """An anchor inside its own value is refused, not followed for ever."""
    assert "nested" in next(iter(problems("plugins: &a [*a, *a]").values())).message


@pytest.mark.parametrize(
    "text",
    [
        f"plugins: {'[' * 40}{']' * 40}",
        f"plugins: {'[' * 50_000}",
        "plugins:\n" + " [\n" * 50_000,
        f"plugins:\n {'- ' * 50_000}x",
    ],
    ids=["some", "in_a_line", "in_lines", "in_items"],
)
def test_what_is_nested_too_deep_is_told(problems: Problems, text: str) -> None:
    """A bound of ours ends it, before the stack of the interpreter or of libyaml does."""
    assert "nested too deep" in next(iter(problems(text).values())).message


def test_a_long_line_is_read_as_many(accepted: Callable[[str], Any]) -> None:
    """JSON is YAML, and programs write it without line breaks."""
    keys = [{"name": f"key-{i}", "key": f"sk-{i}", "models": ["*"]} for i in range(300)]
    assert accepted(json.dumps({"keys": keys})) == accepted(yaml.safe_dump({"keys": keys}))


def test_words_like_no_and_on_are_words(accepted: Callable[[str], Any]) -> None:
    """YAML 1.1's booleans are names where names stand, and booleans where booleans stand."""
    settings = accepted(
        GPU + "models: [{name: no, target: gpu/a}, {name: 2026-11-01, target: gpu/b}]\n"
        "fallbacks: {no: {on: context_length, to: [2026-11-01]}}\ncache: {enabled: on}\n"
    )
    assert settings.fallbacks["no"][0].on == "context_length"
    assert settings.cache.enabled is True


def test_a_number_as_a_name_wants_quotes(problems: Problems) -> None:
    """A name that YAML reads as a number or a boolean is told with the remedy."""
    found = problems(GPU + "models: [{name: 7, target: gpu/a}, {name: true, target: gpu/a}]")
    assert found["models[0].name"] == Problem(
        "models[0].name", "must be text, not 7", "Put it in quotes"
    )
    assert found["models[1].name"].hint == "Put it in quotes"


@pytest.mark.parametrize(
    ("setting", "path", "said"),
    [
        ("server: {drain: fast}", "server.drain", "30s"),
        ("server: {drain: 0}", "server.drain", "longer than nothing"),
        ("server: {drain: true}", "server.drain", "30s"),
        ("server: {max_body: -3}", "server.max_body", "32MB"),
        ("server: {max_body: 3 parsecs}", "server.max_body", "32MB"),
        ("server: {workers: 0}", "server.workers", "at least 1"),
        ("server: {trusted_proxies: [x]}", "server.trusted_proxies[0]", "10.0.0.0/8"),
        ("server: 4000", "server", "a mapping"),
        ("server: {tls: {cert: a}}", "server.tls.key", "is missing"),
        (
            'providers: {p: {kind: vllm, proxy: "socks5://u:s@p:1"}}',
            "providers.p.proxy",
            "only proxies that speak HTTP are supported",
        ),
        ("routing: {strategy: fast}", "routing.strategy", "weighted, least_busy"),
        ("routing: {retry: {attempts: 99}}", "routing.retry.attempts", "at most 10"),
        ("observability: {metrics: {listen: '9464'}}", "observability.metrics.listen", "host:port"),
        ("observability: {logs: xml}", "observability.logs", "json, console, auto"),
        ("redis: http://x", "redis", "redis://"),
        ("database: mysql://x", "database", "postgresql://"),
        ("plugins: x", "plugins", "must be a list, not text"),
        ("timeouts: {read: 5}", "timeouts.read", "unknown setting"),
        ("_env_file: x", "_env_file", "unknown setting"),
        ("keys: [{name: a, key: 1}]", "keys[0].key", "must be text"),
        ("keys: [{name: a, key: ''}]", "keys[0].key", "printable"),
        ("keys: [{name: a}]", "keys[0].key", "is missing"),
        ("keys: [{name: a, key: k, scopes: [metrcs]}]", "keys[0].scopes[0]", "metrics"),
        ("keys: [{name: a, key: k, limits: {requests: 5/eon}}]", "keys[0].limits.requests", "60/m"),
        ("keys: [{name: a, key: k, budget: {usd: 0}}]", "keys[0].budget.usd", "more than 0"),
        ("providers: {a/b: {kind: vllm}}", "providers.a/b", "letters, digits"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_right(
    problems: Problems, setting: str, path: str, said: str
) -> None:
    """Each kind of wrong value has its path, and the accepted form in the message."""
    found = problems(setting)
    assert list(found) == [path]
    assert said in found[path].message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://h/v1", "must be a URL"),
        ("h:8000/v1", "must be a URL"),
        ("http://", "must be a URL"),
        ("http://h:99999/v1", "must be a URL"),
        ("http://u:p@h/v1", "user name or a password"),
        ("http://h/v1?x=1", "no ?query"),
        ("http://h/v1#x", "no ?query"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://2852039166/v1", "link-local"),
        ("http://0xa9.254.43518/v1", "link-local"),
        ("http://[fe80::1]/v1", "link-local"),
        ("http://[fd00:ec2::254]/v1", "link-local"),
        ("http://[::ffff:169.254.1.1]/v1", "link-local"),
        ("http://[64:ff9b::a9fe:a9fe]/v1", "link-local"),
        ("http://Metadata.Google.Internal./v1", "link-local"),
        ("http://0.0.0.0:8000/v1", "link-local"),
        ("http://h/v1/chat/completions", "which the proxy adds"),
        ("http://h/v1/messages/", "which the proxy adds"),
    ],
)
def test_base_urls_that_are_refused(problems: Problems, url: str, said: str) -> None:
    """A base URL is http or https to a host that may be called, and holds no secret."""
    found = problems(f'providers: {{gpu: {{kind: vllm, base_url: "{url}"}}}}')
    assert list(found) == ["providers.gpu.base_url"]
    assert said in found["providers.gpu.base_url"].message


@pytest.mark.parametrize("url", ["http://10.0.0.5:8000/v1/", "https://h", "http://[::1]:1/v1"])
def test_base_urls_that_are_taken(accepted: Callable[[str], Any], url: str) -> None:
    """Private addresses are the operator's to choose; a last slash makes no difference."""
    settings = accepted(f'providers: {{gpu: {{kind: vllm, base_url: "{url}"}}}}')
    assert settings.providers["gpu"].base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("provider", "path", "said"),
    [
        ("{kind: openai_compatible}", "base_url", "is missing"),
        ("{kind: openai}", "api_key", "is missing"),
        ("{kind: vllm, api_key: a, api_keys: [b]}", "api_keys", "excludes api_key"),
        ("{kind: vllm, dialects: [openai.chatt]}", "dialects[0]", "no dialect"),
        ("{kind: watson}", "kind", "no kind 'watson'"),
        ("{kind: openai, api_key: a, region: eu-central-1}", "region", "no use for it"),
        ("{kind: bedrock, region: eu-central-1, project: a}", "project", "no use for it"),
        ("{kind: vllm, credentials_file: /a}", "credentials_file", "no use for it"),
    ],
)
def test_a_provider_s_settings_must_fit_its_kind(
    problems: Problems, provider: str, path: str, said: str
) -> None:
    """What a kind needs is missed, and what excludes each other is told."""
    found = problems(f"providers: {{p: {provider}}}")
    assert list(found) == [f"providers.p.{path}"]
    assert said in found[f"providers.p.{path}"].message


def test_each_kind_takes_what_is_its_own(accepted: Callable[[str], Any]) -> None:
    """What a kind's URLs, needs or signer use is no slip of the pen."""
    accepted(
        "providers:\n"
        "  aws: {kind: bedrock, region: eu-central-1, profile: p, instance_metadata: true}\n"
        "  google: {kind: vertex, project: p, location: global, credentials_file: /a}\n"
        "  azure: {kind: azure, base_url: 'https://a.example', api_key: k, api_version: '2024'}"
    )


def test_a_price_that_nobody_asks_is_told_where_it_stands(problems: Problems) -> None:
    """A billion dollars for a million tokens is a slip of the pen."""
    found = problems(
        "providers: {gpu: {kind: vllm}}\n"
        "models: [{name: a, target: gpu/x, price: {input: 1e9, output: 2}}]"
    )
    assert list(found) == ["models[0].price.input"]
    assert "at most 1000000" in found["models[0].price.input"].message


@pytest.mark.parametrize(
    ("models", "path", "said"),
    [
        ("[{name: a, target: gpu}]", "models[0].target", "provider/model"),
        ("[{name: a, target: gpt/x}]", "models[0].target", "no provider 'gpt'"),
        ("[{name: a, target: gpu/x*}]", "models[0].target", "the name has none"),
        ("[{name: a*b*, target: gpu/x}]", "models[0].name", "one * at most"),
        ("[{name: a*, target: 'gpu/*x*'}]", "models[0].target", "one * at most"),
        ("[{name: a, target: gpu/x}, {name: a, target: gpu/x}]", "models[1]", "models[0]"),
    ],
)
def test_models_must_lead_somewhere(problems: Problems, models: str, path: str, said: str) -> None:
    """A target names a provider that is there, and has a star only if its name has one."""
    found = problems(GPU + f"models: {models}")
    assert list(found) == [path]
    assert said in found[path].message


@pytest.mark.parametrize(
    ("fallbacks", "path", "said"),
    [
        ("{a: [bb]}", "fallbacks.a", "no model 'bb'"),
        ("{x: [b]}", "fallbacks.x", "no model 'x'"),
        ("{a: ['*']}", "fallbacks.a", "no model '*'"),
        ("{a: [b], b: [c], c: [a]}", "fallbacks.a", "a → b → c → a"),
        ("{a: {on: error, to: [a]}}", "fallbacks.a", "a → a"),
        ("{a: {on: errr, to: [b]}}", "fallbacks.a.on", "error, context_length"),
        ("{a: {on: error}}", "fallbacks.a.to", "is missing"),
        ("{a: []}", "fallbacks.a", "must not be empty"),
        ("{a: [{to: [b]}, {on: error, to: [c]}]}", "fallbacks.a", "twice"),
    ],
)
def test_fallbacks_must_lead_on(problems: Problems, fallbacks: str, path: str, said: str) -> None:
    """Fallbacks name models that are there, each cause once, and never lead back."""
    found = problems(ABC + f"fallbacks: {fallbacks}")
    assert list(found) == [path]
    assert said in found[path].message


def test_a_fallback_may_name_what_a_pattern_serves(accepted: Callable[[str], Any]) -> None:
    """A fallback's target is a model that can be asked for, by a pattern too."""
    text = GPU + "models: [{name: a, target: gpu/a}, {name: 'c-*', target: 'gpu/*'}]\n"
    settings = accepted(text + "fallbacks: {a: [c-sonnet]}")
    assert settings.fallbacks["a"][0].to == ("c-sonnet",)


def test_keys_differ_and_name_models(problems: Problems) -> None:
    """Two keys never share a name or a secret, and a key's models are ones that are there."""
    found = problems(
        ABC + "keys: [{name: x, key: k1, models: [a, aa]}, {name: x, key: k2, models: ['z-*']},"
        " {name: y, key: k2, models: ['*', 'b*']}]"
    )
    assert set(found) == {"keys[0].models[1]", "keys[1].name", "keys[1].models[0]", "keys[2].key"}
    assert "k2" not in found["keys[2].key"].message


def test_a_row_with_an_error_keeps_the_others_numbers(problems: Problems) -> None:
    """Rows after one that can't be read are told with their own places in the file."""
    found = problems(GPU + "models: [1, {name: a, target: gpu/a}, {name: b, target: nix/b}]")
    assert set(found) == {"models[0]", "models[2].target"}


@pytest.mark.parametrize(
    "text",
    [
        ABC + "keys: [{name: x, key: k, limits: {requests: 1/second}}]",
        ABC + "keys: [{name: x, key: k, budget: {usd: 1}}]",
        GPU + "models: [{name: a, target: gpu/a, limits: {concurrent: 1}}]",
    ],
)
def test_several_processes_with_limits_are_refused(problems: Problems, text: str) -> None:
    """Each process would enforce its own limits: the sentence says what to do instead."""
    found = problems(text + "\nserver: {workers: 2}")
    assert list(found) == ["server.workers"]
    assert "Set server.workers to 1" in found["server.workers"].hint


def test_several_processes_without_limits_are_fine(accepted: Callable[[str], Any]) -> None:
    """Without limits and budgets there is nothing that processes would have to share."""
    assert accepted(ABC + "server: {workers: 2}").server.workers == 2


def test_several_processes_with_redis_share_their_limits(accepted: Callable[[str], Any]) -> None:
    """With a store for the limits there is no reason to refuse."""
    text = "redis: redis://h\nkeys: [{name: x, key: k, limits: {requests: 1/second}}]"
    assert accepted(ABC + text + "\nserver: {workers: 2}").has_shared_limits


def test_rules_that_lead_nowhere_are_told_with_their_place(problems: Problems) -> None:
    """A model that isn't there, no condition, two stars, a header that is none: each by its row."""
    found = problems(
        ABC
        + "routing: {rules: [{to: nix, when: {tag: t}}, {to: a, when: {}}, "
        + "{to: a, when: {key: 'a*b*'}}, {to: a, when: {header: {'x y': z}}}]}"
    )
    assert found["routing.rules[0].to"].message == "there is no model 'nix'"
    assert "no condition" in found["routing.rules[1]"].message
    assert "more than one *" in found["routing.rules[2]"].message
    assert "no name of a header" in found["routing.rules[3]"].message


def test_faults_on_purpose_are_at_most_all_calls(problems: Problems) -> None:
    """Shares of one key's chaos are 1 together, no more."""
    found = problems(ABC + "keys: [{name: k, key: s, chaos: {throttled: 0.6, cut_stream: 0.6}}]")
    assert "1.2 together: give 1 at most" in found["keys[0].chaos"].message
