"""The picture of the verdict is readable, and says what the verdict says."""

from __future__ import annotations

import dataclasses
import functools
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from builders import (
    halve,
    make_configuration,
    make_ranking,
    make_study_ranking,
    make_verdict,
    recommending,
    recommending_smallest_tied,
)
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from pictures import NOTE, assert_readable, assert_sharp_and_small, texts_of, words_in

from layersearch.pictures import verdict as verdict_picture
from layersearch.pictures.style import png
from layersearch.pictures.survey import survey
from layersearch.pictures.verdict import choose_rows, limits, title_of
from layersearch.space.configurations import enumerate_configurations
from layersearch.space.factors import read_factors
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.verdict import Verdict


def ranked(*configurations: ConfigurationResult) -> list[ConfigurationResult]:
    return sorted(configurations, key=lambda c: c.final_test_loss)


ONE_TO_THREE = enumerate_configurations([16, 32, 64], 3)
SMALL = make_ranking([(16,), (32,), (64,), (64, 64)], repeats=2)
STUDIED = read_factors(
    "dropout=0.1,0.25; weight_decay=1e-4,1e-2; normalization=layer,none; input_normalization=layer,none"
)
RANKINGS: dict[str, list[ConfigurationResult]] = {
    "19": make_ranking(ONE_TO_THREE),
    "34, folds, one failed": make_ranking(
        enumerate_configurations([16, 32, 64, 128], 3), repeats=3, folds=5, failed=[(64, 16, 16)]
    ),
    "125": make_ranking(enumerate_configurations([8, 16, 32, 64, 128], 4)[:125], repeats=2),
    "halving": halve(make_ranking(enumerate_configurations([8, 16, 32, 64, 128], 4)[:125], repeats=2), [2, 6, 18]),
    "one": make_ranking([(64, 64)]),
    "one dropped": make_ranking([(64, 64), (16,)], dropped=[(16,)]),
    "one of two": make_ranking([(64, 64), (16,)], failed=[(16,)]),
    "two": make_ranking([(64, 64), (16,)]),
    "once": make_ranking(ONE_TO_THREE, repeats=1),
    "once, folds": make_ranking(ONE_TO_THREE, repeats=1, folds=3),
    "proven": ranked(make_configuration((32, 32), [0.030, 0.031]), *SMALL),
    "all tied": ranked(*(make_configuration(c, [0.038, 0.04 + c[0] / 1e5]) for c in ONE_TO_THREE)),
    "identical": [make_configuration(c, [0.038, 0.038]) for c in enumerate_configurations([16, 32], 2)],
    "variants": make_study_ranking([(64, 64, 64), ((64, 32, 16), (16, 32, 64))], STUDIED, repeats=2),
    "deep": make_ranking([(128,) * k for k in range(1, 13)], repeats=2),
    "outlier": ranked(*SMALL, make_configuration((16, 16), [0.9, 0.92])),
    "huge bar": ranked(*SMALL, make_configuration((16, 16), [0.005, 0.085])),
    "tiny losses": ranked(*(make_configuration((w,), [w * 1e-7, w * 1.01e-7]) for w in (8, 16, 32))),
    "large losses": ranked(*(make_configuration((w,), [1e3 + w, 1.1e3 + w]) for w in (8, 16, 32))),
}


@functools.cache
def verdict_on(name: str) -> Verdict:
    return recommending_smallest_tied(make_verdict(RANKINGS[name]))


def draw(name: str, verdict: Verdict | None = None, space_size: int | None = None) -> Figure:
    if verdict is None and space_size is None:
        return drawn_once(name)
    options: dict[str, Any] = {"note": NOTE, "space_size": space_size}
    return verdict_picture.draw_verdict(verdict or verdict_on(name), RANKINGS[name], latent_dim=3, **options)


@functools.cache
def drawn_once(name: str) -> Figure:
    """Returns the picture of a verdict; the tests share it, so none may change it."""
    return draw(name, verdict_on(name))


def markers(figure: Figure, look: dict[str, Any]) -> list[list[float]]:
    """[x, y] of each marker of this look."""
    return [
        np.asarray(line.get_xydata())[0].tolist()
        for line in figure.axes[0].lines
        if line.get_linestyle() == "None"
        and (line.get_marker(), line.get_color()) == (look["marker"], look["color"])
        and line.get_zorder() == 3
    ]


