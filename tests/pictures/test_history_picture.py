"""The picture of the search's course is readable, and says what the history says."""

from __future__ import annotations

import dataclasses
import functools
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from builders import halve, make_configuration, make_history, make_ranking, make_study_ranking, make_verdict
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pictures import NOTE, assert_readable, assert_sharp_and_small, texts_of, words_in

from layersearch.pictures.history import FAILED, FAR, LEADS, LOSS, PAUSED, draw_history, follow
from layersearch.pictures.style import png
from layersearch.search.history import History
from layersearch.space.configurations import Space, enumerate_configurations
from layersearch.space.factors import read_factors
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.verdict import Verdict

ONE_TO_THREE = enumerate_configurations([16, 32, 64], 3)
WIDE = enumerate_configurations([8, 16, 32, 64, 128], 4)[:125]
PAIRS = random.Random(0).sample(list(Space([8, 16, 32, 128], 4, "asymmetric").configurations()), 30)
MANY = list(Space([8, 16, 24, 32, 64, 128, 256], 6).configurations())
OUTLIER = make_configuration((8, 8), [0.9, 0.92])
STOPPED = {config: 6 + place for place, config in enumerate(ONE_TO_THREE)}

SEARCHES: dict[str, tuple[list[ConfigurationResult], str]] = {
    "grid": (make_ranking(ONE_TO_THREE), "grid"),
    "grid, some failed": (make_ranking(ONE_TO_THREE, failed=[(64, 64), (16,)]), "grid"),
    "halving": (halve(make_ranking(WIDE, repeats=2, failed=WIDE[3:4]), [2, 6, 18]), "halving"),
    "halving by 2": (halve(make_ranking(WIDE, repeats=2), [1, 2, 4, 8, 16], 2), "halving"),
    "halving, stopped": (halve(make_ranking(ONE_TO_THREE, repeats=2, stopped=STOPPED), [4, 12]), "halving"),
    "random": (make_ranking(random.Random(0).sample(WIDE, 42), repeats=2), "random"),
    "bayesian, pairs": (make_ranking(PAIRS, repeats=2, failed=PAIRS[:2]), "bayesian"),
    "one": (make_ranking([(64, 64)]), "grid"),
    "five, once": (make_ranking(ONE_TO_THREE[:5], repeats=1), "random"),
    "folds": (make_ranking(ONE_TO_THREE, repeats=3, folds=5), "grid"),
    "outlier": ([*make_ranking([(16,), (32,), (64,)], repeats=2), OUTLIER], "random"),
    "identical": ([make_configuration(c, [0.038, 0.038]) for c in enumerate_configurations([16, 32], 2)], "grid"),
    "thousands": (make_ranking(MANY[:1000], repeats=1, epochs=2), "random"),
    "thousands dropped": (halve(make_ranking(MANY[:1000], repeats=1, epochs=20), [2, 6, 18]), "halving"),
}


@functools.cache
def history_of(name: str) -> History:
    ranking, strategy = SEARCHES[name]
    return make_history(ranking, strategy, space_size=max(len(ranking), 125) if strategy != "grid" else None)


@functools.cache
def verdict_on(name: str) -> Verdict:
    return make_verdict(SEARCHES[name][0])


def draw(name: str, history: History | None = None) -> Figure:
    if history is None:
        return drawn_once(name)
    known: dict[str, Any] = {"ranking": SEARCHES[name][0], "verdict": verdict_on(name)}
    return draw_history(history, latent_dim=3, note=NOTE, **known)


@functools.cache
def drawn_once(name: str) -> Figure:
    """Returns the picture of a search; the tests share it, so none may change it."""
    return draw(name, history_of(name))


def points(axes: Axes, look: dict[str, Any]) -> np.ndarray:
    """[n, 2] those drawn with this look."""
    found = [line for line in axes.lines if line.get_marker() == look["marker"] and _colour(line) == _colour_of(look)]
    return np.concatenate([np.asarray(line.get_xydata()) for line in found]) if found else np.empty((0, 2))


def _colour(line: Line2D) -> object:
    return line.get_markeredgecolor()


def _colour_of(look: dict[str, Any]) -> object:
    return look.get("markeredgecolor", look.get("color"))


def step_line(axes: Axes) -> Line2D:
    return next(line for line in axes.lines if line.get_drawstyle() == "steps-post")


@pytest.mark.parametrize("name", SEARCHES)
def test_nothing_overlaps_or_is_cut_off(name: str) -> None:
    figure = draw(name)
    assert_readable(figure)
    assert NOTE in words_in(figure)


def test_the_picture_is_sharp_small_and_the_same_twice() -> None:
    drawn = png(draw("halving"))
    assert drawn == png(draw("halving", dataclasses.replace(history_of("halving"))))
    assert_sharp_and_small(drawn)


def test_a_search_in_which_nothing_finished_cannot_be_drawn() -> None:
    failed = make_ranking([(16,), (32,)], failed=[(16,), (32,)])
    for ranking in (failed, make_ranking([(16,)], dropped=[(16,)])):
        with pytest.raises(ValueError, match="no configuration finished"):
            draw_history(make_history(ranking), latent_dim=3, verdict=verdict_on("one"), ranking=ranking)
    with pytest.raises(ValueError, match="no configuration finished"):
        draw_history(History("grid", 1, 20, 1), latent_dim=3, verdict=verdict_on("one"), ranking=[])


