"""The fast density estimates agree with the exact kernel sums."""

from __future__ import annotations

import numpy as np
import pytest

from layersearch.latent.density import density_along, estimate_density

_rng = np.random.default_rng(2)
_group = _rng.integers(0, 3, 400)
CODES = (np.array([[0, 0], [4, 1], [1, 5]])[_group] + _rng.normal(size=(400, 2))).astype(np.float32)


def test_density_in_the_plane_agrees_with_the_exact_sum() -> None:
    spread = np.minimum(CODES.std(axis=0), np.subtract(*np.percentile(CODES, [75, 25], axis=0)) / 1.349)
    bandwidth = spread * len(CODES) ** (-1 / 6)
    z = (CODES[:, None] - CODES[None]) / bandwidth
    exact = np.exp(-0.5 * (z**2).sum(axis=2)).mean(axis=1) / (2 * np.pi * bandwidth.prod())
    error = np.abs(estimate_density(CODES) - exact)
    assert error.max() < 0.02 * exact.max()  # the error of linear binning with five nodes a bandwidth


def test_density_is_highest_where_samples_are_densest() -> None:
    rng = np.random.default_rng(0)
    codes = np.vstack([rng.normal(0, 1, (300, 2)), rng.normal(10, 0.3, (300, 2))])
    density = estimate_density(codes)
    assert density[300:].min() > density[:300].max()


def test_density_along_a_line_agrees_with_the_exact_sum() -> None:
    values, grid = CODES[:, 0].astype(float), np.linspace(-8, 12, 400)
    spread = min(values.std(), float(np.subtract(*np.percentile(values, [75, 25]))) / 1.349)
    bandwidth = spread * len(values) ** (-1 / 5)
    exact = np.exp(-0.5 * ((grid[:, None] - values) / bandwidth) ** 2).mean(axis=1) / (np.sqrt(2 * np.pi) * bandwidth)
    found = density_along(values, grid)
    assert np.abs(found - exact).max() < 0.02 * exact.max()
    assert found.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("values", [[1.0], [1.0] * 5, [0.0, 1e6]])
def test_density_along_a_line_is_finite_for_few_and_equal_values(values: list[float]) -> None:
    found = density_along(np.array(values), np.linspace(0, 2, 50))
    assert np.isfinite(found).all()
    assert found.max() > 0
