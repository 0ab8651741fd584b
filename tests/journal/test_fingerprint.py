"""The program's identity follows its code, not its comments, and covers all that a training's bits depend on."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest

from layersearch.files import PROGRAM
from layersearch.fingerprint import bare_code, fingerprint
from layersearch.journal import identity

# What trainings use of these is words, files and threads, and of the table how a saved model knows its scaling:
# nothing that a bit of a result depends on. The rows themselves are part of the identity.
WITHOUT_BITS = {"dataset.py"}
WITHOUT_BITS |= {
    f"layersearch/{name}.py" for name in ("console", "errors", "files", "fingerprint", "options", "words", "background")
}
SOURCE = '''"""Doc."""
import os  # why


class A:
    """Doc
    of A."""

    text = "no # comment"

    def f(self):
        # say
        return """kept
# too

"""
'''
BARE = '''import os
class A:
    text = "no # comment"
    def f(self):
        return """kept
# too

"""
'''


def test_comments_docstrings_and_blank_lines_are_no_code() -> None:
    assert bare_code(SOURCE).strip() == BARE.strip()


PATHS = sorted((PROGRAM / "layersearch" / "engines").rglob("*.py"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_left_of_a_file_is_its_code(path: Path) -> None:
    """Statement for statement, whatever strings with quotes, hashes and braces it holds."""

    def documented(tree: ast.Module) -> list[Any]:
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef
        return [node for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node) is not None]

    source = path.read_text(encoding="utf-8")
    lines = source.split("\n")
    for node in documented(ast.parse(source)):  # a body of nothing but a docstring is none without it
        if len(node.body) == 1 and not isinstance(node, ast.Module):
            lines[node.body[0].end_lineno - 1] += "\n" + " " * node.body[0].col_offset + "pass"
    source = "\n".join(lines)
    expected = ast.parse(source)
    for node in documented(expected):
        del node.body[0]
    assert ast.dump(ast.parse(bare_code(source))) == ast.dump(expected)


@pytest.mark.parametrize(
    ("change", "is_another"),
    [("\n\n# a comment\n", False), ("CHANGED = True\n", True)],
)
def test_a_changed_line_of_code_makes_the_program_another(
    change: str, is_another: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("losses.py", "models.py"):
        shutil.copy(PROGRAM / name, tmp_path)
    shutil.copytree(PROGRAM / "layersearch", tmp_path / "layersearch", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "PROGRAM", tmp_path)
    before = identity._program_digest()
    assert before == fingerprint(identity.code_files(tmp_path))
    for path in identity.code_files(tmp_path):
        text = path.read_bytes()
        path.write_bytes(text + change.encode())
        assert (identity._program_digest() != before) == is_another, path
        path.write_bytes(text)


def test_every_module_that_trainings_import_is_part_of_the_identity() -> None:
    covered = {path.relative_to(PROGRAM).as_posix() for path in identity.code_files(PROGRAM)}
    waiting, reached = ["layersearch/engines/training.py"], set[str]()
    while waiting:
        name = waiting.pop()
        if name in reached or name in WITHOUT_BITS:
            continue
        reached.add(name)
        for node in ast.walk(ast.parse((PROGRAM / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                paths = (f"{module.replace('.', '/')}.py" for module in modules)
                waiting += [path for path in paths if (PROGRAM / path).exists()]
    assert reached <= covered
    assert len(reached) > 15
