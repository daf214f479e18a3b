"""OpenTelemetryConfig: values, the deprecated name, the standard variables."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from proxy_logging import OpenTelemetryConfig


def test_is_a_frozen_value_with_defaults() -> None:
    """Without a word spans go to a collector on this host."""
    config = OpenTelemetryConfig()
    assert (config.service_name, config.sample_ratio, config.enabled) == ("llm-proxy", 1.0, True)
    assert config.traces_url == "http://localhost:4318/v1/traces"
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.service_name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://otlp.example.com/custom/path", "https://otlp.example.com/custom/path"),
    ],
)
def test_an_endpoint_without_a_path_gets_the_standard_one(endpoint: str, url: str) -> None:
    """A path that is given is used as it is."""
    assert OpenTelemetryConfig(otlp_endpoint=endpoint).traces_url == url


@pytest.mark.parametrize(
    ("jaeger", "otlp"),
    [
        ("http://localhost:14268/api/traces", "http://localhost:4318/v1/traces"),
        ("https://jaeger.example.com/api/traces", "https://jaeger.example.com:4318/v1/traces"),
        ("http://[::1]:14268/api/traces", "http://[::1]:4318/v1/traces"),
        ("jaeger:6831", "http://jaeger:4318/v1/traces"),
    ],
)
def test_jaeger_becomes_otlp_on_the_same_host(jaeger: str, otlp: str) -> None:
    """The old name works, warns, and names the new one; the warning points at the caller."""
    with pytest.warns(DeprecationWarning, match="use otlp_endpoint") as caught:
        config = OpenTelemetryConfig(service_name="llm-proxy", jaeger_endpoint=jaeger)
    assert config.otlp_endpoint == otlp
    assert caught[0].filename == __file__


def test_otlp_comes_before_jaeger() -> None:
    """With both names given the new one counts."""
    with pytest.warns(DeprecationWarning, match="jaeger_endpoint"):
        config = OpenTelemetryConfig(
            otlp_endpoint="http://new/v1/traces", jaeger_endpoint="http://old:14268"
        )
    assert config.otlp_endpoint == "http://new/v1/traces"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sample_ratio": 1.5}, "sample_ratio is 1.5; it must be from 0 to 1"),
        ({"timeout": 0}, "timeout is 0; it must be more than 0 seconds"),
        (
            {"otlp_endpoint": "localhost:4317"},
            "the endpoint is 'localhost:4317'; it must be an http",
        ),
        ({"otlp_endpoint": "grpc://x:4317"}, "the endpoint is 'grpc://x:4317'"),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, Any], message: str) -> None:
    """The error says field, value and remedy."""
    with pytest.raises(ValueError, match=re.escape(message)):
        OpenTelemetryConfig(**fields)


def test_headers_are_not_shown() -> None:
    """A collector's credentials are not in the repr."""
    assert "CANARY" not in repr(OpenTelemetryConfig(headers={"authorization": "CANARY"}))


class TestFromEnv:
    def test_nothing_set_is_disabled(self) -> None:
        """Without a word in the environment nothing is sent anywhere."""
        config = OpenTelemetryConfig.from_env({})
        assert (config.enabled, config.otlp_endpoint) == (False, None)

    def test_reads_the_process_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an argument it is os.environ that counts."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
        assert OpenTelemetryConfig.from_env().otlp_endpoint == "http://c:4318/v1/traces"

    @pytest.mark.parametrize(
        ("env", "url"),
        [
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c/otlp/"}, "http://c/otlp/v1/traces"),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x"),
            (
                {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a",
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/x",
                },
                "http://b/x",
            ),
            ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        ],
    )
    def test_endpoints(self, env: dict[str, str], url: str) -> None:
        """The general endpoint is a base, the one for traces is used as it is."""
        config = OpenTelemetryConfig.from_env(env)
        assert (config.enabled, config.traces_url) == (True, url)

    @pytest.mark.parametrize(
        "switch", [{"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}]
    )
    def test_can_be_switched_off(self, switch: dict[str, str]) -> None:
        """The two standard switches disable it, endpoint or not."""
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", **switch}
        assert OpenTelemetryConfig.from_env(env).enabled is False

    def test_names_headers_and_resource(self) -> None:
        """The service's name, percent-encoded headers and attributes are read."""
        config = OpenTelemetryConfig.from_env(
            {
                "OTEL_SERVICE_NAME": "gateway",
                "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x-scope = team",
                "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=prod",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
            }
        )
        assert config.service_name == "gateway"
        assert config.headers == {"api-key": "a b", "x-scope": "team"}
        assert config.resource_attributes is not None
        assert config.resource_attributes["deployment.environment.name"] == "prod"
        assert config.timeout == 3.0

    @pytest.mark.parametrize(
        ("sampler", "arg", "ratio", "parent_based"),
        [
            (None, None, 1.0, True),
            ("always_on", None, 1.0, False),
            ("always_off", None, 0.0, False),
            ("traceidratio", "0.25", 0.25, False),
            ("parentbased_always_off", None, 0.0, True),
            ("parentbased_traceidratio", "0.1", 0.1, True),
            ("parentbased_traceidratio", None, 1.0, True),
        ],
    )
    def test_samplers(
        self, sampler: str | None, arg: str | None, ratio: float, parent_based: bool
    ) -> None:
        """Each standard sampler is a ratio and whether a caller's decision counts."""
        given = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": arg}
        config = OpenTelemetryConfig.from_env({k: v for k, v in given.items() if v is not None})
        assert (config.sample_ratio, config.parent_based) == (ratio, parent_based)

    @pytest.mark.parametrize(
        ("env", "name"),
        [
            ({"OTEL_TRACES_SAMPLER": "dice"}, "OTEL_TRACES_SAMPLER is 'dice'"),
            (
                {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
                "OTEL_TRACES_SAMPLER_ARG is '2'",
            ),
            ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT is 'soon'"),
        ],
    )
    def test_what_cannot_be_understood_is_said_and_ignored(
        self, env: dict[str, str], name: str
    ) -> None:
        """A typing error in the environment doesn't keep the process from starting."""
        with pytest.warns(RuntimeWarning, match=name):
            config = OpenTelemetryConfig.from_env(env)
        assert (config.sample_ratio, config.timeout) == (1.0, 10.0)
