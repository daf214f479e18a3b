"""StructuredLogger and configure_logging: the shape of a line, and that a line costs no request."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from proxy_logging import StructuredLogger, configure_logging
from proxy_logging._configure import StdlibHandler
from proxy_logging._output import Complete, ConsoleLine, JsonLine, Output, Timestamps

WEIRD = "a\nb\rc\x0bd\x0ce\x1cf\x85g\u2028h\u2029i\x00j\x1b[31mk\x9bl\x7fm\u202en"


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    return stream


class Stubborn:
    """A value that can't even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class TestLine:
    def test_has_the_four_fields_first_then_what_is_bound_and_given(
        self, stream: io.StringIO
    ) -> None:
        """A line reads timestamp, level, service, event, bound fields, given fields."""
        StructuredLogger("proxy-service").bind(a=1).info("started", port=4000)
        (line,) = lines_of(stream)
        assert list(line) == ["timestamp", "level", "service", "event", "a", "port"]
        assert line["level"] == "info"
        assert line["service"] == "proxy-service"
        assert line["event"] == "started"
        assert (line["a"], line["port"]) == (1, 4000)

    def test_timestamp_is_rfc_3339_in_utc(self, stream: io.StringIO) -> None:
        """The timestamp is the present time in UTC, with milliseconds and a Z."""
        StructuredLogger("s").info("x")
        text = lines_of(stream)[0]["timestamp"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
        assert abs((datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()) < 5

    def test_timestamps_follow_the_clock(self) -> None:
        """A new second is not shown with the old one's text, even when the clock goes back."""
        times = iter([0.0, 0.25, 1.999, 2.0, 0.5])
        timestamps = Timestamps(lambda: next(times))
        assert [timestamps()[17:] for _ in range(5)] == [
            "00.000Z",
            "00.250Z",
            "01.999Z",
            "02.000Z",
            "00.500Z",
        ]

    @pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
    def test_level_is_the_methods_name(self, level: str) -> None:
        """Each method writes its own level."""
        stream = io.StringIO()
        configure_logging("json", "debug", stream)
        getattr(StructuredLogger("s"), level)("x")
        assert lines_of(stream)[0]["level"] == level

    def test_exception_has_the_traceback(self, stream: io.StringIO) -> None:
        """`exception` is an error line with the traceback as one field."""
        try:
            raise ValueError("wrong\nthing")
        except ValueError:
            StructuredLogger("s").exception("failed")
        (line,) = lines_of(stream)
        assert line["level"] == "error"
        assert line["exception"].startswith("Traceback (most recent call last)")
        assert line["exception"].endswith("ValueError: wrong\nthing")

    def test_exception_outside_a_handler_is_a_line(self, stream: io.StringIO) -> None:
        """`exception` without an exception, or with nonsense for one, still writes its line."""
        StructuredLogger("s").exception("one")
        StructuredLogger("s").error("two", exc_info=(1, 2, 3))
        assert [line["event"] for line in lines_of(stream)] == ["one", "two"]

    def test_bind_returns_a_new_logger(self, stream: io.StringIO) -> None:
        """Binding leaves the logger that it was called on as it was."""
        parent = StructuredLogger("s")
        child = parent.bind(a=1)
        parent.info("x")
        child.bind(a=2).info("x")
        child.info("x")
        assert [line.get("a") for line in lines_of(stream)] == [None, 2, 1]

    def test_no_field_name_is_forbidden(self, stream: io.StringIO) -> None:
        """A field called like a parameter or like the line's own is kept and harms nothing."""
        fields = {"event": 1, "self": 2, "level": 3, "timestamp": 4, "method_name": 5, "args": 6}
        StructuredLogger("s").info("x", **fields)
        StructuredLogger("s").bind(level="bound").info("y")
        first, second = lines_of(stream)
        assert (first["event"], first["level"]) == ("x", "info")
        assert (first["event_"], first["level_"], first["timestamp_"]) == (1, 3, 4)
        assert (first["self"], first["method_name"], first["args"]) == (2, 5, 6)
        assert (second["level"], second["level_"]) == ("info", "bound")


class TestOneLine:
    @pytest.mark.parametrize("where", ["event", "value", "name", "nested", "service"])
    def test_json_is_one_line_whatever_is_in_it(self, stream: io.StringIO, where: str) -> None:
        """Nothing in a value is taken for a line's end or a terminal's command, nothing is lost."""
        logger = StructuredLogger(WEIRD if where == "service" else "s")
        fields: dict[str, dict[str, Any]] = {
            "value": {"a": WEIRD},
            "name": {WEIRD: 1},
            "nested": {"a": [{"b": WEIRD}]},
        }
        logger.info(WEIRD if where == "event" else "x", **fields.get(where, {}))
        text = stream.getvalue()
        assert text.isascii()
        assert len(text.splitlines()) == 1
        assert "\x7f" not in text
        assert WEIRD in _strings(lines_of(stream))

    def test_console_is_one_line_but_for_tracebacks_which_are_set_in(self) -> None:
        """No value starts a line in the console form; a traceback's lines begin with spaces."""
        stream = io.StringIO()
        configure_logging("console", "info", stream)
        logger = StructuredLogger("s")
        logger.info(WEIRD, value=WEIRD, nested=[WEIRD], **{WEIRD: 1})
        try:
            raise ValueError(f"x\n2026-01-01 info forged {WEIRD}")
        except ValueError:
            logger.exception("failed")
        first, second, *trace = stream.getvalue().splitlines()
        assert "info" in first
        assert "failed" in second
        assert trace
        assert all(line.startswith("    ") for line in trace)
        assert "\x1b" not in stream.getvalue()

    @given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.binary()))
    def test_any_fields_make_one_line_of_json(self, fields: dict[str, Any]) -> None:
        """Whatever text, number or bytes a line is given, it is one line that JSON can read."""
        complete = Complete(lambda: 0.0)("info", "x", {"service": "s"}, fields)
        line = JsonLine()(None, "info", complete)
        assert len((line + "\n").splitlines()) == 1
        assert json.loads(line)["event"] == "x"
        shown = ConsoleLine(colours=False)(None, "info", {**complete, "exception": None})
        assert len((shown + "\n").splitlines()) == 1


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


