"""The picture of the latent plane is whole, readable, and says what the numbers say."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pictures import NOTE, assert_readable, assert_sharp_and_small, offsets_of, visible_texts, words_in

import latent_plots

_rng = np.random.default_rng(2)
_group = _rng.integers(0, 3, 400)
CODES = (np.array([[0, 0], [4, 1], [1, 5]])[_group] + _rng.normal(size=(400, 2))).astype(np.float32)
SAMPLES = (CODES, np.arange(400) % 5 == 0)
LABELS = pd.Series(np.array(["Mostly lecture", "Transitioning", "High engagement"])[_group], name="Bcluster")
MANY = pd.Series([f"A subject with a rather long name, number {i % 13}" for i in range(400)], name="Broader" * 12)
LABELLINGS = {
    "none": None,
    "all missing": pd.Series([None] * 400, name="x", dtype=object),
    "words": LABELS,
    "numbers": pd.Series(np.where(np.arange(400) % 7 == 0, np.nan, np.arange(400) % 7), name="Cluster"),
    "many": MANY.where(np.arange(400) % 9 > 0),
    "odd": pd.Series(["$x_1$", "_hidden", "a\nb", "教室"] * 100, name="a $ b"),
}


@pytest.mark.parametrize("name", LABELLINGS)
def test_nothing_overlaps_or_is_cut_off_in_latent_space(name: str) -> None:
    labels = LABELLINGS[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = latent_plots.draw_latent_space(*SAMPLES, labels, title="Latent space of the best, [64, 64]", note=NOTE)
        assert_readable(figure)
    assert len(figure.axes) == (1 if name in ("none", "all missing") else 2)
    assert "Training (320)" in words_in(figure)
    assert NOTE in words_in(figure)


def test_latent_space_is_sharp_and_small(tmp_path: Path) -> None:
    latent_plots.plot_latent_space(*SAMPLES, LABELS, tmp_path / "a.png", title="Latent space")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert_sharp_and_small(tmp_path / "a.png")


def test_labels_in_any_script_are_drawn_without_a_warning(tmp_path: Path) -> None:
    latent_plots.plot_latent_space(*SAMPLES, LABELLINGS["odd"], tmp_path / "x.png", title="Latent space")
    assert (tmp_path / "x.png").stat().st_size > 0
    figure = latent_plots.draw_latent_space(*SAMPLES, LABELLINGS["odd"], title="Latent space")
    assert "$x_1$ (100)" in words_in(figure)
    assert "_hidden (100)" in words_in(figure)
    assert not any(text.get_parse_math() for text in visible_texts(figure))


@pytest.mark.parametrize(
    "codes",
    [
        np.ones((50, 2)),
        np.array([[3.0, -2.0]]),
        np.column_stack([np.arange(50.0), np.zeros(50)]),
        np.column_stack([np.arange(50.0), 1000 * np.arange(50.0)]),
        np.vstack([CODES[:50], [[1e4, 1e4]]]),
    ],
    ids=["equal", "one", "a constant dimension", "unlike scales", "far outlier"],
)
def test_degenerate_codes_can_be_drawn(codes: np.ndarray) -> None:
    is_test = np.zeros(len(codes), bool)
    assert_readable(
        latent_plots.draw_latent_space(codes, is_test, LABELS[: len(codes)], title="Latent space", note=NOTE)
    )


def test_both_latent_dimensions_have_the_same_scale() -> None:
    for axes in latent_plots.draw_latent_space(*SAMPLES, LABELS, title="x").axes:
        box = axes.get_window_extent()
        assert np.ptp(axes.get_xlim()) / box.width == pytest.approx(np.ptp(axes.get_ylim()) / box.height)


def test_train_and_test_are_all_drawn_with_markers_of_their_own() -> None:
    axes = latent_plots.draw_latent_space(*SAMPLES, None, title="x").axes[0]
    train, test = (c for c in axes.collections if len(offsets_of(c)) > 0)
    assert (len(offsets_of(train)), len(offsets_of(test))) == (320, 80)
    assert np.shape(train.get_paths()[0].vertices) != np.shape(test.get_paths()[0].vertices)
    assert {tuple(xy) for xy in offsets_of(test).tolist()} == {tuple(xy) for xy in CODES[::5].tolist()}


def test_density_agrees_with_the_exact_sum() -> None:
    spread = np.minimum(CODES.std(axis=0), np.subtract(*np.percentile(CODES, [75, 25], axis=0)) / 1.349)
    bandwidth = spread * len(CODES) ** (-1 / 6)
    z = (CODES[:, None] - CODES[None]) / bandwidth
    exact = np.exp(-0.5 * (z**2).sum(axis=2)).mean(axis=1) / (2 * np.pi * bandwidth.prod())
    error = np.abs(latent_plots.estimate_density(CODES) - exact)
    assert error.max() < 0.02 * exact.max()  # linear binning, five nodes a bandwidth


def test_density_is_highest_where_samples_are_densest() -> None:
    rng = np.random.default_rng(0)
    codes = np.vstack([rng.normal(0, 1, (300, 2)), rng.normal(10, 0.3, (300, 2))])
    density = latent_plots.estimate_density(codes)
    assert density[300:].min() > density[:300].max()


def test_many_samples_are_thinned_out_and_the_picture_says_so() -> None:
    codes = np.random.default_rng(0).normal(size=(60_000, 2))
    labels = pd.Series(np.where(codes[:, 0] > 0, "right", "left"), name="side")
    figure = latent_plots.draw_latent_space(codes, codes[:, 1] > 1, labels, title="x", note=NOTE)
    assert sum(len(offsets_of(c)) for c in figure.axes[0].collections) == latent_plots.DRAWN_SAMPLES
    words = words_in(figure)
    assert "20,000 samples drawn, chosen at random from 60,000" in words
    assert f"right ({(codes[:, 0] > 0).sum():,})" in words
    assert_readable(figure)


def test_categories_are_ordered_and_the_rare_are_put_together() -> None:
    def named(values: list[Any]) -> list[tuple[str, int]]:
        category, names = latent_plots.categories(pd.Series(values, dtype=object))
        return [(name, int((category == k).sum())) for k, name in enumerate(names)]

    assert named(["b", "a", "b", None]) == [("b", 2), ("a", 1), ("no label", 1)]
    assert named([10.0, 2.0, "2", 1, 1]) == [("1", 2), ("2", 2), ("10", 1)]
    letters = [letter for k, letter in enumerate("abcdefghi") for _ in range(9 - k)]
    assert named(letters) == [*((letter, 9 - k) for k, letter in enumerate("abcdefg")), ("other", 3)]
    assert len(named(list("abcdefgh"))) == 8


def test_each_sample_is_drawn_in_the_colour_of_its_category() -> None:
    axes = latent_plots.draw_latent_space(*SAMPLES, LABELS, title="x").axes[1]
    legend = axes.get_legend()
    assert legend is not None
    counts = LABELS.value_counts()
    assert {text.get_text() for text in legend.get_texts()} == {f"{name} ({n})" for name, n in counts.items()}
    drawn = {tuple(np.asarray(c.get_facecolor())[0]): offsets_of(c) for c in axes.collections if len(offsets_of(c))}
    for key, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        name = text.get_text().rpartition(" (")[0]
        offsets = drawn[tuple(key.get_facecolor()[0])]  # type: ignore[union-attr]
        assert sorted(offsets.tolist()) == sorted(CODES[LABELS.eq(name).to_numpy()].tolist())
