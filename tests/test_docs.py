"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from proxy_core import provider_kinds, provider_row

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_providers_is_that_of_the_code() -> None:
    """Kinds, base URLs, dialects and keys in docs/providers.md are those of the rows."""
    table = (DOCS / "providers.md").read_text()
    told = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    rows = [provider_row(kind) for kind in provider_kinds()]
    assert told == [
        (
            row.kind,
            f"`{row.base_url}`" if row.base_url else "none: `base_url` is needed",
            ", ".join(dialect.removeprefix("openai.") for dialect in row.dialects),
            "needed" if row.needs_key else "if it asks for one",
        )
        for row in rows
    ]


def test_links_lead_somewhere() -> None:
    """Relative links of the documents name files that are there."""
    for page in DOCS.glob("*.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_stages_of_a_request_are_those_of_the_journey() -> None:
    """The line of stages in docs/architecture.md is the one of the page that runs them."""
    journey = (DOCS.parent / "packages/proxy_api/src/proxy_api/_journey.py").read_text()
    told = re.findall(r"^receive → .+$", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert told == re.findall(r"^receive → .+$", journey, re.MULTILINE)
    assert len(told) == 1


def test_the_tests_that_show_the_bound_are_there() -> None:
    """Each test that docs/limits.md names is in its file."""
    files = {path.name: path.read_text() for path in DOCS.parent.glob("packages/*/tests/test_*.py")}
    named = re.findall(r"`(test_\w+\.py|…)(?:::(test_\w+))?`", (DOCS / "limits.md").read_text())
    assert len(named) >= 8
    file = ""
    for name, test in named:
        file = name if name != "…" else file
        assert not test or f"def {test}(" in files[file], f"{file}::{test}"
        assert file in files


def test_the_imports_of_the_migration_guide_work() -> None:
    """Every import line of the guide names public things."""
    guide = (DOCS.parent / "migration_guide.md").read_text()
    lines = re.findall(r"`(from proxy_\w+ import [^`]+)`", guide)
    assert len(lines) == 4
    for line in lines:
        exec(line, {})
