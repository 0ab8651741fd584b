"""Samples in the latent space: how they look by density and by label, and their keys.

    samples = Samples.of(points, is_test, labels, most=5000)
    draw_by_label(axes, samples, 0, 1)

Source of the label colours: Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from layersearch.latent.labels import UNLABELLED, categories
from layersearch.pictures.latent.page import shortened
from layersearch.pictures.style import DPI, INK, MARKERS
from layersearch.table.copus import PROFILES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

# all eight of Okabe & Ito
CATEGORY_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#D55E00", "#F0E442")
# blues for the didactic profiles, oranges for the interactive lectures
PROFILE_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#000000")
LABEL_INCHES = 2.3  # a longer name of a label is cut off

DENSITY_LOOKS: dict[bool, dict[str, Any]] = {  # by whether it is a test sample
    False: {"marker": "o", "edgecolors": INK, "linewidths": 0.2},
    True: {"marker": "^", "edgecolors": INK, "linewidths": 0.45},
}


@dataclass(frozen=True)
class Samples:
    """N samples with their labels, and the D of them that are drawn as points."""

    points: np.ndarray  # [N, L] finite
    is_test: np.ndarray  # [N] bool
    drawn: np.ndarray  # [D] indices of those drawn
    category: np.ndarray | None  # [N] index into `names`; None without labels
    names: list[str]
    column: str = ""  # name of the column of labels

    @classmethod
    def of(cls, points: np.ndarray, is_test: np.ndarray, labels: pd.Series[Any] | None, most: int) -> Samples:
        """Returns samples of which at most `most`, chosen at random, are drawn.

        points [N, L] · is_test [N] bool · labels [N], or None.
        """
        drawn = np.arange(len(points))
        if len(points) > most:
            drawn = np.sort(np.random.default_rng(0).permutation(len(points))[:most])
        if labels is None or not labels.notna().any():
            return cls(points, is_test, drawn, None, [])
        return cls(points, is_test, drawn, *categories(labels), column=str(labels.name))

    @property
    def counts(self) -> np.ndarray:
        """Returns the number of samples of each category."""
        assert self.category is not None
        return np.bincount(self.category, minlength=len(self.names))

    @property
    def subset_note(self) -> str:
        """Returns a sentence on how many samples are drawn; "" if all are."""
        if len(self.drawn) == len(self.points):
            return ""
        return (
            f"{len(self.drawn):,} samples drawn, chosen at random from {len(self.points):,}; density and counts are "
            "of all"
        )

    @property
    def key_words(self) -> list[str]:
        """Returns each category's words in the legend: its name and its number of samples."""
        counted = zip(self.names, self.counts, strict=True)
        return [f"{shortened(name, LABEL_INCHES)} ({count:,})" for name, count in counted]

    @property
    def looks(self) -> list[dict[str, Any]]:
        """Returns colour and marker of each category; samples without a label are grey."""
        if self.names and set(self.names) - {UNLABELLED} <= set(PROFILES):
            own = dict(zip(PROFILES, zip(PROFILE_COLOURS, MARKERS, strict=False), strict=True))
        else:
            labelled = [name for name in self.names if name != UNLABELLED]
            own = dict(zip(labelled, zip(CATEGORY_COLOURS, MARKERS, strict=True), strict=False))
        found = [own.get(name, ("#BBBBBB", ".")) for name in self.names]
        return [{"color": c, "marker": marker, "edgecolors": INK, "linewidths": 0.2} for c, marker in found]


def draw_by_density(
    axes: Axes, samples: Samples, x: int, y: int, density: np.ndarray, *, scale: float = 1.0
) -> PathCollection:
    """Draws dimension y against x, coloured by density [N] (1 = densest), with test samples as triangles."""
    edge = min(1.0, 2000 / len(samples.drawn)) * scale  # thinner edges the more points there are
    points, drawn = samples.points, samples.drawn
    for test, look in DENSITY_LOOKS.items():
        chosen = drawn[samples.is_test[drawn] == test]
        order = chosen[np.argsort(density[chosen], kind="stable")]  # so that the densest lie on top
        size = scale * point_size(len(drawn)) * (1.5 if test else 1.0)
        shaded = {**look, "linewidths": look["linewidths"] * edge, "cmap": "viridis", "vmin": 0, "vmax": 1}
        coloured = axes.scatter(points[order, x], points[order, y], size, density[order], **shaded)
    return coloured


def draw_by_label(axes: Axes, samples: Samples, x: int, y: int, *, scale: float = 1.0) -> None:
    """Draws dimension y against x by category, the rarest category on top."""
    assert samples.category is not None
    points, drawn = samples.points, samples.drawn
    for place in np.argsort(-samples.counts, kind="stable"):
        here = drawn[samples.category[drawn] == place]
        look = {**samples.looks[place], "linewidths": 0.2 * scale * min(1.0, 2000 / len(drawn))}
        axes.scatter(points[here, x], points[here, y], 1.2 * scale * point_size(len(drawn)), **look)


def label_keys(axes: Axes, samples: Samples) -> list[PathCollection]:
    """Legend keys in the order of the names."""
    return [axes.scatter([], [], s=26, **look) for look in samples.looks]


def split_keys(axes: Axes, samples: Samples) -> list[PathCollection]:
    """Returns the legend keys of training and test samples, labelled with their numbers."""
    test = int(samples.is_test.sum())
    words = {False: f"Training ({len(samples.points) - test:,})", True: f"Test ({test:,})"}
    return [axes.scatter([], [], color="#BBBBBB", s=20, label=words[k], **look) for k, look in DENSITY_LOOKS.items()]


def density_bar(axes: Axes, coloured: PathCollection, place: tuple[float, float, float, float]) -> None:
    """Draws the colour bar of a density; `place` is in inches: left and bottom from the axes' corner, width, height."""
    box = axes.get_window_extent()
    left, bottom, width, height = (
        DPI * inches / size for inches, size in zip(place, (box.width, box.height) * 2, strict=True)
    )
    bar = axes.figure.colorbar(
        coloured, cax=axes.inset_axes((left, bottom, width, height)), orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.set_label("Density of samples (1 = where they are densest)")
    bar.outline.set_visible(False)


def spans(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the limits of each dimension's axis: points [N, L] -> low [L], high [L].

    All axes have the same scale, unless one dimension would then be hardly visible.
    """
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    span = high - low
    span = np.where(span > 0, span, span.max() or 1.0)
    if span.max() < 5 * span.min():
        span[:] = span.max()
    middle = (low + high) / 2
    return middle - 0.55 * span, middle + 0.55 * span


def point_size(count: int) -> float:
    """Area of a point, in square points."""
    return float(np.clip(600 / np.sqrt(count), 3.0, 26.0))
