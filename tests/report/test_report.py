"""What is written is complete, strict, and safe to open elsewhere."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from builders import MODEL_INFO, WRITTEN, halve, make_configuration, make_history, make_ranking, make_results
from commands import SCHEMA, VALIDATOR

from layersearch.report import results as results_module
from layersearch.report.output_files import save_state_dict
from layersearch.report.results import Results, Written
from layersearch.space.configurations import Configuration, Variant, enumerate_configurations
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult
from layersearch.space.trials import Trial, no_memory_for
from layersearch.verdict.conclusion import Best
from layersearch.words import duration_text, loss_text

ROOT = Path(__file__).resolve().parent.parent.parent
FAILED = (16, 16)
SEARCHED = enumerate_configurations([16, 32, 64], 2)


@pytest.fixture
def ranking() -> list[ConfigurationResult]:
    """Nine configurations, of which three are tied and one failed."""
    return make_ranking(SEARCHED, repeats=3, epochs=4, failed=[FAILED], seed=4)


@pytest.fixture
def results(ranking: list[ConfigurationResult]) -> Results:
    return make_results(ranking)


@pytest.fixture
def in_folds() -> Results:
    """Of a search with two folds, in which one configuration failed."""
    return make_results(make_ranking(SEARCHED, repeats=3, folds=2, epochs=4, failed=[FAILED]))


def document_of(results: Results, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "args": {"latent_dim": 3, "data_path": Path("data/sample.csv")},
        "environment": {"python": "3.11"},
        "data": {
            "path": "data/sample.csv",
            "sha256": "0" * 64,
            "rows": 2008,
            "columns": ["L", "Ind"],
            "train_rows": 1607,
            "test_rows": 401,
            "synthetic": True,
            "scaling": {"kind": "robust", "low": np.zeros(2, np.float32), "high": np.ones(2, np.float32)},
        },
        "timing": dict.fromkeys(["start_up", "load", "train", "select", "report", "total"], np.float64(0.5)),
        "timestamp": "2025-01-31T12:00:00+01:00",
    }
    return results_module.results_document(results, WRITTEN if results.best else Written(), **(given | changes))


# The document


def test_document_matches_its_schema(results: Results, in_folds: Results) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(document_of(results))
    VALIDATOR.validate(document_of(in_folds))
    VALIDATOR.validate(document_of(replace(results, probe=None), timestamp=None))
    VALIDATOR.validate(document_of(make_results(make_ranking(SEARCHED, repeats=1, epochs=1))))
    VALIDATOR.validate(document_of(make_results(make_ranking([(16,)], repeats=1, folds=2, epochs=1))))


def test_document_of_a_search_in_which_all_failed_matches_the_schema() -> None:
    document = document_of(make_results(make_ranking(SEARCHED, epochs=2, failed=SEARCHED)))
    VALIDATOR.validate(document)
    assert (document["best_configuration"], document["verdict"], document["pareto_front"]) == (None, None, [])
    assert not any(entry["pareto"] or entry["tied"] for entry in document["all_results"])


def test_without_a_model_of_the_chosen_configuration_it_is_named_all_the_same(in_folds: Results) -> None:
    assert in_folds.best
    document = document_of(replace(in_folds, best=replace(in_folds.best, trained=None, honest=None)))
    VALIDATOR.validate(document)
    best = document["best_configuration"]
    assert in_folds.chosen
    assert best["config"] == list(in_folds.chosen.config)
    assert (best["model"], best["saved_model"]) == (None, None)
    assert document["verdict"]["best_measured"]["config"] == list(in_folds.ranking[0].config)


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no timestamp": lambda d: d.pop("timestamp"),
    "timestamp without offset": lambda d: d.update(timestamp="2025-01-31T12:00:00"),
    "a field too many": lambda d: d.update(surprise=1),
    "unknown version": lambda d: d.update(format_version=2),
    "no seconds for training": lambda d: d["timing"].pop("train"),
    "loss as text": lambda d: d["all_results"][0].update(final_test_loss="0.04"),
    "negative loss": lambda d: d["all_results"][0].update(final_test_loss=-1.0),
    "empty configuration": lambda d: d["all_results"][0].update(config=[]),
    "a configuration of three halves": lambda d: d["all_results"][0].update(config=[[8], [8], [8]]),
    "half a pair": lambda d: d["all_results"][0].update(config=[[8, 8], []]),
    "a pair and a width": lambda d: d["all_results"][0].update(config=[[8], 8]),
    "best without its decoder's layers": lambda d: d["best_configuration"].pop("num_decoder_layers"),
    "unknown strategy": lambda d: d["search"].update(strategy="luck"),
    "seconds in the history": lambda d: d["search"]["history"][0].update(seconds=1.0),
    "no word on what was dropped": lambda d: d["search"].pop("dropped"),
    "dropped before the first epoch": lambda d: d["all_results"][0].update(dropped_at_epoch=0),
    "dropped for no reason": lambda d: d["all_results"][0].update(status="dropped"),
    "one epoch for all trainings": lambda d: d["all_results"][0].update(stopped_epoch=7),
    "best before the first epoch": lambda d: d["all_results"][0].update(best_epoch=[0]),
    "curve of unknown losses": lambda d: d["all_results"][0]["curves"].update(training=[]),
    "unknown status": lambda d: d["all_results"][0].update(status="fine"),
    "curve of text": lambda d: d["all_results"][0]["curves"]["test"].append(["x"]),
    "best without a size": lambda d: d["best_configuration"].pop("model_params"),
    "saved model without file": lambda d: d["best_configuration"]["saved_model"].pop("file"),
    "not a SHA-256": lambda d: d["data"].update(sha256="abc"),
    "seconds for an unknown stage": lambda d: d["timing"].update(lunch=1.0),
    "no verdict": lambda d: d.pop("verdict"),
    "a field too many in the verdict": lambda d: d["verdict"].update(surprise=1),
    "certainty": lambda d: d["verdict"].update(confidence=1.0),
    "nothing tied": lambda d: d["verdict"].update(tied=[]),
    "unknown objective": lambda d: d["verdict"].update(objectives=["loss", "speed"]),
    "unknown baseline": lambda d: d["verdict"]["baselines"][0].update(name="luck"),
    "probe of one length": lambda d: d["verdict"]["probe"].update(epochs=[20]),
    "a field too many in the probe": lambda d: d["verdict"]["probe"]["losses"][0].update(rank=1),
    "front without sizes": lambda d: d["pareto_front"][0].pop("model_params"),
    "interval with one end": lambda d: d["all_results"][0].update(difference_interval=[0.1]),
    "more than all": lambda d: d["verdict"].update(margin=1.1),
    "negative standard error": lambda d: d["all_results"][0].update(standard_error=-0.1),
    "one fold": lambda d: d["all_results"][0].update(test_loss_per_fold=[[0.04]]),
    "best without honesty": lambda d: d["best_configuration"].pop("honest_test_loss"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_document_fails_the_schema(name: str, results: Results) -> None:
    document = document_of(results)
    BREAKS[name](document)
    assert not VALIDATOR.is_valid(document)


def test_every_field_of_the_schema_is_described() -> None:
    def undescribed(node: Any, where: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        missing = []
        for name, field in node.get("properties", {}).items():
            if "description" not in field and "$ref" not in field:
                missing.append(f"{where}.{name}")
            missing += undescribed(field, f"{where}.{name}")
        return missing + undescribed(node.get("items"), where + "[]")

    assert undescribed(SCHEMA, "") == []
    assert [name for name, definition in SCHEMA["$defs"].items() if "description" not in definition] == []
    assert undescribed({"properties": SCHEMA["$defs"]}, "$defs") == []


def test_results_are_sorted_by_loss_with_failed_ones_last(results: Results) -> None:
    entries = document_of(results)["all_results"]
    losses = [entry["final_test_loss"] for entry in entries[:-1]]
    assert losses == sorted(losses)
    assert [entry["rank"] for entry in entries] == [*range(1, len(SEARCHED)), None]
    failed = entries[-1]
    assert failed["config"] == list(FAILED)
    assert failed["status"] == "failed: not finite at epoch 3 (repeat 3 of 3)"
    assert failed["final_test_loss"] is None
    assert failed["test_loss_per_repeat"][2] is None
    assert [len(curve) for curve in failed["curves"]["test"]] == [4, 4, 2]


def test_document_says_what_the_results_say(results: Results) -> None:
    document = document_of(results)
    for entry, c in zip(document["all_results"][:-1], results.ranking, strict=False):
        assert entry["final_test_loss"] == np.mean([t.test_losses[-1] for t in c.trials])
        assert entry["final_test_loss_sd"] == np.std([t.test_losses[-1] for t in c.trials], ddof=1)
        assert entry["train_loss_per_repeat"] == [t.final_train_loss for t in c.trials]
        assert entry["curves"]["train"] == [t.train_losses.tolist() for t in c.trials]
        assert "test_loss_per_fold" not in entry
    assert document["total_configurations"] == len(SEARCHED)
    best = document["best_configuration"]
    assert (best["honest_test_loss"], best["honest_test_loss_interval"]) == (None, None)


def test_document_says_what_the_verdict_says(results: Results) -> None:
    document, verdict = document_of(results), results.verdict
    assert verdict is not None
    assert 1 < len(verdict.tied) < len(verdict.standings) > len(verdict.front)
    for entry in document["all_results"][:-1]:
        standing = verdict.standings[tuple(entry["config"])]
        assert entry["standard_error"] == standing.standard_error
        assert entry["difference_to_best"] == standing.difference
        assert tuple(entry["difference_interval"]) == standing.difference_interval
        assert entry["tied"] == standing.is_tied
        assert entry["pareto"] == standing.on_front
    said = document["verdict"]
    assert said["statement"] == results.statement()
    assert [tuple(config) for config in said["tied"]] == [c.config for c in verdict.tied]
    assert said["proven"] is False
    assert tuple(said["recommended"]["config"]) == verdict.recommended.config
    assert [tuple(brief["config"]) for brief in document["pareto_front"]] == [c.config for c in verdict.front]
    assert (said["optimism"], said["best_measured_interval"]) == (verdict.optimism, list(verdict.best_interval or []))
    assert (said["resampled"], said["n_resampled"]) == ("rows", verdict.n_resampled)
    assert [(b["name"], b["loss"], b["not_beaten_by"]) for b in said["baselines"]] == [
        (b.name, b.loss, b.not_beaten_by) for b in verdict.all_baselines
    ]
    assert said["probe"] == {
        "epochs": [20, 40, 80],
        "repeats": 3,
        "losses": [{"config": [64, 64], "loss": [0.04, 0.03, 0.025]}, {"config": [64], "loss": [0.05, 0.03, 0.02]}],
        "noise": 0.001,
        "long_enough": False,
        "order_changes": False,
        "suggested_epochs": 300,
    }


UNKNOWN_STANDING = ("standard_error", "difference_to_best", "difference_interval", "tied")


def test_what_failed_or_was_trained_once_has_no_standing(results: Results) -> None:
    failed = document_of(results)["all_results"][-1]
    once = document_of(make_results(make_ranking(SEARCHED, repeats=1, epochs=2)))
    for entry in [failed, *once["all_results"]]:
        assert [entry[name] for name in UNKNOWN_STANDING] == [None] * len(UNKNOWN_STANDING)
    assert failed["pareto"] is False
    said = once["verdict"]
    assert [said[name] for name in ("proven", "tied", "optimism", "best_measured_interval")] == [None] * 4
    assert all(baseline["difference_interval"] is None for baseline in said["baselines"])
    assert once["pareto_front"]


def test_losses_of_folds_are_listed_by_repeat_and_null_where_one_diverged(in_folds: Results) -> None:
    document = document_of(in_folds)
    best, failed = in_folds.ranking[0], document["all_results"][-1]
    entry = document["all_results"][0]
    assert entry["test_loss_per_fold"] == best.losses.tolist()
    assert entry["test_loss_per_repeat"] == best.losses.mean(axis=1).tolist()
    assert len(entry["curves"]["test"]) == best.losses.size
    assert failed["test_loss_per_fold"][2] == [None, None]
    assert document["best_configuration"]["honest_test_loss"] == 0.041
    assert document["best_configuration"]["honest_test_loss_interval"] == [0.039, 0.043]
    assert document["verdict"]["optimism"] is None


def test_the_chosen_configuration_is_the_best_of_the_document_whatever_its_rank(results: Results) -> None:
    chosen = results.ranking[2]
    assert results.best
    best_of_all = replace(results.best, configuration=chosen, trained=chosen.trials[1])
    document = document_of(replace(results, best=best_of_all))
    best = document["best_configuration"]
    assert best["config"] == list(chosen.config)
    assert best["final_test_loss"] == document["all_results"][2]["final_test_loss"]
    expected = {
        "repeat": 2,
        "train_loss": chosen.trials[1].final_train_loss,
        "test_loss": chosen.trials[1].final_test_loss,
    }
    assert best["model"] == expected
    assert best["saved_model"] == {"file": "best_model_latent3.pth", "sha256": "ab" * 32, **expected}


# Decoders of their own

PAIR = ((64, 32), (16, 64, 64))
FREE: list[Configuration] = [(64, 64), PAIR, (16, 64), ((16,), (64,))]


@pytest.fixture
def free() -> Results:
    """Of a search with decoders that are no mirror image."""
    ranking = make_ranking(FREE, repeats=2, epochs=3, failed=[FREE[-1]])
    pair = next(configuration for configuration in ranking if configuration.config == PAIR)
    info = {**MODEL_INFO, "hidden_dims": PAIR[0], "decoder_dims": PAIR[1]}
    return replace(make_results(ranking), best=Best(pair, info, trained=pair.trials[0]))


def test_a_decoder_of_its_own_is_named_behind_its_encoder() -> None:
    assert config_text((64, 32)) == "[64, 32]"
    assert config_text((8,)) == "[8]"
    assert config_text(PAIR) == "[64, 32] -> [16, 64, 64]"
    variant = Variant((64, 32), (("dropout", 0.3), ("normalization", "none")))
    assert config_text(variant) == "[64, 32] (dropout 0.3, normalization none)"
    assert "Best configuration: [64, 32] -> [16, 64, 64]\n" in summary_of(make_configuration(PAIR, [0.04]))


def test_a_pair_is_two_lists_in_the_document(free: Results) -> None:
    document = document_of(free)
    VALIDATOR.validate(document)
    best = document["best_configuration"]
    assert best["config"] == [[64, 32], [16, 64, 64]]
    assert (best["num_layers"], best["num_decoder_layers"]) == (2, 3)
    layers = {str(e["config"]): (e["num_layers"], e["num_decoder_layers"]) for e in document["all_results"]}
    assert layers == {
        "[64, 64]": (2, 2), "[[64, 32], [16, 64, 64]]": (2, 3), "[16, 64]": (2, 2), "[[16], [64]]": (1, 1),
    }  # fmt: skip
    assert free.verdict is not None
    plain = [results_module.to_plain(c.config) for c in free.verdict.tied]
    assert document["verdict"]["tied"] == plain
    assert [brief["config"] for brief in document["pareto_front"]] == [
        results_module.to_plain(c.config) for c in free.verdict.front
    ]


# Strategies


def searched_with(strategy: str, ranking: list[ConfigurationResult], **given: Any) -> Results:
    return make_results(ranking, history=make_history(ranking, strategy, **given))


@pytest.fixture
def halved() -> Results:
    """Of nine configurations one failed before the others were halved after 3 epochs: five were dropped."""
    ranking = halve(make_ranking(SEARCHED, repeats=2, folds=2, epochs=9, failed=[FAILED]), rungs=[3])
    return searched_with("halving", ranking, epochs=9)


def test_what_was_dropped_says_where_and_at_what_loss(halved: Results) -> None:
    document = document_of(halved)
    VALIDATOR.validate(document)
    dropped = {str(c.config): c.drop for c in halved.ranking if c.drop}
    assert len(dropped) == 5
    for rank, entry in enumerate(document["all_results"], start=1):
        drop = dropped.get(str(tuple(entry["config"])))
        is_ranked = entry["status"] == "ok"
        assert entry["rank"] == (rank if is_ranked else None)
        assert (entry["final_test_loss"] is None) == (not is_ranked)
        assert (entry["dropped_at_epoch"], entry["loss_when_dropped"]) == ((3, drop.loss) if drop else (None, None))
        assert not drop or entry["status"].startswith("dropped at epoch 3 (loss 0.")
        assert not drop or [len(curve) for curve in entry["curves"]["test"]] == [3] * 4
        assert "validation" not in entry["curves"]
        assert entry["stopped_epoch"] is entry["best_epoch"] is None


def test_the_search_says_what_it_tried_and_what_became_of_it(halved: Results) -> None:
    search = document_of(halved)["search"]
    steps = halved.searched.history.steps
    history = search.pop("history")
    assert search == {
        "strategy": "halving", "space_size": 9, "tried": 9, "finished": 3, "dropped": 5, "failed": 1,
    }  # fmt: skip
    assert len(history) == len(steps) > 9
    for entry, step in zip(history, steps, strict=True):
        expected = {"config": list(step.config), "trainings": step.trainings, "loss": step.loss}
        assert entry == expected | {"best_loss": step.best_loss}


def test_early_stopping_lists_its_epochs_and_curves_by_training() -> None:
    ranking = make_ranking(SEARCHED, repeats=2, folds=2, epochs=9, stopped=dict.fromkeys(SEARCHED, 6))
    first = ranking[0]
    broken = (replace(first.trials[0], final_test_loss=None, best_epoch=None, failed_epoch=7), *first.trials[1:])
    ranking = [*ranking[1:], replace(first, trials=broken)]
    document = document_of(make_results(ranking))
    VALIDATOR.validate(document)
    best, failed = document["all_results"][0], document["all_results"][-1]
    assert (best["stopped_epoch"], best["best_epoch"]) == ([6, 6, 7, 7], [3, 3, 4, 4])
    assert (failed["stopped_epoch"], failed["best_epoch"]) == ([None, 6, 7, 7], [None, 3, 4, 4])
    assert [len(curve) for curve in best["curves"]["validation"]] == [6, 6, 7, 7]
    assert best["curves"]["validation"][2] == results_module.to_plain(ranking[0].trials[2].validation_losses)


def test_early_stopping_of_what_never_fitted_into_memory_has_an_empty_curve() -> None:
    (configuration,) = make_ranking([(64,)], repeats=2, epochs=9, stopped={(64,): 6})
    configuration = replace(configuration, trials=(configuration.trials[0], no_memory_for(Trial((64,), 1))))
    document = document_of(make_results([configuration]))
    VALIDATOR.validate(document)
    (entry,) = document["all_results"]
    assert [len(curve) for curve in entry["curves"]["validation"]] == [6, 0]
    assert entry["stopped_epoch"] == [6, None]


def test_the_summary_says_how_much_of_the_space_was_tried_unless_it_is_the_full_grid(halved: Results) -> None:
    ranking = make_ranking(SEARCHED, repeats=2)
    assert results_module.search_line(searched_with("grid", ranking)) is None
    assert results_module.search_line(searched_with("random", ranking, space_size=125)) == (
        "Search: random, 9 of 125 configurations tried"
    )
    line = "Search: halving, 9 of 9 configurations tried, 5 dropped early, 1 failed"
    assert results_module.search_line(halved) == line
    lines = results_module.closing_summary(halved).splitlines()
    assert lines[2:5] == [results_module.RULE, line, f"Best configuration: {config_text(halved.ranking[0].config)}"]
    grid = replace(halved, searched=halved.searched._replace(history=make_history(halved.ranking)))
    assert "Search:" not in results_module.closing_summary(grid)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "about 1 s"), (89, "about 89 s"), (90, "about 2 min"), (5399, "about 90 min"), (9000, "about 2 h")],
)
def test_durations_are_rounded_to_what_can_be_planned_with(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# JSON


def test_json_is_strict_and_loses_nothing(tmp_path: Path, results: Results) -> None:
    document = document_of(results)
    results_module.write_json(tmp_path / "results.json", document)
    text = (tmp_path / "results.json").read_text(encoding="utf-8")

    def forbidden(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=forbidden) == document


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    bad = {"a": float("nan"), "b": np.array([1.0, np.inf]), "c": np.float32("nan"), "d": [[-np.inf], []], "e": {}}
    results_module.write_json(tmp_path / "x.json", bad)
    read = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert read == {"a": None, "b": [1.0, None], "c": None, "d": [[None], []], "e": {}}


def test_numpy_values_become_plain_ones() -> None:
    plain = results_module.to_plain(
        {"i": np.int64(3), "b": np.bool_(True), "f": np.float64(0.1), "t": (np.ones((1, 2)), "x")}
    )
    assert plain == {"i": 3, "b": True, "f": 0.1, "t": [[[1.0, 1.0]], "x"]}
    assert [type(plain[key]) for key in "ibf"] == [int, bool, float]
    with pytest.raises(TypeError, match="object cannot be written to JSON"):
        results_module.to_plain({"x": object()})


def test_each_curve_stands_on_one_line(tmp_path: Path, results: Results) -> None:
    results_module.write_json(tmp_path / "x.json", document_of(results))
    lines = (tmp_path / "x.json").read_text(encoding="utf-8").splitlines()
    curve = json.dumps(results.ranking[0].trials[0].test_losses.tolist())
    assert f"          {curve}," in lines
    assert '      "config": [64, 64],' in lines


def test_json_is_the_same_twice(tmp_path: Path, results: Results) -> None:
    for name in ("a.json", "b.json"):
        results_module.write_json(tmp_path / name, document_of(results))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_old_json_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    results_module.write_json(path, {"old": True})
    with pytest.raises(TypeError):
        results_module.write_json(path, {"new": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


# The model


def test_saved_weights_load_as_tensors_only_and_are_the_same_bytes_twice(tmp_path: Path) -> None:
    flat = torch.arange(10.0, requires_grad=True)
    weights = {"encoder.0.weight": flat[:6].view(2, 3), "encoder.0.bias": flat[6:]}
    for name in ("a.pth", "b.pth"):
        save_state_dict(tmp_path / name, weights)
    read = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(read) == list(weights)
    assert all(torch.equal(read[key], weights[key].detach()) and not read[key].requires_grad for key in weights)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


# The summary


def summary_of(best: ConfigurationResult, saved: Path | None = None, *, without_verdict: bool = False) -> str:
    """Returns the closing summary of a search of a single configuration."""
    results = make_results([best])
    summary = results_module.closing_summary(results, saved)
    return summary.replace("\n".join(["", *results.statement(), ""]), "") if without_verdict else summary


def test_summary_has_the_promised_form() -> None:
    spread = [0.0379 + 0.0012 * z for z in (-1.0, 0.0, 1.0)]
    best = make_configuration((64, 64), spread)
    first = summary_of(best, Path("output/best_model_latent3.pth"), without_verdict=True)
    second = results_module.closing_files(
        {
            "results": Path("output/hyperparam_results_latent3.json"),
            "csv": Path("output/hyperparam_results_latent3.csv"),
            "search_plot": Path("output/hyperparam_search_latent3.png"),
            "configurations_plot": Path("output/config_performance_latent3.png"),
            "verdict_plot": Path("output/verdict_latent3.png"),
        }
    )
    paths = [
        str(Path(f"output/{name}"))
        for name in (
            "best_model_latent3.pth",
            "hyperparam_search_latent3.png",
            "config_performance_latent3.png",
            "verdict_latent3.png",
            "hyperparam_results_latent3.json",
        )
    ]
    assert (
        f"{first}\n{second}\n"
        == f"""\