class TestNeverRaises:
    def test_unserialisable_values_are_shown_somehow(self, stream: io.StringIO) -> None:
        """A value that JSON doesn't know is a text; one that can't be shown is its type's name."""
        loop: list[object] = []
        loop.append(loop)
        deep: Any = 1
        for _ in range(50):
            deep = {"in": deep}
        StructuredLogger("s").info(
            "x",
            object=object(),
            stubborn=Stubborn(),
            loop=loop,
            deep=deep,
            wide=list(range(100_000)),
            surrogate="\ud800",
            huge=2**200,
            nan=float("nan"),
            when=datetime(2026, 1, 2, tzinfo=UTC),
            raw=b"\xff\x00",
            error=KeyError("k"),
            names={1: 2, None: 3},
        )
        (line,) = lines_of(stream)
        assert line["event"] == "x"
        assert line["stubborn"] == "<Stubborn>"
        assert line["when"] == "2026-01-02 00:00:00+00:00"
        assert line["error"] == "KeyError: 'k'"
        assert line["raw"] == "\\xff\x00"
        assert (line["surrogate"], line["nan"]) == ("\\ud800", None)
        assert int(line["huge"], 16) == 2**200
        assert (len(line["wide"]), line["wide"][-1]) == (101, "… (99900 more)")
        assert line["names"] == {"1": 2, "None": 3}
        assert len(stream.getvalue()) < 20_000

    @pytest.mark.parametrize(
        "fields", [{"a": "\ud800"}, {"\udfff": 1}, {"a": 2**200}, {"a": -(2**100_000)}]
    )
    def test_what_has_no_encoding_costs_only_itself(
        self, stream: io.StringIO, fields: dict[str, Any]
    ) -> None:
        """A lone surrogate or a huge integer is spelled out, the other fields stay as they are."""
        StructuredLogger("s").info("x", **fields, port=4000)
        StructuredLogger("s").info("\ud800", port=4000)
        assert [line["port"] for line in lines_of(stream)] == [4000, 4000]

    def test_the_console_form_has_a_text_for_them_too(self) -> None:
        """A lone surrogate and a huge integer cost neither the line nor what else is on it."""
        stream = io.StringIO()
        configure_logging("console", "info", stream)
        StructuredLogger("s").info("ü \ud800", a="ü\ud800", b=2**200, c=-(2**100_000), port=4000)
        text = stream.getvalue()
        assert f" s ü \\ud800 a=ü\\ud800 b={2**200:#x} c=-0x1" in text
        assert text.endswith(" port=4000\n")

    def test_a_long_text_is_cut(self, stream: io.StringIO) -> None:
        """A body of megabytes is not written; what is missing is said."""
        StructuredLogger("s").info("x", body="a" * 5_000_000)
        (line,) = lines_of(stream)
        assert len(line["body"]) < 17_000
        assert line["body"].endswith("(4983616 characters more)")

    @pytest.mark.parametrize("problem", [OSError(28, "No space left"), ValueError("closed")])
    def test_a_stream_that_fails_costs_the_line_only(self, problem: Exception) -> None:
        """A full disk or a closed file is not the request's fault."""

        class Broken(io.StringIO):
            def write(self, text: str) -> int:
                raise problem

        configure_logging("json", "info", Broken())
        StructuredLogger("s").info("x")

    def test_a_stream_that_knows_only_ascii_gets_escapes(self) -> None:
        """Text outside the stream's encoding is written out."""
        raw = io.BytesIO()
        configure_logging("json", "info", io.TextIOWrapper(raw, encoding="ascii"))
        StructuredLogger("s").info("ü")
        assert b"\\xfc" in raw.getvalue()

    def test_no_standard_error_is_no_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process without standard error logs nowhere and goes on."""
        configure_logging("json")
        monkeypatch.setattr(sys, "stderr", None)
        StructuredLogger("s").info("x")


class TestConfiguration:
    def test_nothing_configured_is_json_on_standard_error(self) -> None:
        """A logger in a process that configured nothing writes JSON to standard error only."""
        code = "from proxy_logging import StructuredLogger as L; L('s').info('x', a=1)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")
        line = json.loads(done.stderr)
        assert (line["event"], line["a"], line["service"]) == ("x", 1, "s")

    def test_a_terminal_gets_the_console_form(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`auto` on a terminal is for people: coloured, unless NO_COLOR is set."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.delenv("NO_COLOR", raising=False)
        coloured, plain = Terminal(), Terminal()
        configure_logging(stream=coloured)
        StructuredLogger("s").info("hello", a=1)
        monkeypatch.setenv("NO_COLOR", "1")
        configure_logging(stream=plain)
        StructuredLogger("s").info("hello", a=1)
        assert "\x1b[32m" in coloured.getvalue()
        assert re.fullmatch(r"[\d:.]{12} info +s hello a=1\n", plain.getvalue())

    def test_loggers_follow_a_later_configuration(self) -> None:
        """A logger that exists, and one that it bound, follow the newest configuration."""
        first, second = io.StringIO(), io.StringIO()
        logger = StructuredLogger("s")
        child = logger.bind(a=1)
        configure_logging("json", "info", first)
        logger.info("one")
        child.info("two")
        configure_logging("json", "error", second)
        child.info("three")
        child.error("four")
        assert [line["event"] for line in lines_of(first)] == ["one", "two"]
        assert [line["event"] for line in lines_of(second)] == ["four"]

    def test_a_disabled_level_looks_at_nothing(self, stream: io.StringIO) -> None:
        """Below the level not even the values are touched."""

        class Touchy:
            def __repr__(self) -> str:
                raise AssertionError("looked at")

        StructuredLogger("s").debug("x", a=Touchy())
        assert stream.getvalue() == ""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"format": "xml"}, "format is 'xml'; it must be one of auto, json, console"),
            ({"level": "loud"}, "level is 'loud'; it must be one of debug, info"),
        ],
    )
    def test_an_unknown_option_is_named(self, options: dict[str, Any], message: str) -> None:
        """A wrong option's error says the field, the value and the choice."""
        with pytest.raises(ValueError, match=re.escape(message)):
            configure_logging(**options)

    def test_structlogs_own_loggers_take_the_same_form(self, stream: io.StringIO) -> None:
        """`structlog.get_logger()` goes through the same processors, redaction included."""
        structlog.get_logger().info("x", a="sk-ant-canary-0000")
        (line,) = lines_of(stream)
        assert (line["event"], line["level"], line["a"]) == ("x", "info", "sk-ant-***")


