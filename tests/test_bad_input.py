"""Whatever is sent, the answer is an error that OpenAI's clients understand."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from proxy_api import Settings, create_app
from proxy_api.testing import settings_for
from proxy_logging.testing import captured

JSON = {"content-type": "application/json"}
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"x"}}],"data":[1]}'
REQUEST_ID = re.compile(r"req_[0-9a-f]{24}")


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class House:
    """A gateway, what is behind it, and how a test asks."""

    def __init__(self, url: str, upstream: Any) -> None:
        self.netloc = urlsplit(url).netloc
        self.upstream = upstream

    def ask(
        self,
        body: bytes | Iterator[bytes] = b"",
        path: str = CHAT,
        *,
        method: str = "POST",
        headers: dict[str, str] = JSON,
    ) -> Got:
        """One request on a connection of its own. An iterator is sent chunked."""
        with closing(http.client.HTTPConnection(self.netloc, timeout=30)) as connection:
            connection.request(
                method, path, body, headers, encode_chunked=not isinstance(body, bytes)
            )
            got = connection.getresponse()
            return Got(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    @property
    def asked(self) -> int:
        """Requests that reached the upstream."""
        return len(self.upstream.asked)


async def answers(asked: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))


def settings(url: str, **sections: Any) -> Settings:
    models = [{"name": "chat", "target": "up/chat"}, {"name": "any-*", "target": "up/any-*"}]
    return settings_for(url, **{"models": models, **sections})


@pytest.fixture(scope="module")
def house(http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str]) -> House:
    """Without keys."""
    upstream = http_upstream(answers)
    return House(lasting_gateway(settings(upstream.url)), upstream)


@pytest.fixture(scope="module")
def keyed(http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str]) -> House:
    """With two keys: one for every model, one for another than ``chat``."""
    upstream = http_upstream(answers)
    keys = [
        {"name": "all", "key": "every-model"},
        {"name": "some", "key": "some-models", "models": ["any-*"]},
    ]
    return House(lasting_gateway(settings(upstream.url, keys=keys)), upstream)


def check_error(got: Got, status: int) -> dict[str, Any]:
    """OpenAI's shape, all of it; returns what is inside."""
    assert got.status == status, got
    assert got.headers["content-type"] == "application/json"
    assert REQUEST_ID.fullmatch(got.headers["x-request-id"])
    told = json.loads(got.body)
    assert list(told) == ["error"]
    error: dict[str, Any] = told["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    assert error["code"]
    assert "Traceback" not in error["message"]
    return error


def chat(**fields: str) -> bytes:
    """A chat body whose fields are given as JSON; a field of None is left out."""
    whole = {"model": '"chat"', "messages": "[]", **fields}
    return b"{%s}" % ",".join(f'"{name}":{value}' for name, value in whole.items()).encode()


NOT_JSON_OBJECTS = {
    "empty": b"",
    "space": b" \n",
    "cut off": b'{"model":"chat","messages":[',
    "single quotes": b"{'model':'chat','messages':[]}",
    "trailing comma": b'{"model":"chat","messages":[],}',
    "two documents": chat() + chat(),
    "comment": b'{"model":"chat",/* hi */"messages":[]}',
    "text behind": chat() + b" x",
    "control character": b'{"model":"chat","messages":["\n"]}',
    "bad escape": b'{"model":"chat","messages":["\\x41"]}',
    "array": b'[{"model":"chat","messages":[]}]',
    "string": b'"chat"',
    "number": b"1",
    "null": b"null",
    "NaN": chat(temperature="NaN"),
    "Infinity": chat(temperature="-Infinity"),
    "NaN inside": chat(messages="[NaN]"),
    "leading zero": chat(temperature="01"),
    "BOM": b"\xef\xbb\xbf" + chat(),
    "UTF-16": chat().decode().encode("utf-16"),
    "UTF-16 without BOM": chat().decode().encode("utf-16-le"),
    "invalid UTF-8": b'{"model":"chat","messages":["\xff"]}',
    "cut UTF-8": b'{"model":"chat","messages":["\xe2\x82"]}',
    "overlong UTF-8": b'{"model":"chat","messages":["\xc0\xaf"]}',
    "surrogate in UTF-8": b'{"model":"chat","messages":["\xed\xa0\x80"]}',
    "surrogate as a key": b'{"model":"chat","messages":[],"\\ud800":1}',
    "lone surrogate": b'{"model":"chat","messages":["\\ud800"]}',
    "lone low surrogate": b'{"model":"chat","messages":[],"x":{"y":"a\\udc00b"}}',
    "surrogates in the wrong order": b'{"model":"chat","messages":["\\ude00\\ud83d"]}',
    "surrogate in model": b'{"model":"\\ud800","messages":[]}',
    "NUL": b"\x00" + chat(),
    "100,000 arrays": b'{"model":"chat","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 arrays, open": b'{"model":"chat","messages":' + b"[" * 100_000,
    "100,000 objects": b'{"model":"chat","messages":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "100,000 arrays outside": b"[" * 100_000 + b"]" * 100_000,
    "129 levels": b'{"model":"chat","messages":' + b"[" * 128 + b"]" * 128 + b"}",
}


@pytest.mark.parametrize("body", NOT_JSON_OBJECTS.values(), ids=list(NOT_JSON_OBJECTS))
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, EMBEDDINGS])
def test_what_is_no_json_object_is_refused(house: House, path: str, body: bytes) -> None:
    """A body that isn't one valid, shallow JSON object is 400, and the upstream hears nothing."""
    before = house.asked
    assert check_error(house.ask(body, path), 400)["type"] == "invalid_request_error"
    assert house.asked == before


