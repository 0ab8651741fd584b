"""Latent spaces of 3 to 5 dimensions as a scatter plot matrix, and those of one dimension as lines.

    figure = draw_matrix(Samples.of(codes, is_test, labels, most=5000), "Latent space", notes=[])

The matrix shows samples by label below its diagonal and by density above, and each dimension alone on the diagonal.
`scatter.draw_latent_space` chooses between the two.

Source: Cleveland 1993, "Visualizing Data".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from layersearch.latent.density import density_along, estimate_density
from layersearch.pictures.latent.marks import (
    Samples,
    density_bar,
    draw_by_density,
    draw_by_label,
    label_keys,
    spans,
    split_keys,
)
from layersearch.pictures.latent.page import Page, shortened, text_width
from layersearch.pictures.style import DPI, INK, WIDTH, set_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DIMENSIONS = 5
GRID = 240  # number of points at which a density is computed


def draw_matrix(samples: Samples, title: str, notes: list[str | None]) -> Figure:
    """Draws samples of 3 to 5 dimensions; `notes` are paragraphs of the small print.

    Without labels there is no upper triangle, and the legend takes its place.
    """
    size = samples.points.shape[1]
    words = samples.key_words if samples.names else []
    which = "Test samples are triangles above the diagonal only; below it markers are labels." if words else ""
    widest = max(map(text_width, words), default=0.0)
    columns = max(1, min(3, int((WIDTH - 3.2) / (widest + 0.35))))
    below = max(0.62, 0.2 + 0.165 * math.ceil(len(words) / columns)) if words else 0.05
    left, right, axis_label, gap = 0.62, 0.1, 0.5, 0.09
    side = (WIDTH - left - right - gap * (size - 1)) / size
    square = WIDTH - left - right
    page = Page(
        title,
        [which, samples.subset_note, *notes],
        body=square,
        head=0.36,
        below=below + axis_label,
        beside_title=2.4 if words else 0.0,  # for the keys of training and test samples
    )
    low, high = spans(samples.points)
    panels = {}
    for row in range(size):
        for column in range(size if words else row + 1):
            step = side + gap
            panels[row, column] = page.add_axes(left + column * step, (size - 1 - row) * step, side, side)
            _set_panel(panels[row, column], row, column, low, high)
    coloured = _fill(panels, samples, low, high, scale=1.9 / size)
    corner = panels[size - 1, 0]
    if words:
        _keys_below(page, corner, samples, words, columns, axis_label)
        density_bar(corner, coloured, (square - 3.1, -axis_label - 0.16, 3.0, 0.09))
        place: dict[str, Any] = {"loc": "upper right", "bbox_to_anchor": (1 - right / WIDTH, 1 - 0.06 / page.height)}
    else:
        density_bar(corner, coloured, (square - 3.1, square - 0.5, 3.0, 0.09))
        place = {"loc": "upper right", "bbox_to_anchor": (1 - right / WIDTH, 1 - (page.head + 0.02) / page.height)}
    keys = split_keys(corner, samples)
    page.figure.legend(handles=keys, ncols=2, columnspacing=1.0, handletextpad=0.0, **place)
    return page.figure


def _set_panel(axes: Axes, row: int, column: int, low: np.ndarray, high: np.ndarray) -> None:
    """Sets the scales of a panel; only panels at the edge of the matrix have tick labels and names."""
    size = len(low)
    set_scale(axes.xaxis, low[column], high[column], log=False, margin=0.0, most_ticks=4)
    if row == column:
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
    else:
        set_scale(axes.yaxis, low[row], high[row], log=False, margin=0.0, most_ticks=4)
        axes.grid()
    axes.tick_params(length=2, labelbottom=row == size - 1, labelleft=column == 0 and row > 0)
    if row == 0:  # the first panel of this row has a density along that axis, so there are no tick labels
        axes.tick_params(axis="y", length=0)
    if row == size - 1:
        axes.set_xlabel(f"Latent dimension {column + 1}")
    if column == 0:
        axes.set_ylabel(f"Latent dimension {row + 1}")
        axes.yaxis.set_label_coords(-0.42 * DPI / axes.get_window_extent().width, 0.5)


def _fill(
    panels: dict[tuple[int, int], Axes], samples: Samples, low: np.ndarray, high: np.ndarray, scale: float
) -> Any:
    """Draws the samples in all panels and returns those coloured by density, for the colour bar."""
    coloured = None
    for (row, column), axes in panels.items():
        if row == column:
            draw_marginals(axes, samples, row, (low[row], high[row]))
        elif row > column and samples.category is not None:
            draw_by_label(axes, samples, column, row, scale=scale)
        else:
            density = estimate_density(samples.points[:, [column, row]])
            coloured = draw_by_density(axes, samples, column, row, density / density.max(), scale=scale)
    return coloured


def draw_marginals(axes: Axes, samples: Samples, dimension: int, reach: tuple[float, float]) -> None:
    """Draws the density of one dimension: that of all samples in grey, and each label's share of it as a line."""
    grid = np.linspace(*reach, GRID)
    values = samples.points[:, dimension]
    total = density_along(values, grid)
    axes.fill_between(grid, total, color="#E4E4E4", linewidth=0)
    tops = [total.max()]
    for place, look in enumerate(samples.looks):
        here = values[samples.category == place]
        if len(here):
            curve = density_along(here, grid) * len(here) / len(values)
            axes.plot(grid, curve, color=look["color"], linewidth=1.1)
            tops.append(curve.max())
    axes.set_ylim(0, 1.08 * max(tops))


