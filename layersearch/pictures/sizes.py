"""Draws all configurations by number of parameters and loss.

    figure = draw_sizes(ranking, latent_dim=3, verdict=verdict)

Numbers of layers differ by colour and by marker, so that they can be told apart in grey and by the colour-blind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layersearch.pictures.loss_axis import baseline_keys, draw_tied, loss_ceiling, make_room, points_across
from layersearch.pictures.placing import DATUM_WEIGHT, fix_layout, place_label, points_along
from layersearch.pictures.style import COLOURS, INK, MARKERS, STYLE, new_figure, set_scale
from layersearch.pictures.survey import Survey, loss_name, name_loss_size, survey, trainings_text
from layersearch.space.configurations import Configuration, encoder_dims, layers_of
from layersearch.space.naming import hidden_layers, short_name
from layersearch.space.ranking import ConfigurationResult
from layersearch.words import loss_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from layersearch.verdict.verdict import Verdict

CROWDED = 60  # if there are more configurations, only those on the Pareto front have error bars
FRONT_EDGE = 1.2  # points: width of the outline of markers on the Pareto front
NAMED_ON_FRONT = 8  # largest number of configurations on the Pareto front that are named


def draw_sizes(
    ranking: Sequence[ConfigurationResult],
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    space_size: int | None = None,
) -> Figure:
    """Draws all finished configurations by size and loss, with the tied ones, the Pareto front and the baselines.

    Args:
        ranking: The configurations that were tried, best first.
        latent_dim: Size of the latent space, for the title.
        verdict: The verdict on this ranking.
        note: Small print at the foot of the picture.
        space_size: Number of configurations in the search space; by default those of the ranking.

    Raises:
        ValueError: No configuration finished.
    """
    searched = survey(ranking, space_size)
    finished = searched.finished
    params = np.array([c.model_params for c in finished])
    losses = np.array([c.final_test_loss for c in finished])
    ceiling = loss_ceiling(losses)
    barred = [c for c in (finished if len(finished) <= CROWDED else verdict.front) if c.final_test_loss_sd]
    barred = [c for c in barred if c.final_test_loss <= ceiling]
    bars = np.array([(c.model_params, c.final_test_loss, c.final_test_loss_sd) for c in barred]).reshape(-1, 3)
    with mpl.rc_context(STYLE):
        name = loss_name(finished[0])
        which = f"{_how_many(searched)}, latent size {latent_dim}"
        figure = new_figure(4.6, f"Size and {name.lower()} of {which}", note)
        axes = figure.add_subplot()
        caption = [_what_a_point_is(finished, bool(len(bars))), searched.left_out]
        axes.set_title("\n".join(filter(None, caption)), loc="left", pad=8)
        axes.set_xlabel("Parameters (log scale)")
        axes.set_ylabel(f"{name} (weighted mean squared error)")
        axes.grid()
        set_scale(axes.xaxis, params.min(), params.max(), log=True, margin=0.08)
        heights, off_scale = _heights(axes, losses, bars, ceiling, [baseline.loss for baseline in verdict.baselines])
        points = np.column_stack([params, heights])  # [n, 2]
        if len(bars):
            axes.errorbar(bars[:, 0], bars[:, 1], bars[:, 2], fmt="none", ecolor="#A0A0A0", elinewidth=0.8, zorder=1.5)
        steps, front_key = _draw_front(axes, verdict)
        keys: list[Artist] = [*_scatter_by_depth(axes, finished, points, verdict.front), front_key]
        keys += [*draw_tied(axes, losses, verdict), *baseline_keys(axes, verdict), *off_scale]
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.03, 1.0), labelspacing=0.7)
        fix_layout(figure)
        spans = [axes.transData.transform([[x, y - sd], [x, y + sd]]) for x, y, sd in bars]
        lines = [points_along(span) for span in [axes.transData.transform(steps), *spans]]
        lines.append(points_across(axes, verdict))
        places = dict(zip((c.config for c in finished), points, strict=True))
        results = axes.transData.transform(points).repeat(DATUM_WEIGHT, axis=0)
        _name_points(axes, verdict, places, np.concatenate([results, *lines]))
    return figure


def _how_many(searched: Survey) -> str:
    finished, all_ = len(searched.finished), searched.space_size
    if searched.which:
        return f"the {f'{finished:,}' if finished > 1 else 'one'} {searched.which} (of {all_:,})"
    if finished < all_:
        return f"{finished:,} of {all_:,} configurations ({all_ - finished:,} failed)"
    return f"{finished:,} configurations" if finished > 1 else "the one configuration"


def _what_a_point_is(finished: Sequence[ConfigurationResult], any_bars: bool) -> str:
    trainings = trainings_text(finished[0])
    bar = "; bar: ± 1 standard deviation" + (" over the repeats" if finished[0].folds > 1 else "")
    bar += " (Pareto front only)" if len(finished) > CROWDED else ""
    return (f"Point: mean over {trainings}" if trainings else "One training each") + (bar if any_bars else "")


def _heights(
    axes: Axes, losses: np.ndarray, bars: np.ndarray, ceiling: float, baselines: Sequence[float]
) -> tuple[np.ndarray, list[Patch]]:
    """Sets the loss axis and draws a strip at its top for losses [n] above `ceiling`.

    `bars` [k, 3] holds the number of parameters, the loss and the standard deviation of each error bar.

    Returns:
        The height of each point, [n], and the legend keys.
    """
    off = losses > ceiling
    low, high = losses[~off].min(), losses[~off].max()
    if len(bars):  # error bars widen the range, but a single long one must not compress the others
        spare = max(high - low, 2 * float(np.median(bars[:, 2])))
        low, high = (
            max(low - spare, (bars[:, 1] - bars[:, 2]).min()),
            min(high + spare, max(high, (bars[:, 1] + bars[:, 2]).max())),
        )
    low, high = make_room(low, high, [loss for loss in baselines if loss <= ceiling])
    low = max(low - 0.18 * (high - low), min(low, 0.0))  # room for the name of the best; no loss is below 0
    set_scale(axes.yaxis, low, high, log=False, margin=0.08, lowest_tick=0.0)
    if not off.any():
        return losses, []
    bottom, top = axes.get_ylim()
    strip = 0.1 * (top - bottom)
    axes.set_ylim(bottom, top + strip)
    axes.axhspan(top, top + strip, color="#E8E8E8", linewidth=0, zorder=0.5)
    words = f"Off the scale: {off.sum():,}\n(loss up to {loss_text(losses.max())})"
    return np.where(off, top + strip / 2, losses), [Patch(color="#E8E8E8", label=words)]


def _scatter_by_depth(
    axes: Axes, finished: Sequence[ConfigurationResult], points: np.ndarray, front: Sequence[ConfigurationResult]
) -> list[Line2D]:
    """Draws points [n, 2] by number of hidden layers, with the Pareto front on top, and returns the legend keys."""
    mirrored = all(layers_of(c.config) == encoder_dims(c.config) for c in finished)
    depths = np.array([len(layers_of(c.config)) if mirrored else hidden_layers(c.config) for c in finished])
    last = int(np.unique(depths)[: len(MARKERS)][-1])  # deeper configurations share the last marker
    groups = np.minimum(depths, last)
    shown, counts = np.unique(groups, return_counts=True)
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(shown)))
    front_configs = {c.config for c in front}
    on_front = np.array([c.config in front_configs for c in finished])
    size = float(np.clip(14 / len(points) ** 0.22, 2.0, 6.5))
    keys = []
    for place, depth in enumerate(shown):
        look: dict[str, Any] = {"color": colours[place], "marker": MARKERS[place], "linestyle": "none"}
        look |= {"markeredgecolor": INK, "markeredgewidth": 0.4 if len(points) <= 1000 else 0.15}
        axes.plot(*points[groups == depth].T, markersize=size, zorder=2 + 0.5 / counts[place], **look)
        on_top = look | {"markeredgewidth": FRONT_EDGE, "markersize": max(size, 4.5)}
        axes.plot(*points[on_front & (groups == depth)].T, zorder=2.8, **on_top)
        look["markeredgewidth"] = 0.4
        many = " or more" if depth == last < depths.max() else ""
        words = f"{depth}{many} hidden layer{'s' if depth > 1 else ''}" + ("" if mirrored else " in all")
        keys.append(Line2D([], [], markersize=6, label=words, **look))
    return keys


def _draw_front(axes: Axes, verdict: Verdict) -> tuple[np.ndarray, Line2D]:
    """Draws the Pareto front as a staircase; returns its corners [2k - 1, 2], which labels avoid, and its legend key.

    If there are other objectives than loss and parameters, the steps would have no meaning, and no line is drawn.
    """
    sizes = [{"params": "smaller", "time": "faster"}[name] for name in verdict.objectives if name != "loss"]
    words = "Pareto front: " + (f"no {' and '.join(sizes)} one\nis as good" if sizes else "the lowest loss")
    words += "" if not sizes else ", within the noise" if verdict.is_known else " (as measured)"
    is_staircase = sizes == ["smaller"]
    corners = [(float(verdict.front[0].model_params), verdict.front[0].final_test_loss)]
    for c in verdict.front[1:] if is_staircase else []:
        corners += [(float(c.model_params), corners[-1][1]), (float(c.model_params), c.final_test_loss)]
    look: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 2)) if is_staircase else "none"}
    steps = np.array(corners)
    axes.plot(*steps.T, zorder=1.8, **look)
    outline = {"markerfacecolor": "white", "markeredgewidth": FRONT_EDGE, "markersize": 6}
    return steps, Line2D([], [], marker="o", label=words, **(look | outline))


def _name_points(axes: Axes, verdict: Verdict, places: Mapping[Configuration, np.ndarray], drawn: np.ndarray) -> None:
    """Names the best and the recommended configuration, and those on the Pareto front for which there is room.

    `places` holds the coordinates of each configuration, [2]; `drawn` the points that labels avoid, in pixels, [n, 2].
    """
    chosen = _chosen(axes, verdict, places)
    others = [c for c in reversed(verdict.front) if c.config not in chosen]
    others = others[:: max(1, math.ceil(len(others) / NAMED_ON_FRONT))]
    taken = np.empty((0, 4))  # the boxes of labels: left, bottom, right, top
    for config, words in (chosen | {c.config: short_name(c.config) for c in others}).items():
        point = axes.transData.transform(places[config])
        taken, drawn = place_label(axes, point, words, drawn, taken, required=config in chosen)


def _chosen(axes: Axes, verdict: Verdict, places: Mapping[Configuration, np.ndarray]) -> dict[Configuration, str]:
    """Draws a ring around the best and a square around the recommended configuration; returns their labels."""
    best, simplest = verdict.best, verdict.recommended
    names = {best.config: "Best: "}
    if verdict.is_known and verdict.n_configurations > 1:
        names |= {simplest.config: "Best and recommended:\n" if simplest is best else "Recommended: "}
    for config, marker, colour in zip(names, "os", (INK, COLOURS[1]), strict=False):
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour, "markersize": 11}
        axes.plot(*places[config], marker=marker, zorder=2.9, **ring)
    return {c.config: names[c.config] + name_loss_size(c) for c in (best, simplest)}
