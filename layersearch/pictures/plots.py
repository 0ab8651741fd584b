"""The pictures of the search: curves of the best, all configurations against their size.

    plot_search(ranking, output_dir / "hyperparam_search_latent3.png", latent_dim=3, verdict=verdict)

Each `plot_…` draws with its `draw_…`, which returns the figure, and writes a PNG; every distinction is
made twice, by colour and by marker or line style, so that it survives colour-blindness and grey
printing. The verdict is in `verdict_plot.py`, the latent plane in `latent_plots.py`, what all share in
`plot_style.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from layersearch.pictures.style import (
    COLOURS,
    INK,
    MARKERS,
    STYLE,
    WIDTH,
    Survey,
    baseline_keys,
    draw_baselines,
    draw_tied,
    fix_layout,
    loss_ceiling,
    loss_name,
    loss_scale,
    make_room,
    new_figure,
    off_axis_text,
    pixels,
    place_label,
    points_across,
    points_along,
    save,
    set_scale,
    spread_out,
    survey,
    trainings_text,
    wrapped,
)
from layersearch.space.configurations import Configuration, encoder_dims, layers_of
from layersearch.space.naming import hidden_layers, short_name
from layersearch.space.ranking import ConfigurationResult, Drop
from layersearch.words import baseline_label, loss_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from layersearch.verdict.verdict import Verdict

DASHES = ("-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (9, 2)), (0, (1, 2)))

CROWDED = 60  # with more configurations than this, only those on the Pareto front keep their error bars
CAPTION = 0.88 * WIDTH  # inches that a line under the title may take
DROPPED_DRAWN = 300  # at most so many of the curves that were dropped
DROPPED = "#B4B4B4"
FLOOR = 0.1  # of the lowest mean: what reaches further down leaves the axis at its foot
FRONT_EDGE = 1.2  # points: the outline of those on the front
NAMED_ON_FRONT = 8  # at most so many of the Pareto front are named


# The search: loss by epoch


def plot_search(
    ranking: Sequence[ConfigurationResult],
    file: Path | IO[bytes],
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    top: int = 5,
    space_size: int | None = None,
) -> None:
    """Writes `draw_search`'s picture to `file`."""
    figure = draw_search(ranking, latent_dim=latent_dim, verdict=verdict, note=note, top=top, space_size=space_size)
    save(figure, file)


def draw_search(
    ranking: Sequence[ConfigurationResult],
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    top: int = 5,
    space_size: int | None = None,
) -> Figure:
    """Loss by epoch of the `top` best configurations, mean ± 1 standard deviation, and the baselines near them.

    What was dropped early is drawn grey as far as it came. `space_size`: configurations that there were to try, by
    default those of the ranking. Raises ValueError if no configuration finished.
    """
    searched = survey(ranking, space_size)
    shown, dropped = searched.finished[:top], searched.dropped
    curves = _curves_of(shown)
    grey = [c.test_curves.mean(axis=0) for c, _ in dropped[:: max(1, math.ceil(len(dropped) / DROPPED_DRAWN))]]
    epochs = max(len(mean) for mean in [*(curve.mean for curve in curves), *grey])
    with mpl.rc_context(STYLE):
        title = f"{loss_name(shown[0])} by epoch: {_which(len(shown), searched)}, latent size {latent_dim}"
        figure = new_figure(max(3.9, 1.4 + 0.5 * (len(shown) + len(verdict.baselines))), title, note)
        axes = figure.add_subplot()
        high = max([float((curve.mean + curve.spread).max()) for curve in curves] + _nearly_all(grey))
        loss_scale(axes, _lowest(curves), high, shown[0], verdict)
        _epoch_axis(axes, epochs, [drop.epoch for _, drop in dropped])
        _draw_dropped(axes, grey)
        ends = [_draw_curve(axes, curve, epochs, len(shown)) for curve in reversed(curves)]  # the best on top
        inside, outside = draw_baselines(axes, verdict)
        for baseline, look in inside:
            words = f"{baseline_label(baseline.name, baseline.components)}\n{loss_text(baseline.loss)}"
            ends.append(_LineEnd(words, axes.get_xlim()[1], baseline.loss, look))
        absent = [off_axis_text(baseline, axes) for baseline in outside]
        caption = [
            _what_a_line_is(shown[0], epochs),
            *_what_stopped(shown),
            *_what_is_grey(dropped, len(grey)),
            *absent,
        ]
        axes.set_title(wrapped("\n".join(caption), CAPTION), loc="left", pad=8)
        _name_line_ends(figure, axes, ends)
    return figure


