"""The verdict as a picture: by how much each configuration misses the best, and which are tied with it.

    plot_verdict(verdict, ranking, output_dir / "verdict_latent3.png", latent_dim=3)

One row a configuration. Laid out by hand, in inches from the top: the rows decide the height, the names the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import blended_transform_factory

from plot_style import (
    BASELINE_DASHES,
    COLOURS,
    DPI,
    FAINT,
    INK,
    STYLE,
    WIDTH,
    baseline_name,
    baseline_text,
    finished_of,
    loss_ceiling,
    loss_name,
    make_room,
    pixels,
    percent,
    save,
    set_scale,
    short_name,
    trainings_text,
    wrapped,
)
from report import loss_text
from selection import ConfigurationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from verdict import Baseline, Interval, Standing, Verdict

MOST_ROWS = 20
ROW = 0.185  # inches
LINE = 0.155  # of small print
MARGIN = 0.085
GAP = 0.16  # between columns

BEST_OR_TIED: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "markersize": 5.5}
RECOMMENDED: dict[str, Any] = {"color": COLOURS[2], "marker": "D", "markersize": 6}
NOT_TIED: dict[str, Any] = {"color": COLOURS[1], "marker": "s", "markersize": 4.8, "markerfacecolor": "white"}
UNKNOWN: dict[str, Any] = {"color": FAINT, "marker": "o", "markersize": 5}


def plot_verdict(
    verdict: Verdict,
    ranking: Sequence[ConfigurationResult],
    path: Path,
    *,
    latent_dim: int,
    note: str | None = None,
) -> None:
    """Writes `draw_verdict`'s picture to `path`."""
    save(draw_verdict(verdict, ranking, latent_dim=latent_dim, note=note), path)


def draw_verdict(
    verdict: Verdict, ranking: Sequence[ConfigurationResult], *, latent_dim: int, note: str | None = None
) -> Figure:
    """The best 20 configurations and the recommended one: difference to the best, with its interval.

    `ranking`: best first, failed ones last. Raises ValueError if no configuration finished.
    """
    finished = finished_of(ranking)
    rows = _choose_rows(verdict, finished)
    with mpl.rc_context(STYLE):
        title = wrapped(title_of(verdict, finished), 0.72 * WIDTH)
        small_print = wrapped("\n".join([*_explain(verdict, finished), *([note] if note else [])]), WIDTH)
        figure, axes = _lay_out(rows, title, small_print, len(verdict.baselines))
        figure.text(_x(MARGIN), _y(figure, 0.08), title, va="top", fontsize=10, fontweight="bold", linespacing=1.25)
        figure.text(
            _x(MARGIN), _y(figure, 0.19 + 0.175 * _lines(title)), _what_is_shown(verdict, ranking, finished, latent_dim), va="top"
        )
        _write_columns(figure, axes, rows, finished)
        ...
    return figure
