"""What passes without being translated, asked by the official SDK over a port.

Behind the proxy stands a server that reads forms with Python's own reader of mail.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email import policy
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, cast

import httpx2
import msgspec
import openai
import pytest

from proxy_api import _shared_state, create_app
from proxy_api._raw import upstream_path
from proxy_api.testing import serving, settings_for
from proxy_core.errors import InvalidRequest

ALICE, BOB, RAW = "sk-alice-0123456789", "sk-bob-0123456789", "sk-raw-0123456789"
POOR, NARROW = "sk-poor-0123456789", "sk-narrow-0123456789"
AGENTS = "sk-agents-0123456789"
SECRET = "sk-of-the-upstream-0123456789"
SOUND = bytes(range(256)) * 400
FILE = {"id": "file-abc", "object": "file", "bytes": 3, "created_at": 1, "filename": "a"}
BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": "file-abc",
    "output_file_id": "file-out",
    "error_file_id": None,
    "completion_window": "24h",
    "status": "completed",
    "created_at": 1,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "real",
    "status": "completed",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "previous_response_id": None,
}
SCORES = {"flagged": True, "categories": {}, "category_scores": {}}
USAGE = {"input_tokens": 14, "output_tokens": 4, "total_tokens": 18, "type": "tokens"}
TRANSCRIPT = (
    {"type": "transcript.text.delta", "delta": "Hel"},
    {"type": "transcript.text.done", "text": "Hello", "usage": USAGE},
)
CREATED = {"type": "response.created", "sequence_number": 0, "response": RESPONSE}
COMPLETED = {"type": "response.completed", "sequence_number": 1, "response": RESPONSE}


class Asked(NamedTuple):
    """What the upstream got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, bytes]:
        """The parts of a form, by their names."""
        head = b"Content-Type: %s\r\n\r\n" % self.headers["content-type"].encode()
        mail = BytesParser(policy=policy.HTTP).parsebytes(head + self.body)
        assert not mail.defects
        parts = list(mail.iter_parts())
        assert not any(part.defects for part in parts)
        return {
            str(part.get_param("name", header="content-disposition")): cast(
                "bytes", part.get_payload(decode=True)
            )
            for part in parts
        }


