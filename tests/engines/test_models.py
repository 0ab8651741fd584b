"""The autoencoder, its parameters as a flat vector, and loading the model of a finished search."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from layersearch.options import NORMALIZATIONS
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


@pytest.mark.parametrize("hidden", NORMALIZATIONS)
@pytest.mark.parametrize("of_input", NORMALIZATIONS)
def test_without_normalizations_all_else_keeps_its_name_and_its_first_weights(hidden: str, of_input: str) -> None:
    norms: dict[str, Any] = {"normalization": hidden, "input_normalization": of_input}
    usual, model = (
        DynamicAutoencoder(24, 3, [64, 32], generator=torch.Generator().manual_seed(4), **given)
        for given in ({}, norms)
    )
    lacking = {f"{part}.{slot}." for part in ("encoder", "decoder") for slot in (1, 5)} if hidden == "none" else set()
    lacking |= {"input_norm."} if of_input == "none" else set()
    expected = {name: value for name, value in usual.state_dict().items() if not name.startswith(tuple(lacking))}
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    info = model.get_model_info()
    assert (info["normalization"], info["input_normalization"]) == (hidden, of_input)


def test_an_unknown_normalization_is_refused() -> None:
    with pytest.raises(ValueError, match="no normalization is called 'batch'"):
        DynamicAutoencoder(24, 3, normalization="batch")


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


# --- What a search left behind ----------------------------------------------------------------------


def leave_behind(folder: Path, **changes: Any) -> Path:
    """Writes results and weights of a made-up search with 4 columns, with `changes`; returns the path of the .pth."""
    model = DynamicAutoencoder(4, 2, [5], generator=torch.Generator().manual_seed(3))
    saved = {"model_info": model.get_model_info(), "saved_model": {"file": "best_model_latent2.pth"}} | changes
    scaling = {"kind": "robust", "low": [0.0] * 4, "high": [1.0] * 4}
    results = {"best_configuration": saved, "data": {"columns": ["a", "b", "c", "d"], "scaling": scaling}}
    (folder / "hyperparam_results_latent2.json").write_text(json.dumps(results), encoding="utf-8")
    torch.save(model.state_dict(), folder / "best_model_latent2.pth")
    return folder / "best_model_latent2.pth"


def refusal(folder: Path, path: Path) -> str:
    """Returns the one-line error of loading, which names this file."""
    with pytest.raises(ValueError, match="run the search again") as caught:
        load_best(folder, 2)
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


def test_load_best_rebuilds_the_model_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    weights = leave_behind(tmp_path)
    before = torch.random.get_rng_state()
    best = load_best(tmp_path, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, parameter in torch.load(weights, weights_only=True).items():
        assert torch.equal(parameter, best.model.state_dict()[name])
    assert best.columns == ["a", "b", "c", "d"]
    assert not best.model.training
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in best.model.parameters())
    assert best.encode(torch.full((3, 4), torch.nan)).shape == (3, 2)


def test_load_best_takes_results_without_normalizations_for_those_of_an_earlier_version(tmp_path: Path) -> None:
    info = DynamicAutoencoder(4, 2, [5]).get_model_info()
    del info["normalization"], info["input_normalization"]
    leave_behind(tmp_path, model_info=info)
    assert isinstance(load_best(tmp_path, 2).model.input_norm, nn.LayerNorm)


def test_load_best_refuses_the_weights_of_another_search(tmp_path: Path) -> None:
    path = leave_behind(tmp_path)
    for more in (b"", b" "):
        digest = hashlib.sha256(path.read_bytes() + more).hexdigest()
        leave_behind(tmp_path, saved_model={"file": path.name, "sha256": digest})
        if more:
            assert "not the model of the results beside it" in refusal(tmp_path, path)
        else:
            load_best(tmp_path, 2)


def test_load_best_rebuilds_a_model_without_normalizations(tmp_path: Path) -> None:
    model = DynamicAutoencoder(4, 2, [5], normalization="none", input_normalization="none")
    weights = leave_behind(tmp_path, model_info=model.get_model_info())
    torch.save(model.state_dict(), weights)
    best = load_best(tmp_path, 2).model
    x = torch.rand(3, 4)
    assert torch.equal(best.encode(x), model.eval().encode(x))


def test_load_best_without_results_or_weights_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"hyperparam_results_latent3\.json: no such file; give"):
        load_best(tmp_path, 3)
    leave_behind(tmp_path, saved_model=None)
    with pytest.raises(FileNotFoundError, match="run it again with --save_models"):
        load_best(tmp_path, 2)
    leave_behind(tmp_path).unlink()
    with pytest.raises(FileNotFoundError, match=r"best_model_latent2\.pth"):
        load_best(tmp_path, 2)


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_malicious_pth_is_refused_and_not_run(tmp_path: Path, is_zip: bool) -> None:
    weights, trace = leave_behind(tmp_path), tmp_path / "was here"
    torch.save({"input_norm.weight": Malice(trace)}, weights, _use_new_zipfile_serialization=is_zip)
    assert "holds more than weights, perhaps a program; nothing of it was run" in refusal(tmp_path, weights)
    assert not trace.exists()
    weights.write_bytes(pickle.dumps(Malice(trace)))
    refusal(tmp_path, weights)
    assert not trace.exists()
    pickle.loads(weights.read_bytes())
    assert trace.exists(), "it would have done harm"


BAD_WEIGHTS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "no dict": lambda weights: list(weights.values()),
    "nothing": lambda weights: {},
    "one missing": lambda weights: dict(list(weights.items())[1:]),
    "one too many": lambda weights: {**weights, "more": torch.zeros(1)},
    "another shape": lambda weights: DynamicAutoencoder(4, 2, [6]).state_dict(),
    "whole numbers": lambda weights: {name: value.int() for name, value in weights.items()},
    "doubles": lambda weights: {name: value.double() for name, value in weights.items()},
    "not finite": lambda weights: {name: value / 0 for name, value in weights.items()},
    "texts": lambda weights: dict.fromkeys(weights, "a"),
}


@pytest.mark.parametrize("fault", BAD_WEIGHTS)
def test_a_pth_of_another_kind_is_refused(tmp_path: Path, fault: str) -> None:
    path = leave_behind(tmp_path)
    torch.save(BAD_WEIGHTS[fault](torch.load(path, weights_only=True)), path)
    assert "not the weights of this model" in refusal(tmp_path, path)


@pytest.mark.parametrize("size", [0, 1, 100, -1, -100])
def test_a_truncated_pth_is_refused(tmp_path: Path, size: int) -> None:
    path = leave_behind(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert "not a PyTorch file, or cut off" in refusal(tmp_path, path)


def test_values_of_other_columns_are_refused(tmp_path: Path) -> None:
    leave_behind(tmp_path)
    best = load_best(tmp_path, 2)
    for shape in ((3, 5), (4,)):
        with pytest.raises(ValueError, match=r"give rows of 4 numbers, as `columns`"):
            best.encode(np.zeros(shape))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"best_configuration": 1}']
)
def test_results_that_are_damaged_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hyperparam_results_latent2.json"
    path.write_bytes(content)
    assert "not the results of a search" in refusal(tmp_path, path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("saved_model", {"file": "../elsewhere.pth"}),
        ("saved_model", {"file": "/etc/passwd"}),
        ("saved_model", {"file": ""}),
        ("saved_model", {}),
        ("model_info", None),
        ("model_info", {"input_dim": 4}),
        ("model_info", {"input_dim": 5, "latent_dim": 2, "hidden_dims": [5], "dropout": 0.1}),
        ("model_info", {"input_dim": 4, "latent_dim": 2, "hidden_dims": ["5"], "dropout": 0.1}),
        ("model_info", {"input_dim": 4, "latent_dim": 2, "hidden_dims": [5], "dropout": 7}),
        ("model_info", {"input_dim": 4, "latent_dim": 2, "hidden_dims": [-5], "dropout": 0.1}),
    ],
)
def test_results_that_make_no_sense_are_refused(tmp_path: Path, name: str, value: object) -> None:
    leave_behind(tmp_path, **{name: value})
    refusal(tmp_path, tmp_path / "hyperparam_results_latent2.json")


def test_results_whose_scaling_does_not_fit_are_refused(tmp_path: Path) -> None:
    leave_behind(tmp_path)
    path = tmp_path / "hyperparam_results_latent2.json"
    sound = path.read_text(encoding="utf-8")
    for old, new in {
        '"robust"': '"log"',
        '"low": [0.0, ': '"low": [',
        '"a", ': "",
        '"low": [0.0': '"low": ["x"',
    }.items():
        assert old in sound
        path.write_text(sound.replace(old, new), encoding="utf-8")
        refusal(tmp_path, path)


def test_results_that_claim_a_huge_model_take_no_memory(tmp_path: Path) -> None:
    size = 10**9  # a layer of 4 exabytes
    info = {"input_dim": 4, "latent_dim": 2, "hidden_dims": [size, size], "dropout": 0.1}
    assert "not the weights of this model" in refusal(tmp_path, leave_behind(tmp_path, model_info=info))
