"""Every engine trains a trial to the same losses, and its bits depend on nothing but the trial."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made_tables import low_rank_table
from trainings import ENGINES, SETTINGS, TRIALS, by_trial, same_bits

from layersearch.engines import compiled, lifecycle
from layersearch.engines.compiled import compiled_trainer
from layersearch.engines.dispatch import make_trainer
from layersearch.engines.kernel import step as kernel
from layersearch.engines.lifecycle import stream_name, trained_model
from layersearch.engines.reference import encode_table, one_torch_thread, reference_trainer
from layersearch.engines.settings import SplitTable, TrainingSettings, nominal_seconds
from layersearch.engines.weights import Start, start_from
from layersearch.engines.workers import run_trials
from layersearch.randomness import batch_order
from layersearch.space.configurations import Configuration, Variant, decoder_dims, encoder_dims
from layersearch.space.trials import Trial
from losses import sparse_aware_loss
from models import DynamicAutoencoder, flatten

# Over a whole training Adam amplifies rounding errors, most where a gradient is almost zero.
ENGINE_TOLERANCE = 2e-3  # relative, of a loss


@pytest.fixture(scope="module")
def table() -> SplitTable:
    return low_rank_table()


def test_engines_give_the_same_trials(table: SplitTable) -> None:
    for trial in TRIALS:
        reference, *others = (
            make_trainer(engine, {None: table}, SETTINGS)(trial) for engine in ("reference", "compiled", "stacked")
        )
        for other in others:
            for name in ("train_losses", "test_losses", "final_train_loss", "final_test_loss"):
                np.testing.assert_allclose(getattr(other, name), getattr(reference, name), rtol=ENGINE_TOLERANCE)
            np.testing.assert_allclose(other.row_errors, reference.row_errors, rtol=0.05, atol=1e-3)


def test_a_trials_bits_do_not_depend_on_threads_company_or_order(table: SplitTable) -> None:
    train = compiled_trainer(table, SETTINGS)
    alone = {trial: compiled_trainer(table, SETTINGS)(trial) for trial in TRIALS}
    for trials, threads in [(TRIALS, 1), (TRIALS, 2), (TRIALS[::-1], 2), (TRIALS[1:], 3)]:
        results = by_trial(list(run_trials(trials, train, threads)))
        assert set(results) == set(trials)
        assert all(same_bits(alone[trial], result) for trial, result in results.items())


@pytest.mark.parametrize("config", [(9,), (20, 20, 3), ((8, 4), (5,)), ((3,), (4, 6, 7))])
def test_the_compiled_engine_starts_from_the_weights_of_the_torch_model(config: Configuration) -> None:
    for trial in (Trial(config, 0), Trial(config, 1, 2)):
        expected = flatten(lifecycle.build_model(trial, 7, SETTINGS))
        found = compiled.first_parameters(trial, kernel.layer_table(7, SETTINGS.latent_dim, config), SETTINGS)
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


# Configurations with options of a study


VARIANTS: list[dict[str, Any]] = [
    {"dropout": 0.4},
    {"initial_lr": 0.02},
    {"dropout": 0.0, "weight_decay": 0.3},
    {"normalization": "none"},
    {"input_normalization": "none"},
    {"dropout": 0.2, "weight_decay": 0.0, "normalization": "none", "input_normalization": "none"},
]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variant_trains_to_the_bits_that_its_options_as_settings_of_all_give(table: SplitTable, engine: str) -> None:
    train, seen = make_trainer(engine, {None: table}, SETTINGS), set()
    for config in [(16, 8), ((20, 4), (9,))]:
        for options in VARIANTS:
            variant = Trial(Variant(config, tuple(options.items())), 1)
            result = train(variant)
            assert result.trial == variant
            as_settings = replace(SETTINGS, **options)
            assert same_bits(result, make_trainer(engine, {None: table}, as_settings)(Trial(config, 1)))
            model = trained_model(result, table, SETTINGS)
            assert model.get_model_info()["dropout"] == as_settings.dropout
            seen.add(result.final_test_loss)
    assert len(seen) == 2 * len(VARIANTS)


def test_variants_and_settings_can_be_pickled() -> None:
    """`machines.py` sends them to other machines."""
    trials = [Trial(Variant((16, 8), tuple(options.items())), 0) for options in VARIANTS]
    sent = (replace(SETTINGS, start=start_of((16, 8))), trials)
    assert pickle.loads(pickle.dumps(sent)) == sent
    assert len({*trials, *pickle.loads(pickle.dumps(trials))}) == len(VARIANTS)


def test_engines_give_the_same_variants(table: SplitTable) -> None:
    for options in VARIANTS:
        trial = Trial(Variant((16, 8), tuple(options.items())), 0)
        reference, *others = (
            make_trainer(engine, {None: table}, SETTINGS)(trial) for engine in ("reference", "compiled", "stacked")
        )
        for other in others:
            for name in ("train_losses", "test_losses", "final_train_loss", "final_test_loss"):
                np.testing.assert_allclose(getattr(other, name), getattr(reference, name), rtol=ENGINE_TOLERANCE)


@pytest.mark.parametrize("norms", [("none", "layer"), ("layer", "none"), ("none", "none")])
def test_the_compiled_engine_starts_a_bare_model_from_the_weights_of_torchs(norms: tuple[str, str]) -> None:
    settings = replace(SETTINGS, normalization=norms[0], input_normalization=norms[1])
    for config in [(9,), ((8, 4), (5,))]:
        layers = kernel.layer_table(7, settings.latent_dim, config, **settings.normalizations)
        found = compiled.first_parameters(Trial(config, 0), layers, settings)
        assert found.tobytes() == flatten(lifecycle.build_model(Trial(config, 0), 7, settings)).tobytes()


# Starting from saved weights


def start_of(config: Configuration, seed: int = 0, *, freezes: bool = False, latent: int = 2) -> Start:
    """Returns a start from a made-up saved model with random parameters."""
    model = DynamicAutoencoder(7, latent, encoder_dims(config), decoder_dims=decoder_dims(config))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
    return start_from(model, freezes=freezes)


DECODERS: list[Configuration] = [(16, 8), ((16, 8), (9,)), ((16, 8), (20, 33)), ((16, 8), (8, 8, 8))]


@pytest.mark.parametrize("engine", ENGINES)
def test_all_trainings_start_from_the_saved_weights(table: SplitTable, engine: str) -> None:
    start = start_of((16, 8))
    at_rest = replace(SETTINGS, start=start, epochs=1, initial_lr=1e-30, eta_min=0.0)
    train = make_trainer(engine, {None: table}, at_rest)
    for trial in [Trial((16, 8), 0), Trial((16, 8), 1), Trial((9,), 0), Trial(((20,), (5, 4)), 1)]:
        expected = lifecycle.build_model(trial, 7, at_rest)
        np.testing.assert_allclose(train(trial).parameters, flatten(expected), rtol=0, atol=1e-20)
    same, other = (train(Trial((16, 8), repeat)).parameters for repeat in (0, 1))
    np.testing.assert_allclose(same, other, rtol=0, atol=1e-20, err_msg="repeats of its own shape start alike")


@pytest.mark.parametrize("freezes", [False, True])
def test_engines_agree_from_saved_weights(table: SplitTable, freezes: bool) -> None:
    settings = replace(SETTINGS, start=start_of((16, 8), freezes=freezes), dropout=0.3)
    for trial in [Trial(config, 1) for config in DECODERS]:
        reference, *others = (
            make_trainer(engine, {None: table}, settings)(trial) for engine in ("reference", "compiled", "stacked")
        )
        for other in others:
            for name in ("train_losses", "test_losses", "final_train_loss", "final_test_loss"):
                np.testing.assert_allclose(getattr(other, name), getattr(reference, name), rtol=ENGINE_TOLERANCE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("changes", [{}, {"patience": 2}], ids=["to the end", "early stopping"])
def test_a_frozen_encoder_keeps_every_bit_and_the_decoder_does_not(
    table: SplitTable, engine: str, changes: dict[str, Any]
) -> None:
    start = start_of((16, 8), freezes=True)
    settings = replace(SETTINGS, start=start, weight_decay=0.5, dropout=0.3, **changes)
    validated = replace(table, train=table.train[:60], validation=table.train[60:])
    train = make_trainer(engine, {None: validated}, settings)
    for trial in [Trial(config, repeat) for config in DECODERS for repeat in range(2)]:
        result = train(trial)
        model = trained_model(result, table, settings)
        for name, value in model.state_dict().items():
            if name.startswith(("input_norm.", "encoder.")):
                assert value.numpy().tobytes() == start.weights[name].tobytes(), name
        started = lifecycle.build_model(trial, 7, settings)
        moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), started.parameters(), strict=True)]
        n_encoder = sum(name.startswith(("input_norm.", "encoder.")) for name in start.weights)
        assert moved == [False] * n_encoder + [True] * (len(moved) - n_encoder)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frozen_training_that_pauses_goes_on_to_the_same_bits(table: SplitTable, engine: str) -> None:
    settings = replace(SETTINGS, start=start_of((16, 8), freezes=True))
    expected = make_trainer(engine, {None: table}, settings)(Trial(DECODERS[1], 0))
    states = lifecycle.InMemory()
    paused = make_trainer(engine, {None: table}, replace(settings, pause_after=2), states)(Trial(DECODERS[1], 0))
    assert paused.is_paused
    assert same_bits(make_trainer(engine, {None: table}, settings, states)(Trial(DECODERS[1], 0)), expected)


def test_batch_orders_are_kept_up_to_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "ORDERS_KEPT", 100)
    orders, made = compiled.BatchOrders(), list[int]()

    def note(key: int, epoch: int, n_rows: int) -> np.ndarray:
        made.append(key)
        return batch_order(key, epoch, n_rows)

    monkeypatch.setattr(compiled, "batch_order", note)
    first = orders(1, 0, 2, 20)
    assert orders(1, 0, 2, 20) is first
    orders(2, 0, 2, 20)  # 80 numbers are kept
    orders(1, 0, 2, 20)
    orders(3, 0, 2, 20)  # the least recently used stream goes
    orders(1, 0, 2, 20)
    assert made == [1, 1, 2, 2, 3, 3]
    again = orders(2, 0, 2, 20)
    assert made[6:] == [2, 2]
    assert np.array_equal(again[1], batch_order(2, 1, 20))
    assert orders(4, 0, 1, 101).shape == (1, 101)  # too long to be kept


def test_repeats_differ_and_seeds_differ(table: SplitTable) -> None:
    first, second = (compiled_trainer(table, SETTINGS)(Trial((9,), repeat)) for repeat in (0, 1))
    other = compiled_trainer(table, replace(SETTINGS, seed=6))(Trial((9,), 0))
    assert len({first.final_test_loss, second.final_test_loss, other.final_test_loss}) == 3


# Folds: each has its own table and its own random streams.


@pytest.fixture(scope="module")
def fold_tables(table: SplitTable) -> dict[int | None, SplitTable]:
    """Returns the table and two folds of its rows, whose values differ because each fold is scaled on its own."""
    half = table.train[:40]
    rest = table.train[40:]
    return {
        None: table,
        0: SplitTable(1.1 * table.values, rest, half),
        1: SplitTable(0.9 * table.values, half, rest),
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_errors_of_bundled_rows_are_sums_of_those_of_rows(table: SplitTable, engine: str) -> None:
    bundles = np.arange(len(table.test)) % 4
    by_row = make_trainer(engine, {None: table}, SETTINGS)(TRIALS[0])
    bundled = make_trainer(engine, {None: replace(table, bundles=bundles)}, SETTINGS)(TRIALS[0])
    expected = np.stack([by_row.row_errors[bundles == bundle].sum(0) for bundle in range(4)])
    np.testing.assert_allclose(bundled.row_errors, expected, rtol=1e-6)
    assert bundled.final_test_loss == by_row.final_test_loss


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_trains_on_the_table_of_its_fold(fold_tables: dict[int | None, SplitTable], engine: str) -> None:
    train = make_trainer(engine, fold_tables, SETTINGS)
    for fold, own_table in fold_tables.items():
        result = train(Trial((9,), 0, fold))
        assert result.trial.fold == fold
        assert result.row_errors.shape == (len(own_table.test), 2)
        target = own_table.values[own_table.test]
        model = trained_model(result, own_table, SETTINGS)
        expected = float(sparse_aware_loss(model(target.nan_to_num(nan=0.0))[0], target).detach())
        assert result.final_test_loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_trials_without_a_fold_are_the_same_whether_there_are_folds_or_not(
    fold_tables: dict[int | None, SplitTable], engine: str
) -> None:
    alone = make_trainer(engine, {None: fold_tables[None]}, SETTINGS)(TRIALS[0])
    assert same_bits(alone, make_trainer(engine, fold_tables, SETTINGS)(TRIALS[0]))


def test_on_the_same_rows_each_fold_is_another_training(table: SplitTable) -> None:
    train = make_trainer("compiled", {None: table, 0: table, 1: table}, SETTINGS)
    results = [train(Trial((9,), repeat, fold)) for repeat in range(2) for fold in (None, 0, 1)]
    assert len({result.final_test_loss for result in results}) == 6


def test_engines_give_the_same_trials_in_a_fold(table: SplitTable) -> None:
    trial = Trial((9,), 1, 1)
    compiled, reference = (make_trainer(e, {1: table}, SETTINGS)(trial) for e in ("compiled", "reference"))
    np.testing.assert_allclose(compiled.test_losses, reference.test_losses, rtol=ENGINE_TOLERANCE)


def test_streams_are_named_by_the_repeat_and_by_the_fold_if_there_is_one() -> None:
    assert stream_name("order", Trial((9,), 2)) == ("order", 2), "results of searches without folds stay as they were"
    names = {
        stream_name(what, Trial((9,), r, k)) for what in ("order", "dropout") for r in (0, 1) for k in (None, 0, 1)
    }
    assert len(names) == 12
    assert stream_name("order", Trial((9,), 1, 0)) == stream_name("order", Trial((64, 64), 1, 0)), "common to all"


@pytest.mark.parametrize("engine", ENGINES)
def test_nominal_seconds_grow_with_all_that_a_training_is_made_of(engine: str) -> None:
    least = nominal_seconds(engine, 1000, 81, SETTINGS)
    assert nominal_seconds(engine, 1000, 81, replace(SETTINGS, epochs=3 * SETTINGS.epochs)) == pytest.approx(3 * least)
    assert nominal_seconds(engine, 9000, 81, SETTINGS) > least
    assert nominal_seconds(engine, 1000, 80, SETTINGS) < least, "one step fewer an epoch"
    assert nominal_seconds(engine, 1000, 81, replace(SETTINGS, batch_size=10**9)) < least, "fewer steps"


@pytest.mark.parametrize("engine", ENGINES)
def test_losses_are_those_of_the_whole_sets_in_eval_mode(table: SplitTable, engine: str) -> None:
    result = make_trainer(engine, {None: table}, SETTINGS)(TRIALS[0])
    model = trained_model(result, table, SETTINGS)
    assert not model.training
    for rows, reported in [(table.test, result.final_test_loss), (table.train, result.final_train_loss)]:
        target = table.values[rows]
        expected = float(sparse_aware_loss(model(target.nan_to_num(nan=0.0))[0], target).detach())
        assert reported == pytest.approx(expected, rel=1e-4)
    assert result.final_test_loss == result.test_losses[-1]
    assert len(result.test_losses) == len(result.train_losses) == SETTINGS.epochs


def test_row_errors_are_in_the_order_of_the_test_rows(table: SplitTable) -> None:
    result = compiled_trainer(table, SETTINGS)(TRIALS[0])
    _, errors = encode_table(trained_model(result, table, SETTINGS), table)
    observed = (~table.values[table.test].isnan()).sum(1).numpy()
    np.testing.assert_allclose(result.row_errors[:, 1] / observed, errors[table.test.numpy()], rtol=1e-3, atol=1e-7)


def test_training_in_spans_of_epochs_changes_nothing(table: SplitTable, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compiled_trainer(table, SETTINGS)(TRIALS[0])
    monkeypatch.setattr(compiled, "ORDER_ENTRIES", 3 * 81)  # 3 epochs at a time, then 1
    assert same_bits(whole, compiled_trainer(table, SETTINGS)(TRIALS[0]))


def test_learning_rates_are_cosine_annealing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=SETTINGS.initial_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=SETTINGS.epochs, eta_min=SETTINGS.eta_min)
    rates = []
    for _ in range(SETTINGS.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(SETTINGS.learning_rates, rates, rtol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_diverging_trial_fails_at_its_epoch_and_disturbs_no_other(
    table: SplitTable, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = by_trial([make_trainer(engine, {None: table}, SETTINGS)(trial) for trial in TRIALS])
    build, start = lifecycle.build_model, compiled.first_parameters

    def build_broken(trial: Trial, input_dim: int, settings: TrainingSettings) -> DynamicAutoencoder:
        model = build(trial, input_dim, settings)
        if trial == TRIALS[2]:
            torch.nn.init.constant_(next(model.decoder.parameters()), torch.inf)
        return model

    def start_broken(trial: Trial, layers: np.ndarray, settings: TrainingSettings) -> np.ndarray:
        parameters = start(trial, layers, settings)
        return np.full_like(parameters, np.inf) if trial == TRIALS[2] else parameters

    monkeypatch.setattr(lifecycle, "build_model", build_broken)
    monkeypatch.setattr(compiled, "first_parameters", start_broken)
    threads = 2 if engine == "compiled" else 1
    results = by_trial(list(run_trials(TRIALS, make_trainer(engine, {None: table}, SETTINGS), threads)))
    failed = results.pop(TRIALS[2])
    assert failed.failed_epoch == 1
    assert failed.final_test_loss is failed.final_train_loss is None
    assert len(failed.test_losses) == len(failed.parameters) == 0
    assert all(same_bits(alone[trial], result) for trial, result in results.items())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_learning_rate_that_is_too_high_fails_both_engines_at_the_same_epoch(table: SplitTable, engine: str) -> None:
    result = make_trainer(engine, {None: table}, replace(SETTINGS, initial_lr=1e30))(Trial((9,), 0))
    assert result.failed_epoch == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_no_global_random_state_is_touched(table: SplitTable, engine: str) -> None:
    torch_state, numpy_state = torch.random.get_rng_state(), str(np.random.get_state())  # noqa: NPY002 - to be watched
    make_trainer(engine, {None: table}, SETTINGS)(TRIALS[0])
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert numpy_state == str(np.random.get_state())  # noqa: NPY002


def test_a_batch_larger_than_the_table_is_one_step(table: SplitTable) -> None:
    train = compiled_trainer(table, replace(SETTINGS, batch_size=10**9))
    exact = compiled_trainer(table, replace(SETTINGS, batch_size=81))
    assert same_bits(train(TRIALS[0]), exact(TRIALS[0]))


def test_the_reference_leaves_torchs_thread_count_alone(table: SplitTable) -> None:
    torch.set_num_threads(2)
    try:
        reference_trainer(table, replace(SETTINGS, epochs=1))(Trial((4,), 0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_one_torch_thread_admits_one_caller_at_a_time_and_restores_the_number() -> None:
    before, inside, seen = torch.get_num_threads(), threading.Event(), list[int]()
    torch.set_num_threads(3)

    def other() -> None:
        with one_torch_thread():
            seen.append(torch.get_num_threads())

    try:
        with one_torch_thread(), one_torch_thread():
            thread = threading.Thread(target=other)
            thread.start()
            inside.wait(0.05)
            assert not seen
        thread.join()
        assert seen == [1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