def arrows(figure: Figure) -> set[tuple[str, float]]:
    """Direction and row of each arrow at the axis' end."""
    found = [line for line in figure.axes[0].lines if line.get_marker() in ("<", ">")]
    return {(str(line.get_marker()), float(np.asarray(line.get_ydata())[0])) for line in found}


def bars(figure: Figure) -> dict[float, list[float]]:
    """From where to where each row's bar reaches."""
    found = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.4]
    return {float(np.asarray(line.get_ydata())[0]): np.asarray(line.get_xdata()).tolist() for line in found}


def baselines(figure: Figure) -> list[Line2D]:
    return [line for line in figure.axes[0].lines if line.get_linewidth() == 1.1]


@pytest.mark.parametrize("name", RANKINGS)
def test_nothing_overlaps_or_is_cut_off(name: str) -> None:
    figure = draw(name)
    assert_readable(figure)
    assert NOTE in words_in(figure)
    frame = figure.axes[0].get_window_extent()
    assert frame.width > 0.3 * figure.bbox.width  # long names leave room for the intervals
    names = [text for text in figure.axes[0].texts if text.get_text().startswith("[")]
    assert len(names) == len(choose_rows(verdict_on(name), [c for c in RANKINGS[name] if c.failure is None]))


def test_the_picture_is_sharp_small_and_the_same_twice() -> None:
    drawn = png(draw("19"))
    assert drawn == png(draw("19", verdict_on("19")))
    assert_sharp_and_small(drawn)


def test_a_search_in_which_all_failed_cannot_be_drawn() -> None:
    failed = make_ranking([(16,), (32,)], failed=[(16,), (32,)])
    with pytest.raises(ValueError, match="no configuration finished"):
        verdict_picture.draw_verdict(verdict_on("19"), failed, latent_dim=3)


def test_each_row_shows_the_difference_and_its_interval() -> None:
    verdict, figure = verdict_on("19"), draw("19")
    drawn = bars(figure)
    looks = (verdict_picture.TIED, verdict_picture.RECOMMENDED, verdict_picture.NOT_TIED)
    assert sorted(y for look in looks for _, y in markers(figure, look)) == list(range(19))
    at = {y: x for look in looks for x, y in markers(figure, look)}
    for y, c in enumerate(RANKINGS["19"]):
        standing = verdict.standings[c.config]
        assert at[y] == pytest.approx(standing.difference)
        assert y == 0 or drawn[y] == pytest.approx(standing.difference_interval)
    assert figure.axes[0].get_ylim() == (18.5, -0.5)  # the best on top


def test_the_tied_the_others_and_the_recommended_differ_in_marker_and_colour() -> None:
    verdict, figure = verdict_on("19"), draw("19")
    ranks = {c.config: y for y, c in enumerate(RANKINGS["19"])}
    tied = {ranks[c.config] for c in verdict.tied} - {ranks[verdict.recommended.config]}
    assert {y for _, y in markers(figure, verdict_picture.TIED)} == tied
    assert [y for _, y in markers(figure, verdict_picture.RECOMMENDED)] == [ranks[verdict.recommended.config]]
    assert len(markers(figure, verdict_picture.NOT_TIED)) == 19 - len(tied) - 1
    looks = [verdict_picture.TIED, verdict_picture.RECOMMENDED, verdict_picture.NOT_TIED]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["Tied with the best (95 %)", "Recommended: the smallest within 5 %", "Not tied"]


