"""The picture of the latent space, whatever its size: all samples by density and by label.

    plot_latent_space(codes, is_test, labels, output_dir / "latent_space_latent3.png", title=…)

Two dimensions are one plane, 3 to 5 every two of them, more are shown by their first two principal components
(Jolliffe & Cadima 2016, doi:10.1098/rsta.2015.0202). Training and test samples, and the labels, differ by marker as
well as by colour. What it shares with the pictures of the search (`plots.py`) is in `plot_style.py`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layersearch.latent.density import estimate_density
from layersearch.pictures.latent.marks import (
    Samples,
    blank_page,
    density_bar,
    draw_by_density,
    draw_by_label,
    label_keys,
    note_lines,
    shortened,
    spans,
    split_keys,
    text_width,
    title_lines,
)
from layersearch.pictures.latent.matrix import MOST_DIMENSIONS, draw_line, draw_matrix
from layersearch.pictures.style import STYLE, any_script, save, set_scale

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DRAWN_SAMPLES = 20_000  # of more samples a random selection is drawn; the density counts all of them
DRAWN_IN_MATRIX = 5_000  # the same where each is drawn several times


def plot_latent_space(
    codes: np.ndarray,
    is_test: np.ndarray,
    labels: pd.Series[Any] | None,
    file: Path | IO[bytes],
    *,
    title: str,
    note: str | None = None,
) -> None:
    """Writes `draw_latent_space`'s picture."""
    save(draw_latent_space(codes, is_test, labels, title=title, note=note), file)


def draw_latent_space(
    codes: np.ndarray, is_test: np.ndarray, labels: pd.Series[Any] | None, *, title: str, note: str | None = None
) -> Figure:
    """All samples in the latent space by density and, where there are labels, a second time by label.

    codes [N, L], finite · is_test [N] bool · labels [N], in the same order, or None.
    """
    size = codes.shape[1]
    with mpl.rc_context(STYLE), any_script():
        if size == 2:
            samples = Samples.of(codes, is_test, labels, DRAWN_SAMPLES)
            return _draw_planes(samples, ["Latent dimension 1", "Latent dimension 2"], title, [note])
        if size > MOST_DIMENSIONS:
            points, shares = principal_components(codes)
            samples = Samples.of(points, is_test, labels, DRAWN_SAMPLES)
            names = [
                f"Principal component {k + 1} ({100 * share:.0f} % of the variance)" for k, share in enumerate(shares)
            ]
            shown = f"Shown are the first two principal components of the {size:,} latent dimensions."
            return _draw_planes(samples, names, f"{title}: two principal components", [shown, note])
        samples = Samples.of(codes, is_test, labels, DRAWN_IN_MATRIX)
        return (draw_line if size == 1 else draw_matrix)(samples, title, [note])


def principal_components(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two of codes [N, L]: [N, 2], and which share of the variance each has, [2]; 0 where nothing varies."""
    from sklearn.decomposition import PCA

    centred = codes - codes.mean(axis=0, dtype=np.float64)
    total = float((centred**2).mean(axis=0).sum())
    if not total:
        return np.zeros((len(codes), 2)), np.zeros(2)
    points = PCA(2, random_state=0).fit_transform(centred)
    points *= np.where(np.abs(points).max(axis=0) == points.max(axis=0), 1, -1)  # a sign is arbitrary
    return points, points.var(axis=0) / total


def _draw_planes(samples: Samples, names: list[str], title: str, notes: list[str | None]) -> Figure:
    """By density, and beside it by label, with the names of the axes."""
    density = estimate_density(samples.points)
    notes = [samples.subset_note, *notes]
    if samples.category is None:
        figure, (plane,) = _square_panels(1, side=3.5, below=0.62, title=title, notes=notes)
    else:
        words = samples.key_words
        columns = 2 if max(map(text_width, words)) < 1.4 else 1
        below = max(0.62, 0.05 + 0.165 * math.ceil(len(words) / columns))
        figure, (plane, by_label) = _square_panels(2, side=2.75, below=below, title=title, notes=notes)
        _set_plane(by_label, samples.points, names)
        draw_by_label(by_label, samples, 0, 1)
        height = by_label.get_position().height * figure.get_figheight()
        look: dict[str, Any] = {"columnspacing": 0.8, "handletextpad": 0.2, "labelspacing": 0.4, "borderpad": 0.0}
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.16, -0.52 / height)}
        by_label.legend(label_keys(by_label, samples), words, ncols=columns, **look, **place)
        by_label.set_title(f"By {shortened(samples.column, 2.4)}", loc="left", pad=6)
    _set_plane(plane, samples.points, names)
    coloured = draw_by_density(plane, samples, 0, 1, density / density.max())
    side = plane.get_position().width * figure.get_figwidth()
    density_bar(plane, coloured, (0, -0.66, side, 0.035 * side))
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.005), "borderpad": 0.2}
    plane.legend(handles=split_keys(plane, samples), ncols=2, columnspacing=1.0, handletextpad=0.0, **place)
    return figure


def _square_panels(
    count: int, *, side: float, below: float, title: str, notes: list[str | None]
) -> tuple[Figure, list[Axes]]:
    """A figure with square axes of `side` inches in a row, `below` inches of room under their axis labels.

    Laid out by hand: a constrained layout does not keep axes square beside legends of unlike height.
    """
    left, between, right, axis_label = 0.7, 0.7, 0.15, 0.5
    width = left + count * side + (count - 1) * between + right
    title = title_lines(title, width)
    note, foot = note_lines(notes, width)
    head = 0.55 + 0.19 * title.count("\n")
    height = foot + below + axis_label + side + 0.05 + head
    figure = blank_page(width, height, title, note)
    bottom = (foot + below + axis_label) / height
    panels = [
        figure.add_axes(((left + k * (side + between)) / width, bottom, side / width, side / height))
        for k in range(count)
    ]
    return figure, panels


def _set_plane(axes: Axes, points: np.ndarray, names: list[str]) -> None:
    low, high = spans(points)
    for axis, start, end in zip((axes.xaxis, axes.yaxis), low, high, strict=True):
        set_scale(axis, start, end, log=False, margin=0.0)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid()
