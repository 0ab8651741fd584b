"""The pictures of the search: curves of the best, all configurations against their size.

    plot_search(ranking, output_dir / "hyperparam_search_latent3.png", latent_dim=3)

Each `plot_…` draws with its `draw_…`, which returns the figure, and writes a PNG; every distinction is
made twice, by colour and by marker or line style, so that it survives colour-blindness and grey
printing. The latent plane is in `latent_plots.py`, what both share in `plot_style.py`.

Source of the line colours: Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from plot_style import DPI, FAINT, INK, MARKERS, STYLE, WIDTH, save, set_scale, wrapped
from report import config_text, loss_text
from selection import ConfigurationResult, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe & Ito
DASHES = ("-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (9, 2)), (0, (1, 2)))

LOSS = "Test loss (weighted mean squared error)"
NAMED_LAYERS = 6  # a longer configuration is shortened in pictures
CROWDED = 60  # with more configurations than this, only those on the Pareto front keep their error bars
NAMED_ON_FRONT = 8  # at most so many of the Pareto front are named


# The search: test loss by epoch


def plot_search(
    ranking: Sequence[ConfigurationResult], path: Path, *, latent_dim: int, note: str | None = None, top: int = 5
) -> None:
    """Writes `draw_search`'s picture to `path`."""
    save(draw_search(ranking, latent_dim=latent_dim, note=note, top=top), path)


def draw_search(
    ranking: Sequence[ConfigurationResult], *, latent_dim: int, note: str | None = None, top: int = 5
) -> Figure:
    """Test loss by epoch of the `top` best configurations: mean over repeats, ± 1 standard deviation.

    Raises ValueError if no configuration finished.
    """
    finished = _finished(ranking)
    shown = finished[:top]
    epochs = shown[0].test_curves.shape[1]
    repeats = max(len(c.trials) for c in shown)
    what = {
        (False, False): "One training each",
        (False, True): f"Line: mean over {repeats} repeats; band: ± 1 standard deviation",
        (True, False): "One training each",
        (True, True): f"Point: mean over {repeats} repeats; bar: ± 1 standard deviation",
    }[epochs == 1, repeats > 1]
    which = f"the best {len(shown)} of {len(ranking):,} configurations"
    if len(shown) == len(ranking):
        which = f"all {len(ranking)} configurations" if len(ranking) > 1 else "the one configuration"
    with mpl.rc_context(STYLE):
        figure = _new_figure(
            max(3.9, 1.6 + 0.36 * len(shown)), f"Test loss by epoch: {which}, latent size {latent_dim}", note
        )
        axes = figure.add_subplot()
        axes.set_title(what, loc="left", pad=8)
        means = [c.test_curves.mean(axis=0) for c in shown]  # each [E]
        sds = [c.test_curves.std(axis=0, ddof=1) if len(c.trials) > 1 else np.zeros(epochs) for c in shown]
        everything = np.concatenate([*means, *(m + s for m, s in zip(means, sds, strict=True))])
        floor = min(m.min() for m in means) / 2  # a band may reach below zero, a log axis cannot
        lows = [np.maximum(m - s, floor) for m, s in zip(means, sds, strict=True)]
        low, high = min(curve.min() for curve in lows), everything.max()
        log = bool(low > 0 and high / low > 2.5)
        set_scale(axes.yaxis, low, high, log=log)
        axes.set_ylabel("Test loss\n(weighted mean squared error" + (", log scale)" if log else ")"))
        _epoch_axis(axes, epochs)
        ends = []
        for rank in reversed(range(len(shown))):  # the best on top
            at = np.arange(1.0, epochs + 1) if epochs > 1 else np.array([1 + 0.06 * (rank - (len(shown) - 1) / 2)])
            _curve(axes, rank, at, means[rank], sds[rank], lows[rank])
            ends.append((at[-1], means[rank][-1]))
        _name_line_ends(figure, axes, shown, ends[::-1])
    return figure


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


