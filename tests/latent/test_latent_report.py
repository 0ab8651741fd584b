"""A search examines its model's latent space: from the command to the files, for any size, with labels and without."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import ROOT, SMALL, TINY, VALIDATOR, Run, assert_one_line, but_for_time, run
from faults import WAITING_SECONDS

from dataset import COPUS_CODES
from layersearch.console import Console
from layersearch.files import SAMPLE_PATH
from layersearch.latent import agreement, findings
from layersearch.pictures import drawing
from layersearch.pictures.latent import scatter
from layersearch.table.copus import PROFILES

TEN = ["--hidden_dims_search", "4,8", "--max_layers", "1", "--repeats", "1", "--epochs", "2"]
ALWAYS = {"latent_axes_latent{}.png", "reconstruction_by_code_latent{}.png"}


@pytest.fixture(autouse=True)
def _no_pictures_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the pictures of the search, which take as long as those of the latent space."""
    monkeypatch.setattr(drawing, "draw_search", lambda *_, **__: {})


def ten_rows(path: Path, **columns: Any) -> Path:
    """Writes the smallest table possible: ten rows of the bundled sample with these columns instead of its labels."""
    sample = pd.read_csv(SAMPLE_PATH)
    rows = sample.loc[(sample != 0).sum(axis=1).nlargest(10).index, list(COPUS_CODES)]
    rows.assign(**columns).to_csv(path, index=False)
    return path


def pictures_of(size: int, *more: str) -> set[str]:
    space = "latent_space_2d_best_config.png" if size == 2 else "latent_space_latent{}.png"
    return {name.format(size) for name in (*ALWAYS, space, *more)}


def of_latent_space(done: Run) -> set[str]:
    """Returns the names of the pictures of the latent space."""
    search = ("hyperparam_", "config_", "verdict_", "search_")
    return {name for name in done.files() if name.endswith(".png") and not name.startswith(search)}


@pytest.mark.parametrize("size", [1, 2, 24])
def test_ten_rows_with_labels_have_all_pictures_and_numbers(size: int, tmp_path: Path) -> None:
    table = ten_rows(tmp_path / "ten.csv", Cluster=[1, 3] * 5)
    done = run(tmp_path / "output", "--data_path", table, *TEN, "--latent_dim", size, pictures=True)
    assert done.status == 0
    assert "latent space" not in done.err
    assert of_latent_space(done) == pictures_of(size, "label_agreement_latent{}.png")
    results = done.results()
    VALIDATOR.validate(results)
    found = results["latent_space"]
    assert found["clusters"] is None
    assert found["agreement"]["labels"] == {PROFILES[0]: 5, PROFILES[2]: 5}
    assert len(found["axes"]["correlations"]) == 24
    assert len(found["axes"]["correlations"]["L"]) == size
    assert set(found["reconstruction"]["by_column"]) == set(COPUS_CODES)


@pytest.mark.parametrize("size", [1, 3])
def test_ten_rows_without_labels_are_clustered_instead(size: int, tmp_path: Path) -> None:
    table = ten_rows(tmp_path / "ten.csv")
    done = run(tmp_path / "output", "--data_path", table, *TEN, "--latent_dim", size, pictures=True)
    assert done.status == 0
    assert of_latent_space(done) == pictures_of(size, "latent_clusters_latent{}.png")
    VALIDATOR.validate(done.results())
    found = done.results()["latent_space"]
    assert found["agreement"] is None
    assert (found["clusters"]["preferred"], found["clusters"]["sizes"]) == (1, [10])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([f"row {k}" for k in range(10)], "fewer than two values of 'x' have 5 rows or more"),
        ([None] * 10, None),
        (["=1+1", "\u202e$x_1$"] * 5, None),
        ([True, False] * 5, None),
        ([1e300, -0.0] * 5, None),
    ],
    ids=["identifiers", "empty", "odd text", "truth", "extreme numbers"],
)
def test_odd_labels_never_cost_the_results(labels: list[Any], words: str | None, tmp_path: Path) -> None:
    table = ten_rows(tmp_path / "ten.csv", x=labels)
    done = run(tmp_path / "output", "--data_path", table, *TEN, "--label_column", "x", pictures=True)
    assert done.status == 0
    assert ("latent space" in done.err or "labels" in done.err) is (words is not None)
    if words:
        assert f"Note: the agreement with the labels is not measured: {words}\n" in done.err
    VALIDATOR.validate(done.results())
    is_compared = done.results()["latent_space"]["agreement"] is not None
    assert ("label_agreement_latent3.png" in done.files()) is is_compared
    assert ("latent_clusters_latent3.png" in done.files()) is not is_compared


