"""Plugins from outside: what they bring is served, and what is wrong with one is told."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anthropic
import openai
import pytest
from typer.testing import CliRunner

from proxy_api import GatewayApp, InvalidSettings, Settings, create_app, load_settings
from proxy_api._cli import app as command
from proxy_api._plugins import load_plugins
from proxy_api.plugins import Hooks
from proxy_api.testing import serving
from proxy_core import CHAT, ProviderRow, create_provider, provider_kinds
from proxy_core.errors import ConfigurationError, UpstreamDisconnected
from proxy_core.providers import BUILT_IN, ForeignDialect, Paths
from proxy_core.testing import FakeHttp
from proxy_core.translation import Frame

EXAMPLE = Path(__file__).parents[1] / "docs/examples/house_gateway"
SECRET = "the-secret-of-the-house"

Told = dict[str, Any]


class House(BaseHTTPRequestHandler):
    """The house's API, scripted: it checks the signature and says the last words again."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = json.loads(body)
        self.server.asked.append((self.path, asked))  # type: ignore[attr-defined]
        mark = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if self.headers["x-house-signature"] != mark:
            self._answer(403, "application/json", b'{"error": "who are you?"}')
            return
        words, tokens = asked["talk"][-1]["says"], {"in": 7, "out": 2}
        if asked["stream"]:
            pieces = [{"says": word} for word in words.split(" ")]
            lines = [*pieces, {"why": "done", "tokens": tokens}]
            told = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            self._answer(200, "application/x-ndjson", told)
        else:
            told = json.dumps({"says": words, "why": "limit", "tokens": tokens}).encode()
            self._answer(200, "application/json", told)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def house() -> Iterator[tuple[str, list[tuple[str, Told]]]]:
    """The house's address, and what it was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), House)
    server.asked = []  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, as packages are installed into; what it held is forgotten again."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def example(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example plugin, installed by hand: its package, and the entry point of its pyproject."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "house_gateway", site / "house_gateway")
    info = site / f"house_gateway-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    entries = project["entry-points"]["llm_proxy"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in entries)
    (info / "entry_points.txt").write_text(f"[llm_proxy]\n{lines}")
    monkeypatch.setenv("HOUSE_SECRET", SECRET)
    return site


def settings(url: str = "http://127.0.0.1:9", **sections: Any) -> Settings:
    given: dict[str, Any] = {
        "plugins": ["house"],
        "providers": {"house": {"kind": "house", "base_url": url}},
        "models": [{"name": "chat", "target": "house/parrot"}],
    }
    return Settings(**{**given, **sections})


@contextmanager
def asking(what: Settings | GatewayApp) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK, in front of a gateway."""
    app = create_app(settings=what) if isinstance(what, Settings) else what
    with (
        serving(app) as at,
        openai.OpenAI(base_url=f"{at}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_a_foreign_provider_answers_openais_sdk(
    example: Path, house: tuple[str, list[tuple[str, Told]]]
) -> None:
    """The example's kind is asked in its own words, signed; whole answers and streams come back."""
    url, asked = house
    with asking(settings(url)) as client:
        ask: Any = client.chat.completions.create
        said = {"model": "chat", "messages": [{"role": "user", "content": "come in"}]}
        whole = ask(**said, max_tokens=5, seed=1)
        chunks = list(ask(**said, stream=True, stream_options={"include_usage": True}))
    assert whole.choices[0].message.content == "come in"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.total_tokens == 9
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "comein"
    assert chunks[-1].usage.completion_tokens == 2
    talk = [{"who": "user", "says": "come in"}]
    assert asked[0] == ("/say", {"model": "parrot", "talk": talk, "stream": False, "limit": 5})
    assert asked[1][1]["stream"] is True


def test_anthropics_sdk_reaches_it_too(
    example: Path, house: tuple[str, list[tuple[str, Told]]]
) -> None:
    """A codec from outside serves every dialect of the clients."""
    app = create_app(settings=settings(house[0]))
    with serving(app) as at, anthropic.Anthropic(base_url=at, api_key="none") as client:
        message = client.messages.create(
            model="chat", max_tokens=5, messages=[{"role": "user", "content": "hello"}]
        )
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == "hello"  # type: ignore[union-attr]
    assert (message.stop_reason, message.usage.input_tokens) == ("max_tokens", 7)


def test_what_it_cant_carry_is_refused(
    example: Path, house: tuple[str, list[tuple[str, Told]]]
) -> None:
    """The losses that the plugin's codec tells are the client's 400, and nobody is asked."""
    url, asked = house
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with (
        asking(settings(url)) as client,
        pytest.raises(openai.BadRequestError, match="words alone") as refused,
    ):
        ask: Any = client.chat.completions.create
        ask(model="chat", messages=[{"role": "user", "content": [picture]}])
    assert refused.value.param == "messages[0].content[0]"
    assert asked == []


def test_check_and_explain_show_it(example: Path, tmp_path: Path) -> None:
    """`llm-proxy check` says what a plugin brings, `explain` names it."""
    file = tmp_path / "config.yaml"
    file.write_text(settings().model_dump_json(include={"plugins", "providers", "models"}))
    run = CliRunner().invoke
    done = run(command, ["check", str(file)])
    assert done.exit_code == 0, done.output
    told = "plugin house (kind house, dialect house.say, signer house, observers)"
    assert done.output.splitlines()[-1] == told
    done = run(command, ["explain", "chat", "--config", str(file)])
    assert "plugins: house" in done.output.splitlines()
    assert "house/parrot" in done.output


MODULE = """
from proxy_api.plugins import hookimpl
from proxy_core import ProviderRow, Rule
from proxy_logging import RequestFinished

heard = []

@hookimpl
def provider_rows():
    return [ProviderRow("intern", "http://127.0.0.1:9/v1", needs_key=False)]

@hookimpl
def rules(settings):
    return [Rule(to=settings.models[0].name, header={"x-tier": "batch"})]

@hookimpl
def observers(settings):
    return [heard.append]
"""


def test_a_module_is_a_plugin_too(site: Path) -> None:
    """A module that is named is loaded; its rules and observers are in force."""
    (site / "intern_plugin.py").write_text(MODULE)
    models = [{"name": name, "target": f"own/{name}"} for name in ("cheap", "dear")]
    providers = {"own": {"kind": "intern"}}
    app = create_app(
        settings=settings(plugins=["intern_plugin"], providers=providers, models=models)
    )
    (rule,) = app.gateway.snapshot.rules.all
    assert (rule.to, dict(rule.header)) == ("cheap", {"x-tier": "batch"})
    with asking(app) as client, pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="dear", messages=[{"role": "user", "content": "a"}])
    heard = sys.modules["intern_plugin"].heard
    finished = [event for event in heard if type(event).__name__ == "RequestFinished"]
    assert [event.deployment for event in finished] == ["own/dear"]


