"""What all pictures share: size, colours, fonts, axes in plain numbers, words, and how they are saved.

    with mpl.rc_context(STYLE), any_script():
        set_scale(axes.xaxis, low, high, log=True)
    save(figure, path)

Made for a column of a paper: 7 inches wide, no text under 8 points, 200 dpi. Only Matplotlib's objects
are used, never pyplot: it starts slowly and keeps global state. Used by `plots.py`, `history_plot.py`,
`verdict_plot.py` and `latent_plots.py`.

Source of the line colours: Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from layersearch.files import replacing
from layersearch.space.ranking import ConfigurationResult, Drop
from layersearch.words import baseline_label, loss_text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from layersearch.verdict.verdict import Baseline, Verdict

WIDTH = 7.0  # inches: the text width of most journals
DPI = 200
INK, FAINT = "#222222", "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe & Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BASELINE_DASHES = ((0, (1, 1.5)), (0, (7, 2, 1, 2)), (0, (3, 2)))  # in the order of the verdict's baselines

OTHER_SCRIPTS = (  # fonts for what DejaVu Sans lacks: of Linux, macOS and Windows
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Segoe UI Symbol"),
)


def font_families() -> list[str]:
    """DejaVu Sans, which comes with Matplotlib, so that pictures are the same everywhere; then what is installed."""
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


STYLE: Any = {  # rcParams; Matplotlib's stubs want each key as a literal
    "font.family": font_families(),
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


HARD_SPACE = "\N{NO-BREAK SPACE}"


def wrapped(note: str, width: float) -> str:
    """The small print, broken into lines that fit a picture of `width` inches."""
    lines = [textwrap.fill(line.replace(" %", HARD_SPACE + "%"), int(width * 15)) for line in note.splitlines()]
    return "\n".join(lines).replace(HARD_SPACE, " ")


def save(figure: Figure, file: Path | IO[bytes]) -> None:
    """Writes a PNG; to a path whole or not at all."""
    with nullcontext(file) if not isinstance(file, Path) else replacing(file) as target, any_script():
        figure.savefig(target, dpi=figure.dpi, facecolor="white", pil_kwargs={"compress_level": 3})


@contextmanager
def any_script() -> Iterator[None]:
    """Labels may be in a script that no font has: boxes then, but no warnings on the console."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def pixels(points: float) -> float:
    """How many pixels of the saved picture that is."""
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
    """Limits around low..high, round ticks in plain numbers. A range of next to nothing is widened to 1 %.

    `whole`: no ticks between whole numbers, unless there are none.
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
    """Those whose texts, side by side on a logarithmic axis of 4 inches, do not touch."""
    kept: list[float] = []
    for tick in ticks:
        inches = len(f"{tick:,.6g}") * 0.065 + 0.05
        if not kept or 4 * math.log(tick / kept[-1]) >= inches * math.log(high / low):
            kept.append(tick)
    return kept


def tick_texts(values: Sequence[float], *, same_decimals: bool) -> list[str]:
    """In plain numbers; `same_decimals`: all to as many as one of them needs."""
    texts = [f"{value:,.6g}" for value in values]
    if same_decimals and not any("e" in text for text in texts):
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        texts = [f"{value:,.{decimals}f}" for value in values]
    return [text.replace("-", "−") for text in texts]


# What the pictures of a search say and leave out


class Survey(NamedTuple):
    """What became of the configurations that there were to try."""

    finished: list[ConfigurationResult]  # best first
    dropped: list[tuple[ConfigurationResult, Drop]]  # early, the last first
    failed: int
    space_size: int

    @property
    def which(self) -> str:
        """Which of the space those that finished are: `tried`; "" where they are all, or all but what failed."""
        if self.dropped:
            return "trained to the end"
        if self.untried:
            return "that finished" if self.failed else "tried"
        return ""

    @property
    def untried(self) -> int:
        """How many were not trained at all."""
        return self.space_size - len(self.finished) - len(self.dropped) - self.failed

    @property
    def left_out(self) -> str:
        """`Left out: 120 dropped early, 1 failed`; "" if there is nothing but what failed."""
        counts = [(len(self.dropped), "dropped early"), (self.failed, "failed"), (self.untried, "not tried")]
        words = ", ".join(f"{count:,} {what}" for count, what in counts if count)
        return f"Left out: {words}" if self.which else ""


def survey(ranking: Sequence[ConfigurationResult], space_size: int | None = None) -> Survey:
    """Sorts out a ranking. `space_size`: configurations that there were to try, by default those of the ranking.

    Raises ValueError if none finished.
    """
    finished, dropped, failed = [], [], 0
    for c in ranking:
        drop = c.drop  # takes time, where there are many
        if drop:
            dropped.append((c, drop))
        elif c.failure:
            failed += 1
        else:
            finished.append(c)
    if not finished:
        raise ValueError("no configuration finished, there is nothing to draw")
    return Survey(finished, dropped, failed, max(space_size or 0, len(ranking)))


def loss_name(configuration: ConfigurationResult) -> str:
    """What its losses are: those of the test rows, or of the folds."""
    return "Cross-validated loss" if configuration.folds > 1 else "Test loss"


def trainings_text(configuration: ConfigurationResult) -> str | None:
    """What its loss is a mean over, `5 folds × 3 repeats`; None with one training."""
    counts = [(configuration.folds, "folds"), (configuration.repeats, "repeats")]
    return " × ".join(f"{count} {what}" for count, what in counts if count > 1) or None


def baseline_text(baseline: Baseline) -> str:
    """Its name and loss."""
    return f"{baseline_label(baseline.name, baseline.components)}: {loss_text(baseline.loss)}"


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


# What the pictures of losses draw alike


def draw_baselines(axes: Axes, verdict: Verdict) -> tuple[list[tuple[Baseline, dict[str, Any]]], list[Baseline]]:
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


def off_axis_text(baseline: Baseline, axes: Axes) -> str:
    """Its name and loss, and that it is not to be seen."""
    where = "above" if baseline.loss > axes.get_ylim()[1] else "below"
    return f"{baseline_text(baseline)} ({where} the axis)"


def baseline_keys(axes: Axes, verdict: Verdict) -> list[Line2D]:
    """Draws the baselines; returns their legend keys, without a line where they are off the axis."""
    inside, outside = draw_baselines(axes, verdict)
    keys = [Line2D([], [], label=baseline_text(baseline), **look) for baseline, look in inside]
    absent = [off_axis_text(baseline, axes).replace(" (", "\n(") for baseline in outside]
    return keys + [Line2D([], [], linestyle="none", label=words) for words in absent]


def new_figure(height: float, title: str, note: str | None) -> Figure:
    """An empty picture with a title and the small print at its foot."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha="left", fontsize=10, fontweight="bold")
    if note:
        figure.supxlabel(wrapped(note, WIDTH), x=0.012, ha="left", fontsize=8, color=FAINT)
    return figure


