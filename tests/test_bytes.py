"""What the proxy does not own stays as it came, byte for byte, in both directions."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy_api.testing import settings_for

PATHS = ("chat/completions", "completions", "embeddings")
INPUT = {"chat/completions": "messages", "completions": "prompt", "embeddings": "input"}
PAYLOAD = {"chat/completions": "choices", "completions": "choices", "embeddings": "data"}
ODD_NUMBERS = (
    "0",
    "-0",
    "-0.0",
    "1E5",
    "1e+05",
    "1.0e-7",
    "2.50",
    "0.1000000000000000055511151231257827",
    "1e-400",
    "123456789012345678901234567890",
    "-9223372036854775809",
    "18446744073709551616",
    "1.7976931348623157e308",
)
REQUESTS, ANSWERS, STREAMS = 300, 120, 60


# --- The oracle: Python's own json module finds what stands where. ---


@dataclass(frozen=True)
class Member:
    """One member of the top level: its key, and where its value stands in the text."""

    key: str
    start: int
    end: int


def members(text: str) -> list[Member]:
    """The top level of an object, duplicates included."""
    space = re.compile(r"[ \t\r\n]*")
    reader = json.JSONDecoder(parse_int=str, parse_float=str)

    def past_space(at: int) -> int:
        found = space.match(text, at)
        assert found is not None
        return found.end()

    at = past_space(0)
    assert text[at] == "{"
    at = past_space(at + 1)
    found: list[Member] = []
    while text[at] != "}":
        key, at = reader.raw_decode(text, at)
        at = past_space(at)
        assert text[at] == ":"
        start = past_space(at + 1)
        _, end = reader.raw_decode(text, start)
        found.append(Member(key, start, end))
        at = past_space(end)
        if text[at] == ",":
            at = past_space(at + 1)
    return found


def value_of(text: str, key: str) -> str | None:
    """The JSON of the last member with this key."""
    spans = [member for member in members(text) if member.key == key]
    return text[spans[-1].start : spans[-1].end] if spans else None


def with_holes(text: str, *keys: str) -> str:
    """The text with a hole for each value of these keys."""
    pieces, at = [], 0
    for member in members(text):
        if member.key in keys:
            pieces += [text[at : member.start], f"<{member.key}>"]
            at = member.end
    return "".join([*pieces, text[at:]])


def pairs(text: str) -> Any:
    """A value with duplicates and the spelling of its numbers kept."""
    return json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)


# --- The generator: text, never ``json.dumps``, so that every spelling occurs. ---


class Spelling:
    """Legal JSON in odd spellings, from one seed."""

    def __init__(self, seed: int, *, breaks: bool = True) -> None:
        self.rng = random.Random(seed)
        self._spaces = ["", "", "", "", " ", "\t", "  ", *(["\n", "\r\n "] if breaks else [])]

    def space(self) -> str:
        return self.rng.choice(self._spaces)

    def character(self) -> str:
        kind = self.rng.randrange(8)
        if kind < 3:
            return chr(self.rng.randrange(0x20, 0x7F))
        if kind == 3:
            return self.rng.choice('"\\/\b\f\n\r\t\0\x1f\x7f\x85\u2028\u2029\ufeff\uffff')
        plane = self.rng.choice(
            ((0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000))
        )
        return chr(self.rng.randrange(*plane))

    def spelled(self, text: str, *, escapes: float = 0.15) -> str:
        """A JSON string for the text; what need not be escaped sometimes is."""
        out = []
        for character in text:
            if character in '"\\' or character < " " or self.rng.random() < escapes:
                out.append(self._escaped(character))
            else:
                out.append(character)
        return '"' + "".join(out) + '"'

    def _escaped(self, character: str) -> str:
        short = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n"}
        if character in short and self.rng.random() < 0.7:
            return short[character]
        units = character.encode("utf-16-be")
        form = self.rng.choice(("\\u%04x", "\\u%04X"))
        return "".join(
            form % int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)
        )

    def string(self) -> str:
        return self.spelled("".join(self.character() for _ in range(self.rng.randrange(12))))

    def number(self) -> str:
        return self.rng.choice((*ODD_NUMBERS, str(self.rng.randrange(10**6))))

    def value(self, depth: int = 0) -> str:
        kind = self.rng.randrange(7 if depth < 6 else 4)
        if kind == 0:
            return self.rng.choice(("true", "false", "null"))
        if kind == 1:
            return self.number()
        if kind in (2, 3):
            return self.string()
        if kind == 4:
            return self.array([self.value(depth + 1) for _ in range(self.rng.randrange(4))])
        return self.object(
            [(self.string(), self.value(depth + 1)) for _ in range(self.rng.randrange(4))]
        )

    def array(self, items: list[str]) -> str:
        inside = ",".join(self.space() + item + self.space() for item in items)
        return f"[{inside or self.space()}]"

    def object(self, rows: list[tuple[str, str]]) -> str:
        """``rows`` are keys and values as JSON, in their order."""
        s = self.space
        inside = ",".join(f"{s()}{key}{s()}:{s()}{value}{s()}" for key, value in rows)
        return f"{{{inside or s()}}}"

    def unowned(self, *, taken: frozenset[str]) -> list[tuple[str, str]]:
        """Parameters that nobody has heard of, some of them twice."""
        rows = [(self.spelled(self._name()), self.value()) for _ in range(self.rng.randrange(7))]
        rows = [row for row in rows if json.loads(row[0]) not in taken]
        if rows and self.rng.random() < 0.4:
            rows.append((self.rng.choice(rows)[0], self.value()))
        return rows

    def _name(self) -> str:
        return self.rng.choice(
            ("temperature", "seed", "x-é", "", "metadata", "user", self.character() * 2)
        )


OWNED = frozenset(
    {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "error"}
)


@dataclass(frozen=True)
class Case:
    """One generated request."""

    path: str
    text: str
    model: str
    asks_usage_itself: bool
    is_stream: bool


def a_request(seed: int, *, streams: bool | None = None) -> Case:
    """A legal request with odd spellings, for one of three surfaces."""
    spelling = Spelling(seed)
    rng = spelling.rng
    path = PATHS[seed % 2] if streams else PATHS[seed % 3]
    model = rng.choice(
        ("chat", "same", "odd-" + spelling.character() + spelling.character(), "odd-")
    )
    rows = spelling.unowned(taken=OWNED | set(INPUT.values()))
    rows.append((spelling.spelled("model"), spelling.spelled(model)))
    rows.append((spelling.spelled(INPUT[path]), an_input(spelling, path)))
    is_stream = path != "embeddings" and (rng.random() < 0.5 if streams is None else streams)
    if is_stream or rng.random() < 0.2:
        rows.append((spelling.spelled("stream"), "true" if is_stream else "false"))
    asks = False
    if is_stream and rng.random() < 0.6:
        told = rng.choice(("true", "true", "false", None))
        asks = told == "true"
        options = [(spelling.string(), spelling.value()) for _ in range(rng.randrange(3))]
        if told is not None:
            options.append((spelling.spelled("include_usage"), told))
        rng.shuffle(options)
        rows.append((spelling.spelled("stream_options"), spelling.object(options)))
    if rng.random() < 0.3:
        rows.append((spelling.spelled("max_tokens"), str(rng.randrange(1, 999))))
    rng.shuffle(rows)
    return Case(
        path, spelling.space() + spelling.object(rows) + spelling.space(), model, asks, is_stream
    )


def an_input(spelling: Spelling, path: str) -> str:
    if path != "chat/completions":
        return spelling.rng.choice((spelling.string(), spelling.array([spelling.string()])))
    turns = [
        [('"role"', '"user"'), (spelling.spelled("content"), spelling.value())] for _ in range(2)
    ]
    return spelling.array([spelling.object(turn) for turn in turns])


def an_answer(seed: int, path: str) -> str:
    """A legal whole answer with odd spellings."""
    spelling = Spelling(seed)
    rows = spelling.unowned(taken=OWNED | set(PAYLOAD.values()))
    items = [spelling.object([('"index"', "0"), (spelling.string(), spelling.value())])]
    rows.append((spelling.spelled(PAYLOAD[path]), spelling.array(items)))
    if spelling.rng.random() < 0.9:
        rows.append((spelling.spelled("model"), spelling.string()))
    if spelling.rng.random() < 0.5:
        rows.append(('"usage"', spelling.value()))
    spelling.rng.shuffle(rows)
    return spelling.space() + spelling.object(rows) + spelling.space()


# --- The house: one gateway, and an upstream that plays what a test puts into ``answers``. ---


class House:
    """What every test here shares."""

    def __init__(self) -> None:
        self.answers: list[list[bytes]] = []
        self.upstream: Any = None
        self._client: http.client.HTTPConnection | None = None

    async def play(self, _: object, writer: asyncio.StreamWriter) -> None:
        head, *parts = self.answers.pop(0)
        writer.write(head)
        for part in parts:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    def connect(self, url: str) -> None:
        self._client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)

    def ask(self, case: Case, answer: list[bytes], kind: bytes) -> bytes:
        """Send the case and give the answer's body; the upstream answers with these parts."""
        assert self._client is not None
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.answers.append([head, *answer])
        headers = {"content-type": "application/json"}
        self._client.request("POST", f"/v1/{case.path}", case.text.encode(), headers)
        got = self._client.getresponse()
        body = got.read()
        assert got.status == 200, (body, case)
        return body

    def last_sent(self) -> str:
        return str(self.upstream.asked[-1].body.decode())

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


