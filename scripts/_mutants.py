"""The work of scripts/mutants: mistakes in the dialects' functions, and whether a test minds them.

mutmut makes the mistakes. Its own runner is not used: it wants one package with its tests in one
folder, runs the code from a folder of its own beside trampolines that double each module's size,
and tries every mutant there is. Here some are drawn by a seed, each is the source with one change,
and the tests are those of the part that it is in, then the round trips.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, cast

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

ROOT: Final = Path(__file__).resolve().parents[1]
DIALECTS: Final = Path("packages/proxy_core/src/proxy_core/dialects")
TESTS: Final = Path("packages/proxy_core/tests")
PARTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "_chat": ("test_chat_codec", "test_chat_stream"),
        "_anthropic": ("test_anthropic_codec", "test_anthropic_dialect", "test_closed_schemas"),
        "_responses": ("test_responses_codec", "test_responses_dialect"),
        "_gemini": ("test_gemini_codec", "test_gemini_dialect", "test_foreign_seals"),
        "_bedrock": ("test_bedrock_codec", "test_event_stream", "test_aws_signing"),
        "_ollama.py": ("test_ollama_codec",),
        "_cohere.py": ("test_cohere_codec",),
        "_translate.py": ("test_translate",),
        "_fold.py": ("test_anthropic_codec", "test_gemini_codec"),
        "_ordered.py": ("test_ordered",),
    }
)
"""The parts of the dialects, and the tests that are theirs."""
ROUND_TRIPS: Final = ("tests/test_roundtrips.py",)
COPIED: Final = ("conftest.py", "pyproject.toml", "packages/proxy_core", *ROUND_TRIPS)
COPIED_TOO: Final = ("tests/roundtrips", "docs/dialects.md")
PROFILE: Final = """
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None)
"""
"""Whether a test fails is all that matters: no example is made smaller."""
PRELOADED: Final = ("anthropic", "botocore.session", "google.genai", "hypothesis", "openai")
"""What tests import and no mutant is in: read once, not once a mutant."""
LONGEST: Final = 90.0
"""Seconds for the tests of one mutant: those that pass take 20 at most."""
WHOLE: Final = 400.0
"""Seconds for all of them, which pass before any mutant is tried."""
ENOUGH: Final = 0.9

Verdict = Literal["caught", "hangs", "survives"]


class Mutant(NamedTuple):
    path: Path
    part: str
    line: int
    source: str
    changed: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(DIALECTS)}:{self.line}"

    def diff(self) -> str:
        name = str(self.path)
        lines = [text.splitlines(keepends=True) for text in (self.source, self.changed)]
        return "".join(difflib.unified_diff(lines[0], lines[1], name, name, n=2))


def sources(only: str) -> Iterator[tuple[Path, str]]:
    for part in PARTS:
        if only and part.removesuffix(".py") != only:
            continue
        place = ROOT / DIALECTS / part
        for path in sorted(place.glob("**/*.py")) if place.is_dir() else [place]:
            yield path.relative_to(ROOT), part


def drawn(count: int, seed: int, only: str) -> list[Mutant]:
    """That many of all that there are."""
    found = []
    for path, part in sources(only):
        source = (ROOT / path).read_text(encoding="utf-8")
        module, mutations = mutations_of(source)
        said = set(_said_in(module))
        found += [(path, part, module, one) for one in mutations if is_meant(one, said)]
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    return [_mutant(*one) for one in chosen]


def mutations_of(source: str) -> tuple[cst.Module, list[Mutation]]:
    """Every one that mutmut makes of a module, and the module that their nodes belong to."""
    visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
    module = MetadataWrapper(cst.parse_module(source)).visit(visitor)
    return module, visitor.mutations


def is_meant(mutation: Mutation, said: Collection[cst.CSTNode]) -> bool:
    """Not what an import does, nor words for people: a test of a sentence only repeats it."""
    if mutation.contained_by_top_level_function is None or _only_looks_other(mutation):
        return False
    if mutation.original_node in said:
        return False
    old, new = mutation.original_node, mutation.mutated_node
    if isinstance(old, cst.Call) and isinstance(new, cst.Call) and len(old.args) == len(new.args):
        changed = (was.value for was, now in zip(old.args, new.args, strict=True) if was is not now)
        return not any(_is_said(value) for value in changed)
    return not _is_said(old)


def _said_in(module: cst.Module) -> Iterator[cst.CSTNode]:
    """What stands within a sentence, or is the name of one."""
    sentence = m.FormattedString() | m.Assign(targets=[m.AssignTarget(m.Name("why"))])
    waiting = list(m.findall(module, sentence))
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def _is_said(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.SimpleString):
        return " " in str(node.evaluated_value)
    return isinstance(node, cst.FormattedString | cst.ConcatenatedString) or m.matches(
        node, m.Name("_WHO") | m.Name("why")
    )


def _only_looks_other(mutation: Mutation) -> bool:
    """A flag that begins as None is as false as one that begins as False."""
    old, new = mutation.original_node, mutation.mutated_node
    return (
        isinstance(old, cst.Assign)
        and isinstance(new, cst.Assign)
        and m.matches(old.value, m.Name("False"))
        and m.matches(new.value, m.Name("None"))
    )


def _mutant(path: Path, part: str, module: cst.Module, mutation: Mutation) -> Mutant:
    changed = cast("cst.Module", module.deep_replace(mutation.original_node, mutation.mutated_node))
    source, told = module.code, changed.code
    pairs = zip(source.splitlines(), told.splitlines(), strict=False)
    line = next((number for number, (old, new) in enumerate(pairs, 1) if old != new), 0)
    return Mutant(path, part, line, source, told)


def copied(folder: Path) -> Path:
    """A copy of what the tests need."""
    unwanted = shutil.ignore_patterns("__pycache__", ".hypothesis", "fuzz")
    for name in (*COPIED, *COPIED_TOO):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=unwanted)
        elif source.exists():
            shutil.copy(source, target)
    with (folder / "conftest.py").open("a") as conftest:
        conftest.write(PROFILE)
    return folder


def _write(path: Path, source: str) -> None:
    """Compiled code is told by size and second, which a mutant shares with what it is made of."""
    path.write_text(source, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


class Trial:
    """The tests of some parts in a copy that has one mutant, or none; in a process of their own."""

    def __init__(self, mutant: Mutant | None, parts: Iterable[str], folder: Path) -> None:
        self.mutant = mutant
        self.folder = folder
        self._output = folder / "output"
        self._deadline = time.monotonic() + (LONGEST if mutant else WHOLE)
        if mutant is not None:
            _write(folder / mutant.path, mutant.changed)
        names = dict.fromkeys(name for part in parts for name in PARTS[part])
        tests = [*(str(TESTS / f"{name}.py") for name in names), *ROUND_TRIPS]
        self._child = os.fork()
        if not self._child:
            _be_pytest(tests, folder, self._output)

    def verdict(self) -> Verdict | None:
        """None while the tests run. Whoever heard another one has the copy as it was."""
        ended, status = os.waitpid(self._child, os.WNOHANG)
        if not ended and time.monotonic() < self._deadline:
            return None
        if not ended:
            os.killpg(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        if self.mutant is not None:
            _write(self.folder / self.mutant.path, self.mutant.source)
        return "hangs" if not ended else "caught" if status else "survives"

    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def first_failure(self) -> str:
        lines = [line for line in self.said().splitlines() if line.startswith(("FAILED", "ERROR"))]
        return lines[0].partition(" - ")[0].rpartition("::")[2] if lines else "its import"


def ended(trials: list[Trial]) -> tuple[Trial, Verdict]:
    """The first that ends; it is taken from the list."""
    while True:
        for trial in trials:
            verdict = trial.verdict()
            if verdict is not None:
                trials.remove(trial)
                return trial, verdict
        time.sleep(0.05)


def _be_pytest(tests: list[str], folder: Path, output: Path) -> None:
    """The child: it ends here, whatever happens."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(written, 1)
        os.dup2(written, 2)
        sys.path.insert(0, str(folder / "packages/proxy_core/src"))
        sys.dont_write_bytecode = False
        pytest = importlib.import_module("pytest")
        quiet = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
        still = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "--hypothesis-seed=0"]
        still.append("--hypothesis-profile=mutants")
        code = int(pytest.main([*quiet, *still, *tests]))
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


