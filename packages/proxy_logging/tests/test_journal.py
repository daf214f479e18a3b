"""Under systemd: the journal's native protocol, read with a parser of the specification's own."""

from __future__ import annotations

import array
import fcntl
import gc
import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from proxy_logging import LogObserver, RequestFinished, StructuredLogger, _journal, bound_request
from proxy_logging._configure import StdlibHandler, use
from proxy_logging._journal import field_name, fields
from proxy_logging._output import JsonLine, Output

LEVELS = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}
ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def parse(entry: bytes) -> list[tuple[str, str]]:
    """A field is `NAME=value\\n`, or `NAME\\n`, 8 bytes of length (little endian), value, `\\n`."""
    found = []
    while entry:
        end = entry.index(b"\n")
        name, equals, value = entry[:end].partition(b"=")
        entry = entry[end + 1 :]
        if not equals:
            size = int.from_bytes(entry[:8], "little")
            value, entry = entry[8 : 8 + size], entry[8 + size :]
            assert entry[:1] == b"\n"
            entry = entry[1:]
        assert NAME.fullmatch(name.decode()), name
        found.append((name.decode(), value.decode()))
    return found


class Reader:
    """A socket as the journal has it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def raw(self) -> tuple[bytes, list[int]]:
        """The next datagram and its file descriptors."""
        size = array.array("i").itemsize
        data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(size))
        files = array.array("i")
        for _, _, rights in ancillary:
            files.frombytes(rights)
        return data, list(files)

    def entry(self) -> dict[str, str]:
        """The next entry; it came without files, and no field came twice."""
        data, files = self.raw()
        assert files == []
        found = parse(data)
        assert len(dict(found)) == len(found)
        return dict(found)

    def entries(self) -> Iterator[dict[str, str]]:
        while True:
            try:
                yield self.entry()
            except BlockingIOError:
                return


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def journal(folder: Path) -> Iterator[Reader]:
    reader = Reader(folder / "s")
    yield reader
    reader.close()


@pytest.fixture
def _stderr_is_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")


under_systemd = pytest.mark.usefixtures("_stderr_is_it")


@under_systemd
class TestEntry:
    @pytest.fixture
    def logger(self, journal: Reader) -> StructuredLogger:
        use(Output("json", "debug", journal=journal.path))
        return StructuredLogger("llm-proxy")

    def test_the_message_is_the_line_of_json(self, journal: Reader) -> None:
        """What `journalctl -o cat` shows is byte for byte what a plain stream gets."""
        plain = io.StringIO()
        given = {
            "port": 4000,
            "note": "two\nlines",
            "names": ["a"],
            "api_key": "x",
            "uml": "ü\u2028",
        }
        for output in (
            Output("json", stream=plain, clock=lambda: 1.5),
            Output("json", clock=lambda: 1.5, journal=journal.path),
        ):
            use(output)
            StructuredLogger("s").info("started", **given)
        assert journal.entry()["MESSAGE"] + "\n" == plain.getvalue()

    @pytest.mark.parametrize("level", LEVELS)
    def test_the_priority_follows_the_level(
        self, journal: Reader, logger: StructuredLogger, level: str
    ) -> None:
        """`journalctl -p warning` finds what is a warning or worse."""
        getattr(logger, level)("x")
        entry = journal.entry()
        assert (entry["PRIORITY"], entry["LEVEL"]) == (LEVELS[level], level)

    def test_scalars_are_fields(self, journal: Reader, logger: StructuredLogger) -> None:
        """Texts, numbers and truth values can be asked for; the rest is in the line only."""
        given = {
            "a": "ü",
            "b": 1,
            "c": 0.25,
            "d": True,
            "e": None,
            "f": [1],
            "g": {"h": 1},
            "i": "",
        }
        with bound_request("req_1", key="ci"):
            logger.info("request", **given)
        entry = journal.entry()
        line = json.loads(entry.pop("MESSAGE"))
        assert line.items() >= given.items()
        assert entry == {
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "llm-proxy",
            "TIMESTAMP": line["timestamp"],
            "LEVEL": "info",
            "SERVICE": "llm-proxy",
            "EVENT": "request",
            "REQUEST_ID": "req_1",
            "KEY": "ci",
            "A": "ü",
            "B": "1",
            "C": "0.25",
            "D": "true",
            "I": "",
        }

    def test_a_value_of_lines_has_its_length_before_it(
        self, journal: Reader, logger: StructuredLogger
    ) -> None:
        """A line's end in a value begins no field of its own."""
        logger.info("x", note="a\nPRIORITY=0\nÜ", **{"…": "no name\nis left"})
        data, _ = journal.raw()
        assert b"\nNOTE\n\x0f\0\0\0\0\0\0\0a\nPRIORITY=0\n\xc3\x9c\n" in data
        assert [value for name, value in parse(data) if name == "PRIORITY"] == ["6"]

    def test_a_traceback_is_a_field(self, journal: Reader, logger: StructuredLogger) -> None:
        """It keeps its lines, which the line of JSON has escaped."""
        try:
            raise ValueError("wrong")
        except ValueError:
            logger.exception("failed")
        trace = journal.entry()["EXCEPTION"]
        assert trace.startswith("Traceback (most recent call last):\n")
        assert trace.endswith("\nValueError: wrong")

    async def test_a_finished_request_is_an_entry_at_once(self, journal: Reader) -> None:
        """Each is a datagram of its own: nothing is gained by waiting, so none waits."""
        use(Output("json", journal=journal.path, hold=60.0))
        observe = LogObserver(StructuredLogger("llm-proxy"))
        for note in ("gpt", "two\nlines"):
            observe(
                RequestFinished(
                    request_id="req_1",
                    surface="chat",
                    status=200,
                    outcome="ok",
                    duration=0.25,
                    model=note,
                    stream=True,
                )
            )
            entry = journal.entry()
            line = json.loads(entry["MESSAGE"])
            assert (line["model"], entry["MODEL"]) == (note, note)
            assert (entry["STATUS"], entry["STREAM"], entry["DURATION_MS"]) == (
                "200",
                "true",
                "250.0",
            )
            assert entry["TIMESTAMP"] == line["timestamp"]
            assert len(entry) == len(line) + 3

    def test_no_secret_becomes_a_field(self, journal: Reader, logger: StructuredLogger) -> None:
        """Names, values and exceptions are cleaned, in the line and beside it."""
        given = {
            "api_key": "CANARY-plain",
            "note": "Bearer CANARYCANARY",
            "sk-lp-CANARYCANARY": "x",
            "url": "https://me:CANARY@host/",
            "message": "bad key sk-ant-api03-CANARY",
        }
        try:
            raise ValueError("password=CANARY")
        except ValueError:
            logger.exception("sk-proj-CANARY", **given)
        data, _ = journal.raw()
        assert b"CANARY" not in data
        assert dict(parse(data))["API_KEY"] == "***"

    def test_more_fields_than_the_journal_takes_cost_no_line(
        self, journal: Reader, logger: StructuredLogger
    ) -> None:
        """It drops entries of more than 1,024: the line is whole, not every field is sent."""
        logger.info("x", **{f"field_{number}": number for number in range(3_000)})
        entry = journal.entry()
        assert json.loads(entry["MESSAGE"])["field_2999"] == 2_999
        assert len(entry) < 1_024
        assert entry["FIELD_0"] == "0"

    def test_every_kind_of_logger_is_heard(self, journal: Reader) -> None:
        """The standard library's loggers and structlog's own have levels and fields as well."""
        output = Output("json", "info", journal=journal.path)
        use(output)
        structlog.get_logger().warning("theirs", request_id="req_2")
        record = {"name": "uvicorn.error", "levelno": logging.ERROR, "msg": "down"}
        StdlibHandler(output, "llm-proxy").emit(logging.makeLogRecord(record))
        theirs, stdlib = journal.entries()
        assert (theirs["PRIORITY"], theirs["REQUEST_ID"]) == ("4", "req_2")
        assert "SYSLOG_IDENTIFIER" not in theirs
        assert (stdlib["PRIORITY"], stdlib["LOGGER"]) == ("3", "uvicorn.error")
        assert stdlib["SYSLOG_IDENTIFIER"] == "llm-proxy"

    def test_a_disabled_level_sends_nothing(self, journal: Reader) -> None:
        """What is below the level stays out of the journal."""
        use(Output("json", "warning", journal=journal.path))
        StructuredLogger("s").info("x")
        structlog.get_logger().info("x")
        assert list(journal.entries()) == []


