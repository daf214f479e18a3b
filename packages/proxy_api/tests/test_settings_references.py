"""Values that live elsewhere: the environment, files, systemd's credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy_api._references import resolve
from proxy_api._units import parse_duration, parse_size

ENVIRON = {"A": "1", "EMPTY": "", "NESTED": "${A}"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "1"),
        ("x-${A}-${A}", "x-1-1"),
        ("${B:-2}", "2"),
        ("${EMPTY:-2}", "2"),
        ("${A:-2}", "1"),
        ("${B:-}", ""),
        ("${B:-a:-b}", "a:-b"),
        ("${EMPTY}", ""),
        ("$${A}", "${A}"),
        ("$A costs $5", "$A costs $5"),
        ("${NESTED}", "${A}"),
        ("file:/not/a/secret/field", "file:/not/a/secret/field"),
    ],
)
def test_references_in_texts(text: str, value: str) -> None:
    """``${NAME}`` and ``${NAME:-default}`` are replaced once; what comes out isn't read again."""
    resolved = resolve({"x": [text]}, ENVIRON)
    assert (resolved.data, resolved.problems) == ({"x": [value]}, [])


@pytest.mark.parametrize("text", ["${B}", "${A", "${}", "${1A}", "${A-2}", "a${"])
def test_references_that_lead_nowhere(text: str) -> None:
    """A missing variable and a reference that can't be read are told with the setting's path."""
    resolved = resolve({"x": [0, text]}, ENVIRON)
    assert [problem.path for problem in resolved.problems] == ["x[1]"]
    assert resolved.problems[0].hint


def test_names_are_left_alone() -> None:
    """Only values are replaced, and only texts."""
    data: Any = {"${A}": 1, "b": None, "c": 1.5}
    assert resolve(data, ENVIRON).data == data


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    """``file:`` reads a secret without the newline at its end; its path may use the environment."""
    (tmp_path / "key").write_text("s3cret\n")
    data = {"keys": [{"key": "file:${DIR}/key"}]}
    resolved = resolve(data, {"DIR": str(tmp_path)})
    assert resolved.data == {"keys": [{"key": "s3cret"}]}
    assert resolved.borrowed == {("keys", 0, "key")}


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"", "empty"), (b"\n", "empty"), (b"\xff", "UTF-8")],
)
def test_a_file_that_holds_no_secret(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A file that is missing, empty or no text is told by its name."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    (problem,) = resolve({"providers": {"a": {"api_keys": [f"file:{path}"]}}}, {}).problems
    assert problem.path == "providers.a.api_keys[0]"
    assert str(path) in problem.message
    assert said in problem.message


def test_file_paths_are_absolute() -> None:
    """A secret's file doesn't depend on where the proxy was started."""
    (problem,) = resolve({"redis": "file:key"}, {}).problems
    assert "absolute" in problem.message


def test_a_secret_comes_from_a_credential(tmp_path: Path) -> None:
    """``credential:NAME`` is the file of that name in $CREDENTIALS_DIRECTORY."""
    (tmp_path / "openai").write_text("sk-1")
    data = {"providers": {"a": {"api_key": "credential:openai"}}}
    resolved = resolve(data, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert resolved.data["providers"]["a"]["api_key"] == "sk-1"


def test_a_folder_of_credentials(tmp_path: Path) -> None:
    """systemd prefixes what it loads from a folder: NAME is found as proxy_NAME too, second."""
    (tmp_path / "proxy_openai").write_text("sk-of-the-folder\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    data = {"providers": {"a": {"api_key": "credential:openai"}}}
    assert resolve(data, environ).data["providers"]["a"]["api_key"] == "sk-of-the-folder"
    (tmp_path / "openai").write_text("sk-by-its-name\n")
    assert resolve(data, environ).data["providers"]["a"]["api_key"] == "sk-by-its-name"


@pytest.mark.parametrize(
    ("name", "directory", "said"),
    [
        ("nope", True, "No such file"),
        ("openai", False, "CREDENTIALS_DIRECTORY is not set"),
        ("../openai", True, "not a credential's name"),
        ("a/b", True, "not a credential's name"),
        ("..", True, "not a credential's name"),
        ("", True, "not a credential's name"),
    ],
)
def test_credentials_that_can_not_be_had(
    tmp_path: Path, name: str, directory: bool, said: str
) -> None:
    """A credential that is missing is told by its name; a name never leads out of the directory."""
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)} if directory else {}
    (problem,) = resolve({"keys": [{"key": f"credential:{name}"}]}, environ).problems
    assert problem.path == "keys[0].key"
    assert said in problem.message


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("300s", 300),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("1d", 86400),
        (300, 300),
        (0.5, 0.5),
        ("300", 300),
        (" 2s ", 2),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    """Durations are read in the forms that the error shows."""
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "s", "5 m", "-5s", "5x", "1e3", True, None, -1, [], "٣s"])
def test_what_is_no_duration(written: object) -> None:
    """Anything else is refused with the accepted forms."""
    with pytest.raises(ValueError, match=r"30s, 5m, 1h30m"):
        parse_duration(written)


@pytest.mark.parametrize("written", [float("nan"), float("inf"), "9" * 400])
def test_endless_durations(written: object) -> None:
    """A duration has an end."""
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("32MB", 32_000_000),
        ("64MiB", 67_108_864),
        ("1kb", 1000),
        ("1.5KiB", 1536),
        ("2 GB", 2 * 10**9),
        ("10B", 10),
        (1024, 1024),
        ("1024", 1024),
    ],
)
def test_sizes(written: object, count: int) -> None:
    """MB is a power of ten, MiB one of two, a plain number is bytes."""
    assert parse_size(written) == count


@pytest.mark.parametrize("written", ["", "MB", "-1", "1TB", "1.5", True, None, -1, 1.5])
def test_what_is_no_size(written: object) -> None:
    """Anything else is refused with the accepted forms."""
    with pytest.raises(ValueError, match=r"32MB or 64MiB"):
        parse_size(written)