class Upstream(ThreadingHTTPServer):
    """Answers by the path; ``asked`` has what it got."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def answer(asked: Asked) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    path, _, query = asked.path.removeprefix("/v1").partition("?")
    if path == "/audio/speech":
        return (
            (200, "audio/mpeg", SOUND) if b"silence" not in asked.body else (200, "audio/wav", b"")
        )
    if path == "/audio/transcriptions":
        form = asked.form
        if form.get("stream") == b"true":
            events = TRANSCRIPT[: 1 if b"cut" in form["file"] else 2]
            told = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
            return 200, "text/event-stream", told.encode()
        if form.get("response_format") == b"srt":
            return 200, "text/plain; charset=utf-8", b"1\n00:00 --> 00:01\nHello\n"
        return 200, "application/json", json.dumps({"text": "Hello", "usage": USAGE}).encode()
    if path == "/responses" and b'"stream":true' in asked.body.replace(b" ", b""):
        told = "".join(f"data: {json.dumps(event)}\n\n" for event in (CREATED, COMPLETED))
        return 200, "text/event-stream", told.encode()
    if path.endswith("/content"):
        return 200, "application/json", b'{"id": "file-abc"}'
    if path == "/refused":
        return 400, "application/json", b'{"error": {"message": "bad key %s"}}' % SECRET.encode()
    if path == "/locked":
        return 401, "application/json", b'{"error": {"message": "no %s"}}' % SECRET.encode()
    deleted = {"deleted": True} if asked.method == "DELETE" else {}
    whole: dict[str, Any] = {
        "/moderations": {"id": "m", "model": "real", "results": [SCORES]},
        "/images/generations": {"created": 1, "data": [{"b64_json": "QUJD"}], "usage": USAGE},
        "/images/edits": {"created": 1, "data": [{"b64_json": "QUJD"}]},
        "/images/variations": {"created": 1, "data": [{"b64_json": "QUJD"}]},
        "/audio/translations": {"text": "Hello"},
        "/rerank": {"results": [{"index": 0, "relevance_score": 0.5}], "model": "real"},
    }
    kept = {"files": FILE, "batches": BATCH, "responses": RESPONSE}
    found: Any = whole.get(path) or kept.get(path.split("/")[1], {"path": path, "query": query})
    return 200, "application/json", json.dumps(found | deleted).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body)
        self.server.asked.append(asked)
        status, kind, told = answer(asked)
        head = f"HTTP/1.1 {status} OK\r\ncontent-type: {kind}\r\ncontent-length: {len(told)}\r\n"
        head += "set-cookie: a=b\r\nopenai-organization: ours\r\netag: 1\r\n\r\n"
        self.wfile.write(head.encode() + (b"" if self.command == "HEAD" else told))

    # The names are http.server's.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def running(name: str) -> Iterator[Upstream]:
    with Upstream(name) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def settings(up: Upstream, other: Upstream) -> Any:
    providers = {
        "up": {"kind": "openai", "base_url": up.url, "api_key": SECRET},
        "other": {"kind": "vllm", "base_url": other.url},
        "claude": {"kind": "anthropic", "base_url": other.url, "api_key": "sk-of-claude"},
    }
    models = [
        {"name": "m", "target": "up/real"},
        {"name": "both", "target": "up/real"},
        {"name": "both", "target": "other/real"},
        {"name": "elsewhere", "target": "other/real"},
        {"name": "up/*", "target": "up/*"},
        {"name": "claude", "target": "claude/real"},
    ]
    keys = [
        {"name": "alice", "key": ALICE},
        {"name": "bob", "key": BOB},
        {"name": "raw", "key": RAW, "scopes": ["passthrough"], "limits": {"requests": "20/hour"}},
        {
            "name": "poor",
            "key": POOR,
            "models": ["*"],
            "scopes": ["passthrough"],
            "budget": {"usd": 1},
        },
        {"name": "narrow", "key": NARROW, "models": ["m"]},
        {"name": "agents", "key": AGENTS, "models": ["*"], "scopes": ["passthrough"]},
    ]
    return settings_for("", providers=providers, models=models, keys=keys)


class House(NamedTuple):
    """A proxy before two upstreams."""

    url: str
    up: Upstream
    other: Upstream
    http: httpx2.Client
    base: openai.OpenAI

    def sdk(self, key: str = ALICE) -> openai.OpenAI:
        return self.base.with_options(api_key=key)

    def raw(self, method: str, path: str, key: str = RAW, **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
        return self.http.request(method, self.url + path, headers=headers, **more)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with ExitStack() as stack:
        up, other = stack.enter_context(running("up")), stack.enter_context(running("other"))
        url = stack.enter_context(serving(create_app(settings=settings(up, other))))
        http = stack.enter_context(httpx2.Client())
        base = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http)
        yield House(url, up, other, http, base)


def test_json_goes_to_the_model_and_back(house: House) -> None:
    """Moderations, images, reranking: the upstream gets its own name, the client its own."""
    sdk = house.sdk()
    moderation = sdk.moderations.create(model="m", input="x")
    assert (moderation.model, moderation.results[0].flagged) == ("m", True)
    assert json.loads(house.up.asked[-1].body) == {"model": "real", "input": "x"}
    image = sdk.images.generate(model="m", prompt="a cat", extra_body={"tomorrow": 10**30})
    assert image.data and image.data[0].b64_json == "QUJD"
    assert json.loads(house.up.asked[-1].body)["tomorrow"] == 10**30
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        body = {"model": "m", "query": "q", "documents": ["a", "b"]}
        told = house.raw("POST", path, ALICE, json=body)
        assert told.json()["results"][0]["relevance_score"] == 0.5
        assert told.headers["x-llm-proxy-deployment"] == "up/real"
    assert house.up.asked[-1].path == "/v1/rerank"


def test_sound_comes_as_it_is(house: House) -> None:
    """Speech is the upstream's bytes and type; an upstream that answers nothing has failed."""
    speech = house.sdk().audio.speech.create(model="m", voice="alloy", input="Hello")
    assert speech.content == SOUND
    assert speech.response.headers["content-type"] == "audio/mpeg"
    with pytest.raises(openai.InternalServerError, match="empty"):
        house.sdk().audio.speech.create(model="m", voice="alloy", input="silence")