def _keys_below(page: Page, axes: Axes, samples: Samples, words: list[str], columns: int, axis_label: float) -> None:
    height = axes.get_position().height * page.height
    side = axes.get_position().width * page.width
    look: dict[str, Any] = {"columnspacing": 1.0, "handletextpad": 0.2, "labelspacing": 0.4, "borderpad": 0.0}
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.52 / side, -axis_label / height)}
    name = f"{shortened(samples.column, 2.4)} (below the diagonal)"
    legend = axes.legend(label_keys(axes, samples), words, title=name, alignment="left", ncols=columns, **look, **place)
    legend.set_in_layout(False)


def draw_line(samples: Samples, title: str, notes: list[str | None]) -> Figure:
    """Draws the densities of a single latent dimension: training and test samples, and below them each label."""
    names = [f"Training ({int((~samples.is_test).sum()):,})", f"Test ({int(samples.is_test.sum()):,})"]
    groups = [samples.points[~samples.is_test, 0], samples.points[samples.is_test, 0]]
    colours = ["#8C8C8C", "#8C8C8C"]
    if samples.category is not None:
        names += samples.key_words
        groups += [samples.points[samples.category == place, 0] for place in range(len(samples.names))]
        colours += [look["color"] for look in samples.looks]
    left, body = 0.25 + max(map(text_width, names)), 0.42 * (len(names) + 0.3)
    page = Page(title, notes, body=body, head=0.5, below=0.5)
    axes = page.add_axes(left, 0, WIDTH - left - 0.15, body)
    _draw_ridges(axes, groups, colours, spans(samples.points))
    axes.set_yticks(-np.arange(len(names)) + 0.12, names)
    axes.set_ylim(0.85 - len(names), 1.15)
    words = "" if samples.category is None else f"; below, by {shortened(samples.column, 2.4)}"
    above = 1 - (page.head - 0.16) / page.height
    page.figure.text(0.1 / WIDTH, above, f"Density of samples, each line to the same height{words}", va="center")
    return page.figure


def _draw_ridges(
    axes: Axes, groups: list[np.ndarray], colours: list[str], reach: tuple[np.ndarray, np.ndarray]
) -> None:
    """Draws the densities one below the other, the first at height 0."""
    low, high = float(reach[0][0]), float(reach[1][0])
    grid = np.linspace(low, high, 2 * GRID)
    for place, (values, colour) in enumerate(zip(groups, colours, strict=True)):
        if not len(values):
            continue
        height = density_along(values, grid)
        curve = -place + 0.95 * height / height.max()
        axes.fill_between(grid, -place, curve, color=colour, alpha=0.35, linewidth=0, zorder=2 + 0.01 * place)
        axes.plot(grid, curve, color=colour, linewidth=1.1, zorder=2.005 + 0.01 * place)
        axes.plot([np.median(values)] * 2, [-place, -place + 0.2], color=INK, linewidth=1.0, zorder=3)
    set_scale(axes.xaxis, low, high, log=False, margin=0.0)
    axes.set_xlabel("Latent dimension 1 (a short line is the median)")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
