"""The compiled step compared with plain PyTorch: same weights, same batches, same dropout patterns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from parity import KINK, Step, assert_same_step, closest_to_kink, gradient_of, tolerance_for

from layersearch.engines.kernel import jit
from layersearch.engines.kernel import step as kernel
from layersearch.engines.reference import (
    dropout_masks,
    forward_with_masks,
    get_moments,
    make_optimizer,
    reference_step,
    set_moments,
)
from layersearch.engines.settings import TrainingSettings
from layersearch.options import NORMALIZATIONS
from layersearch.randomness import dropout_threshold
from layersearch.space.configurations import Configuration, decoder_dims, encoder_dims
from losses import sparse_aware_loss
from models import DynamicAutoencoder, flatten, load_flat

STEPS = 50
DROPOUT_KEY = 2**63 + 12345


@dataclass(frozen=True)
class Case:
    hidden: Configuration
    latent: int = 3
    features: int = 24
    dropout: float = 0.0
    batch_size: int = 32
    n_rows: int = 32  # rows of the batch; fewer than batch_size make a smaller last batch
    missing: float = 0.0
    nonzero: float = 0.45
    normalization: str = "layer"
    input_normalization: str = "layer"
    is_frozen: bool = False

    @property
    def normalizations(self) -> dict[str, Any]:
        return {"normalization": self.normalization, "input_normalization": self.input_normalization}


CASES = [
    Case((64, 64), dropout=0.3),
    Case((64, 64, 64), dropout=0.1, n_rows=7),
    Case((1,), latent=1, features=1, nonzero=0.9),
    Case((2, 1), latent=2, features=3, dropout=0.3),
    Case((3,), latent=8, features=5, dropout=0.3, n_rows=1),
    Case((130, 17, 5), latent=4, features=60, dropout=0.3, batch_size=48, n_rows=48),
    Case((33, 31, 29, 15, 7), latent=5, features=23, dropout=0.3),
    Case((16, 16, 8, 8, 4), latent=1, features=7, missing=0.3),
    Case((65, 66), latent=6, features=9, dropout=0.3, missing=0.2, n_rows=19),
    Case((24,), latent=7, features=10, nonzero=0.0),
    Case((12, 12), latent=2, features=6, nonzero=0.0, missing=0.5, dropout=0.3),
    Case((127, 128, 129), latent=3, features=25, batch_size=17, n_rows=17),
    Case((8, 64, 16), dropout=0.3, missing=0.1),
    Case(((64, 32), (16, 48, 96)), dropout=0.3),
    Case(((130, 17, 5), (9,)), latent=4, features=60, dropout=0.3, missing=0.2, batch_size=48, n_rows=31),
    Case(((5,), (7, 33, 140)), latent=6, features=9, dropout=0.1, missing=0.3, n_rows=7),
    Case(((2, 1), (3,)), latent=2, features=3, dropout=0.3),
    Case((128, 96), dropout=0.1, batch_size=180, n_rows=180),  # its products are computed block by block
    *[
        Case(
            (64, 32),
            dropout=dropout,
            missing=missing,
            n_rows=n_rows,
            normalization=hidden,
            input_normalization=of_input,
        )
        for hidden, of_input in [("none", "none"), ("none", "layer"), ("layer", "none")]
        for dropout, missing, n_rows in [(0.0, 0.0, 32), (0.3, 0.2, 19)]
    ],
    Case(((130, 17, 5), (9,)), latent=4, features=60, dropout=0.1, missing=0.3, n_rows=7, normalization="none"),
    Case((64, 32), dropout=0.3, is_frozen=True),
    Case(((17, 5), (9,)), latent=4, features=30, dropout=0.3, missing=0.2, n_rows=19, is_frozen=True),
    Case(((9,), (3, 40)), dropout=0.1, is_frozen=True, normalization="none", input_normalization="none"),
    Case((1,), latent=1, features=1, nonzero=0.9, normalization="none", input_normalization="none"),
    Case((127, 65, 3), batch_size=17, n_rows=17, normalization="none", input_normalization="none", dropout=0.5),
]


def batch_of(case: Case, step: int) -> torch.Tensor:
    """Returns [B, F] targets with zeros and missing cells."""
    random = np.random.default_rng([7, step])
    values = random.uniform(0.05, 1, (case.n_rows, case.features)).astype(np.float32)
    values[random.random(values.shape) >= case.nonzero] = 0
    values[random.random(values.shape) < case.missing] = np.nan
    return torch.from_numpy(values)


class Compiled:
    """The state of the compiled engine, trained one step at a time."""

    def __init__(self, case: Case, model: DynamicAutoencoder) -> None:
        self.case = case
        self.parameters = flatten(model)
        self.moment1, self.moment2 = np.zeros_like(self.parameters), np.zeros_like(self.parameters)
        self.table = kernel.layer_table(
            case.features, case.latent, case.hidden, **case.normalizations, is_frozen=case.is_frozen
        )
        self.work = kernel.allocate(self.table, case.batch_size)

    def step(self, number: int, target: torch.Tensor, learning_rate: float, weight_decay: float) -> float:
        """Trains on one batch as epoch `number` (from 0) of a single step; returns the loss of the batch."""
        data = target.numpy()
        rows = np.arange(len(data), dtype=np.int32)
        losses, test_losses = np.zeros(1), np.zeros(1)
        finished = kernel.train_epochs(
            self.parameters, self.moment1, self.moment2, self.table, self.work, data,
            rows[None], number, np.full(1, learning_rate), weight_decay, self.case.batch_size, np.uint64(DROPOUT_KEY),
            dropout_threshold(self.case.dropout), rows[:1], losses, test_losses,
            np.zeros((len(data), 2), np.float32),
        )  # fmt: skip
        assert finished == 1
        return float(losses[0])


def model_of(case: Case) -> DynamicAutoencoder:
    model = DynamicAutoencoder(
        case.features,
        case.latent,
        encoder_dims(case.hidden),
        case.dropout,
        decoder_dims=decoder_dims(case.hidden),
        **case.normalizations,
        generator=torch.Generator().manual_seed(11),
    )
    random = np.random.default_rng(3)  # gains and shifts other than their initial 1 and 0
    vector = flatten(model)
    load_flat(model, (vector + random.normal(0, 0.1, vector.shape)).astype(np.float32))
    if case.is_frozen:
        model.freeze_encoder()
    return model


def settings_of(case: Case) -> TrainingSettings:
    return TrainingSettings(case.latent, STEPS, case.batch_size, 3e-3, 1e-6, 1e-2, case.dropout, seed=0)


def masks_of(case: Case, model: DynamicAutoencoder, step: int) -> list[torch.Tensor]:
    masks = dropout_masks(model, DROPOUT_KEY, step, case.batch_size, n_steps=1)
    return [mask[0, : case.n_rows] for mask in masks]


def frozen_part(model: DynamicAutoencoder) -> int:
    """Returns the number of the frozen parameters, which come first."""
    return sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_of_50_steps_matches_the_reference(case: Case) -> None:
    """Compares loss, all gradients, AdamW's state and the parameters; each step starts from the same state."""
    model, settings = model_of(case), settings_of(case)
    compiled = Compiled(case, model)
    compared = 0
    for step in range(2 * STEPS):
        learning_rate = settings.learning_rates[step % STEPS]
        target = batch_of(case, step)
        load_flat(model, compiled.parameters)
        before = compiled.parameters.copy()
        optimizer = make_optimizer(model, settings)
        optimizer.param_groups[0]["lr"] = float(learning_rate)
        set_moments(optimizer, np.stack([compiled.moment1, compiled.moment2]), step)

        masks = masks_of(case, model, step)
        closest = closest_to_kink(model, target, masks)
        loss = float(reference_step(model, optimizer, target, masks))
        reference = Step(loss, gradient_of(model), get_moments(optimizer), flatten(model))
        loss = compiled.step(step, target, learning_rate, settings.weight_decay)
        if closest < KINK:
            continue
        compared += 1
        moments = np.stack([compiled.moment1, compiled.moment2])
        own = Step(loss, compiled.work.gradient, moments, compiled.parameters)
        assert_same_step(own, reference, learning_rate, step + 1, tolerance_for(model))
        assert np.array_equal(compiled.parameters[: frozen_part(model)], before[: frozen_part(model)])
        if compared == STEPS:
            return
    pytest.fail(f"only {compared} steps could be compared")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_agree_with_float64_autograd(case: Case) -> None:
    """The error is at most a few times that of PyTorch's own float32 gradients."""
    model = model_of(case)
    compiled = Compiled(case, model)
    target = batch_of(case, 0)
    masks = masks_of(case, model, 0)
    sparse_aware_loss(forward_with_masks(model, target.nan_to_num(nan=0.0), masks), target).backward()
    single = gradient_of(model)
    model.double().zero_grad()
    target64 = target.double()
    masks64 = [mask.double() for mask in masks]
    sparse_aware_loss(forward_with_masks(model, target64.nan_to_num(nan=0.0), masks64), target64).backward()
    exact = gradient_of(model)
    compiled.step(0, target, 0.0, 0.0)

    rounding = np.abs(single - exact).max()
    assert np.abs(compiled.work.gradient - exact).max() <= 8 * rounding + 4e-6 * np.abs(exact).max()