def test_nothing_is_loaded_that_is_not_named(example: Path) -> None:
    """An installed plugin that no configuration names is not even imported; its kind is unknown."""
    with pytest.raises(InvalidSettings, match="there is no kind 'house'"):
        create_app(settings=settings(plugins=[]))
    assert "house_gateway" not in sys.modules


def broken(body: str) -> str:
    return f"from proxy_api.plugins import hookimpl\nfrom proxy_core import ProviderRow\n{body}"


ROWS = "@hookimpl\ndef provider_rows():\n    return "
WRONG: dict[str, tuple[str, str]] = {
    "raises at load": ("1 / 0", "'wrong' can't be loaded: ZeroDivisionError"),
    "lacks a library": ("import no_such_library", "'wrong' can't be loaded: ModuleNotFoundError"),
    "raises in a hook": (broken(ROWS + "1 / 0"), "'wrong' failed in provider_rows: ZeroDivision"),
    "has a kind of ours": (
        broken(ROWS + '[ProviderRow("vllm", None)]'),
        "'wrong' doesn't fit: There is a provider kind 'vllm' already",
    ),
    "speaks what nobody knows": (
        broken(ROWS + '[ProviderRow("mine", None, ("klingon",))]'),
        "'wrong' doesn't fit: The kind 'mine' speaks 'klingon', which nobody knows",
    ),
    "has a signer that isn't there": (
        broken(ROWS + '[ProviderRow("mine", None, signer="me")]'),
        "'wrong' doesn't fit: The kind 'mine' has the signer 'me'",
    ),
    "gives something else": (
        broken(ROWS + "[42]"),
        "'wrong' gives a int in provider_rows: it must be a ProviderRow",
    ),
    "has a hook that nobody knows": (
        broken("@hookimpl\ndef provider_row(): ..."),
        "'wrong' can't be used: PluginValidationError: unknown hook 'provider_row'",
    ),
    "has no hook": ("x = 1", "'wrong' has no hook of a plugin. Mark its functions with hookimpl"),
}


@pytest.mark.parametrize(("body", "told"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_with_one_is_told(site: Path, tmp_path: Path, body: str, told: str) -> None:
    """A plugin that fails is a problem of the configuration, at its place and by its name."""
    (site / "wrong.py").write_text(body)
    file = tmp_path / "config.yaml"
    file.write_text("plugins: [wrong]\nproviders: {a: {kind: mine}}\nserver: {port: -1}\n")
    with pytest.raises(InvalidSettings) as refused:
        load_settings(file, environ={})
    problems = {problem.path: str(problem) for problem in refused.value.problems}
    assert told in problems.pop("plugins[0]")
    assert not any(
        path.startswith("providers") for path in problems
    ), "its kind may be the plugin's"


NOBODY = "there is no plugin {!r}, and no module of that name"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["huose"], f"plugins[0]: {NOBODY.format('huose')}. Did you mean 'house'?"),
        (["house", "zzz.b"], f"plugins[1]: {NOBODY.format('zzz.b')}. Installed: house"),
        (["house", "house"], "plugins[1]: is there twice. Keep one of the two"),
    ],
)
def test_a_name_that_nobody_has(example: Path, names: list[str], told: str) -> None:
    """The nearest installed plugin is offered, or all of them."""
    with pytest.raises(InvalidSettings) as refused:
        create_app(settings=settings(plugins=names))
    assert told in [str(problem) for problem in refused.value.problems]


