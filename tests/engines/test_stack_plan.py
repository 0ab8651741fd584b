"""Which trials share a stack, for any search."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersearch.engines.stack.plan import (
    ALIGNED,
    MOST_MEMBERS,
    Room,
    aligned,
    plan_stacks,
    room_for,
    room_of,
    stack_key,
)
from layersearch.space.configurations import Space, Variant
from layersearch.space.trials import Trial, plan_trials

fixed = settings(deadline=None, derandomize=True, database=None)
widths = st.lists(st.integers(1, 100), min_size=1, max_size=4).map(tuple)
configs = st.one_of(widths, st.tuples(widths, widths))
trials_of = st.lists(
    st.builds(Trial, configs, st.integers(0, 5), st.one_of(st.none(), st.integers(0, 3))), unique=True, max_size=40
)


@fixed
@given(trials_of, st.integers(1, 9))
def test_each_trial_is_planned_once_with_others_of_its_key_and_no_more_than_fit(
    trials: list[Trial], members: int
) -> None:
    plan = plan_stacks(trials, members)
    assert sorted(map(repr, (trial for stack in plan for trial in stack))) == sorted(map(repr, trials))
    for stack in plan:
        assert 1 <= len(stack) <= members
        assert len({stack_key(trial) for trial in stack}) == 1


@fixed
@given(trials_of, st.integers(1, 9))
def test_only_the_last_stack_of_a_key_is_not_full(trials: list[Trial], members: int) -> None:
    keys = [stack_key(stack[0]) for stack in plan_stacks(trials, members) if len(stack) < members]
    assert len(keys) == len(set(keys))


@fixed
@given(trials_of, st.integers(1, 9))
def test_a_plan_keeps_the_order_within_a_key_and_is_the_same_each_time(trials: list[Trial], members: int) -> None:
    plan = plan_stacks(trials, members)
    assert plan == plan_stacks(list(trials), members)
    for key in {stack_key(trial) for trial in trials}:
        planned = [trial for stack in plan for trial in stack if stack_key(trial) == key]
        assert planned == [trial for trial in trials if stack_key(trial) == key]


def test_the_depths_of_encoder_and_decoder_and_the_fold_keep_trials_apart() -> None:
    apart = [
        Trial((8, 8), 0),
        Trial((8,), 0),
        Trial(((8, 8), (8,)), 0),
        Trial(((8,), (8, 8)), 0),
        Trial((8, 8), 0, 0),
        Trial((8, 8), 0, 1),
    ]
    assert len({stack_key(trial) for trial in apart}) == 6
    assert stack_key(apart[0]) == stack_key(Trial((64, 2), 4)) == stack_key(Trial(((4, 3), (9, 9)), 1))


def test_normalizations_of_their_own_keep_trials_apart_and_other_options_do_not() -> None:
    def key(**options: float | str) -> object:
        return stack_key(Trial(Variant((8, 8), tuple(options.items())), 0))

    apart = [key(), key(normalization="none"), key(input_normalization="none"), key(normalization="layer")]
    assert len(set(apart)) == 4
    assert key(dropout=0.0, weight_decay=0.1) == key() == stack_key(Trial((4, 4), 1))


def test_the_default_search_has_a_stack_for_each_depth_on_a_large_gpu() -> None:
    space = Space([16, 32, 64, 128], 3)
    trials = plan_trials(list(space.configurations()), 5, input_dim=24, latent_dim=3)
    assert [len(stack) for stack in plan_stacks(trials, MOST_MEMBERS["cuda"])] == [100, 50, 20]


@fixed
@given(st.lists(st.integers(1, 500), min_size=1), st.integers(1, 5), st.integers(1, 10**6), st.integers(0, 10**11))
def test_room_is_for_a_power_of_two_that_suffices_or_fits(
    widths: list[int], max_layers: int, n_trials: int, memory: int
) -> None:
    def room(n_trials: int, memory: int) -> Room:
        return room_for(
            widths, max_layers, n_trials=n_trials, n_rows=1600, n_scored=400, input_dim=24, latent_dim=3, batch_size=32,
            device="cuda", memory=memory,
        )  # fmt: skip

    found = room(n_trials, memory)
    assert found.members.bit_count() == 1
    assert found.members <= min(MOST_MEMBERS["cuda"], 2 * n_trials - 1)
    assert found.width >= max(widths)
    assert found.width % ALIGNED == 0
    assert room(n_trials + 1, memory).members >= found.members
    assert room(n_trials, 2 * memory).members >= found.members
    assert room(10**6, 10**15) == replace(found, members=MOST_MEMBERS["cuda"])


def test_a_batch_has_room_for_no_more_than_the_table_has_rows() -> None:
    def members(batch_size: int) -> int:
        room = room_for(
            [128], 3, n_trials=100, n_rows=2000, n_scored=400, input_dim=24, latent_dim=3, batch_size=batch_size,
            device="cuda", memory=8 * 10**9,
        )  # fmt: skip
        return room.members

    assert members(10**9) == members(2000) < members(32)


def test_test_rows_need_room_too() -> None:
    def members(n_scored: int) -> int:
        room = room_for(
            [64], 2, n_trials=100, n_rows=2000, n_scored=n_scored, input_dim=24, latent_dim=3, batch_size=32,
            device="cuda", memory=16 * 10**9,
        )  # fmt: skip
        return room.members

    assert members(10**6) < members(1000)


@pytest.mark.parametrize(("width", "expected"), [(1, 32), (32, 32), (33, 64), (128, 128)])
def test_widths_are_padded_to_whole_multiples(width: int, expected: int) -> None:
    assert aligned(width) == expected


def test_trainings_outside_a_search_get_the_room_they_need() -> None:
    assert room_of([Trial((8, 40), 0), Trial(((8, 8), (70, 8)), 0)]) == Room(2, 96)
