"""The packages as scripts/release sees them: their versions, ranges, changelogs and tags."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"((0|[1-9]\d*)\.){2}(0|[1-9]\d*)((a|b|rc)[1-9]\d*)?")
RANGE = re.compile(r">=(\d+(?:\.\d+){0,2}(?:(?:a|b|rc)\d+)?),<(\d+(?:\.\d+){0,2})")


class Failed(Exception):
    """What went wrong, for the one who types."""


def git(*arguments: str, text: str | None = None) -> str:
    pipe, command = subprocess.PIPE, ("git", *arguments)
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe
    ) as child:
        try:
            out, errors = child.communicate(text)
        except BaseException:  # let git take its locks away, which a SIGKILL would leave
            child.terminate()
            child.wait()
            raise
    if child.returncode:
        raise Failed(f"`git {' '.join(arguments[:2])}` failed:\n{(errors or out).strip()}")
    return out


def read(file: Path) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def key(version: str) -> tuple[int, int, int, str, int]:
    """Return what orders versions as PEP 440 does: 1.2 is 1.2.0, and 1.2.0rc1 comes before it."""
    numbers, phase, pre = re.split(r"(a|b|rc|$)", version, maxsplit=1)
    major, minor, patch = ([int(number) for number in numbers.split(".")] + [0, 0])[:3]
    return major, minor, patch, phase or "z", int(pre or 0)


class Need(NamedTuple):
    """A sibling's range in a pyproject file, ``proxy-logging>=0.1,<0.2``, and where it stands."""

    name: str
    text: str
    floor: str
    ceiling: str
    place: str

    def admits(self, version: str) -> bool:
        """Say whether the range holds it. ``<0.2`` excludes 0.2.0rc1 too, as in PEP 440."""
        return key(self.floor) <= key(version) and key(version)[:3] < key(self.ceiling)[:3]

    def satisfied_by(self, version: str) -> bool:
        """Say whether pip would take it: no pre-release, unless the floor is one."""
        final = key(version)[3] == "z"
        return self.admits(version) and (final or key(self.floor)[3] != "z")


class Package(NamedTuple):
    """A distribution of this repository. Paths are relative to its root."""

    name: str
    folder: Path
    version_file: Path

    @property
    def changelog(self) -> Path:
        """Its CHANGELOG.md."""
        return self.folder / "CHANGELOG.md"

    def version_match(self) -> re.Match[str]:
        """Find the version in the file that says it, as the first group."""
        line = r'^(?:__version__(?:: \w+)?|version) = "([^"]+)"'
        match = re.search(line, read(self.version_file), re.MULTILINE)
        if match is None:
            raise Failed(f"{self.version_file} has no line that says the version")
        return match

    def needs(self, names: set[str]) -> Iterator[Need]:
        """Give the ranges of those siblings in its pyproject file."""
        file = self.folder / "pyproject.toml"
        quoted = re.compile(r'"(((?:\w+-)+\w+)(?:\[[^]"]*\])?([<>=!~][^";]*))')
        for number, line in enumerate(read(file).splitlines(), 1):
            for text, name, bounds in quoted.findall(line):
                if name in names:
                    match = RANGE.fullmatch(bounds.strip())
                    if match is None:
                        raise Failed(f'{file}:{number}: write "{text}" like "{name}>=1.2,<2"')
                    yield Need(name, text, match[1], match[2], f"{file}:{number}")

    def releases(self, *which: str) -> list[str]:
        """Return the versions that were tagged, lowest first; `which` are options of `git tag`."""
        tags = git("tag", "--list", *which, f"{self.name}-v*").split()
        versions = [tag.removeprefix(f"{self.name}-v") for tag in tags]
        return sorted(filter(VERSION.fullmatch, versions), key=key)

    def section(self, heading: str) -> str | None:
        """Return what stands under ``## [heading]`` in the changelog; None without such a one."""
        pattern = rf"^## \[{re.escape(heading)}\][^\n]*\n(.*?)(?=^## |\Z)"
        match = re.search(pattern, read(self.changelog), re.DOTALL | re.MULTILINE)
        return match[1].strip() if match else None


def all_packages() -> dict[str, Package]:
    """Find the distributions: each folder of packages/, and packages/ itself."""
    found = {}
    for file in [ROOT / "packages/pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]:
        project = tomllib.loads(file.read_text(encoding="utf-8"))
        folder, name = file.parent.relative_to(ROOT), project["project"]["name"]
        path = project["tool"]["hatch"].get("version", {}).get("path", "pyproject.toml")
        found[name] = Package(name, folder, folder / path)
    return dict(sorted(found.items()))
