"""The ensemble's mean, interval, consensus and disagreement follow their definitions, and so do its files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_ranking, make_verdict
from commands import CODE_TOLERANCE, SMALL, VALIDATOR, Run, assert_one_line, but_for_time, make_diverge, run
from made_tables import low_rank_table

from dataset import COPUSDataset, Scaling
from layersearch.engines.settings import TrainingSettings
from layersearch.engines.training import Training
from layersearch.journal.journal import open_journal
from layersearch.latent.ensemble import Ensemble, align, choose_configurations, compare, load_ensemble, turn_onto
from layersearch.space.trials import Trial
from layersearch.table.scoring import bundle_rows, scored_part
from losses import loss_of_sums, squared_error_sums
from models import DynamicAutoencoder, encode_rows

FLAGS = [*SMALL, "--no_probe"]


@pytest.fixture(scope="module")
def tied(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search with an ensemble of its tied configurations."""
    done = run(tmp_path_factory.mktemp("tied"), "--data_path", table, "--ensemble", "tied", *FLAGS)
    assert (done.status, done.err) == (0, "")
    return done


# --- Alignment -------------------------------------------------------------------------------------


def centred(n: int, size: int, seed: int) -> np.ndarray:
    codes = np.random.default_rng(seed).normal(size=(n, size)) * np.arange(1, size + 1)
    return np.asarray(codes - codes.mean(axis=0))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("mirrored", [True, False])
def test_a_rotated_mirrored_and_scaled_space_is_aligned_exactly(size: int, mirrored: bool) -> None:
    reference = centred(50, size, 1)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(size, size)))[0]
    rotation[0] *= -1 if mirrored else 1
    moved = 3.5 * reference @ rotation + 10
    centres, turns, agreement = align(lambda member: [reference, moved][member], 2, 0)
    assert np.allclose((moved - centres[1]) @ turns[1], reference)
    assert np.array_equal(turns[0], np.eye(size))
    assert agreement.tolist() == pytest.approx([1, 1])


def test_alignment_keeps_proportions_and_matches_the_size_of_the_reference() -> None:
    codes, reference = centred(60, 3, 1), centred(60, 3, 2)
    turn, agreement = turn_onto(codes, reference)
    gram = turn.T @ turn
    assert np.allclose(gram, gram[0, 0] * np.eye(3))
    assert np.linalg.norm(codes @ turn) == pytest.approx(np.linalg.norm(reference))
    assert 0 < agreement < 0.2
    distance = np.linalg.norm(codes @ turn - reference)
    for seed in range(20):
        other = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] * np.sqrt(gram[0, 0])
        assert distance < np.linalg.norm(codes @ other - reference)
    # R² is the share of the reference's sum of squares that is explained if the scale is free.
    turned = codes @ turn
    slope = (turned * reference).sum() / (turned**2).sum()
    explained = 1 - ((slope * turned - reference) ** 2).sum() / (reference**2).sum()
    assert agreement == pytest.approx(explained)


def test_a_space_without_extent_agrees_with_nothing() -> None:
    turn, agreement = turn_onto(np.zeros((9, 2)), centred(9, 2, 1))
    assert agreement == 0
    assert np.isfinite(turn).all()


# --- The mean and the disagreement -----------------------------------------------------------------


@pytest.fixture
def made_up() -> Ensemble:
    """Three models of different depth, each with its own alignment."""
    models = [
        DynamicAutoencoder(7, 2, hidden, generator=torch.Generator().manual_seed(n)).eval()
        for n, hidden in enumerate([[8], [6, 4], [5]])
    ]
    generator = torch.Generator().manual_seed(9)
    centres, turns, origin = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((3, 2), (3, 2, 2), (2,))
    )
    scaling = Scaling("none", np.zeros(7, np.float32), np.ones(7, np.float32))
    return Ensemble(models, centres, turns, origin, list("abcdefg"), scaling)


def test_a_row_s_squared_disagreement_is_the_gain_from_averaging(made_up: Ensemble) -> None:
    rows = low_rank_table().values
    assert rows.isnan().any()
    made = made_up.evaluate(rows)
    with torch.no_grad():
        of_members = torch.stack([encode_rows(member, rows)[1] for member in made_up.members])
    assert torch.allclose(of_members.mean(0) - made["errors"], made["disagreement"] ** 2, atol=1e-6)
    assert (made["disagreement"] > 0).all()