def test_a_form_keeps_every_byte_but_the_models(house: House) -> None:
    """A reader of mail finds the upstream's model in the form, and the file as it was sent."""
    told = house.sdk().audio.transcriptions.create(model="m", file=("a.mp3", SOUND), prompt="ä\r\n")
    assert told.text == "Hello"
    asked = house.up.asked[-1]
    assert asked.form["model"] == b"real"
    assert asked.form["file"] == SOUND
    assert asked.form["prompt"] == "ä\r\n".encode()
    assert asked.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # some of the SDK's methods are old
def test_other_uploads(house: House) -> None:
    """Translations, edits and variations go the same way; subtitles come as text."""
    sdk = house.sdk()
    assert sdk.audio.translations.create(model="m", file=("a.mp3", b"x")).text == "Hello"
    edit = sdk.images.edit(model="m", image=[("a.png", b"x"), ("b.png", b"y")], prompt="p")
    varied = sdk.images.create_variation(model="m", image=("a.png", b"x"))
    assert edit.data and varied.data
    assert house.up.asked[-1].path == "/v1/images/variations"
    text: Any = sdk.audio.transcriptions.create(
        model="m", file=("a.mp3", b"x"), response_format="srt"
    )
    assert "--> 00:01" in text


def test_a_transcription_may_be_streamed(house: House) -> None:
    """Events pass as they come, and a stream that breaks off doesn't end as if it were whole."""
    sdk = house.sdk()
    events = list(sdk.audio.transcriptions.create(model="m", file=("a", b"x"), stream=True))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    with pytest.raises(openai.APIError, match="ended before its last event"):
        list(sdk.audio.transcriptions.create(model="m", file=("a", b"cut"), stream=True))


def test_what_is_no_form_is_refused(house: House) -> None:
    """A form without a model, with two, or that is JSON says what is wrong and in which field."""
    twice = [("model", (None, "m")), ("model", (None, "elsewhere")), ("file", ("a", b"x"))]
    path = "/v1/audio/transcriptions"
    told = house.raw("POST", path, ALICE, files=twice)
    assert (told.status_code, told.json()["error"]["param"]) == (400, "model")
    told = house.raw("POST", path, ALICE, files={"file": ("a", b"x")})
    assert "missing" in told.json()["error"]["message"]
    assert house.raw("POST", path, ALICE, json={"model": "m"}).status_code == 415
    told = house.raw("POST", path, NARROW, files={"model": (None, "both"), "file": b"x"})
    assert told.status_code == 403


def test_a_file_belongs_to_its_key(house: House) -> None:
    """Its own key reads, uses and deletes a file; another key, or a bare id, finds nothing."""
    alice, bob = house.sdk(), house.sdk(BOB)
    file = alice.files.create(file=("a.jsonl", b"{}\r\n"), purpose="batch")
    assert house.up.asked[-1].form == {"purpose": b"batch", "file": b"{}\r\n"}
    assert file.id.startswith("file-abc~up~")
    assert alice.files.retrieve(file.id).id == file.id
    assert house.up.asked[-1].path == "/v1/files/file-abc"
    assert alice.files.content(file.id).read() == b'{"id": "file-abc"}'
    before = len(house.up.asked)
    bare, forged = "file-abc", file.id[:-1] + ("A" if file.id[-1] != "A" else "B")
    moved = file.id.replace("~up~", "~other~")
    for sdk, given in ((bob, file.id), (alice, bare), (alice, forged), (alice, moved)):
        for ask in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
            with pytest.raises(openai.NotFoundError) as told:
                ask(given)
            assert told.value.code == "not_found"
    assert len(house.up.asked) == before
    assert alice.files.delete(file.id).deleted
    assert house.up.asked[-1].method == "DELETE"


