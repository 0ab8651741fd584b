"""What all pictures share: size, colours, fonts, axes in plain numbers, and how they are saved.

    with mpl.rc_context(STYLE), any_script():
        set_scale(axes.xaxis, low, high, log=True)
    save(figure, path)

Made for a column of a paper: 7 inches wide, no text under 8 points, 200 dpi. Only Matplotlib's objects
are used, never pyplot: it starts slowly and keeps global state. Used by `plots.py` and `latent_plots.py`.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from files import replacing

WIDTH = 7.0  # inches: the text width of most journals
DPI = 200
INK, FAINT = "#222222", "#767676"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STYLE: Any = {  # rcParams; Matplotlib's stubs want each key as a literal
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same picture everywhere
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a label is a "$"
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 8.5,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.0,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


def wrapped(note: str, width: float) -> str:
    """The small print, broken into lines that fit a picture of `width` inches."""
    return "\n".join(textwrap.fill(line, int(width * 15)) for line in note.splitlines())


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG to `path`, whole or not at all."""
    with replacing(path) as temporary, any_script():
        figure.savefig(temporary, dpi=figure.dpi, facecolor="white")


@contextmanager
def any_script() -> Iterator[None]:
    """Labels may be in a script that the font lacks: boxes then, but no warnings on the console."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def set_scale(
    axis: Axis, low: float, high: float, *, log: bool, margin: float = 0.04, lowest_tick: float = -math.inf
) -> None:
    """Limits around low..high, round ticks in plain numbers. A range of next to nothing is widened to 1 %."""
    if high - low <= 0.01 * abs(high):
        spare = 0.005 * abs(high) if not log else 0.2 * abs(high)
        low, high = low - (spare or 0.5), high + (spare or 0.5)
    if log:
        factor = (high / low) ** margin
        low, high = low / factor, high * factor
        ticks = _log_ticks(low, high)
    else:
        low, high = low - margin * (high - low), high + margin * (high - low)
        ticks = list(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    name = "x" if isinstance(axis, XAxis) else "y"
    axis.axes.set(**{f"{name}scale": "log" if log else "linear", f"{name}lim": (low, high)})
    kept = [float(tick) for tick in ticks if max(low, lowest_tick) <= tick <= high]
    axis.set_major_locator(FixedLocator(kept))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter(_tick_texts(kept, same_decimals=not log)))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    every = math.ceil(len(decades) / 7)
    steps: list[tuple[float, ...]] = [(1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)]
    for mantissas in steps:
        ticks = [decade * m for decade in decades[::every] for m in mantissas if low <= decade * m <= high]
        if len(ticks) >= 4:
            return ticks
    return list(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))


def _tick_texts(values: Sequence[float], *, same_decimals: bool) -> list[str]:
    texts = [f"{value:,.6g}" for value in values]
    if same_decimals and not any("e" in text for text in texts):
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        texts = [f"{value:,.{decimals}f}" for value in values]
    return [text.replace("-", "−") for text in texts]