def test_free_running_100_steps_stay_together() -> None:
    case = Case((64, 32), dropout=0.3)
    model, settings = model_of(case), settings_of(case)
    compiled, optimizer = Compiled(case, model), make_optimizer(model, settings)
    for step, learning_rate in enumerate(settings.learning_rates):
        optimizer.param_groups[0]["lr"] = float(learning_rate)
        loss = float(reference_step(model, optimizer, batch_of(case, step), masks_of(case, model, step)))
        assert compiled.step(step, batch_of(case, step), learning_rate, settings.weight_decay) == pytest.approx(
            loss, rel=2e-3
        )
    np.testing.assert_allclose(compiled.parameters, flatten(model), atol=2e-3)


@pytest.mark.parametrize(("widths", "batch_size", "in_blocks"), [((128, 96), 180, True), ((128, 96), 32, False)])
def test_large_products_are_done_in_blocks(widths: Configuration, batch_size: int, in_blocks: bool) -> None:
    """Only the memory shows it, since blocks change no bit (test_product.py)."""
    table = kernel.layer_table(24, 3, widths)
    work = kernel.allocate(table, batch_size)
    kernel._forward(np.ones_like(work.gradient), table, work, np.uint64(0), batch_size, 0)
    assert work.scratch.any() == in_blocks


