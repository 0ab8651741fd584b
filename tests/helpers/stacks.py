"""Stacks of made-up models and the data they train on, for tests of their steps.

made = make_stack(Case([(16, 8), (33, 5), (40, 40)], missing=0.3))
made.step.begin_epoch(made.streams, made.rates(epoch=0))
made.step()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from layersearch.engines.stack.model import stack
from layersearch.engines.stack.step import AT_REST, StackStep, Stream, adamw_rates
from layersearch.space.configurations import Configuration, decoder_dims, encoder_dims
from models import DynamicAutoencoder, flatten, load_flat

CPU = torch.device("cpu")
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class Case:
    configs: Sequence[Configuration]
    features: int = 7
    latent: int = 2
    dropout: float = 0.3
    odd_dropout: float | None = None  # of every other member, if not the same
    normalization: str = "layer"
    input_normalization: str = "layer"
    is_frozen: bool = False
    n_rows: int = 37  # in batches of `batch_size`, the last of which is not full
    batch_size: int = 16
    missing: float = 0.0
    nonzero: float = 0.45

    def dropout_of(self, member: int) -> float:
        return self.dropout if self.odd_dropout is None or member % 2 == 0 else self.odd_dropout

    def targets(self) -> torch.Tensor:
        """Returns [N, F] targets with zeros and missing cells."""
        random = np.random.default_rng(7)
        values = random.uniform(0.05, 1, (self.n_rows, self.features)).astype(np.float32)
        values[random.random(values.shape) >= self.nonzero] = 0
        values[random.random(values.shape) < self.missing] = np.nan
        return torch.from_numpy(values)

    def models(self) -> list[DynamicAutoencoder]:
        """Returns the members, with gains and shifts other than their initial 1 and 0."""
        models = []
        for number, config in enumerate(self.configs):
            random, generator = np.random.default_rng([3, number]), torch.Generator().manual_seed(number)
            encoder, decoder = encoder_dims(config), decoder_dims(config)
            model = DynamicAutoencoder(
                self.features,
                self.latent,
                encoder,
                self.dropout_of(number),
                decoder_dims=decoder,
                normalization=self.normalization,
                input_normalization=self.input_normalization,
                generator=generator,
            )
            vector = flatten(model)
            load_flat(model, (vector + random.normal(0, 0.1, vector.shape)).astype(np.float32))
            if self.is_frozen:
                model.freeze_encoder()
            models.append(model)
        return models


class Made(NamedTuple):
    step: StackStep
    streams: list[Stream]  # the two that members follow in turns

    def rates(self, epoch: int) -> np.ndarray:
        """Returns rates that differ by member, [S, M, 3]; the empty place is at rest."""
        n_steps, n_members = self.step.n_steps, len(self.step.stacked.members)
        rates = [adamw_rates(rate_of(m), decay_of(m), epoch * n_steps + 1, n_steps) for m in range(n_members)]
        rates[-1] = np.broadcast_to(np.array(AT_REST, np.float32), rates[0].shape)
        return np.stack(rates, axis=1)

    def run(self, n_epochs: int) -> None:
        """Trains for `n_epochs` epochs."""
        for epoch in range(n_epochs):
            streams = [stream._replace(epoch=epoch) for stream in self.streams]
            self.step.begin_epoch(streams, self.rates(epoch))
            for _ in range(self.step.n_steps):
                self.step()


def rate_of(member: int) -> float:
    """Returns a member's learning rate."""
    return 3e-3 / (1 + member)


def decay_of(member: int) -> float:
    """Returns a member's weight decay."""
    return WEIGHT_DECAY * member


def make_stack(
    case: Case, models: Sequence[DynamicAutoencoder | None] | None = None, device: torch.device = CPU
) -> Made:
    """Stacks the case's members, or other models in their places, with an empty place behind them."""
    models = [*(case.models() if models is None else models), None]
    streams = [
        Stream(order=11, dropout=2**63 + 12345, epoch=0, p=case.dropout_of(0)),
        Stream(order=2**63 - 1, dropout=5, epoch=0, p=case.dropout_of(1)),
    ]
    step = StackStep(
        stack(models, device=device), case.targets().to(device), case.batch_size,
        [place % 2 for place in range(len(models))], [stream.p for stream in streams],
    )  # fmt: skip
    return Made(step, streams)


def state_of(step: StackStep) -> np.ndarray:
    """Returns the bits of all members' parameters, gradients and moments, [4, M, P] int32."""
    values = torch.cat([step.stacked.flat[None], step.gradient[None], step.moments])
    return values.cpu().numpy().view(np.int32)