def test_names_sizes_losses_and_words_stand_beside_the_rows() -> None:
    verdict, axes = verdict_on("19"), draw("19").axes[0]
    at = {(text.get_text(), text.get_position()[1]) for text in axes.texts}
    for y, c in enumerate(RANKINGS["19"]):
        assert {(str(list(c.config)), y), (f"{c.model_params:,}", y), (f"{c.final_test_loss:.4f}", y)} <= at
    assert [c.config for c in verdict.tied] == [(64, 64, 64), (64,), (64, 64)]
    assert {("best", 0), ("recommended", 1), ("tied", 2)} <= at
    assert sum(word == "tied" for word, _ in at) == 1


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("19", "[64, 64, 64] is the best measured; 3 of 19 configurations are tied for best (95 %)"),
        ("all tied", "[16] is the best measured; all 19 configurations are tied for best (95 %)"),
        (
            "34, folds, one failed",
            "[128, 128, 128] is the best measured; 2 of 33 configurations that finished are tied",
        ),
        ("proven", "[32, 32] is the only one of 5 configurations not ruled out as the best (95 %)"),
        (
            "variants",
            "[64, 64, 64] (dropout 0.1, weight_decay 0.01, normalization layer, input_normalization none) is",
        ),
        ("two", "[64, 64] is the only one of 2 configurations not ruled out as the best (95 %)"),
        ("large losses", "[8] is the best measured; all 3 configurations are tied for best (95 %)"),
        ("once", "[64] is the best measured; whether it is better, one training each cannot tell"),
        ("one", "[64, 64] is the only configuration: there is nothing to compare it with"),
        ("one of two", "[64, 64] is the only configuration that finished: there is nothing to compare it with"),
    ],
)
def test_the_title_states_the_verdict(name: str, title: str) -> None:
    assert title_of(verdict_on(name), survey(RANKINGS[name])).startswith(title)
    assert title.split(";")[0] in " ".join(words_in(draw(name)).split())


@pytest.mark.parametrize(
    ("name", "space_size", "title", "shown", "left_out"),
    [
        (
            "halving",
            None,
            "all 5 configurations trained to the end are tied for best (95 %)",
            "All 5 trained to the end (of 125), latent size 3; means over 2 repeats",
            "Left out: 120 dropped early",
        ),
        (
            "19",
            125,
            "3 of 19 configurations tried are tied for best (95 %)",
            "All 19 tried (of 125), latent size 3; means over 5 repeats",
            "Left out: 106 not tried",
        ),
        (
            "34, folds, one failed",
            125,
            "2 of 33 configurations that finished are tied for best (95 %)",
            "The best 20 of 33 that finished (of 125), latent size 3",
            "Left out: 1 failed, 91 not tried",
        ),
        (
            "proven",
            10,
            "the only one of 5 configurations tried not",
            "All 5 tried (of 10)",
            "Left out: 5 not tried",
        ),
        (
            "two",
            3,
            "the only one of 2 configurations tried not",
            "Both tried (of 3)",
            "Left out: 1 not tried",
        ),
        ("one", 3, "is the only configuration tried", "The one tried (of 3)", "Left out: 2 not tried"),
        ("one dropped", None, "is the only configuration trained to the end", "The one trained", "1 dropped early"),
    ],
)
def test_it_speaks_only_of_those_trained_to_the_end(
    name: str, space_size: int | None, title: str, shown: str, left_out: str
) -> None:
    figure = draw(name, space_size=space_size)
    assert_readable(figure)
    for words in (title, shown, left_out):
        assert words in " ".join(words_in(figure).split())
    assert "Left out" not in words_in(draw("19"))


def test_of_many_the_best_20_are_drawn() -> None:
    figure = draw("125")
    assert figure.axes[0].get_ylim()[0] == 19.5
    assert "The best 20 of 125 configurations, latent size 3; means over 2 repeats" in words_in(figure)
    words = words_in(draw("34, folds, one failed"))
    assert "The best 20 of 33 configurations (1 more failed), latent size 3; means over 5 folds × 3 repeats" in words
    assert "Cross-validated loss above that of the best (0.0382)" in words


@pytest.mark.parametrize(("rank", "row", "gap"), [(19, 19, None), (20, 20, None), (21, 21, 1), (57, 21, 37)])
def test_the_recommended_is_drawn_wherever_it_ranks(rank: int, row: int, gap: int | None) -> None:
    simplest = RANKINGS["125"][rank]
    figure = draw("125", recommending(verdict_on("125"), simplest))
    assert_readable(figure)
    assert [y for _, y in markers(figure, verdict_picture.RECOMMENDED)] == [row]
    assert (str(list(simplest.config)), row) in {(t.get_text(), t.get_position()[1]) for t in figure.axes[0].texts}
    assert [t.get_text() for t in figure.axes[0].texts if "more …" in t.get_text()] == (
        [f"… {gap} more …"] if gap else []
    )
    assert ("and the recommended one" in words_in(figure)) == (rank >= 20)