@pytest.fixture(scope="module")
def house(
    http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str]
) -> Iterator[House]:
    made = House()
    made.upstream = http_upstream(made.play)
    models = [
        {"name": "chat", "target": "up/a-Real/Modèl"},
        {"name": "same", "target": "up/same"},
        {"name": "odd-*", "target": "up/in-*-out"},
    ]
    made.connect(lasting_gateway(settings_for(made.upstream.url, models=models)))
    yield made
    made.close()


def upstream_name(model: str) -> str:
    if model.startswith("odd-"):
        return f"in-{model.removeprefix('odd-')}-out"
    return {"chat": "a-Real/Modèl", "same": "same"}[model]


CHAT_CHUNK = '"object":"chat.completion.chunk","choices":'
CHUNK = '{"choices":[{"index":0,"delta":{"content":"x"},"text":"x","finish_reason":"stop"}]}'
SHORT_STREAM = [f"data: {CHUNK}\n\ndata: [DONE]\n\n".encode()]


def check_request(case: Case, sent: str) -> None:
    """What the upstream got is what the client sent, but for what the proxy owns."""
    name = value_of(sent, "model")
    assert name is not None
    assert json.loads(name) == upstream_name(case.model)
    if not case.is_stream or case.asks_usage_itself:
        assert with_holes(sent, "model") == with_holes(case.text, "model")
        return
    given, made = value_of(case.text, "stream_options"), value_of(sent, "stream_options")
    assert made is not None
    if given is None:
        # It is added as the last member; nothing before or after it moves.
        added = ',"stream_options":<stream_options>}'
        front, found, behind = with_holes(sent, "model", "stream_options").rpartition(added)
        assert found == added
        assert front + "}" + behind == with_holes(case.text, "model")
        assert json.loads(made) == {"include_usage": True}
        return
    owned = ("model", "stream_options")
    assert with_holes(sent, *owned) == with_holes(case.text, *owned)
    mine = [pair for pair in pairs(given) if pair[0] != "include_usage"]
    assert [pair for pair in pairs(made) if pair[0] != "include_usage"] == mine
    assert dict(pairs(made))["include_usage"] is True