======================================================================
HYPERPARAMETER OPTIMIZATION COMPLETED
======================================================================
Best configuration: [64, 64]
Best final test loss: 0.0379 ± 0.0012 (3 repeats), 95 % interval 0.0320 to 0.0438
Best model parameters: 12491
Best model saved: {paths[0]}

Generating visualizations...
Performance plot: {paths[1]}
Configuration scatter: {paths[2]}
Verdict plot: {paths[3]}
Results saved: {paths[4]}
"""
    )


def test_the_verdict_stands_between_the_result_and_the_pictures() -> None:
    best = make_configuration((64, 64), [0.0379, 0.0379])
    results = make_results([best])
    lines = results_module.closing_summary(results).splitlines()
    said = results.statement()
    assert said[0].startswith("Verdict: ")
    assert lines[-len(said) - 3 :] == ["", *said, "", "Generating visualizations..."]


@pytest.mark.parametrize(("repeats", "over"), [(1, "(2 folds)"), (3, "(2 folds x 3 repeats)")])
def test_summary_says_over_how_many_folds_the_loss_is_a_mean(repeats: int, over: str) -> None:
    (best,) = make_ranking([(16,)], repeats=repeats, folds=2)
    (line,) = [line for line in summary_of(best).splitlines() if line.startswith("Best final test loss")]
    assert f" {over}, 95 % interval 0.0" in line


def test_summary_of_one_repeat_claims_no_spread_and_no_file() -> None:
    summary = summary_of(make_configuration((64, 64), [0.0379]))
    assert "Best final test loss: 0.0379\n" in summary
    assert "saved" not in summary


def test_the_latent_plot_and_the_report_are_named_where_they_are() -> None:
    names = ("search_plot", "configurations_plot", "verdict_plot", "results", "latent_plot", "report")
    paths = map(Path, ("a.png", "b.png", "c.png", "d.json", "e.png", "f.html"))
    lines = results_module.closing_files(dict(zip(names, paths, strict=True))).splitlines()
    assert lines == [
        "Performance plot: a.png",
        "Configuration scatter: b.png",
        "Verdict plot: c.png",
        "Latent space plot: e.png",
        "Report: f.html",
        "Results saved: d.json",
    ]


@pytest.mark.parametrize(
    ("loss", "sd", "text"),
    [
        (0.03791, 0.00118, "0.0379 ± 0.0012"),
        (0.5, None, "0.5000"),
        (0.0, None, "0.0000"),
        (0.000123, None, "0.000123"),
        (3.14159, 0.2, "3.1416 ± 0.2000"),
        (312.345, 12.3, "312.35 ± 12.30"),
        (1e6, None, "1000000"),
    ],
)
def test_losses_are_rounded_to_what_can_be_read(loss: float, sd: float | None, text: str) -> None:
    assert loss_text(loss, sd) == text


def test_changing_the_document_leaves_the_results_alone(results: Results) -> None:
    before = copy.deepcopy(results.ranking[0].test_curves)
    document_of(results)["all_results"][0]["curves"]["test"][0][0] = -1.0
    assert np.array_equal(results.ranking[0].test_curves, before)
