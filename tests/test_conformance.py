"""The matrix of clients, upstreams and features: official SDKs ask, types of others judge.

What is expected stands in conformance/expected.py; docs/providers.md shows it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from proxy_core import DIALECTS, ProviderRow, create_provider
from proxy_core.dialects import _ollama
from proxy_core.providers import BUILT_IN, _rows
from proxy_core.testing import FakeHttp

FOLDER = Path(__file__).parent / "conformance"


def _helpers() -> None:
    """Make the folder a package: tests are not on the path."""
    spec = importlib.util.spec_from_file_location(
        "conformance", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["conformance"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["conformance"])


_helpers()
checks, expected, page, said, stages, upstreams = (
    importlib.import_module(f"conformance.{name}")
    for name in ("checks", "expected", "page", "said", "stage", "upstreams")
)
CELLS = list(expected.cells())
HOSTS = {
    "ai.google.dev",
    "api-docs.deepseek.com",
    "docs.aws.amazon.com",
    "platform.claude.com",
    "platform.openai.com",
}


@pytest.fixture(scope="module")
def stage() -> Iterator[Any]:
    """The gateway, the upstreams and the SDKs."""
    with stages.opened() as opened:
        yield opened


@pytest.mark.parametrize("cell", CELLS, ids=["-".join(cell) for cell in CELLS])
def test_a_cell_is_what_is_expected(stage: Any, cell: Any) -> None:
    """Each feature works between each client and each upstream, or is refused by its name."""
    assert checks.played(stage, cell) == page.wanted(cell)


def test_the_page_shows_the_matrix() -> None:
    """The page is that of the tests; ``python tests/conformance/matrix.py --write`` writes it."""
    results = {cell: page.wanted(cell) for cell in CELLS}
    assert page.shown(page.PAGE.read_text()) == page.rendered(results)


def test_each_reason_is_a_page_of_the_provider() -> None:
    """What can't be has the address of a provider's own page, and so has each remark."""
    for note in {*expected.CANT.values(), *expected.NOTES.values()}:
        address = urlsplit(note.page)
        assert (address.scheme, address.netloc in HOSTS) == ("https", True), note


NONSENSE: dict[str, dict[str, Any]] = {
    "chat": {"model": "m", "messages": [{"role": "user", "content": [{"type": "txt"}]}]},
    "responses": {"model": "m", "input": [{"role": "user", "content": [{"type": "input_txt"}]}]},
    "messages": {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "txt"}]}],
    },
    "gemini": {"contents": [{"role": "user", "parts": [{"txt": "Hi"}]}]},
    "bedrock": {"messages": [{"role": "user", "content": [{"txt": "Hi"}]}]},
}


@pytest.mark.parametrize("column", NONSENSE)
def test_the_judges_know_a_wrong_request(column: str) -> None:
    """A part of a kind that the provider doesn't have, deep in a request, is seen by its judge."""
    with pytest.raises((AssertionError, ValueError)):
        upstreams.UPSTREAMS[column].check(NONSENSE[column])


ODD = (
    '{ "model" : %s,\t"new_in_2031":{"a":1.50,"b":1e0,"\\u00e9":"\\/"},\n%s, "seed":1 , "seed": 2}'
)
"""Spaces, numbers, escapes and a doubled field, as somebody else's encoder writes them."""
TURN = '"messages":[{"role":"user","content":"Gr\\u00f6\\u00dfe?"}]'
RAW = {
    "chat": ("/v1/chat/completions", TURN),
    "responses": ("/v1/responses", '"input":"Gr\\u00f6\\u00dfe?"'),
    "messages": ("/v1/messages", f'{TURN}, "max_tokens" : 9'),
    "gemini": (
        "/v1beta/models/to-gemini:generateContent",
        '"contents":[{"role":"user","parts":[{"text":"Gr\\u00f6\\u00dfe?"}]}]',
    ),
}