def _name_line_ends(
    figure: Figure, axes: Axes, shown: Sequence[ConfigurationResult], ends: Sequence[tuple[float, float]]
) -> None:
    """Name, loss and size of each line beside its end (x, y), moved apart where they would overlap."""
    bend, key, words = 1.03, (1.045, 1.078), 1.09  # x, in widths of the axes
    texts = [
        axes.text(words, 0.5, _name_loss_size(c), transform=axes.transAxes, va="center", fontsize=8, linespacing=1.25)
        for c in shown
    ]
    _fix_layout(figure)
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [to_axes.transform(end) for end in ends]
    tallest = max(text.get_window_extent().height for text in texts) + _pixels(5)
    heights = spread_out([y for _, y in wanted], tallest / axes.get_window_extent().height)
    for rank, (text, (x, y), height) in enumerate(zip(texts, wanted, heights, strict=True)):
        text.set_y(height)
        colour, _ = _line_style(rank)
        look: dict[str, Any] = {"transform": axes.transAxes, "color": colour, "clip_on": False}
        axes.add_line(Line2D([x, bend, key[0]], [y, height, height], linewidth=0.7, **look))
        axes.add_line(Line2D(key, [height, height], linewidth=2.0 if rank == 0 else 1.4, **look))


def spread_out(wanted: Sequence[float], gap: float) -> list[float]:
    """The positions nearest to `wanted` (least squares) that keep their order and lie `gap` apart.

    Without the gaps this is isotonic regression, solved by pooling adjacent violators. The result is
    then moved as a whole into 0..1, as far as it fits.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []  # (mean, members) of wanted - gap × place
    for place, index in enumerate(order):
        mean, size = wanted[index] - gap * place, 1
        while pools and pools[-1][0] >= mean:
            before, members = pools.pop()
            mean, size = (before * members + mean * size) / (members + size), members + size
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    placed = [mean + gap * place for place, mean in enumerate(flat)]
    lowest, highest = gap / 2, 1 - gap / 2
    placed = [max(y, lowest + gap * place) for place, y in enumerate(placed)]
    placed = [min(y, highest - gap * (len(placed) - 1 - place)) for place, y in enumerate(placed)]
    result = [0.0] * len(wanted)
    for index, y in zip(order, placed, strict=True):
        result[index] = y
    return result


# All configurations: test loss against parameters


def plot_configurations(
    ranking: Sequence[ConfigurationResult], path: Path, *, latent_dim: int, note: str | None = None
) -> None:
    """Writes `draw_configurations`' picture to `path`."""
    save(draw_configurations(ranking, latent_dim=latent_dim, note=note), path)


def draw_configurations(ranking: Sequence[ConfigurationResult], *, latent_dim: int, note: str | None = None) -> Figure:
    """Parameters against final test loss of all finished configurations, with the Pareto front.

    Raises ValueError if no configuration finished.
    """
    finished = _finished(ranking)
    front = pareto_front(finished)
    params = np.array([c.model_params for c in finished])
    losses = np.array([c.final_test_loss for c in finished])
    ceiling = loss_ceiling(losses)
    barred = [c for c in (finished if len(finished) <= CROWDED else front) if c.final_test_loss_sd]
    barred = [c for c in barred if c.final_test_loss <= ceiling]
    bars = np.array([(c.model_params, c.final_test_loss, c.final_test_loss_sd) for c in barred]).reshape(-1, 3)
    with mpl.rc_context(STYLE):
        title = f"Size and test loss of {_how_many(len(finished), len(ranking))}, latent size {latent_dim}"
        figure = _new_figure(4.2, title, note)
        axes = figure.add_subplot()
        axes.set_title(_what_a_point_is(finished, bool(len(bars))), loc="left", pad=8)
        axes.set_xlabel("Trainable parameters (log scale)")
        axes.set_ylabel(LOSS)
        axes.grid()
        set_scale(axes.xaxis, params.min(), params.max(), log=True, margin=0.08)
        heights, keys = _heights(axes, losses, bars, ceiling)
        points = np.column_stack([params, heights])  # [n, 2]
        if len(bars):
            axes.errorbar(bars[:, 0], bars[:, 1], bars[:, 2], fmt="none", ecolor="#A0A0A0", elinewidth=0.8, zorder=1.5)
        steps = _front_steps(front)
        line = axes.plot(*steps.T, label="Pareto front (none is\nboth smaller and better)", zorder=1.8, **_FRONT_LINE)
        depth_keys = _scatter_by_depth(axes, finished, points, front)
        axes.legend(handles=[*depth_keys, *line, *keys], loc="upper left", bbox_to_anchor=(1.03, 1.0), labelspacing=0.7)
        _fix_layout(figure)
        spans = [axes.transData.transform([[x, y - sd], [x, y + sd]]) for x, y, sd in bars]
        lines = [_points_along(span) for span in [axes.transData.transform(steps), *spans]]
        _name_points(axes, finished[0], front, np.concatenate([axes.transData.transform(points), *lines]))
    return figure


