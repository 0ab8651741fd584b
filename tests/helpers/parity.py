"""Compares a step of a fast engine with the reference's, up to float32 rounding.

if closest_to_kink(model, target, masks) >= KINK:
    assert_same_step(step, reference, learning_rate, number, tolerance_for(model))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from layersearch.engines.kernel import step as kernel
from layersearch.engines.reference import forward_with_masks
from models import DynamicAutoencoder

# Sums of up to 130 float32 products, in another order, differ by a few roundings of their largest term.
OUTPUT_TOLERANCE = 1e-6  # of a reconstructed value; a squared error e² then differs by 2e times that
GRADIENT_TOLERANCE = 1e-4  # relative to the largest gradient of the same step
NARROW_TOLERANCE = 1e-3  # the same for layers of 1 or 2 units, where LayerNorm cancels almost everything
KINK = 5e-6  # a ReLU input this close to 0 may fall on either side of it, and the gradient jumps there
UPDATE_TOLERANCE = 2e-7  # of a parameter, absolute, where its gradient is more than rounding noise


class Step(NamedTuple):
    """The outcome of a step, in the order of `models.flatten`."""

    loss: float
    gradient: np.ndarray  # [P]
    moments: np.ndarray  # [2, P]
    parameters: np.ndarray  # [P]


def assert_same_step(step: Step, reference: Step, learning_rate: float, number: int, tolerance: float) -> None:
    """Compares loss, gradients, AdamW's state and parameters after step `number` (from 1), from the same state."""
    noise = tolerance * np.abs(reference.gradient).max() + 1e-12
    (moment1, moment2), (expected1, expected2) = step.moments, reference.moments
    assert abs(step.loss - reference.loss) <= OUTPUT_TOLERANCE * (reference.loss + 2 * reference.loss**0.5)
    np.testing.assert_allclose(step.gradient, reference.gradient, rtol=0, atol=noise)
    np.testing.assert_allclose(moment1, expected1, rtol=1e-5, atol=noise)
    assert np.all(np.abs(np.sqrt(moment2) - np.sqrt(expected2)) <= 1e-5 * np.sqrt(expected2) + noise), "second moments"
    # Adam divides by sqrt(v), so noise in the gradient changes a parameter by lr x noise / sqrt(v)
    sensitivity = np.minimum(2, 2 * noise / (np.sqrt(expected2 / (1 - kernel.BETA2**number)) + 1e-8))
    difference = np.abs(step.parameters - reference.parameters)
    assert np.all(difference <= UPDATE_TOLERANCE + learning_rate * sensitivity), "parameters"
    assert np.median(difference) <= UPDATE_TOLERANCE


def tolerance_for(model: DynamicAutoencoder) -> float:
    """Returns the tolerance of this model's gradients, relative to the largest."""
    return NARROW_TOLERANCE if min(model.hidden_dims + model.decoder_dims) <= 2 else GRADIENT_TOLERANCE


def gradient_of(model: DynamicAutoencoder) -> np.ndarray:
    """Returns the gradients in the order of `models.flatten`, [P]; 0 for frozen parameters."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return np.concatenate([gradient.numpy().ravel() for gradient in gradients])


def closest_to_kink(model: DynamicAutoencoder, target: torch.Tensor, masks: Sequence[torch.Tensor]) -> float:
    """Returns the smallest absolute input of any ReLU."""
    inputs: list[torch.Tensor] = []
    relus = [m for m in model.modules() if isinstance(m, torch.nn.ReLU)]
    hooks = [relu.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for relu in relus]
    with torch.no_grad():
        forward_with_masks(model, target.nan_to_num(nan=0.0), masks)
    for hook in hooks:
        hook.remove()
    return min(float(given.abs().min()) for given in inputs)
