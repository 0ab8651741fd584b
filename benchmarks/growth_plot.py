"""Draws the results of `growth.py`: the time of each sweep, with the line of proportional growth, and its memory.

plot_growth(rows, Path("benchmarks/growth.png"), machine="…")
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import matplotlib as mpl  # noqa: E402 - the project's modules lie one folder up
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator  # noqa: E402

from layersearch.pictures.style import COLOURS, FAINT, STYLE, WIDTH, empty_figure, png, wrapped  # noqa: E402

if TYPE_CHECKING:
    from growth import Row
    from matplotlib.axes import Axes

TITLES = {
    "configurations": "Configurations",
    "repeats": "Repeats × folds",
    "rows": "Rows",
    "columns": "Columns",
    "widths": "Width (2 layers)",
    "layers": "Layers (of 64)",
    "batch": "Batch size",
    "threads": "Trainings at a time",
}
LOOKS: dict[str, dict[str, Any]] = {
    "command": {"color": COLOURS[6], "marker": "s", "label": "Whole command"},
    "training": {"color": COLOURS[0], "marker": "o", "label": "Trainings"},
    "verdict": {"color": COLOURS[1], "marker": "D", "label": "Verdict"},
    "reports": {"color": COLOURS[3], "marker": "v", "label": "Pictures, JSON, CSV"},
    "loading": {"color": COLOURS[2], "marker": "^", "label": "Reading the table"},
}
PROPORTIONAL: dict[str, Any] = {"color": "#9A9A9A", "linestyle": (0, (4, 2)), "linewidth": 1.0}
FOLDS = ", folds"
ACROSS = 4  # number of panels in a row
BLOCK, AROUND = 3.3, 1.1  # inches: height of a row of sweeps, and of title, legend and small print
MEMORY_TICKS = (250, 500, 1000, 2000, 4000, 8000)  # MB


def plot_growth(rows: Sequence[Row], path: Path, *, machine: str) -> None:
    """Draws all sweeps among these rows and writes the picture to `path`."""
    path.write_bytes(png(draw_growth(rows, machine=machine)))


def draw_growth(rows: Sequence[Row], *, machine: str) -> Figure:
    """Draws rows of up to four sweeps, each with a panel for the time and one for the peak memory below it."""
    sweeps = [name for name in TITLES if any(row.sweep == name for row in rows)]
    blocks = -(-len(sweeps) // ACROSS)
    with mpl.rc_context(STYLE):
        figure = empty_figure(WIDTH, AROUND + BLOCK * blocks, layout="constrained")
        panels: Any = figure.subplots(2 * blocks, ACROSS, squeeze=False, height_ratios=[1.5, 1] * blocks)
        top = max(row.peak_memory_mb for row in rows)
        for place, name in enumerate(sweeps):
            here = [row for row in rows if row.sweep == name]
            above, below = (panels[2 * (place // ACROSS) + part, place % ACROSS] for part in (0, 1))
            _draw_time(above, here, first=place % ACROSS == 0)
            _draw_memory(below, here, top, first=place % ACROSS == 0)
        for place in range(len(sweeps), blocks * ACROSS):
            for part in (0, 1):
                panels[2 * (place // ACROSS) + part, place % ACROSS].set_visible(False)
        _add_words(figure, machine)
    return figure


def _draw_time(axes: Axes, rows: Sequence[Row], *, first: bool) -> None:
    sweep = rows[0].sweep
    series = list(dict.fromkeys(row.series for row in rows))
    for name in series:
        some = sorted((row for row in rows if row.series == name), key=lambda row: row.value)
        look = {key: value for key, value in LOOKS[name.removesuffix(FOLDS)].items() if key != "label"}
        if name.endswith(FOLDS):
            if name != "training" + FOLDS:
                continue
            look |= {"markerfacecolor": "white", "linestyle": "none"}
        x, y = [row.value for row in some], np.array([row.seconds for row in some])
        axes.plot(x, y, markersize=3.8, linewidth=1.3, clip_on=False, zorder=2.5, **look)
        axes.vlines(x, [row.low for row in some], [row.high for row in some], color=look["color"], linewidth=1.0)
    trained = sorted((row for row in rows if row.series == "training"), key=lambda row: row.value)
    line = [trained[0].seconds * row.expected / trained[0].expected for row in trained]
    axes.plot([row.value for row in trained], line, zorder=1.6, **PROPORTIONAL)
    axes.set(xscale="log", yscale="log")
    _set_ticks(axes, trained)
    low, high = axes.get_ylim()
    if high / low < 20:
        axes.set_ylim(low / 1.6, high * 1.6)
    axes.grid(axis="y")
    axes.tick_params(axis="y", which="minor", left=False)
    axes.yaxis.set_minor_formatter(NullFormatter())
    _set_seconds(axes)
    if first:
        axes.set_ylabel("Processor seconds" + ("" if len(series) > 1 else "\nper epoch"))
    axes.tick_params(axis="x", labelbottom=False)
    axes.set_title(_key_figure(sweep, trained), loc="left", pad=4, fontsize=8, color=FAINT)
    axes.annotate(TITLES[sweep], (0, 1), (0, 16), "axes fraction", "offset points", fontweight="bold")


def _set_seconds(axes: Axes) -> None:
    """Sets the ticks to the decades within the limits or, if there are fewer than two, to 1, 2 and 5 of each decade."""
    low, high = axes.get_ylim()
    decades = [10.0**power for power in range(-6, 6)]
    ticks = [tick for tick in decades if low <= tick <= high]
    if len(ticks) < 2:
        ticks = [tick * part for tick in decades for part in (1, 2, 5) if low <= tick * part <= high]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:.6g}" for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())


def _key_figure(sweep: str, trained: Sequence[Row]) -> str:
    """Returns the main result of a sweep in a few words."""
    if sweep == "threads":
        ratios = re.findall(r"([\d.]+) x", trained[-1].note)
        return " × (loop: ".join(ratios) + " ×)"
    each = [row.seconds / row.expected for row in trained]
    if sweep == "configurations":
        trainings = [row.seconds / int(row.note.partition(" ")[0]) for row in trained]
        return f"{1e3 * min(trainings):.3g} to {1e3 * max(trainings):.3g} ms a training"
    last = each[-1] / each[0]
    return f"{last:.2f} × proportional" if sweep != "batch" else f"{last:.2f} × that of {trained[0].value}"


def _draw_memory(axes: Axes, rows: Sequence[Row], top: float, *, first: bool) -> None:
    trained = sorted((row for row in rows if row.series == "training"), key=lambda row: row.value)
    folded = sorted((row for row in rows if row.series == "training" + FOLDS), key=lambda row: row.value)
    look: dict[str, Any] = {"color": COLOURS[5], "markersize": 3.8, "linewidth": 1.3, "clip_on": False}
    axes.plot([row.value for row in trained], [row.peak_memory_mb for row in trained], marker="P", **look)
    if folded:
        look |= {"markerfacecolor": "white", "linestyle": "none"}
        axes.plot([row.value for row in folded], [row.peak_memory_mb for row in folded], marker="P", **look)
    axes.set(xscale="log", yscale="log", ylim=(230, 1.15 * max(top, 1000)))
    _set_ticks(axes, trained)
    ticks = [tick for tick in MEMORY_TICKS if tick <= 1.15 * max(top, 1000)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:,}" for tick in ticks] if first else [""] * len(ticks)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    if first:
        axes.set_ylabel("Peak MB")


def _set_ticks(axes: Axes, rows: Sequence[Row]) -> None:
    values = [row.value for row in rows]
    low, high = values[0], values[-1]
    spare = (high / low) ** 0.06
    axes.set_xlim(low / spare, high * spare)
    gap, shown = (high / low) ** 0.24, [low]
    for value in values[1:-1]:
        if value / shown[-1] >= gap and high / value >= gap:
            shown.append(value)
    shown.append(high)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FixedFormatter([_short(value) for value in shown]))
    axes.xaxis.set_minor_locator(NullLocator())


def _short(value: int) -> str:
    """Returns a short text for a tick: `200k`, `1M`."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def _add_words(figure: Figure, machine: str) -> None:
    keys = [Line2D([], [], markersize=4, linewidth=1.3, **look) for look in LOOKS.values()]
    keys += [Line2D([], [], label="Proportional growth", **PROPORTIONAL)]
    keys += [Line2D([], [], color=COLOURS[5], marker="P", markersize=4, linewidth=1.3, label="Peak memory")]
    title: Any = {"title": "How time and peak memory grow", "alignment": "left", "columnspacing": 1.4}
    legend = figure.legend(handles=keys, loc="outside upper left", ncols=4, borderpad=0.2, **title)
    legend.get_title().set(fontsize=10, fontweight="bold")
    note = (
        "All axes are logarithmic. Bars: range of the runs. “× proportional”: the trainings of the last point, against "
        "the grey line. White: 5 folds × 1 and 3 repeats, each trained on four fifths of the training rows. Trainings "
        "at a time: by the clock; loop: one that needs nothing but a processor. "
        f"{machine}."
    )
    figure.supxlabel(wrapped(note, WIDTH), x=0.012, ha="left", fontsize=8, color=FAINT)