def test_one_training_each_has_no_intervals_and_says_why() -> None:
    figure = draw("once")
    words = words_in(figure)
    assert bars(figure) == {}
    assert [y for _, y in markers(figure, verdict_picture.UNKNOWN)] == list(range(19))
    assert "luck in training" in " ".join(words.split())
    assert not figure.legends
    assert "recommended" not in words
    assert "best measured" in [text.get_text() for text in figure.axes[0].texts]


def test_the_small_print_names_the_confidence_and_what_was_resampled() -> None:
    verdict = dataclasses.replace(verdict_on("19"), resampled="groups", confidence=0.9)
    words = " ".join(words_in(draw("19", verdict)).split())
    assert "bar: its 90 % interval, over groups and trainings, of each comparison alone" in words
    assert "“Tied” takes all comparisons together" in words


def test_a_baseline_is_a_line_where_its_loss_would_be() -> None:
    verdict, figure = verdict_on("19"), draw("19")
    assert [float(np.asarray(line.get_xdata())[0]) for line in baselines(figure)] == pytest.approx(
        [baseline.loss - verdict.best.final_test_loss for baseline in verdict.baselines]
    )
    assert len({str(line._dash_pattern) for line in baselines(figure)}) == 3  # type: ignore[attr-defined]
    assert {"Best constant", "PCA, 3 components", "Linear autoencoder"} <= set(words_in(figure).split("\n"))
    better = draw("19", make_verdict(RANKINGS["19"], baselines={"PCA": 0.03}))
    assert float(np.asarray(baselines(better)[0].get_xdata())[0]) == pytest.approx(-0.00676, abs=1e-5)


def test_names_of_baselines_that_lie_close_stand_one_above_the_other() -> None:
    figure = draw("19", make_verdict(RANKINGS["19"], baselines={"best constant": 0.0411, "PCA": 0.0406}))
    assert len(baselines(figure)) == 2
    assert_readable(figure)


def test_a_far_baseline_is_named_below_and_does_not_squash_the_rest() -> None:
    figure = draw("19", make_verdict(RANKINGS["19"], baselines={"best constant": 0.5, "PCA": 0.0406}))
    assert len(baselines(figure)) == 1
    assert figure.axes[0].get_xlim()[1] < 0.03
    assert "Off the axis: Best constant: 0.5000\n" in words_in(figure) + "\n"


def test_an_outlier_is_an_arrow_with_its_difference() -> None:
    figure = draw("outlier")
    assert figure.axes[0].get_xlim()[1] < 0.03
    assert arrows(figure) == {(">", 4.0)}
    assert f"+{RANKINGS['outlier'][4].final_test_loss - RANKINGS['outlier'][0].final_test_loss:.4f}" in words_in(figure)


def test_a_huge_interval_ends_in_arrows() -> None:
    figure = draw("huge bar")
    row = [c.config for c in RANKINGS["huge bar"]].index((16, 16))
    assert arrows(figure) == {(">", float(row))}  # the loss is not below 0, so that the other end is in sight
    assert bars(figure)[row][1] == figure.axes[0].get_xlim()[1]
    low, high = limits(verdict_on("huge bar"), choose_rows(verdict_on("huge bar"), RANKINGS["huge bar"]))
    assert high - low < 0.14


def test_one_configuration_alone_is_set_against_the_baselines() -> None:
    figure = draw("one")
    low, high = limits(verdict_on("one"), choose_rows(verdict_on("one"), RANKINGS["one"]))
    loss = RANKINGS["one"][0].final_test_loss
    assert (low, high) == pytest.approx((-0.1 * loss, 0.1 * loss))
    assert len(baselines(figure)) == 2  # PCA and the linear autoencoder; the best constant is too far
    assert "tied" not in words_in(figure).lower()


@pytest.mark.parametrize("name", RANKINGS)
def test_numbers_below_the_axis_are_apart(name: str) -> None:
    figure = draw(name)
    boxes = sorted((box for text, box in texts_of(figure).items() if is_tick(text, figure)), key=lambda box: box.x0)
    assert all(left.x1 + 12 < right.x0 for left, right in pairwise(boxes))  # 1.5 mm


def is_tick(text: Text, figure: Figure) -> bool:
    return any(text in axes.get_xticklabels() for axes in figure.axes)
