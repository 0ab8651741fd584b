"""The stacked engine: whole trainings in stacks.

`test_training.py` and `test_early_stopping.py` test single trainings on all engines.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_tables import low_rank_table

from layersearch.engines import choice as engine_choice
from layersearch.engines import lifecycle, training
from layersearch.engines.choice import choose_engine
from layersearch.engines.lifecycle import InMemory
from layersearch.engines.reference import reference_trainer
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.engines.stack import step as stack_step
from layersearch.engines.stack.engine import (
    CHECK_TOLERANCE,
    Check,
    StackTrainer,
    _unless_full,
    check,
    run_stacks,
    stacked_trainer,
)
from layersearch.engines.stack.plan import Room
from layersearch.engines.training import Training
from layersearch.errors import UsageError
from layersearch.space.configurations import Variant
from layersearch.space.trials import Trial, TrialResult, TrialState

Alone = Callable[[TrainingSettings], dict[Trial, TrialResult]]
ROOM = Room(8, 64)
SETTINGS = TrainingSettings(
    latent_dim=2, epochs=4, batch_size=16, initial_lr=0.003, eta_min=1e-6, weight_decay=1e-3, dropout=0.1, seed=5,
    room=ROOM,
)  # fmt: skip
TRIALS = [Trial(config, repeat) for config in [(16, 8), (9, 33), ((20, 20), (12, 30))] for repeat in range(2)]
STOPPING = replace(SETTINGS, epochs=12, initial_lr=0.01, patience=2, min_delta=0.001)
# Over a whole training Adam amplifies rounding errors, most where a gradient is almost zero.
ENGINE_TOLERANCE = 2e-3  # relative, of a loss


@pytest.fixture(scope="module")
def table() -> SplitTable:
    """A table with validation rows, which matter only with early stopping."""
    table = low_rank_table()
    return replace(table, train=table.train[:60], validation=table.train[60:])


def assert_same_bits(one: TrialResult, other: TrialResult) -> None:
    for name in ("train_losses", "test_losses", "row_errors", "parameters", "validation_losses"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("trial", "final_train_loss", "final_test_loss", "best_epoch", "failed_epoch", "is_paused"):
        assert getattr(one, name) == getattr(other, name), name


def by_trial(results: Iterator[TrialResult]) -> dict[Trial, TrialResult]:
    return {result.trial: result for result in results}


@pytest.fixture(scope="module")
def alone(table: SplitTable) -> Alone:
    """Returns the results of the trials, each trained in a stack of its own in the same room."""

    @cache
    def train_each(settings: TrainingSettings) -> dict[Trial, TrialResult]:
        return {trial: next(stacked_trainer(table, settings)([trial])) for trial in TRIALS}

    return train_each


def assert_all_same(results: dict[Trial, TrialResult], expected: dict[Trial, TrialResult]) -> None:
    assert set(results) == set(expected)
    for trial, result in results.items():
        assert_same_bits(result, expected[trial])


@pytest.mark.parametrize("settings", [SETTINGS, STOPPING, replace(SETTINGS, dropout=0.0)], ids=str)
def test_a_stack_of_trials_has_the_losses_of_the_reference(table: SplitTable, settings: TrainingSettings) -> None:
    reference = reference_trainer(table, settings)
    for trial, result in by_trial(stacked_trainer(table, settings)(TRIALS)).items():
        expected = reference(trial)
        assert (result.best_epoch, result.failed_epoch) == (expected.best_epoch, expected.failed_epoch)
        for name in ("train_losses", "test_losses", "final_train_loss", "final_test_loss"):
            np.testing.assert_allclose(getattr(result, name), getattr(expected, name), rtol=ENGINE_TOLERANCE)
        np.testing.assert_allclose(result.row_errors, expected.row_errors, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("settings", [SETTINGS, STOPPING], ids=["to the end", "early stopping"])
def test_a_trials_bits_depend_neither_on_its_company_nor_on_its_place(
    table: SplitTable, alone: Alone, settings: TrainingSettings
) -> None:
    expected = alone(settings)
    train = stacked_trainer(table, settings)
    for places in (TRIALS, [None, *TRIALS[::-1]], [TRIALS[4], None, None, TRIALS[1]]):
        together = by_trial(train(places))
        assert_all_same(together, {trial: expected[trial] for trial in places if trial})
    if settings.stops_early:
        assert len({len(result.test_losses) for result in together.values()}) > 1, "they do not all end together"


def test_variants_share_stacks_and_have_the_bits_they_have_alone(table: SplitTable) -> None:
    options: list[dict[str, Any]] = [
        *({"dropout": p, "weight_decay": decay} for p in (0.0, 0.3) for decay in (0.0, 0.2)),
        *({"dropout": p, "normalization": "none"} for p in (0.0, 0.3)),
        *({"initial_lr": rate} for rate in (0.001, 0.03)),
    ]
    variants = [Variant(config, tuple(own.items())) for own in options for config in [(16, 8), (9, 33)]]
    trials = [*TRIALS[:4], *(Trial(variant, repeat) for variant in variants for repeat in range(2))]
    train = stacked_trainer(table, SETTINGS)
    together = by_trial(run_stacks(trials, trials, {None: train}, ROOM))
    assert_all_same(together, {trial: next(train([trial])) for trial in trials})


def test_a_diverging_member_ends_at_its_epoch_and_the_others_have_the_bits_they_had(
    table: SplitTable, alone: Alone
) -> None:
    expected, states = alone(SETTINGS).copy(), InMemory()
    paused = by_trial(stacked_trainer(table, replace(SETTINGS, pause_after=2), states)(TRIALS))
    state = states.load(TRIALS[2])
    assert state
    state.parameters[:] = np.inf
    states.save(TRIALS[2], state)
    results = by_trial(stacked_trainer(table, SETTINGS, states)(TRIALS))
    failed = results.pop(TRIALS[2])
    assert failed.failed_epoch == 3
    assert np.array_equal(failed.test_losses, paused[TRIALS[2]].test_losses)
    del expected[TRIALS[2]]
    assert_all_same(results, expected)


@pytest.mark.parametrize("settings", [SETTINGS, STOPPING], ids=["to the end", "early stopping"])
def test_trials_that_are_at_different_epochs_go_on_in_one_stack(
    table: SplitTable, alone: Alone, settings: TrainingSettings
) -> None:
    expected, states = alone(settings), InMemory()
    for pause_after, some in ((1, TRIALS[:4]), (2, TRIALS[:2])):
        for result in stacked_trainer(table, replace(settings, pause_after=pause_after), states)(some):
            assert result.is_paused
            assert np.array_equal(result.test_losses, expected[result.trial].test_losses[:pause_after])
    assert_all_same(by_trial(stacked_trainer(table, settings, states)(TRIALS)), expected)


def test_the_states_of_a_stack_are_saved_while_it_is_trained(
    table: SplitTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CHECKPOINT_SECONDS", 0.0)
    saved: list[tuple[Trial, int]] = []

    class Noting(InMemory):
        def save(self, trial: Trial, state: TrialState) -> None:
            saved.append((trial, state.epoch))

    list(stacked_trainer(table, SETTINGS, Noting())(TRIALS[:3]))
    assert saved == [(trial, epoch) for epoch in (1, 2, 3) for trial in TRIALS[:3]]


def test_a_stop_is_noticed_each_epoch_and_unfinished_trainings_are_dropped(table: SplitTable) -> None:
    asked = count(1)
    assert not list(stacked_trainer(table, SETTINGS)(TRIALS, stops=lambda: next(asked) == 4))
    assert next(asked) == 5
    assert len(list(stacked_trainer(table, SETTINGS)(TRIALS, stops=lambda: next(asked) == 10))) == len(TRIALS)


def test_a_members_seconds_are_its_share(table: SplitTable, monkeypatch: pytest.MonkeyPatch) -> None:
    now = count(0.0, 6.0)
    monkeypatch.setattr(lifecycle, "time", SimpleNamespace(monotonic=lambda: next(now)))
    results = list(stacked_trainer(table, SETTINGS)(TRIALS))
    ends = next(now) - 6
    assert sum(result.seconds for result in results) == pytest.approx(ends, abs=5 * 6), "but for looks at the clock"
    assert len({result.seconds for result in results}) == 1


def test_no_thread_count_is_left_changed(table: SplitTable) -> None:
    torch.set_num_threads(2)
    try:
        for _ in stacked_trainer(table, SETTINGS)(TRIALS):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


# One stack after the other


def small_room(table: SplitTable, most: int, made: list[Room]) -> StackTrainer:
    """Returns a trainer that runs out of memory with more than `most` places, or with layers wider than 64."""
    train = stacked_trainer(table, SETTINGS)

    def train_small(
        trials: Sequence[Trial | None], room: Room | None = None, stops: Callable[[], bool] = lambda: False
    ) -> Iterator[TrialResult]:
        assert room
        made.append(room)
        if room.members > most or room.width > 64:
            try:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 MiB")
            finally:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        yield from train(trials, room, stops)

    return train_small


def test_trials_already_trained_leave_their_places_empty(table: SplitTable, alone: Alone) -> None:
    planned: list[Sequence[Trial | None]] = []

    def train(
        trials: Sequence[Trial | None], room: Room | None = None, stops: Callable[[], bool] = lambda: False
    ) -> Iterator[TrialResult]:
        planned.append(trials)
        yield from stacked_trainer(table, SETTINGS)(trials)

    missing = [TRIALS[1], TRIALS[4]]
    results = by_trial(run_stacks(TRIALS, missing, {None: train}, Room(2, 64)))
    assert planned == [[None, TRIALS[1]], [TRIALS[4], None]]
    assert_all_same(results, {trial: alone(SETTINGS)[trial] for trial in missing})


def test_all_stacks_of_a_search_have_the_same_room_however_few_trials_there_are(
    table: SplitTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[Room] = []

    def note(
        trials: Sequence[Trial], missing: Sequence[Trial], trainers: object, room: Room, **_: object
    ) -> Iterator[TrialResult]:
        rooms.append(room)
        return iter(())

    monkeypatch.setattr(training, "run_stacks", note)
    together = Training(SETTINGS, {None: table}, "stacked", threads=1)
    for trials, factor, pause_after in ((TRIALS, 1, None), (TRIALS[:1], 2, None), (TRIALS[2:4], 1, 1)):
        list(together.run(trials, factor, pause_after=pause_after))
    assert rooms == 3 * [ROOM]
    assert together.members == ROOM.members


def test_where_memory_is_short_stacks_are_halved(table: SplitTable) -> None:
    made: list[Room] = []
    told: list[int] = []
    train = small_room(table, 2, made)
    results = by_trial(run_stacks(TRIALS, TRIALS, {None: train}, ROOM, on_fewer=told.append))
    assert set(results) == set(TRIALS)
    assert told == [4, 2]
    assert [room.members for room in made] == [8, 4, 2, 2, 2]


def test_a_trial_that_does_not_fit_alone_is_tried_without_padding_and_then_fails(table: SplitTable) -> None:
    made: list[Room] = []
    trials = [Trial((8,), 0), Trial((200,), 0), Trial((70,), 1)]
    results = by_trial(run_stacks(trials, trials, {None: small_room(table, 8, made)}, Room(2, 224)))
    assert [results[trial].out_of_memory for trial in trials] == [False, True, True]
    assert Room(1, 32) in made


def test_other_errors_are_not_taken_for_lack_of_memory(table: SplitTable) -> None:
    def fail(
        trials: Sequence[Trial | None], room: Room | None = None, stops: Callable[[], bool] = lambda: False
    ) -> Iterator[TrialResult]:
        raise RuntimeError("CUDA error: an illegal instruction was encountered")
        yield

    with pytest.raises(RuntimeError, match="illegal"):
        list(run_stacks(TRIALS, TRIALS, {None: fail}, ROOM))


# The check, and the choice of the engine


def test_the_engine_is_right_on_the_cpu_with_the_same_bits_each_time() -> None:
    found = check(torch.device("cpu"))
    assert found.is_right
    assert found.deviation < CHECK_TOLERANCE / 10
    assert found.digest
    assert check(torch.device("cpu")) == found


def test_the_check_sees_products_of_half_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 products keep 10 bits of each factor."""
    multiply = torch.baddbmm

    def multiply_tf32(bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return multiply(bias, *(y + (y * 4097 - y * 4097).detach() + rounded(y) for y in (x, weight)))

    def rounded(y: torch.Tensor) -> torch.Tensor:
        bits = y.detach().contiguous().view(torch.int32) & ~0x1FFF
        return bits.view(torch.float32) - y.detach()

    monkeypatch.setattr(torch, "baddbmm", multiply_tf32)
    assert not check(torch.device("cpu")).is_right


def test_the_check_sees_a_wrong_step_and_bits_that_depend_on_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    adamw = stack_step.adamw

    def lean(parameters: torch.Tensor, *arguments: torch.Tensor) -> None:
        adamw(parameters, *arguments)
        parameters[1].mul_(1 + 2e-7)

    monkeypatch.setattr(stack_step, "adamw", lean)
    found = check(torch.device("cpu"))
    assert found.is_right
    assert found.digest is None
    monkeypatch.setattr(stack_step, "BETA1", 0.8)
    assert not check(torch.device("cpu")).is_right


def on_a_gpu(name: str, found: Check | Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, list[str]]:
    """Returns the engine that is chosen on a GPU, its arithmetic, and the notices."""

    def fake(device: torch.device) -> Check:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(engine_choice, "check", fake)
    notices: list[str] = []
    return *choose_engine(name, torch.device("cuda:1"), notices), notices


def test_on_a_gpu_the_stacked_engine_is_chosen_if_its_check_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("auto", "stacked"):
        assert on_a_gpu(name, Check(1e-6, "ab12"), monkeypatch) == ("stacked", "ab12", [])
        assert on_a_gpu(name, Check(1e-6, None), monkeypatch) == ("stacked", "not compared", [])
    assert on_a_gpu("reference", Check(1e-6, "ab12"), monkeypatch) == ("reference", "not compared", [])


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Check(2e-3, "ab12"), "on cuda:1 its losses differ from the reference's by 2.0e-03, not 0.0001"),
        (Check(np.inf, "ab12"), "by inf"),
        (Check(np.nan, "ab12"), "by nan"),
        (RuntimeError("CUDA error:\n operation not permitted"), "it fails on cuda:1 (RuntimeError: CUDA error: oper"),
    ],
)
def test_where_the_check_fails_the_reference_trains_and_a_notice_says_why(
    found: Check | Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, arithmetic, (notice,) = on_a_gpu("auto", found, monkeypatch)
    assert (engine, arithmetic) == ("reference", "not compared")
    assert reason in notice
    with pytest.raises(UsageError, match=r"--engine stacked: .*give --engine reference"):
        on_a_gpu("stacked", found, monkeypatch)


def test_memory_of_a_failed_stack_is_released_before_a_smaller_one_is_tried() -> None:
    class Large:
        """Stands for a stack."""

    held: list[weakref.ref[Large]] = []

    def trains() -> Iterator[TrialResult]:
        large = Large()
        held.append(weakref.ref(large))
        try:
            raise RuntimeError("CUDA out of memory")
        except RuntimeError:
            raise RuntimeError("capture failed") from None
        yield

    gc.disable()
    try:
        for result in _unless_full(trains()):
            assert result is None
            assert held[0]() is None
    finally:
        gc.enable()
    assert held
