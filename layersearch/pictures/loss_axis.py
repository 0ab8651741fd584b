"""Draws the loss axis of a search's pictures: its scale, the baselines across it and the band of tied configurations.

loss_scale(axes, low, high, ranking[0], verdict)
keys = [*draw_tied(axes, losses, verdict), *baseline_keys(axes, verdict)]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layersearch.pictures.placing import points_along
from layersearch.pictures.style import FAINT, set_scale
from layersearch.pictures.survey import loss_name
from layersearch.space.ranking import ConfigurationResult
from layersearch.words import baseline_label, loss_text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from layersearch.verdict.verdict import Baseline, Verdict


BASELINE_DASHES = ((0, (1, 1.5)), (0, (7, 2, 1, 2)), (0, (3, 2)))  # in the order of the verdict's baselines


def baseline_text(baseline: Baseline) -> str:
    """Returns the name and the loss of a baseline."""
    return f"{baseline_label(baseline.name, baseline.components)}: {loss_text(baseline.loss)}"


def loss_ceiling(losses: np.ndarray) -> float:
    """Returns the loss above which points are drawn apart, so that a few high ones do not compress the others.

    At most a tenth of the losses is drawn apart (of three or more losses, at least one may be), and only if this makes
    the axis at least four times shorter.

    Args:
        losses: The losses, [n], in any order.

    Returns:
        The highest loss on the axis; infinity if none is drawn apart.
    """
    ordered = np.sort(losses)
    spare = max(1, len(ordered) // 10) if len(ordered) >= 3 else 0
    best, kept, worst = ordered[0], ordered[len(ordered) - 1 - spare], ordered[-1]
    span = max(kept - best, 0.01 * abs(best))
    return float(kept + span) if worst - best > 4 * span else math.inf


def make_room(low: float, high: float, wanted: Sequence[float]) -> tuple[float, float]:
    """Returns the range low..high, widened to include values in `wanted` that lie at most half its width outside."""
    reach = 0.5 * (high - low)
    near = [value for value in wanted if low - reach <= value <= high + reach]
    return min([low, *near]), max([high, *near])


def draw_baselines(axes: Axes, verdict: Verdict) -> tuple[list[tuple[Baseline, dict[str, Any]]], list[Baseline]]:
    """Draws a line for each baseline within the axes.

    Returns:
        The baselines drawn, each with the properties of its line, and the baselines outside the axis.
    """
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


def off_axis_text(baseline: Baseline, axes: Axes) -> str:
    """Returns the name and loss of a baseline outside the axis, and on which side it lies."""
    where = "above" if baseline.loss > axes.get_ylim()[1] else "below"
    return f"{baseline_text(baseline)} ({where} the axis)"


def baseline_keys(axes: Axes, verdict: Verdict) -> list[Line2D]:
    """Draws the baselines and returns their legend keys, which have no line for baselines outside the axis."""
    inside, outside = draw_baselines(axes, verdict)
    keys = [Line2D([], [], label=baseline_text(baseline), **look) for baseline, look in inside]
    absent = [off_axis_text(baseline, axes).replace(" (", "\n(") for baseline in outside]
    return keys + [Line2D([], [], linestyle="none", label=words) for words in absent]


def loss_scale(axes: Axes, low: float, high: float, c: ConfigurationResult, verdict: Verdict) -> None:
    """Scales and labels the loss axis for the range low..high and the baselines near it; a wide range is logarithmic.

    `c` is any configuration of the search; the name of the axis depends on whether it has folds.
    """
    log = bool(low > 0 and high / low > 2.5)
    losses = [baseline.loss for baseline in verdict.baselines]
    if log:
        logs = make_room(math.log(low), math.log(high), [math.log(loss) for loss in losses if loss > 0])
        low, high = math.exp(logs[0]), math.exp(logs[1])
    else:
        low, high = make_room(low, high, losses)
    set_scale(axes.yaxis, low, high, log=log)
    axes.set_ylabel(f"{loss_name(c)}\n(weighted mean squared error" + (", log scale)" if log else ")"))


def draw_tied(axes: Axes, losses: np.ndarray, verdict: Verdict) -> list[Patch]:
    """Draws a band from the lowest to the highest loss of the tied configurations and returns its legend key.

    If fewer than two configurations are tied, nothing is drawn. `losses` [n] are those of all configurations; the key
    counts the ones within the band that are not tied.
    """
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


def points_across(axes: Axes, verdict: Verdict) -> np.ndarray:
    """Returns points on the baselines and the edges of the tied band, in pixels, [n, 2], which labels avoid."""
    heights = [baseline.loss for baseline in verdict.baselines]
    if len(verdict.tied) > 1:
        tied = [c.final_test_loss for c in verdict.tied]
        heights += [min(tied), max(tied)]
    frame = axes.get_window_extent()
    levels = [axes.transData.transform((axes.get_xlim()[0], height))[1] for height in heights]
    lines = [np.array([(frame.x0, y), (frame.x1, y)]) for y in levels if frame.y0 <= y <= frame.y1]
    return np.concatenate([np.empty((0, 2)), *map(points_along, lines)])
