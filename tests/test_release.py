"""scripts/release, rehearsed: a scratch repository of this tree, its origin, and five releases.

The rehearsal has its own history and tags, so it says the same before and after a real release.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from uv import find_uv_bin

ROOT = Path(__file__).parents[1]
META = "llm-proxy-packages"
ORDER = ("proxy-logging", "proxy-core", "proxy-context", "proxy-api", META)
ENTRIES = "### Added\n\n- What a user gets by it, in `code` and words.\n\n### Fixed\n\n- A thing."
UV = find_uv_bin()
MODEL = runpy.run_path(str(ROOT / "scripts/_packages.py"))
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "PATH": f"{Path(sys.executable).parent}:{Path(UV).parent}:{os.environ['PATH']}",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}

packaging = pytest.mark.packaging


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command and return what it prints; say all of it when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**ENV, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def folder_of(name: str) -> Path:
    """Return a distribution's folder, relative to the root."""
    return Path("packages") / ("" if name == META else name.replace("-", "_"))


def version_file(name: str) -> Path:
    """Return the file that says its version."""
    module = name.replace("-", "_")
    return folder_of(name) / ("pyproject.toml" if name == META else f"src/{module}/_version.py")


class Clone:
    """A clone in which somebody makes releases."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for setting, value in {"user.name": "A Releaser", "user.email": "a@example.org"}.items():
            self.git("config", setting, value)

    def git(self, *arguments: str) -> str:
        return run("git", *arguments, cwd=self.path).strip()

    def read(self, file: Path | str) -> str:
        return (self.path / file).read_text()

    def change(self, file: Path | str, change: Callable[[str], str]) -> None:
        """Change a file and commit that."""
        text = change(self.read(file))
        (self.path / file).write_text(text)
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", f"docs: {file}")

    def script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.path / "scripts/release"), *arguments]
        return subprocess.run(
            command, cwd=self.path, env=ENV, capture_output=True, text=True, check=False
        )

    def release(self, *arguments: str) -> str:
        """Release and return what is printed."""
        done = self.script(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        """Return the reasons of a refused release, once it is sure that it changed nothing."""
        before = self.state()
        done = self.script(*arguments)
        assert done.returncode == 1, done.stdout
        assert self.state() == before
        return done.stderr

    def state(self) -> tuple[str, ...]:
        """Say everything that a release could change: history, tags, index and files."""
        status = self.git("status", "--porcelain", "--untracked-files=all")
        return status, self.git("show-ref"), self.git("rev-parse", "HEAD"), self.git("diff", "HEAD")

    def tag(self, *tags: str) -> None:
        for tag in tags:
            self.git("tag", "--annotate", "--message", tag, tag)


def next_patch(name: str) -> str:
    """Return the version after the one of this tree: the siblings' ranges admit it."""
    text = re.search(
        r'version(?:__)? = "(\d+)\.(\d+)\.(\d+)', (ROOT / version_file(name)).read_text()
    )
    assert text
    return f"{text[1]}.{text[2]}.{int(text[3]) + 1}"


VERSIONS = {name: next_patch(name) for name in ORDER}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with this tree as its one commit, and with entries in each changelog."""
    tree = tmp_path_factory.mktemp("tree")
    listed = "git ls-files -z --cached --others --exclude-standard"
    for name in run(*listed.split(), cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for name in ORDER:
        log = tree / folder_of(name) / "CHANGELOG.md"
        heading = f"## [Unreleased]\n\n{ENTRIES}\n"
        text = re.sub(
            r"## \[Unreleased\]\n(.|\n)*?(?=^## |\Z)", heading, log.read_text(), flags=re.MULTILINE
        )
        log.write_text(text)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=tree)
    maker = Clone(tree)
    maker.git("add", "--all")
    maker.git("commit", "--quiet", "--message", "feat: this tree")
    bare = tree.with_name("origin.git")
    run("git", "clone", "--quiet", "--bare", tree, bare, cwd=tree)
    return bare


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Clone:
    """A clone where nothing was released yet."""
    run("git", "clone", "--quiet", origin, tmp_path / "clone", cwd=tmp_path)
    return Clone(tmp_path / "clone")


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What scripts/release printed, for each package that ``released`` released."""
    return {}