@pytest.mark.parametrize(
    "value", ["5", '"x"', "[]", "true", '{"include_usage":true,"include_usage":false}']
)
def test_wrong_stream_options_are_refused(house: House, value: str) -> None:
    """Where a stream is asked for, ``stream_options`` must be an object, and clear."""
    error = check_error(house.ask(chat(stream="true", stream_options=value)), 400)
    assert error["param"] == "stream_options"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CHAT, b'{"messages":[]}', "model"),
        (CHAT, b'{"model":"chat"}', "messages"),
        (COMPLETIONS, b'{"model":"chat"}', "prompt"),
        (EMBEDDINGS, b'{"model":"chat"}', "input"),
        (CHAT, b"{}", None),
    ],
)
def test_a_missing_field_is_named(house: House, path: str, body: bytes, field: str | None) -> None:
    """A field that must be there and isn't is 400 with its name."""
    error = check_error(house.ask(body, path), 400)
    assert field is None or error["param"] == field


DUPLICATES = {
    "model": b'{"model":"chat","messages":[],"model":"chat"}',
    "model, escaped": b'{"model":"chat","messages":[],"mod\\u0065l":"other"}',
    "model, all escaped": b'{"\\u006dodel":"chat","messages":[],"\\u006dodel":"chat"}',
    "model, spaced": b'{"model":"chat" , "messages":[] , "model" : "chat"}',
    "stream": b'{"model":"chat","stream":true,"messages":[],"stream":false}',
    "max_tokens": b'{"model":"chat","max_tokens":1,"messages":[],"max_tokens":1000}',
}


@pytest.mark.parametrize("body", DUPLICATES.values(), ids=list(DUPLICATES))
def test_a_field_of_ours_that_comes_twice_is_refused(house: House, body: bytes) -> None:
    """Two readers may not see two models in one body, however the key is spelled."""
    before = house.asked
    error = check_error(house.ask(body), 400)
    assert error["param"] in {"model", "stream", "max_tokens"}
    assert house.asked == before


UNKNOWN = [
    "nobody",
    "../../x",
    "a/b",
    "chat ",
    "Chat",
    "é",
    "x" * 10_240,
    "chat\\u0000",
    "chat\\r\\nx: y",
    "*",
]