@pytest.mark.parametrize("tail", ["%0d%0aX-Evil:%201", "%2f..%2fmodels", "?a=b", "%00", "~up~" * 9])
def test_an_id_is_nothing_but_an_id(house: House, tail: str) -> None:
    """What is put behind an id reaches no upstream, as a header or as a path."""
    file = house.sdk().files.create(file=("a", b"x"), purpose="batch").id
    before = len(house.up.asked)
    told = house.raw("GET", f"/v1/files/{file.partition('~')[0]}{tail}", ALICE)
    assert told.status_code == 404
    assert len(house.up.asked) == before


def test_lists_are_refused(house: House) -> None:
    """What belongs to a key can't be told without a list of it, and the answer says so, once."""
    for ask in (house.sdk().files.list, house.sdk().batches.list):
        with pytest.raises(openai.InternalServerError) as told:
            ask()
        assert (told.value.status_code, told.value.code) == (501, "not_supported")
        assert told.value.response.headers["x-should-retry"] == "false"


def test_a_batch_goes_where_its_file_is(house: House) -> None:
    """A batch is begun with the provider's own id of the file; all ids that come are the key's."""
    sdk = house.sdk()
    there = {"x-llm-proxy-provider": "other"}
    file = sdk.files.create(file=("a", b"{}"), purpose="batch", extra_headers=there)
    batch = sdk.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    asked = house.other.asked[-1]
    assert json.loads(asked.body)["input_file_id"] == "file-abc"
    assert batch.input_file_id == file.id
    assert batch.output_file_id and sdk.files.content(batch.output_file_id).read()
    assert house.other.asked[-1].path == "/v1/files/file-out/content"
    assert sdk.batches.retrieve(batch.id).id == batch.id
    assert sdk.batches.cancel(batch.id).id == batch.id
    assert house.other.asked[-1].path == "/v1/batches/batch_1/cancel"
    for key in (NARROW, POOR):
        stranger = house.sdk(key)
        own = stranger.files.create(file=("a", b"{}"), purpose="batch").id
        with pytest.raises(openai.PermissionDeniedError):
            stranger.batches.create(
                input_file_id=own, endpoint="/v1/chat/completions", completion_window="24h"
            )
    with pytest.raises(openai.NotFoundError):
        house.sdk(BOB).batches.retrieve(batch.id)


def test_a_response_is_found_again_where_it_is(house: House) -> None:
    """A stored response is shown, cancelled and deleted at the provider that gave it."""
    sdk = house.sdk()
    made = sdk.responses.create(model="elsewhere", input="x")
    assert made.id.startswith("resp_1~other~")
    assert sdk.responses.retrieve(made.id).id == made.id
    sdk.responses.cancel(made.id)
    sdk.responses.delete(made.id)
    assert [asked.method for asked in house.other.asked[-3:]] == ["GET", "POST", "DELETE"]
    with pytest.raises(openai.NotFoundError):
        house.sdk(BOB).responses.retrieve(made.id)
    with sdk.responses.stream(model="elsewhere", input="x") as stream:
        assert stream.get_final_response().id == made.id
    unkept = sdk.responses.create(model="elsewhere", input="x", store=False)
    assert unkept.id == "resp_1"


def test_a_conversation_stays_with_its_provider(house: House) -> None:
    """The next turn goes to the provider that has the one before, and only for its key."""
    sdk = house.sdk()
    first = sdk.responses.create(model="elsewhere", input="x").id
    for _ in range(8):
        sdk.responses.create(model="both", input="y", previous_response_id=first)
        assert json.loads(house.other.asked[-1].body)["previous_response_id"] == "resp_1"
    assert len([one for one in house.other.asked if b'"input":"y"' in one.body]) == 8
    for key, model, given in ((BOB, "both", first), (ALICE, "m", first), (ALICE, "m", "resp_1")):
        with pytest.raises(openai.NotFoundError):
            house.sdk(key).responses.create(model=model, input="y", previous_response_id=given)