@pytest.fixture(scope="module")
def released(origin: Path, told: dict[str, str]) -> Clone:
    """All five released in the order of the arrows, each pushed by the command that was printed."""
    target = origin.with_name("released.git")
    run("git", "clone", "--quiet", "--bare", origin, target, cwd=origin)
    path = origin.with_name("releaser")
    run("git", "clone", "--quiet", target, path, cwd=origin)
    clone = Clone(path)
    for name in ORDER:
        told[name] = clone.release(name, VERSIONS[name])
        (push,) = re.findall(r"^ +(git push .*)$", told[name], re.MULTILINE)
        run(*push.split(), cwd=path)
    return clone


@pytest.mark.parametrize("name", ORDER)
def test_a_release_is_one_commit_and_an_annotated_tag(name: str, released: Clone) -> None:
    """The tag's message is the changelog's section, and its commit changes that package alone."""
    tag, version = f"{name}-v{VERSIONS[name]}", VERSIONS[name]
    assert released.git("cat-file", "-t", tag) == "tag"
    message = released.git("tag", "--list", "--format=%(contents)", tag)
    assert message == f"{name} {version}\n\n{ENTRIES}"
    scope = name.removeprefix("proxy-") if name != META else "packages"
    commit = f"{tag}^{{commit}}"
    subject = released.git("log", "-1", "--format=%s", commit)
    assert subject == f"chore({scope}): release {name} {version}"
    changed = set(released.git("diff", "--name-only", f"{commit}~1", commit).split())
    also = {"uv.lock"} if name == META else set()
    assert changed == {f"{folder_of(name)}/CHANGELOG.md", str(version_file(name))} | also


@pytest.mark.parametrize("name", ORDER)
def test_a_release_writes_version_and_changelog(name: str, released: Clone) -> None:
    """The file says the version; the section has today's date, under an empty Unreleased."""
    version = VERSIONS[name]
    assert f'version__ = "{version}"' in released.read(version_file(name)) or name == META
    log = released.read(folder_of(name) / "CHANGELOG.md")
    found = re.search(r"## \[Unreleased\]\n\n## \[(.+)\] - (.+)\n\n### Added\n", log)
    assert found and found[1] == version
    today = datetime.now(UTC).date()
    assert found[2] in {str(today), str(today - timedelta(days=1))}
    assert log.count(version) == 1
    assert log.count(ENTRIES) == 1


def test_the_lock_follows_the_one_version_that_it_holds(released: Clone) -> None:
    """Only the meta-package's version is in uv.lock, and it is the released one."""
    lock = released.read("uv.lock")
    assert f'name = "{META}"\nversion = "{VERSIONS[META]}"\n' in lock
    changed = set(lock.splitlines()) ^ set((ROOT / "uv.lock").read_text().splitlines())
    assert all(line.startswith("version = ") for line in changed)
    assert not re.search(r'name = "proxy-\w+"\nversion = ', lock)


def test_it_pushes_nothing_itself(released: Clone, origin: Path, told: dict[str, str]) -> None:
    """What the push command names arrives by that command, and by nothing before it."""
    assert run("git", "tag", cwd=origin) == ""
    pushed = set(run("git", "tag", cwd=origin.with_name("released.git")).split())
    assert pushed == {f"{name}-v{VERSIONS[name]}" for name in ORDER}
    assert all(".github/workflows/release.yml" in text for text in told.values())


def test_a_dry_run_shows_what_a_release_does(clone: Clone) -> None:
    """It prints the release's own diff, commit and tag, and changes nothing."""
    before = clone.state()
    shown = clone.release("proxy_logging", VERSIONS["proxy-logging"], "--dry-run")
    assert clone.state() == before
    assert f"tag:    proxy-logging-v{VERSIONS['proxy-logging']}\n" in shown
    assert "commit: chore(logging): release proxy-logging" in shown
    clone.release("proxy-logging", VERSIONS["proxy-logging"])
    done = clone.git("show", "--format=", "--unified=1")
    marked = r"^[-+](?![-+]{2}).*$"
    changes = [sorted(re.findall(marked, text, re.MULTILINE)) for text in (done, shown)]
    assert changes[0] == changes[1] != []


