"""The command with `--study`: what it leaves behind, in one stage and in two, stopped and failing."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import VALIDATOR, Run, but_for_time, make_diverge, run
from journals import journal_path, line_ends
from resumption import goes_on_from, outputs

from layersearch.pictures import search_pictures
from layersearch.pictures.history import draw_history
from layersearch.search.history import History
from layersearch.space.configurations import Variant, options_of
from layersearch.space.trials import Trial
from models import load_best

FIELD = ["--hidden_dims_search", "4,8", "--max_layers", "2", "--epochs", "3", "--repeats", "2", "--threads", "2"]
FIELD += ["--no_probe", "--save_models", "--study", "normalization=none,layer; dropout=0.1,0"]
TWO_STAGES = [*FIELD, "--study_configs", "2"]
N_OPTIONS, N_LAYERS = 4, 5
RESUMED = ("hyperparam_results_latent3.json", "hyperparam_results_latent3.csv", "study_latent3.csv")


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All configurations crossed, with pictures."""
    done = run(tmp_path_factory.mktemp("study") / "whole", "--data_path", table, *FIELD, pictures=True)
    assert (done.status, done.err) == (0, "")
    return done


def test_the_second_stages_picture_knows_of_the_first(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts: list[History | None] = []

    def draw_and_note(*arguments: Any, **named: Any) -> Any:
        firsts.append(named["first"])
        return draw_history(*arguments, **named)

    monkeypatch.setattr(search_pictures, "draw_history", draw_and_note)
    done = run(tmp_path, "--data_path", table, *TWO_STAGES, pictures=True)
    assert (done.status, done.err) == (0, "")
    (first,) = firsts
    assert first is not None
    assert first.tried == N_LAYERS


@pytest.fixture(scope="module")
def best(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The best two crossed."""
    done = run(tmp_path_factory.mktemp("study") / "best", "--data_path", table, *TWO_STAGES)
    assert (done.status, done.err) == (0, "")
    return done


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def key(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return (*entry["config"], *sorted(entry["options"].items()))


def test_every_configuration_is_trained_with_every_combination(whole: Run) -> None:
    results = whole.results()
    VALIDATOR.validate(results)
    entries = results["all_results"]
    assert len({key(entry) for entry in entries}) == len(entries) == N_OPTIONS * N_LAYERS
    assert results["total_configurations"] == N_OPTIONS * N_LAYERS
    assert {tuple(entry["options"]) for entry in entries} == {("dropout", "normalization")}
    assert results["study"]["first_stage"] is None
    assert "Searching 5 configurations x 4 options x 2 repeats of 3 epochs, latent dimension 3" in whole.out


def test_the_study_is_in_the_summary_the_json_the_tables_and_a_picture(whole: Run) -> None:
    study = whole.results()["study"]
    for line in study["statement"]:
        assert line in whole.out.splitlines()
    assert study["statement"][0].startswith(
        "Study at 3 epochs (at other lengths the answer may differ): mean change of 5"
    )
    assert [factor["reference"] for factor in study["factors"]] == [0.1, "layer"]
    assert f"Study plot: {whole.folder / 'study_latent3.png'}" in whole.out
    assert (whole.folder / "study_latent3.png").stat().st_size > 10_000
    rows = rows_of(whole.folder / "study_latent3.csv")
    assert [row["kind"] for row in rows] == ["main effect", "main effect", "interaction"]
    assert [float(row["effect"]) for row in rows[:2]] == [effect["effect"] for effect in study["main_effects"]]
    assert (rows[2]["factor"], rows[2]["with_factor"], rows[2]["strongest"]) == ("dropout", "normalization", "True")


def test_effects_are_the_differences_of_the_ranked_losses(whole: Run) -> None:
    results = whole.results()
    losses = {key(entry): entry["final_test_loss"] for entry in results["all_results"]}
    for effect in results["study"]["main_effects"]:
        at, reference = (
            np.mean([loss for name, loss in losses.items() if (effect["factor"], effect[level]) in name])
            for level in ("level", "reference")
        )
        assert effect["effect"] == pytest.approx(at - reference)


def test_the_ranking_has_a_column_for_each_factor(whole: Run) -> None:
    ranked = [row for row in rows_of(whole.folder / "hyperparam_results_latent3.csv") if row["status"] == "ok"]
    assert len(ranked) == N_OPTIONS * N_LAYERS
    assert list(ranked[0])[:4] == ["rank", "configuration", "dropout", "normalization"]
    assert {(row["dropout"], row["normalization"]) for row in ranked} == {
        ("0.1", "none"), ("0.1", "layer"), ("0.0", "none"), ("0.0", "layer"),
    }  # fmt: skip
    assert all("(" not in row["configuration"] for row in ranked)


def test_a_variant_has_the_bits_of_a_search_with_its_options_for_all(whole: Run, table: Path, tmp_path: Path) -> None:
    plain = [*FIELD[:-2], "--dropout", "0", "--normalization", "none"]
    alone = run(tmp_path / "plain", "--data_path", table, *plain).results()
    options = {"dropout": 0.0, "normalization": "none"}
    same = [entry for entry in whole.results()["all_results"] if entry["options"] == options]
    assert [(e["config"], e["test_loss_per_repeat"], e["model_params"]) for e in same] == [
        (e["config"], e["test_loss_per_repeat"], e["model_params"]) for e in alone["all_results"]
    ]


def test_the_saved_model_has_the_options_of_the_chosen_variant(whole: Run) -> None:
    chosen = whole.results()["best_configuration"]
    model = load_best(whole.folder, 3).model
    assert chosen["options"].items() <= chosen["model_info"].items()
    assert model.get_model_info()["total_params"] == chosen["model_params"]


def test_without_a_study_nothing_speaks_of_one(finished: Run) -> None:
    results = finished.results()
    assert results["study"] is None
    assert "options" not in results["best_configuration"]
    assert "tied_options" not in results["verdict"]
    assert not [name for name in finished.files() if "study" in name]


# In two stages


def test_the_best_are_crossed_in_repeats_that_did_not_choose_them(best: Run) -> None:
    results = best.results()
    VALIDATOR.validate(results)
    first = results["study"]["first_stage"]
    chosen = [entry["config"] for entry in first["ranking"][:2]]
    assert (first["strategy"], len(first["ranking"])) == ("grid", N_LAYERS)
    assert sorted(results["study"]["configurations"]) == sorted(chosen)
    assert results["total_configurations"] == len(results["all_results"]) == 2 * N_OPTIONS
    own = {"dropout": 0.1, "normalization": "layer"}
    again = [entry for entry in results["all_results"] if entry["options"] == own]
    assert len(again) == 2
    measured = {tuple(entry["config"]): entry["final_test_loss"] for entry in first["ranking"]}
    assert all(entry["final_test_loss"] != measured[tuple(entry["config"])] for entry in again)
    assert 1 <= results["best_configuration"]["model"]["repeat"] <= 2
    assert "then the best 2 x 4 options" in best.out
    assert "Crossing the best 2 configurations with 4 options" in best.out


def test_the_second_stage_trains_other_repeats_of_the_same_streams(best: Run, table: Path, tmp_path: Path) -> None:
    """Those that a search of twice as many repeats would have."""
    more = [*FIELD[:-2], "--repeats", "4"]
    losses = {
        tuple(e["config"]): e["test_loss_per_repeat"]
        for e in run(tmp_path, "--data_path", table, *more).results()["all_results"]
    }
    own = {"dropout": 0.1, "normalization": "layer"}
    for entry in best.results()["all_results"]:
        if entry["options"] == own:
            assert entry["test_loss_per_repeat"] == losses[tuple(entry["config"])][2:]


@pytest.mark.parametrize(
    "strategy", [["halving", "--min_epochs", "1"], ["random", "--trials", "3"], ["bayesian", "--trials", "3"]]
)
def test_any_strategy_may_choose_what_is_crossed(table: Path, tmp_path: Path, strategy: list[str]) -> None:
    done = run(tmp_path, "--data_path", table, *TWO_STAGES, "--search", *strategy)
    assert (done.status, done.err) == (0, "")
    results = done.results()
    VALIDATOR.validate(results)
    assert results["study"]["first_stage"]["strategy"] == strategy[0]
    n_chosen = len(results["study"]["configurations"])
    assert n_chosen == min(2, sum(entry["status"] == "ok" for entry in results["study"]["first_stage"]["ranking"]))
    assert len(results["all_results"]) == n_chosen * N_OPTIONS


def test_the_probe_and_an_honest_loss_go_with_a_study(table: Path, tmp_path: Path) -> None:
    short = [flag for flag in TWO_STAGES if flag != "--no_probe"]
    done = run(
        tmp_path, "--data_path", table, *short, "--cv_folds", "2", "--hidden_dims_search", "8", "--max_layers", "2"
    )
    assert (done.status, done.err) == (0, "")
    results = done.results()
    VALIDATOR.validate(results)
    assert results["best_configuration"]["honest_test_loss"] is not None
    assert results["verdict"]["probe"]["losses"][0]["options"]


# Stopped, and failing


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_a_study_that_was_killed_anywhere_goes_on_to_the_same_results(
    best: Run, table: Path, tmp_path: Path, share: float
) -> None:
    left = journal_path(best.folder).read_bytes()
    ends = line_ends(left)
    size = ends[round(share * (len(ends) - 1))]
    done = goes_on_from(left[:size], tmp_path / "on", "--data_path", table, *TWO_STAGES)
    assert (done.status, done.err) == (0, "")
    on, whole = outputs(done.folder), outputs(best.folder)
    assert {name: on[name] for name in RESUMED} == {name: whole[name] for name in RESUMED}


def test_the_same_command_gives_the_same_json(whole: Run, table: Path, tmp_path: Path) -> None:
    again = run(tmp_path, "--data_path", table, *FIELD, latent=True).results()
    kept = but_for_time(whole.results())
    for document in (again, kept):
        document["args"].pop("output_dir")
        document.pop("environment")
    assert but_for_time(again) == kept


def test_variants_that_diverge_are_listed_and_their_level_is_left_out(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: options_of(trial.config).get("normalization") == "none")
    done = run(tmp_path, "--data_path", table, *FIELD)
    results = done.results()
    VALIDATOR.validate(results)
    assert results["study"]["left_out"] == ["normalization none (10 of 10 unfinished)"]
    assert "  Left out: normalization none (10 of 10 unfinished)." in done.out.splitlines()
    failed = [entry for entry in results["all_results"] if entry["status"] != "ok"]
    assert {entry["options"]["normalization"] for entry in failed} == {"none"}
    assert len(failed) == 10


def test_a_failure_in_the_second_stage_names_the_repeat_from_one(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(trial: Trial) -> bool:
        return isinstance(trial.config, Variant) and trial.repeat == 3

    make_diverge(monkeypatch, fails)
    done = run(tmp_path, "--data_path", table, *TWO_STAGES)
    assert done.status == 1
    assert {entry["status"] for entry in done.results()["all_results"]} == {
        "failed: not finite at epoch 3 (repeat 2 of 2)"
    }


def test_the_smallest_study(tmp_path: Path) -> None:
    from made_tables import copus_frame, write

    table = write(copus_frame().head(10), tmp_path / "ten.csv")
    done = run(
        tmp_path / "out", "--data_path", table, "--hidden_dims_search", "4", "--max_layers", "1", "--epochs", "1",
        "--repeats", "1", "--study", "weight_decay=0,1e-4", pictures=True,
    )  # fmt: skip
    assert done.status == 0
    results = done.results()
    VALIDATOR.validate(results)
    assert [effect["interval"] for effect in results["study"]["main_effects"]] == [None]
    assert "No intervals: with one training each luck cannot be told from merit; --repeats 5 can tell." in done.out
    assert (tmp_path / "out" / "study_latent3.png").exists()


def test_the_listing_shows_variants_and_what_comes_second(table: Path, tmp_path: Path) -> None:
    listed = run(tmp_path, "--data_path", table, *FIELD, "--list_configurations").out.splitlines()
    assert len(listed) == 2 + N_OPTIONS * N_LAYERS
    assert listed[1].endswith("[8] (dropout 0.1, normalization none)")
    listed = run(tmp_path, "--data_path", table, *TWO_STAGES, "--list_configurations").out.splitlines()
    assert len(listed) == 3 + N_LAYERS
    assert listed[-1] == "then the best 2 x 4 options, as often"