@pytest.mark.parametrize("name", UNKNOWN, ids=lambda name: name[:12])
def test_an_unknown_model_is_not_found(house: House, name: str) -> None:
    """A model that isn't there is 404 model_not_found, whatever its name is made of."""
    error = check_error(house.ask(chat(model=f'"{name}"')), 404)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert len(error["message"]) < 400


def test_a_near_miss_is_told(house: House) -> None:
    """A typing error gets the name that was probably meant."""
    assert "'chat'" in check_error(house.ask(chat(model='"chart"')), 404)["message"]


def test_an_unknown_model_by_get_is_not_found(house: House) -> None:
    """``GET /v1/models/x`` is 404 in the same shape."""
    error = check_error(house.ask(method="GET", path="/v1/models/no/such", headers={}), 404)
    assert error["code"] == "model_not_found"


# --- Sizes. ---


def test_too_large_by_its_length_is_refused_unread(house: House) -> None:
    """33 MB with a content-length is 413, told before the body is sent."""
    with closing(http.client.HTTPConnection(house.netloc, timeout=10)) as connection:
        connection.putrequest("POST", CHAT)
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(33_000_000))
        connection.endheaders()
        got = connection.getresponse()
        headers = {name.lower(): value for name, value in got.getheaders()}
        error = check_error(Got(got.status, headers, got.read()), 413)
    assert "server.max_body" in error["message"]
    assert error["code"] == "request_too_large"


def test_too_large_in_chunks_is_refused(house: House) -> None:
    """33 MB without a content-length is 413 as soon as it is too much."""
    parts = (b" " * 1_000_000 for _ in range(33))
    check_error(house.ask(parts), 413)


def test_a_client_that_sends_too_much_gets_its_answer(house: House) -> None:
    """A client that sends all of its 33 MB before it reads still gets the 413."""
    check_error(house.ask(b" " * 33_000_000), 413)


def test_ten_megabytes_are_served(house: House) -> None:
    """A legal body of 10 MB reaches the upstream byte for byte."""
    text = "Grüße, 世界 \\u00e9 " * 480_000
    body = chat(messages=f'[{{"role":"user","content":"{text}"}}]')
    assert len(body) > 10_000_000
    assert house.ask(body).status == 200
    assert house.upstream.asked[-1].body == body


# --- The head. ---


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None]
)
def test_another_content_type_is_refused(house: House, kind: str | None) -> None:
    """What isn't declared as JSON is 415: a web page can send other types without asking."""
    error = check_error(
        house.ask(chat(), headers={} if kind is None else {"content-type": kind}), 415
    )
    assert error["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/json;"]
)
def test_json_by_another_spelling_is_served(house: House, kind: str) -> None:
    """A charset or capitals change nothing."""
    assert house.ask(chat(), headers={"content-type": kind}).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_refused(house: House, encoding: str) -> None:
    """A compressed body is 415: a small one could unpack into a large one."""
    check_error(house.ask(chat(), headers={**JSON, "content-encoding": encoding}), 415)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, EMBEDDINGS])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_wrong_method_is_told(house: House, method: str, path: str) -> None:
    """Another method is 405, and ``allow`` says which there is."""
    got = house.ask(path=path, method=method)
    assert check_error(got, 405)["code"] == "method_not_allowed"
    assert got.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/nothing", CHAT + "/", "/v1/chat/%0d%0ax", "/%c3%a9"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route_is_told(house: House, method: str, path: str) -> None:
    """A route that isn't there is 404 in the same shape."""
    assert check_error(house.ask(path=path, method=method), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    "path", ["/docs", "/metrics", "/openapi.json", "/livez", "/readyz", "/v1/models", "/none"]
)
def test_every_answer_has_a_request_id(house: House, path: str) -> None:
    """An id stands in every answer, and no two are the same."""
    seen = {
        house.ask(path=path, method="GET", headers={}).headers["x-request-id"] for _ in range(3)
    }
    assert len(seen) == 3
    assert all(REQUEST_ID.fullmatch(one) for one in seen)