def fix_layout(figure: Figure) -> None:
    """Lays the figure out for good: from here on positions in pixels hold."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")


def loss_scale(axes: Axes, low: float, high: float, c: ConfigurationResult, verdict: Verdict) -> None:
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


def draw_tied(axes: Axes, losses: np.ndarray, verdict: Verdict) -> list[Patch]:
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


def points_across(axes: Axes, verdict: Verdict) -> np.ndarray:
    """Points [n, 2] in pixels on what crosses the whole axes: the baselines and the edges of the tied band."""
    heights = [baseline.loss for baseline in verdict.baselines]
    if len(verdict.tied) > 1:
        tied = [c.final_test_loss for c in verdict.tied]
        heights += [min(tied), max(tied)]
    frame = axes.get_window_extent()
    levels = [axes.transData.transform((axes.get_xlim()[0], height))[1] for height in heights]
    lines = [np.array([(frame.x0, y), (frame.x1, y)]) for y in levels if frame.y0 <= y <= frame.y1]
    return np.concatenate([np.empty((0, 2)), *map(points_along, lines)])


def place_label(
    axes: Axes, point: np.ndarray, words: str, drawn: np.ndarray, taken: np.ndarray, *, required: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Writes `words` near `point` and leads a line there, if there is room; see `free_box`.

    Returns `taken` and `drawn` with the label's box and line.
    """
    to_axes = axes.transAxes.inverted()
    text = axes.text(0, 0, words, transform=axes.transAxes, fontsize=8, linespacing=1.25, va="bottom", zorder=4)
    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    extent = text.get_window_extent()
    box = free_box(axes, point, np.array([extent.width, extent.height]), drawn, taken, required=required)
    if box is None:
        text.remove()
        return taken, drawn
    text.set_position(tuple(to_axes.transform(box[:2])))
    leader = np.array([point, np.clip(point, box[:2] - pixels(2), box[2:] + pixels(2))])
    if np.hypot(*(leader[1] - leader[0])) > pixels(10):
        ends = to_axes.transform(leader).T
        axes.add_line(Line2D(*ends, transform=axes.transAxes, color=INK, linewidth=0.6, zorder=1.9))
        drawn = np.concatenate([drawn, points_along(leader)])
    return np.vstack([taken, box]), drawn


def free_box(
    axes: Axes, point: np.ndarray, size: np.ndarray, drawn: np.ndarray, taken: np.ndarray, *, required: bool
) -> np.ndarray | None:
    """Where around `point` a label of `size` covers least, as (left, bottom, right, top), all in pixels.

    None if it would cover another label, leave the axes or hide a point, unless it is `required`.
    """
    unit = pixels(1)
    angles = np.deg2rad(np.arange(0, 360, 11.25))
    directions = np.column_stack([np.cos(angles), np.sin(angles)])  # [32, 2]
    distances = unit * np.array([7.0, 12.0, 20.0, 32.0, 48.0, 70.0] + [100.0] * required)
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
