"""The documents are held to the program that they describe: links, command lines, flags, examples and file names."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from commands import run
from made_tables import write

from layersearch.command.arguments import build_parser, read_arguments

ROOT = Path(__file__).resolve().parent.parent
HISTORY = "CHANGELOG.md"  # may name what is no more
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", HISTORY, "data/README.md", "output/README.md"),
    *sorted(str(path.relative_to(ROOT)) for folder in ("docs", "benchmarks") for path in (ROOT / folder).glob("*.md")),
]
CURRENT = [document for document in DOCUMENTS if document != HISTORY]
COMMAND = "hyperparam_optimizer.py"
NOT_RUN = re.compile(r"<!-- not run: needs .+ -->")
TABLE = re.compile(r"[\w./]+\.(csv|tsv|tab|xlsx|parquet)")
SMALL = ["--max_layers", "1", "--epochs", "2", "--repeats", "2", "--threads", "1", "--no_probe"]
UNKNOWN = re.compile(r"unknown argument|unexpected|give a value")


class Line(NamedTuple):
    """A command line in a document."""

    document: str
    text: str
    is_marked: bool  # with what a test lacks

    @property
    def argv(self) -> list[str]:
        """What follows `python`: the script and its arguments."""
        return shlex.split(self.text, comments=True)[1:]


@cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def parts_of(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Yields the parts of a page: its text, whether it is code, and whether a mark above says that it is not run.

    Code is fenced, or a paragraph of which every line is indented by four columns or more.
    """
    fenced = re.split(r"^(```.*?^```)$", text, flags=re.MULTILINE | re.DOTALL)
    above = ""
    for part in fenced:
        pieces = [part] if part.startswith("```") else re.split(r"\n[ \t]*\n", part)
        for piece in filter(str.strip, pieces):
            piece = piece.strip("\n")
            is_code = piece.startswith("```") or all(line.startswith("    ") for line in piece.split("\n"))
            first, _, rest = piece.partition("\n")
            marked_inside = NOT_RUN.fullmatch(first.strip()) and rest
            yield piece, is_code, bool(NOT_RUN.search(above) or marked_inside)
            above = piece.split("\n")[-1]


def spans_of(document: str) -> Iterator[str]:
    """Yields what stands between backticks in running text, on one line."""
    for part, is_code, _ in parts_of(text_of(document)):
        if not is_code:
            yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", part))


def lines_of(document: str) -> Iterator[Line]:
    """Yields the command lines that start a script, in code and between backticks."""
    for part, is_code, is_marked in parts_of(text_of(document)):
        texts = part.replace("\\\n", " ").split("\n") if is_code else re.findall(r"`([^`]+)`", part)
        for text in texts:
            for one in text.split("&&"):
                if re.match(r"python \S+\.py\b", one := " ".join(one.split()).removeprefix("$ ")):
                    yield Line(document, one, is_marked)


LINES = [line for document in CURRENT for line in lines_of(document)]
COMMANDS = [line for line in LINES if line.argv[0] == COMMAND]


def shrunk(argv: list[str]) -> list[str]:
    """Returns the arguments of a command that does the same with less, on tables in the working directory."""
    if "--encode" in argv:
        return argv
    widths = ["--hidden_dims_search", "4,8"]
    if "--width_range" in argv:
        at = argv.index("--width_range")
        argv, widths = argv[:at] + argv[at + 2 :], ["--width_range", "4:6"]
    return [*argv, *SMALL, "--data_path", "table.csv", *widths]


def is_run(line: Line) -> bool:
    """Whether a test runs this command; never one that would use a cluster which happens to run on this machine."""
    return not line.is_marked and "--distributed" not in line.argv


def programs() -> list[Path]:
    """The Python files of the repository."""
    return [path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith((".", "output"))]


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        numbered = (f"{anchor}-{n}" for n in range(1, 100))
        anchors.add(anchor if anchor not in anchors else next(name for name in numbered if name not in anchors))
    return anchors


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


def test_the_two_commands_are_those_that_were_promised() -> None:
    assert re.findall(r"^    (pip install -r .*)$", text_of("README.md"), flags=re.MULTILINE) == [
        "pip install -r requirements.txt && python hyperparam_optimizer.py --latent_dim 3 "
        '--hidden_dims_search "16,32,64" --max_layers 3 --epochs 20',
        "pip install -r requirements-dev.txt && python -m pytest",
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    page = ROOT / document
    for part, is_code, _ in parts_of(text_of(document)):
        for link in [] if is_code else re.findall(r"\]\(([^)\s]+)\)", part):
            if link.startswith(("http:", "https:", "mailto:")):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), link


