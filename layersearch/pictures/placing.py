"""Places labels beside what they name, without overlapping each other or what is drawn.

fix_layout(figure)
taken, drawn = place_label(axes, point, "Best: [64, 32]", drawn, taken, required=True)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from layersearch.pictures.style import INK, pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATUM_WEIGHT = 20  # covering a point that is a result is as bad as covering this many points along lines


def fix_layout(figure: Figure) -> None:
    """Computes the layout of the figure and freezes it, so that positions in pixels stay valid."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")


def spread_out(wanted: Sequence[float], gap: float) -> list[float]:
    """Returns the positions nearest to `wanted` (least squares) that keep their order and lie at least `gap` apart.

    After the gaps are subtracted, this is isotonic regression, solved by pooling adjacent violators. The result is then
    moved into the range 0 to 1 as far as there is room.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []  # mean and number of the values `wanted - gap × place` in each pool
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
    """Returns points [n, 2] on a polyline [k, 2], at most `spacing` pixels apart."""
    pieces = [line]
    for start, end in pairwise(line):
        t = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / spacing))[:, None]
        pieces.append((1 - t) * start + t * end)
    return np.concatenate(pieces)


def place_label(
    axes: Axes, point: np.ndarray, words: str, drawn: np.ndarray, taken: np.ndarray, *, required: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Writes `words` near `point`, with a line between them if they are far apart, if `free_box` finds room.

    The arguments are those of `free_box`.

    Returns:
        `taken` and `drawn`, with the box and the line of the new label added.
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
    """Returns the box near `point` in which a label covers least; all lengths are in pixels.

    Args:
        axes: The axes within whose frame the label should stay.
        point: The point that the label names, [2].
        size: Width and height of the label, [2].
        drawn: Points that the label should not cover, [n, 2].
        taken: Boxes of other labels, [m, 4]: left, bottom, right, top.
        required: Whether to return the best box even if it covers something or leaves the frame.

    Returns:
        Left, bottom, right and top of the box, [4]; None if there is no free box and the label is not `required`.
    """
    unit = pixels(1)
    angles = np.deg2rad(np.arange(0, 360, 11.25))
    directions = np.column_stack([np.cos(angles), np.sin(angles)])  # [32, 2]
    distances = unit * np.array([7.0, 12.0, 20.0, 32.0, 48.0, 70.0] + [100.0] * required)
    to_border = directions / np.abs(directions).max(
        axis=1, keepdims=True
    )  # of a square: scaled by `size`, of the label
    centres = (point + distances[:, None, None] * directions + to_border * size / 2).reshape(-1, 2)  # [C, 2]
    low, high = centres - size / 2, centres + size / 2
    pad = 4 * unit  # the radius of a marker
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
