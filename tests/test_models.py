from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models import DynamicAutoencoder, flatten, load_best, load_flat


@pytest.mark.parametrize(
    ("hidden", "latent", "parameters"),
    [([64, 64], 3, 12_491), ([32, 16], 2, 2_986), ([64], 3, 3_915), ([64] * 3, 3, 21_067)],
)
def test_parameter_counts_are_exact(hidden: list[int], latent: int, parameters: int) -> None:
    info = DynamicAutoencoder(24, latent, hidden).get_model_info()
    assert info["total_params"] == parameters
    assert info["encoder_params"] + info["decoder_params"] + 2 * 24 == parameters
    assert (info["input_dim"], info["latent_dim"], info["hidden_dims"], info["dropout"]) == (24, latent, hidden, 0.1)


def test_state_dict_has_the_keys_that_other_programs_load() -> None:
    hidden = [f"encoder.{slot}.{kind}" for slot in (0, 1, 4, 5) for kind in ("weight", "bias")]
    expected = [
        "input_norm.weight", "input_norm.bias",
        *hidden, "encoder.8.weight", "encoder.8.bias",
        *[key.replace("encoder", "decoder") for key in hidden], "decoder.8.weight", "decoder.8.bias",
    ]  # fmt: skip
    assert list(DynamicAutoencoder(24, 3, [64, 32]).state_dict()) == expected


def test_each_hidden_layer_is_linear_layernorm_relu_dropout() -> None:
    model = DynamicAutoencoder(24, 3, [64, 32], dropout=0.25)
    block = [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Dropout]
    for part in (model.encoder, model.decoder):
        for layer, kind in zip(part, [*block, *block, nn.Linear], strict=True):
            assert isinstance(layer, kind)
    assert [m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)] == [1e-6] * 5
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.25}
    assert model.decoder[0].out_features == 32


def test_weights_start_xavier_uniform_and_biases_zero() -> None:
    model = DynamicAutoencoder(24, 3, [200], generator=torch.Generator().manual_seed(0))
    bound = (6 / (24 + 200)) ** 0.5
    weight = model.state_dict()["encoder.0.weight"]
    assert 0.98 * bound < float(weight.abs().max()) <= bound
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.03)
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    assert all(not bias.any() for bias in biases)


def test_a_generator_decides_the_weights_and_the_global_one_is_not_touched() -> None:
    before = torch.random.get_rng_state()
    first = flatten(DynamicAutoencoder(5, 2, [7], generator=torch.Generator().manual_seed(1)))
    second = flatten(DynamicAutoencoder(5, 2, [7], generator=torch.Generator().manual_seed(1)))
    other = flatten(DynamicAutoencoder(5, 2, [7], generator=torch.Generator().manual_seed(2)))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_forward_returns_reconstruction_and_latent() -> None:
    model = DynamicAutoencoder(24, 3, [16]).eval()
    x = torch.rand(5, 24)
    reconstruction, latent = model(x)
    assert reconstruction.shape == (5, 24)
    assert torch.equal(latent, model.encode(x))
    assert torch.equal(reconstruction, model.decode(latent))
    assert torch.allclose(latent, model.encoder(model.input_norm(x)))


def test_flatten_and_load_flat_are_inverse() -> None:
    model, twin = DynamicAutoencoder(6, 2, [4, 3]), DynamicAutoencoder(6, 2, [4, 3])
    load_flat(twin, flatten(model))
    for mine, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_load_flat_refuses_a_vector_of_another_model() -> None:
    with pytest.raises(ValueError, match="parameters"):
        load_flat(DynamicAutoencoder(6, 2, [4]), np.zeros(3, np.float32))


def test_load_best_without_results_names_the_file(tmp_path: object) -> None:
    with pytest.raises(FileNotFoundError, match="hyperparam_results_latent3"):
        load_best(str(tmp_path), 3)
