"""Draws the learning curves of a search: the loss of the best configurations by epoch.

    figure = draw_curves(ranking, latent_dim=3, verdict=verdict)

Lines differ by colour and by dashes, so that they can be told apart in grey and by the colour-blind.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from layersearch.pictures.loss_axis import draw_baselines, loss_scale, off_axis_text
from layersearch.pictures.placing import fix_layout, spread_out
from layersearch.pictures.style import COLOURS, MARKERS, STYLE, WIDTH, new_figure, pixels, wrapped
from layersearch.pictures.survey import Survey, loss_name, name_loss_size, survey, trainings_text
from layersearch.space.ranking import ConfigurationResult, Drop
from layersearch.words import baseline_label, loss_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from layersearch.verdict.verdict import Verdict

DASHES = ("-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (9, 2)), (0, (1, 2)))

CAPTION = 0.88 * WIDTH  # inches: largest width of a line under the title
DROPPED_DRAWN = 300  # largest number of curves of dropped configurations that are drawn
DROPPED = "#B4B4B4"
FLOOR = 0.1  # the axis ends at this share of the lowest mean, even if a band extends further down


def draw_curves(
    ranking: Sequence[ConfigurationResult],
    *,
    latent_dim: int,
    verdict: Verdict,
    note: str | None = None,
    top: int = 5,
    space_size: int | None = None,
) -> Figure:
    """Draws the loss by epoch of the best configurations, with a band of ± 1 standard deviation, and the baselines.

    Configurations that were dropped early have grey curves, which end at the epoch of the drop.

    Args:
        ranking: The configurations that were tried, best first.
        latent_dim: Size of the latent space, for the title.
        verdict: The verdict on this ranking; its baselines are drawn.
        note: Small print at the foot of the picture.
        top: Number of configurations to draw.
        space_size: Number of configurations in the search space; by default those of the ranking.

    Raises:
        ValueError: No configuration finished.
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
    """Mean and standard deviation of the loss by epoch, [E], of the configuration with this rank (best: 0).

    E differs between configurations if training stops early.
    """

    configuration: ConfigurationResult
    rank: int
    mean: np.ndarray
    spread: np.ndarray


def _curves_of(shown: Sequence[ConfigurationResult]) -> list[_Curve]:
    return [_Curve(c, rank, c.test_curves.mean(axis=0), _spread(c)) for rank, c in enumerate(shown)]


def _lowest(curves: Sequence[_Curve]) -> float:
    """Returns the lower end of the loss axis. A band may extend below zero, which a logarithmic axis cannot show."""
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
    """Returns the standard deviation [E] over the repeats, or over the folds (means over repeats) if there are any."""
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
    """Returns the mean epoch at which its trainings ended; None if there is no early stopping."""
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
    """Returns the loss below which 95 % of these curves stay, so that a few high ones do not compress the others."""
    return [float(np.quantile([mean.max() for mean in grey], 0.95))] if grey else []


def _draw_dropped(axes: Axes, grey: Sequence[np.ndarray]) -> None:
    """Draws a thin line for each of these curves, and a dot where it ends."""
    if not grey:
        return
    lines = [np.column_stack([np.arange(1.0, len(mean) + 1), mean]) for mean in grey]
    axes.add_collection(LineCollection(lines, colors=DROPPED, linewidths=0.5, zorder=1.2), autolim=False)
    axes.plot(*np.array([line[-1] for line in lines]).T, ".", color=DROPPED, markersize=2.5, zorder=1.3)


def _epoch_axis(axes: Axes, epochs: int, drops: Sequence[int]) -> None:
    """Sets the epoch axis, which is logarithmic if configurations were dropped early, after the epochs `drops`."""
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
    words = name_loss_size(c, with_sd=c.folds == 1)
    kept = mean[-1] if _ended(c) is None else c.final_test_loss
    return _LineEnd(words, at[-1], kept, {"color": colour, "linewidth": width}, mean[-1] if len(at) < epochs else None)


def _line_style(rank: int) -> tuple[str, Any]:
    return COLOURS[rank % len(COLOURS)], DASHES[(rank + rank // len(COLOURS)) % len(DASHES)]


class _LineEnd(NamedTuple):
    words: str
    x: float
    y: float
    look: dict[str, Any]  # properties of the line
    early: float | None = None  # loss at the end of a line that stops before the axis does; it goes on at `y`


def _name_line_ends(figure: Figure, axes: Axes, ends: Sequence[_LineEnd]) -> None:
    """Writes the name of each line beside its end, moving names apart that would overlap."""
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