def test_the_version_of_the_tree_can_be_the_first_release(clone: Clone) -> None:
    """Nothing is tagged, and the file says 0.1.0: then 0.1.0 can be released, and 0.0.9 can't."""
    clone.change(version_file("proxy-logging"), lambda _: '__version__ = "0.1.0"\n')
    for file in clone.path.glob("packages/**/pyproject.toml"):
        text = re.sub(
            r"(proxy-logging(\[otel\])?)>=[^,]+,<[0-9.]+", r"\1>=0.0,<9", file.read_text()
        )
        file.write_text(text)
    clone.git("commit", "--quiet", "--all", "--message", "build: wide")
    assert "0.0.9 is lower than the 0.1.0 of" in clone.refusal("proxy-logging", "0.0.9")
    clone.release("proxy-logging", "0.1.0")
    assert clone.git("tag") == "proxy-logging-v0.1.0"


LOGGING = "proxy-logging", VERSIONS["proxy-logging"]


def test_a_changed_file_is_refused(clone: Clone) -> None:
    """A tree with a change that isn't committed is not released; the file is named."""
    (clone.path / "README.md").write_text("changed")
    told = clone.refusal(*LOGGING)
    assert "the tree isn't clean; commit, stash or remove" in told
    assert "M README.md" in told


def test_an_untracked_file_is_refused(clone: Clone) -> None:
    """Nor is one with a file that git doesn't know; of many, the first five are named."""
    for number in range(7):
        (clone.path / f"docs/new-{number}").touch()
    told = clone.refusal(*LOGGING)
    assert "?? docs/new-4" in told
    assert "and 2 more" in told
    assert "docs/new-5" not in told


def test_another_branch_is_refused(clone: Clone) -> None:
    """A topic branch isn't released, unless it is named; a detached head isn't, either."""
    clone.git("switch", "--quiet", "--create", "0.1.x")
    assert "the clone is on 0.1.x, not main: `git switch main`, or pass --branch 0.1.x" in (
        clone.refusal(*LOGGING)
    )
    assert "git push --atomic origin 0.1.x " in clone.release(*LOGGING, "--branch", "0.1.x")
    clone.git("switch", "--quiet", "--detach", "main")
    assert "the clone is on no branch, not main: `git switch main`\n" in clone.refusal(*LOGGING)


def test_an_existing_tag_is_refused(clone: Clone) -> None:
    """A version is released once, wherever its tag is."""
    clone.git("switch", "--quiet", "--create", "elsewhere")
    clone.git("commit", "--quiet", "--allow-empty", "--message", "x")
    clone.tag("proxy-logging-v" + LOGGING[1])
    clone.git("switch", "--quiet", "main")
    assert f"the tag proxy-logging-v{LOGGING[1]} exists" in clone.refusal(*LOGGING)


@pytest.mark.parametrize("version", ["1.2", "v1.2.0", "1.2.0-rc1", "01.2.0", "1!1.2.0", "newest"])
def test_what_is_no_version_is_refused(version: str, clone: Clone) -> None:
    """Only PEP 440's normal form with three numbers, and a pre-release, makes a tag."""
    told = clone.refusal("proxy-logging", version)
    assert f"{version!r} is no version of PEP 440 in our form: write it like 1.2.0" in told


def test_a_version_must_rise(clone: Clone) -> None:
    """It is compared with what was released before this commit, by PEP 440's order."""
    clone.tag("proxy-logging-v0.1.9", "proxy-logging-v0.1.10rc1")
    told = clone.refusal("proxy-logging", "0.1.8")
    assert "0.1.8 is not higher than 0.1.10rc1, which is released" in told
    clone.release("proxy-logging", "0.1.10")


def test_a_maintenance_branch_looks_at_its_own_past(clone: Clone) -> None:
    """A fix of an older line is released from its branch, though main is further by now."""
    clone.git("switch", "--quiet", "--create", "0.1.x")
    clone.git("switch", "--quiet", "main")
    clone.git("commit", "--quiet", "--allow-empty", "--message", "feat!: x")
    clone.tag("proxy-logging-v7.0.0")
    assert "not higher than 7.0.0" in clone.refusal(*LOGGING)
    clone.git("switch", "--quiet", "0.1.x")
    clone.release(*LOGGING, "--branch", "0.1.x")