def test_a_request_reaches_the_upstream_as_it_was_sent(house: House) -> None:
    """Of 300 odd requests every byte outside model and stream_options reaches the upstream."""
    kinds: dict[str, int] = {}
    for seed in range(REQUESTS):
        case = a_request(seed)
        answer = SHORT_STREAM if case.is_stream else [b'{"choices":[1],"data":[1]}']
        house.ask(case, answer, b"text/event-stream" if case.is_stream else b"application/json")
        check_request(case, house.last_sent())
        adds = case.is_stream and not case.asks_usage_itself
        kind = f"{case.path} {'stream' if case.is_stream else 'whole'}{' adds' * adds}"
        kinds[kind] = kinds.get(kind, 0) + 1
    assert sum(kinds.values()) == REQUESTS
    assert kinds["embeddings whole"] == REQUESTS // 3
    assert len(kinds) == 7
    assert min(kinds.values()) >= 10, kinds


def test_a_whole_answer_reaches_the_client_as_it_came(house: House) -> None:
    """Of 120 odd answers every byte outside of model arrives, and there the name asked for."""
    named, cases = 0, 0
    for seed in range(ANSWERS):
        case = a_request(10_000 + seed, streams=False)
        text = an_answer(30_000 + seed, case.path)
        got = house.ask(case, cut(text.encode(), random.Random(seed)), b"application/json").decode()
        assert with_holes(got, "model") == with_holes(text, "model")
        names = [json.loads(got[m.start : m.end]) for m in members(got) if m.key == "model"]
        assert names == [case.model] * len(names)
        named += len(names)
        cases += 1
    assert cases == ANSWERS
    assert named > ANSWERS // 2


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """The bytes in pieces of odd sizes."""
    sizes = rng.choice(((1, 4), (1, 60), (200, 900)))
    pieces = []
    at = 0
    while at < len(data):
        size = rng.randint(*sizes)
        pieces.append(data[at : at + size])
        at += size
    return pieces


