"""Kernel density estimates of points in a plane and on a line, for the pictures of the latent space.

    density = estimate_density(codes)                 # [N, 2] -> [N]
    density = density_along(values, grid)             # [N], [G] -> [G]

The kernel is Gaussian with Scott's bandwidth (Scott 1992, "Multivariate Density Estimation",
doi:10.1002/9780470316849), evaluated on a grid after linear binning (Wand 1994, doi:10.1080/10618600.1994.10474656).
"""

from __future__ import annotations

import math

import numpy as np


def estimate_density(codes: np.ndarray) -> np.ndarray:
    """Estimates the probability density at each of the points [N, 2], [N].

    The bandwidth is the spread times N^(-1/6). The spread is the smaller of SD and IQR / 1.349, so that outliers do not
    widen it. Linear binning distributes the points over a grid, two matrix products smooth it along its two axes, and
    the density is interpolated between the nodes; the time is proportional to N, not to N².
    """
    codes = np.asarray(codes, dtype=np.float64)
    spread = _spread(codes)
    spread = np.where(spread > 0, spread, max(float(spread.max()), 1.0) * 1e-2)  # a latent dimension may be constant
    bandwidth = spread * len(codes) ** (-1 / 6)
    low, high = codes.min(axis=0) - 4 * bandwidth, codes.max(axis=0) + 4 * bandwidth
    nodes = np.clip(np.ceil((high - low) / bandwidth * 5), 32, 512).astype(int)
    step = (high - low) / (nodes - 1)
    bandwidth = np.maximum(bandwidth, step)  # details finer than the grid would not be visible in a picture

    position = (codes - low) / step
    node = np.minimum(position.astype(int), nodes - 2)  # [N, 2]
    upper = position - node  # [N, 2] weight of the next node
    corners = [
        (
            (node[:, 0] + i) * nodes[1] + node[:, 1] + j,
            (upper[:, 0] if i else 1 - upper[:, 0]) * (upper[:, 1] if j else 1 - upper[:, 1]),
        )
        for i in (0, 1)
        for j in (0, 1)
    ]
    mass = np.zeros(nodes.prod())
    for at, share in corners:
        mass += np.bincount(at, weights=share, minlength=len(mass))
    kernels = []
    for d in (0, 1):
        distance = step[d] / bandwidth[d] * np.subtract.outer(np.arange(nodes[d]), np.arange(nodes[d]))
        kernels.append(np.exp(-0.5 * distance**2) / (math.sqrt(2 * math.pi) * bandwidth[d]))
    smooth = (kernels[0] @ mass.reshape(nodes) @ kernels[1]).ravel() / len(codes)
    density: np.ndarray = np.sum([smooth[at] * share for at, share in corners], axis=0)
    return density


def density_along(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Estimates the probability density of values [N] at evenly spaced points `grid` [G], [G].

    The bandwidth is the spread, as in `estimate_density`, times N^(-1/5), and at least one step of the grid. Values
    beyond the grid contribute nothing.
    """
    values = np.asarray(values, dtype=np.float64)
    step = grid[1] - grid[0]
    bandwidth = max(float(_spread(values)) * len(values) ** (-1 / 5), step)
    position = (values - grid[0]) / step
    position = position[(position >= 0) & (position <= len(grid) - 1)]
    node = np.minimum(position.astype(int), len(grid) - 2)
    upper = position - node
    mass = np.bincount(node, 1 - upper, len(grid)) + np.bincount(node + 1, upper, len(grid))
    reach = int(min(4 * bandwidth / step + 1, len(grid)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / bandwidth) ** 2)
    kernel /= math.sqrt(2 * math.pi) * bandwidth
    height: np.ndarray = np.convolve(mass, kernel)[reach : reach + len(grid)] / len(values)
    return height


def _spread(values: np.ndarray) -> np.ndarray:
    """Returns the smaller of SD and IQR / 1.349 along the first axis."""
    sd = values.std(axis=0)
    iqr = np.subtract(*np.percentile(values, [75, 25], axis=0)) / 1.349
    return np.asarray(np.where(iqr > 0, np.minimum(sd, iqr), sd))