@pytest.mark.parametrize(
    "entries", ["", "### Added\n\n", "words\n\n## [0.0.1] - 2020-01-01\n\n- Old.\n"]
)
def test_an_empty_changelog_section_is_refused(entries: str, clone: Clone) -> None:
    """Without an entry under Unreleased there is nothing to tell, so nothing to release."""
    log = "packages/proxy_logging/CHANGELOG.md"
    clone.change(log, lambda _: f"# Changelog\n\n## [Unreleased]\n\n{entries}")
    assert f'{log}: no entry under "## [Unreleased]"' in clone.refusal(*LOGGING)


def test_a_section_of_the_same_version_is_refused(clone: Clone) -> None:
    """A changelog dated by hand would get two sections of one version."""
    log = "packages/proxy_logging/CHANGELOG.md"
    clone.change(log, lambda text: f"{text}\n## [{LOGGING[1]}] - 2020-01-01\n\n- Old.\n")
    assert f"{log} has a section for {LOGGING[1]} already" in clone.refusal(*LOGGING)


@pytest.mark.parametrize("tags", [[], ["0.0.9"], ["7.0.0"], ["{}rc1"]], ids=str)
def test_a_sibling_that_was_never_released_is_refused(tags: list[str], clone: Clone) -> None:
    """A range that no tag satisfies would make a wheel that nobody can install."""
    tags = [tag.format(VERSIONS["proxy-logging"]) for tag in tags]
    clone.tag(*(f"proxy-logging-v{tag}" for tag in tags))
    told = clone.refusal("proxy-core", VERSIONS["proxy-core"])
    assert 'no tagged release of proxy-logging satisfies "proxy-logging>=' in told
    assert (
        f"(there is: {', '.join(tags) or 'none'}); release it first, or `git fetch --tags`" in told
    )
    assert re.search(r"- packages/proxy_core/pyproject\.toml:\d+: no tagged", told)


def test_ranges_that_exclude_the_version_are_refused(clone: Clone) -> None:
    """Each line that excludes it is named with what to write; then the release goes through."""
    told = clone.refusal("proxy-logging", "8.1.0")
    lines = re.findall(r'- (\S+):(\d+): "(\S+)" excludes 8\.1\.0; commit "(\S+)" there first', told)
    named = {(file, text) for file, _, text, _ in lines}
    needing = {file for file, _ in named}
    assert needing == {
        f"packages/{name}pyproject.toml"
        for name in ("", "proxy_api/", "proxy_context/", "proxy_core/")
    }
    for file, number, text, wider in lines:
        path = clone.path / file
        rows = path.read_text().splitlines(keepends=True)
        assert f'"{text}"' in rows[int(number) - 1]
        rows[int(number) - 1] = rows[int(number) - 1].replace(text, wider)
        path.write_text("".join(rows))
        assert Version("8.1.0") in Requirement(wider).specifier
        assert Version("9.0.0") not in Requirement(wider).specifier
    clone.git("commit", "--quiet", "--all", "--message", "build: wider ranges")
    clone.release("proxy-logging", "8.1.0")


def test_a_range_of_another_form_is_refused(clone: Clone) -> None:
    """A sibling's range that can't be judged here is an error with its place."""
    file = "packages/proxy_core/pyproject.toml"
    clone.change(file, lambda text: re.sub(r"proxy-logging>=[^\"]+", "proxy-logging~=0.1", text))
    told = clone.refusal(*LOGGING)
    assert re.search(
        rf'{file}:\d+: write "proxy-logging~=0\.1" like "proxy-logging>=1\.2,<2"', told
    )


def test_all_reasons_are_told_at_once(clone: Clone) -> None:
    """Who has five things to do hears of them in one go."""
    clone.change("packages/proxy_core/CHANGELOG.md", lambda _: "## [Unreleased]\n")
    clone.tag("proxy-core-v8.0.0")
    clone.git("switch", "--quiet", "--create", "topic")
    (clone.path / "new").touch()
    told = clone.refusal("proxy-core", "7.0.0")
    for reason in ("isn't clean", "not main", "no entry", "no tagged", "not higher", "excludes"):
        assert reason in told
    assert told.count("\n- ") >= 6


