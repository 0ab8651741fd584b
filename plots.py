"""The pictures of the search: curves of the best, all configurations against their size.

    plot_search(ranking, output_dir / "hyperparam_search_latent3.png", latent_dim=3, verdict=verdict)

Each `plot_…` draws with its `draw_…`, which returns the figure, and writes a PNG; every distinction is
made twice, by colour and by marker or line style, so that it survives colour-blindness and grey
printing. The verdict is in `verdict_plot.py`, the latent plane in `latent_plots.py`, what all share in
`plot_style.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from plot_style import (
    BASELINE_DASHES,
    COLOURS,
    DPI,
    FAINT,
    INK,
    MARKERS,
    STYLE,
    WIDTH,
    baseline_name,
    baseline_text,
    finished_of,
    free_box,
    loss_ceiling,
    loss_name,
    make_room,
    pixels,
    points_along,
    save,
    set_scale,
    short_name,
    spread_out,
    trainings_text,
    wrapped,
)
from report import loss_text, percent
from search import Configuration
from selection import ConfigurationResult

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from verdict import Baseline, Verdict

DASHES = ("-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (9, 2)), (0, (1, 2)))

CROWDED = 60  # with more configurations than this, only those on the Pareto front keep their error bars
FRONT_EDGE = 1.2  # points: the outline of those on the front
NAMED_ON_FRONT = 8  # at most so many of the Pareto front are named


# The search: loss by epoch


def plot_search(
    ranking: Sequence[ConfigurationResult],
    path: Path,
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    top: int = 5,
) -> None:
    """Writes `draw_search`'s picture to `path`."""
    save(draw_search(ranking, latent_dim=latent_dim, verdict=verdict, note=note, top=top), path)


def draw_search(
    ranking: Sequence[ConfigurationResult],
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    top: int = 5,
) -> Figure:
    """Loss by epoch of the `top` best configurations, mean ± 1 standard deviation, and the baselines near them.

    Raises ValueError if no configuration finished.
    """
    shown = finished_of(ranking)[:top]
    means = [c.test_curves.mean(axis=0) for c in shown]  # each [E]
    spreads = [_spread(c) for c in shown]
    epochs = len(means[0])
    floor = min(mean.min() for mean in means) / 2  # a band may reach below zero, a log axis cannot
    lows = [np.maximum(mean - spread, floor) for mean, spread in zip(means, spreads, strict=True)]
    with mpl.rc_context(STYLE):
        title = f"{loss_name(shown[0])} by epoch: {_which(shown, ranking)}, latent size {latent_dim}"
        figure = _new_figure(max(3.9, 1.4 + 0.5 * (len(shown) + len(verdict.baselines))), title, note)
        axes = figure.add_subplot()
        high = max((mean + spread).max() for mean, spread in zip(means, spreads, strict=True))
        _loss_scale(axes, min(low.min() for low in lows), high, shown[0], verdict)
        _epoch_axis(axes, epochs)
        ends = []
        for rank in reversed(range(len(shown))):  # the best on top
            at = np.arange(1.0, epochs + 1) if epochs > 1 else np.array([1 + 0.06 * (rank - (len(shown) - 1) / 2)])
            _curve(axes, rank, at, means[rank], spreads[rank], lows[rank])
            words = _name_loss_size(shown[rank], with_sd=shown[rank].folds == 1)
            width = 2.0 if rank == 0 else 1.4
            ends.append(_LineEnd(words, at[-1], means[rank][-1], {"color": _line_style(rank)[0], "linewidth": width}))
        inside, outside = _draw_baselines(axes, verdict)
        for baseline, look in inside:
            words = f"{baseline_name(baseline, latent_dim)}\n{loss_text(baseline.loss)}"
            ends.append(_LineEnd(words, axes.get_xlim()[1], baseline.loss, look))
        absent = [_off_axis_text(baseline, latent_dim, axes) for baseline in outside]
        axes.set_title("\n".join([_what_a_line_is(shown[0], epochs), *absent]), loc="left", pad=8)
        _name_line_ends(figure, axes, ends)
    return figure


