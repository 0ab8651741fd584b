"""What can happen to a run from outside: to its folders, its table, its memory, its clock, and other runs.

Signals are in `test_signals.py`, full disks in `test_disk_full.py`, terminals and hostile environments in
`test_surroundings.py`.
"""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from builders import make_failed_trial
from commands import ROOT, SMALL, TINY, VALIDATOR, Run, assert_one_line, make_diverge, run
from faults import (
    after_record,
    assert_nothing_is_left_over,
    assert_same_results,
    before_call,
    can_mount,
    nothing_is_trained,
    snapshot,
    stopping_after_record,
)

from layersearch import files
from layersearch.engines import compiled, dispatch, lifecycle, training
from layersearch.journal import checkpoints, journal
from layersearch.pictures import search_pictures
from layersearch.pictures.style import png
from layersearch.report import publish
from layersearch.report import results as results_module
from layersearch.search import running
from layersearch.space.trials import Trial, TrialResult

SAVED = ["--save_models", *SMALL]

# -------------------------------------------------------------------------------------- the output folder


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_a_folder_that_is_removed_while_it_trains_is_made_again_and_complete(
    seconds: float, finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"
    monkeypatch.setattr(journal, "SYNC_SECONDS", seconds)  # the journal is looked after often, or not once in this run
    with monkeypatch.context() as patches:
        after_record(patches, 3, lambda: shutil.rmtree(folder))
        done = run(folder, "--data_path", table, *SAVED, latent=True)
    assert (done.status, done.err) == (0, "")
    assert_same_results(folder, finished.folder)
    assert_nothing_is_left_over(folder)
    nothing_is_trained(monkeypatch)
    assert run(folder, "--data_path", table, *SAVED, latent=True).status == 0


def test_what_was_trained_in_a_folder_that_was_removed_is_kept_for_the_next_run(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"

    def remove_and_stop() -> None:
        shutil.rmtree(folder)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patches:
        stopping_after_record(patches, 4, remove_and_stop)
        assert run(folder, "--data_path", table, *SAVED, "--threads", 1, latent=True).status == 130
    done = run(folder, "--data_path", table, *SAVED, latent=True)
    assert "2 of 5 configurations already trained" in done.out
    assert_same_results(folder, finished.folder)


def test_a_folder_that_is_removed_before_a_checkpoint_is_made_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "CALL_SECONDS", 0.0)
    search = ["--data_path", table, *SMALL, "--max_layers", 1, "--threads", 1]
    gone, save = tmp_path / "gone", checkpoints.Checkpoints.save

    def remove_and_save(self: checkpoints.Checkpoints, *state: Any) -> None:
        if self.folder == gone:  # a trainer that an earlier test has stopped may still be saving elsewhere
            shutil.rmtree(gone, ignore_errors=True)
        save(self, *state)

    with monkeypatch.context() as patches:
        patches.setattr(checkpoints.Checkpoints, "save", remove_and_save)
        done = run(gone, *search)
    assert (done.status, done.err) == (0, "")
    assert_same_results(done.folder, run(tmp_path / "there", *search).folder)


def test_a_file_in_the_folders_place_ends_the_run_with_one_line(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"

    def replace() -> None:
        shutil.rmtree(folder)
        folder.write_text("mine")

    after_record(monkeypatch, 3, replace)
    done = run(folder, "--data_path", table, *SAVED)
    assert str(folder) in assert_one_line(done, 1)
    assert folder.read_text() == "mine"


def a_file(place: Path) -> Path:
    place.write_text("mine")
    return place


def below_a_file(place: Path) -> Path:
    return a_file(place) / "deeper" / "still"


def a_dangling_link(place: Path) -> Path:
    place.symlink_to(place.with_name("nowhere"))
    return place


@pytest.mark.parametrize("make", [a_file, below_a_file, a_dangling_link])
def test_an_output_path_that_can_be_no_folder_is_refused(
    make: Callable[[Path], Path], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_trained(monkeypatch)
    folder = make(tmp_path / "output")
    done = run(folder, "--data_path", table, *SAVED)
    assert assert_one_line(done, 2).startswith(f"error: --output_dir {str(folder)!r}")
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_an_output_folder_may_be_a_link_to_one(finished: Run, table: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    done = run(tmp_path / "link", "--data_path", table, *SAVED, latent=True)
    assert (done.status, done.err) == (0, "")
    assert (tmp_path / "link").is_symlink()
    assert_same_results(tmp_path / "real", finished.folder)


def test_a_result_that_is_a_link_is_replaced_and_its_target_untouched(
    finished: Run, table: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    for number, name in enumerate(sorted(finished.files() - {".lock", "journal_latent3.jsonl"})):
        target = tmp_path / f"mine{number}"
        target.write_text("mine")
        (folder / name).symlink_to(target)
    done = run(folder, "--data_path", table, *SAVED, pictures=True)
    assert (done.status, done.err) == (0, "")
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert {path.read_text() for path in tmp_path.glob("mine*")} == {"mine"}


@pytest.mark.parametrize("name", ["hyperparam_results_latent3.csv", "verdict_latent3.png"])
def test_a_folder_where_a_result_is_to_be_is_refused_before_anything_is_trained(
    name: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_trained(monkeypatch)
    (tmp_path / name).mkdir()
    said = assert_one_line(run(tmp_path, "--data_path", table, *SAVED), 2)
    assert "--output_dir" in said
    assert f"{tmp_path / name} is a folder" in said
    assert [path.name for path in tmp_path.iterdir()] == [name]


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Permissions for most; whoever is above them gets a file system that is read-only."""
    if not can_mount():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    command = ["mount", "-t", "tmpfs", "-o", "ro", "small", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are others there")
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_trained(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_trained(monkeypatch)
    with unwritable(tmp_path):
        done = run(tmp_path, "--data_path", table, *SAVED)
    said = assert_one_line(done, 2)
    assert said.startswith(f"error: --output_dir {str(tmp_path)!r}")
    assert "cannot be written to" in said


# ---------------------------------------------------------------------------------------------- the table


def rewrite(path: Path) -> None:
    path.write_text("something else\n1\n")


@pytest.mark.parametrize("change", [rewrite, Path.unlink])
def test_a_table_that_is_changed_or_removed_in_the_meantime_is_noted(
    change: Callable[[Path], object], finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.csv"
    shutil.copy(table, mine)
    monkeypatch.setattr(publish, "describe_data", lambda _: finished.results()["data"])  # but for the path
    after_record(monkeypatch, 3, lambda: change(mine))
    done = run(tmp_path / "output", "--data_path", mine, *SAVED)
    assert done.status == 0
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"Note: {mine} has changed or gone since it was read; ")
    assert done.results()["all_results"] == finished.results()["all_results"]


def test_a_table_that_stays_as_it_is_is_not_noted(finished: Run) -> None:
    assert finished.err == ""


# ------------------------------------------------------------------------------------------------- memory


def test_where_memory_is_short_fewer_are_trained_at_a_time_with_the_same_bits(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer, seat, refused = dispatch.make_trainer, threading.Lock(), threading.Event()

    def make_narrow(*arguments: Any) -> Callable[[Trial], TrialResult]:
        train = make_trainer(*arguments)

        def train_alone(trial: Trial) -> TrialResult:
            if not seat.acquire(blocking=False):
                refused.set()
                raise MemoryError
            try:
                refused.wait(10)  # for a second one to try
                return train(trial)
            finally:
                seat.release()

        return train_alone

    monkeypatch.setattr(training, "make_trainer", make_narrow)
    done = run(tmp_path, "--data_path", table, *SAVED, "--threads", 2, latent=True)
    assert done.status == 0
    assert done.err == "Note: memory does not suffice for so many trainings at a time; going on with 1\n"
    assert_same_results(tmp_path, finished.folder)


@contextmanager
def memory_limited_by(spare: int) -> Iterator[None]:
    """This process gets so many more bytes of memory, and then none."""
    resource = pytest.importorskip("resource")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


HUGE = 6_500  # two layers of this width have 85 million parameters, each matrix 169 MB
SPARE = 150_000_000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory this process has is in /proc")
@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_what_does_not_fit_into_memory_at_all_is_listed_and_the_others_go_on(
    engine: str, table: Path, tmp_path: Path
) -> None:
    search = ["--hidden_dims_search", f"4,{HUGE}", "--max_layers", 2, "--epochs", 1, "--repeats", 1, "--threads", 1]
    run(tmp_path / "warm", "--data_path", table, *TINY, "--engine", engine)
    with memory_limited_by(SPARE):
        done = run(tmp_path / "output", "--data_path", table, *search, "--engine", engine, "--no_probe")
    assert (done.status, done.err) == (0, "")
    results = done.results()
    VALIDATOR.validate(results)
    failed = results["all_results"][-1]
    assert failed["config"] == [HUGE, HUGE]
    assert failed["status"].startswith("failed: no memory")
    assert str(failed["model_params"]) in failed["status"]
    assert [entry["status"] for entry in results["all_results"][:-1]] == ["ok"] * 4


def test_where_nothing_fits_into_memory_one_line_says_so(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(trial: Trial) -> TrialResult:
        raise MemoryError

    with monkeypatch.context() as patches:
        patches.setattr(training, "make_trainer", lambda *_: train)
        done = run(tmp_path, "--data_path", table, *SAVED, "--threads", 1, "--quiet")
    said = assert_one_line(done, 1)
    assert "every configuration failed" in said
    assert "memory" in said
    assert run(tmp_path, "--data_path", table, *SAVED).status == 0, "with memory it is tried again"


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory")])
def test_memory_that_runs_out_elsewhere_is_one_line(
    fault: Exception, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out() -> None:
        raise fault

    before_call(monkeypatch, publish, "write_csv", run_out)
    assert "out of memory" in assert_one_line(run(tmp_path, "--data_path", table, *SAVED), 1)
    assert snapshot(tmp_path) == {}
    assert_nothing_is_left_over(tmp_path)


# ---------------------------------------------------------------------------------------------- the clock


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_jumps_changes_no_result(
    years: int, finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Jumping:
            moment = super().now(tz)
            calls.append(moment)
            return moment.replace(year=moment.year + years) if len(calls) % 2 else moment

    calls: list[object] = []
    for module in (journal, files, results_module, running):
        monkeypatch.setattr(module, "datetime", Jumping)
    with monkeypatch.context() as patches:
        after_record(patches, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert run(tmp_path, "--data_path", table, *SAVED, "--threads", 1, latent=True).status == 130
    done = run(tmp_path, "--data_path", table, *SAVED, latent=True)
    assert (done.status, done.err) == (0, "")
    assert len(calls) > 10
    assert_same_results(tmp_path, finished.folder)


# ----------------------------------------------------------------------------------------- two runs at once

HOLD = """
import time
from pathlib import Path
from layersearch.files import exclusive
with exclusive(Path({folder!r})):
    print(flush=True)
    time.sleep(600)
"""


@contextmanager
def another_run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder as a run does."""
    code = HOLD.format(folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "\n"
            yield other
        finally:
            other.kill()


@pytest.mark.parametrize("latent_dim", [3, 2])
def test_a_second_run_in_a_folder_is_refused_until_the_first_is_gone(
    latent_dim: int, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = ["--data_path", table, *TINY, "--latent_dim", latent_dim]
    with another_run(tmp_path) as other:
        before = snapshot(tmp_path)
        said = assert_one_line(run(tmp_path, *search), 2)
        assert said.startswith(
            f"error: --output_dir {str(tmp_path)!r}: another run is at work there (process {other.pid}"
        )
        assert f"since {datetime.date.today().year}-" in said
        assert snapshot(tmp_path) == before
        assert run(tmp_path / "elsewhere", *search).status == 0, "another folder is free"
        other.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        other.wait(10)
    assert run(tmp_path, *search).status == 0
    assert_nothing_is_left_over(tmp_path)


# ------------------------------------------------------------------------------------------------ divergence


def test_a_configuration_that_diverges_is_in_no_picture_and_never_leads(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (16, 16)  # with one thread the costliest is finished before all others
    make_diverge(monkeypatch, lambda trial: trial.config == first and trial.repeat == 1)
    drawn: list[Any] = []

    def png_and_note(figure: Any) -> bytes:
        drawn.append(figure)
        return png(figure)

    monkeypatch.setattr(search_pictures, "png", png_and_note)
    done = run(tmp_path, "--data_path", table, *SMALL, "--threads", 1, pictures=True)
    assert done.status == 0
    entry = done.results()["all_results"][-1]
    assert entry["status"] == "failed: not finite at epoch 3 (repeat 2 of 2)"
    assert len(entry["curves"]["test"][1]) == make_failed_trial(first).test_losses.size
    name = f"[{', '.join(map(str, first))}]"
    texts = [text.get_text() for figure in drawn for text in figure.findobj(match=lambda art: hasattr(art, "get_text"))]
    assert len(drawn) == 4
    assert any("1 failed" in text for text in texts)
    assert not any(name in text or "-".join(map(str, first)) in text.split() for text in texts)
    leaders = [line for line in done.out.splitlines() if "best so far" in line]
    assert leaders
    assert not any(name in line for line in leaders)
