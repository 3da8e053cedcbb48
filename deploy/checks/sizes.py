"""Files and functions stay short, and public things of the product say what they promise."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("src", "deploy", "bench", "examples")
LONGEST_FILE = 400
LONGEST_FUNCTION = 50
PROTOCOL = ("on_", "connection_", "data_received", "pause_writing", "resume_writing")  # asyncio's and httptools' words
Function = ast.FunctionDef | ast.AsyncFunctionDef


def problems(root: Path) -> list[str]:
    """What is too long or says nothing, one line each."""
    files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]
    return [problem for file in files for problem in _of(file, str(file.relative_to(root)))]


def _of(file: Path, name: str) -> Iterator[str]:
    text = file.read_text()
    lines = len(text.splitlines())
    if lines > LONGEST_FILE:
        yield f"{name}: {lines} lines, {LONGEST_FILE} are allowed: is it still one thing?"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, Function) and (length := _body(node)) > LONGEST_FUNCTION:
            yield f"{name}:{node.lineno}: {node.name} has {length} lines, {LONGEST_FUNCTION} are allowed"
    if name.startswith("src/"):
        yield from (f"{name}:{line}: {what} has no docstring" for line, what in _silent(tree))


def _body(node: Function) -> int:
    """Lines of the body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _silent(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Public functions and classes of a module, and public methods of public classes, without a docstring."""
    if tree.body and ast.get_docstring(tree) is None:
        yield 1, "the module"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield node.lineno, node.name
            if isinstance(node, ast.ClassDef):
                methods = (m for m in node.body if isinstance(m, Function) and not m.name.startswith(("_", *PROTOCOL)))
                yield from ((m.lineno, f"{node.name}.{m.name}") for m in methods if ast.get_docstring(m) is None)