@pytest.mark.parametrize(
    "words", [[], ["proxy-core"], ["proxy-nothing", "1.0.0"], ["proxy-core", "1.0.0", "--push"]]
)
def test_wrong_usage_is_told(words: list[str], clone: Clone) -> None:
    """A word that is missing, or that it doesn't know, is exit 2; the packages are listed."""
    done = clone.script(*words)
    assert done.returncode == 2
    assert "scripts/release: error:" in done.stderr
    assert ("proxy-nothing" not in words) or all(name in done.stderr for name in ORDER)


def test_help_says_what_it_does() -> None:
    """`--help` prints the script's own words and does nothing else."""
    told = subprocess.run(
        [ROOT / "scripts/release", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert told.startswith("scripts/release PACKAGE VERSION")
    assert all(option in told for option in ("--dry-run", "--branch", "--verify", "--notes"))


def hook(clone: Clone, name: str, text: str) -> None:
    """Give the clone a git hook."""
    file = clone.path / ".git/hooks" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


GRANDPARENT = "$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' /proc/$PPID/stat)"  # git's parent: the script
BREAKS = {
    "the commit is refused": ("pre-commit", "echo no good >&2; exit 1"),
    "the tag is refused": ("reference-transaction", "grep -q refs/tags && exit 1 || exit 0"),
    "terminated in the commit": ("pre-commit", f"kill -TERM {GRANDPARENT}; sleep 0.3"),
    "interrupted in the commit": ("pre-commit", f"kill -INT {GRANDPARENT}; sleep 0.3"),
    "terminated after the tag": (
        "reference-transaction",
        f"[ $1 = committed ] && grep -q refs/tags && kill -TERM {GRANDPARENT} && sleep 0.3; true",
    ),
    "terminated after the commit": ("post-commit", f"kill -TERM {GRANDPARENT}; sleep 0.3"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_release_that_breaks_off_leaves_nothing(name: str, clone: Clone) -> None:
    """Whatever comes in between, files, index, history and tags are as before; a next try works."""
    hook(clone, *BREAKS[name])
    told = clone.refusal(*LOGGING)
    assert "nothing is released, the clone is as it was" in told
    assert ("failed" if "refused" in name else "interrupted") in told
    (clone.path / ".git/hooks" / BREAKS[name][0]).unlink()
    clone.release(*LOGGING)


@pytest.mark.parametrize("name", ORDER)
def test_the_workflow_finds_what_it_needs(name: str, released: Clone) -> None:
    """On the tag, --verify prints name, version and folder; --notes the changelog's section."""
    tag = f"{name}-v{VERSIONS[name]}"
    released.git("switch", "--quiet", "--detach", tag)
    try:
        verified = released.release("--verify", tag)
        notes = released.release("--notes", tag)
    finally:
        released.git("switch", "--quiet", "main")
    assert verified == f"name={name}\nversion={VERSIONS[name]}\nfolder={folder_of(name)}\n"
    assert notes == f"{ENTRIES}\n"


def test_a_tag_that_says_something_else_is_not_published(clone: Clone) -> None:
    """A tag made by hand doesn't agree with version, changelog and siblings: each is told."""
    clone.tag("proxy-core-v3.0.0")
    clone.git("commit", "--quiet", "--allow-empty", "--message", "x")
    told = clone.refusal("--verify", "proxy-core-v3.0.0")
    for reason in (
        "_version.py says ",
        "CHANGELOG.md has no dated section for 3.0.0",
        "no tagged release of proxy-logging",
        "another commit is checked out",
    ):
        assert reason in told
    assert "is no tag of a release" in clone.refusal("--verify", "v3.0.0")
    assert "is no tag of a release" in clone.refusal("--notes", "proxy-core-v3")


def step(name: str) -> str:
    """Return the shell lines of a step of the release workflow's build."""
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    (found,) = (s for s in workflow["jobs"]["build"]["steps"] if s.get("name", "").startswith(name))
    return str(found["run"])


@pytest.fixture(scope="module")
def built(released: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of each tag, checked out alone and built by the workflow's own lines."""
    dist = tmp_path_factory.mktemp("dist")
    for name in ORDER:
        tag, tree = f"{name}-v{VERSIONS[name]}", dist.parent / f"checkout-{name}"
        source = released.path.with_name("released.git")
        run("git", "clone", "--quiet", "--branch", tag, source, tree, cwd=dist)
        output = tree.with_suffix(".output")
        bash = ("bash", "-e", "-o", "pipefail", "-c")
        run(*bash, step("verify"), cwd=tree, TAG=tag, GITHUB_OUTPUT=str(output))
        said = dict(line.split("=", 1) for line in output.read_text().splitlines())
        known = {key.upper(): value for key, value in said.items()}
        run(*bash, step("build"), cwd=tree, GITHUB_WORKSPACE=str(tree), **known)
        assert (tree / "notes.md").read_text() == f"{ENTRIES}\n"
        for file in (tree / "dist").iterdir():
            shutil.move(file, dist)
    return dist


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


@packaging
def test_the_files_of_a_release_are_what_their_names_say(built: Path) -> None:
    """One sdist and one wheel each, with the version, and with ranges that the five fulfil."""
    names = {name: name.replace("-", "_") for name in ORDER}
    expected = {
        f"{names[name]}-{VERSIONS[name]}{ending}"
        for name in ORDER
        for ending in (".tar.gz", "-py3-none-any.whl")
    }
    assert {file.name for file in built.iterdir()} == expected
    for name in ORDER:
        told = metadata(built / f"{names[name]}-{VERSIONS[name]}-py3-none-any.whl")
        assert (told["Name"], told["Version"]) == (name, VERSIONS[name])
        needs = [Requirement(line) for line in told.get_all("Requires-Dist", [])]
        siblings = [need for need in needs if need.name in ORDER]
        assert siblings or name == "proxy-logging"
        assert all(VERSIONS[need.name] in need.specifier for need in siblings)
        assert not [need for need in needs if need.url]


@packaging
@pytest.mark.timeout(300)
def test_the_five_releases_install_together(built: Path, tmp_path: Path) -> None:
    """The meta-package brings the four at these versions, out of the built files, and they work."""
    python = tmp_path / "venv/bin/python"
    needs = tmp_path / "requirements.txt"
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv", cwd=ROOT)
    export = "export --quiet --frozen --no-emit-workspace --all-packages"
    run(UV, *export.split(), "--output-file", needs, cwd=ROOT)
    install = (UV, "pip", "install", "--quiet", "--python", python)
    run(*install, "--require-hashes", "-r", needs, cwd=ROOT)
    ours = f"{META}[all]=={VERSIONS[META]}"
    run(*install, "--no-index", "--find-links", built, ours, cwd=tmp_path)
    listed = run(UV, "pip", "freeze", "--python", python, cwd=tmp_path).splitlines()
    assert {f"{name}=={VERSIONS[name]}" for name in ORDER} <= set(listed)
    run(UV, "pip", "check", "--python", python, cwd=tmp_path)
    told = run(tmp_path / "venv/bin/llm-proxy", "version", cwd=tmp_path)
    assert VERSIONS["proxy-api"] in told


numbers = st.sampled_from(["0", "1", "2", "10"])  # few, so that some are equal
finals = st.lists(numbers, min_size=3, max_size=3).map(".".join)
pre_releases = st.builds(
    "{}{}{}".format, finals, st.sampled_from(["a", "b", "rc"]), st.integers(1, 9)
)
versions = finals | pre_releases
bounds = st.lists(numbers, min_size=1, max_size=3).map(".".join)


@given(versions, versions)
def test_versions_are_in_pep_440s_order(one: str, other: str) -> None:
    """Our few lines order versions as the packaging library does."""
    key = MODEL["key"]
    assert (key(one) < key(other)) == (Version(one) < Version(other))
    assert (key(one) == key(other)) == (Version(one) == Version(other))


@given(bounds | pre_releases, bounds, versions)
def test_ranges_hold_what_pep_440_says(floor: str, ceiling: str, version: str) -> None:
    """Nor do ranges differ, with and without pre-releases."""
    need = MODEL["Need"]("proxy-x", "", floor, ceiling, "")
    specifiers = SpecifierSet(f">={floor},<{ceiling}")
    assert need.admits(version) == specifiers.contains(version, prereleases=True)
    wanted = bool(specifiers.prereleases)
    assert need.satisfied_by(version) == specifiers.contains(version, prereleases=wanted)