@pytest.mark.parametrize("name", ["grid", "random", "halving", "grid, some failed"])
def test_every_loss_is_drawn_where_it_was_found(name: str) -> None:
    axes = draw(name).axes[0]
    known = [(step.trainings, step.loss) for step in history_of(name).steps if step.loss is not None]
    assert points(axes, LOSS).tolist() == [list(point) for point in known]


@pytest.mark.parametrize("name", ["grid", "random", "halving"])
def test_the_line_is_the_lowest_loss_so_far(name: str) -> None:
    axes, steps = draw(name).axes[0], history_of(name).steps
    x, y = np.asarray(step_line(axes).get_xydata()).T
    for step in steps:
        if step.best_loss is not None:
            assert y[np.searchsorted(x, step.trainings, side="right") - 1] == step.best_loss
    assert x[-1] == steps[-1].trainings
    assert points(axes, LEADS).tolist() == np.column_stack([x, y])[:-1].tolist()
    assert (np.diff(points(axes, LEADS)[:, 1]) < 0).all()


def test_the_axis_above_tells_when_in_seconds() -> None:
    history = History("random", 4, 20, 1)
    for place, c in enumerate(SEARCHES["outlier"][0]):  # each training takes longer than the last
        slower = tuple(dataclasses.replace(result, seconds=5.0 * (place + 1)) for result in c.trials)
        history.add(dataclasses.replace(c, trials=slower))
    below, above = draw("outlier", history).axes
    assert below.get_xlim() == above.get_xlim()
    assert "Seconds of training, 1 at a time" in words_in(below.figure)  # type: ignore[arg-type]
    shown = {float(text.get_text()): x for text, x in zip(above.get_xticklabels(), above.get_xticks(), strict=True)}
    assert shown == pytest.approx({0: 0, 20: 3, 40: 4 + 2 / 3, 60: 6, 80: 7, 100: 8})


UNITS = [(1e-6, "Microseconds"), (0.01, "Milliseconds"), (1, "Seconds"), (600, "Minutes"), (60_000, "Hours")]


def slowed(name: str, factor: float) -> History:
    history = history_of(name)
    return dataclasses.replace(history, steps=[s._replace(seconds=factor * s.seconds) for s in history.steps])


def test_seconds_turn_to_minutes_and_hours() -> None:
    for factor, unit in UNITS:
        assert f"{unit} of training, 2 at a time" in words_in(draw("grid", slowed("grid", factor)))


@pytest.mark.parametrize("factor", [factor for factor, _ in UNITS])
@pytest.mark.parametrize("name", ["grid", "five, once", "halving"])
def test_times_above_do_not_touch_and_none_is_in_powers_of_ten(name: str, factor: float) -> None:
    figure = draw(name, slowed(name, factor))
    labels = {text: box for text, box in texts_of(figure).items() if text in figure.axes[1].get_xticklabels()}
    boxes = sorted(labels.values(), key=lambda box: box.x0)
    assert len(boxes) >= 3
    assert all(left.x1 + 5 < right.x0 for left, right in pairwise(boxes))
    assert not any("e" in text.get_text() for text in labels)


def test_without_times_there_is_no_axis_for_them() -> None:
    history = dataclasses.replace(
        history_of("grid"), steps=[step._replace(seconds=0.0) for step in history_of("grid").steps]
    )
    assert len(draw("grid", history).axes) == 1


def test_rungs_are_counted_and_losses_at_their_pauses_drawn() -> None:
    ranking, figure = SEARCHES["halving"][0], draw("halving")
    words = " ".join(words_in(figure).split())
    assert "125 of 125 configurations tried, 119 dropped early, 1 failed" in words
    assert "Rungs: 125 to epoch 2, then 42 to epoch 6, then 14 to epoch 18, then 5 to the end" in words
    course = follow(history_of("halving"), {c.config: c for c in ranking})
    assert [rung.end for rung in course.rungs] == pytest.approx([x * 2 / 20 for x in (249, 417, 585, 595)], abs=0.2)
    drops = {c.config: c.drop for c in ranking}
    last = {c.config: c.drop.loss for c in ranking if c.drop}
    drawn = points(figure.axes[0], PAUSED)
    assert len(drawn) == 124 + 42 + 14
    for step in history_of("halving").steps[-5 - 14 : -5]:
        if drops[step.config]:
            assert [step.trainings, pytest.approx(last[step.config])] in drawn.tolist()


def test_one_that_stopped_early_is_drawn_once_though_it_stays_in_the_race() -> None:
    ranking, history = SEARCHES["halving, stopped"][0], history_of("halving, stopped")
    finished = [c for c in ranking if c.failure is None]
    again = [step for step in history.steps if step.loss is not None]
    assert len(again) > len(finished)
    assert len(points(draw("halving, stopped").axes[0], LOSS)) == len(finished)