@pytest.mark.parametrize("row", expected.ROWS)
def test_bytes_are_the_clients_but_for_the_model(stage: Any, row: str) -> None:
    """Between two of the same dialect nothing but the model's name changes, however odd it is."""
    path, content = RAW[row]
    stage.play(row, said.Said(text="Hello"), stream=False)
    body = ODD % (f'"to-{row}"', content)
    headers = {"x-api-key": stages.KEY, "content-type": "application/json"}
    answer = httpx2.post(stage.url + path, content=body.encode(), headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    model = f"models/{stages.MODELS[row]}" if row == "gemini" else stages.MODELS[row]
    assert stage.arrived.body == (ODD % (f'"{model}"', content)).encode()


def test_usage_is_asked_for_in_a_stream_that_did_not() -> None:
    """Of a stream without ``stream_options`` these are added at the end, and all else is kept."""
    body = ODD % ('"to-chat"', TURN + ',"stream":true')
    call = DIALECTS["openai.chat"].read(body.encode())
    sent = DIALECTS["openai.chat"].request(call, "gpt-5.2", ask_usage=True).decode()
    kept = ODD % ('"gpt-5.2"', TURN + ',"stream":true')
    assert sent.startswith(kept[:-1])
    assert json.loads("{" + sent[len(kept) - 1 :].lstrip(",")) == {
        "stream_options": {"include_usage": True}
    }


ASKS: dict[str, dict[str, Any]] = {
    "openai.chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "openai.responses": {"input": "Hi"},
    "anthropic.messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "gemini.generate": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}


@pytest.mark.parametrize("client", ASKS)
def test_a_provider_that_speaks_openais_chat_is_one_line(client: str) -> None:
    """With a kind and an address in a row each client is served, with what its key is sent by."""
    registry = BUILT_IN.plus([ProviderRow("mine", "https://api.example.com/v1")])
    answer = upstreams.UPSTREAMS["chat"].whole(said.Said(text="Hello"))
    http = FakeHttp(lambda _: (200, [(b"content-type", b"application/json")], [answer]))
    provider = create_provider("mine", api_key="sk-mine", http=http, registry=registry)
    body = json.dumps({"model": "any", **ASKS[client]}).encode()
    call = DIALECTS[client].read(body, model="any", stream=False)

    async def asked() -> bytes:
        async with provider.send(call, model="theirs") as reply:
            return b"".join([part async for part in reply.body])

    assert b"Hello" in asyncio.run(asked())
    (request,) = http.requests
    assert request.url == "https://api.example.com/v1/chat/completions"
    assert dict(request.headers)[b"authorization"] == b"Bearer sk-mine"
    assert json.loads(request.body)["model"] == "theirs"


PLAIN = {"kind", "base_url", "dialects", "key_variable", "needs_key", "asks_usage", "customs"}


def test_providers_that_speak_openais_chat_are_rows_of_a_line() -> None:
    """Nearly all rows of those who speak OpenAI's API are plain values, and nothing else."""
    rows = [row for row in BUILT_IN.rows.values() if set(row.dialects) & {"openai.chat"}]
    tree = ast.parse(Path(_rows.__file__).read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ProviderRow"
    ]
    fields = {
        str(ast.literal_eval(call.args[0])): {one.arg for one in call.keywords} for call in calls
    }
    plain = {row.kind for row in rows if fields[row.kind] <= PLAIN}
    assert len(plain) >= 0.8 * len(rows)
    assert plain >= {"groq", "together", "deepseek", "openrouter", "vllm", "openai_compatible"}


def test_a_foreign_provider_is_some_hundred_and_fifty_lines() -> None:
    """Ollama's own chat, which nobody else speaks, takes no more code than that."""
    source = Path(_ollama.__file__).read_text()
    ignored: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            ignored.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(source.splitlines(), 1)
    code = [line for at, line in lines if at not in ignored and line.strip()]
    assert len([line for line in code if not line.lstrip().startswith("#")]) <= 155