def test_an_observer_that_cant_be_made_is_told(site: Path) -> None:
    """A plugin whose observers can't be made ends the start, with its name."""
    body = "@hookimpl\ndef observers(): return [open('/nowhere')]"
    (site / "wrong.py").write_text(broken(body))
    with pytest.raises(Exception, match="the plugin 'wrong' failed in observers: FileNotFound"):
        create_app(settings=settings(plugins=["wrong"], providers={}, models=()))


def test_a_rule_leads_to_a_model_that_is_there(site: Path) -> None:
    """A plugin's rule to a model that isn't configured is refused, as one of the file is."""
    (site / "wrong.py").write_text(
        "from proxy_api.plugins import hookimpl\nfrom proxy_core import Rule\n"
        "@hookimpl\ndef rules(): return [Rule(to='nowhere', tag='x')]"
    )
    providers = {"gpu": {"kind": "vllm"}}
    models = [{"name": "chat", "target": "gpu/a"}]
    with pytest.raises(Exception, match="a rule leads to the model 'nowhere'"):
        create_app(settings=settings(plugins=["wrong"], providers=providers, models=models))


def test_without_plugins_a_request_asks_nobody_more() -> None:
    """No name: the registry is the built-in one itself, and there is no rule."""
    providers = {"gpu": {"kind": "vllm"}}
    models = [{"name": "chat", "target": "gpu/a"}]
    app = create_app(settings=settings(plugins=[], providers=providers, models=models))
    assert app.gateway.runtime.registry is BUILT_IN
    assert not app.gateway.snapshot.rules


def test_the_page_shows_what_works(example: Path, site: Path, tmp_path: Path) -> None:
    """The row of docs/plugins.md is a plugin, and its configuration is in order."""
    page = (EXAMPLE.parents[1] / "plugins.md").read_text()
    blocks = dict(re.findall(r"^```(python|yaml)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    (site / "intern.py").write_text(blocks["python"])
    assert load_plugins(["intern"]).summaries == ("intern (kind intern)",)
    file = tmp_path / "config.yaml"
    file.write_text(blocks["yaml"])
    assert load_settings(file, environ={}).plugins == ("house",)
    for hook in ("provider_rows", "dialects", "signers", "rules", "observers"):
        assert f"| `{hook}(" in page
        assert hasattr(Hooks, hook)


class Semicolons:
    """A framing that nobody else has."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        *whole, self._rest = (self._rest + data).split(b";")
        return [Frame(piece) for piece in whole]

    def end(self) -> list[Frame]:
        return []


async def test_a_framing_of_ones_own(example: Path) -> None:
    """A dialect may bring along what cuts its streams; a body that ends early is no answer."""
    codec = importlib.import_module("house_gateway._codec").HouseCodec()
    dialect = ForeignDialect(codec, Paths("/say"), Semicolons, b"text/semicolons")
    registry = BUILT_IN.plus([ProviderRow("odd", None, ("house.say",))], dialects=[dialect])
    pieces = [b'{"says":"a"};', b'{"says"', b':"b"};{"why":"done"};']
    call = CHAT.read(b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')

    async def streamed(chunks: list[bytes]) -> bytes:
        http = FakeHttp(lambda _: (200, [(b"content-type", b"text/semicolons")], list(chunks)))
        url = "http://odd.example"
        odd = create_provider("odd", base_url=url, api_key="k", http=http, registry=registry)
        async with odd.send(call, model="m") as reply:
            return b"".join([chunk async for chunk in reply.body])

    told = await streamed(pieces)
    assert told.count(b'"content":"') >= 2
    assert told.endswith(b"data: [DONE]\n\n")
    with pytest.raises(UpstreamDisconnected, match="in the middle"):
        await streamed(pieces[:1])


WITHOUT_PLACE: list[tuple[dict[str, Any], str]] = [
    ({"path": Paths("say")}, "it must begin with a slash"),
    ({"framing": "smoke"}, "the framing 'smoke': use one of events"),
    ({"framing": Semicolons}, "say the media type"),
]


@pytest.mark.parametrize(("wrong", "told"), WITHOUT_PLACE)
def test_a_dialect_is_checked(example: Path, wrong: dict[str, Any], told: str) -> None:
    """A path, a framing or a media type that can't be used is an error that names the dialect."""
    codec = importlib.import_module("house_gateway._codec").HouseCodec()
    with pytest.raises(ConfigurationError, match=told) as refused:
        BUILT_IN.plus(dialects=[ForeignDialect(codec, **{"path": Paths("/say"), **wrong})])
    assert "'house.say'" in refused.value.message


def test_a_registry_is_never_changed() -> None:
    """What is added is in another registry: the built-in one knows what it knew."""
    before = provider_kinds()
    more = BUILT_IN.plus([ProviderRow("intern", "https://llm.example/v1", ("openai.chat",))])
    assert set(more.kinds) - set(before) == {"intern"}
    assert provider_kinds() == before
    with pytest.raises(TypeError):
        more.rows["vllm"] = more.row("intern")  # type: ignore[index]
