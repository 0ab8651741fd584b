from __future__ import annotations

import numpy as np
import pytest

from layersearch.engines.kernel import step as kernel
from layersearch.randomness import batch_order, dropout_keep, dropout_threshold, mix64, stream_key, torch_generator

KEY = stream_key(42, "dropout", 0)


def test_streams_differ_by_seed_and_name_and_are_fixed() -> None:
    keys = {stream_key(seed, *name) for seed in (0, 1) for name in [("order", 0), ("order", 1), ("dropout", 0)]}
    assert len(keys) == 6
    assert stream_key(42, "order", 0) == 3217244187130958107
    assert torch_generator(42, "weights", 0, (64,)).initial_seed() == stream_key(42, "weights", 0, (64,))


def test_batch_order_is_a_permutation_that_changes_with_the_epoch() -> None:
    orders = [batch_order(KEY, epoch, 1607) for epoch in range(3)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(1607))
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[1], batch_order(KEY, 1, 1607))


def test_every_bit_of_a_key_counts_for_the_batch_order() -> None:
    assert not np.array_equal(batch_order(2**63 + 2, 0, 100), batch_order(2**63 + 3, 0, 100))


def test_batch_order_has_no_favourite_places() -> None:
    """In 4,000 epochs each of 10 rows comes first 400 times, within 5 standard deviations."""
    first = np.bincount([batch_order(KEY, epoch, 10)[0] for epoch in range(4000)], minlength=10)
    assert np.abs(first - 400).max() < 5 * (4000 * 0.1 * 0.9) ** 0.5


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
def test_dropout_drops_the_share_asked_for(p: float) -> None:
    keep = dropout_keep(KEY, 0, 0, 64, 32, n_steps=50, p=p)
    assert keep.shape == (50, 32, 64)
    deviation = (p * (1 - p) / keep.size) ** 0.5
    assert abs(1 - keep.mean() - p) < 5 * deviation


def test_dropout_units_rows_steps_and_layers_are_uncorrelated() -> None:
    """Neighbours along every axis: correlations of 100,000 pairs lie within 5 / sqrt(100,000)."""
    layers = np.stack([dropout_keep(KEY, 0, layer, 64, 32, n_steps=25, p=0.5) for layer in (0, 1)]).astype(float)
    for axis in range(4):
        ahead = np.take(layers, range(1, layers.shape[axis]), axis)
        behind = np.take(layers, range(layers.shape[axis] - 1), axis)
        correlation = np.corrcoef(ahead.ravel(), behind.ravel())[0, 1]
        assert abs(correlation) < 5 / ahead.size**0.5


def test_a_wider_layer_extends_the_pattern_of_a_narrower_one() -> None:
    narrow, wide = (dropout_keep(KEY, 3, 1, width, 32, n_steps=2, p=0.3) for width in (16, 64))
    assert np.array_equal(narrow, wide[:, :, :16])


@pytest.mark.parametrize(
    ("key", "width", "batch_size", "p"),
    [
        *[(KEY, 1, 1, 0.5), (KEY, 64, 32, 0.1), (KEY, 130, 30, 0.3), (KEY, 5, 1000, 0.9)],
        (223, 64, 1024, 0.3),  # the hash of unit 43884 in the first step is exactly the threshold
    ],
)
def test_kernel_draws_the_same_patterns(key: int, width: int, batch_size: int, p: float) -> None:
    """A LayerNorm with gain 0 and shift 1 outputs only the factors of dropout."""
    table = kernel.layer_table(3, 2, (width,))
    layer, work = table[0], kernel.allocate(table, batch_size)
    parameters = np.zeros_like(work.gradient)
    parameters[layer[kernel.SHIFT] :][:width] = 1
    keep = dropout_keep(key, 0, 0, width, batch_size, n_steps=3, p=p)
    for step in range(3):
        step_key = np.uint64(mix64(mix64(key) + step))
        kernel._forward(parameters, table, work, step_key, batch_size, dropout_threshold(p))
        gate = work.inputs[1, :width, :batch_size]
        assert np.array_equal(gate > 0, keep[step].T)
        np.testing.assert_allclose(gate[gate > 0], 1 / (1 - p), rtol=1e-6)


def test_mix64_is_splitmix64() -> None:
    """The first output of SplitMix64 for seed 0, as its authors' code gives it."""
    assert mix64(0) == 0xE220A8397B1DCDAF
