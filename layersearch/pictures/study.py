"""Draws a study: how each level of each factor changes the loss, and the strongest interaction.

    figure = draw_study(study, latent_dim=3)

The left panel is a forest plot with a block of rows for each factor. The right panel shows the mean losses of the two
factors that interact most, with one line for each level of one of them; a study of a single factor has no right panel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.lines import Line2D

from layersearch.pictures.style import COLOURS, FAINT, INK, MARKERS, STYLE, new_figure, set_scale
from layersearch.space.naming import short_name
from layersearch.verdict.study import Interaction, MainEffect, Study
from layersearch.words import change_text, is_told, level_text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, FRAME = 0.19, 1.75  # inches: height of a row, and of all that is above and below the rows
SPACE = 0.4  # space between two factors, in rows
WIDE = 40  # number of characters that fit above the right panel
LOWEST = 3.05  # inches: smallest height of the picture
MOST_DOTS = 40  # if there are more configurations, this number of quantiles is drawn instead

BETTER: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "markersize": 5.5}
WORSE: dict[str, Any] = {"color": COLOURS[1], "marker": "s", "markersize": 5}
OPEN: dict[str, Any] = {"color": FAINT, "marker": "D", "markersize": 4.5}
REFERENCE: dict[str, Any] = {"color": INK, "marker": "o", "markersize": 5, "markerfacecolor": "white"}
LABELS = ((BETTER, "better"), (WORSE, "worse"), (OPEN, "cannot be told"))


class Row(NamedTuple):
    """A row of the forest plot: a factor's name, its reference level, or the effect of another level."""

    label: str
    y: float
    effect: MainEffect | None = None
    is_name: bool = False


def draw_study(study: Study, *, latent_dim: int, note: str | None = None) -> Figure:
    """Draws the main effects with their intervals, and the strongest interaction.

    The study must have at least one main effect. `latent_dim` is named in the title; `note` is small print at the foot.
    """
    rows = rows_of(study)
    low, high = limits(study)
    off = sum(int(((e.by_configuration < low) | (e.by_configuration > high)).sum()) for e in study.main_effects)
    words = [_explanation(study, off), f"Left out: {'; '.join(study.left_out)}" if study.left_out else "", note or ""]
    small_print = "\n".join(filter(None, words))
    with mpl.rc_context(STYLE):
        height = max(LOWEST, FRAME + ROW * rows[-1].y + 0.13 * len(small_print) / 105)
        figure = new_figure(height, title_of(study, latent_dim), small_print)
        if study.strongest is None:
            axes = figure.subplots()
        else:
            axes, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
            _draw_interaction(right, study, study.strongest)
        _draw_effects(axes, study, rows, (low, high))
    return figure


def title_of(study: Study, latent_dim: int) -> str:
    """Returns the title: which factors were varied and for how many epochs the configurations were trained."""
    names = [factor.name for factor in study.factors]
    what = f"What {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} do{'es' * (len(names) == 1)}"
    when = f"to the loss after {_length(study)}, latent size {latent_dim}"
    return f"{what} {when}" if len(what) + len(when) <= 80 else f"{what}\n{when}"


def _explanation(study: Study, off: int) -> str:
    n = len(study.layers)
    mean = f"mean change over {n:,} configurations" if n > 1 else f"change of {short_name(study.layers[0])}"
    bar = f"bar: its {percent(study.confidence)} interval over rows and trainings; all of them hold together"
    if not study.is_known:
        bar = "no intervals, since after one training each luck cannot be told from merit"
    dots = ["each configuration alone" if n <= MOST_DOTS else f"{MOST_DOTS} quantiles of the configurations"]
    dots += [f"({off:,} off the axis)"] if off else []
    sentences = [f"Marker: {mean}; {bar}."] + ([f"Dots: {' '.join(dots)}."] if n > 1 else [])
    return " ".join([*sentences, f"Measured after {_length(study)}; at other lengths the answer may differ."])


