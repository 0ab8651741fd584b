"""A disk that is full at any one file: what was there stays, one line names the file, and nothing trained is lost.

The system itself refuses the writes: files may not grow, or a small file system of the test's own is full.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, Run, assert_one_line, run
from faults import (
    assert_nothing_is_left_over,
    assert_same_results,
    can_mount,
    during_call,
    files_limited_to,
    let_trainings_end,
    nothing_is_trained,
    snapshot,
)

from layersearch import files
from layersearch.engines import compiled, lifecycle
from layersearch.journal import checkpoints, journal
from layersearch.pictures import drawing
from layersearch.pictures.latent import drawing as latent_drawing

pytest.importorskip("resource")  # Windows has no limits of this kind

ROOM = 24  # bytes: less than any file of the program has
FILES = (
    "hyperparam_results_latent2.json",
    "hyperparam_results_latent2.csv",
    "report_latent2.html",
    "best_model_latent2.pth",
    "latent_codes_latent2.csv",
    "hyperparam_search_latent2.png",
    "config_performance_latent2.png",
    "verdict_latent2.png",
    "search_history_latent2.png",
    "latent_space_2d_best_config.png",
    "latent_axes_latent2.png",
    "reconstruction_by_code_latent2.png",
    "label_agreement_latent2.png",
)
CROSSED_FILES = ("study_latent2.png", "study_latent2.csv", "ensemble_latent2.pth", "ensemble_codes_latent2.csv")
TWO = ["--latent_dim", 2, "--save_models", *SMALL]
MORE = [*TWO, "--repeats", 3]
CROSSED = [*TWO, "--max_layers", 1, "--study", "dropout=0,0.2", "--ensemble", 2]


@pytest.fixture(scope="session")
def searched(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all results of a search whose journal holds those of a larger one too."""
    return search_more_and_less(TWO, table, tmp_path_factory.mktemp("searched") / "output")


