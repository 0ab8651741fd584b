"""Imports go one way: docs/how_it_works.md draws the layers, this holds them.

Every import counts, those inside functions and under TYPE_CHECKING too. Only the script part of a module, below
`if __name__ == "__main__"`, may start what stands above it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "layersearch"
LAYERS = (  # from the top; a module imports what stands below its own line, or in its own room
    {"hyperparam_optimizer"},
    {"command"},
    {"report", "pictures"},
    {"latent"},
    {"verdict", "search"},
    {"loading"},
    {"engines"},
    {"models"},
    {"dataset", "journal"},
    {"table"},
    {"space"},
    {"options", "words", "console", "errors", "files", "fingerprint", "randomness", "background", "losses"},
)
ONLY_IN = {  # a library -> the rooms that may import it
    "argparse": {"command", "hyperparam_optimizer"},
    "matplotlib": {"pictures"},
    "numba": {"engines"},
    "llvmlite": {"engines"},
    "ray": {"engines"},
    "optuna": {"search"},
    "jinja2": {"report"},
}
PRINTING = {"command", "console", "hyperparam_optimizer", "search/progress", "dataset"}


def modules() -> list[str]:
    """The program's modules, by their dotted names."""
    paths = [*ROOT.glob("*.py"), *(ROOT / PACKAGE).rglob("*.py")]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names)


def path_of(module: str) -> Path:
    """Where a module stands."""
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def tree_of(module: str) -> ast.Module:
    """Its code, without the script part."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    return tree


def imported_by(tree: ast.AST) -> Iterator[str]:
    """All that is imported, wherever it stands: modules, and names of modules, dotted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def own_imports(module: str) -> frozenset[str]:
    """The program's modules that this one imports."""
    known = set(modules()) - {PACKAGE, module}
    rooms = {name for name in known if path_of(name).name == "__init__.py"}
    return frozenset(set(imported_by(tree_of(module))) & (known - rooms))


def room_of(module: str) -> str:
    """`engines` of `layersearch.engines.kernel.step`; the name itself of a module outside of all rooms."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else parts[0]


def layer_of(room: str) -> int:
    """Counted from the top. Raises StopIteration where a room has no layer."""
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("module", [name for name in modules() if name != PACKAGE])
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    own = room_of(module)
    above = {name for name in own_imports(module) if room_of(name) != own and layer_of(room_of(name)) <= layer_of(own)}
    assert not above, f"{module} may not import {sorted(above)}"


def circles(imports: Mapping[str, frozenset[str]]) -> list[set[str]]:
    """Groups of modules that import each other, directly or not."""
    reachable: dict[str, set[str]] = {}
    for start in imports:
        seen, waiting = set[str](), [start]
        while waiting:
            for name in imports[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        reachable[start] = seen
    found: list[set[str]] = []
    for name in imports:
        circle = {other for other in reachable[name] if name in reachable[other]}
        if circle and circle not in found:
            found.append(circle)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles({name: own_imports(name) for name in modules()}) == []


@pytest.mark.parametrize(("library", "rooms"), ONLY_IN.items())
def test_a_library_is_known_to_its_rooms_alone(library: str, rooms: set[str]) -> None:
    users = {name for name in modules() if library in {found.split(".")[0] for found in imported_by(tree_of(name))}}
    assert {name for name in users if room_of(name) not in rooms} == set()
    assert users, "the rule speaks of nothing"


def test_only_the_console_the_commands_and_the_progress_print() -> None:
    printing = set()
    for module in modules():
        calls = (node for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call))
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls):
            printing.add(module)
    allowed = {name for name in modules() if room_of(name) in PRINTING or name == f"{PACKAGE}.search.progress"}
    assert printing <= allowed


def test_the_top_level_holds_the_four_files_of_the_design_card_alone() -> None:
    four = {"hyperparam_optimizer.py", "dataset.py", "models.py", "losses.py"}
    assert {path.name for path in ROOT.glob("*.py")} == four


@pytest.mark.parametrize("module", modules())
def test_files_and_functions_are_of_a_size_that_can_be_read(module: str) -> None:
    assert path_of(module).read_text(encoding="utf-8").count("\n") <= 500
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 80, node.name
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert len(arguments) <= 8 or room_of(module) == "engines", node.name


def test_the_layers_name_every_room_once() -> None:
    rooms = [room for layer in LAYERS for room in layer]
    assert len(rooms) == len(set(rooms))
    assert {room_of(name) for name in modules() if name != PACKAGE} <= set(rooms)