_FRONT_LINE: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 2))}


def _how_many(finished: int, all_: int) -> str:
    if finished < all_:
        return f"{finished:,} of {all_:,} configurations ({all_ - finished:,} failed)"
    return f"{finished:,} configurations" if finished > 1 else "the one configuration"


def _what_a_point_is(finished: Sequence[ConfigurationResult], any_bars: bool) -> str:
    repeats = max(len(c.trials) for c in finished)
    bar = "; bar: ± 1 standard deviation" + (" (Pareto front only)" if len(finished) > CROWDED else "")
    return (f"Point: mean over {repeats} repeats" if repeats > 1 else "One training each") + (bar if any_bars else "")


def loss_ceiling(losses: np.ndarray) -> float:
    """The loss above which points are drawn off the scale, so that a few do not squash the rest; else infinity.

    losses [n]. At most a tenth (but one, from three configurations on) is cut off, and only where the
    rest then fills the picture at least four times better.
    """
    ordered = np.sort(losses)
    spare = max(1, len(ordered) // 10) if len(ordered) >= 3 else 0
    best, kept, worst = ordered[0], ordered[len(ordered) - 1 - spare], ordered[-1]
    span = max(kept - best, 0.01 * abs(best))
    return float(kept + span) if worst - best > 4 * span else math.inf


def _heights(axes: Axes, losses: np.ndarray, bars: np.ndarray, ceiling: float) -> tuple[np.ndarray, list[Patch]]:
    """Sets the loss axis; returns where to draw each point [n] (off the scale: in a strip on top) and legend keys."""
    off = losses > ceiling
    low, high = losses[~off].min(), losses[~off].max()
    if len(bars):  # a bar may widen the range, but a single huge one may not squash the rest
        spare = max(high - low, 2 * float(np.median(bars[:, 2])))
        low, high = (
            max(low - spare, (bars[:, 1] - bars[:, 2]).min()),
            min(high + spare, max(high, (bars[:, 1] + bars[:, 2]).max())),
        )
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
        look["markeredgewidth"] = 0.4
        axes.plot(*points[on_front & (groups == depth)].T, markersize=max(size, 4.5), zorder=2.8, **look)
        many = " or more" if depth == last < depths.max() else ""
        words = f"{depth}{many} hidden layer{'s' if depth > 1 else ''}"
        keys.append(Line2D([], [], markersize=6, label=words, **look))
    return keys


def _front_steps(front: Sequence[ConfigurationResult]) -> np.ndarray:
    """[2k - 1, 2] the corners of the staircase through the front's k points."""
    corners = [(float(front[0].model_params), front[0].final_test_loss)]
    for c in front[1:]:
        corners += [(float(c.model_params), corners[-1][1]), (float(c.model_params), c.final_test_loss)]
    return np.array(corners)


def _points_along(line: np.ndarray, spacing: float = 8.0) -> np.ndarray:
    """Points on a polyline [k, 2], at most `spacing` pixels apart."""
    pieces = [line]
    for start, end in pairwise(line):
        t = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / spacing))[:, None]
        pieces.append((1 - t) * start + t * end)
    return np.concatenate(pieces)


