"""The curves and the picture of all configurations are readable, and show what the numbers say."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from builders import (
    BASELINES,
    make_configuration,
    make_ranking,
    make_study_ranking,
    make_verdict,
    recommending,
    recommending_smallest_tied,
)
from conftest import ROOT
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pictures import NOTE, assert_readable, assert_sharp_and_small, texts_of, words_in

from layersearch.pictures import curves, sizes
from layersearch.pictures.style import MARKERS, png
from layersearch.space.configurations import Configuration, enumerate_configurations
from layersearch.space.factors import read_factors
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.verdict import Verdict


def ranked(*configurations: ConfigurationResult) -> list[ConfigurationResult]:
    return sorted(configurations, key=lambda c: c.final_test_loss)


def many_configurations(count: int) -> list[Configuration]:
    rng = np.random.default_rng(1)
    found: set[Configuration] = set()
    while len(found) < count:
        widths = rng.choice([8, 16, 24, 32, 64, 128, 256], rng.integers(1, 7))
        found.add(tuple(sorted((int(width) for width in widths), reverse=True)))
    return sorted(found)


STUDIED = read_factors(
    "dropout=0.1,0.25; weight_decay=1e-4,1e-2; normalization=layer,none; input_normalization=layer,none"
)
RANKINGS: dict[str, list[ConfigurationResult]] = {
    "variants": make_study_ranking([(64, 64, 64), ((64, 32, 16), (16, 32, 64))], STUDIED, repeats=2),
    "one option": make_study_ranking(
        [(128,) * 6, ((64, 32, 16), (16, 32, 64))], read_factors("input_normalization=layer,none"), repeats=2
    ),
    "19 × 5": make_ranking(enumerate_configurations([16, 32, 64], 3)),
    "34 × 5, one failed": make_ranking(enumerate_configurations([16, 32, 64, 128], 3), failed=[(64, 16, 16)]),
    "3 × 1": make_ranking(enumerate_configurations([16, 32, 64], 1), repeats=1),
    "one": make_ranking([(64, 64)]),
    "125 × 2": make_ranking(enumerate_configurations([8, 16, 32, 64, 128], 4)[:125], repeats=2),
    "400 × 1": make_ranking(many_configurations(400), repeats=1, epochs=3),
    "one epoch": make_ranking(enumerate_configurations([16, 32, 64], 2), epochs=1),
    "one epoch, once": make_ranking(enumerate_configurations([16, 32], 2), epochs=1, repeats=1),
    "300 epochs": make_ranking([(16,), (32,), (64,)], epochs=300, repeats=2),
    "identical": [make_configuration(c, [0.038, 0.038], steepness=0) for c in enumerate_configurations([16, 32], 2)],
    "zero": [make_configuration((16,), [0.0]), make_configuration((32,), [0.0])],
    "steep": ranked(*(make_configuration((w,), [0.03, 0.031], steepness=3e4) for w in (8, 16, 32))),
    "outlier": ranked(*make_ranking([(16,), (32,), (64,)], repeats=2), make_configuration((16, 16), [0.9, 0.92])),
    "huge bar": ranked(*make_ranking([(16,), (32,), (64,)], repeats=2), make_configuration((16, 16), [0.005, 0.085])),
    "deep": make_ranking([(128,) * k for k in range(1, 13)], repeats=2),
    "folds": make_ranking(enumerate_configurations([16, 32, 64], 3), repeats=3, folds=5, failed=[(64, 16, 16)]),
    "folds, once": make_ranking(enumerate_configurations([16, 32, 64], 2), repeats=1, folds=3),
    "tiny losses": ranked(*(make_configuration((w,), [w * 1e-8, w * 1.1e-8]) for w in (8, 16, 32))),
    "large losses": ranked(*(make_configuration((w,), [312.2 + w, 330.1 + w]) for w in (8, 16, 32))),
}


@functools.cache
def verdict_on(name: str) -> Verdict:
    return recommending_smallest_tied(make_verdict(RANKINGS[name]))


@functools.cache
def drawn_once(draw: Callable[..., Figure], name: str) -> Figure:
    """Returns the picture of a ranking; the tests share it, so none may change it."""
    return draw(RANKINGS[name], latent_dim=3, verdict=verdict_on(name), note=NOTE)


def draw_with(draw: Callable[..., Figure], name: str, options: dict[str, Any]) -> Figure:
    if not options:
        return drawn_once(draw, name)
    return draw(RANKINGS[name], latent_dim=3, **({"verdict": verdict_on(name)} | options))


def draw_curves(name: str, **options: Any) -> Figure:
    return draw_with(curves.draw_curves, name, options)


def draw_sizes(name: str, **options: Any) -> Figure:
    return draw_with(sizes.draw_sizes, name, options)


def legend_of(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


# Every picture


@pytest.mark.parametrize("draw", [draw_curves, draw_sizes])
@pytest.mark.parametrize("name", RANKINGS)
def test_nothing_overlaps_or_is_cut_off(name: str, draw: Callable[[str], Figure]) -> None:
    figure = draw(name)
    assert_readable(figure)
    assert NOTE in words_in(figure)


def test_the_readability_check_sees_overlap_cut_off_and_small_print() -> None:
    for place, size, complaint in [((0.99, 0.5), 8, "cut off"), ((0.5, 0.5), 8, "overlaps"), ((0.1, 0.1), 6, "here")]:
        figure = Figure()
        figure.text(0.5, 0.5, "there", fontsize=8)
        figure.text(*place, "here", fontsize=size)
        with pytest.raises(AssertionError, match=complaint):
            assert_readable(figure)


@pytest.mark.parametrize("draw", [curves.draw_curves, sizes.draw_sizes])
def test_a_search_in_which_all_failed_cannot_be_drawn(draw: Any) -> None:
    configurations = enumerate_configurations([16, 32], 1)
    with pytest.raises(ValueError, match="no configuration finished"):
        draw(make_ranking(configurations, failed=configurations), latent_dim=3, verdict=verdict_on("one"))


def test_pictures_are_sharp_small_and_the_same_twice() -> None:
    drawn = png(draw_curves("19 × 5"))
    assert drawn == png(draw_curves("19 × 5", note=NOTE))
    assert_sharp_and_small(drawn)
    assert_sharp_and_small(png(draw_sizes("19 × 5")))


def test_drawing_leaves_global_settings_alone() -> None:
    before = dict(mpl.rcParams)
    draw_curves("3 × 1", note=None)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("module", ["search_pictures", "latent.scatter"])
def test_importing_pictures_does_not_import_pyplot_torch_or_pandas(module: str) -> None:
    heavy = "{'matplotlib.pyplot', 'torch', 'pandas', 'scipy'}"
    code = f"import layersearch.pictures.{module}, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# The search


def test_search_draws_the_mean_and_one_standard_deviation_of_the_best() -> None:
    ranking = RANKINGS["19 × 5"]
    axes = draw_curves("19 × 5", top=3).axes[0]
    lines = [line.get_ydata() for line in axes.lines if len(np.asarray(line.get_xdata())) == 20]
    assert len(lines) == 3
    np.testing.assert_array_equal(lines[-1], ranking[0].test_curves.mean(axis=0))  # the best is drawn last
    band = axes.collections[-1].get_paths()[0].vertices
    at_end = np.asarray(band)[np.asarray(band)[:, 0] == 20, 1]
    mean, sd = ranking[0].final_test_loss, ranking[0].final_test_loss_sd
    assert sd is not None
    np.testing.assert_allclose([at_end.min(), at_end.max()], [mean - sd, mean + sd], rtol=1e-12)


def test_search_names_the_best_with_loss_and_size() -> None:
    words = words_in(draw_curves("19 × 5"))
    for c in RANKINGS["19 × 5"][:5]:
        assert (
            f"{list(c.config)}\n{c.final_test_loss:.4f} ± {c.final_test_loss_sd:.4f}\n{c.model_params:,} par" in words
        )
    assert "mean over 5 repeats; band: ± 1 standard deviation" in words
    assert "the best 5 of 19 configurations, latent size 3" in words


def test_search_claims_no_spread_for_one_repeat() -> None:
    figure = draw_curves("3 × 1")
    assert "±" not in words_in(figure)
    assert len(figure.axes[0].collections) == 0


@pytest.mark.parametrize(
    ("name", "scale"),
    [("19 × 5", "log"), ("steep", "log"), ("identical", "linear"), ("one epoch", "linear"), ("zero", "linear")],
)
def test_search_takes_a_log_axis_where_the_range_asks_for_it(name: str, scale: str) -> None:
    figure = draw_curves(name)
    assert figure.axes[0].get_yscale() == scale
    assert ("log scale" in words_in(figure)) == (scale == "log")


def lowest_of_band(axes: Axes) -> float:
    return float(np.asarray(axes.collections[-1].get_paths()[0].vertices)[:, 1].min())


def test_a_band_that_reaches_below_zero_is_cut_at_the_foot_of_the_log_axis() -> None:
    ranking = [make_configuration((64,), [0.001, 0.5, 0.001])]
    axes = curves.draw_curves(ranking, latent_dim=3, verdict=make_verdict(ranking)).axes[0]
    assert axes.get_ylim()[0] > 0
    assert lowest_of_band(axes) == axes.get_ylim()[0]
    assert_readable(axes.figure)  # type: ignore[arg-type]


def test_a_wide_band_above_zero_is_drawn_to_its_true_edge() -> None:
    ranking = [make_configuration((64,), [0.15, 0.65])]
    axes = curves.draw_curves(ranking, latent_dim=3, verdict=make_verdict(ranking)).axes[0]
    mean, sd = ranking[0].final_test_loss, ranking[0].final_test_loss_sd or 0
    assert axes.get_yscale() == "log"
    assert lowest_of_band(axes) == pytest.approx(mean - sd)
    assert axes.get_ylim()[0] < mean - sd < 0.2 * mean


# All configurations


def test_every_finished_configuration_is_drawn_where_it_belongs() -> None:
    ranking = RANKINGS["34 × 5, one failed"]
    figure = draw_sizes("34 × 5, one failed")
    drawn = {
        (float(x), float(y))
        for line in figure.axes[0].lines
        if line.get_marker() in MARKERS
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    }
    assert drawn == {(float(c.model_params), c.final_test_loss) for c in ranking if c.failure is None}
    assert "33 of 34 configurations (1 failed)" in words_in(figure)


def test_depths_differ_in_colour_and_marker() -> None:
    axes = draw_sizes("deep").axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().x0 > axes.get_window_extent().x1  # it hides no point
    keys = [line for line in legend.get_lines() if line.get_marker() in MARKERS and "layer" in str(line.get_label())]
    assert len({line.get_marker() for line in keys}) == len({str(line.get_color()) for line in keys}) == 8
    assert "8 or more hidden layers" in legend_of(axes.figure)  # type: ignore[arg-type]
    drawn = {(x, line.get_marker()) for line in axes.lines for x in np.asarray(line.get_xdata()).tolist()}
    for c in RANKINGS["deep"]:
        assert (c.model_params, MARKERS[min(len(c.config), 8) - 1]) in drawn


def front_line(figure: Figure) -> np.ndarray:
    """[k, 2] the corners of the dashed staircase."""
    line = next(line for line in figure.axes[0].lines if line.get_linewidth() == 0.9 and line.get_marker() == "None")
    return np.asarray(line.get_xydata()) if line.get_linestyle() == "--" else np.zeros((0, 2))


def test_the_pareto_front_is_drawn_as_a_staircase() -> None:
    front = verdict_on("19 × 5").front
    figure = draw_sizes("19 × 5")
    corners = front_line(figure)
    assert len(front) > 1
    assert corners[::2].tolist() == [[c.model_params, c.final_test_loss] for c in front]
    assert (np.diff(corners, axis=0) == 0).sum(axis=1).tolist() == [1] * (2 * len(front) - 2)
    assert "Pareto front: no smaller one\nis as good, within the noise" in legend_of(figure)
    assert "Pareto front: no smaller one\nis as good (as measured)" in legend_of(draw_sizes("3 × 1"))


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        (("loss", "params", "time"), "Pareto front: no smaller and faster one\nis as good, within the noise"),
        (("loss", "time"), "Pareto front: no faster one\nis as good, within the noise"),
        (("loss",), "Pareto front: the lowest loss"),
    ],
)
def test_a_front_of_other_measures_than_size_has_no_staircase(objectives: tuple[str, ...], words: str) -> None:
    verdict = make_verdict(RANKINGS["19 × 5"], objectives=objectives)
    figure = draw_sizes("19 × 5", verdict=verdict)
    assert len(front_line(figure)) == 0
    assert words in legend_of(figure)
    bold = {
        (x, y)
        for line in figure.axes[0].lines
        if line.get_marker() in MARKERS and line.get_markeredgewidth() == sizes.FRONT_EDGE
        for x, y in np.asarray(line.get_xydata()).tolist()
    }
    assert bold == {(c.model_params, c.final_test_loss) for c in verdict.front}


def band_of(figure: Figure) -> list[float] | None:
    """The lowest and the highest loss of the tied band."""
    bands = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_zorder() == 0.6]
    return [bands[0].get_y(), bands[0].get_y() + bands[0].get_height()] if bands else None


def test_the_tied_band_reaches_from_the_lowest_to_the_highest_tied_loss() -> None:
    tied = [c.final_test_loss for c in verdict_on("19 × 5").tied]
    figure = draw_sizes("19 × 5")
    assert len(tied) == 3
    assert band_of(figure) == pytest.approx([min(tied), max(tied)], rel=1e-12)
    assert "Tied with the best (95 %):\nthe losses of these 3" in legend_of(figure)


def test_losses_in_the_tied_band_that_are_not_tied_are_counted() -> None:
    tied = verdict_on("19 × 5").tied
    verdict = dataclasses.replace(verdict_on("19 × 5"), tied=(tied[0], tied[2]))
    words = legend_of(draw_sizes("19 × 5", verdict=verdict))
    assert "Tied with the best (95 %):\nthe losses of these 2\n(1 in between is not)" in words


@pytest.mark.parametrize("name", ["3 × 1", "one"])
def test_nothing_is_called_tied_or_recommended_where_nothing_is_known_or_to_compare(name: str) -> None:
    figure = draw_sizes(name)
    assert band_of(figure) is None
    assert "Tied" not in words_in(figure)
    assert "ecommended" not in words_in(figure)


def test_the_best_and_the_recommended_are_marked_and_named() -> None:
    verdict, figure = verdict_on("19 × 5"), draw_sizes("19 × 5")
    rings = {
        line.get_marker(): np.asarray(line.get_xydata()).tolist()
        for line in figure.axes[0].lines
        if line.get_markersize() == 11
    }
    assert verdict.recommended is not verdict.best
    assert rings == {
        "o": [[verdict.best.model_params, verdict.best.final_test_loss]],
        "s": [[verdict.recommended.model_params, verdict.recommended.final_test_loss]],
    }
    assert f"Best: {list(verdict.best.config)}\n" in words_in(figure)
    assert f"Recommended: {list(verdict.recommended.config)}\n" in words_in(figure)


def test_the_best_that_is_recommended_has_one_label() -> None:
    verdict = recommending(verdict_on("19 × 5"), verdict_on("19 × 5").best)
    words = words_in(draw_sizes("19 × 5", verdict=verdict))
    assert "Best and recommended:\n[64, 64, 64]\n" in words
    assert words.count("parameters\n") + words.endswith("parameters") == 1


@pytest.mark.parametrize(
    "name", ["19 × 5", "34 × 5, one failed", "125 × 2", "400 × 1", "folds", "outlier", "one option", "large losses"]
)
def test_no_line_across_the_axes_strikes_a_name_through(name: str) -> None:
    figure = draw_sizes(name)
    axes = figure.axes[0]
    lines = [*heights_of_baselines(figure), *(band_of(figure) or [])]
    across = [axes.transData.transform((1, height))[1] for height in lines]
    names = [box for text, box in texts_of(figure).items() if text in axes.texts]
    assert across
    assert names
    assert not any(box.y0 < y < box.y1 for box in names for y in across)


def test_the_axis_does_not_reach_below_zero_to_make_room_for_a_name() -> None:
    ranking = ranked(*(make_configuration((w,), [loss, 2 * loss]) for w, loss in ((8, 0.3), (16, 0.5), (32, 0.4))))
    verdict = make_verdict(ranking, baselines={"best constant": 0.05, "PCA": 0.005})
    low, high = sizes.draw_sizes(ranking, latent_dim=3, verdict=verdict).axes[0].get_ylim()
    assert low > -0.1 * high


def test_sizes_are_not_called_trainable_since_an_encoder_may_be_frozen() -> None:
    assert "rainable" not in words_in(draw_sizes("3 × 1"))


# Baselines, in both


def heights_of_baselines(figure: Figure) -> list[float]:
    across = [line for line in figure.axes[0].lines if list(np.asarray(line.get_xdata())) == [0, 1]]
    return [float(np.asarray(line.get_ydata())[0]) for line in across]


def test_baselines_near_the_axis_are_lines_and_far_ones_words() -> None:
    figure = draw_sizes("19 × 5")
    assert heights_of_baselines(figure) == pytest.approx(list(BASELINES.values())[1:])  # not the column means
    assert legend_of(figure)[-3:] == [
        "Best constant: 0.0670",
        "PCA, 3 components: 0.0406",
        "Linear autoencoder: 0.0345",
    ]

    far = make_verdict(RANKINGS["19 × 5"], baselines={"best constant": 0.07, "PCA": 0.001})
    figure = draw_sizes("19 × 5", verdict=far)
    assert heights_of_baselines(figure) == pytest.approx([0.07])
    assert figure.axes[0].get_ylim()[1] > 0.07
    assert legend_of(figure)[-1] == "PCA, 3 components: 0.00100\n(below the axis)"


def test_baselines_cross_the_curves_under_their_names() -> None:
    figure = draw_curves("19 × 5")
    assert heights_of_baselines(figure) == pytest.approx(list(BASELINES.values())[1:])  # not the column means
    assert "Best constant\n0.0670" in words_in(figure)
    assert "PCA, 3 components\n0.0406" in words_in(figure)
    lines = [line for line in figure.axes[0].lines if list(np.asarray(line.get_xdata())) == [0, 1]]
    assert len({str(line._dash_pattern) for line in lines}) == 3  # type: ignore[attr-defined]


def test_a_baseline_far_from_the_curves_is_left_to_the_caption() -> None:
    verdict = make_verdict(RANKINGS["19 × 5"], baselines={"best constant": 3.0, "PCA": 0.0})
    figure = draw_curves("19 × 5", verdict=verdict)
    assert heights_of_baselines(figure) == []
    assert "\nBest constant: 3.0000 (above the axis)\nPCA, 3 components: 0.0000 (below the axis)" in words_in(figure)
    assert_readable(figure)


# Folds


def test_with_folds_the_band_is_their_spread() -> None:
    ranking = RANKINGS["folds"]
    figure = draw_curves("folds", top=1)
    by_fold = ranking[0].test_curves.reshape(3, 5, 20).mean(axis=0)  # [K, E], each a mean over its repeats
    band = np.asarray(figure.axes[0].collections[-1].get_paths()[0].vertices)
    at_end = band[band[:, 0] == 20, 1]
    mean, sd = ranking[0].final_test_loss, by_fold[:, -1].std(ddof=1)
    np.testing.assert_allclose([at_end.min(), at_end.max()], [mean - sd, mean + sd], rtol=1e-9)
    assert sd > 2 * (ranking[0].final_test_loss_sd or 0)  # the folds differ by far more than the repeats do
    words = words_in(figure)
    assert "Line: mean over 5 folds × 3 repeats; band: ± 1 standard deviation over the folds" in words
    assert f"{list(ranking[0].config)}\n{mean:.4f}\n" in words  # no second spread beside the band's


@pytest.mark.parametrize("draw", [draw_curves, draw_sizes])
def test_with_folds_the_loss_is_cross_validated(draw: Any) -> None:
    words = words_in(draw("folds"))
    assert "Cross-validated loss" in words
    assert "est loss" not in words
    assert "cross" not in words_in(draw("19 × 5")).lower()


def test_what_a_point_stands_for_is_true_with_folds() -> None:
    words = words_in(draw_sizes("folds"))
    assert "Point: mean over 5 folds × 3 repeats; bar: ± 1 standard deviation over the repeats" in words
    assert "Point: mean over 3 folds\n" in words_in(draw_sizes("folds, once"))


# All configurations, crowded or with outliers


def test_error_bars_are_thinned_out_when_crowded() -> None:
    def bars(name: str) -> tuple[int, str]:
        figure = draw_sizes(name)
        drawn = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
        return sum(len(c.get_segments()) for c in drawn), words_in(figure)

    assert bars("19 × 5")[0] == 19
    count, words = bars("125 × 2")
    assert count == len(verdict_on("125 × 2").front)
    assert "(Pareto front only)" in words
    assert bars("3 × 1")[0] == 0


def test_an_outlier_is_set_apart_and_does_not_squash_the_rest() -> None:
    figure = draw_sizes("outlier")
    assert figure.axes[0].get_ylim()[1] < 0.06
    assert "Off the scale: 1\n(loss up to 0.9100)" in words_in(figure)
    heights = [np.asarray(line.get_ydata()) for line in figure.axes[0].lines if line.get_marker() in MARKERS]
    assert np.concatenate(heights).max() < figure.axes[0].get_ylim()[1]


def test_no_loss_below_zero_is_marked_on_the_axis() -> None:
    ranking = [make_configuration((64,), [0.0, 0.04]), make_configuration((32,), [0.03, 0.05])]
    axes = sizes.draw_sizes(ranking, latent_dim=3, verdict=make_verdict(ranking)).axes[0]
    assert axes.get_ylim()[0] < 0
    assert min(axes.get_yticks()) >= 0


def test_the_best_is_named_without_hiding_a_point() -> None:
    figure = draw_sizes("34 × 5, one failed")
    axes = figure.axes[0]
    best = RANKINGS["34 × 5, one failed"][0]
    label, box = next((text, box) for text, box in texts_of(figure).items() if text.get_text().startswith("Best: "))
    assert str(list(best.config)) in label.get_text()
    points = [(c.model_params, c.final_test_loss) for c in RANKINGS["34 × 5, one failed"] if c.failure is None]
    assert not any(box.contains(*axes.transData.transform(point)) for point in points)