class _Curve(NamedTuple):
    """Test loss by epoch of the configuration in place `rank`, each [E]; E may differ where training stops early."""

    configuration: ConfigurationResult
    rank: int
    mean: np.ndarray
    spread: np.ndarray


def _curves_of(shown: Sequence[ConfigurationResult]) -> list[_Curve]:
    return [_Curve(c, rank, c.test_curves.mean(axis=0), _spread(c)) for rank, c in enumerate(shown)]


def _lowest(curves: Sequence[_Curve]) -> float:
    """Down to where the loss axis must reach: a band may go on below zero, where a logarithmic axis cannot follow."""
    floor = min(float(curve.mean.min()) for curve in curves) * FLOOR
    return max(floor, min(float((curve.mean - curve.spread).min()) for curve in curves))


def _which(n_shown: int, searched: Survey) -> str:
    finished, all_ = len(searched.finished), searched.space_size
    if searched.which:
        count = f"best {n_shown} of {finished:,}" if n_shown < finished else f"{finished}" if finished > 1 else "one"
        return f"the {count} {searched.which} (of {all_:,})"
    if n_shown < all_:
        return f"the best {n_shown} of {all_:,} configurations"
    return {1: "the one configuration", 2: "both configurations"}.get(all_, f"all {all_} configurations")


def _spread(c: ConfigurationResult) -> np.ndarray:
    """[E] standard deviation over the folds, each a mean over its repeats; without folds over the repeats."""
    curves = c.test_curves.reshape(c.repeats, c.folds, -1)
    samples = curves.mean(axis=0) if c.folds > 1 else curves[:, 0]  # [K or R, E]
    return np.asarray(samples.std(axis=0, ddof=1)) if len(samples) > 1 else np.zeros(curves.shape[2])


def _what_a_line_is(c: ConfigurationResult, epochs: int) -> str:
    trainings = trainings_text(c)
    if trainings is None:
        return "One training each"
    line, band = ("Point", "bar") if epochs == 1 else ("Line", "band")
    spread = "± 1 standard deviation" + (" over the folds" if c.folds > 1 else "")
    return f"{line}: mean over {trainings}; {band}: {spread}"


def _what_stopped(shown: Sequence[ConfigurationResult]) -> list[str]:
    if not any(map(_ended, shown)):
        return []
    ended = "where it ended" if trainings_text(shown[0]) is None else "where its trainings ended, on average"
    return [f"Circle: {ended}. One that stopped early stays at the loss of the weights it kept"]


def _ended(c: ConfigurationResult) -> float | None:
    """The mean epoch at which its trainings ended; None where none could stop early."""
    if all(result.best_epoch is None for result in c.trials):
        return None
    return float(np.mean([len(result.test_losses) for result in c.trials]))


def _what_is_grey(dropped: Sequence[tuple[ConfigurationResult, Drop]], n_drawn: int) -> list[str]:
    if not dropped:
        return []
    epochs = Counter(drop.epoch for _, drop in dropped)
    where = ", ".join(f"{count:,} after epoch {epoch:,}" for epoch, count in sorted(epochs.items()))
    words = f"Grey: the {len(dropped):,} dropped early: {where}"
    return [words + (f"; {n_drawn} are drawn, evenly from best to worst" if n_drawn < len(dropped) else "")]


def _nearly_all(grey: Sequence[np.ndarray]) -> list[float]:
    """The loss below which nearly all of these curves begin: a few that begin far above may not squash the rest."""
    return [float(np.quantile([mean.max() for mean in grey], 0.95))] if grey else []


