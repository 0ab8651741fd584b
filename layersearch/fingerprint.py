"""A digest of source code that ignores comments and docstrings.

    fingerprint(sorted(folder.rglob("*.py")))       # "9f2c…", unchanged when a docstring is reworded

Journals and compiled kernels store the fingerprint of the code that made them. It does not depend on the version of
Python.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
STRING_OR_LINE_END = re.compile(
    r"""(\"{3}(?:\\.|.)*?\"{3}|'{3}(?:\\.|.)*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?:[ \t]*(?:\#[^\n]*)?(?:\n|\Z))+""",
    re.DOTALL,
)


def fingerprint(paths: Iterable[Path]) -> str:
    """Returns a digest of the code in Python files, in the given order, as 64 hexadecimal digits.

    Raises:
        OSError: a file cannot be read.
        SyntaxError: a file is not valid Python.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bare_code(path.read_text(encoding="utf-8")).encode())
        digest.update(b"\0")
    return digest.hexdigest()


@cache
def bare_code(source: str) -> str:
    """Returns Python source without comments, docstrings, blank lines and trailing spaces.

    Raises:
        SyntaxError: the source is not valid Python.
    """
    lines = source.split("\n")
    for docstring in _docstrings(ast.parse(source)):
        assert docstring.end_lineno is not None
        lines[docstring.lineno - 1 : docstring.end_lineno] = [""] * (docstring.end_lineno - docstring.lineno + 1)
    return STRING_OR_LINE_END.sub(lambda found: found[1] or "\n", "\n".join(lines)).strip("\n")


def _docstrings(tree: ast.Module) -> Iterator[ast.stmt]:
    blocks: list[tuple[bool, list[Any]]] = [(True, tree.body)]
    while blocks:
        may_start_with_one, block = blocks.pop()
        if may_start_with_one and block and _is_text(block[0]):
            yield block[0]
        for statement in block:
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                if inner := getattr(statement, name, None):
                    blocks.append((name == "body" and isinstance(statement, DOCUMENTED), inner))


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