def _name_points(
    axes: Axes, best: ConfigurationResult, front: Sequence[ConfigurationResult], drawn: np.ndarray
) -> None:
    """Names the best, and the others of the front where there is room. drawn [n, 2]: what to keep off, in pixels."""
    others = [c for c in reversed(front) if c is not best]
    others = others[:: max(1, math.ceil(len(others) / NAMED_ON_FRONT))]
    to_axes = axes.transAxes.inverted()
    taken = np.empty((0, 4))  # boxes of the labels placed so far: left, bottom, right, top
    for c, words in [(best, f"Best: {_name_loss_size(best)}"), *((c, _short_name(c.config)) for c in others)]:
        point = axes.transData.transform((c.model_params, c.final_test_loss))
        text = axes.text(0, 0, words, transform=axes.transAxes, fontsize=8, linespacing=1.25, va="bottom", zorder=4)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        extent = text.get_window_extent()
        box = _free_box(axes, point, np.array([extent.width, extent.height]), drawn, taken, required=c is best)
        if box is None:
            text.remove()
            continue
        text.set_position(tuple(to_axes.transform(box[:2])))
        taken = np.vstack([taken, box])
        leader = np.array([point, np.clip(point, box[:2], box[2:])])
        if np.hypot(*(leader[1] - leader[0])) > _pixels(10):
            ends = to_axes.transform(leader).T
            axes.add_line(Line2D(*ends, transform=axes.transAxes, color=INK, linewidth=0.6, zorder=1.9))
            drawn = np.concatenate([drawn, _points_along(leader)])


def _free_box(
    axes: Axes, point: np.ndarray, size: np.ndarray, drawn: np.ndarray, taken: np.ndarray, *, required: bool
) -> np.ndarray | None:
    """Where around `point` a label of `size` covers least, as (left, bottom, right, top), all in pixels.

    None if it would cover another label, leave the axes or hide a point, unless it is `required`.
    """
    unit = _pixels(1)
    angles = np.deg2rad(np.arange(0, 360, 22.5))
    directions = np.column_stack([np.cos(angles), np.sin(angles)])  # [16, 2]
    distances = unit * np.array([7.0, 12.0, 20.0, 32.0, 48.0, 70.0])
    to_border = directions / np.abs(directions).max(axis=1, keepdims=True)  # of a square; `size` makes it the label's
    centres = (point + distances[:, None, None] * directions + to_border * size / 2).reshape(-1, 2)  # [C, 2]
    low, high = centres - size / 2, centres + size / 2
    pad = 4 * unit  # a marker's radius
    frame = axes.get_window_extent()
    reach = distances[-1] + size + 2 * pad
    drawn = drawn[(np.abs(drawn - point) < reach).all(axis=1)]
    covered, near = (
        ((drawn > low[:, None] - room) & (drawn < high[:, None] + room)).all(axis=2).sum(axis=1)  # [C]
        for room in (pad, 2 * pad)
    )
    clashes = ((low[:, None] < taken[:, 2:] + pad) & (high[:, None] > taken[:, :2] - pad)).all(axis=2).sum(axis=1)
    outside = ((low < frame.p0 + pad) | (high > frame.p1 - pad)).any(axis=1)
    cost = covered + 0.03 * near + 1e4 * clashes + 1e6 * outside + np.repeat(distances, len(angles)) / (20 * unit)
    choice = int(cost.argmin())
    if not required and (outside[choice] or clashes[choice] or covered[choice]):
        return None
    return np.concatenate([low[choice], high[choice]])


# What both pictures share


def _finished(ranking: Sequence[ConfigurationResult]) -> list[ConfigurationResult]:
    finished = [c for c in ranking if c.failure is None]
    if not finished:
        raise ValueError("no configuration finished, there is nothing to draw")
    return finished


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


def _pixels(points: float) -> float:
    return points * DPI / 72


def _name_loss_size(c: ConfigurationResult) -> str:
    loss = loss_text(c.final_test_loss, c.final_test_loss_sd)
    return f"{_short_name(c.config)}\n{loss}\n{c.model_params:,} parameters"


def _short_name(config: Sequence[int]) -> str:
    if len(config) <= NAMED_LAYERS:
        return config_text(config)
    return f"[{', '.join(map(str, config[:3]))}, …, {config[-1]}] ({len(config)} layers)"
