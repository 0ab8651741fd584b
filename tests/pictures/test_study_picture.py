"""The picture of a study: that all of it can be read, from the smallest study to the largest."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from builders import make_study_ranking
from matplotlib.figure import Figure
from pictures import NOTE, assert_readable, assert_sharp_and_small, words_in
from test_study import CHANGES, FACTORS, LAYERS, study_of, variants_with

from layersearch.pictures import study as study_picture
from layersearch.pictures.study import draw_study, limits, rows_of
from layersearch.pictures.style import png
from layersearch.space.configurations import Layers, enumerate_configurations
from layersearch.space.factors import Level, read_factors
from layersearch.verdict.study import Study

ALL = "dropout=0,0.1,0.3; weight_decay=0,1e-4,1e-2; normalization=layer,none; input_normalization=layer,none"
TEN = "0,0.05,0.1,0.15,0.2,0.25,0.3,0.4,0.5,0.6"
MOST = f"dropout={TEN}; weight_decay=0,1e-6,1e-5,1e-4,1e-3,1e-2,1e-1,1,10,100; normalization=layer,none"
NINETEEN = enumerate_configurations([16, 32, 64], 3)
DEEP: list[Layers] = [((64,) * 9, (512, 128, 64, 32, 16, 8)), (8,)]

CASES: Mapping[str, tuple[list[Layers], str, dict[str, Any]]] = {
    "all": (NINETEEN, ALL, {"changes": CHANGES, "repeats": 2}),
    "one": ([(8,)], "dropout=0,0.1", {"repeats": 1}),
    "long names": (DEEP, "weight_decay=1e-4,1e-2;input_normalization=layer,none", {"repeats": 2}),
    "most levels": ([(8,), (4,)], f"{MOST}; input_normalization=layer,none", {"repeats": 2, "epochs": 1}),
    "deep alone": (DEEP[:1], "dropout=0,0.1", {"repeats": 2}),
}


def make(name: str) -> Study:
    layers, text, more = CASES[name]
    factors = read_factors(text)
    return study_of(make_study_ranking(layers, factors, **more), factors)


@functools.cache
def drawn_once(name: str) -> Figure:
    """Returns the picture of a study; the tests share it, so none may change it."""
    return draw_study(make(name), latent_dim=3, note=NOTE)


@pytest.mark.parametrize("name", CASES)
def test_everything_can_be_read(name: str) -> None:
    assert_readable(drawn_once(name))


def test_the_file_is_sharp_and_small() -> None:
    for name in ("all", "one"):
        assert_sharp_and_small(png(drawn_once(name)))


def test_it_says_after_how_many_epochs_and_that_others_may_differ() -> None:
    words = " ".join(words_in(drawn_once("one")).split())
    assert "What dropout does to the loss after 20 epochs, latent size 3" in words
    assert "Measured after 20 epochs; at other lengths the answer may differ" in words
    assert "no intervals, since after one training each" in words


def test_each_level_is_a_row_and_the_reference_is_named() -> None:
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES))
    assert [row.label for row in rows_of(study)] == [
        "dropout", "0", "0.1 (reference)", "0.3", "normalization", "layer (reference)", "none",
    ]  # fmt: skip
    axes = draw_study(study, latent_dim=3).axes[0]
    markers = {
        (float(np.asarray(line.get_ydata())[0]), float(np.asarray(line.get_xdata())[0]))
        for line in axes.lines
        if line.get_marker() in ("o", "s", "D")
    }
    expected = {(row.y, row.effect.estimate if row.effect else 0.0) for row in rows_of(study) if not row.is_name}
    assert markers == expected


def test_colours_say_what_is_told() -> None:
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES))
    looks = [study_picture._look(effect) for effect in study.main_effects]
    assert looks[1:] == [study_picture.WORSE, study_picture.BETTER]
    assert {"better", "worse"} <= set(words_in(draw_study(study, latent_dim=3)).split("\n"))


def test_the_right_panel_shows_the_mean_losses_of_the_strongest_interaction() -> None:
    together: dict[tuple[tuple[str, Level], ...], float] = {(("dropout", 0.3), ("normalization", "none")): -0.15}
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, together=together))
    right = draw_study(study, latent_dim=3).axes[1]
    drawn = np.array([line.get_ydata() for line in right.lines])
    assert drawn == pytest.approx(study.mean_losses("dropout", "normalization").T)
    assert right.get_title(loc="left").startswith("Strongest interaction:\ndropout 0.3 with normalization none\n−")
    assert len(drawn_once("one").axes) == 1


def test_the_factor_with_more_levels_is_drawn_along_the_axis_wherever_it_comes() -> None:
    factors = read_factors("dropout=0,0.1; weight_decay=0,1e-4,1e-2")
    study = study_of(make_study_ranking(LAYERS, factors, {("weight_decay", 0.0): 0.1}), factors)
    right = draw_study(study, latent_dim=3).axes[1]
    assert right.get_xlabel() == "weight_decay"
    drawn = np.array([line.get_ydata() for line in right.lines])
    assert drawn == pytest.approx(study.mean_losses("dropout", "weight_decay"))


def test_the_axis_reaches_as_far_as_the_intervals_and_not_much_further() -> None:
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES))
    low, high = draw_study(study, latent_dim=3).axes[0].get_xlim()
    bounds = [bound for effect in study.main_effects for bound in effect.interval or ()]
    assert low <= min(bounds) < max(bounds) <= high
    assert high - low < 2 * (max(bounds) - min(bounds))


def test_a_far_configuration_does_not_squash_the_rest() -> None:
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES))
    low, high = limits(study)
    study.main_effects[0].by_configuration[0] = 5.0
    assert limits(study) == pytest.approx((low, high), rel=0.2)
    assert "(1 off the axis)" in " ".join(words_in(draw_study(study, latent_dim=3)).split())


def test_what_is_left_out_is_said() -> None:
    failed = variants_with(("normalization", "none"))
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, failed=failed))
    assert "Left out: normalization none (9 of 9 unfinished)" in words_in(draw_study(study, latent_dim=3))
