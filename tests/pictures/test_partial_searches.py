"""The pictures of a search that did not train all of the space, or not to the end."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builders import halve, make_ranking, make_verdict
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from pictures import NOTE, assert_readable, words_in

from layersearch.pictures import curves, sizes, verdict
from layersearch.pictures.style import COLOURS, MARKERS
from layersearch.space.configurations import Space, enumerate_configurations
from layersearch.space.naming import hidden_layers
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.verdict import Verdict

WIDE = enumerate_configurations([8, 16, 32, 64, 128], 4)[:125]
PAIRS = random.Random(0).sample(list(Space([8, 16, 32, 128], 4, "asymmetric").configurations()), 40)
STOPPED = {config: 6 + 3 * place for place, config in enumerate([(64, 64), (64,), (64, 64, 64), (64, 64, 32)])}
MANY = list(Space([8, 16, 24, 32, 64, 128, 256], 6).configurations())

RANKINGS: dict[str, list[ConfigurationResult]] = {
    "19": make_ranking(enumerate_configurations([16, 32, 64], 3)),
    "3 × 1": make_ranking(enumerate_configurations([16, 32, 64], 1), repeats=1),
    "2 × 1": make_ranking([(16,), (32,)], repeats=1),
    "halving": halve(make_ranking(WIDE, repeats=2), [2, 6, 18]),
    "halving from epoch 1, one left": halve(make_ranking(WIDE[:20], repeats=2, failed=WIDE[:1]), [1, 2, 4, 8, 16], 2),
    "stopped": make_ranking(enumerate_configurations([16, 32, 64], 3), stopped=STOPPED),
    "stopped, once": make_ranking(list(STOPPED), stopped=STOPPED, repeats=1),
    "pairs": make_ranking(PAIRS, repeats=2, failed=PAIRS[:2]),
    "deep pairs": make_ranking([((256,) * k, (256,) * (13 - k)) for k in range(1, 13)], repeats=2),
}


@functools.cache
def verdict_on(name: str) -> Verdict:
    return make_verdict(RANKINGS[name])


@functools.cache
def draw(
    module_draw: Callable[..., Figure], name: str, space_size: int | None = None, note: str | None = None
) -> Figure:
    """Returns the picture of a ranking; the tests share it, so none may change it."""
    known: dict[str, Any] = {"ranking": RANKINGS[name], "verdict": verdict_on(name)}
    return module_draw(latent_dim=3, space_size=space_size, note=note, **known)


draw_curves = functools.partial(draw, curves.draw_curves)
draw_sizes = functools.partial(draw, sizes.draw_sizes)
draw_verdict = functools.partial(draw, verdict.draw_verdict)


@pytest.mark.parametrize("drawn", [draw_curves, draw_sizes, draw_verdict], ids=["search", "sizes", "verdict"])
@pytest.mark.parametrize("name", RANKINGS)
def test_nothing_overlaps_or_is_cut_off(name: str, drawn: Any) -> None:
    figure = drawn(name, note=NOTE, space_size=1_234_567)
    assert_readable(figure)
    assert NOTE in words_in(figure)


def grey_lines(figure: Figure) -> list[np.ndarray]:
    """What was dropped, each [E, 2]."""
    found = [c for c in figure.axes[0].collections if isinstance(c, LineCollection) and c.get_zorder() == 1.2]
    return [np.asarray(segment) for collection in found for segment in collection.get_segments()]


def test_what_was_dropped_is_grey_as_far_as_it_came_and_counted() -> None:
    ranking, figure = RANKINGS["halving"], draw_curves("halving")
    dropped = [c for c in ranking if c.drop]
    lines = grey_lines(figure)
    assert len(lines) == len(dropped) == 120
    for c, line in zip(dropped, lines, strict=True):
        assert c.drop is not None
        assert line[:, 0].tolist() == list(range(1, c.drop.epoch + 1))
        assert line[-1, 1] == pytest.approx(c.drop.loss)
    words = words_in(figure)
    assert "Grey: the 120 dropped early: 83 after epoch 2, 28 after epoch 6, 9 after epoch 18" in words
    assert "the 5 trained to the end (of 125)" in words
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_xticks().tolist() == [1, 2, 6, 20]  # 18 would touch 20
    assert grey_lines(draw_curves("19")) == []
    assert "rey" not in words_in(draw_curves("19"))


def test_of_thousands_dropped_some_are_drawn_and_the_picture_says_so() -> None:
    ranking = halve(make_ranking(MANY[:1000], repeats=1, epochs=3), [2], 250)
    figure = curves.draw_curves(ranking, latent_dim=3, verdict=make_verdict(ranking))
    drawn = len(grey_lines(figure))
    assert 200 <= drawn <= curves.DROPPED_DRAWN
    assert f"996 dropped early: 996 after epoch 2; {drawn} are drawn" in " ".join(words_in(figure).split())
    assert_readable(figure)


def test_a_circle_marks_where_training_stopped() -> None:
    ranking, figure = RANKINGS["stopped"], draw_curves("stopped")
    circles = {
        str(line.get_markeredgecolor()): np.asarray(line.get_xydata())[0]
        for line in figure.axes[0].lines
        if line.get_marker() == "o"
    }
    lines = {str(line.get_color()): np.asarray(line.get_xydata()) for line in figure.axes[0].lines}
    early = [(rank, STOPPED[c.config] + 2.0) for rank, c in enumerate(ranking[:5]) if c.config in STOPPED]
    assert len(circles) == len(early) == 3
    for rank, epoch in early:
        colour = COLOURS[rank]
        curve = ranking[rank].test_curves.mean(axis=0)
        assert circles[colour].tolist() == [epoch, pytest.approx(curve[int(epoch) - 1])]
        assert colour in lines
    ends = {len(np.asarray(line.get_xdata())) for line in figure.axes[0].lines if line.get_linewidth() in (1.4, 2.0)}
    assert {10, 13, 16} <= ends  # as far as the longest of the 5
    assert "Circle: where its trainings ended, on average" in words_in(figure)
    assert "Circle: where it ended." in words_in(draw_curves("stopped, once"))
    assert "Circle" not in words_in(draw_curves("19"))


def test_a_line_that_ends_early_goes_on_at_the_loss_of_the_weights_kept() -> None:
    figure, c = draw_curves("stopped"), RANKINGS["stopped"][0]
    axes = figure.axes[0]
    to_data = axes.transAxes + axes.transData.inverted()
    leaders = [line for line in axes.lines if line.get_linewidth() == 0.7 and line.get_color() == COLOURS[0]]
    corners = to_data.transform(np.asarray(leaders[0].get_xydata()))
    last = c.test_curves.mean(axis=0)[-1]
    assert last > c.final_test_loss
    assert corners[0].tolist() == pytest.approx([16, last])
    assert corners[1].tolist() == pytest.approx([16, c.final_test_loss])
    assert corners[2].tolist() == pytest.approx([axes.get_xlim()[1], c.final_test_loss])


@pytest.mark.parametrize(
    ("name", "space_size", "title", "left_out"),
    [
        ("halving", 125, "Size and test loss of the 5 trained to the end (of 125)", "Left out: 120 dropped early"),
        (
            "halving from epoch 1, one left",
            None,
            "Size and test loss of the one trained to the end (of 20)",
            "Left out: 18 dropped early, 1 failed",
        ),
        ("19", 125, "Size and test loss of the 19 tried (of 125)", "Left out: 106 not tried"),
        ("19", 19, "Size and test loss of 19 configurations", None),
        ("pairs", 1_000_000, "of the 38 that finished (of 1,000,000)", "Left out: 2 failed, 999,960 not tried"),
    ],
)
def test_survivors_are_not_taken_for_everything(
    name: str, space_size: int | None, title: str, left_out: str | None
) -> None:
    figure = draw_sizes(name, space_size=space_size)
    assert_readable(figure)
    assert title in words_in(figure)
    assert (left_out or "") in words_in(figure)
    assert ("Left out" in words_in(figure)) == (left_out is not None)


@pytest.mark.parametrize(
    ("name", "space_size", "title"),
    [
        ("halving from epoch 1, one left", None, "the one trained to the end (of 20)"),
        ("19", 125, "the best 5 of 19 tried (of 125)"),
        ("3 × 1", 125, "the 3 tried (of 125)"),
        ("2 × 1", None, "both configurations"),
        ("3 × 1", None, "all 3 configurations"),
        ("pairs", 256, "the best 5 of 38 that finished (of 256)"),
    ],
)
def test_the_curves_say_of_how_many_they_are(name: str, space_size: int | None, title: str) -> None:
    assert f"Test loss by epoch: {title}, latent size 3" in words_in(draw_curves(name, space_size=space_size))


def test_pairs_are_told_apart_by_all_their_layers() -> None:
    ranking = [c for c in RANKINGS["pairs"] if c.failure is None]
    figure = draw_sizes("pairs")
    depths = sorted({hidden_layers(c.config) for c in ranking})
    assert {len(c.config[0]) + len(c.config[1]) for c in ranking if isinstance(c.config[0], tuple)} <= set(depths)
    words = words_in(figure).split("\n")
    assert [word for word in words if "hidden" in word] == [f"{depth} hidden layers in all" for depth in depths]
    drawn = {(x, line.get_marker()) for line in figure.axes[0].lines for x in np.asarray(line.get_xdata()).tolist()}
    for c in ranking:
        assert (c.model_params, MARKERS[depths.index(hidden_layers(c.config))]) in drawn