def test_the_mean_and_the_consensus_are_those_of_the_members(made_up: Ensemble) -> None:
    rows = low_rank_table().values
    made = made_up.evaluate(rows)
    with torch.no_grad():
        outputs = [member(rows.nan_to_num(nan=0.0)) for member in made_up.members]
    mean = torch.stack([reconstruction for reconstruction, _ in outputs]).mean(0)
    assert torch.allclose(made["sums"], squared_error_sums(mean, rows), rtol=1e-5)
    turned = torch.stack(
        [(z.double() - c) @ t for (_, z), c, t in zip(outputs, made_up.centres, made_up.turns, strict=True)]
    )
    assert torch.allclose(made["codes"].double(), turned.mean(0) + made_up.origin, atol=1e-6)
    spread = (turned - turned.mean(0)).square().sum(-1).mean(0).sqrt()
    assert torch.allclose(made["latent_spread"].double(), spread, atol=1e-5)


def test_an_ensemble_of_one_model_twice_is_that_model(made_up: Ensemble) -> None:
    rows, member = low_rank_table().values, made_up.members[0]
    one = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    nothing = torch.zeros(2, dtype=torch.float64)
    made = replace(made_up, members=[member] * 2, centres=nothing.expand(2, 2), turns=one, origin=nothing).evaluate(
        rows
    )
    with torch.no_grad():
        codes, errors = encode_rows(member, rows)
    assert torch.allclose(made["codes"], codes)
    assert torch.allclose(made["errors"], errors)
    assert made["disagreement"].max() < 1e-6


# --- The interval ----------------------------------------------------------------------------------


