"""The latent space as a picture: all samples by density and by label.

    figure = draw_latent_space(codes, is_test, labels, title="Latent space")

Two dimensions are drawn as a plane, and more than five as the plane of their first two principal components (Jolliffe &
Cadima 2016, doi:10.1098/rsta.2015.0202); `matrix` draws the sizes between. Training and test samples, and labels,
differ by marker as well as by colour.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layersearch.latent.density import estimate_density
from layersearch.pictures.latent.marks import (
    Samples,
    density_bar,
    draw_by_density,
    draw_by_label,
    label_keys,
    spans,
    split_keys,
)
from layersearch.pictures.latent.matrix import MOST_DIMENSIONS, draw_line, draw_matrix
from layersearch.pictures.latent.page import Page, shortened, text_width
from layersearch.pictures.style import STYLE, any_script, set_scale

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DRAWN_SAMPLES = 20_000  # of more samples a random selection is drawn; the density is that of all
DRAWN_IN_MATRIX = 5_000  # the same if each sample is drawn several times


def draw_latent_space(
    codes: np.ndarray, is_test: np.ndarray, labels: pd.Series[Any] | None, *, title: str, note: str | None = None
) -> Figure:
    """Draws all samples in the latent space by density and, if there are labels, a second time by label.

    Args:
        codes: [N, L], finite latent codes.
        is_test: [N] bool, whether each row is a test row.
        labels: [N], named after their column, or None.
        title: the title, which names the model.
        note: small print at the foot.
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
    """Returns the first two principal components of codes [N, L].

    Returns:
        The components, [N, 2], and the share of the variance that each has, [2]; both are 0 if nothing varies.
    """
    from sklearn.decomposition import PCA

    centred = codes - codes.mean(axis=0, dtype=np.float64)
    total = float((centred**2).mean(axis=0).sum())
    if not total:
        return np.zeros((len(codes), 2)), np.zeros(2)
    points = PCA(2, random_state=0).fit_transform(centred)
    points *= np.where(
        np.abs(points).max(axis=0) == points.max(axis=0), 1, -1
    )  # signs are arbitrary: the largest value is positive
    return points, points.var(axis=0) / total


def _draw_planes(samples: Samples, names: list[str], title: str, notes: list[str | None]) -> Figure:
    """Draws a plane by density and, if there are labels, one by label beside it; `names` are those of the axes."""
    density = estimate_density(samples.points)
    notes = [samples.subset_note, *notes]
    if samples.category is None:
        page, (plane,) = _square_panels(1, side=3.5, below=0.62, title=title, notes=notes)
    else:
        words = samples.key_words
        columns = 2 if max(map(text_width, words)) < 1.4 else 1
        below = max(0.62, 0.05 + 0.165 * math.ceil(len(words) / columns))
        page, (plane, by_label) = _square_panels(2, side=2.75, below=below, title=title, notes=notes)
        _set_plane(by_label, samples.points, names)
        draw_by_label(by_label, samples, 0, 1)
        height = by_label.get_position().height * page.height
        look: dict[str, Any] = {"columnspacing": 0.8, "handletextpad": 0.2, "labelspacing": 0.4, "borderpad": 0.0}
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.16, -0.52 / height)}
        by_label.legend(label_keys(by_label, samples), words, ncols=columns, **look, **place)
        by_label.set_title(f"By {shortened(samples.column, 2.4)}", loc="left", pad=6)
    _set_plane(plane, samples.points, names)
    coloured = draw_by_density(plane, samples, 0, 1, density / density.max())
    side = plane.get_position().width * page.width
    density_bar(plane, coloured, (0, -0.66, side, 0.035 * side))
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.005), "borderpad": 0.2}
    plane.legend(handles=split_keys(plane, samples), ncols=2, columnspacing=1.0, handletextpad=0.0, **place)
    return page.figure


def _square_panels(
    count: int, *, side: float, below: float, title: str, notes: list[str | None]
) -> tuple[Page, list[Axes]]:
    """Returns a page with a row of square axes of `side` inches and `below` inches of room under their axis labels."""
    left, between, right, axis_label = 0.7, 0.7, 0.15, 0.5
    width = left + count * side + (count - 1) * between + right
    page = Page(title, notes, body=side + 0.05, head=0.55, below=below + axis_label, width=width)
    return page, [page.add_axes(left + k * (side + between), 0, side, side) for k in range(count)]


def _set_plane(axes: Axes, points: np.ndarray, names: list[str]) -> None:
    low, high = spans(points)
    for axis, start, end in zip((axes.xaxis, axes.yaxis), low, high, strict=True):
        set_scale(axis, start, end, log=False, margin=0.0)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid()