# --- Streams. ---


class StreamSpelling(Spelling):
    """Legal event streams in odd spellings. ``end`` is how their lines end."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, breaks=False)
        self.end = self.rng.choice(("\n", "\n", "\r\n"))
        self._calls = 0

    def chunk(self, choices: str, *more: tuple[str, str]) -> str:
        """One chunk's JSON, with the upstream's name for the model and fields that nobody knows."""
        kind = ('"object"', '"chat.completion.chunk"')
        taken = OWNED | {"choices", "usage", "object"}
        rows = [*self.unowned(taken=taken), kind, ('"choices"', choices), *more]
        if self.rng.random() < 0.9:
            rows.append((self.spelled("model"), self.string()))
        self.rng.shuffle(rows)
        return self.object(rows)

    def choice(self, delta: str, finish: str = "null") -> str:
        return self.array(
            [self.object([('"index"', "0"), ('"delta"', delta), ('"finish_reason"', finish)])]
        )

    def delta(self) -> str:
        kind = self.rng.randrange(4)
        if kind == 0:
            named = [] if self._calls else [('"name"', '"look"')]
            function = self.object([*named, ('"arguments"', self.string())])
            begun = [] if self._calls else [('"id"', '"c1"'), ('"type"', '"function"')]
            self._calls += 1
            call = self.object([('"index"', "0"), *begun, ('"function"', function)])
            return self.object([('"tool_calls"', self.array([call]))])
        if kind == 1:
            return self.object(
                [('"reasoning_content"', self.string()), (self.string(), self.value())]
            )
        return self.object([('"content"', self.string())])

    def event(self, data: str) -> str:
        """The event of this data: in one line or in several, with other lines beside it."""
        lines = [self.rng.choice(("data: ", "data:")) + part for part in self._parts(data)]
        if self.rng.random() < 0.2:
            beside = self.rng.choice(
                (": a comment", ":", "id: 7", "event: message", "unknown: é", "retry")
            )
            lines.insert(self.rng.randrange(len(lines) + 1), beside)
        return self.end.join([*lines, "", ""])

    def _parts(self, data: str) -> list[str]:
        if self.rng.random() < 0.7:
            return [data]
        # A line may end wherever JSON takes whitespace: here, around the first and the last brace.
        return [data[0], *([""] if self.rng.random() < 0.3 else []), data[1:-1], data[-1]]

    def stream(self) -> list[str]:
        """All events of one answer, the usage among them."""
        role = self.choice('{"role":"assistant","content":""}')
        events = [self.event(self.chunk(role))]
        for _ in range(self.rng.randrange(1, 8)):
            events.append(self.event(self.chunk(self.choice(self.delta()))))
            if self.rng.random() < 0.2:
                events.append(
                    f": {self.character()}".replace("\n", "").replace("\r", "") + self.end * 2
                )
        events.append(
            self.event(self.chunk(self.choice("{}", self.rng.choice(('"stop"', '"tool_calls"')))))
        )
        if self.rng.random() < 0.8:
            count = self.object(
                [
                    ('"prompt_tokens"', "7"),
                    ('"completion_tokens"', "3"),
                    (self.string(), self.value()),
                ]
            )
            events.append(self.event(self.chunk(self.array([]), ('"usage"', count))))
        return [*events, f"data: [DONE]{self.end * 2}"]


def data_of(event: str, end: str) -> str | None:
    """The text of an event's data lines."""
    values = [line[5:].removeprefix(" ") for line in event.split(end) if line.startswith("data:")]
    return "\n".join(values) if values else None


