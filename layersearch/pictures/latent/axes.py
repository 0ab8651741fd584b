"""What the latent dimensions stand for, as a picture: how each correlates with every column.

    figure = draw_axes(axes, names, title="Latent dimensions and columns")

`layersearch.latent.space.correlate` computes what it shows.

Source of the diverging colours: "RdBu" of ColorBrewer, safe for the colour-blind (Harrower & Brewer 2003,
doi:10.1179/000870403235002042), here with blue for positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layersearch.latent.space import Axes
from layersearch.pictures.latent.page import Page, shortened, text_width
from layersearch.pictures.style import DPI, FAINT, INK, STYLE, WIDTH, any_script

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.image import AxesImage

MOST_COLUMNS = 40
NAME_INCHES = 2.6
VALUE_INCHES = 0.36  # the narrowest cell that a value is printed in
ROW = 0.19  # inches


def draw_axes(axes: Axes, names: Sequence[str], *, title: str, note: str | None = None) -> Figure:
    """Draws a row for each column of the table and a column for each latent dimension.

    Rows are sorted by the dimension they correlate with most, and there from positive to negative. Of more than 40
    columns those that correlate most are shown. `names` [F] are the names of the table's columns.
    """
    rows = axes.order(MOST_COLUMNS)
    values = axes.correlations[rows]  # [R, D]
    with mpl.rc_context(STYLE), any_script():
        words = [shortened(names[f], NAME_INCHES) for f in rows]
        left, right, body = 0.25 + max(map(text_width, words)), 0.95, max(ROW * len(rows), 1.2)
        width = WIDTH - left - right
        page = Page(title, [_note(axes, rows), note], body=body, head=0.42, below=0.55)
        panel = page.add_axes(left, 0, width, body)
        image = _draw_cells(panel, values, print_values=width / values.shape[1] >= VALUE_INCHES)
        panel.set_yticks(range(len(rows)), words)
        _name_dimensions(panel, axes, width)
        _draw_bar(panel, image, body)
    return page.figure


def _note(axes: Axes, rows: np.ndarray) -> str:
    """Returns sentences on what is shown and what is left out."""
    notes = ["Pearson correlation over all rows, of the values as scaled for the model."]
    if np.isnan(axes.correlations[rows]).any():
        notes.append("Grey: does not vary.")
    if len(rows) < len(axes.columns):
        notes.append(f"Shown are the {len(rows)} of {len(axes.columns):,} columns that correlate most.")
    if len(axes.dimensions) < axes.n_dimensions:
        shown, all_of = len(axes.dimensions), axes.n_dimensions
        notes.append(f"Shown are the {shown} of {all_of:,} latent dimensions that vary most.")
    return " ".join(notes)


def _draw_cells(panel: Panel, values: np.ndarray, *, print_values: bool) -> AxesImage:
    colours = mpl.colormaps["RdBu"].with_extremes(bad="#D0D0D0")
    image = panel.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=-1, vmax=1, aspect="auto")
    n_rows, n_columns = values.shape
    panel.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=0.8)
    panel.tick_params(which="both", length=0)
    for side in panel.spines.values():
        side.set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        if print_values and not np.isnan(value):
            text = f"{value:+.2f}".replace("-", "−") if abs(value) >= 0.005 else "0.00"
            colour = "white" if abs(value) > 0.6 else INK
            panel.text(column, row, text, ha="center", va="center_baseline", fontsize=8, color=colour)
    return image


def _name_dimensions(panel: Panel, axes: Axes, width: float) -> None:
    """Writes the number of its dimension under each column, or under every so many-th if not all fit."""
    every = int(np.ceil(0.3 * len(axes.dimensions) / width))
    places = range(0, len(axes.dimensions), every)
    panel.set_xticks(list(places), [str(axes.dimensions[place]) for place in places])
    panel.set_xlabel("Latent dimension")


def _draw_bar(panel: Panel, image: AxesImage, body: float) -> None:
    inch = DPI / panel.get_window_extent().width
    height = min(2.0, body)
    place = panel.inset_axes((1 + 0.2 * inch, 1 - height / body, 0.1 * inch, height / body))
    bar = panel.figure.colorbar(image, cax=place, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.set_ticklabels(["−1", "−0.5", "0", "0.5", "1"])
    bar.ax.tick_params(color=FAINT, length=2)
    bar.set_label("Correlation")
    bar.outline.set_visible(False)
