"""Column means and PCA: complete tables, missing cells, and degenerate shapes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from sklearn.decomposition import PCA as SklearnPCA  # noqa: N811 - not to be taken for ours
from torch import Tensor

from dataset import COPUSDataset, fit_scaling
from layersearch.engines.settings import SplitTable
from layersearch.verdict import baselines
from layersearch.verdict import pca as pca_module
from layersearch.verdict.baselines import baseline_errors
from layersearch.verdict.pca import PCA, column_means, fit_pca
from losses import loss_of_sums, squared_error_sums

NAN = math.nan
ROUNDING = 1e-9  # the same sums in another order; the values are of order 1


def low_rank(n_rows: int = 300, n_features: int = 12, rank: int = 3, noise: float = 0.0) -> Tensor:
    return torch.randn(n_rows, rank) @ torch.randn(rank, n_features) + 2 + noise * torch.randn(n_rows, n_features)


def with_gaps(values: Tensor, share: float) -> Tensor:
    """Returns a copy in which this share of the cells, drawn at random, is missing."""
    return torch.where(torch.rand(values.shape) < share, NAN, values)


def split(values: Tensor, n_train: int | None = None) -> SplitTable:
    rows = torch.arange(len(values))
    n_train = len(values) * 4 // 5 if n_train is None else n_train
    return SplitTable(values, rows[:n_train], rows[n_train:])


def losses(table: SplitTable, latent_dim: int) -> dict[str, float]:
    targets = table.values[table.test]
    return {name: loss_of_sums(sums, targets) for name, sums in baseline_errors(table, latent_dim).items()}


# Complete tables


@pytest.mark.parametrize("n_components", [1, 3, 7])
def test_pca_without_missing_cells_is_that_of_scikit_learn(n_components: int) -> None:
    rows = low_rank(noise=0.3)
    theirs = SklearnPCA(n_components, svd_solver="full").fit(rows[:200].double().numpy())
    ours = fit_pca(rows[:200], n_components)
    axes = torch.from_numpy(theirs.components_)
    assert torch.allclose(ours.mean, torch.from_numpy(theirs.mean_), rtol=0, atol=ROUNDING)
    assert torch.allclose(ours.axes @ ours.axes.T, axes.T @ axes, rtol=0, atol=ROUNDING)
    expected = torch.from_numpy(theirs.inverse_transform(theirs.transform(rows[200:].double().numpy())))
    assert torch.allclose(ours.reconstruct(rows[200:]), expected, rtol=0, atol=ROUNDING)
    sums = baseline_errors(split(rows, 200), n_components)["PCA"]
    assert torch.allclose(sums, squared_error_sums(expected, rows[200:]), rtol=0, atol=ROUNDING)


def test_column_means_are_those_of_the_observed_training_cells() -> None:
    values = torch.tensor([[1.0, NAN, 4.0], [3.0, NAN, NAN], [9.0, 2.0, NAN], [0.0, 0.0, 7.0]])
    assert column_means(values[:2]).tolist() == [2.0, 0.0, 4.0]
    sums = baseline_errors(split(values, 2), 1)["column means"]
    assert sums.tolist() == [[7.0**2 + 2.0**2, 7.0**2 + 2.0**2], [3.0**2, 2.0**2 + 3.0**2]]


def test_test_rows_do_not_touch_the_fit() -> None:
    values = with_gaps(low_rank(noise=0.3), 0.1)
    changed = values.clone()
    changed[250:] = 100 * torch.randn(50, 12)
    for name, sums in baseline_errors(split(values), 3).items():
        assert torch.equal(sums[:10], baseline_errors(split(changed), 3)[name][:10])


def test_baselines_of_the_real_table_are_as_measured(real_table: Path) -> None:
    dataset = COPUSDataset(real_table)
    train, test = dataset.split(42)[:2]
    scaling, _ = fit_scaling("robust", dataset.data, train, dataset.columns)
    table = SplitTable(scaling.apply(dataset.data), train, test)
    found = [losses(table, latent_dim) for latent_dim in (2, 3, 4, 8)]
    assert [round(each["PCA"], 4) for each in found] == [0.0487, 0.0406, 0.0349, 0.0183]
    assert {round(each["column means"], 4) for each in found} == {0.0773}


# Missing cells


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_cells_held_out_are_recovered_far_better_than_by_column_means(noise: float) -> None:
    values = low_rank(noise=noise)
    seen = with_gaps(values, 0.2)
    pca, means, hidden = fit_pca(seen[:240], 3), column_means(seen[:240]), seen[240:].isnan()
    by_pca = (pca.reconstruct(seen[240:]) - values[240:])[hidden].square().mean()
    by_means = (means - values[240:])[hidden].square().mean()
    assert by_pca < 2 * noise**2 + 0.001 * by_means
    assert by_means > 1


def test_axes_found_despite_missing_cells_are_those_of_the_complete_table() -> None:
    values = low_rank(1000, noise=0.3)
    complete, gappy = fit_pca(values, 3), fit_pca(with_gaps(values, 0.15), 3)
    cosines = torch.linalg.svdvals(complete.axes.T @ gappy.axes)
    assert cosines.min() > 0.999
    assert gappy.noise == pytest.approx(0.3**2, rel=0.05)


def test_fit_of_two_columns_is_the_maximum_likelihood_of_incomplete_pairs() -> None:
    """If only the second column has gaps, the likelihood has a closed form: regression on the first (Anderson 1957).

    One component of two columns leaves the covariance free, so the fit must have that covariance.
    """
    pairs = torch.randn(400, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.5]]) + 1
    pairs[pairs[:, 0] > 1.5, 1] = NAN  # missing where the first is large: the mean of what is left is off
    both = pairs[~pairs.isnan().any(1)].double()
    slope = torch.cov(both.T)[0, 1] / both[:, 0].var()
    residual = (both[:, 1] - both[:, 1].mean() - slope * (both[:, 0] - both[:, 0].mean())).square().mean()
    first = pairs[:, 0].double()
    variance = first.var(correction=0)
    mean = torch.stack([first.mean(), both[:, 1].mean() + slope * (first.mean() - both[:, 0].mean())])
    covariance = torch.stack([variance, slope * variance, slope * variance, slope**2 * variance + residual]).view(2, 2)
    pca = fit_pca(pairs, 1)
    largest, axis = (part[..., -1] for part in torch.linalg.eigh(covariance))
    assert torch.allclose(pca.mean, mean, atol=1e-3)  # what EM leaves undone at its tolerance
    assert float((pca.axes[:, 0] @ axis).abs()) == pytest.approx(1, abs=1e-5)
    assert pca.noise == pytest.approx(float(covariance.trace() - largest), rel=1e-2)


def test_expectation_of_missing_cells_is_that_of_the_normal_distribution() -> None:
    rows = low_rank(noise=0.5)
    pca = fit_pca(rows, 3)
    outside = torch.eye(12, dtype=torch.float64) - pca.axes @ pca.axes.T
    within = pca.axes.T @ torch.cov(rows.double().T, correction=0) @ pca.axes
    covariance = pca.axes @ within @ pca.axes.T + pca.noise * outside
    seen = torch.arange(12) < 5
    row = torch.where(seen, rows[0], NAN)
    gain = covariance[~seen][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
    completed = (rows[0] - pca.mean).clone()
    completed[~seen] = gain @ completed[seen]
    expected = pca.mean + pca.axes @ (pca.axes.T @ completed)
    assert torch.allclose(pca.reconstruct(row[None])[0], expected, rtol=0, atol=ROUNDING)


def test_row_with_fewer_observed_cells_than_components_is_neither_exact_nor_absurd() -> None:
    values = low_rank(noise=1.0)
    pca = fit_pca(values[:240], 3)
    rows = values[240:]
    complete_error = (pca.reconstruct(rows) - rows).square().mean()
    for n_seen in (1, 2, 3):
        seen = torch.arange(12) < n_seen
        points = pca.reconstruct(torch.where(seen, rows, NAN))
        assert (points - rows)[:, seen].square().mean() > 0.05 * complete_error  # least squares: 0
        assert (points - pca.mean).abs().max() < 2 * (rows - pca.mean).abs().max()


def test_row_without_observed_cells_scores_zero_and_is_the_mean() -> None:
    values = low_rank()
    values[[3, 299]] = NAN
    table = split(values)
    for sums in baseline_errors(table, 3).values():
        assert sums[-1].tolist() == [0.0, 0.0]
        assert sums[:-1].isfinite().all()
    pca = fit_pca(values[:240], 3)
    assert torch.allclose(pca.reconstruct(values[299:])[0], pca.mean, rtol=0, atol=ROUNDING)


def test_column_without_a_training_value_counts_as_zero() -> None:
    values = low_rank()
    values[:240, 4] = NAN
    pca = fit_pca(values[:240], 3)
    assert pca.reconstruct(values[240:])[:, 4].abs().max() < ROUNDING
    others = torch.arange(12) != 4
    assert losses(split(values[:, others]), 3)["PCA"] < 1e-4


def test_em_ends_well_before_its_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Tensor] = []
    best_pca = pca_module._best_pca

    def counted(mean: Tensor, covariance: Tensor, n_components: int) -> PCA:
        steps.append(mean)
        return best_pca(mean, covariance, n_components)

    monkeypatch.setattr(pca_module, "_best_pca", counted)
    fit_pca(low_rank(noise=0.3), 3)
    assert len(steps) == 1
    steps.clear()
    fit_pca(with_gaps(low_rank(noise=0.3), 0.1), 3)
    assert 2 < len(steps) < pca_module.MAX_STEPS / 4


# Order, parts, device


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_order_of_the_rows_changes_nothing(share: float) -> None:
    values = with_gaps(low_rank(noise=0.3), share)
    table = split(values)
    order = torch.randperm(len(table.train))
    shuffled = SplitTable(values, table.train[order], table.test.flip(0))
    for name, sums in baseline_errors(table, 3).items():
        assert torch.allclose(baseline_errors(shuffled, 3)[name].flip(0), sums, rtol=0, atol=ROUNDING)


def test_same_table_gives_the_same_bits() -> None:
    table = split(with_gaps(low_rank(noise=0.3), 0.2))
    first, second = baseline_errors(table, 3), baseline_errors(table, 3)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_size_of_the_parts_changes_nothing(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    table = split(with_gaps(low_rank(noise=0.3), share))
    whole = baseline_errors(table, 3)
    monkeypatch.setattr(pca_module, "CELLS_AT_A_TIME", 7 * 12)  # 7 rows, and 2 where there are components
    for name, sums in baseline_errors(table, 3).items():
        assert torch.allclose(sums, whole[name], rtol=0, atol=ROUNDING)


def test_rows_with_the_same_cells_missing_are_worked_on_together(monkeypatch: pytest.MonkeyPatch) -> None:
    values = low_rank()
    values[::2, 3] = NAN
    values[1::2, :5] = NAN
    monkeypatch.setattr(pca_module, "CELLS_AT_A_TIME", 50 * 12 * 3)
    groups = list(pca_module._groups(values, 3))
    assert [len(group.rows) for group in groups] == [50] * 6
    assert [group.counts.tolist() for group in groups] == [[50]] * 6


def test_table_is_left_as_it_was() -> None:
    table = split(with_gaps(low_rank(), 0.2))
    before = table.values.clone()
    baseline_errors(table, 3)
    assert torch.equal(table.values.nan_to_num(nan=-1), before.nan_to_num(nan=-1))


def test_one_thread_works_and_their_number_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(rows: Tensor, n_components: int) -> PCA:
        seen.append(torch.get_num_threads())
        return fit_pca(rows, n_components)

    monkeypatch.setattr(baselines, "fit_pca", counted)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        baseline_errors(split(low_rank()), 3)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_scikit_learn_is_not_loaded() -> None:
    code = "import sys, layersearch.verdict.baselines; "
    code += "sys.exit(any(name.split('.')[0] == 'sklearn' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Degenerate shapes


@pytest.mark.parametrize("latent_dim", [12, 40])
def test_as_many_components_as_columns_are_exact(latent_dim: int) -> None:
    sums = baseline_errors(split(with_gaps(low_rank(n_features=12, noise=0.3), 0.2)), latent_dim)["PCA"]
    assert sums.max() < ROUNDING**2


def test_there_are_no_more_components_than_directions_in_the_training_rows() -> None:
    assert fit_pca(low_rank(n_rows=4), 8).axes.shape == (12, 3)  # 4 points span 3 directions
    assert fit_pca(low_rank(rank=2).double(), 8).axes.shape[1] < 8
    assert fit_pca(low_rank(n_rows=1), 8).axes.shape == (12, 0)


def test_constant_columns_change_no_error() -> None:
    values = low_rank(noise=0.3)
    wider = torch.cat([values, torch.full((300, 2), 0.5)], dim=1)
    for name, sums in baseline_errors(split(values), 3).items():
        assert torch.allclose(baseline_errors(split(wider), 3)[name], sums, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("latent_dim", [1, 3, 8])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("shape", [(2, 1), (3, 30), (10, 2), (12, 9)])
@pytest.mark.parametrize("kind", ["noise", "constant", "large", "tiny", "sparse"])
def test_errors_are_finite_whatever_the_table(kind: str, shape: tuple[int, int], share: float, latent_dim: int) -> None:
    values = {
        "noise": torch.rand(shape),
        "constant": torch.full(shape, 0.3),
        "large": 1e6 * torch.randn(shape),
        "tiny": 1e-12 * torch.randn(shape),
        "sparse": torch.rand(shape) * (torch.rand(shape) < 0.05),
    }[kind]
    n_train = max(1, shape[0] * 4 // 5)
    table = split(with_gaps(values, share), n_train)
    for sums in baseline_errors(table, latent_dim).values():
        assert sums.shape == (shape[0] - n_train, 2)
        assert sums.dtype == torch.float64
        assert sums.isfinite().all()


def test_pca_is_never_much_worse_than_the_column_means_on_tables_with_gaps() -> None:
    for n_rows, n_features, latent_dim in ((12, 24, 8), (40, 10, 9), (300, 5, 3)):
        found = losses(split(with_gaps(torch.rand(n_rows, n_features), 0.3)), latent_dim)
        assert found["PCA"] < 1.1 * found["column means"]
