"""What the model keeps, as a picture: which share of each column's variance, compared with PCA.

    figure = draw_reconstruction(kept, names, title="Variance kept of each column")

`layersearch.latent.space.reconstruction_by_column` computes what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layersearch.latent.space import Reconstruction
from layersearch.pictures.latent.page import Page, shortened, text_width
from layersearch.pictures.style import COLOURS, FAINT, STYLE, WIDTH, any_script, set_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 40
NAME_INCHES = 2.6
LOWEST = -0.5  # a lower share is drawn as an arrow here, with its value
ROW = 0.19  # inches
LOOKS: dict[str, dict[str, Any]] = {
    "model": {"color": COLOURS[0], "marker": "o", "s": 26},
    "pca": {"facecolors": "white", "edgecolors": COLOURS[1], "marker": "D", "s": 22, "linewidths": 1.2},
}


def draw_reconstruction(kept: Reconstruction, names: Sequence[str], *, title: str, note: str | None = None) -> Figure:
    """Draws a row for each column, best kept first; of more than 40 columns, 40 from the best to the worst.

    `names` [F] are the names of the columns.
    """
    rows = kept.order(MOST_COLUMNS)
    with mpl.rc_context(STYLE), any_script():
        words = [shortened(names[f], NAME_INCHES) for f in rows]
        left, body = 0.25 + max(map(text_width, words), default=0.2), max(ROW * (len(rows) + 0.6), 0.6)
        page = Page(title, [_note(kept, len(rows)), note], body=body, head=0.7, below=0.52)
        panel = page.add_axes(left, 0, WIDTH - left - 0.2, body)
        _draw_rows(panel, kept.model[rows], kept.pca[rows])
        panel.set_yticks(-np.arange(len(rows)), words)
        panel.set_ylim(-len(rows) + 0.2, 0.8)
        keys = [panel.scatter([], [], **LOOKS["model"]), panel.scatter([], [], **LOOKS["pca"])]
        words = _key_words(kept)  # the legend may reach to the left, above the names
        panel.legend(keys, words, ncols=2, loc="lower right", bbox_to_anchor=(1.01, 1.0), columnspacing=1.5)
    return page.figure


def _key_words(kept: Reconstruction) -> list[str]:
    names = ("Model", f"PCA, {kept.n_components} component{'s' if kept.n_components != 1 else ''}")
    return [
        f"{name} (all together: {share:.2f})".replace("-", "−") for name, share in zip(names, kept.overall, strict=True)
    ]


def _note(kept: Reconstruction, n_shown: int) -> str:
    n_known = len(kept.columns) - len(kept.unknown)
    notes = [
        f"On the {kept.n_rows:,} test rows: 1 − squared error / squared deviation from the training mean. The model's "
        "loss weighs cells that are not 0 more, PCA's does not: where most are 0, this counts against the model."
    ]
    if n_shown < n_known:
        notes.append(f"Shown are {n_shown} of {n_known:,} columns, evenly from the best to the worst kept.")
    if kept.unknown:
        few = ", ".join(kept.unknown[:6]) + (f" and {len(kept.unknown) - 6:,} more" if len(kept.unknown) > 6 else "")
        notes.append(f"The same in all test rows, so left out: {few}.")
    return " ".join(notes)


def _draw_rows(panel: Axes, model: np.ndarray, pca: np.ndarray) -> None:
    """Draws both shares of each row; one beyond the axis becomes an arrow at its edge, with its value."""
    lowest = max(min(0.0, *model, *pca, 0.0) - 0.03, LOWEST)
    set_scale(panel.xaxis, lowest, 1.0, log=False, margin=0.02)
    start = panel.get_xlim()[0]
    y = -np.arange(len(model))
    low, high = np.minimum(model, pca).clip(start), np.maximum(model, pca).clip(start)
    panel.hlines(y, low, high, color="#C8C8C8", linewidth=1.0)
    for shares, name in ((pca, "pca"), (model, "model")):
        inside = shares >= lowest
        panel.scatter(shares[inside], y[inside], zorder=3, **LOOKS[name])
    for place in np.flatnonzero(np.minimum(model, pca) < lowest):
        beyond = {name: s for name, s in (("model", model[place]), ("PCA", pca[place])) if s < lowest}
        words = ", ".join(f"{name} {share:.1f}".replace("-", "−") for name, share in beyond.items())
        text = panel.text(start, y[place], f" ◂ {words}", ha="left", va="center_baseline", fontsize=8)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    if lowest < 0:
        panel.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    panel.set_xlabel("Share of the variance kept (0: no better than the mean)")
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