def say(text: str) -> None:
    print(text, flush=True)


def healthy(parts: set[str], folder: Path) -> bool:
    """Whether the tests pass where nothing was changed: otherwise they would catch everything."""
    trial, verdict = ended([Trial(None, sorted(parts), folder)])
    if verdict != "survives":
        say(f"The tests fail without any mutant:\n{trial.said()[-3000:]}")
    return verdict == "survives"


def tried(mutants: list[Mutant], folders: list[Path]) -> int:
    """How many survive. Each copy has one at a time."""
    waiting, trials, survivors = iter(mutants), [], 0
    for folder, mutant in zip(folders, waiting, strict=False):
        trials.append(Trial(mutant, [mutant.part], folder))
    number = 0
    while trials:
        trial, verdict = ended(trials)
        number += 1
        by = f" by {trial.first_failure()}" if verdict == "caught" else ""
        say(f"[{number:3}/{len(mutants)}] {trial.mutant}: {verdict}{by}")
        if verdict == "survives" and trial.mutant is not None:
            survivors += 1
            say(trial.mutant.diff())
        following = next(waiting, None)
        if following is not None:
            trials.append(Trial(following, [following.part], trial.folder))
    return survivors


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/mutants")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", choices=[name.removesuffix(".py") for name in PARTS])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    mutants = drawn(asked.count, asked.seed, asked.only)
    say(f"{len(mutants)} mutants by the seed {asked.seed}")
    if asked.list:
        for mutant in mutants:
            say(mutant.diff())
        return 0
    for name in PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folders = [copied(Path(temporary, str(number))) for number in range(asked.jobs)]
        if not healthy({mutant.part for mutant in mutants}, folders[0]):
            return 2
        survivors = tried(mutants, folders)
    share = 1 - survivors / max(len(mutants), 1)
    say(f"{share:.0%} of {len(mutants)} mutants were caught; {survivors} survive")
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    raise SystemExit(main())