def test_a_good_answer_has_a_request_id_of_ours(house: House) -> None:
    """The client's own id is not taken over: what is counted by it can't be faked."""
    got = house.ask(chat(), headers={**JSON, "x-request-id": "mine"})
    assert got.status == 200
    assert REQUEST_ID.fullmatch(got.headers["x-request-id"])


# --- Who asks. ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic ZXZlcnktbW9kZWw="},
        {"authorization": "every-model"},
        {"x-api-key": "wrong"},
        {"api-key": "EVERY-MODEL"},
        {"x-goog-api-key": "every-model" + "x" * 10_000},
        {"authorization": "Bearer évery-möde\xa0"},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_without_a_known_key_nothing_is_read(keyed: House, headers: dict[str, str]) -> None:
    """No key or a wrong one is 401 invalid_api_key, before the body is looked at."""
    for body in (chat(), b"not json"):
        error = check_error(keyed.ask(body, headers={**JSON, **headers}), 401)
        assert error["code"] == "invalid_api_key"
        assert error["type"] == "authentication_error"
        assert "wrong" not in error["message"]
    assert check_error(keyed.ask(path="/v1/models", method="GET", headers=headers), 401)


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "x-goog-api-key"])
def test_a_key_in_any_sdks_header_is_known(keyed: House, name: str) -> None:
    """Each of the SDKs' headers carries a key."""
    assert keyed.ask(chat(), headers={**JSON, name: "every-model"}).status == 200


def test_a_key_for_other_models_is_refused(keyed: House) -> None:
    """A known key for a model that it may not use is 403, and the model isn't asked."""
    before = keyed.asked
    headers = {**JSON, "authorization": "Bearer some-models"}
    error = check_error(keyed.ask(chat(), headers=headers), 403)
    assert (error["code"], error["type"], error["param"]) == (
        "permission_denied",
        "permission_error",
        "model",
    )
    assert keyed.asked == before
    assert keyed.ask(chat(model='"any-x"'), headers=headers).status == 200


@pytest.mark.parametrize("path", ["/v1/models/chat", "/v1/models/nobody"])
def test_a_model_of_others_does_not_show(keyed: House, path: str) -> None:
    """By GET a key can't tell a model that it may not use from one that isn't there."""
    got = keyed.ask(path=path, method="GET", headers={"authorization": "Bearer some-models"})
    assert check_error(got, 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://[bad"],
)
def test_a_foreign_page_is_refused(house: House, origin: str) -> None:
    """Without keys a request that a web page caused is 403."""
    assert check_error(house.ask(chat(), headers={**JSON, "origin": origin}), 403)
    assert check_error(house.ask(path="/v1/models", method="GET", headers={"origin": origin}), 403)


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"]
)
def test_a_page_of_this_machine_is_served(house: House, origin: str) -> None:
    """A local page is no stranger."""
    assert house.ask(chat(), headers={**JSON, "origin": origin}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4000",
        "",
        "localhost.evil.example",
        "[::2]",
        "127.0.0.1.evil.example",
        "[::1",
        "[::1].evil.example",
        "[]",
    ],
)
def test_a_strange_host_is_refused(house: House, host: str) -> None:
    """Without keys the Host must be this machine: names that resolve here don't count."""
    before = house.asked
    assert check_error(house.ask(chat(), headers={**JSON, "host": host}), 403)
    assert house.asked == before


def test_allowed_hosts_bind_keys_too(
    http_upstream: Callable[..., Any], gateway: Callable[..., str]
) -> None:
    """With ``server.allowed_hosts`` another Host is 403 even with a good key."""
    upstream = http_upstream(answers)
    keys = [{"name": "all", "key": "every-model"}]
    house = House(
        gateway(settings(upstream.url, keys=keys, server={"allowed_hosts": ["llm.example"]})),
        upstream,
    )
    headers = {**JSON, "x-api-key": "every-model"}
    check_error(house.ask(chat(), headers={**headers, "host": "other.example"}), 403)
    assert house.ask(chat(), headers={**headers, "host": "LLM.example:4000"}).status == 200


