"""The same search gives the same bits, on any number of threads, in any order, and however often it was interrupted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import soak
from commands import SMALL, Run, run
from resumption import SEARCHES, outputs, run_until

from layersearch.engines import compiled, lifecycle, reference
from layersearch.engines.kernel import step as kernel
from layersearch.files import DRAFTS, SAMPLE_PATH
from layersearch.journal.checkpoints import Checkpoints
from layersearch.search import plan as search_plan
from layersearch.space.trials import Trial, plan_trials

# --------------------------------------------------------------------------- threads, order, interruption


@pytest.mark.parametrize("title", SEARCHES)
@pytest.mark.parametrize(("threads", "order"), [(1, 0), (3, None)])
def test_threads_order_and_interruption_change_no_bit(
    wholes: Mapping[str, Run],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    title: str,
    threads: int,
    order: int | None,
) -> None:
    """`order` is the seed that shuffles the trials; None reverses them."""

    def plan(*arguments: Any, **options: Any) -> list[Trial]:
        trials = plan_trials(*arguments, **options)[::-1]
        return trials if order is None else random.Random(order).sample(trials, len(trials))

    monkeypatch.setattr(search_plan, "plan_trials", plan)
    arguments = ["--data_path", table, *SEARCHES[title], "--threads", threads]
    expected = outputs(wholes[title].folder)
    assert run(tmp_path / "at_once", *arguments).status == 0
    assert outputs(tmp_path / "at_once") == expected
    for number in (3, 4):
        run_until(number, tmp_path / "stopped", *arguments)
    assert "already" in run(tmp_path / "stopped", *arguments).out
    assert outputs(tmp_path / "stopped") == expected


def test_two_latent_sizes_share_a_folder_and_do_not_disturb_each_other(table: Path, tmp_path: Path) -> None:
    arguments = {size: ["--data_path", table, *SMALL, "--latent_dim", size] for size in (2, 3)}
    for size in (2, 3):
        run(tmp_path / str(size), *arguments[size])
    both = tmp_path / "both"
    for size, other in ((2, 3), (3, 2), (2, 3)):
        run_until(2, both, *arguments[size])
        assert not list(both.glob(f"*latent{other}.csv"))
    assert run(both, *arguments[2]).status == 0
    before = {path: path.read_bytes() for path in both.glob("*latent2*")}
    assert run(both, *arguments[3]).status == 0
    assert {path: path.read_bytes() for path in both.glob("*latent2*")} == before
    results = outputs(both)
    assert results == outputs(tmp_path / "2") | outputs(tmp_path / "3")


# ------------------------------------------------------------------------------------ within a training


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every training count as long, so that its state is saved after each epoch and its weights are kept."""
    monkeypatch.setattr(lifecycle, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "CALL_SECONDS", 0.0)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns the list to which either engine adds the number of each epoch that it trains from now on."""
    numbers: list[int] = []
    work, masks = kernel.train_epochs, reference.dropout_masks

    def note_compiled(*arguments: Any) -> int:
        first_epoch = arguments[7]
        finished: int = work(*arguments)
        numbers.extend(range(first_epoch, first_epoch + finished))
        return finished

    def note_reference(model: Any, key: int, epoch: int, *arguments: Any) -> Any:
        numbers.append(epoch)
        return masks(model, key, epoch, *arguments)

    monkeypatch.setattr(kernel, "train_epochs", note_compiled)
    monkeypatch.setattr(reference, "dropout_masks", note_reference)
    return numbers


FEW = ["--hidden_dims_search", "8,4", "--max_layers", "1", "--epochs", "5", "--repeats", "2", "--no_probe"]


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_training_goes_on_at_the_epoch_where_it_was_stopped(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: list[int], engine: str
) -> None:
    arguments = ["--data_path", table, *FEW, "--threads", 1, "--save_models", "--engine", engine]
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "CHECKPOINT_SECONDS", 60.0)
        run(tmp_path / "whole", *arguments)
    expected = outputs(tmp_path / "whole")
    epochs.clear()
    folder = tmp_path / "stopped"
    n_stops = 4 * 4 // 3  # each of the 4 trainings of 5 epochs is saved 4 times
    for _ in range(n_stops):
        run_until(3, folder, *arguments, owner=Checkpoints, method="save")
        assert len(list(folder.glob("checkpoint_latent3_*"))) == 1
    assert run(folder, *arguments).status == 0
    assert outputs(folder) == expected
    later = [epoch for epoch in epochs if epoch > 1]  # each start trains two epochs to try the engine out
    assert sorted(later) == sorted(4 * [2, 3, 4]), "none is trained twice"


@pytest.mark.usefixtures("every_epoch")
def test_a_training_whose_state_is_damaged_starts_anew(table: Path, tmp_path: Path) -> None:
    arguments = ["--data_path", table, *FEW, "--threads", 1]
    run(tmp_path / "whole", *arguments)
    run_until(2, tmp_path / "stopped", *arguments, owner=Checkpoints, method="save")
    (path,) = (tmp_path / "stopped").glob("checkpoint_latent3_*")
    path.write_bytes(path.read_bytes()[:-100])
    assert run(tmp_path / "stopped", *arguments).status == 0
    assert outputs(tmp_path / "stopped") == outputs(tmp_path / "whole")


# -------------------------------------------------------------------------------------------- real kills

KILLED = [*SMALL, "--epochs", "6", "--save_models"]


def kill_when(folder: Path, is_time: Callable[[], bool], flags: Sequence[str]) -> str:
    """Starts the command as a process, kills it as soon as `is_time`, and returns which phase it was in."""
    process = soak.start(folder, SAMPLE_PATH, flags)
    deadline = time.monotonic() + 120
    while not is_time() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0, folder.with_suffix(".log").read_text(encoding="utf-8")
    return soak.phase_of(folder, process.pid)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(folder, "--data_path", SAMPLE_PATH, *KILLED).status == 0
    return outputs(folder)


def test_a_search_that_is_killed_while_the_reports_are_written_is_resumed_by_the_next(
    uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    folder = tmp_path / "output"

    def is_writing() -> bool:
        return bool(list(folder.glob(f"{DRAFTS}*/*.csv")) or list(folder.glob(f"{DRAFTS}*/.*.png")))

    assert kill_when(folder, is_writing, KILLED) == "report"
    assert list(folder.glob(f"{DRAFTS}*"))
    done = run(folder, "--data_path", SAMPLE_PATH, *KILLED)
    assert done.status == 0, done.err
    assert "already" in done.out
    assert outputs(folder) == uninterrupted


def test_a_short_soak_ends_with_the_same_bits(capsys: pytest.CaptureFixture[str]) -> None:
    short = [*SMALL, "--repeats", "3", "--epochs", "10", "--save_models"]
    seed = 356  # a kill about halfway, after which the journal is cut off
    done = soak.soak(SAMPLE_PATH, 1, seed, searches={"short": short}, most=1)
    assert len(done.strikes) >= 1
    assert done.differences == []
    assert "the same bits" in capsys.readouterr().out