def _which(shown: Sequence[ConfigurationResult], ranking: Sequence[ConfigurationResult]) -> str:
    if len(shown) < len(ranking):
        return f"the best {len(shown)} of {len(ranking):,} configurations"
    return f"all {len(ranking)} configurations" if len(ranking) > 1 else "the one configuration"


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


def _loss_scale(axes: Axes, low: float, high: float, c: ConfigurationResult, verdict: Verdict) -> None:
    """The loss axis: logarithmic where low..high asks for it, with room for the baselines near it."""
    log = bool(low > 0 and high / low > 2.5)
    losses = [baseline.loss for baseline in verdict.baselines]
    if log:
        logs = make_room(math.log(low), math.log(high), [math.log(loss) for loss in losses if loss > 0])
        low, high = math.exp(logs[0]), math.exp(logs[1])
    else:
        low, high = make_room(low, high, losses)
    set_scale(axes.yaxis, low, high, log=log)
    axes.set_ylabel(f"{loss_name(c)}\n(weighted mean squared error" + (", log scale)" if log else ")"))


def _epoch_axis(axes: Axes, epochs: int) -> None:
    axes.set_xlabel("Epoch")
    axes.grid(axis="y")
    if epochs == 1:
        axes.set_xlim(0.5, 1.5)
        axes.set_xticks([1])
        return
    axes.set_xlim(1, epochs)
    ticks = MaxNLocator(nbins=8, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(1, epochs)
    inner = [int(t) for t in ticks if 1 < t < epochs and (t - 1) > epochs / 20 and (epochs - t) > epochs / 20]
    axes.set_xticks([1, *inner, epochs])


def _curve(axes: Axes, rank: int, at: np.ndarray, mean: np.ndarray, sd: np.ndarray, low: np.ndarray) -> None:
    colour, dashes = _line_style(rank)
    if len(at) == 1:
        spread = np.array([mean - low, sd]) if sd.any() else None
        axes.errorbar(at, mean, spread, color=colour, marker=MARKERS[rank % len(MARKERS)], linestyle="none", capsize=3)
        return
    if sd.any():
        axes.fill_between(at, low, mean + sd, color=colour, alpha=0.13, linewidth=0)
    axes.plot(at, mean, color=colour, linestyle=dashes, linewidth=2.0 if rank == 0 else 1.4)


def _line_style(rank: int) -> tuple[str, Any]:
    return COLOURS[rank % len(COLOURS)], DASHES[(rank + rank // len(COLOURS)) % len(DASHES)]


class _LineEnd(NamedTuple):
    words: str
    x: float
    y: float
    look: dict[str, Any]  # of its line


def _name_line_ends(figure: Figure, axes: Axes, ends: Sequence[_LineEnd]) -> None:
    """Names each line beside its end, moved apart where the names would overlap."""
    bend, key, words = 1.03, (1.045, 1.078), 1.09  # x, in widths of the axes
    texts = [
        axes.text(words, 0.5, end.words, transform=axes.transAxes, va="center", fontsize=8, linespacing=1.25)
        for end in ends
    ]
    _fix_layout(figure)
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [to_axes.transform((end.x, end.y)) for end in ends]
    tallest = max(text.get_window_extent().height for text in texts) + pixels(5)
    heights = spread_out([y for _, y in wanted], tallest / axes.get_window_extent().height)
    for text, (x, y), height, end in zip(texts, wanted, heights, ends, strict=True):
        text.set_y(height)
        fixed: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.add_line(Line2D([x, bend, key[0]], [y, height, height], color=end.look["color"], linewidth=0.7, **fixed))
        axes.add_line(Line2D(key, [height, height], **(end.look | fixed)))


# All configurations: loss against parameters


def plot_configurations(
    ranking: Sequence[ConfigurationResult], path: Path, *, latent_dim: int, verdict: Verdict, note: str | None = None
) -> None:
    """Writes `draw_configurations`' picture to `path`."""
    save(draw_configurations(ranking, latent_dim=latent_dim, verdict=verdict, note=note), path)


def draw_configurations(
    ranking: Sequence[ConfigurationResult], *, latent_dim: int, verdict: Verdict, note: str | None = None
) -> Figure:
    """Parameters against final loss of all finished configurations: the tied, the Pareto front, the baselines.

    Raises ValueError if no configuration finished.
    """
    finished = finished_of(ranking)
    params = np.array([c.model_params for c in finished])
    losses = np.array([c.final_test_loss for c in finished])
    ceiling = loss_ceiling(losses)
    barred = [c for c in (finished if len(finished) <= CROWDED else verdict.front) if c.final_test_loss_sd]
    barred = [c for c in barred if c.final_test_loss <= ceiling]
    bars = np.array([(c.model_params, c.final_test_loss, c.final_test_loss_sd) for c in barred]).reshape(-1, 3)
    with mpl.rc_context(STYLE):
        name = loss_name(finished[0])
        which = f"{_how_many(len(finished), len(ranking))}, latent size {latent_dim}"
        figure = _new_figure(4.6, f"Size and {name.lower()} of {which}", note)
        axes = figure.add_subplot()
        axes.set_title(_what_a_point_is(finished, bool(len(bars))), loc="left", pad=8)
        axes.set_xlabel("Trainable parameters (log scale)")
        axes.set_ylabel(f"{name} (weighted mean squared error)")
        axes.grid()
        set_scale(axes.xaxis, params.min(), params.max(), log=True, margin=0.08)
        heights, off_scale = _heights(axes, losses, bars, ceiling, [baseline.loss for baseline in verdict.baselines])
        points = np.column_stack([params, heights])  # [n, 2]
        if len(bars):
            axes.errorbar(bars[:, 0], bars[:, 1], bars[:, 2], fmt="none", ecolor="#A0A0A0", elinewidth=0.8, zorder=1.5)
        steps, front_key = _draw_front(axes, verdict)
        keys: list[Artist] = [*_scatter_by_depth(axes, finished, points, verdict.front), front_key]
        keys += [*_draw_tied(axes, losses, verdict), *_baseline_keys(axes, verdict, latent_dim), *off_scale]
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.03, 1.0), labelspacing=0.7)
        _fix_layout(figure)
        spans = [axes.transData.transform([[x, y - sd], [x, y + sd]]) for x, y, sd in bars]
        lines = [points_along(span) for span in [axes.transData.transform(steps), *spans]]
        places = dict(zip((c.config for c in finished), points, strict=True))
        _name_points(axes, verdict, places, np.concatenate([axes.transData.transform(points), *lines]))
    return figure


def _how_many(finished: int, all_: int) -> str:
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
    low -= 0.18 * (high - low)  # room for the name of the best
    set_scale(axes.yaxis, low, high, log=False, margin=0.08, lowest_tick=0.0)  # no loss is below 0
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
    depths = np.array([len(c.config) for c in finished])
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
        words = f"{depth}{many} hidden layer{'s' if depth > 1 else ''}"
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


def _draw_tied(axes: Axes, losses: np.ndarray, verdict: Verdict) -> list[Patch]:
    """A band from the lowest to the highest loss of the tied, if there is more than one; returns its legend key."""
    if len(verdict.tied) < 2:
        return []
    tied = [c.final_test_loss for c in verdict.tied]
    low, high = min(tied), max(tied)
    others = int(((losses >= low) & (losses <= high)).sum()) - len(tied)
    words = f"Tied with the best ({percent(verdict.confidence)}):\nthe losses of these {len(tied):,}"
    words += f"\n({others:,} in between {'is' if others == 1 else 'are'} not)" if others else ""
    look: dict[str, Any] = {"facecolor": "#DCEBF5", "edgecolor": "#9CC3DE", "linewidth": 0.6}
    axes.axhspan(low, min(high, axes.get_ylim()[1]), zorder=0.6, **look)
    return [Patch(label=words, **look)]


def _name_points(axes: Axes, verdict: Verdict, places: Mapping[Configuration, np.ndarray], drawn: np.ndarray) -> None:
    """Names the best, the recommended, and of the front those for which there is room.

    places: where each configuration is drawn. drawn [n, 2]: what to keep off, in pixels.
    """
    chosen = _chosen(axes, verdict, places)
    others = [c for c in reversed(verdict.front) if c.config not in chosen]
    others = others[:: max(1, math.ceil(len(others) / NAMED_ON_FRONT))]
    to_axes = axes.transAxes.inverted()
    taken = np.empty((0, 4))  # boxes of the labels placed so far: left, bottom, right, top
    for config, words in (chosen | {c.config: short_name(c.config) for c in others}).items():
        point = axes.transData.transform(places[config])
        text = axes.text(0, 0, words, transform=axes.transAxes, fontsize=8, linespacing=1.25, va="bottom", zorder=4)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        extent = text.get_window_extent()
        size = np.array([extent.width, extent.height])
        box = free_box(axes, point, size, drawn, taken, required=config in chosen)
        if box is None:
            text.remove()
            continue
        text.set_position(tuple(to_axes.transform(box[:2])))
        taken = np.vstack([taken, box])
        leader = np.array([point, np.clip(point, box[:2] - pixels(2), box[2:] + pixels(2))])
        if np.hypot(*(leader[1] - leader[0])) > pixels(10):
            ends = to_axes.transform(leader).T
            axes.add_line(Line2D(*ends, transform=axes.transAxes, color=INK, linewidth=0.6, zorder=1.9))
            drawn = np.concatenate([drawn, points_along(leader)])


def _chosen(axes: Axes, verdict: Verdict, places: Mapping[Configuration, np.ndarray]) -> dict[Configuration, str]:
    """Puts a ring around the best and a square around the recommended; returns what to call them."""
    best, simplest = verdict.best, verdict.simplest
    names = {best.config: "Best: "}
    if verdict.is_known and verdict.n_configurations > 1:
        names |= {simplest.config: "Best and recommended:\n" if simplest is best else "Recommended: "}
    for config, marker, colour in zip(names, "os", (INK, COLOURS[1]), strict=False):
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour, "markersize": 11}
        axes.plot(*places[config], marker=marker, zorder=2.9, **ring)
    return {c.config: names[c.config] + _name_loss_size(c) for c in (best, simplest)}