async def from_peer(peer: tuple[str, int] | None, path: str, *, host: str = "localhost") -> Got:
    """One request to an app without a server, from this peer."""
    app = create_app(settings=settings("http://127.0.0.1:9/v1"))
    body = chat()
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST" if path == CHAT else "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", host.encode()), (b"content-type", b"application/json")],
        "client": peer,
        "server": ("127.0.0.1", 4000),
    }
    sent: list[dict[str, Any]] = []
    incoming = _messages(body)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, incoming.__anext__, send)
    await app.gateway.aclose()
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:]))


async def _messages(body: bytes) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "http.request", "body": body, "more_body": False}
    await asyncio.sleep(3600)


@pytest.mark.parametrize(
    "peer", ["203.0.113.5", "10.0.0.7", "2001:db8::1", "::ffff:10.0.0.7", "0.0.0.0", "x"]
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
async def test_a_peer_elsewhere_is_refused_without_keys(peer: str, path: str) -> None:
    """Without keys only this machine is served, whatever the Host says."""
    assert check_error(await from_peer((peer, 5555), path), 401)["code"] == "invalid_api_key"


@pytest.mark.parametrize("peer", ["203.0.113.5", "10.0.0.7"])
@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json"])
async def test_a_peer_elsewhere_does_not_see_the_inside(peer: str, path: str) -> None:
    """Metrics and docs are this machine's."""
    check_error(await from_peer((peer, 5555), path), 401)


@pytest.mark.parametrize(
    "peer", [("127.0.0.1", 1), ("127.8.8.8", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), None]
)
async def test_a_peer_of_this_machine_is_served(peer: tuple[str, int] | None) -> None:
    """Loopback in each of its spellings, and a unix socket, is this machine."""
    assert (await from_peer(peer, "/v1/models")).status == 200


# --- Nothing is injected. ---


def wait_for(lines: list[dict[str, Any]]) -> None:
    """A request's line is written once its answer is out."""
    deadline = time.monotonic() + 5
    while not lines and time.monotonic() < deadline:
        time.sleep(0.002)


TEXTS = [
    "any-\\r\\nset-cookie: a=b",
    'any-\\n{\\"event\\":\\"forged\\"}',
    "any-\\u2028\\u0085é世界",
    "any-\\u0000\\u001b[31m",
]


@pytest.mark.parametrize("name", TEXTS)
def test_a_model_name_injects_nothing(house: House, name: str) -> None:
    """Line breaks and odd characters in a model's name make no header and no line of a log."""
    with captured() as lines:
        got = house.ask(chat(model=f'"{name}"'))
        wait_for(lines)
    assert got.status == 200
    assert "set-cookie" not in got.headers
    assert all(value.isascii() and value.isprintable() for value in got.headers.values())
    assert [line["event"] for line in lines] == ["request"]
    assert lines[0]["request_id"] == got.headers["x-request-id"]
    assert lines[0]["model"].startswith("any-")
    metrics = house.ask(path="/metrics", method="GET", headers={}).body
    assert b"any-*" in metrics
    assert not re.search(rb"forged|cookie|\x1b|\xe4\xb8\x96", metrics)


def test_an_unknown_model_name_injects_nothing(house: House) -> None:
    """The same for a model that isn't there; and a log line stays bounded."""
    with captured() as lines:
        got = house.ask(chat(model='"no\\r\\nx: y' + "z" * 10_000 + '"'))
        wait_for(lines)
    check_error(got, 404)
    assert "x" not in got.headers
    assert [line["event"] for line in lines] == ["request"]
    assert len(json.dumps(lines)) < 2_000
