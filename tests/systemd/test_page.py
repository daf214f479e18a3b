"""docs/operating.md in a booted box: its first lines lead to an answer, its files are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs/operating.md").read_text()

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def answer(box: Any) -> Iterator[str]:
    """What the page's first lines print, behind the installation; the service runs."""
    lines = PAGE.partition("## Try it")[2].partition("```sh\n")[2].partition("```")[0]
    install, rest = lines.replace("sudo ", "").split("\n", 1)
    assert install == "scripts/install --local-model"
    yield box.run("sh", "-ec", rest).stdout
    box.systemctl("stop", "llm-proxy")


def test_the_first_lines_lead_to_an_answer(answer: str) -> None:
    """After the installation, what a stranger types prints what a model says."""
    told = json.loads(answer[answer.index("{") :])
    assert told["choices"][0]["message"]["content"]


def test_files_belong_to_whom_the_page_says(box: Any, answer: str) -> None:
    """Each row of the table of files is true: path, owner, mode."""
    row = r"^\| `(/[^`]+)` \| `([\w-]+:[\w-]+)` \| (\w+) \|"
    told = re.findall(row, PAGE, re.MULTILINE)
    assert len(told) >= 12
    release = box.run("readlink", "-f", "/opt/llm-proxy/current").stdout.strip()
    for path, owner, mode in told:
        real = release if path.endswith("/VERSION") else path
        found = box.run("stat", "--format=%U:%G %a %F", real).stdout.strip()
        shape = "symbolic link" if mode == "link" else f"{owner} {mode} "
        assert found.startswith(owner), path
        assert shape in found, path
