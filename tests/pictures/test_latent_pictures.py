"""The picture of the latent space is whole, readable, and says what the numbers say, whatever its size."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pictures import NOTE, assert_readable, assert_sharp_and_small, offsets_of, visible_texts, words_in

from layersearch.pictures.latent import scatter
from layersearch.pictures.latent.marks import PROFILE_COLOURS, Samples
from layersearch.pictures.latent.page import title_lines
from layersearch.pictures.style import png
from layersearch.table.copus import PROFILES

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
        figure = scatter.draw_latent_space(*SAMPLES, labels, title="Latent space of the best, [64, 64]", note=NOTE)
        assert_readable(figure)
    assert len(figure.axes) == (1 if name in ("none", "all missing") else 2)
    assert "Training (320)" in words_in(figure)
    assert NOTE in words_in(figure)


def test_latent_space_is_sharp_and_small() -> None:
    assert_sharp_and_small(png(scatter.draw_latent_space(*SAMPLES, LABELS, title="Latent space")))


def test_labels_in_any_script_are_drawn_without_a_warning() -> None:
    figure = scatter.draw_latent_space(*SAMPLES, LABELLINGS["odd"], title="Latent space")
    assert "$x_1$ (100)" in words_in(figure)
    assert "_hidden (100)" in words_in(figure)
    assert not any(text.get_parse_math() for text in visible_texts(figure))
    assert png(figure)


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
    assert_readable(scatter.draw_latent_space(codes, is_test, LABELS[: len(codes)], title="Latent space", note=NOTE))


def test_both_latent_dimensions_have_the_same_scale() -> None:
    for axes in scatter.draw_latent_space(*SAMPLES, LABELS, title="x").axes:
        box = axes.get_window_extent()
        assert np.ptp(axes.get_xlim()) / box.width == pytest.approx(np.ptp(axes.get_ylim()) / box.height)


def test_train_and_test_are_all_drawn_with_markers_of_their_own() -> None:
    axes = scatter.draw_latent_space(*SAMPLES, None, title="x").axes[0]
    train, test = (c for c in axes.collections if len(offsets_of(c)) > 0)
    assert (len(offsets_of(train)), len(offsets_of(test))) == (320, 80)
    assert np.shape(train.get_paths()[0].vertices) != np.shape(test.get_paths()[0].vertices)
    assert {tuple(xy) for xy in offsets_of(test).tolist()} == {tuple(xy) for xy in CODES[::5].tolist()}


def test_many_samples_are_thinned_out_and_the_picture_says_so() -> None:
    codes = np.random.default_rng(0).normal(size=(60_000, 2))
    labels = pd.Series(np.where(codes[:, 0] > 0, "right", "left"), name="side")
    figure = scatter.draw_latent_space(codes, codes[:, 1] > 1, labels, title="x", note=NOTE)
    assert sum(len(offsets_of(c)) for c in figure.axes[0].collections) == scatter.DRAWN_SAMPLES
    words = words_in(figure)
    assert "20,000 samples drawn, chosen at random from 60,000" in words
    assert f"right ({(codes[:, 0] > 0).sum():,})" in words
    assert_readable(figure)


def test_each_sample_is_drawn_in_the_colour_of_its_category() -> None:
    axes = scatter.draw_latent_space(*SAMPLES, LABELS, title="x").axes[1]
    legend = axes.get_legend()
    assert legend is not None
    counts = LABELS.value_counts()
    assert {text.get_text() for text in legend.get_texts()} == {f"{name} ({n})" for name, n in counts.items()}
    drawn = {tuple(np.asarray(c.get_facecolor())[0]): offsets_of(c) for c in axes.collections if len(offsets_of(c))}
    for key, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        name = text.get_text().rpartition(" (")[0]
        offsets = drawn[tuple(key.get_facecolor()[0])]  # type: ignore[union-attr]
        assert sorted(offsets.tolist()) == sorted(CODES[LABELS.eq(name).to_numpy()].tolist())


# ------------------------------------------------------------------------------------ other than two dimensions


def codes_of(size: int, count: int = 400) -> np.ndarray:
    return np.random.default_rng(size).normal(size=(count, size)) @ np.diag(np.linspace(1, 2, size))


@pytest.mark.parametrize("name", ["none", "words", "many"])
@pytest.mark.parametrize("size", [1, 3, 4, 5, 6, 24])
def test_nothing_overlaps_or_is_cut_off_at_any_size(size: int, name: str) -> None:
    title = "Latent space of the best configuration, [64, 64, 64] -> [16, 32, 64, 128]"
    figure = scatter.draw_latent_space(codes_of(size), SAMPLES[1], LABELLINGS[name], title=title, note=NOTE)
    assert_readable(figure)
    assert "Training (320)" in words_in(figure)
    assert NOTE in words_in(figure)
    assert figure.get_figwidth() <= 7.1
    assert figure.get_figheight() <= 9.5


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("labels", [None, LABELS[:10]], ids=["unlabelled", "labelled"])
def test_ten_rows_and_collapsed_dimensions_can_be_drawn(size: int, labels: pd.Series[Any] | None) -> None:
    codes = codes_of(size, 10)
    for given in (codes, np.zeros_like(codes), np.where(np.arange(size) == 0, 1.5, codes)):
        assert_readable(scatter.draw_latent_space(given, np.arange(10) < 2, labels, title="x"))


@pytest.mark.parametrize("size", [3, 4, 5])
def test_every_two_dimensions_are_shown_by_label_below_and_by_density_above_the_diagonal(size: int) -> None:
    codes = codes_of(size)
    figure = scatter.draw_latent_space(codes, SAMPLES[1], LABELS, title="x")
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is None and axes.get_aspect() == "auto"]
    grid = [panels[size * row : size * (row + 1)] for row in range(size)]
    for row in range(size):
        for column in range(size):
            drawn = [offsets_of(c) for c in grid[row][column].collections if len(offsets_of(c)) > 1]
            if row != column:
                assert len(drawn) == (3 if row > column else 2), "labels, or training and test rows"
                assert sorted(np.concatenate(drawn).tolist()) == sorted(codes[:, [column, row]].tolist())
    for axes in grid[0]:
        assert not any(tick.tick1line.get_markersize() for tick in axes.yaxis.get_major_ticks()), "they have no numbers"


def test_many_dimensions_are_shown_by_the_two_principal_components_and_said_so() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(400, 2)) * [3, 2]
    basis = np.linalg.qr(rng.normal(size=(8, 2)))[0]
    figure = scatter.draw_latent_space(plane @ basis.T + 7, SAMPLES[1], None, title="x")
    assert "first two principal components of the 8 latent dimensions" in words_in(figure).replace("\n", " ")
    shares = plane.var(axis=0) / plane.var(axis=0).sum()
    points, found = scatter.principal_components(plane @ basis.T + 7)
    assert found == pytest.approx(np.linalg.eigvalsh(np.cov(plane.T))[::-1] / np.trace(np.cov(plane.T)), rel=1e-6)
    assert f"({100 * found[0]:.0f} % of the variance)" in words_in(figure)
    assert found == pytest.approx(shares, abs=0.05)
    distances = [np.linalg.norm(x - x[:1], axis=1) for x in (points, plane)]
    assert distances[0] == pytest.approx(distances[1]), "the plane is turned, not bent"


def test_profiles_of_one_style_have_colours_of_one_kind() -> None:
    labels = pd.Series(pd.Categorical([PROFILES[6], PROFILES[2]] * 5, list(PROFILES), ordered=True), name="Cluster")
    samples = Samples.of(codes_of(2, 10), np.arange(10) < 2, labels, most=10)
    assert samples.names == [PROFILES[2], PROFILES[6]]
    assert [look["color"] for look in samples.looks] == [PROFILE_COLOURS[2], PROFILE_COLOURS[6]]


def test_a_title_is_not_broken_within_a_configuration() -> None:
    assert title_lines("Latent dimensions of the best, [64, 64, 64]", 3.4).splitlines() == [
        "Latent dimensions of the best,",
        "[64, 64, 64]",
    ]
    assert len(title_lines("[" + ", ".join(["64"] * 60) + "]", 3.4).splitlines()) > 4


def test_of_a_single_dimension_every_label_has_a_line() -> None:
    figure = scatter.draw_latent_space(codes_of(1), SAMPLES[1], LABELS, title="x")
    words = words_in(figure)
    for name, count in LABELS.value_counts().items():
        assert f"{name} ({count})" in words