def test_a_request_names_only_files_of_its_key(house: House) -> None:
    """A file in a prompt is the key's own and brings the call to its provider, however spelled."""
    there = {"x-llm-proxy-provider": "other"}
    sdk = house.sdk()
    file = sdk.files.create(file=("a", b"x"), purpose="user_data", extra_headers=there).id

    def ask(key: str, given: str, name: str = "file_id") -> httpx2.Response:
        part = {"type": "input_file", name: given}
        text = json.dumps({"model": "both", "input": [{"role": "user", "content": [part]}]})
        content = text.replace("ODD", "\\u0069")
        json_type = {"content-type": "application/json"}
        return house.raw("POST", "/v1/responses", key, content=content, headers=json_type)

    for _ in range(6):
        assert ask(ALICE, file).status_code == 200
        assert b'"file_id":"file-abc"' in house.other.asked[-1].body
    for name in ("file_id", "fODDle_id", "file_ODDd"):
        assert ask(ALICE, file, name).status_code == 200
        for key, given in ((BOB, file), (ALICE, "file-abc"), (BOB, "file-abc")):
            assert ask(key, given, name).status_code == 404
    parts: Any = [{"type": "file", "file": {"file_id": "file-abc"}}]
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}])


STATE = (
    ('"input":[{"type":"item_reference","id":"msg_1"}]', "input[0]"),
    ('"input":[{"id":"msg_1"}]', "input[0]"),
    ('"input":[{"role":"user","content":"x"},{"type":null,"id":"msg_1"}]', "input[1]"),
    ('"input":[7,{"\\u0069d":"msg_1","type":"item_\\u0072eference"}]', "input[1]"),
    ('"input":[{"type":"item_reference","id":"m","role":"user","content":"x"}]', "input[0]"),
    ('"input":[{"type":"image_generation_call","id":"ig_1"}]', "input[0]"),
    ('"input":"x","conversation":"conv_1"', "conversation"),
    ('"input":"x","conversation":{"id":"conv_1"}', "conversation"),
    (
        '"input":"x","tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]',
        "tools[0].vector_store_ids",
    ),
    (
        '"input":"x","tools":[{"type":"code_interpreter","c\\u006fntainer":"cntr_1"}]',
        "tools[0].container",
    ),
    (
        '"input":"x","tools":[{"type":"shell","environment":{"container_id":"cntr_1"}}]',
        "tools[0].environment.container_id",
    ),
)


def ask_with(house: House, fields: str, key: str) -> httpx2.Response:
    told = {"content-type": "application/json"}
    content = '{"model":"m",' + fields + "}"
    return house.raw("POST", "/v1/responses", key, content=content, headers=told)


@pytest.mark.parametrize(("fields", "param"), STATE)
def test_state_of_the_account_is_named_by_nobody(house: House, fields: str, param: str) -> None:
    """What may be another key's is refused, with the field and the remedy; a key that reaches all
    of the account may name it, byte by byte."""
    before = len(house.up.asked)
    told = ask_with(house, fields, BOB)
    assert (told.status_code, told.json()["error"]["param"]) == (400, param)
    assert "passthrough" in told.json()["error"]["message"]
    assert len(house.up.asked) == before
    assert ask_with(house, fields, AGENTS).status_code == 200
    assert fields.encode() in house.up.asked[-1].body


@pytest.mark.parametrize(
    "fields",
    [
        '"input":[{"type":"message","id":"msg_1","role":"assistant","content":[]}]',
        '"input":[{"id":"msg_1","role":"assistant","content":"x"}]',
        '"input":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"e"}]',
        '"input":[{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{}"}]',
        '"input":"x","conversation":null',
        '"input":"x","tools":[{"type":"code_interpreter","container":{"type":"auto"}}]',
    ],
)
def test_what_a_request_says_itself_passes(house: House, fields: str) -> None:
    """An item that brings its own content is no reference, whatever id it has."""
    assert ask_with(house, fields, BOB).status_code == 200
    assert fields.encode() in house.up.asked[-1].body