def shape_of(event: str, end: str) -> list[str]:
    """What must not change in an event: its lines in their order, with a hole for the model."""
    data = data_of(event, end)
    if data is None or data == "[DONE]":
        return event.split(end)
    parts = iter(with_holes(data, "model").split("\n"))
    lines = []
    for line in event.split(end):
        if line.startswith("data:"):
            lines.append(("data: " if line.startswith("data: ") else "data:") + next(parts))
        else:
            lines.append(line)
    return lines


def is_usage(event: str, end: str) -> bool:
    data = data_of(event, end)
    if data is None or data == "[DONE]":
        return False
    found = json.loads(data, parse_int=str, parse_float=str)
    return found["choices"] == [] and "usage" in found


def check_stream(case: Case, events: list[str], end: str, got: str) -> None:
    """The client got these events, without the usage unless it asked, under its own model name."""
    wanted = [event for event in events if case.asks_usage_itself or not is_usage(event, end)]
    assert got.endswith(end * 2)
    arrived = [event + end * 2 for event in got.removesuffix(end * 2).split(end * 2)]
    assert [shape_of(event, end) for event in arrived] == [shape_of(event, end) for event in wanted]
    for event in arrived:
        data = data_of(event, end)
        if data not in (None, "[DONE]"):
            assert json.loads(value_of(data, "model") or json.dumps(case.model)) == case.model


def test_a_stream_reaches_the_client_as_it_came(house: House) -> None:
    """Of 60 odd streams each event arrives as it came, but for model and a usage not asked for."""
    streams = 0
    seen = {"asked": 0, "stripped": 0, "crlf": 0, "multi-line": 0, "comment": 0, "tools": 0}
    for seed in range(STREAMS):
        case = a_request(40_000 + seed, streams=True)
        spelling = StreamSpelling(seed)
        events, end = spelling.stream(), spelling.end
        whole = "".join(events)
        pieces = cut(whole.encode(), spelling.rng)
        got = house.ask(case, pieces, b"text/event-stream").decode()
        check_stream(case, events, end, got)
        check_request(case, house.last_sent())
        has_usage = any(is_usage(event, end) for event in events)
        seen["asked"] += has_usage and case.asks_usage_itself
        seen["stripped"] += has_usage and not case.asks_usage_itself
        seen["crlf"] += end == "\r\n"
        seen["multi-line"] += any(event.count("data:") > 1 for event in events)
        seen["comment"] += any(event.startswith(":") for event in events)
        seen["tools"] += 'tool_calls":' in whole.replace(" ", "").replace("\t", "")
        streams += 1
    assert streams == STREAMS
    assert min(seen.values()) >= 5, seen


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_stream_in_single_bytes_is_the_same(house: House, end: str) -> None:
    """Whatever ends its lines, a stream that comes byte by byte passes to its last byte."""
    case = Case(
        "chat/completions", '{"model":"chat","messages":[],"stream":true}', "chat", False, True
    )
    chunk = (
        '{"choices":[{"index":0,"delta":{"role":"assistant","content":"é"},'
        '"finish_reason":"stop"}],"object":"chat.completion.chunk","model":"chat"}'
    )
    usage = '{"choices":[],"usage":{"prompt_tokens":1},"model":"chat"}'
    kept = [f"data: {chunk}{end * 2}", f": note{end * 2}", f"data: [DONE]{end * 2}"]
    sent = "".join([*kept[:2], f"data: {usage}{end * 2}", kept[2]]).encode()
    got = house.ask(case, [bytes([byte]) for byte in sent], b"text/event-stream")
    assert got == "".join(kept).encode()


def test_a_bare_data_line_is_a_line_of_data(house: House) -> None:
    """``data`` without a colon is an empty line of data: renaming moves nothing around it."""
    case = Case(
        "chat/completions", '{"model":"chat","messages":[],"stream":true}', "chat", False, True
    )
    choice = '{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":"stop"}'
    front, back = '{"model":', f"{CHAT_CHUNK}[{choice}]}}"
    done = "data: [DONE]\n\n"
    sent = f'data: {front}"up",\ndata\ndata: {back}\n\n{done}'
    got = house.ask(case, [sent.encode()], b"text/event-stream").decode()
    assert got == f'data: {front}"chat",\ndata\ndata: {back}\n\n{done}'