class TestNames:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("request_id", "REQUEST_ID"),
            ("first-token.ms", "FIRST_TOKEN_MS"),
            ("_private", "PRIVATE"),
            ("__", ""),
            ("ü", ""),
            ("…", ""),
            ("", ""),
            ("1st", "FIELD_1ST"),
            ("_1st", "FIELD_1ST"),
            ("message", "FIELD_MESSAGE"),
            ("_message", "FIELD_MESSAGE"),
            ("message\n", "MESSAGE_"),
            ("messages", "MESSAGES"),
            ("message_id", "FIELD_MESSAGE_ID"),
            ("priority", "FIELD_PRIORITY"),
            ("errno", "FIELD_ERRNO"),
            ("code", "CODE"),
            ("code_file", "FIELD_CODE_FILE"),
            ("syslog_identifier", "FIELD_SYSLOG_IDENTIFIER"),
            ("object_pid", "FIELD_OBJECT_PID"),
            ("unit", "FIELD_UNIT"),
            ("a" * 100, "A" * 64),
        ],
    )
    def test_a_name_is_made_fit(self, name: str, expected: str) -> None:
        """Names are upper case, begin with a letter, and leave systemd's own alone."""
        assert field_name(name) == expected

    @given(st.text(st.characters(codec="utf-8")) | st.text("mesagMESAG_1", max_size=9))
    def test_any_name_is_valid_or_none(self, name: str) -> None:
        """Whatever a field is called, the journal takes it, and it is none of systemd's own."""
        made = field_name(name)
        assert made == "" or NAME.fullmatch(made)
        assert made not in ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "ERRNO")
        assert not made.startswith(("CODE_", "SYSLOG_", "OBJECT_"))

    @given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.booleans()))
    def test_any_line_can_be_read_back(self, given: dict[str, Any]) -> None:
        """The fields are the line's texts, by a parser that knows only the specification."""
        line = JsonLine()(None, "info", given)
        expected = [
            (field_name(name), value if isinstance(value, str) else json.dumps(value))
            for name, value in json.loads(line).items()
            if field_name(name) and value is not None
        ]
        found = [field for field in parse(fields(line)) if field[0] != "SYSLOG_IDENTIFIER"]
        assert sorted(found) == sorted(expected)


