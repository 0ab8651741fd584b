"""Codes and errors of rows do not depend on how a table is cut, and percentiles of errors are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dataset import Scaling
from layersearch.latent.codes import BLOCK, encode_values, error_quantiles, percentiles_among, share_beyond
from models import DynamicAutoencoder, SavedModel


def test_bits_do_not_depend_on_the_pieces() -> None:
    network = DynamicAutoencoder(24, 2, [8], generator=torch.Generator().manual_seed(1)).eval()
    scaling = Scaling("robust", np.zeros(24, np.float32), np.full(24, 80, np.float32))
    saved = SavedModel(network, [f"c{number}" for number in range(24)], scaling)
    values = np.random.default_rng(0).uniform(0, 100, (2 * BLOCK + 77, 24)).astype(np.float32)
    values[5] = np.nan
    whole = encode_values(saved, values)
    for size in (1, 1000, BLOCK, BLOCK + 1):
        starts = range(0, len(values), size) if size > 1 else [0, 5, BLOCK, len(values) - 1]
        for start in starts:
            part = encode_values(saved, values[start : start + size], start)
            for mine, theirs in ((part.codes, whole.codes), (part.errors, whole.errors)):
                assert np.array_equal(mine, theirs[start : start + size], equal_nan=True)
    assert np.isnan(whole.codes[5]).all()
    assert np.isnan(whole.errors[5])
    assert not np.isnan(np.delete(whole.codes, 5, axis=0)).any()


def test_a_percentile_is_the_share_of_smaller_errors_rounded_down() -> None:
    errors = np.array([0.1, 0.2, 0.2, 0.5, 0.9, 1.0], np.float32)
    quantiles = error_quantiles(errors)
    assert len(quantiles) == 1001
    asked = np.array([0.0, 0.1, 0.15, 0.2, 0.3, 0.5, 0.95, 1.0, 1.1, np.nan], np.float32)
    found = percentiles_among(asked, quantiles)
    expected = [np.floor(1000 * np.mean(errors < error)) / 10 for error in asked[:-1]]
    assert found[:-1].tolist() == pytest.approx(expected)
    assert np.isnan(found[-1])
    many = np.random.default_rng(0).random(100_000)
    found = percentiles_among(many, error_quantiles(many))
    assert np.abs(found - 100 * many.argsort().argsort() / len(many)).max() < 0.1 + 1e-9


@pytest.mark.parametrize("n", [1, 2, 7, 401, 999])
def test_how_many_rows_are_beyond_a_mark_is_told_exactly(n: int) -> None:
    rng = np.random.default_rng(n)
    training, test = np.sort(rng.gamma(2, size=(2, n)), axis=1)
    quantiles = error_quantiles(training)
    beyond = percentiles_among(test, quantiles) >= 95
    of_quantiles = percentiles_among(error_quantiles(test), quantiles)
    assert share_beyond(95, of_quantiles, n) == beyond.mean()
    assert share_beyond(0, of_quantiles, n) == 1