class TestStandardLibrary:
    def test_records_take_the_same_form(self, stream: io.StringIO) -> None:
        """A record of the standard library is a line with its logger's name."""
        logging.getLogger("uvicorn.error").info("Started %s\nforged", "sk-ant-canary-0000")
        try:
            raise ValueError("boom")
        except ValueError:
            logging.getLogger("lib").exception("failed")
        first, second = lines_of(stream)
        assert first["event"] == "Started sk-ant-***\nforged"
        assert (first["service"], first["logger"]) == ("uvicorn", "uvicorn.error")
        assert first["level"] == "info"
        assert second["exception"].endswith("ValueError: boom")

    def test_a_process_may_have_one_service(self) -> None:
        """With a service named, the standard library's lines have it; their logger stays told."""
        stream = io.StringIO()
        configure_logging("json", stream=stream, service="llm-proxy")
        logging.getLogger("uvicorn.error").info("up")
        StructuredLogger("other").info("x")
        first, second = lines_of(stream)
        assert (first["service"], first["logger"]) == ("llm-proxy", "uvicorn.error")
        assert second["service"] == "other"

    def test_uvicorns_own_handlers_are_taken(self) -> None:
        """After uvicorn has set its handlers, configuring makes its lines ours, once each."""
        noise = io.StringIO()
        for name in ("uvicorn", "uvicorn.access"):
            logging.getLogger(name).addHandler(logging.StreamHandler(noise))
            logging.getLogger(name).propagate = False
        stream = io.StringIO()
        configure_logging("json", "info", stream)
        configure_logging("json", "info", stream)
        logging.getLogger("uvicorn.access").info('%s - "%s"', "127.0.0.1", "GET / HTTP/1.1")
        logging.getLogger("uvicorn").info("up")
        assert noise.getvalue() == ""
        assert [line["event"] for line in lines_of(stream)] == [
            '127.0.0.1 - "GET / HTTP/1.1"',
            "up",
        ]

    def test_http_clients_are_quiet_except_at_debug(self, stream: io.StringIO) -> None:
        """A client library's line per request is dropped, its warnings are not."""
        logging.getLogger("httpx2").info("HTTP Request: GET")
        logging.getLogger("httpx2").warning("odd")
        configure_logging("json", "debug", stream)
        logging.getLogger("httpx2").info("HTTP Request: GET")
        assert [line["event"] for line in lines_of(stream)] == ["odd", "HTTP Request: GET"]

    def test_a_wrong_record_is_a_line(self, stream: io.StringIO) -> None:
        """A message with too few arguments is written as it stands."""
        record = {"name": "lib", "levelno": logging.WARNING, "msg": "%s and %s", "args": ("one",)}
        StdlibHandler(Output("json", "info", stream)).emit(logging.makeLogRecord(record))
        assert lines_of(stream)[0]["event"] == "%s and %s"

    def test_other_handlers_stay(self) -> None:
        """A handler that isn't a plain stream's, such as a test's, keeps its place."""

        class Mine(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                return None

        mine = Mine()
        logging.getLogger().addHandler(mine)
        configure_logging("json", "info", io.StringIO())
        assert mine in logging.getLogger().handlers


def test_no_warning_is_given_by_logging(stream: io.StringIO) -> None:
    """Logging an exception or a request's fields warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StructuredLogger("s").error("x", exc_info=ValueError("y"))
    assert lines_of(stream)[0]["exception"] == "ValueError: y"