@under_systemd
class TestNothingIsLost:
    def test_a_full_socket_does_not_wait(
        self, journal: Reader, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """While the journal doesn't read, lines go to standard error, once, with a priority."""
        use(Output("json", journal=journal.path))
        logger = StructuredLogger("s")
        for number in range(2_000):
            logger.warning("x", number=number)
        sent = [int(entry["NUMBER"]) for entry in journal.entries()]
        text = capsys.readouterr().err
        assert text.count("\n") == text.count('<4>{"') > 0
        plain = [json.loads(line[3:])["number"] for line in text.splitlines()]
        assert sent
        assert sent + plain == list(range(2_000))
        logger.warning("after", number=2_000)
        assert journal.entry()["NUMBER"] == "2000"

    def test_a_socket_may_be_missing_and_come(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Without the journal's socket the line is on standard error; with it, in the journal."""
        use(Output("json", journal=str(folder / "s")))
        StructuredLogger("s").error("before")
        (line,) = capsys.readouterr().err.splitlines()
        assert (line[:3], json.loads(line[3:])["event"]) == ("<3>", "before")
        reader = Reader(folder / "s")
        StructuredLogger("s").error("after")
        assert reader.entry()["EVENT"] == "after"
        reader.close()
        StructuredLogger("s").critical("gone")
        assert capsys.readouterr().err.startswith("<2>{")

    @pytest.fixture
    def _small_buffer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """How large a datagram may be is the kernel's setting: here a few kilobytes."""
        monkeypatch.setattr(_journal, "_BUFFER", 4_096)

    @pytest.mark.usefixtures("_small_buffer")
    def test_a_line_too_large_for_a_datagram_goes_as_a_file(
        self, journal: Reader, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A line of 200 KB arrives whole: a datagram without data, with one sealed file."""
        use(Output("json", journal=journal.path))
        gc.collect()
        before = _open_files()
        parts = {f"part_{number}": "x" * 16_000 for number in range(13)}
        StructuredLogger("s").info("huge", **parts)
        data, (file,) = journal.raw()
        assert data == b""
        assert fcntl.fcntl(file, fcntl.F_GET_SEALS) == ALL_SEALS
        with os.fdopen(file, "rb") as opened:
            opened.seek(0)
            entry = dict(parse(opened.read()))
        assert len(entry["MESSAGE"]) > 200_000
        assert json.loads(entry["MESSAGE"]).items() >= parts.items()
        assert (entry["PRIORITY"], entry["PART_12"]) == ("6", "x" * 16_000)
        assert capsys.readouterr().err == ""
        assert _open_files() == before

    @pytest.mark.usefixtures("_small_buffer")
    def test_a_huge_line_without_memory_files_is_a_plain_one(
        self,
        journal: Reader,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Where no such file can be made or sent, the line is on standard error."""
        use(Output("json", journal=journal.path))
        monkeypatch.setattr(os, "memfd_create", _fails)
        StructuredLogger("s").info("huge", **{f"part_{n}": "x" * 16_000 for n in range(13)})
        (line,) = capsys.readouterr().err.splitlines()
        assert len(json.loads(line.removeprefix("<6>"))["part_12"]) == 16_000
        assert list(journal.entries()) == []

    def test_no_socket_at_all_leaves_the_priorities(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that may not make one writes its lines with their priority."""
        monkeypatch.setattr(socket, "socket", _fails)
        use(Output("json"))
        StructuredLogger("s").warning("x")
        (line,) = capsys.readouterr().err.splitlines()
        assert (line[:3], json.loads(line[3:])["event"]) == ("<4>", "x")

    def test_a_process_without_standard_error_goes_on(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither a socket nor a stream: the line is lost, and nothing raises."""
        use(Output("json", journal=str(folder / "none")))
        monkeypatch.setattr(sys, "stderr", None)
        StructuredLogger("s").error("x")

    def test_each_configuration_closes_its_socket(self, journal: Reader) -> None:
        """A process that configures its log a hundred times has no more files open than once."""
        use(Output("json", journal=journal.path))
        gc.collect()
        before = _open_files()
        for _ in range(100):
            use(Output("json", journal=journal.path))
        gc.collect()
        assert _open_files() == before


def _fails(*_: object, **__: object) -> Any:
    raise OSError(24, "Too many open files")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestConsole:
    @under_systemd
    def test_each_line_has_its_priority(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Plain text keeps its form without colours; a traceback's lines have the priority too."""
        use(Output("console"))
        StructuredLogger("s").info("started", port=4000)
        try:
            raise ValueError("wrong")
        except ValueError:
            StructuredLogger("s").exception("failed")
        first, *rest = capsys.readouterr().err.splitlines()
        assert re.fullmatch(r"<6>\d\d:\d\d:\d\d\.\d{3} info     s started port=4000", first)
        assert rest[1] == "<3>    Traceback (most recent call last):"
        assert rest[-1] == "<3>    ValueError: wrong"
        assert all(line.startswith("<3>") for line in rest)


class TestWhen:
    @under_systemd
    def test_auto_is_json_there(self, journal: Reader) -> None:
        """The journal is no terminal: the form that chooses itself has fields."""
        use(Output(journal=journal.path))
        StructuredLogger("s").info("x")
        assert journal.entry()["EVENT"] == "x"

    @under_systemd
    @pytest.mark.parametrize("format", ["json", "console"])
    def test_a_given_stream_is_taken_at_its_word(self, journal: Reader, format: Any) -> None:
        """Who names a stream gets plain lines on it."""
        stream = io.StringIO()
        use(Output(format, stream=stream, journal=journal.path))
        StructuredLogger("s").info("x")
        assert not stream.getvalue().startswith("<")
        assert stream.getvalue().count("\n") == 1
        assert list(journal.entries()) == []

    @pytest.mark.parametrize("value", [None, "", "1:2", "x", ":"])
    def test_another_standard_error_is_a_plain_one(
        self,
        journal: Reader,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        value: str | None,
    ) -> None:
        """Without systemd, or redirected under it, the lines are on standard error as they are."""
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        if value is not None:
            monkeypatch.setenv("JOURNAL_STREAM", value)
        use(Output("json", journal=journal.path))
        StructuredLogger("s").info("x")
        assert json.loads(capsys.readouterr().err)["event"] == "x"
        assert list(journal.entries()) == []

    def test_a_closed_standard_error_is_no_journal(self, journal: Reader) -> None:
        """A daemon that closed its descriptors can still make an output, and goes on."""
        program = f"import os; os.close(2)\n{_PROGRAM}print('went on')"
        assert _process(program, journal.path) == ("", "went on\n")
        assert list(journal.entries()) == []

    @pytest.mark.parametrize("redirected", [False, True])
    def test_a_process_looks_at_its_own_standard_error(
        self, journal: Reader, redirected: bool
    ) -> None:
        """The variable is inherited, the stream may not be: a redirected child writes there."""
        stream, stdout = _process(_PROGRAM, journal.path, redirected=redirected)
        entries = [entry["EVENT"] for entry in journal.entries()]
        written = [json.loads(line)["event"] for line in stdout.splitlines()]
        assert (entries, written) == (([], ["x"]) if redirected else (["x"], []))
        assert stream == ""


_PROGRAM = """
import sys
from proxy_logging import StructuredLogger
from proxy_logging._configure import use
from proxy_logging._output import Output
use(Output("json", journal=sys.argv[1]))
StructuredLogger("s").info("x")
"""


def _process(program: str, path: str, *, redirected: bool = False) -> tuple[str, str]:
    """Run it with a pipe that is said to be the journal; what it wrote there, and to stdout."""
    reading, writing = os.pipe()
    found = os.fstat(writing)
    environ = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    with os.fdopen(reading) as pipe:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, path],
            stderr=subprocess.STDOUT if redirected else writing,
            stdout=subprocess.PIPE,
            env=environ,
            text=True,
            check=True,
        )
        os.close(writing)
        return pipe.read(), done.stdout
