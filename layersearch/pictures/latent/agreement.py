"""How well the latent space agrees with labels, as a picture, compared with PCA and with the columns themselves.

    figure = draw_agreement(agreement, sizes, title="Agreement with Bcluster")

`layersearch.latent.agreement.measure` computes what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layersearch.latent.agreement import LEAST_ROWS, MEASURES, Agreement, Measured
from layersearch.pictures.latent.page import Page
from layersearch.pictures.style import COLOURS, FAINT, INK, STYLE, WIDTH, any_script, set_scale
from layersearch.table.copus import CIRCULAR, are_profiles
from layersearch.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPACES = ("latent", "pca", "columns")
LOOKS: dict[str, dict[str, Any]] = {
    "latent": {"color": COLOURS[0], "marker": "o"},
    "pca": {"color": COLOURS[1], "marker": "D"},
    "columns": {"color": COLOURS[6], "marker": "s"},
}


def draw_agreement(agreement: Agreement, sizes: Mapping[str, int], *, title: str, note: str | None = None) -> Figure:
    """Draws a panel for each measure with its value and interval in each space.

    `sizes` holds the number of dimensions of each of the `SPACES`.
    """
    with mpl.rc_context(STYLE), any_script():
        left, right, gap, body = 1.25, 0.2, 0.3, 0.9
        width = (WIDTH - left - right - 2 * gap) / 3
        page = Page(
            title,
            [_note(agreement), note],
            body=body,
            head=0.85,
            below=0.74,
        )
        for place, measure in enumerate(MEASURES):
            panel = page.add_axes(left + place * (width + gap), 0, width, body)
            _draw_measure(panel, agreement, measure)
            panel.set_yticks([0, -1, -2], _space_names(sizes) if place == 0 else ["", "", ""])
    return page.figure


def _space_names(sizes: Mapping[str, int]) -> list[str]:
    return [f"Latent space ({sizes['latent']:,})", f"PCA ({sizes['pca']:,})", f"Columns ({sizes['columns']:,})"]


def _draw_measure(panel: Axes, agreement: Agreement, measure: str) -> None:
    values = agreement.values[measure]
    shown = [x for found in values.values() for x in (found.value, *(found.interval or ()))]
    if measure == "knn_accuracy":
        shown.append(agreement.majority_share)
    for y, space in zip((0, -1, -2), SPACES, strict=True):
        found, look = values[space], LOOKS[space]
        if found.interval:
            panel.plot(found.interval, [y, y], color=look["color"], linewidth=1.6, solid_capstyle="butt")
        panel.scatter([found.value], [y], s=18, zorder=3, edgecolors="white", linewidths=0.5, **look)
    low, high = min(0.0, *shown), max(shown)
    if measure == "knn_accuracy":
        low = min(shown) - 0.1 * (max(shown) - min(shown))
        panel.axvline(agreement.majority_share, color=FAINT, linewidth=1.1, linestyle=(0, (3, 2)), zorder=1)
    set_scale(panel.xaxis, low, high, log=False, most_ticks=3)
    panel.set_ylim(-2.6, 0.6)
    heading, below = _words(agreement, measure)
    panel.set_title(heading, loc="left", pad=5)
    panel.set_xlabel(below, loc="left")
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.xaxis.label.set_color(INK)


def _words(agreement: Agreement, measure: str) -> tuple[str, str]:
    """Returns the words above and below the panel of a measure."""
    headings = {
        "knn_accuracy": f"Nearest neighbours\n(share of labels told, k = {agreement.neighbours})",
        "silhouette": "Silhouette\n(−1 to 1)",
        "adjusted_rand_index": "Adjusted Rand index\n(of a mixture; 0 is chance)",
    }
    return headings[measure], "Latent − PCA:\n" + difference_text(agreement.differences[measure])


def difference_text(difference: Measured) -> str:
    """Returns `+0.021 [−0.003, +0.044]`."""
    low, high = difference.interval or (np.nan, np.nan)
    words = f"{difference.value:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if difference.interval else "")
    return words.replace("-", "−")


def _note(agreement: Agreement) -> str:
    chosen = agreement.chosen
    resampled = "groups" if chosen.by_group else "rows"
    notes = [
        f"{len(chosen.rows):,} rows, {len(chosen.names)} labels. Intervals: {percent(agreement.confidence)}, by "
        f"resampling {resampled}. Dashed: the share of the commonest label. In brackets the number of dimensions."
    ]
    if chosen.n_labelled > len(chosen.rows) + chosen.n_rare:
        notes.append(f"Rows drawn at random from {chosen.n_labelled:,}.")
    if chosen.n_rare:
        rows = f"{chosen.n_rare:,} row{'s' if chosen.n_rare != 1 else ''}"
        notes.append(f"Without {rows} of labels that fewer than {LEAST_ROWS} have.")
    notes += [CIRCULAR] if are_profiles(chosen.names) else []
    return " ".join(notes)