def test_failed_ones_are_crosses_in_a_strip_and_counted() -> None:
    axes = draw("grid, some failed").axes[0]
    history = history_of("grid, some failed")
    where = [step.trainings for step in history.steps if step.config in [(64, 64), (16,)]]
    crosses = points(axes, FAILED)
    assert crosses[:, 0].tolist() == where
    assert (crosses[:, 1] > 0.9).all()
    assert "Failed: 2" in words_in(axes.figure)  # type: ignore[arg-type]
    assert "19 of 19 configurations tried, 2 failed" in words_in(axes.figure)  # type: ignore[arg-type]


def test_a_far_loss_is_named_and_does_not_squash_the_rest() -> None:
    axes = draw("outlier").axes[0]
    assert axes.get_ylim()[1] < 0.1
    assert len(points(axes, FAR)) == 1
    assert "Off the scale: 1\n(loss up to 0.9100)" in words_in(axes.figure)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "title", "tried"),
    [
        ("grid", "Full grid: test loss", "19 of 19 configurations tried"),
        ("random", "Random search: test loss", "42 of 125 configurations tried"),
        ("bayesian, pairs", "Bayesian search: test loss", "30 of 125 configurations tried, 2 failed"),
        ("halving by 2", "Successive halving: test loss", "125 of 125 configurations tried, 121 dropped early"),
        ("folds", "Full grid: cross-validated loss", "19 of 19 configurations tried"),
        ("one", "Full grid: test loss", "The one configuration there is"),
    ],
)
def test_it_says_which_strategy_tried_how_many(name: str, title: str, tried: str) -> None:
    lines = words_in(draw(name)).split("\n")
    assert f"{title} against training done, latent size 3" in lines
    assert tried in lines


def test_the_best_is_ringed_and_named_where_it_was_found() -> None:
    figure, best = draw("random"), verdict_on("random").best
    found = next(step for step in history_of("random").steps if step.config == best.config)
    ring = next(line for line in figure.axes[0].lines if line.get_markersize() == 11)
    assert np.asarray(ring.get_xydata()).tolist() == [[found.trainings, best.final_test_loss]]
    name = f"Best: {list(best.config)}\n{best.final_test_loss:.4f} after {found.trainings:.0f} trainings"
    assert name in words_in(figure)


@pytest.mark.parametrize(("name", "tried"), [("five, once", 2), ("random", 8), ("grid", 19)])
def test_trainings_are_counted_in_whole_numbers(name: str, tried: int) -> None:
    ranking = SEARCHES[name][0][:tried]
    history = make_history(ranking)
    figure = draw_history(history, latent_dim=3, verdict=make_verdict(ranking), ranking=ranking)
    assert all(tick.is_integer() for tick in figure.axes[0].get_xticks().tolist())


def test_the_key_shows_circles_only_where_some_are_to_be_seen() -> None:
    assert "Another configuration\n(mean over 5 repeats)" in words_in(draw("grid"))
    falling = [make_configuration((width,), [8 / width, 9 / width]) for width in (8, 16, 32)]
    history = History("grid", 3, 20, 1)
    for c in falling:
        history.add(c)
    figure = draw_history(history, latent_dim=3, verdict=make_verdict(falling[::-1]), ranking=falling)
    assert "Another configuration" not in words_in(figure)
    assert "Lowest so far\n(mean over 2 repeats)" in words_in(figure)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_lines()[0].get_marker() == LEADS["marker"]


def test_a_second_stage_says_what_the_first_one_chose_from() -> None:
    first = make_history(make_ranking(WIDE[:34], repeats=2), "random", space_size=125)
    ranking = make_study_ranking([(64,), (32,), (16,)], read_factors("dropout=0,0.1"), repeats=2)
    known: dict[str, Any] = {"ranking": ranking, "verdict": make_verdict(ranking)}
    figure = draw_history(make_history(ranking), latent_dim=3, first=first, **known)
    words = words_in(figure)
    assert "Second stage of the study: test loss against training done, latent size 3" in words
    assert "Crossed: the best 3 of 34 configurations tried before (random search, 68 trainings)\n6 of 6" in words
    assert_readable(figure)


def test_of_equals_the_ring_is_around_the_best_of_the_verdict() -> None:
    figure, best = draw("identical"), verdict_on("identical").best
    found = next(step for step in history_of("identical").steps if step.config == best.config)
    ring = next(line for line in figure.axes[0].lines if line.get_markersize() == 11)
    assert np.asarray(ring.get_xydata())[0, 0] == found.trainings


def test_what_only_equals_the_lowest_does_not_lower_it() -> None:
    assert len(points(draw("identical").axes[0], LEADS)) == 1


@pytest.mark.parametrize("name", ["grid", "random", "halving", "bayesian, pairs", "folds"])
def test_the_name_of_the_best_hides_no_loss(name: str) -> None:
    figure = draw(name)
    axes = figure.axes[0]
    box = next(box for text, box in texts_of(figure).items() if text.get_text().startswith("Best: "))
    losses = axes.transData.transform(np.concatenate([points(axes, LOSS), points(axes, PAUSED)]))
    assert not any(box.contains(*point) for point in losses)