@pytest.mark.parametrize("config", [(5, 3), ((5, 3), (4, 6, 8)), ((5, 6), (4,))])
@pytest.mark.parametrize("hidden", NORMALIZATIONS)
@pytest.mark.parametrize("of_input", NORMALIZATIONS)
def test_layer_table_lays_the_state_dict_end_to_end(config: Configuration, hidden: str, of_input: str) -> None:
    norms: dict[str, Any] = {"normalization": hidden, "input_normalization": of_input}
    model = DynamicAutoencoder(7, 2, encoder_dims(config), decoder_dims=decoder_dims(config), **norms)
    table = kernel.layer_table(7, 2, config, **norms)
    random = np.random.default_rng(1)
    load_flat(model, random.normal(size=flatten(model).shape).astype(np.float32))
    vector = flatten(model)
    assert kernel.n_parameters(table) == vector.size
    linear = [m for m in [*model.encoder, *model.decoder] if isinstance(m, torch.nn.Linear)]
    assert len(linear) == len(table)
    for layer, row in zip(linear, table, strict=True):
        weight = layer.weight.detach().numpy()
        assert np.array_equal(vector[row[kernel.WEIGHT] :][: weight.size].reshape(weight.shape), weight)
        bias = layer.bias.detach().numpy()
        assert np.array_equal(vector[row[kernel.BIAS] :][: len(bias)], bias)
    state = model.state_dict()
    latent, output = len(encoder_dims(config)), len(linear) - 1
    for number, row in enumerate(table):
        if number in (latent, output) or hidden == "none":
            assert row[kernel.GAIN] == row[kernel.SHIFT] == 0, "no LayerNorm there"
            assert row[kernel.KIND] == (kernel.LINEAR if number in (latent, output) else kernel.ACTIVATED)
            continue
        assert row[kernel.KIND] == kernel.NORMALIZED
        name = f"encoder.{4 * number + 1}" if number < latent else f"decoder.{4 * (number - latent - 1) + 1}"
        gain, shift = (state[f"{name}.{kind}"].numpy() for kind in ("weight", "bias"))
        assert np.array_equal(vector[row[kernel.GAIN] :][: len(gain)], gain)
        assert np.array_equal(vector[row[kernel.SHIFT] :][: len(shift)], shift)


def _doubled(x):  # type: ignore[no-untyped-def]
    return 2 * x


def test_a_change_of_the_modules_that_constants_come_from_compiles_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def comes_from_cache(digest: str) -> bool:
        monkeypatch.setattr(jit, "_DIGEST", digest)
        compiled = jit.compiled(_doubled)
        assert compiled(2) == 4
        return bool(compiled.stats.cache_hits)

    assert [comes_from_cache(digest) for digest in ("a", "a", "b", "b", "a")] == [False, True, False, True, True]