def some_errors(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns cells and row errors [N, 2] of two models. Rows differ a lot; the second model is slightly worse."""
    rng = np.random.default_rng(4)
    cells = np.column_stack([rng.integers(3, 12, n), np.full(n, 24)])
    errors = rng.gamma(1, 0.05, n)[:, None] * cells
    return cells, errors, errors * rng.normal(1.05, 0.1, n)[:, None]


def test_the_interval_is_that_of_the_paired_difference() -> None:
    cells, errors, worse = some_errors(400)
    part = scored_part(cells)
    loss, difference, interval = compare(errors, worse, part, confidence=0.95, seed=1)
    assert interval is not None
    assert interval.low < difference < interval.high < 0
    drawn = []
    rng = np.random.default_rng(0)
    weights = np.array([0.7, 0.3])
    for _ in range(2000):
        rows = rng.integers(0, 400, 400)
        drawn.append(((errors[rows] - worse[rows]).sum(0) / cells[rows].sum(0)) @ weights)
    assert difference == pytest.approx(((errors - worse).sum(0) / cells.sum(0)) @ weights)
    assert loss == pytest.approx((errors.sum(0) / cells.sum(0)) @ weights)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.15)
    assert compare(errors, worse, part, confidence=0.95, seed=1)[2] == interval


def test_equal_models_differ_by_nothing_and_a_single_row_has_no_interval() -> None:
    cells, errors, worse = some_errors(40)
    assert compare(errors, errors, scored_part(cells), confidence=0.9, seed=1)[1:] == (0.0, (0.0, 0.0))
    one_group = scored_part(cells, np.zeros(40))
    assert compare(errors, worse, one_group, confidence=0.9, seed=1)[2] is None


def test_many_rows_in_bundles_have_the_same_interval() -> None:
    cells, errors, worse = some_errors(9000)
    bundles = bundle_rows(9000)
    assert bundles is not None

    def bundled(of_rows: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(bundles, column) for column in of_rows.T], axis=1)

    part = scored_part(bundled(cells), None, bundles)
    loss, difference, interval = compare(bundled(errors), bundled(worse), part, confidence=0.95, seed=1)
    whole = compare(errors, worse, scored_part(cells), confidence=0.95, seed=1)
    assert (loss, difference) == pytest.approx(whole[:2])
    assert interval is not None
    assert whole[2] is not None
    assert interval.high - interval.low == pytest.approx(whole[2].high - whole[2].low, rel=0.1)


# --- The command -----------------------------------------------------------------------------------


def test_the_results_fit_their_schema_and_agree_with_the_console_line(tied: Run) -> None:
    results = tied.results()
    VALIDATOR.validate(results)
    found, best = results["ensemble"], results["best_configuration"]
    n_tied = len(results["verdict"]["tied"])
    assert found["configurations"] == n_tied > 1
    assert [(m["config"], m["repeat"]) for m in found["members"]] == [
        (config, repeat) for config in results["verdict"]["tied"] for repeat in (1, 2)
    ]
    assert found["best_single"]["test_loss"] == best["model"]["test_loss"]
    assert found["difference"] == pytest.approx(found["test_loss"] - best["model"]["test_loss"], abs=1e-6)
    assert found["difference_interval"][0] < found["difference"] < found["difference_interval"][1]
    assert found["test_loss"] < found["mean_member_test_loss"]
    losses = {tuple(entry["config"]): entry["test_loss_per_repeat"] for entry in results["all_results"]}
    assert [m["test_loss"] for m in found["members"]] == [
        losses[tuple(m["config"])][m["repeat"] - 1] for m in found["members"]
    ]
    assert found["members"][found["reference"]]["agreement"] == pytest.approx(1)
    line = f"  Ensemble of {2 * n_tied} models ({n_tied} tied configurations x 2 repeats): test loss 0."
    assert line in tied.out
    assert f"Ensemble saved: {tied.folder / 'ensemble_latent3.pth'}" in tied.out


def test_the_file_holds_only_tensors_and_its_members_give_the_reported_loss(tied: Run, table: Path) -> None:
    tensors = torch.load(tied.folder / "ensemble_latent3.pth", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    results = tied.results()
    ensemble = load_ensemble(tied.folder / "ensemble_latent3.pth")
    dataset = COPUSDataset(table)
    split = dataset.split(results["args"]["seed"])
    scaled = ensemble.scaling.apply(dataset.data)
    with torch.no_grad():
        of_members = torch.stack([member(scaled)[0] for member in ensemble.members])
        codes = torch.stack([member.encode(scaled[split.train]) for member in ensemble.members]).double()
    for loss, reconstruction in [(results["ensemble"]["test_loss"], of_members.mean(0))] + [
        (member["test_loss"], own) for member, own in zip(results["ensemble"]["members"], of_members, strict=True)
    ]:
        test = scaled[split.test]
        assert loss == pytest.approx(loss_of_sums(squared_error_sums(reconstruction[split.test], test), test), rel=1e-5)
    assert torch.allclose(codes.mean(1), ensemble.centres, atol=CODE_TOLERANCE)
    reference = results["ensemble"]["reference"]
    assert torch.equal(ensemble.centres[reference], ensemble.origin)


def test_encoding_the_training_table_gives_the_codes_of_the_search(tied: Run, table: Path, tmp_path: Path) -> None:
    model = tied.folder / "ensemble_latent3.pth"
    done = run(tmp_path, "--encode", table, "--model", model)
    assert done.status == 0, done.err
    mine, theirs = pd.read_csv(tmp_path / "encoded_mine.csv"), pd.read_csv(tied.folder / "ensemble_codes_latent3.csv")
    own = ["latent_1", "latent_2", "latent_3", "reconstruction_error", "disagreement", "latent_spread"]
    assert list(theirs.columns[:8]) == ["row", *own, "split"]
    assert list(mine.columns[:8]) == ["row", *own[:4], "error_percentile", *own[4:]]
    assert np.allclose(mine[own], theirs[own], rtol=1e-4, atol=CODE_TOLERANCE)
    assert (mine["row"] == theirs["row"]).all()
    train = mine["error_percentile"][theirs["split"] == "train"]
    assert train.min() == 0
    assert train.median() == pytest.approx(50, abs=3)


def test_the_same_command_gives_the_same_results_and_without_the_flag_nothing_of_it(
    tied: Run, table: Path, tmp_path: Path
) -> None:
    again = run(tmp_path / "again", "--data_path", table, "--ensemble", "tied", *FLAGS)
    mine, theirs = (but_for_time(done.results()) for done in (again, tied))
    mine["args"]["output_dir"] = theirs["args"]["output_dir"]
    mine["environment"]["git_commit"] = theirs["environment"]["git_commit"]
    assert mine == theirs
    for name in ("ensemble_latent3.pth", "ensemble_codes_latent3.csv"):
        assert (again.folder / name).read_bytes() == (tied.folder / name).read_bytes()
    plain = run(tmp_path / "again", "--data_path", table, *FLAGS)
    assert plain.results()["ensemble"] is None
    assert "Ensemble" not in plain.out


def test_files_that_an_earlier_run_left_are_named(table: Path, tied: Run, tmp_path: Path) -> None:
    shutil.copytree(tied.folder, tmp_path / "new")
    plain = run(tmp_path / "new", "--data_path", table, *FLAGS)
    left = "left from an earlier run, and not written by this one: ensemble_latent3.pth, ensemble_codes_latent3.csv"
    assert (plain.status, plain.err) == (0, f"Note: {left}\n")


def test_after_folds_members_are_trained_on_all_training_rows(table: Path, tied: Run, tmp_path: Path) -> None:
    done = run(tmp_path / "folds", "--data_path", table, "--ensemble", "2", "--cv_folds", "3", *FLAGS)
    assert (done.status, done.err) == (0, "")
    results = done.results()
    VALIDATOR.validate(results)
    assert [m["config"] for m in results["ensemble"]["members"][::2]] == [
        entry["config"] for entry in results["all_results"][:2]
    ]
    weights, plain = (torch.load(d.folder / "ensemble_latent3.pth", weights_only=True) for d in (done, tied))
    known = {(str(m["config"]), m["repeat"]): n for n, m in enumerate(tied.results()["ensemble"]["members"])}
    shared = 0
    for number, member in enumerate(results["ensemble"]["members"]):
        if (other := known.get((str(member["config"]), member["repeat"]))) is not None:
            name = "encoder.0.weight"
            assert torch.equal(weights[f"members.{number}.{name}"], plain[f"members.{other}.{name}"])
            shared += 1
    assert shared > 0


def test_after_folds_a_study_s_members_are_the_best_single_model_s_repeats(table: Path, tmp_path: Path) -> None:
    study = ["--study", "normalization=layer,none", "--study_configs", "1", "--cv_folds", "2", "--ensemble", "4"]
    message = assert_one_line(run(tmp_path / "too many", "--data_path", table, *study, *FLAGS), 2)
    assert "there are only 2 configurations" in message
    done = run(tmp_path / "folds", "--data_path", table, *study[:-1], "2", *FLAGS)
    assert (done.status, done.err) == (0, "")
    found = done.results()["ensemble"]
    VALIDATOR.validate(done.results())
    reference, single = found["members"][found["reference"]], found["best_single"]
    assert all(reference[name] == single[name] for name in ("config", "options", "repeat", "test_loss"))
    assert sorted({member["repeat"] for member in found["members"]}) == [1, 2]


def test_members_that_diverge_are_left_out_with_a_notice(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: trial.fold is None and trial.repeat == 1)
    done = run(tmp_path, "--data_path", table, "--ensemble", "2", "--cv_folds", "2", *FLAGS)
    found = done.results()["ensemble"]
    assert (len(found["members"]), found["left_out"]) == (2, 2)
    assert "2 trainings that diverged" in done.err
    assert "(the best 2 configurations x 2 repeats, 2 left out)" in done.out


def test_with_too_few_members_left_there_is_no_ensemble(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: trial.fold is None and trial.repeat == 1)
    done = run(tmp_path, "--data_path", table, "--ensemble", "1", "--cv_folds", "2", *FLAGS)
    assert done.status == 0
    assert "fewer than two models; there is no ensemble" in done.err
    assert done.results()["ensemble"] is None
    assert not (tmp_path / "ensemble_latent3.pth").exists()


# --- Computing weights again -----------------------------------------------------------------------

SETTINGS = TrainingSettings(
    latent_dim=2, epochs=2, batch_size=16, initial_lr=0.01, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=1
)
TRIALS = [Trial(config, repeat) for config in ((6,), (5, 4)) for repeat in range(2)]


@contextmanager
def training_in(folder: Path) -> Iterator[Training]:
    with open_journal(folder, 2, {"data": "a"}, fresh=False, notices=[]) as journal:
        yield Training(SETTINGS, {None: low_rank_table()}, "reference", threads=1, journal=journal)


def test_weights_are_computed_again_bit_for_bit_and_an_interrupted_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training_in(tmp_path) as training:
        results = {result.trial: result for result in training.run(TRIALS)}
        expected = [results[trial] for trial in TRIALS]
    forgotten = [replace(result, parameters=np.empty(0, np.float32)) for result in expected]
    trained: list[Trial] = []
    run_them = Training._run

    def spy(self: Training, trials: Any, missing: Any, *rest: Any, **more: Any) -> Any:
        for result in run_them(self, trials, missing, *rest, **more):
            trained.append(result.trial)
            yield result

    monkeypatch.setattr(Training, "_run", spy)
    with training_in(tmp_path) as training:
        stopping = replace(training, stops=lambda: len(trained) >= 2)
        assert stopping.with_all_weights(forgotten) is None
    assert 2 <= len(trained) < 4
    before = len(trained)
    with training_in(tmp_path) as training:
        made = training.with_all_weights(forgotten)
    assert made is not None
    assert len(trained) == 4
    assert len(set(trained[before:]) & set(trained[:before])) == 0
    assert [result.trial for result in made] == TRIALS
    for mine, theirs in zip(made, expected, strict=True):
        assert np.array_equal(mine.parameters, theirs.parameters)


# --- Choosing members ------------------------------------------------------------------------------


def test_an_ensemble_is_of_the_best_that_finished_and_of_at_most_a_thousand_models() -> None:
    configs = [(64,), (32,), (16,), (8,)]
    ranking = make_ranking(configs, repeats=2, epochs=2, failed=[(8,)])
    verdict = make_verdict(ranking)
    finished = [result for result in ranking if not result.failure]
    assert choose_configurations(2, ranking, verdict, 2) == (finished[:2], [])
    assert choose_configurations("tied", ranking, verdict, 2) == (list(verdict.tied), [])
    few = "--ensemble 4: only 3 configurations finished"
    assert choose_configurations(4, ranking, verdict, 2) == (finished, [few])
    many = "--ensemble 3: 3 configurations x 400 repeats are more than 1000 models; the best 2 make the ensemble"
    assert choose_configurations(3, ranking, verdict, 400) == (finished[:2], [many])


# --- Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--ensemble", "0"], "give tied, or how many of the best configurations"),
        (["--ensemble", "all"], "give tied, or how many of the best configurations"),
        (["--ensemble", "1.5"], "give tied, or how many of the best configurations"),
        (["--ensemble=-2"], "give tied, or how many of the best configurations"),
        (["--ensemble", "2000"], "there are only 5 configurations; give at most 5, or tied"),
        (["--ensemble", "6"], "there are only 5 configurations; give at most 5, or tied"),
        (["--ensemble", "4", "--search", "random", "--trials", "3"], "there are only 3 configurations; give at most 3"),
        (["--ensemble", "3", "--study", "dropout=0,0.1", "--study_configs", "1"], "there are only 2 configurations"),
        (["--ensemble", "tied", "--repeats", "1"], "give --repeats 2 or more, or a number"),
        (["--ensemble", "1", "--repeats", "1"], "is a single model; give 2 or more of either"),
        (["--ensemble", "5", "--repeats", "300"], "1500 models, more than 1000; give at most 3"),
    ],
)
def test_an_ensemble_that_makes_no_sense_is_one_line(arguments: list[str], part: str, tmp_path: Path) -> None:
    message = assert_one_line(run(tmp_path / "new", *FLAGS, *arguments), 2)
    assert message.startswith("error: --ensemble ")
    assert part in message
    assert not (tmp_path / "new").exists()


FAULTS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "a weight missing": lambda t: {name: tensor for name, tensor in t.items() if name != "members.1.encoder.0.bias"},
    "a member too many": lambda t: t | {"members.99.encoder.0.bias": torch.zeros(3)},
    "centres of another shape": lambda t: t | {"centres": t["centres"][1:]},
    "turns that are not finite": lambda t: t | {"turns": t["turns"] / 0},
    "no origin": lambda t: {name: tensor for name, tensor in t.items() if name != "origin"},
    "no dictionary": lambda t: list(t.values()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_ensemble_is_one_line(fault: str, tied: Run, table: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tied.folder, tmp_path / "copy")) / "ensemble_latent3.pth"
    torch.save(FAULTS[fault](torch.load(path, weights_only=True)), path)
    change_entry(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    message = assert_one_line(run(tmp_path / "new", "--encode", table, "--model", path), 2)
    assert "ensemble_latent3.pth': not the weights of this model" in message
    assert message.endswith("run the search again with --ensemble")


def change_entry(path: Path, **changed: object) -> None:
    """Changes the `ensemble` part of the results beside the file."""
    results = path.with_name("hyperparam_results_latent3.json")
    document = json.loads(results.read_text(encoding="utf-8"))
    document["ensemble"] = {**document["ensemble"], **changed}
    results.write_text(json.dumps(document), encoding="utf-8")


def test_an_ensemble_of_another_search_is_one_line(tied: Run, table: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tied.folder, tmp_path / "copy")) / "ensemble_latent3.pth"
    tensors = torch.load(path, weights_only=True)
    torch.save(tensors | {"origin": tensors["origin"] + 1}, path)
    message = assert_one_line(run(tmp_path / "new", "--encode", table, "--model", path), 2)
    assert "not the model of the results beside it, but another's; run the search again with --ensemble" in message


def test_an_ensemble_that_the_results_know_nothing_of_is_one_line(tied: Run, table: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tied.folder, tmp_path / "copy")) / "ensemble_latent3.pth"
    results = path.with_name("hyperparam_results_latent3.json")
    document = json.loads(results.read_text(encoding="utf-8"))
    results.write_text(json.dumps(document | {"ensemble": None}), encoding="utf-8")
    message = assert_one_line(run(tmp_path / "new", "--encode", table, "--model", path), 2)
    assert "run it again with --ensemble" in message
