"""The picture of what the model keeps: of each column which share of its variance, and PCA's beside it.

    plot_reconstruction(kept, names, output_dir / "reconstruction_by_code_latent3.png", title=…, note=…)

`latent_space.reconstruction_by_column` computes what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layersearch.latent.space import Reconstruction
from layersearch.pictures.latent.marks import blank_page, note_lines, shortened, text_width, title_lines
from layersearch.pictures.style import COLOURS, FAINT, STYLE, WIDTH, any_script, save, set_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 40
NAME_INCHES = 2.6
LOWEST = -0.5  # what is lower is drawn there, with its value
ROW = 0.19  # inches
LOOKS: dict[str, dict[str, Any]] = {
    "model": {"color": COLOURS[0], "marker": "o", "s": 26},
    "pca": {"facecolors": "white", "edgecolors": COLOURS[1], "marker": "D", "s": 22, "linewidths": 1.2},
}


def plot_reconstruction(
    kept: Reconstruction, names: Sequence[str], file: Path | IO[bytes], *, title: str, note: str | None = None
) -> None:
    """Writes `draw_reconstruction`'s picture."""
    save(draw_reconstruction(kept, names, title=title, note=note), file)


def draw_reconstruction(kept: Reconstruction, names: Sequence[str], *, title: str, note: str | None = None) -> Figure:
    """A row for each column, under its name of `names` [F], best kept first; of more than 40 every so many-th."""
    rows = kept.order(MOST_COLUMNS)
    with mpl.rc_context(STYLE), any_script():
        words = [shortened(names[f], NAME_INCHES) for f in rows]
        title = title_lines(title, WIDTH)
        note, foot = note_lines([_note(kept, len(rows)), note], WIDTH)
        left, head, below = 0.25 + max(map(text_width, words), default=0.2), 0.7 + 0.19 * title.count("\n"), 0.52
        body = max(ROW * (len(rows) + 0.6), 0.6)
        height = foot + below + body + head
        figure = blank_page(WIDTH, height, title, note)
        panel = figure.add_axes((left / WIDTH, (foot + below) / height, (WIDTH - left - 0.2) / WIDTH, body / height))
        _draw_rows(panel, kept.model[rows], kept.pca[rows])
        panel.set_yticks(-np.arange(len(rows)), words)
        panel.set_ylim(-len(rows) + 0.2, 0.8)
        keys = [panel.scatter([], [], **LOOKS["model"]), panel.scatter([], [], **LOOKS["pca"])]
        words = _key_words(kept)  # to the left, above the names, there is room
        panel.legend(keys, words, ncols=2, loc="lower right", bbox_to_anchor=(1.01, 1.0), columnspacing=1.5)
    return figure


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
    """Both shares on each line; what lies beyond the axis as an arrow at its border, with its value."""
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