def test_an_unexpected_error_is_a_notice_and_the_results_are_written(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("a table that\nnobody thought of")

    monkeypatch.setattr(findings, "measure", fail)
    monkeypatch.setattr(scatter, "draw_latent_space", fail)
    done = run(tmp_path, "--data_path", table, *SMALL, pictures=True)
    assert done.status == 0
    assert (
        "Note: the agreement with the labels is left out, since it could not be computed (ValueError: a tab" in done.err
    )
    assert "Note: the picture of the latent space, latent, is left out" in done.err
    found = done.results()["latent_space"]
    assert found["agreement"] is None
    assert found["clusters"] is not None
    assert of_latent_space(done) == {name.format(3) for name in ALWAYS}
    assert f"Latent axes: {tmp_path / 'latent_axes_latent3.png'}\n" in done.out
    assert "Latent space plot" not in done.out


def test_codes_that_are_not_finite_are_not_examined(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.full((60, 3), np.inf), np.zeros(60)

    monkeypatch.setattr(findings, "encode_table", encode)
    done = run(tmp_path, "--data_path", table, *TINY)
    assert done.status == 0
    assert "the latent space is not looked at" in done.err
    VALIDATOR.validate(done.results())
    assert set(done.results()["latent_space"].values()) == {None}


def test_a_full_disk_is_still_a_fault(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scatter, "draw_latent_space", fail)
    assert "No space left on device" in assert_one_line(run(tmp_path, "--data_path", table, *SMALL, pictures=True), 1)
    assert not list(tmp_path.glob("*.json"))


def test_the_same_command_gives_the_same_numbers_on_one_thread(finished: Run, table: Path, tmp_path: Path) -> None:
    again = run(tmp_path, "--data_path", table, *SMALL, "--threads", 1, latent=True)
    assert but_for_time(again.results())["latent_space"] == finished.results()["latent_space"]
    other = run(tmp_path / "other", "--data_path", table, *SMALL, "--seed", 7, latent=True).results()["latent_space"]
    assert other != finished.results()["latent_space"]


def test_groups_are_kept_whole_where_there_are_some(table: Path, tmp_path: Path) -> None:
    done = run(
        tmp_path, "--data_path", table, *TINY, "--group_column", "School", "--label_column", "Bcluster", latent=True
    )
    found = done.results()["latent_space"]["agreement"]
    assert (found["resampled"], found["label_column"]) == ("groups", "Bcluster")


def test_the_published_table_is_told_apart_by_its_profiles(real_table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", real_table, *TINY, "--hidden_dims_search", 64, "--no_probe", latent=True)
    found = done.results()["latent_space"]
    assert found["agreement"]["labels"][PROFILES[0]] == 753
    assert found["agreement"]["rows"] == 2008
    accuracy = found["agreement"]["knn_accuracy"]
    assert found["agreement"]["majority_share"] == pytest.approx(753 / 2008)
    assert found["agreement"]["majority_share"] < accuracy["latent"]["value"] < accuracy["columns"]["value"] < 0.8
    assert 0.5 < accuracy["pca"]["value"] < 0.65
    assert found["reconstruction"]["by_column"]["Lec"]["pca"] > 0.7


def test_the_verdict_waits_for_no_latent_space(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_said, was_said = threading.Event(), list[bool]()
    summarize, measured = Console.summarize, agreement.measure

    def summarize_and_tell(self: Console, text: str) -> None:
        summarize(self, text)
        if "Verdict: " in text:
            is_said.set()

    def wait_and_measure(*arguments: Any, **named: Any) -> agreement.Agreement:
        was_said.append(is_said.wait(WAITING_SECONDS))
        return measured(*arguments, **named)

    monkeypatch.setattr(Console, "summarize", summarize_and_tell)
    monkeypatch.setattr(findings, "measure", wait_and_measure)
    done = run(tmp_path, "--data_path", table, *SMALL, latent=True)
    assert (done.status, was_said) == (0, [True])


def test_the_numbers_do_not_wait_for_the_pictures_of_the_search(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_measured, was_measured = threading.Event(), list[bool]()
    measured = agreement.measure

    def measure_and_tell(*arguments: Any, **named: Any) -> agreement.Agreement:
        is_measured.set()
        return measured(*arguments, **named)

    def wait_and_draw(*_: Any, **__: Any) -> dict[str, bytes]:
        was_measured.append(is_measured.wait(WAITING_SECONDS))
        return {}

    monkeypatch.setattr(findings, "measure", measure_and_tell)
    monkeypatch.setattr(drawing, "draw_search", wait_and_draw)
    done = run(tmp_path, "--data_path", table, *SMALL, pictures=True)
    assert (done.status, was_measured) == (0, [True])


@pytest.mark.parametrize(
    ("imported", "absent"), [("layersearch.latent.findings", "matplotlib"), (", ".join(drawing.LATE), "sklearn")]
)
def test_numbers_need_no_matplotlib_and_pictures_of_the_search_no_scikit_learn(imported: str, absent: str) -> None:
    code = f"import sys, {imported}; sys.exit('{absent}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=WAITING_SECONDS, check=False).returncode == 0
