"""No function, class or module outgrows a reader."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
MODULES = [*ROOT.glob("packages/*/src/**/*.py"), ROOT / "packages/hatch_build.py"]
FUNCTION, CLASS, MODULE, NESTING, PARAMETERS = 60, 250, 400, 4, 8

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def _length(node: _Function | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _nesting(node: ast.AST, depth: int = 0) -> int:
    """Count blocks within blocks: an `elif` is as deep as its `if`, an inner function apart."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _SCOPES):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deeper = isinstance(child, _BLOCKS) and not is_elif
        deepest = max(deepest, _nesting(child, depth + deeper))
    return deepest


def _parameters(node: _Function) -> int:
    return len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)


def _function_offences(node: _Function) -> Iterator[str]:
    if (lines := _length(node)) > FUNCTION:
        yield f"{node.name} has {lines} lines, more than {FUNCTION}"
    if (depth := _nesting(node)) > NESTING:
        yield f"{node.name} nests {depth} deep, more than {NESTING}"
    if (count := _parameters(node)) > PARAMETERS:
        yield f"{node.name} takes {count} parameters, more than {PARAMETERS}"


def offences(source: str) -> Iterator[str]:
    """Say what in a module is too large for a reader."""
    if (lines := source.count("\n")) > MODULE:
        yield f"the module has {lines} lines, more than {MODULE}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _Function):
            yield from _function_offences(node)
        elif isinstance(node, ast.ClassDef) and (lines := _length(node)) > CLASS:
            yield f"{node.name} has {lines} lines, more than {CLASS}"
        elif isinstance(node, ast.Global):
            yield f"`global {', '.join(node.names)}`: state belongs to an object"


def test_every_module_keeps_its_shape() -> None:
    """Modules, classes and functions stay within the figures above, and nothing uses `global`."""
    found = [
        f"{path.relative_to(ROOT)}: {offence}"
        for path in MODULES
        for offence in offences(path.read_text())
    ]
    assert not found, "\n".join(found)


BODY = "    x = 1\n"
TOO_LARGE = {
    "function": "def f():\n" + BODY * FUNCTION,
    "class": "class C:\n" + BODY * CLASS,
    "module": "x = 1\n" * (MODULE + 1),
    "nesting": "def f():\n" + "".join(" " * n + "if x:\n" for n in range(1, 6)) + "      pass\n",
    "parameters": "def f(a, b, c, d, e, *, g, h, i, j): ...\n",
    "global": "def f():\n    global x\n    x = 1\n",
}


@pytest.mark.parametrize("source", TOO_LARGE.values(), ids=list(TOO_LARGE))
def test_each_figure_is_watched(source: str) -> None:
    """What is just above a figure is one offence."""
    assert len(list(offences(source))) == 1


FITS = {
    "function": "def f():\n" + BODY * (FUNCTION - 1),
    "class": "class C:\n" + BODY * (CLASS - 1),
    "module": "x = 1\n" * MODULE,
    "elif": "def f():\n    if x: ...\n" + "    elif x: ...\n" * 5,
    "parameters": "def f(self, b, c, d, /, e, *more, g, h, i, **rest): ...\n",
}


@pytest.mark.parametrize("source", FITS.values(), ids=list(FITS))
def test_what_fits_is_fine(source: str) -> None:
    """What is just within a figure is no offence."""
    assert not list(offences(source))
