"""The linear autoencoder: the best affine encoder and decoder under the loss that the networks are trained on.

    linear = fit_linear(train_rows, fit_pca(train_rows, n_components=3))
    reconstruction = linear.reconstruct(test_rows)

PCA minimises the plain squared error, in which all cells count alike. The networks are trained on a loss in which
cells that are not zero count more (`losses.py`), so their fair linear rival is trained on that loss too. With 1 for
the constant it reconstructs column f of a row x as [1, x A] u_f. Its loss over the training rows,

    sum over n and f of w_nf (x_nf - [1, x_n A] u_f)²,

is quadratic in the encoder A for a fixed decoder u, and in u for a fixed A. Alternating least squares solves the two in
turn. Each step has a small proximal term, which keeps its solution unique and close to the last one. The loss can
therefore never rise, and every limit of the iterates is a stationary point of the loss (Grippo & Sciandrone 2000,
doi:10.1016/S0167-6377(99)00074-7). That this is the global minimum is not guaranteed; it starts from PCA, and on the
published table eight random starts end within 0.2 % of where PCA leads. Nothing is random, so the same rows give the
same bits.

Symbols:
    N rows · F features (columns) · K latent dimensions · B rows of a chunk

Of few columns the iterations need only moments of the rows, computed once: of each column f the matrix
X̃' diag(w_f) X̃ and the vector X̃' diag(w_f) x_f, where X̃ is the rows with a 1 in front. Of many columns these would be
F³ numbers, so that each iteration goes over the rows and solves for the encoder by conjugate gradients (Hestenes &
Stiefel 1952, doi:10.6028/jres.049.044), within a bound on the number of operations.

Cells that are missing in a target have no weight; missing cells of the input are replaced by their expectation under
PCA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from layersearch.verdict.pca import CELLS_AT_A_TIME, PCA, rows_at_a_time
from losses import weights_of

MAX_ITERATIONS = 500  # of alternating least squares
TOLERANCE = 1e-7  # relative fall of the training loss in an iteration below which the loss has converged
PROXIMAL = 1e-9  # weight of the proximal term, relative to the mean diagonal of the matrix that it is added to
MOST_UNKNOWNS = 512  # numbers in the encoder up to which its least squares are solved directly, from moments
MOST_PRODUCTS = 5e10  # multiplications up to which the moments are computed: a few seconds
OPERATIONS = 5e9  # over rows, after which the iterations end: a few seconds
CG_STEPS = 4  # of conjugate gradients in one iteration, each of which improves on the last encoder


@dataclass(frozen=True)
class LinearAutoencoder:
    """An affine encoder and decoder, both in float64."""

    pca: PCA  # centres the rows and completes them where cells are missing
    encoder: Tensor  # [F, K]
    decoder: Tensor  # [1 + K, F]; the first row is the constant

    def reconstruct(self, rows: Tensor) -> Tensor:
        """Returns the reconstruction of each row: [N, F], NaN = missing -> [N, F] float64 without NaN."""
        chunks = rows.split(rows_at_a_time(rows, max(1, self.encoder.shape[1])))
        codes = [self.pca.completed(chunk) @ self.encoder for chunk in chunks]
        return torch.cat([self.pca.mean + pad(code, (1, 0), value=1.0) @ self.decoder for code in codes])


def fit_linear(rows: Tensor, pca: PCA) -> LinearAutoencoder:
    """Returns the linear autoencoder of rows [N, F], NaN = missing, with as many latent dimensions as `pca` has axes.

    Args:
        rows: the training rows.
        pca: fitted on the same rows; where the iterations start.
    """
    n_features, n_components = pca.axes.shape
    encoder, decoder = pca.axes, pad(pca.axes.T, (0, 0, 1, 0))
    if n_components == n_features:  # every row is reconstructed exactly
        return LinearAutoencoder(pca, encoder, decoder)
    by_moments = n_features * n_components <= MOST_UNKNOWNS and len(rows) * n_features**3 <= MOST_PRODUCTS
    problem = _Moments.of(rows, pca) if by_moments else _Rows(rows, pca)
    last, spent = float("inf"), 0.0
    for _ in range(MAX_ITERATIONS):
        decoder = problem.best_decoder(encoder, decoder)
        encoder, loss = problem.best_encoder(encoder, decoder)
        spent += problem.operations
        if last - loss <= TOLERANCE * loss or spent > OPERATIONS:
            break
        last = loss
    return LinearAutoencoder(pca, encoder, problem.best_decoder(encoder, decoder))


def _solve(matrix: Tensor, right: Tensor, last: Tensor) -> Tensor:
    """Returns the solution of symmetric positive semidefinite systems with a proximal term: [..., n, n], [..., n]."""
    n = matrix.shape[-1]
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None]  # [..., 1]
    weight = PROXIMAL * diagonal + torch.finfo(matrix.dtype).tiny
    regular = matrix + weight[..., None] * torch.eye(n, dtype=matrix.dtype)
    factor, failed = torch.linalg.cholesky_ex(regular)
    solution = torch.cholesky_solve((right + weight * last)[..., None], factor)[..., 0]
    # Where rounding has made a matrix indefinite, the last solution stays.
    return torch.where((failed == 0)[..., None] & solution.isfinite().all(-1, keepdim=True), solution, last)


@dataclass(frozen=True)
class _Moments:
    """The least squares of few columns, by moments of the rows."""

    products: Tensor  # [F, 1 + F, 1 + F]: X̃' diag(w_f) X̃ of each column f
    targets: Tensor  # [F, 1 + F]: X̃' diag(w_f) x_f
    constant: float  # weighted sum of squares of the targets
    operations: float = 0.0  # of one iteration over rows: none

    @classmethod
    def of(cls, rows: Tensor, pca: PCA) -> _Moments:
        n = rows.shape[1]
        products = torch.zeros(n, (1 + n) ** 2, dtype=torch.float64)
        targets, constant = torch.zeros(n, 1 + n, dtype=torch.float64), 0.0
        for inputs, target, weights in _chunks(rows, pca, (1 + n) ** 2):
            with_one = pad(inputs, (1, 0), value=1.0)  # [B, 1 + F]
            products += weights.T @ (with_one[:, :, None] * with_one[:, None, :]).flatten(1)  # [F, B] @ [B, (1 + F)²]
            targets += (weights * target).T @ with_one
            constant += float((weights * target.square()).sum())
        return cls(products.view(n, 1 + n, 1 + n), targets, constant)

    def best_decoder(self, encoder: Tensor, last: Tensor) -> Tensor:
        """Returns the decoder [1 + K, F] that is best for an encoder [F, K]."""
        padded = torch.block_diag(torch.ones(1, 1, dtype=encoder.dtype), encoder)  # [1 + F, 1 + K]
        return _solve(padded.T @ self.products @ padded, self.targets @ padded, last.T).T

    def best_encoder(self, last: Tensor, decoder: Tensor) -> tuple[Tensor, float]:
        """Returns the encoder [F, K] that is best for a decoder [1 + K, F], and the loss with it."""
        n_features, n_components = last.shape
        constant, axes = decoder[0], decoder[1:]  # [F], [K, F]
        inner = self.products[:, 1:, 1:]  # [F, F, F]
        pairs = (axes[:, None] * axes[None]).flatten(0, 1)  # [K², F]
        matrix = (pairs @ inner.flatten(1)).view(n_components, n_components, n_features, n_features)
        matrix = matrix.transpose(1, 2).flatten(2).flatten(0, 1)  # [K, F, K, F] -> [KF, KF]
        right = axes @ (self.targets[:, 1:] - constant[:, None] * self.products[:, 1:, 0])  # [K, F]
        encoder = _solve(matrix, right.flatten(), last.T.flatten()).view(n_components, n_features).T
        whole = torch.cat([constant[None], encoder @ axes]).T  # [F, 1 + F]: what each column is reconstructed by
        quadratic = torch.einsum("fi,fij,fj->", whole, self.products, whole)
        return encoder, float(quadratic - 2 * (whole * self.targets).sum()) + self.constant


@dataclass(frozen=True)
class _Rows:
    """The least squares of many columns, by going over the rows."""

    rows: Tensor  # [N, F], NaN = missing
    pca: PCA

    @property
    def operations(self) -> float:
        """Number of operations in one iteration: on each cell, 4 for a latent dimension and about 30 besides."""
        return self.rows.numel() * (CG_STEPS + 2) * (4.0 * self.pca.axes.shape[1] + 30)

    def best_decoder(self, encoder: Tensor, last: Tensor) -> Tensor:
        """Returns the decoder [1 + K, F] that is best for an encoder [F, K]."""
        n = 1 + encoder.shape[1]
        matrix = torch.zeros(self.rows.shape[1], n * n, dtype=torch.float64)
        right = torch.zeros(self.rows.shape[1], n, dtype=torch.float64)
        for inputs, target, weights in self._chunks():
            codes = pad(inputs @ encoder, (1, 0), value=1.0)  # [B, 1 + K]
            matrix += weights.T @ (codes[:, :, None] * codes[:, None, :]).flatten(1)  # [F, B] @ [B, (1 + K)²]
            right += (weights * target).T @ codes
        return _solve(matrix.view(-1, n, n), right, last.T).T

    def best_encoder(self, last: Tensor, decoder: Tensor) -> tuple[Tensor, float]:
        """Returns a better encoder [F, K] for a decoder [1 + K, F], and the loss with it."""
        if not last.shape[1]:
            return last, self._loss_and_slope(last, decoder)[0]
        encoder = last
        _, residual = self._loss_and_slope(encoder, decoder)
        direction, size = residual, residual.square().sum()
        for _ in range(CG_STEPS):
            if not size > 0:
                break
            curved = self._curvature(direction, decoder[1:])
            step = size / (direction * curved).sum().clamp(min=torch.finfo(size.dtype).tiny)
            encoder, residual = encoder + step * direction, residual - step * curved
            size, last_size = residual.square().sum(), size
            direction = residual + size / last_size * direction
        loss, _ = self._loss_and_slope(encoder, decoder)
        return encoder, loss

    def _loss_and_slope(self, encoder: Tensor, decoder: Tensor) -> tuple[float, Tensor]:
        """Returns the loss and minus half of its gradient in the encoder, [F, K]."""
        loss, slope = 0.0, torch.zeros_like(encoder)
        for inputs, target, weights in self._chunks():
            error = target - pad(inputs @ encoder, (1, 0), value=1.0) @ decoder  # [B, F]
            loss += float((weights * error.square()).sum())
            slope += inputs.T @ ((weights * error) @ decoder[1:].T)
        return loss, slope

    def _curvature(self, direction: Tensor, axes: Tensor) -> Tensor:
        """Returns half of the loss's Hessian times a direction [F, K] of the encoder."""
        product = torch.zeros_like(direction)
        for inputs, _, weights in self._chunks():
            product += inputs.T @ ((weights * (inputs @ direction @ axes)) @ axes.T)
        return product

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return _chunks(self.rows, self.pca, self.rows.shape[1] * max(1, self.pca.axes.shape[1]))


def _chunks(rows: Tensor, pca: PCA, cells: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields centred inputs, centred targets and the weights of the loss, each [B, F], with `cells` numbers a row."""
    nonzero_weight, all_weight = weights_of(rows)
    for chunk in rows.split(max(1, CELLS_AT_A_TIME // cells)):
        observed = ~chunk.isnan()
        weights = all_weight * observed.double() + nonzero_weight * ((chunk != 0) & observed)
        yield pca.completed(chunk), (chunk - pca.mean).nan_to_num(nan=0.0), weights