@pytest.fixture(scope="session")
def crossed(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a study and an ensemble."""
    return search_more_and_less(CROSSED, table, tmp_path_factory.mktemp("crossed") / "output")


@pytest.fixture(scope="module")
def drawn() -> dict[object, Any]:
    """What was drawn so far; see `draw_once`."""
    return {}


def draw_once(monkeypatch: pytest.MonkeyPatch, drawn: dict[object, Any], search: str) -> None:
    """Draws the pictures of each search once: it is their writing that fails here, and drawing takes 2 seconds."""
    for module, name in ((drawing, "draw_search"), (latent_drawing, "draw")):
        draw = getattr(module, name)

        def draw_or_repeat(*arguments: Any, _key: object = (search, name), _draw: Any = draw, **named: Any) -> Any:
            if _key not in drawn:
                drawn[_key] = _draw(*arguments, **named)
            return drawn[_key]

        monkeypatch.setattr(module, name, draw_or_repeat)


def search_more_and_less(arguments: list[object], table: Path, folder: Path) -> Path:
    for repeats in (3, 2):
        assert run(folder, "--data_path", table, *arguments, "--repeats", repeats, pictures=True).status == 0
    return folder


@pytest.fixture(scope="session")
def uninterrupted(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the larger search."""
    return run(tmp_path_factory.mktemp("uninterrupted"), "--data_path", table, *MORE).folder


@pytest.mark.parametrize("name", FILES)
def test_at_any_result_the_old_ones_stay_and_the_next_run_needs_no_training(
    name: str,
    searched: Path,
    uninterrupted: Path,
    drawn: dict[object, Any],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "output"
    draw_once(monkeypatch, drawn, "plain")
    shutil.copytree(searched, folder)
    assert_old_results_stay(folder, name, MORE, table, monkeypatch)
    nothing_is_trained(monkeypatch)
    assert run(folder, "--data_path", table, *MORE).status == 0
    assert_same_results(folder, uninterrupted, 2)


@pytest.mark.parametrize("name", CROSSED_FILES)
def test_at_any_result_of_a_study_or_an_ensemble_the_old_ones_stay(
    name: str,
    crossed: Path,
    drawn: dict[object, Any],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "output"
    draw_once(monkeypatch, drawn, "crossed")
    shutil.copytree(crossed, folder)
    more = [*CROSSED, "--repeats", 3]
    assert_old_results_stay(folder, name, more, table, monkeypatch)
    nothing_is_trained(monkeypatch)
    assert run(folder, "--data_path", table, *more).status == 0


def assert_old_results_stay(
    folder: Path, name: str, search: list[object], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the file of this name does not fit."""
    before = snapshot(folder)
    assert name in before
    with monkeypatch.context() as patches:
        limit_at_file(patches, name)
        done = run(folder, "--data_path", table, *search, pictures=name.endswith(".png"))
    said = assert_one_line(done, 1)
    assert said.startswith("error: ")
    assert str(folder / name) in said
    assert snapshot(folder) == before
    assert_nothing_is_left_over(folder)


def limit_at_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Only this one does not fit."""
    whole = files.replacing

    @contextmanager
    def replacing_limited(path: Path) -> Iterator[Path]:
        with whole(path) as temporary, files_limited_to(ROOM) if path.name == name else nullcontext():
            yield temporary

    for module in [module for module in sys.modules.values() if getattr(module, "replacing", None) is whole]:
        monkeypatch.setattr(module, "replacing", replacing_limited)


def test_where_drafts_go_the_old_results_stay(
    searched: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"
    shutil.copytree(searched, folder)
    before = snapshot(folder)
    make = tempfile.mkdtemp

    def refuse(*, prefix: str, dir: Path) -> str:
        if prefix == files.DRAFTS:
            raise OSError(28, "No space left on device", str(dir / prefix))
        return make(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert "No space left on device" in assert_one_line(run(folder, "--data_path", table, *MORE), 1)
    assert snapshot(folder) == before


def test_at_a_record_of_the_journal_the_search_ends_and_goes_on_from_the_one_before(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [tmp_path, "--data_path", table, "--save_models", *SMALL]
    with monkeypatch.context() as patches:
        limit_at_record(patches, 4)
        done = run(*arguments, latent=True)  # type: ignore[arg-type]
    assert str(tmp_path / "journal_latent3.jsonl") in assert_one_line(done, 1)
    assert snapshot(tmp_path) == {}
    assert_nothing_is_left_over(tmp_path)
    again = run(*arguments, latent=True)  # type: ignore[arg-type]
    assert (again.status, again.err) == (0, "")
    assert "1 of 5 configurations already trained" in again.out or "3 of 10 trainings already done" in again.out
    assert_same_results(tmp_path, finished.folder)


def limit_at_record(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Only half of this record fits."""
    write, count = journal.Journal._write, [0]

    def write_half(self: journal.Journal, line: bytes) -> None:
        count[0] += 1
        if count[0] < number:
            return write(self, line)
        with files_limited_to(self.path.stat().st_size + len(line) // 2):
            return write(self, line)

    monkeypatch.setattr(journal.Journal, "_write", write_half)


@pytest.mark.parametrize("engine", ["compiled", "reference", "stacked"])
def test_at_a_checkpoint_the_search_ends_and_goes_on(
    engine: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "CALL_SECONDS", 0.0)
    search = ["--data_path", table, *SMALL, "--max_layers", 1, "--threads", 1, "--engine", engine]
    with monkeypatch.context() as patches:
        during_call(patches, checkpoints.Checkpoints, "save", partial(files_limited_to, ROOM))
        done = run(tmp_path / "full", *search)
        let_trainings_end()
    said = assert_one_line(done, 1)
    assert str(tmp_path / "full" / "checkpoint_latent3_") in said
    assert_nothing_is_left_over(tmp_path)
    assert run(tmp_path / "full", *search).status == 0
    assert_same_results(tmp_path / "full", run(tmp_path / "roomy", *search).folder)
    assert not list(tmp_path.rglob("checkpoint*"))


@pytest.mark.parametrize(
    ("owner", "name", "file"),
    [(files, "remove_leftovers", ".running"), (journal, "write_records", "journal_latent3.jsonl")],
)
def test_before_anything_is_trained_nothing_is_left_behind(
    owner: Any, name: str, file: str, finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder's name is written right after the leftovers are removed."""
    limit = files_limited_to(0)
    called = getattr(owner, name)

    def call_and_limit(*arguments: Any) -> None:
        limit.__enter__()
        called(*arguments)

    with monkeypatch.context() as patches:
        patches.setattr(owner, name, call_and_limit)
        try:
            done = run(tmp_path, "--data_path", table, "--save_models", *SMALL, latent=True)
        finally:
            limit.__exit__(None, None, None)
    assert str(tmp_path / file) in assert_one_line(done, 1)
    assert [path.name for path in tmp_path.iterdir()] in ([".lock"], [])
    assert run(tmp_path, "--data_path", table, "--save_models", *SMALL, latent=True).status == 0
    assert_same_results(tmp_path, finished.folder)


# ------------------------------------------------------------------------------- a file system that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; `resize` makes it smaller or larger."""
    if not can_mount():
        pytest.skip("only the administrator of a Linux machine can make a file system")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "small", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def resize(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_on_a_disk_without_room_for_a_picture_the_old_results_stay(
    searched: Path, uninterrupted: Path, table: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_disk / "output"
    shutil.copytree(searched, folder)
    before = snapshot(folder)
    used = sum(path.stat().st_size for path in folder.iterdir())
    resize(small_disk, f"size={(used + 150_000) // 4096 * 4}k")
    done = run(folder, "--data_path", table, *MORE, pictures=True)
    said = assert_one_line(done, 1)
    assert ".png" in said
    assert snapshot(folder) == before
    assert_nothing_is_left_over(folder)
    resize(small_disk, "size=8m")
    nothing_is_trained(monkeypatch)
    assert run(folder, "--data_path", table, *MORE).status == 0
    assert_same_results(folder, uninterrupted, 2)


def test_on_a_full_disk_the_search_ends_and_with_room_it_goes_on(finished: Run, table: Path, small_disk: Path) -> None:
    resize(small_disk, "size=40k")
    search = [small_disk, "--data_path", table, "--save_models", *SMALL]
    done = run(*search, latent=True)  # type: ignore[arg-type]
    said = assert_one_line(done, 1)
    assert "No space left on device" in said
    assert str(small_disk) in said
    assert snapshot(small_disk) == {}
    resize(small_disk, "size=8m")
    assert run(*search, latent=True).status == 0  # type: ignore[arg-type]
    assert_same_results(small_disk, finished.folder)


@pytest.mark.parametrize(("inodes", "status"), [(1, 2), (2, 1), (3, 1), (4, 1)])
def test_on_a_disk_that_takes_no_more_files_nothing_breaks(
    inodes: int, status: int, finished: Run, table: Path, small_disk: Path
) -> None:
    resize(small_disk, f"nr_inodes={inodes}")
    search = [small_disk, "--data_path", table, "--save_models", *SMALL]
    said = assert_one_line(run(*search, latent=True), status)  # type: ignore[arg-type]
    assert "No space left on device" in said
    assert str(small_disk) in said
    assert_nothing_is_left_over(small_disk)
    resize(small_disk, "nr_inodes=100")
    assert run(*search, latent=True).status == 0  # type: ignore[arg-type]
    assert_same_results(small_disk, finished.folder)
