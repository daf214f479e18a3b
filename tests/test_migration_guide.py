"""The migration guide, followed: commands and code in their order, in an application's folder.

A ``text`` block is what the block above it prints; … stands for anything.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from proxy_api import load_settings
from proxy_core import CHAT, HttpRequest, create_provider, errors
from proxy_core._http_httpx2 import _translated
from proxy_core.testing import FakeHttp

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "migration_guide.md").read_text()
RANGE = re.compile(r"'?(proxy-\w+)(>=[\d.]+,<[\d.]+)")


class Block(NamedTuple):
    """A block of code, and what it prints; None where the guide doesn't say."""

    language: str
    code: str
    prints: str | None


def read(page: str) -> list[Block]:
    """List the blocks of code of a page, each with the text that follows it."""
    found: list[Block] = []
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if language == "text":
            found[-1] = found[-1]._replace(prints=code)
        else:
            found.append(Block(language, code, None))
    return found


BLOCKS = read(GUIDE)
PYTHON = [block for block in BLOCKS if block.language == "python"]


def says(printed: str, told: str) -> bool:
    """Whether that was printed, but for what the guide leaves open."""
    pattern = ".*".join(re.escape(part) for part in told.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def test_the_comparison_sees_a_difference() -> None:
    """What is compared with the guide's text can differ from it."""
    assert says("a 12 b\n", "a … b\n")
    assert not says("a 12 c", "a … b")
    assert not says("x a 12 b", "a … b")


def test_every_block_is_of_a_kind_that_is_run() -> None:
    """There is no block that the tests below pass over."""
    assert {block.language for block in BLOCKS} == {"sh", "python", "yaml"}
    assert len(BLOCKS) > 15
    assert [block.language for block in BLOCKS].count("yaml") == 1


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.code.strip().splitlines()[-1])
def test_the_code_works_by_itself(block: Block, tmp_path: Path) -> None:
    """Each Python block runs alone, without a warning, and prints what the guide shows."""
    command = [sys.executable, "-W", "error", "-c", block.code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert says(done.stdout, block.prints or "")


def test_the_configuration_is_in_order(tmp_path: Path) -> None:
    """The YAML block has no problem, and no setting that this version doesn't act on."""
    file = tmp_path / "config.yaml"
    file.write_text(next(block.code for block in BLOCKS if block.language == "yaml"))
    settings = load_settings(file, environ={"OPENAI_API_KEY": "sk-x", "SHOP_KEY": "shop-key"})
    assert settings.not_in_force() == ()


def test_the_ranges_are_those_between_the_packages() -> None:
    """What the guide writes into requirements.txt is what the meta-package asks for."""
    extras = tomllib.loads((ROOT / "packages/pyproject.toml").read_text())["tool"]["hatch"][
        "metadata"
    ]["hooks"]["custom"]["optional-dependencies"]
    told = {match[1]: match[2] for match in RANGE.finditer(GUIDE)}
    assert told == {match[1]: match[2] for line in extras["all"] if (match := RANGE.match(line))}


def test_every_link_leads_somewhere() -> None:
    """Relative links name files of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", GUIDE)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


ROWS = re.findall(r"^\| (`.*) \| `(\w+)`[^|]* \|$", GUIDE, re.MULTILINE)
EXCEPTIONS = [(n, ours) for theirs, ours in ROWS for n in re.findall(r"`(\w+)`(?! \d)", theirs)]
STATUSES = [
    (int(number), ours)
    for theirs, ours in ROWS
    if "HTTPStatusError" in theirs
    for number in re.findall(r"\d{3}", theirs)
]


def test_the_table_of_errors_was_read() -> None:
    """The rows below come from the table."""
    assert len(EXCEPTIONS) >= 8
    assert {429, 401, 404, 400, 599} <= {number for number, _ in STATUSES}


@pytest.mark.parametrize(("theirs", "ours"), EXCEPTIONS)
def test_an_engines_exception_becomes_ours(theirs: str, ours: str) -> None:
    """What httpx would have raised comes out as the table says."""
    with pytest.raises(getattr(errors, ours)), _translated("first_byte", ours="total"):
        raise getattr(httpx2, theirs)("no")


@pytest.mark.parametrize(("status", "ours"), STATUSES)
def test_a_status_becomes_our_error(status: int, ours: str) -> None:
    """What `raise_for_status` would have raised comes out as the table says."""

    def answer(_: HttpRequest) -> tuple[int, list[tuple[bytes, bytes]], list[bytes]]:
        return status, [(b"content-type", b"application/json")], [b'{"error":{"message":"no"}}']

    async def ask() -> None:
        provider = create_provider("vllm", base_url="http://127.0.0.1:1/v1", http=FakeHttp(answer))
        call = CHAT.read(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')
        async with provider.send(call, model="m"):
            pass

    with pytest.raises(errors.UpstreamError) as raised:
        asyncio.run(ask())
    assert type(raised.value).__name__ == ours


MARK = "=== the next block ==="


def script() -> str:
    """Return the guide as one shell script, since its blocks share jobs and variables."""
    lines = ["set -euo pipefail"]
    for number, block in enumerate(BLOCKS):
        lines.append(f"echo '{MARK}'")
        if block.language == "sh":
            lines.append(block.code)
        elif block.language == "python":
            Path(f"block-{number}.py").write_text(block.code)
            lines.append(f".venv/bin/python -W error block-{number}.py 2>block-{number}.log")
        else:
            Path("config.yaml").write_text(block.code)
    return "\n".join(lines)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_the_guide_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an empty environment, block after block, with no more installed than its step says."""
    monkeypatch.chdir(tmp_path)
    Path("requirements.txt").touch()
    port = free_port()
    person = {"NAME": "A Person", "EMAIL": "a@example.org"}
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        **{f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in person.items()},
        "LLM_PROXY": str(ROOT),
        "LLM_PROXY_SERVER__PORT": str(port),
        "LLM_PROXY_URL": f"http://127.0.0.1:{port}",
    }
    for command in (
        "git init --quiet",
        "git add requirements.txt",
        "git commit --quiet --message begin",
    ):
        subprocess.run(command.split(), check=True, env=env)
    bash = subprocess.run(
        ["bash", "-c", script()],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert bash.returncode == 0, bash.stdout
    printed = bash.stdout.split(f"{MARK}\n")[1:]
    assert len(printed) == len(BLOCKS)
    for block, text in zip(BLOCKS, printed, strict=True):
        if block.prints is not None:
            assert says(text, block.prints), f"{block.code}\n{text}"
