"""The linear autoencoder: its optimum, tables of every shape, and both ways of solving its least squares."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from sklearn import datasets
from torch import Tensor

from dataset import COPUSDataset, fit_scaling
from layersearch.engines.settings import SplitTable
from layersearch.verdict import linear
from layersearch.verdict.baselines import baseline_errors, best_constant
from layersearch.verdict.linear import LinearAutoencoder, fit_linear
from layersearch.verdict.pca import PCA, fit_pca
from layersearch.words import BEST_CONSTANT, COLUMN_MEANS, LINEAR, PRINCIPAL
from losses import cell_weights, loss_of_sums, sparse_aware_loss

FACTS = {2: 0.0413, 3: 0.0345, 4: 0.0290, 8: 0.0146}  # found by L-BFGS on the published table


def sparse_rows(n_rows: int = 300, n_features: int = 12, share: float = 0.5) -> Tensor:
    """Returns rows that are near a plane of 4 dimensions, with this share of their cells set to zero."""
    rows = torch.rand(n_rows, 4) @ torch.rand(4, n_features)
    return rows * (torch.rand(n_rows, n_features) >= share)


def loss_of(model: LinearAutoencoder, rows: Tensor) -> float:
    return float(sparse_aware_loss(model.reconstruct(rows), rows.double()))


def fitted(rows: Tensor, latent_dim: int) -> LinearAutoencoder:
    return fit_linear(rows, fit_pca(rows, latent_dim))


def test_the_published_table_has_the_optimum_that_another_method_found(real_table: Path) -> None:
    dataset = COPUSDataset(real_table)
    train, test = dataset.split(42)[:2]
    scaling, _ = fit_scaling("robust", dataset.data, train, dataset.columns)
    table = SplitTable(scaling.apply(dataset.data), train, test)
    for latent_dim, loss in FACTS.items():
        errors = baseline_errors(table, latent_dim)
        assert loss_of_sums(errors[LINEAR], table.values[test]) < 1.005 * loss
        assert round(loss_of_sums(errors[BEST_CONSTANT], table.values[test]), 4) == 0.0670


@pytest.mark.parametrize("load", [datasets.load_breast_cancer, datasets.load_wine, datasets.load_diabetes])
def test_on_a_table_without_many_zeros_it_is_as_good_as_pca(load) -> None:  # type: ignore[no-untyped-def]
    values = torch.from_numpy(load().data).float()
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    train, test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    low, high = values[train].quantile(torch.tensor([0.01, 0.99]), dim=0)
    table = SplitTable((values - low) / (high - low), train, test)
    errors = baseline_errors(table, 3)
    found = {name: loss_of_sums(errors[name], table.values[test]) for name in (PRINCIPAL, LINEAR)}
    assert found[LINEAR] == pytest.approx(found[PRINCIPAL], rel=0.01)


def test_it_is_a_stationary_point_of_the_loss() -> None:
    rows = sparse_rows().double()
    model = fitted(rows, 3)
    encoder, decoder = model.encoder.clone().requires_grad_(), model.decoder.clone().requires_grad_()
    inputs = rows - model.pca.mean
    codes = torch.nn.functional.pad(inputs @ encoder, (1, 0), value=1.0)
    loss = (cell_weights(rows) * (inputs - codes @ decoder).square()).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(loss_of(model, rows))
    size = float(loss.detach())
    for slope, weights in ((encoder.grad, encoder), (decoder.grad, decoder)):
        assert slope is not None
        assert float(slope.norm() * weights.detach().norm()) < 1e-3 * size  # at PCA's solution it is 0.3


def test_it_beats_pca_on_rows_with_many_zeros_and_no_random_start_does_better() -> None:
    rows = sparse_rows().double()
    pca = fit_pca(rows, 3)
    ours = loss_of(fit_linear(rows, pca), rows)
    assert ours < 0.97 * float(sparse_aware_loss(pca.reconstruct(rows), rows))
    for seed in range(4):
        axes = torch.linalg.qr(torch.randn(12, 3, generator=torch.Generator().manual_seed(seed)).double()).Q
        other = fit_linear(rows, PCA(pca.mean, axes, pca.shrunk_axes, pca.noise))
        assert ours < 1.01 * loss_of(other, rows)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_going_over_the_rows_ends_where_the_moments_do(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sparse_rows().double()
    rows = torch.where(torch.rand(rows.shape) < share, math.nan, rows)
    pca = fit_pca(rows, 3)
    by_moments = loss_of(fit_linear(rows, pca), rows)
    monkeypatch.setattr(linear, "MOST_UNKNOWNS", 0)
    assert loss_of(fit_linear(rows, pca), rows) == pytest.approx(by_moments, rel=1e-3)
    monkeypatch.setattr(linear, "CELLS_AT_A_TIME", 50 * 12 * 3)  # chunks of 50 rows
    assert loss_of(fit_linear(rows, pca), rows) == pytest.approx(by_moments, rel=1e-3)


def test_work_on_a_wide_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sparse_rows(40, 300).double()
    pca = fit_pca(rows, 3)
    passes: list[Tensor] = []
    loss_and_slope = linear._Rows._loss_and_slope

    def counted(problem: linear._Rows, encoder: Tensor, decoder: Tensor) -> tuple[float, Tensor]:
        passes.append(encoder)
        return loss_and_slope(problem, encoder, decoder)

    monkeypatch.setattr(linear._Rows, "_loss_and_slope", counted)
    monkeypatch.setattr(linear, "OPERATIONS", 3 * linear._Rows(rows, pca).operations)
    model = fit_linear(rows, pca)
    assert len(passes) == 2 * 4  # at the start and at the end of each iteration
    assert loss_of(model, rows) < float(sparse_aware_loss(pca.reconstruct(rows), rows))


def test_the_best_constant_has_the_lowest_loss_of_all_constants() -> None:
    rows = torch.where(torch.rand(200, 6) < 0.1, math.nan, sparse_rows(200, 6))
    constant = best_constant(rows).requires_grad_()
    loss = sparse_aware_loss(constant.expand_as(rows), rows.double())
    loss.backward()
    assert constant.grad is not None
    assert float(constant.grad.abs().max()) < 1e-7  # the weights of the cells are float32
    assert best_constant(torch.full((3, 1), math.nan)).tolist() == [0.0]


def test_a_verdict_speaks_of_the_best_constant_and_keeps_the_column_means() -> None:
    table = SplitTable(sparse_rows(), torch.arange(240), torch.arange(240, 300))
    assert list(baseline_errors(table, 3)) == [COLUMN_MEANS, BEST_CONSTANT, PRINCIPAL, LINEAR]
