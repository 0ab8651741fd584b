"""Draws the verdict: how far each configuration lies above the best, and which are tied with it.

    figure = draw_verdict(verdict, ranking, latent_dim=3)

The picture is a forest plot with a row for each configuration: name, parameters and loss, then the difference from the
best with its interval. The layout is computed in inches: the number of rows determines the height, and the longest name
determines the width that is left for the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import blended_transform_factory

from layersearch.pictures.loss_axis import BASELINE_DASHES, baseline_text, loss_ceiling, make_room
from layersearch.pictures.style import COLOURS, DPI, FAINT, INK, STYLE, WIDTH, empty_figure, set_scale, wrapped
from layersearch.pictures.survey import Survey, loss_name, survey, trainings_text
from layersearch.space.naming import name_in_words, short_name
from layersearch.space.ranking import ConfigurationResult
from layersearch.words import baseline_label, loss_text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from layersearch.verdict.verdict import Baseline, Verdict

MOST_ROWS = 20
ROW, TITLE_LINE, LINE = 0.175, 0.18, 0.145  # inches: height of a row, of a line of the title, of any other line
MARGIN, GAP, AXIS = 0.085, 0.16, 0.42  # inches: around the picture, between columns, below the axis
TICK = 0.5  # inches: width of the axis that a tick label needs

TIED: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "markersize": 5.5}
RECOMMENDED: dict[str, Any] = {"color": COLOURS[2], "marker": "D", "markersize": 5.5}
NOT_TIED: dict[str, Any] = {"color": COLOURS[1], "marker": "s", "markersize": 4.8, "markerfacecolor": "white"}
UNKNOWN: dict[str, Any] = {"color": COLOURS[6], "marker": "o", "markersize": 4.8, "markerfacecolor": "white"}
HEADER: dict[str, Any] = {"color": FAINT, "fontsize": 8}


class Row(NamedTuple):
    """A configuration in the forest plot: its rank from 0, its row, its difference from the best, and the interval."""

    configuration: ConfigurationResult
    rank: int
    y: int
    difference: float
    low: float  # equal to the difference if there is no interval
    high: float


def draw_verdict(
    verdict: Verdict,
    ranking: Sequence[ConfigurationResult],
    *,
    latent_dim: int,
    note: str | None = None,
    space_size: int | None = None,
) -> Figure:
    """Draws the best 20 configurations, and the recommended one, by their difference from the best.

    Args:
        verdict: The verdict on this ranking.
        ranking: The configurations that were tried, best first, failed ones last.
        latent_dim: Size of the latent space, for the caption.
        note: More small print at the foot of the picture.
        space_size: Number of configurations in the search space; by default those of the ranking.

    Raises:
        ValueError: No configuration finished.
    """
    searched = survey(ranking, space_size)
    finished = searched.finished
    rows = choose_rows(verdict, finished)
    low, high = limits(verdict, rows)
    near = [baseline for baseline in verdict.baselines if low <= -baseline.difference <= high]
    absent = "; ".join(baseline_text(b) for b in verdict.baselines if b not in near)
    title = wrapped(title_of(verdict, searched), 0.8 * WIDTH)
    off_axis = f"Off the axis: {absent}" if absent else ""
    small_print = [*_explanation(verdict), searched.left_out, off_axis, note or ""]
    below_axes = wrapped("\n".join(filter(None, small_print)), WIDTH)
    levels = _levels(near, high - low)
    has_legend = verdict.is_known and len(finished) > 1
    with mpl.rc_context(STYLE):
        above = 2 * MARGIN + TITLE_LINE * _lines(title) + LINE * (3.3 + max(levels, default=0))
        height = ROW * (rows[-1].y + 1)
        below = AXIS + LINE * (2 * has_legend + _lines(below_axes)) + 2 * MARGIN
        total = above + height + below
        figure = empty_figure(WIDTH, total)
        axes = figure.add_axes((0, 0, 1, 1))
        _write_around(figure, title, _what_is_shown(verdict, searched, rows, latent_dim), below_axes)
        left, right = _write_columns(axes, verdict, rows)
        axes.set_position((left / WIDTH, below / total, (right - left) / WIDTH, height / total))
        _set_axes(axes, rows, (low, high))
        axes.set_xlabel(f"{loss_name(verdict.best)} above that of the best ({loss_text(verdict.best.final_test_loss)})")
        for row in rows:
            _draw_row(axes, row, _look(verdict, row.configuration))
        for baseline, level in zip(near, levels, strict=True):
            dashes = BASELINE_DASHES[verdict.baselines.index(baseline) % len(BASELINE_DASHES)]
            _draw_baseline(axes, baseline, level, dashes)
        if has_legend:
            _draw_legend(figure, verdict, rows, corner=(MARGIN / WIDTH, (below - AXIS) / total))
    return figure


def choose_rows(verdict: Verdict, finished: Sequence[ConfigurationResult]) -> list[Row]:
    """Returns rows for the best 20 finished configurations and, after a gap, the recommended one if it ranks lower."""
    shown = list(enumerate(finished[:MOST_ROWS]))
    if verdict.recommended.config not in {c.config for _, c in shown}:
        shown.append(([c.config for c in finished].index(verdict.recommended.config), verdict.recommended))
    rows = []
    for rank, c in shown:
        difference = c.final_test_loss - verdict.best.final_test_loss
        interval = verdict.standings[c.config].difference_interval
        y = min(rank, MOST_ROWS + 1)  # the row in between represents those left out
        rows.append(Row(c, rank, y, difference, *(interval or (difference, difference))))
    return rows


def limits(verdict: Verdict, rows: Sequence[Row]) -> tuple[float, float]:
    """Returns the axis limits, such that distant rows and baselines and wide intervals do not compress the others."""
    differences, lows, highs = (np.array(column) for column in list(zip(*rows, strict=True))[3:])
    kept = differences <= loss_ceiling(differences + verdict.best.final_test_loss) - verdict.best.final_test_loss
    widest = differences[kept].max()
    spare = max(widest, 3 * float(np.median(highs - lows)) / 2)
    low, high = max(lows[kept].min(), -spare), min(highs[kept].max(), widest + spare)
    if high <= low:
        low, high = low - 0.1 * verdict.best.final_test_loss, high + 0.1 * verdict.best.final_test_loss
    return make_room(float(low), float(high), [-baseline.difference for baseline in verdict.baselines])


def title_of(verdict: Verdict, searched: Survey) -> str:
    """Returns the verdict in one sentence that names the configurations for which it holds."""
    name, sure = name_in_words(verdict.best.config), f"({percent(verdict.confidence)})"
    others, tied = len(verdict.standings) - 1, len(verdict.tied) - 1
    which = searched.which or ("that finished" if searched.failed else "")
    which = f" {which}" if which else ""
    if others == 0:
        return f"{name} is the only configuration{which}: there is nothing to compare it with"
    if not verdict.is_known:
        return f"{name} is the best measured; whether it is better, one training each cannot tell"
    if tied == 0:
        return f"{name} is the only one of {others + 1:,} configurations{which} not ruled out as the best {sure}"
    all_ = f"{others + 1:,} configurations{which}"
    tied_ones = (f"both {all_[2:]}" if others == 1 else f"all {all_}") if tied == others else f"{tied + 1:,} of {all_}"
    return f"{name} is the best measured; {tied_ones} are tied for best {sure}"


def _what_is_shown(verdict: Verdict, searched: Survey, rows: Sequence[Row], latent_dim: int) -> str:
    finished = len(searched.finished)
    these = f"{searched.which} (of {searched.space_size:,})" if searched.which else "configurations"
    which = f"The best {MOST_ROWS} of {finished:,} {these}"
    if finished <= MOST_ROWS:
        some = ("One", "Both") if not searched.which else ("The one", "Both")
        which = dict(enumerate(some, start=1)).get(finished, f"All {finished}")
        which += f" {these.removesuffix('s') if finished == 1 else these}"
    which += " and the recommended one" if rows[-1].rank >= MOST_ROWS else ""
    which += f" ({searched.failed:,} more failed)" if searched.failed and not searched.which else ""
    trainings = trainings_text(verdict.best)
    return f"{which}, latent size {latent_dim}; " + (f"means over {trainings}" if trainings else "one training each")


def _explanation(verdict: Verdict) -> list[str]:
    if len(verdict.standings) == 1:
        return []
    if not verdict.is_known:
        return [
            "Marker: measured difference. No intervals, nothing tied or ruled out: after one training each, luck in "
            "training cannot be told from merit. With --repeats 5 it can."
        ]
    return [
        f"Marker: measured difference; bar: its {percent(verdict.confidence)} interval, over {verdict.resampled} and "
        "trainings, of each comparison alone. “Tied” takes all comparisons together: a bar may just miss zero and "
        "its configuration be tied, or reach zero and its configuration not be."
    ]


def _look(verdict: Verdict, c: ConfigurationResult) -> dict[str, Any]:
    if not verdict.is_known or len(verdict.standings) == 1:
        return UNKNOWN
    if c.config == verdict.recommended.config:
        return RECOMMENDED
    return TIED if verdict.standings[c.config].is_tied else NOT_TIED


def _status(verdict: Verdict, c: ConfigurationResult) -> str:
    if len(verdict.standings) == 1:
        return ""
    words = ["best" if verdict.is_known else "best measured"] if c.config == verdict.best.config else []
    if verdict.is_known and c.config == verdict.recommended.config:
        words.append("recommended")
    return ", ".join(words) or ("tied" if verdict.standings[c.config].is_tied else "")


def _recommended_text(verdict: Verdict) -> str:
    if verdict.recommended is verdict.best:
        return "The best, recommended"
    return f"Recommended: the smallest within {percent(verdict.margin)}"


def _lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def _write_around(figure: Figure, title: str, shown: str, small_print: str) -> None:
    inches, top = figure.dpi_scale_trans, float(figure.get_figheight()) - MARGIN
    figure.text(MARGIN, top, title, transform=inches, va="top", fontsize=10, fontweight="bold", linespacing=1.25)
    below_title = top - MARGIN - TITLE_LINE * _lines(title)
    figure.text(MARGIN, below_title, shown, transform=inches, va="top")
    figure.text(MARGIN, MARGIN, small_print, transform=inches, va="bottom", fontsize=8, color=FAINT, linespacing=1.25)


def _write_columns(axes: Axes, verdict: Verdict, rows: Sequence[Row]) -> tuple[float, float]:
    """Writes name, parameters and loss to the left of the axis and the status to its right.

    Returns:
        The positions at which the axis between them may begin and end, in inches from the left.
    """
    chosen = {verdict.best.config, verdict.recommended.config} if len(rows) > 1 else set()
    across = blended_transform_factory(axes.figure.dpi_scale_trans, axes.transData)

    def write(header: str, words: Sequence[str], align: str, start: float) -> float:
        """Writes a column whose left edge is at `start`; returns its right edge."""
        texts = [axes.text(0, -0.62, header, transform=across, va="bottom", **HEADER)]
        for row, word in zip(rows, words, strict=True):
            weight = "bold" if row.configuration.config in chosen else "normal"
            texts.append(axes.text(0, row.y, word, transform=across, va="center_baseline", fontsize=8, weight=weight))
        end = start + max(text.get_window_extent().width for text in texts) / DPI
        for text in texts:
            text.set(x=start if align == "left" else end, ha=align)
        return end

    shown = [row.configuration for row in rows]
    end = write("Hidden layers", [short_name(c.config) for c in shown], "left", MARGIN)
    end = write("Parameters", [f"{c.model_params:,}" for c in shown], "right", end + GAP)
    left = write("Loss", [loss_text(c.final_test_loss) for c in shown], "right", end + GAP) + GAP
    statuses = [_status(verdict, c) for c in shown]
    width = write("", statuses, "left", 0)
    right = WIDTH - MARGIN - GAP - max(width, GAP)  # GAP leaves room for a tick label at the end of the axis
    for text in axes.texts[-len(rows) :]:
        text.set_x(right + GAP)
    left_out = rows[-1].rank - MOST_ROWS
    if left_out > 0:
        axes.text(MARGIN, MOST_ROWS, f"… {left_out:,} more …", transform=across, va="center_baseline", **HEADER)
    return left, right


def _set_axes(axes: Axes, rows: Sequence[Row], reach: tuple[float, float]) -> None:
    room = axes.get_window_extent().width / DPI
    set_scale(axes.xaxis, *reach, log=False, most_ticks=min(7, int(room / TICK)))
    axes.set_ylim(rows[-1].y + 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1.5)
    across = blended_transform_factory(axes.figure.dpi_scale_trans, axes.transData)
    for row in rows[1::2]:  # stripes make it easier to follow a row from the name to the interval
        stripe = Rectangle((0, row.y - 0.5), WIDTH, 1, transform=across, color="#F4F4F4", linewidth=0, zorder=0)
        stripe.set_clip_on(False)
        axes.add_patch(stripe)


def _draw_row(axes: Axes, row: Row, look: dict[str, Any]) -> None:
    """Draws a marker and an interval; an arrow at the edge of the axis replaces what lies outside."""
    start, end = axes.get_xlim()
    colour = look["color"]
    if row.low < row.high and row.low < end:
        axes.plot([max(row.low, start), min(row.high, end)], [row.y] * 2, color=colour, linewidth=1.4, zorder=2)
    arrow: dict[str, Any] = {"color": colour, "markersize": 5, "clip_on": False, "zorder": 3}
    if row.low < start:
        axes.plot(start, row.y, marker="<", **arrow)
    if max(row.high, row.difference) > end:
        axes.plot(end, row.y, marker=">", **arrow)
    if row.difference <= end:
        axes.plot(row.difference, row.y, linestyle="none", zorder=3, **look)
        return
    words = axes.annotate(
        f"+{loss_text(row.difference)}",
        (end, row.y),
        (-6, 0),
        textcoords="offset points",
        ha="right",
        va="center_baseline",
        fontsize=8,
    )
    words.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _levels(near: Sequence[Baseline], span: float) -> list[int]:
    """Returns the line above the axis for the name of each baseline, so that the names do not overlap."""
    levels: list[int] = []
    for i, baseline in enumerate(near):
        beside = [levels[j] for j in range(i) if abs(near[j].difference - baseline.difference) < 0.6 * span]
        levels.append(max(beside, default=-1) + 1)
    return levels


def _draw_baseline(axes: Axes, baseline: Baseline, level: int, dashes: Any) -> None:
    """Draws a baseline as a line across all rows, with its name above."""
    x, name = -baseline.difference, baseline_label(baseline.name, baseline.components)
    frame = axes.get_window_extent()
    axes.axvline(x, color=FAINT, linewidth=1.1, linestyle=dashes, zorder=1.6)
    text = axes.text(0, 0, name, fontsize=8, ha="center", va="bottom")
    half = text.get_window_extent().width / 2
    centre = max(min(axes.transData.transform((x, 0))[0], frame.x1 - half), frame.x0 + half)
    place = axes.transData.inverted().transform((centre, frame.y1 + DPI * (0.03 + LINE * level)))
    text.set_position((float(place[0]), float(place[1])))


def _draw_legend(figure: Figure, verdict: Verdict, rows: Sequence[Row], corner: tuple[float, float]) -> None:
    used = [_look(verdict, row.configuration) for row in rows]
    words = [
        (TIED, f"Tied with the best ({percent(verdict.confidence)})"),
        (RECOMMENDED, _recommended_text(verdict)),
        (NOT_TIED, "Not tied"),
    ]
    keys = [Line2D([], [], linewidth=1.4, label=label, **look) for look, label in words if look in used]
    figure.legend(handles=keys, loc="upper left", bbox_to_anchor=corner, ncols=3, columnspacing=1.6)