def test_every_page_is_in_the_index() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(re.findall(r"\]\((\w+\.md)\)", text_of("docs/README.md")))


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.document}: {line.text}")
def test_every_script_that_a_command_names_exists_and_has_its_flags(line: Line) -> None:
    script = ROOT / line.argv[0]
    assert script.exists()
    if script.name != COMMAND:
        known = declared_flags(ROOT.rglob("*.py") if script.name == "dataset.py" else [script])
        assert {word.partition("=")[0] for word in line.argv if word.startswith("--")} <= known


def declared_flags(paths: Any) -> set[str]:
    return {flag for path in paths for flag in re.findall(r'"(--\w+)"', path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: f"{line.document}: {line.text}")
def test_every_command_has_only_arguments_of_the_program(line: Line) -> None:
    if "--help" in line.argv:
        return
    _, faults = read_arguments(line.argv[1:], build_parser())
    assert not [fault for fault in faults if UNKNOWN.search(fault)]


def test_every_command_that_needs_a_cluster_is_marked() -> None:
    assert not [line for line in COMMANDS if not is_run(line) and not line.is_marked]


@pytest.fixture(scope="module")
def workplace(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models that commands of the documents start from."""
    folder = tmp_path_factory.mktemp("documents")
    shutil.copy(table, folder / "table.csv")
    small = [*SMALL, "--hidden_dims_search", "4,8", "--data_path", table]
    assert run(folder / "output", "--save_models", "--ensemble", 2, *small).status == 0
    shutil.copytree(folder / "output", folder / "large")
    return folder


@pytest.mark.parametrize("text", sorted({shlex.join(shrunk(line.argv)) for line in COMMANDS if is_run(line)}))
def test_every_command_that_is_not_marked_runs(
    text: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(workplace, tmp_path / "workplace"))
    argv = shlex.split(text)[1:]
    for word in argv:
        if TABLE.fullmatch(word) and not Path(word).exists():
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            write(pd.read_csv("table.csv"), Path(word))
    done = run(tmp_path / "results", *argv)
    assert done.status == 0, done.err


def test_the_example_in_python_runs(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [
        block for document in CURRENT for block in re.findall(r"^```python\n(.*?)^```$", text_of(document), re.M | re.S)
    ]
    examples = [block for block in blocks if "search(data_path=" in block]
    assert examples
    shutil.copy(table, tmp_path / "my_classes.csv")
    monkeypatch.chdir(tmp_path)
    for example in dict.fromkeys(examples):
        names: dict[str, Any] = {}
        exec(example, names)
        assert f"\n{names['results'].verdict[0]}\n" in capsys.readouterr().out
        if "latent" in names:
            assert tuple(names["latent"].shape) == (len(names["my_classes"]), 3)
        if "tied" in names:
            assert names["tied"]["tied"].all()


def flags() -> dict[str, str]:
    """The flags of the program and their defaults, as `--help` states them."""
    found = {}
    for action in build_parser()._actions:
        stated = re.search(r"\(default: (.*)\)$", (action.help or "") % {"default": action.default})
        if action.dest != "help" and stated:
            found[action.option_strings[0]] = stated[1]
    return found


def test_every_flag_is_listed_once_with_its_real_default() -> None:
    listed = re.findall(r"^\| `(--\w+)` \|([^|]*)\|", text_of("docs/arguments.md"), flags=re.MULTILINE)
    assert len(listed) == len(build_parser()._actions) - 1  # --help
    assert {flag: default.strip() for flag, default in listed} == flags()


def test_the_tables_of_flags_are_those_that_the_program_declares() -> None:
    script = ROOT / "docs" / "make_arguments.py"
    spec = importlib.util.spec_from_file_location("make_arguments", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = text_of("docs/arguments.md")
    assert module.filled(page) == page, "run `python docs/make_arguments.py`"


@pytest.mark.parametrize("document", CURRENT)
def test_every_flag_between_backticks_exists(document: str) -> None:
    named = {flag for span in spans_of(document) for flag in re.findall(r"(?<![\w-])--[a-z]\w+", span)}
    scripts = [*(ROOT / "benchmarks").glob("*.py"), ROOT / "dataset.py", ROOT / "data" / "make_sample.py"]
    scripts.append(ROOT / "layersearch" / "command" / "download.py")
    assert named <= {"--help", *flags(), *declared_flags(scripts)}


@pytest.mark.parametrize("document", CURRENT)
def test_every_file_of_the_program_that_is_named_exists(document: str) -> None:
    paths = [path.relative_to(ROOT).parts for path in programs()]
    for span in spans_of(document):
        for name in re.findall(r"(?<![\w./*])[\w./]+\.py(?!\w)", span):
            parts = Path(name).parts
            assert any(path[-len(parts) :] == parts for path in paths), name
        if re.fullmatch(r"(layersearch|tests|benchmarks|docs|data)/[\w/]*/?", span):
            assert (ROOT / span).is_dir(), span