def _length(study: Study) -> str:
    return f"{study.epochs:,} epoch{'s' if study.epochs > 1 else ''}"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows of the forest plot from top to bottom."""
    rows: list[Row] = []
    for number, factor in enumerate(study.factors):
        space = SPACE * number
        effects = {e.level: e for e in study.main_effects if e.factor == factor.name}
        rows.append(Row(factor.name, len(rows) + space, is_name=True))
        for level in factor.levels:
            effect = effects.get(level)
            label = level_text(level) + ("" if effect else " (reference)")
            rows.append(Row(label, len(rows) + space, effect))
    return rows


def limits(study: Study) -> tuple[float, float]:
    """Returns the limits of the axis of changes, such that a few distant configurations do not compress the others."""
    shown = np.array([bound for e in study.main_effects for bound in (e.interval or (e.estimate,))] + [0.0])
    dots = np.concatenate([e.by_configuration for e in study.main_effects])
    reach = 0.6 * (shown.max() - shown.min())
    near = dots[(dots >= shown.min() - reach) & (dots <= shown.max() + reach)]
    everything = np.concatenate([shown, near])
    low, high = float(everything.min()), float(everything.max())
    spare = 0.05 * (high - low) or 0.01 * float(study.losses.mean())
    return low - spare, high + spare


def _draw_effects(axes: Axes, study: Study, rows: list[Row], reach: tuple[float, float]) -> None:
    set_scale(axes.xaxis, *reach, log=False, margin=0, most_ticks=5)
    axes.set_ylim(rows[-1].y + 0.6, -0.6)
    axes.set_yticks([row.y for row in rows], [row.label for row in rows])
    axes.tick_params(axis="y", length=0)
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if row.is_name else "normal")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1.5)
    axes.set_xlabel("Change of the loss (below 0 is better)")
    for row in rows:
        if row.effect:
            _draw_effect(axes, row.y, row.effect, len(study.layers))
        elif not row.is_name:
            axes.plot(0, row.y, linestyle="none", zorder=3, **REFERENCE)
    used = [_look(row.effect) for row in rows if row.effect]
    keys = [Line2D([], [], linewidth=1.4, label=label, **look) for look, label in LABELS if look in used]
    if study.is_known:
        axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, columnspacing=1.4)


def _look(effect: MainEffect) -> dict[str, Any]:
    if not is_told(effect.interval):
        return OPEN
    return BETTER if effect.estimate < 0 else WORSE


def _draw_effect(axes: Axes, y: float, effect: MainEffect, n_configurations: int) -> None:
    look = _look(effect)
    if n_configurations > 1:
        dots = np.sort(effect.by_configuration)
        if len(dots) > MOST_DOTS:
            dots = np.quantile(dots, (np.arange(MOST_DOTS) + 0.5) / MOST_DOTS)
        axes.scatter(dots, np.full(len(dots), y + 0.27), s=7, color=look["color"], alpha=0.35, linewidths=0, zorder=2)
    if effect.interval:
        axes.plot(effect.interval, [y, y], color=look["color"], linewidth=1.4, zorder=2.5)
    axes.plot(effect.estimate, y, linestyle="none", zorder=3, **look)


def _draw_interaction(axes: Axes, study: Study, interaction: Interaction) -> None:
    """Draws the mean losses of all levels of two factors; the one with more levels is on the horizontal axis."""
    factors = [factor for factor in study.factors if factor.name in interaction.factors]
    along, lines = sorted(factors, key=lambda factor: len(factor.levels), reverse=True)
    losses = study.mean_losses(*interaction.factors)  # [levels of factors[0], levels of factors[1]]
    if factors[0] is lines:
        losses = losses.T
    x = np.arange(len(along.levels))
    for number, (level, some) in enumerate(zip(lines.levels, losses.T, strict=True)):
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        axes.plot(x, some, label=level_text(level), linewidth=1.4, markersize=5, **look)
    set_scale(axes.yaxis, float(losses.min()), float(losses.max()), log=False, margin=0.08)
    ticks = [level_text(level) for level in along.levels]
    axes.set_xticks(x, ticks, rotation=90 if sum(map(len, ticks)) > WIDE / 2 else 0)
    axes.set_xlim(-0.35, len(x) - 0.65)
    axes.set(xlabel=along.name, ylabel="Mean loss")
    axes.grid(axis="y")
    axes.set_title(_interaction_title(study, interaction), loc="left", x=-0.24)
    axes.legend(title=lines.name, loc="best", ncols=1 + (len(lines.levels) > 5), alignment="left")


def _interaction_title(study: Study, interaction: Interaction) -> str:
    change = change_text(interaction.estimate, interaction.interval, study.mean_loss).replace("-", "−")
    names = [f"{f} {level_text(level)}" for f, level in zip(interaction.factors, interaction.levels, strict=True)]
    both = " with ".join(names)
    lines = ["Strongest interaction:", both if len(both) <= WIDE else both.replace(" with ", "\nwith "), change]
    return "\n".join(lines)
