"""What the workflow files say fits this repository, as far as that can be seen without GitHub."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
WORKFLOWS: dict[str, dict[Any, Any]] = {
    file.stem: yaml.safe_load(file.read_text()) for file in FILES
}
DISTRIBUTIONS = [
    tomllib.loads(file.read_text())["project"]["name"]
    for file in (ROOT / "packages/pyproject.toml", *ROOT.glob("packages/*/pyproject.toml"))
]
ON = True  # how YAML 1.1 reads the key `on`
MAY_WRITE = {  # each permission to write anything, and the job that has it
    ("release", "attest"): {"attestations", "id-token"},
    ("release", "publish"): {"id-token"},
    ("release", "tell"): {"contents"},
}

every_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job in workflow["jobs"]:
            yield name, job, workflow["jobs"][job]


def steps() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, job, told in jobs():
        for step in told.get("steps", []):
            yield name, job, step


def matches(tag: str) -> list[str]:
    """List the patterns of the release workflow that a tag fits. GitHub's `*` stops at a slash."""
    patterns = WORKFLOWS["release"][ON]["push"]["tags"]
    return [one for one in patterns if fnmatch.fnmatchcase(tag, one) and "/" not in tag]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("version", ["0.1.0", "12.0.3", "1.2.0rc1"])
def test_each_release_has_a_workflow(name: str, version: str) -> None:
    """Whatever tag scripts/release makes, one pattern of the release workflow is for it."""
    assert len(matches(f"{name}-v{version}")) == 1


@pytest.mark.parametrize("tag", ["v1.2.0", "proxy-core", "proxy-new-v1.0.0", "proxy-core-vnext"])
def test_other_tags_publish_nothing(tag: str) -> None:
    """A tag that scripts/release can't have made starts no release."""
    assert matches(tag) == []


def test_what_is_named_is_there() -> None:
    """Every script, workflow and file that a workflow names is in the repository."""
    texts = {file.name: file.read_text() for file in FILES}
    named = r"(?<![\w/])\.?/?((?:scripts|tests|\.github)/[\w./-]*\w)"
    found = {(file, path) for file, text in texts.items() for path in re.findall(named, text)}
    assert {path for _, path in found} >= {"scripts/check", "scripts/test", "scripts/release"}
    assert [(file, path) for file, path in found if not (ROOT / path).is_file()] == []


@every_workflow
def test_a_workflow_begins_with_no_permission(name: str) -> None:
    """The default is none, so that each job names what it needs."""
    assert WORKFLOWS[name]["permissions"] == {}
    assert all("permissions" in job for job in WORKFLOWS[name]["jobs"].values())


def test_only_these_jobs_may_write() -> None:
    """To write anything is for three jobs of the release, and they run no code of the packages."""
    writing = {
        (name, job): {what for what, how in told["permissions"].items() if how != "read"}
        for name, job, told in jobs()
    }
    assert {place: what for place, what in writing.items() if what} == MAY_WRITE
    used = [step.get("uses", "") for name, job, step in steps() if (name, job) in MAY_WRITE]
    assert not [action for action in used if "checkout" in action]


def test_shell_lines_hold_no_expression() -> None:
    """A tag, branch or title that is shell code reaches the shell as a variable only."""
    lines = [step["run"] for _, _, step in steps() if "run" in step]
    assert lines
    assert [line for line in lines if "${{" in line] == []


def test_a_checkout_leaves_no_token_behind() -> None:
    """What runs after a checkout finds no credential in the clone."""
    checkouts = [step for _, _, step in steps() if "checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_job_ends() -> None:
    """A job that hangs is stopped; one that calls a workflow leaves that to it."""
    assert all("timeout-minutes" in told for _, _, told in jobs() if "steps" in told)


def test_the_tests_run_on_each_python_that_the_packages_name() -> None:
    """The classifiers' versions must pass; the one after them may fail, and is named unproven."""
    (job,) = WORKFLOWS["test"]["jobs"].values()
    rows = job["strategy"]["matrix"]["include"]
    core = tomllib.loads((ROOT / "packages/proxy_core/pyproject.toml").read_text())["project"]
    named = [line.rpartition(" ")[2] for line in core["classifiers"] if ":: 3." in line]
    assert [row["python"] for row in rows if not row["note"]] == named
    (unproven,) = (row for row in rows if row["note"])
    assert unproven == {"python": "3.14", "note": " (unproven)"}
    assert job["continue-on-error"] == "${{ matrix.note == ' (unproven)' }}"
    assert {"scripts/check", "scripts/test"} <= {step.get("run") for step in job["steps"]}


def test_nothing_is_published_before_the_tests_pass() -> None:
    """The way to PyPI leads through the tests, the verified tag and the attestation."""
    release = WORKFLOWS["release"]["jobs"]
    before, waiting = set[str](), ["publish"]
    while waiting:
        needs = release[waiting.pop()].get("needs", [])
        before.update(needs)
        waiting += needs
    assert before == {"test", "build", "attest"}
    assert release["publish"]["environment"]["name"] == "pypi"
    assert release["test"]["uses"] == "./.github/workflows/test.yml"
    assert "workflow_call" in WORKFLOWS["test"][ON]
    build = [step.get("run", "") for step in release["build"]["steps"]]
    order = [i for i, lines in enumerate(build) if "--verify" in lines or "build -t sdist" in lines]
    assert "scripts/release --verify" in build[order[0]]
    assert len(order) == 2


def test_a_cancelled_group_is_never_a_release() -> None:
    """Two releases of one tag wait for each other; tests and release are in different groups."""
    groups = {name: workflow["concurrency"] for name, workflow in WORKFLOWS.items()}
    assert groups["release"]["cancel-in-progress"] is False
    starts = [group["group"].partition("-")[0] for group in groups.values()]
    assert len(set(starts)) == len(starts)