def _draw_dropped(axes: Axes, grey: Sequence[np.ndarray]) -> None:
    """A thin line for each of these curves, and a dot where it ends."""
    if not grey:
        return
    lines = [np.column_stack([np.arange(1.0, len(mean) + 1), mean]) for mean in grey]
    axes.add_collection(LineCollection(lines, colors=DROPPED, linewidths=0.5, zorder=1.2), autolim=False)
    axes.plot(*np.array([line[-1] for line in lines]).T, ".", color=DROPPED, markersize=2.5, zorder=1.3)


def _epoch_axis(axes: Axes, epochs: int, drops: Sequence[int]) -> None:
    """`drops`: after which epochs some were dropped. Where these are early, the axis is logarithmic."""
    axes.set_xlabel("Epoch")
    axes.grid(axis="y")
    if epochs == 1:
        axes.set_xlim(0.5, 1.5)
        axes.set_xticks([1])
        return
    log = bool(drops) and 4 * min(drops) <= epochs
    axes.set_xlim(1, epochs)
    ticks: Any = MaxNLocator(nbins=8, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(1, epochs)
    if log:
        axes.set(xscale="log", xlabel="Epoch (log scale)")
        axes.xaxis.set(minor_locator=NullLocator(), major_formatter=StrMethodFormatter("{x:,.0f}"))
        ticks = sorted(set(drops))
    share = axes.transData + axes.transAxes.inverted()
    shares = [share.transform((t, 0))[0] for t in ticks]
    inner = [int(t) for t, x in zip(ticks, shares, strict=True) if 0.05 < x < 0.95]
    axes.set_xticks([1, *inner, epochs])


def _draw_curve(axes: Axes, curve: _Curve, epochs: int, n_curves: int) -> _LineEnd:
    c, rank, mean, sd = curve
    low = np.maximum(mean - sd, axes.get_ylim()[0])
    at = np.arange(1.0, len(mean) + 1) if epochs > 1 else np.array([1 + 0.06 * (rank - (n_curves - 1) / 2)])
    colour, dashes = _line_style(rank)
    width = 2.0 if rank == 0 else 1.4
    if epochs == 1:
        spread = np.array([mean - low, sd]) if sd.any() else None
        axes.errorbar(at, mean, spread, color=colour, marker=MARKERS[rank % len(MARKERS)], linestyle="none", capsize=3)
    else:
        if sd.any():
            axes.fill_between(at, low, mean + sd, color=colour, alpha=0.13, linewidth=0)
        axes.plot(at, mean, color=colour, linestyle=dashes, linewidth=width)
        ended = _ended(c)
        if ended:
            look: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": colour, "clip_on": False}
            axes.plot(ended, np.interp(ended, at, mean), "o", markersize=5, zorder=2.5, **look)
    words = _name_loss_size(c, with_sd=c.folds == 1)
    kept = mean[-1] if _ended(c) is None else c.final_test_loss
    return _LineEnd(words, at[-1], kept, {"color": colour, "linewidth": width}, mean[-1] if len(at) < epochs else None)


def _line_style(rank: int) -> tuple[str, Any]:
    return COLOURS[rank % len(COLOURS)], DASHES[(rank + rank // len(COLOURS)) % len(DASHES)]


class _LineEnd(NamedTuple):
    words: str
    x: float
    y: float
    look: dict[str, Any]  # of its line
    early: float | None = None  # where it ends before the axis does, perhaps beside `y`; from there on it is level


def _name_line_ends(figure: Figure, axes: Axes, ends: Sequence[_LineEnd]) -> None:
    """Names each line beside its end, moved apart where the names would overlap."""
    bend, key, words = 1.03, (1.045, 1.078), 1.09  # x, in widths of the axes
    texts = [
        axes.text(words, 0.5, end.words, transform=axes.transAxes, va="center", fontsize=8, linespacing=1.25)
        for end in ends
    ]
    fix_layout(figure)
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [to_axes.transform((end.x, end.y)) for end in ends]
    tallest = max(text.get_window_extent().height for text in texts) + pixels(5)
    heights = spread_out([y for _, y in wanted], tallest / axes.get_window_extent().height)
    for text, (x, y), height, end in zip(texts, wanted, heights, ends, strict=True):
        text.set_y(height)
        fixed: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        level = [] if end.early is None else [(x, float(to_axes.transform((end.x, end.early))[1])), (x, y), (1.0, y)]
        course = zip(*(level or [(x, y)]), (bend, height), (key[0], height), strict=True)
        axes.add_line(Line2D(*course, color=end.look["color"], linewidth=0.7, **fixed))
        axes.add_line(Line2D(key, [height, height], **(end.look | fixed)))


# All configurations: loss against parameters


def plot_configurations(
    ranking: Sequence[ConfigurationResult],
    file: Path | IO[bytes],
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    space_size: int | None = None,
) -> None:
    """Writes `draw_configurations`' picture to `file`."""
    save(draw_configurations(ranking, latent_dim=latent_dim, verdict=verdict, note=note, space_size=space_size), file)


def draw_configurations(
    ranking: Sequence[ConfigurationResult],
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    space_size: int | None = None,
) -> Figure:
    """Parameters against final loss of all finished configurations: the tied, the Pareto front, the baselines.

    `space_size`: configurations that there were to try, by default those of the ranking. Raises ValueError if none
    finished.
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
        _name_points(axes, verdict, places, np.concatenate([axes.transData.transform(points), *lines]))
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
    """Sets the loss axis; returns where to draw each point [n] (off the scale: in a strip on top) and legend keys."""
    off = losses > ceiling
    low, high = losses[~off].min(), losses[~off].max()
    if len(bars):  # a bar may widen the range, but a single huge one may not squash the rest
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
    """Draws points [n, 2] told apart by number of hidden layers, the front's on top; returns legend keys."""
    mirrored = all(layers_of(c.config) == encoder_dims(c.config) for c in finished)
    depths = np.array([len(layers_of(c.config)) if mirrored else hidden_layers(c.config) for c in finished])
    last = int(np.unique(depths)[: len(MARKERS)][-1])  # deeper ones share the last marker
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
    """A staircase through the front's k points [2k - 1, 2]; returns its corners (as points for labels), and its key.

    Only where it is a front of loss and parameters: by any other measure the steps would mean nothing.
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
    """Names the best, the recommended, and of the front those for which there is room.

    places: where each configuration is drawn. drawn [n, 2]: what to keep off, in pixels.
    """
    chosen = _chosen(axes, verdict, places)
    others = [c for c in reversed(verdict.front) if c.config not in chosen]
    others = others[:: max(1, math.ceil(len(others) / NAMED_ON_FRONT))]
    taken = np.empty((0, 4))  # boxes of the labels placed so far: left, bottom, right, top
    for config, words in (chosen | {c.config: short_name(c.config) for c in others}).items():
        point = axes.transData.transform(places[config])
        taken, drawn = place_label(axes, point, words, drawn, taken, required=config in chosen)


def _chosen(axes: Axes, verdict: Verdict, places: Mapping[Configuration, np.ndarray]) -> dict[Configuration, str]:
    """Puts a ring around the best and a square around the recommended; returns what to call them."""
    best, simplest = verdict.best, verdict.recommended
    names = {best.config: "Best: "}
    if verdict.is_known and verdict.n_configurations > 1:
        names |= {simplest.config: "Best and recommended:\n" if simplest is best else "Recommended: "}
    for config, marker, colour in zip(names, "os", (INK, COLOURS[1]), strict=False):
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour, "markersize": 11}
        axes.plot(*places[config], marker=marker, zorder=2.9, **ring)
    return {c.config: names[c.config] + _name_loss_size(c) for c in (best, simplest)}


def _name_loss_size(c: ConfigurationResult, *, with_sd: bool = True) -> str:
    loss = loss_text(c.final_test_loss, c.final_test_loss_sd if with_sd else None)
    return f"{short_name(c.config)}\n{loss}\n{c.model_params:,} parameters"
