"""The style of all pictures: size, colours, fonts, axes with plain numbers, and the conversion to PNG.

    with mpl.rc_context(STYLE), any_script():
        figure = new_figure(3.9, title, note)
        set_scale(figure.add_subplot().xaxis, low, high, log=True)
    path.write_bytes(png(figure))

Pictures fit the text width of a paper: 7 inches, no text smaller than 8 points, 200 dpi. They use Matplotlib's objects
and never pyplot, which is slow to import and keeps global state.

Source of the line colours: Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

WIDTH = 7.0  # inches: the text width of most journals
DPI = 200
INK, FAINT = "#222222", "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe & Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

OTHER_SCRIPTS = (  # fonts on Linux, macOS and Windows for scripts that DejaVu Sans lacks
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Segoe UI Symbol"),
)


def font_families() -> list[str]:
    """Returns the font families to use, in order of preference.

    DejaVu Sans comes first: it is part of Matplotlib, so that pictures look the same on every machine. The fonts of
    `OTHER_SCRIPTS` that are installed follow.
    """
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


STYLE: Any = {  # rcParams; Any, since Matplotlib's stubs accept literal keys only
    "font.family": font_families(),
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a label does not start a formula
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


HARD_SPACE = "\N{NO-BREAK SPACE}"


def wrapped(note: str, width: float) -> str:
    """Returns a text in small print, broken into lines that fit a width of `width` inches."""
    lines = [textwrap.fill(line.replace(" %", HARD_SPACE + "%"), int(width * 15)) for line in note.splitlines()]
    return "\n".join(lines).replace(HARD_SPACE, " ")


def png(figure: Figure) -> bytes:
    """Returns the figure as the content of a PNG file."""
    file = io.BytesIO()
    with any_script():
        figure.savefig(file, dpi=figure.dpi, facecolor="white", pil_kwargs={"compress_level": 3})
    return file.getvalue()


@contextmanager
def any_script() -> Iterator[None]:
    """Silences the warning about characters that no installed font has; they are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def pixels(points: float) -> float:
    """Converts a length from points to pixels of the finished picture."""
    return points * DPI / 72


def set_scale(
    axis: Axis,
    low: float,
    high: float,
    *,
    log: bool,
    margin: float = 0.04,
    lowest_tick: float = -math.inf,
    most_ticks: int = 7,
    whole: bool = False,
) -> None:
    """Sets the limits of an axis around low..high and its ticks to round values, written as plain numbers.

    Args:
        axis: The x or y axis of some axes.
        low: The lowest value that the axis must show.
        high: The highest value that it must show. A range narrower than 1 % of `high` is widened.
        log: Whether the scale is logarithmic; `low` must then be positive.
        margin: How far the limits lie outside low..high, as a share of the range.
        lowest_tick: The value below which there are no ticks.
        most_ticks: The largest number of intervals between ticks of a linear scale.
        whole: Whether to place the ticks of a linear scale at whole numbers if the range contains any.
    """
    if high - low <= 0.01 * abs(high):
        spare = 0.005 * abs(high) if not log else 0.2 * abs(high)
        low, high = low - (spare or 0.5), high + (spare or 0.5)
    if log:
        factor = (high / low) ** margin
        low, high = low / factor, high * factor
        ticks = _log_ticks(low, high)
    else:
        low, high = low - margin * (high - low), high + margin * (high - low)
        locator = MaxNLocator(nbins=most_ticks, steps=[1, 2, 2.5, 5, 10], integer=whole)
        ticks = list(locator.tick_values(low, high))
    name = "x" if isinstance(axis, XAxis) else "y"
    axis.axes.set(**{f"{name}scale": "log" if log else "linear", f"{name}lim": (low, high)})
    kept = [float(tick) for tick in ticks if max(low, lowest_tick) <= tick <= high]
    if log and name == "x":
        kept = _apart(kept, low, high)
    axis.set_major_locator(FixedLocator(kept))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter(tick_texts(kept, same_decimals=not log)))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    every = math.ceil(len(decades) / 7)
    steps: list[tuple[float, ...]] = [(1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)]
    for mantissas in steps:
        ticks = [decade * m for decade in decades[::every] for m in mantissas if low <= decade * m <= high]
        if len(ticks) >= 4:
            return ticks
    return list(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))


def _apart(ticks: Sequence[float], low: float, high: float) -> list[float]:
    """Returns those ticks whose labels do not touch on a logarithmic axis of 4 inches."""
    kept: list[float] = []
    for tick in ticks:
        inches = len(f"{tick:,.6g}") * 0.065 + 0.05
        if not kept or 4 * math.log(tick / kept[-1]) >= inches * math.log(high / low):
            kept.append(tick)
    return kept


def tick_texts(values: Sequence[float], *, same_decimals: bool) -> list[str]:
    """Returns tick labels as plain numbers; with `same_decimals`, all have as many decimals as the longest."""
    texts = [f"{value:,.6g}" for value in values]
    if same_decimals and not any("e" in text for text in texts):
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        texts = [f"{value:,.{decimals}f}" for value in values]
    return [text.replace("-", "−") for text in texts]


def empty_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Returns a figure of `width` × `height` inches whose texts can be measured while it is drawn."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def new_figure(height: float, title: str, note: str | None) -> Figure:
    """Returns an empty figure of `height` inches with a title and, at its foot, `note` as small print."""
    figure = empty_figure(WIDTH, height, layout="constrained")
    figure.suptitle(title, x=0.012, ha="left", fontsize=10, fontweight="bold")
    if note:
        figure.supxlabel(wrapped(note, WIDTH), x=0.012, ha="left", fontsize=8, color=FAINT)
    return figure