def test_a_history_of_messages_needs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their ids name what they say themselves: of a long history no value is built."""

    def read(raw: bytes) -> Any:
        raise AssertionError("it was read")

    monkeypatch.setattr(_shared_state, "read_json", read)
    said = {"id": "msg_1", "role": "assistant", "content": [{"type": "output_text"}]}
    items = [said, said | {"type": "message"}, {"type": "function_call_output", "output": "x"}]
    _shared_state.check_response({"input": msgspec.Raw(json.dumps(items).encode())})
    _shared_state.check_response({"input": msgspec.Raw(b'"a text with \\"id\\" and \\u0061"')})
    for item in (said | {"content": None}, said | {"type": "x"}, {"i\\u0064": "msg_1"}):
        raw = json.dumps([said, item]).encode().replace(b"\\\\", b"\\")
        with pytest.raises(AssertionError, match="it was read"):
            _shared_state.check_response({"input": msgspec.Raw(raw)})


def test_a_container_of_anthropic_is_named_by_nobody(house: House) -> None:
    """Anthropic's clients hear the same in the words of their own API."""
    body = {
        "model": "m",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "x"}],
        "container": "container_1",
    }
    told = house.raw("POST", "/v1/messages", BOB, json=body)
    assert told.status_code == 400
    assert told.json()["error"]["type"] == "invalid_request_error"
    assert "'container'" in told.json()["error"]["message"]


def test_a_single_key_may_name_what_is_its_own() -> None:
    """Where one key alone asks for models, nothing in the account is another one's."""
    with ExitStack() as stack:
        up = stack.enter_context(running("up"))
        given = settings_for(
            "",
            providers={"up": {"kind": "openai", "base_url": up.url, "api_key": SECRET}},
            models=[{"name": "m", "target": "up/real"}],
            keys=[
                {"name": "alice", "key": ALICE},
                {"name": "metrics", "key": BOB, "scopes": ["metrics"]},
            ],
        )
        url = stack.enter_context(serving(create_app(settings=given)))
        http = stack.enter_context(httpx2.Client())
        sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=ALICE, max_retries=0, http_client=http)
        sdk.responses.create(model="m", input="x", conversation="conv_1")
        assert json.loads(up.asked[-1].body)["conversation"] == "conv_1"


def test_files_are_kept_where_a_models_key_may_go(house: House) -> None:
    """A key that may use no model of a provider keeps nothing there; a provider without OpenAI's
    API keeps no files for anybody."""
    there = {"x-llm-proxy-provider": "other"}
    with pytest.raises(openai.PermissionDeniedError, match="no model of the provider 'other'"):
        house.sdk(NARROW).files.create(file=("a", b"x"), purpose="user_data", extra_headers=there)
    claude = {"x-llm-proxy-provider": "claude"}
    with pytest.raises(openai.BadRequestError, match=r"doesn't speak OpenAI's API.*: other, up"):
        house.sdk().files.create(file=("a", b"x"), purpose="user_data", extra_headers=claude)
    assert house.sdk(NARROW).files.create(file=("a", b"x"), purpose="user_data").id


def test_a_refused_method_is_told_with_those_that_there_are(house: House) -> None:
    """``allow`` names every method that the path takes, not those of one of its routes."""
    told = house.raw("OPTIONS", "/providers/up/models")
    assert told.status_code == 405
    assert told.headers["allow"] == "DELETE, GET, HEAD, PATCH, POST, PUT"
    assert house.raw("PUT", "/v1/files").headers["allow"] == "GET, POST"


@pytest.mark.parametrize("operation", ["genrateContent", "batchEmbedContents"])
def test_an_operation_that_is_not_there_is_told(house: House, operation: str) -> None:
    """Google's clients hear in Google's shape which operations a model has."""
    told = house.raw("POST", f"/v1beta/models/m:{operation}", json={})
    error = told.json()["error"]
    assert (told.status_code, error["status"]) == (404, "NOT_FOUND")
    assert "generateContent, streamGenerateContent, countTokens" in error["message"]
    assert ("/v1/embeddings" in error["message"]) is ("Embed" in operation)


def test_the_model_that_was_asked_for_is_named(house: House) -> None:
    """Where a pattern serves a model, an error names the model and not the pattern."""
    sdk = house.sdk()
    first = sdk.responses.create(model="elsewhere", input="x").id
    with pytest.raises(openai.NotFoundError, match="the model 'up/x'"):
        sdk.responses.create(model="up/x", input="y", previous_response_id=first)


