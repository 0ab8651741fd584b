"""What all pictures share: size, colours, fonts, axes in plain numbers, words, and how they are saved.

    with mpl.rc_context(STYLE), any_script():
        set_scale(axes.xaxis, low, high, log=True)
    save(figure, path)

Made for a column of a paper: 7 inches wide, no text under 8 points, 200 dpi. Only Matplotlib's objects
are used, never pyplot: it starts slowly and keeps global state. Used by `plots.py`, `verdict_plot.py` and
`latent_plots.py`.

Source of the line colours: Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from files import replacing
from report import config_text, loss_text
from selection import ConfigurationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from verdict import Baseline

WIDTH = 7.0  # inches: the text width of most journals
DPI = 200
INK, FAINT = "#222222", "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe & Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BASELINE_DASHES = ((0, (1, 1.5)), (0, (7, 2, 1, 2)), (0, (3, 2)))  # in the order of the verdict's baselines
NAMED_LAYERS = 6  # a longer configuration is shortened in pictures

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


def pixels(points: float) -> float:
    """How many pixels of the saved picture that is."""
    return points * DPI / 72


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


# What the pictures of a search say and leave out


def finished_of(ranking: Sequence[ConfigurationResult]) -> list[ConfigurationResult]:
    """Those that did not fail, best first. Raises ValueError if there is none."""
    finished = [c for c in ranking if c.failure is None]
    if not finished:
        raise ValueError("no configuration finished, there is nothing to draw")
    return finished


def short_name(config: Sequence[int]) -> str:
    """`[64, 32]`; of many layers only the first and the last."""
    if len(config) <= NAMED_LAYERS:
        return config_text(config)
    return f"[{', '.join(map(str, config[:3]))}, …, {config[-1]}] ({len(config)} layers)"


def loss_name(configuration: ConfigurationResult) -> str:
    """What its losses are: those of the test rows, or of the folds."""
    return "Cross-validated loss" if configuration.folds > 1 else "Test loss"


def trainings_text(configuration: ConfigurationResult) -> str | None:
    """What its loss is a mean over, `5 folds × 3 repeats`; None with one training."""
    counts = [(configuration.folds, "folds"), (configuration.repeats, "repeats")]
    return " × ".join(f"{count} {what}" for count, what in counts if count > 1) or None


def baseline_name(baseline: Baseline, latent_dim: int) -> str:
    """`Column means`; of PCA how many components."""
    if baseline.name == "PCA":
        return f"PCA, {latent_dim} component{'s' if latent_dim > 1 else ''}"
    return baseline.name[:1].upper() + baseline.name[1:]


def baseline_text(baseline: Baseline, latent_dim: int) -> str:
    """Its name and loss."""
    return f"{baseline_name(baseline, latent_dim)}: {loss_text(baseline.loss)}"


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


def make_room(low: float, high: float, wanted: Sequence[float]) -> tuple[float, float]:
    """low..high, widened for those of `wanted` that lie at most as far beyond it as it is wide, halved."""
    reach = 0.5 * (high - low)
    near = [value for value in wanted if low - reach <= value <= high + reach]
    return min([low, *near]), max([high, *near])


# Where labels go


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


def points_along(line: np.ndarray, spacing: float = 8.0) -> np.ndarray:
    """Points on a polyline [k, 2], at most `spacing` pixels apart."""
    pieces = [line]
    for start, end in pairwise(line):
        t = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / spacing))[:, None]
        pieces.append((1 - t) * start + t * end)
    return np.concatenate(pieces)


def free_box(
    axes: Axes, point: np.ndarray, size: np.ndarray, drawn: np.ndarray, taken: np.ndarray, *, required: bool
) -> np.ndarray | None:
    """Where around `point` a label of `size` covers least, as (left, bottom, right, top), all in pixels.

    None if it would cover another label, leave the axes or hide a point, unless it is `required`.
    """
    unit = pixels(1)
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
