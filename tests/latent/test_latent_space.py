"""Correlations of the latent axes and the reconstruction of each column follow their formulas."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pictures import NOTE, assert_readable, words_in

from dataset import COPUS_CODES
from layersearch.engines.settings import SplitTable
from layersearch.latent import space as latent_space
from layersearch.latent.space import Axes, Reconstruction, correlate, reconstruction_by_column
from layersearch.pictures.latent.axes import draw_axes
from layersearch.pictures.latent.reconstruction import draw_reconstruction
from layersearch.pictures.style import any_script
from layersearch.table.copus import full_names
from layersearch.verdict.pca import fit_pca
from models import DynamicAutoencoder

N, F, L = 80, 6, 3
_rng = np.random.default_rng(5)
CODES = _rng.normal(size=(N, L))
VALUES = (CODES @ _rng.normal(size=(L, F)) + _rng.normal(size=(N, F))).astype(np.float32)
COLUMNS = [f"c{f}" for f in range(F)]


def with_gaps() -> np.ndarray:
    return np.where(np.random.default_rng(1).random((N, F)) < 0.2, np.nan, VALUES).astype(np.float32)


# --- Axes ------------------------------------------------------------------------------------------


def test_correlations_are_pearsons_over_the_observed_cells() -> None:
    values = with_gaps()
    axes = correlate(CODES, torch.from_numpy(values), COLUMNS)
    assert axes.dimensions == [1, 2, 3]
    for f in range(F):
        here = ~np.isnan(values[:, f])
        for d in range(L):
            exact = np.corrcoef(values[here, f], CODES[here, d])[0, 1]
            assert axes.correlations[f, d] == pytest.approx(exact, abs=1e-6)


def test_correlating_many_columns_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = correlate(CODES, torch.from_numpy(VALUES), COLUMNS)
    monkeypatch.setattr(latent_space, "CELLS_AT_A_TIME", 2 * N)
    assert correlate(CODES, torch.from_numpy(VALUES), COLUMNS).correlations == pytest.approx(whole.correlations)


def test_constant_columns_and_dimensions_have_no_correlation_and_no_warning() -> None:
    codes, values = CODES.copy(), VALUES.copy()
    codes[:, 1], values[:, 4], values[:, 5] = 0.3, 2.0, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = correlate(codes, torch.from_numpy(values), COLUMNS)
    assert axes.collapsed == [2]
    known = ~np.isnan(axes.correlations)
    assert known.tolist() == [[True, False, True]] * 4 + [[False] * 3] * 2
    assert axes.entry()["collapsed_dimensions"] == [2]
    assert set(axes.order(40)[-2:]) == {4, 5}, "last, since they go with none"
    figure = draw_axes(axes, COLUMNS, title="x")
    assert_readable(figure)
    assert "Grey: does not vary" in words_in(figure)


def test_of_many_dimensions_those_that_vary_most_are_reported() -> None:
    codes = np.random.default_rng(0).normal(size=(N, 40)) * 2.0 ** np.arange(40)
    axes = correlate(codes, torch.from_numpy(VALUES), COLUMNS)
    assert axes.dimensions == list(range(17, 41))
    figure = draw_axes(axes, COLUMNS, title="x", note=NOTE)
    assert_readable(figure)
    assert "24 of 40 latent dimensions that vary most" in words_in(figure).replace("\n", " ")


def test_columns_are_sorted_by_the_dimension_that_they_correlate_with_most() -> None:
    correlations = np.array([[0.1, -0.9], [-0.5, 0.2], [0.7, 0.6], [0.1, 0.4], [-0.8, 0.1]])
    axes = Axes(list("abcde"), [1, 2], 2, [], correlations)
    assert [axes.columns[f] for f in axes.order(5)] == ["c", "b", "e", "d", "a"]
    assert [axes.columns[f] for f in axes.order(3)] == ["c", "e", "a"], "the strongest"


@pytest.mark.parametrize("size", [1, 3, 10, 24])
def test_the_picture_of_the_axes_is_readable(size: int) -> None:
    correlations = np.random.default_rng(0).uniform(-1, 1, (24, size))
    axes = Axes(list(COPUS_CODES), list(range(1, size + 1)), size, [], correlations)
    figure = draw_axes(axes, full_names(COPUS_CODES), title="Correlation of latent dimensions: [64, 64]", note=NOTE)
    assert_readable(figure)
    words = words_in(figure)
    assert "Listening, taking notes (L)" in words
    assert "Grey" not in words
    assert (f"{correlations[0, 0]:+.2f}".replace("-", "−") in words) is (size <= 10), "printed where there is room"


def test_of_many_columns_forty_are_drawn_and_said_so() -> None:
    correlations = np.random.default_rng(0).uniform(-1, 1, (600, 3))
    names = [f"a column with a rather long name, number {f}" for f in range(600)]
    axes = Axes(names, [1, 2, 3], 3, [], correlations)
    figure = draw_axes(axes, names, title="x")
    assert_readable(figure)
    assert figure.get_figheight() < 10
    assert "40 of 600 columns that correlate most" in words_in(figure).replace("\n", " ")
    kept = axes.entry()["correlations"]
    assert len(kept) == latent_space.MOST_COLUMNS
    assert min(np.abs(row).max() for row in kept.values()) == np.sort(np.abs(correlations).max(axis=1))[100]


# --- Reconstruction --------------------------------------------------------------------------------


def a_table(values: np.ndarray) -> SplitTable:
    return SplitTable(torch.from_numpy(values), torch.arange(60), torch.arange(60, N))


def a_model() -> DynamicAutoencoder:
    return DynamicAutoencoder(F, L, (8,), 0.1, generator=torch.Generator().manual_seed(0)).eval()


def test_reconstruction_is_measured_on_the_test_rows_about_the_training_mean() -> None:
    table, model = a_table(with_gaps()), a_model()
    pca = fit_pca(table.values[:60], L)
    kept = reconstruction_by_column(model, pca, table, COLUMNS)
    test, mean = table.values[60:].double().numpy(), np.nanmean(table.values[:60].double().numpy(), axis=0)
    with torch.no_grad():
        guess = model(table.values[60:].nan_to_num(nan=0.0))[0].numpy()
    for found, guessed in ((kept.model, guess), (kept.pca, pca.reconstruct(table.values[60:]).numpy())):
        exact = 1 - np.nansum((guessed - test) ** 2, axis=0) / np.nansum((test - mean) ** 2, axis=0)
        assert found == pytest.approx(exact, rel=1e-5)
    whole = 1 - np.nansum((guess - test) ** 2) / np.nansum((test - mean) ** 2)
    assert kept.overall[0] == pytest.approx(whole, rel=1e-5)
    assert (kept.n_rows, kept.n_components) == (20, 3)


def test_a_column_that_is_the_same_in_all_test_rows_is_left_out_and_named() -> None:
    values = VALUES.copy()
    values[60:, 2] = 0.5
    kept = reconstruction_by_column(a_model(), fit_pca(torch.from_numpy(values[:60]), L), a_table(values), COLUMNS)
    assert kept.unknown == ["c2"]
    assert np.isnan(kept.model[2])
    assert 2 not in kept.order(40)
    figure = draw_reconstruction(kept, COLUMNS, title="x", note=NOTE)
    assert_readable(figure)
    assert "The same in all test rows, so left out: c2." in words_in(figure).replace("\n", " ")


def made_up(model: Any, pca: Any) -> Reconstruction:
    columns = [f"c{f}" for f in range(len(model))]
    return Reconstruction(columns, np.array(model, float), np.array(pca, float), 3, (0.2, -0.3), 401)


@pytest.mark.parametrize(
    "kept",
    [
        made_up([0.9, -0.2, -7.3, 0.1], [0.8, 0.4, -0.7, -33.1]),
        made_up([1.0], [1.0]),
        made_up([np.nan, np.nan], [np.nan, np.nan]),
        made_up(np.linspace(-3, 1, 24), np.linspace(1, -3, 24)),
    ],
    ids=["off the scale", "perfect", "nothing", "many"],
)
def test_any_share_can_be_drawn(kept: Reconstruction) -> None:
    names = full_names(COPUS_CODES) if len(kept.columns) == 24 else kept.columns
    figure = draw_reconstruction(kept, names, title="Share of each behaviour's variance that is kept", note=NOTE)
    assert_readable(figure)
    if len(kept.columns) == 4:
        assert "model −7.3, PCA −0.7" in words_in(figure)
        assert "all together: −0.30" in words_in(figure)


def test_long_names_leave_the_key_and_the_axis_title_whole() -> None:
    names = ["a very long column name about the weather in the northern hemisphere", "naïve — 列"]
    figure = draw_reconstruction(made_up([0.4, -1.0], [0.9, 0.6]), names, title="x", note=NOTE)
    with any_script():
        assert_readable(figure)


def test_of_many_columns_some_from_best_to_worst_are_drawn_and_said_so() -> None:
    kept = made_up(np.random.default_rng(0).uniform(-0.4, 1, 1000), np.zeros(1000))
    shown = kept.model[kept.order(40)]
    assert (shown[0], shown[-1], len(shown)) == (kept.model.max(), kept.model.min(), 40)
    assert (np.diff(shown) <= 0).all()
    figure = draw_reconstruction(kept, kept.columns, title="x")
    assert_readable(figure)
    assert "40 of 1,000 columns" in words_in(figure)
    assert len(kept.entry()["by_column"]) == latent_space.MOST_COLUMNS
    assert len(replace(kept, columns=kept.columns[:6], model=kept.model[:6]).entry()["by_column"]) == 6