# What both pictures share


def _draw_baselines(axes: Axes, verdict: Verdict) -> tuple[list[tuple[Baseline, dict[str, Any]]], list[Baseline]]:
    """Draws a line for each baseline within the axes; returns these with their looks, and the others."""
    low, high = axes.get_ylim()
    inside, outside = [], []
    for place, baseline in enumerate(verdict.baselines):
        dashes = BASELINE_DASHES[place % len(BASELINE_DASHES)]
        look: dict[str, Any] = {"color": FAINT, "linewidth": 1.1, "linestyle": dashes}
        if low <= baseline.loss <= high:
            axes.axhline(baseline.loss, zorder=1.7, **look)
            inside.append((baseline, look))
        else:
            outside.append(baseline)
    return inside, outside


def _off_axis_text(baseline: Baseline, latent_dim: int, axes: Axes) -> str:
    where = "above" if baseline.loss > axes.get_ylim()[1] else "below"
    return f"{baseline_text(baseline, latent_dim)} ({where} the axis)"


def _baseline_keys(axes: Axes, verdict: Verdict, latent_dim: int) -> list[Line2D]:
    """Draws the baselines; returns their legend keys, without a line where they are off the axis."""
    inside, outside = _draw_baselines(axes, verdict)
    keys = [Line2D([], [], label=baseline_text(baseline, latent_dim), **look) for baseline, look in inside]
    absent = [_off_axis_text(baseline, latent_dim, axes).replace(" (", "\n(") for baseline in outside]
    return keys + [Line2D([], [], linestyle="none", label=words) for words in absent]


def _new_figure(height: float, title: str, note: str | None) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha="left", fontsize=10, fontweight="bold")
    if note:
        figure.supxlabel(wrapped(note, WIDTH), x=0.012, ha="left", fontsize=8, color=FAINT)
    return figure


def _fix_layout(figure: Figure) -> None:
    """Lays the figure out for good: from here on positions in pixels hold."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")


def _name_loss_size(c: ConfigurationResult, *, with_sd: bool = True) -> str:
    loss = loss_text(c.final_test_loss, c.final_test_loss_sd if with_sd else None)
    return f"{short_name(c.config)}\n{loss}\n{c.model_params:,} parameters"