def test_raw_is_for_keys_that_may(house: House) -> None:
    """Only a key with the scope passes; a key with a budget doesn't, as nobody knows the price."""
    assert house.raw("GET", "/providers/up/models").status_code == 200
    for key in (ALICE, POOR):
        told = house.raw("GET", "/providers/up/models", key)
        assert (told.status_code, told.json()["error"]["code"]) == (403, "permission_denied")
    assert house.raw("GET", "/providers/up/models", "sk-nobody").status_code == 401
    assert house.raw("GET", "/providers/nobody/models").status_code == 404


def test_raw_carries_nothing_of_the_clients_own(house: House) -> None:
    """The provider's credential goes in the place of the client's; cookies go neither way."""
    told = house.raw(
        "PUT",
        "/providers/up/v1/odd%20path?a=1&key=mine&b=%26",
        content=b"\x00\x01",
        headers={
            "content-type": "application/x-odd",
            "cookie": "a=b",
            "x-api-key": RAW,
            "openai-beta": "x=1",
            "openai-organization": "theirs",
            "anthropic-beta": "y",
        },
    )
    asked = house.up.asked[-1]
    assert (asked.method, asked.path) == ("PUT", "/v1/odd%20path?a=1&b=%26")
    assert asked.body == b"\x00\x01"
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert asked.headers["content-type"] == "application/x-odd"
    assert (asked.headers["openai-beta"], asked.headers["anthropic-beta"]) == ("x=1", "y")
    assert not {"cookie", "x-api-key", "openai-organization"} & asked.headers.keys()
    assert RAW not in str(asked)
    assert not {"set-cookie", "openai-organization"} & told.headers.keys()
    assert (told.headers["etag"], told.headers["x-content-type-options"]) == ("1", "nosniff")


def test_raw_says_what_the_upstream_said(house: House) -> None:
    """Statuses and errors are the upstream's, without our credential; a refused one is ours."""
    told = house.raw("POST", "/providers/up/refused", json={})
    assert told.status_code == 400
    assert told.json() == {"error": {"message": "bad key ***"}}
    locked = house.raw("DELETE", "/providers/up/locked")
    assert (locked.status_code, SECRET in locked.text) == (502, False)
    assert house.raw("HEAD", "/providers/up/models").content == b""


def test_the_document_tells_of_each_route(house: House) -> None:
    """What passes through is described, and each reference in it leads somewhere."""
    document = create_app(settings=settings(house.up, house.other)).openapi()
    paths = document["paths"]
    assert {"get", "post"} == set(paths["/v1/files"])
    assert "multipart/form-data" in str(paths["/v1/audio/transcriptions"]["post"]["requestBody"])
    raw = paths["/providers/{name}/{path}"]["delete"]
    assert [one["name"] for one in raw["parameters"]] == ["name", "path"]


@pytest.mark.parametrize(
    "path",
    [
        *("../x", "a/../x", "%2e%2e/x", ".%2E/x", "%252e%252e/x", "..;/x", "a%2fb", "a%252fb"),
        *("a%5c..%5cx", "a\\x", "//evil/x", "a//b", "a%00", "a%0d%0ab", "%25252525252e"),
    ],
)
def test_no_path_leads_elsewhere(path: str) -> None:
    """What some server could read as another path is refused."""
    with pytest.raises(InvalidRequest, match="below /providers"):
        upstream_path(path.encode(), b"")


@pytest.mark.parametrize(
    ("path", "query", "told"),
    [
        (b"", b"", "/"),
        (b"a/b/", b"", "/a/b/"),
        (b"models/x:generate", b"alt=sse", "/models/x:generate?alt=sse"),
        (b"a%20b", b"q=%C3%A9&%6Bey=1&api-key=2", "/a%20b?q=%C3%A9"),
        (b"caf%C3%A9#", b"a=#b c", "/caf%C3%A9%23?a=%23b%20c"),
    ],
)
def test_a_path_has_one_spelling(path: bytes, query: bytes, told: str) -> None:
    """What is harmless goes on, spelled so that every server reads it alike."""
    assert upstream_path(path, query) == told
    assert re.fullmatch(r"[!-~]+", told)
