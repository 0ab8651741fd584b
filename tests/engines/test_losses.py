from __future__ import annotations

import math

import pytest
import torch

from losses import cell_weights, loss_of_sums, sparse_aware_loss, squared_error_sums

NAN = math.nan


def test_loss_weighs_nonzero_cells_07_and_all_cells_03() -> None:
    target = torch.tensor([[0.0, 2.0], [0.0, 4.0]])
    reconstruction = torch.tensor([[1.0, 1.0], [3.0, 4.0]])  # squared errors 1, 1, 9, 0
    assert float(sparse_aware_loss(reconstruction, target)) == pytest.approx(0.7 * (1 / 2) + 0.3 * (11 / 4))


def test_loss_is_the_plain_mean_where_no_target_is_nonzero() -> None:
    assert float(sparse_aware_loss(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))) == pytest.approx(5.0)


def test_missing_cells_count_in_neither_term_and_get_no_gradient() -> None:
    target = torch.tensor([[0.0, 2.0, NAN], [NAN, 4.0, 0.0]])
    reconstruction = torch.tensor([[1.0, 1.0, 50.0], [50.0, 4.0, 3.0]], requires_grad=True)
    loss = sparse_aware_loss(reconstruction, target)
    assert float(loss.detach()) == pytest.approx(0.7 * (1 / 2) + 0.3 * (11 / 4))
    loss.backward()
    assert reconstruction.grad is not None
    assert torch.equal(reconstruction.grad == 0, torch.tensor([[False, False, True], [True, True, False]]))


def test_a_batch_without_observed_cells_has_loss_0() -> None:
    assert float(sparse_aware_loss(torch.ones(2, 2), torch.full((2, 2), NAN))) == 0


def test_cell_weights_add_up_to_1() -> None:
    target = torch.tensor([[0.0, 2.0, NAN], [NAN, 4.0, 0.0]])
    assert float(cell_weights(target).sum()) == pytest.approx(1.0)


def test_loss_of_sums_over_any_rows_is_the_loss_of_those_rows() -> None:
    target = torch.rand(30, 5) * (torch.rand(30, 5) < 0.4)
    target[torch.rand(30, 5) < 0.1] = NAN
    reconstruction = torch.rand(30, 5)
    sums = squared_error_sums(reconstruction, target)
    for rows in (slice(None), slice(3, 9), slice(5, 6)):
        expected = float(sparse_aware_loss(reconstruction[rows].double(), target[rows].double()))
        assert loss_of_sums(sums[rows], target[rows]) == pytest.approx(expected, rel=1e-6)
