"""The program's identity follows its code, not its comments, and covers all that a training's bits depend on."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from layersearch.files import PROGRAM
from layersearch.fingerprint import bare_code, fingerprint
from layersearch.journal import identity

# What trainings use of these is words, files and threads: nothing that a bit of a result depends on.
WITHOUT_BITS = {"layersearch/console.py", "layersearch/errors.py", "layersearch/files.py", "layersearch/fingerprint.py"}
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


@pytest.mark.parametrize(
    "path", sorted((PROGRAM / "layersearch" / "engines").rglob("*.py")), ids=lambda path: path.stem
)
def test_what_is_left_of_a_file_is_its_code(path: Path) -> None:
    """Statement for statement, whatever strings with quotes, hashes and braces it holds."""

    def statements(source: str) -> list[str]:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        return [ast.dump(statement) for statement in tree.body]

    source = path.read_text(encoding="utf-8")
    bare = bare_code(source.replace('"""\n\n    def ', '"""\n        pass\n\n    def '))
    assert statements(bare) == statements(bare_code(bare))
    assert len(statements(bare)) == len(statements(source))


@pytest.mark.parametrize(
    ("change", "is_another"),
    [("# a comment\n", False), ('"""A text that does nothing."""\n', True), ("CHANGED = True\n", True)],
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
