"""Which parameters of a saved model go where in a new one, and which files count as saved models."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layersearch.engines import weights
from layersearch.engines.weights import Source, partners, read_source, start_from
from layersearch.options import NORMALIZATIONS
from layersearch.space.configurations import Configuration, decoder_dims, encoder_dims
from models import DynamicAutoencoder, flatten


def model_of(
    config: Configuration, seed: int = 0, *, features: int = 7, latent: int = 2, **given: Any
) -> DynamicAutoencoder:
    """Returns a model all of whose parameters are random, biases and gains too, so that no two numbers are the same."""
    model = DynamicAutoencoder(features, latent, encoder_dims(config), decoder_dims=decoder_dims(config), **given)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return model


def given_by(
    saved: DynamicAutoencoder, config: Configuration, **given: Any
) -> tuple[DynamicAutoencoder, DynamicAutoencoder]:
    """Returns a new model's parameters before and after it took those saved ones that fit."""
    before, after = (model_of(config, seed=1, **given) for _ in range(2))
    n_taken = start_from(saved, freezes=False).give(after)
    assert n_taken == (flatten(before) != flatten(after)).sum()
    return before, after


@settings(deadline=None, derandomize=True, database=None)
@given(st.integers(2, 8), st.integers(2, 8))
def test_partners_are_counted_from_the_table_and_those_next_to_the_latent_meet(n_saved: int, n_new: int) -> None:
    pairs = partners(n_saved, n_new)
    assert len(pairs) == min(n_saved, n_new)
    assert pairs[-1] == (n_new - 1, n_saved - 1)
    assert all(new == saved for new, saved in pairs[:-1])


@pytest.mark.parametrize("config", [(5, 3), ((5, 3), (4, 6, 8)), (9,)])
@pytest.mark.parametrize("hidden", NORMALIZATIONS)
@pytest.mark.parametrize("of_input", NORMALIZATIONS)
def test_a_model_of_the_same_shape_becomes_the_saved_one(config: Configuration, hidden: str, of_input: str) -> None:
    norms: dict[str, Any] = {"normalization": hidden, "input_normalization": of_input}
    saved = model_of(config, **norms)
    _, after = given_by(saved, config, **norms)
    assert np.array_equal(flatten(after), flatten(saved))


def test_layers_of_another_width_take_the_overlapping_block_and_keep_the_rest() -> None:
    saved = model_of((5, 3), latent=4)
    before, after = given_by(saved, (4, 6), latent=2)
    theirs, drawn, own = (model.state_dict() for model in (saved, before, after))
    rows = {"encoder.0": (4, 7), "encoder.4": (3, 4), "encoder.8": (2, 3), "decoder.0": (3, 2), "decoder.4": (4, 3)}
    for layer, (n_out, n_in) in {**rows, "decoder.8": (7, 4)}.items():
        weight = own[f"{layer}.weight"]
        assert torch.equal(weight[:n_out, :n_in], theirs[f"{layer}.weight"][:n_out, :n_in])
        assert torch.equal(weight[n_out:], drawn[f"{layer}.weight"][n_out:])
        assert torch.equal(weight[:, n_in:], drawn[f"{layer}.weight"][:, n_in:])
        assert torch.equal(own[f"{layer}.bias"][:n_out], theirs[f"{layer}.bias"][:n_out])
        assert torch.equal(own[f"{layer}.bias"][n_out:], drawn[f"{layer}.bias"][n_out:])
    assert torch.equal(own["encoder.5.weight"][:3], theirs["encoder.5.weight"])
    assert torch.equal(own["encoder.5.weight"][3:], drawn["encoder.5.weight"][3:])


# For each layer of the new model, its counterpart in the saved one; None for none.
DEPTHS: dict[str, tuple[Configuration, Configuration, dict[str, str | None]]] = {
    "deeper": (
        (5,), (5, 5, 5),
        {
            **{"encoder.0": "encoder.0", "encoder.4": None, "encoder.8": None, "encoder.12": "encoder.4"},
            **{"decoder.0": "decoder.0", "decoder.4": None, "decoder.8": None, "decoder.12": "decoder.4"},
        },
    ),
    "shallower": (
        (5, 5, 5), (5,),
        {"encoder.0": "encoder.0", "encoder.4": "encoder.12", "decoder.0": "decoder.0", "decoder.4": "decoder.12"},
    ),
    "one more in between": (
        (5, 5), (5, 5, 5),
        {
            **{"encoder.4": "encoder.4", "encoder.8": None, "encoder.12": "encoder.8"},
            **{"decoder.0": "decoder.0", "decoder.4": None, "decoder.8": "decoder.4", "decoder.12": "decoder.8"},
        },
    ),
    "another decoder": (
        ((5, 5), (5,)), ((5,), (5, 5)),
        {"encoder.0": "encoder.0", "encoder.4": "encoder.8", "decoder.0": "decoder.0", "decoder.4": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DEPTHS)
def test_layers_of_models_of_another_depth_are_matched_from_the_table_and_at_the_latent(case: str) -> None:
    old, new, layers = DEPTHS[case]
    saved = model_of(old)
    before, after = given_by(saved, new)
    for layer, partner in layers.items():
        expected = before.state_dict() if partner is None else saved.state_dict()
        assert torch.equal(after.state_dict()[f"{layer}.weight"], expected[f"{partner or layer}.weight"]), layer
        assert torch.equal(after.state_dict()[f"{layer}.bias"], expected[f"{partner or layer}.bias"]), layer


def test_a_model_with_normalizations_takes_what_one_without_has() -> None:
    saved = model_of((5,), normalization="none", input_normalization="none")
    before, after = given_by(saved, (5,))
    assert torch.equal(after.state_dict()["encoder.0.weight"], saved.state_dict()["encoder.0.weight"])
    for name in ("input_norm.weight", "encoder.1.bias", "decoder.1.weight"):
        assert torch.equal(after.state_dict()[name], before.state_dict()[name])


def test_a_frozen_encoder_is_the_saved_one_and_wants_no_gradient() -> None:
    saved, model = model_of((5, 3)), model_of(((5, 3), (8,)), seed=1)
    start_from(saved, freezes=True).give(model)
    x = torch.rand(9, 7)
    model.train()
    assert torch.equal(model.encode(x), saved.eval().encode(x)), "no dropout either"
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if name.startswith("decoder")
    }


@pytest.mark.parametrize("other", [{"config": (5, 4)}, {"config": (5,)}, {"normalization": "none"}, {"latent": 3}])
def test_an_encoder_of_another_shape_cannot_be_frozen(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has the shape and the normalizations of the saved one"):
        start_from(model_of((5, 3)), freezes=True).give(model_of(**({"config": (5, 3)} | other)))


def test_starts_are_equal_where_their_weights_are_and_can_be_pickled() -> None:
    model = model_of((5, 3))
    one, same, frozen = (start_from(model, freezes=freezes) for freezes in (False, False, True))
    assert one == same == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(same)
    assert one != frozen
    assert len({one, frozen, start_from(model_of((5, 3), seed=1), freezes=False)}) == 3


# --- Files -----------------------------------------------------------------------------------------


def save(model: DynamicAutoencoder, folder: Path, **results: Any) -> Path:
    """Writes the weights and results of a made-up search."""
    path = folder / "best_model_latent2.pth"
    torch.save(model.state_dict(), path)
    scaling = {"kind": "robust", "low": [0.0] * 7, "high": [1.0] * 7}
    document = {
        "args": {"seed": 42},
        "best_configuration": {"saved_model": {"file": path.name}},
        "data": {"columns": list("abcdefg"), "scaling": scaling, "sha256": "0"},
    }
    (folder / "hyperparam_results_latent2.json").write_text(json.dumps(document | results), encoding="utf-8")
    return path


@pytest.mark.parametrize("config", [(5, 3), ((5, 3), (4, 6, 8)), (9,)])
@pytest.mark.parametrize("hidden", NORMALIZATIONS)
@pytest.mark.parametrize("of_input", NORMALIZATIONS)
def test_shapes_are_read_from_the_weights_alone(
    tmp_path: Path, config: Configuration, hidden: str, of_input: str
) -> None:
    model = model_of(config, normalization=hidden, input_normalization=of_input)
    torch.save(model.state_dict(), tmp_path / "any.name")
    before = torch.random.get_rng_state()
    source = read_source(tmp_path / "any.name", freezes=False)
    assert torch.equal(before, torch.random.get_rng_state())
    assert source.config == config
    found, expected = (some.get_model_info() for some in (source.model, model))
    assert found == expected
    assert source.n_parameters == expected["total_params"]
    assert all(np.array_equal(value, source.start.weights[name]) for name, value in model.state_dict().items())
    assert source.origin is None


def test_the_digest_is_of_the_weights(tmp_path: Path) -> None:
    def digest(model: DynamicAutoencoder) -> str:
        return read_source(save(model, tmp_path), freezes=False).start.digest

    assert digest(model_of((5, 3))) == digest(model_of((5, 3))) != digest(model_of((5, 3), seed=1))
    bare = model_of((5, 3))
    with torch.no_grad():
        next(iter(bare.parameters()))[0] += 1e-3
    assert digest(bare) != digest(model_of((5, 3)))


def test_results_beside_a_model_that_name_it_say_what_its_columns_are(tmp_path: Path) -> None:
    source = read_source(save(model_of((5,)), tmp_path), freezes=False)
    assert source.origin
    assert source.origin.columns == list("abcdefg")


BAD_RESULTS: dict[str, dict[str, Any]] = {
    "of another model": {"best_configuration": {"saved_model": {"file": "other.pth"}}},
    "without a model": {"best_configuration": {"saved_model": None}},
    "without a best": {"best_configuration": None},
    "of other columns": {"data": {"columns": ["a"], "scaling": {"kind": "none", "low": [0], "high": [1]}}},
    "of an unknown scaling": {"data": {"columns": ["a"] * 7, "scaling": {"kind": "log", "low": [], "high": []}}},
    "without arguments": {"args": None},
    "without data": {"data": []},
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_RESULTS)
def test_other_results_are_not_taken_for_its(tmp_path: Path, fault: str) -> None:
    assert read_source(save(model_of((5,)), tmp_path, **BAD_RESULTS[fault]), freezes=False).origin is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_damaged_results_are_not_taken_for_its(tmp_path: Path, content: bytes) -> None:
    path = save(model_of((5,)), tmp_path)
    (tmp_path / "hyperparam_results_latent2.json").write_bytes(content)
    assert read_source(path, freezes=False).origin is None


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=r"give a \.pth that this program wrote with --save_models") as caught:
        read_source(path, freezes=False)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_program_is_refused_and_not_run(tmp_path: Path) -> None:
    path = save(model_of((5,)), tmp_path)
    torch.save({"encoder.0.weight": Malice(tmp_path / "was here")}, path)
    assert "nothing of it was run" in refusal(path)
    assert not (tmp_path / "was here").exists()


BAD_WEIGHTS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "no dict": lambda weights: list(weights.values()),
    "nothing": lambda weights: {},
    "one missing": lambda weights: dict(list(weights.items())[1:]),
    "one too many": lambda weights: {**weights, "more": torch.zeros(1)},
    "layers that do not fit": lambda weights: {**weights, "encoder.4.weight": torch.zeros(2, 6)},
    "a flat layer": lambda weights: {**weights, "encoder.4.weight": torch.zeros(10)},
    "no units": lambda weights: {**weights, "decoder.0.weight": torch.zeros(0, 2)},
    "a decoder of another table": lambda weights: {**weights, "decoder.4.weight": torch.zeros(8, 5)},
    "an encoder alone": lambda weights: {n: w for n, w in weights.items() if "decoder" not in n},
    "a linear model": lambda weights: {f"{half}.0.weight": torch.zeros(2, 2) for half in ("encoder", "decoder")},
    "more than the file holds": lambda weights: {n: torch.ones(1).expand(w.shape) for n, w in weights.items()},
    "doubles": lambda weights: {name: value.double() for name, value in weights.items()},
    "not finite": lambda weights: {name: value / 0 for name, value in weights.items()},
    "texts": lambda weights: dict.fromkeys(weights, "a"),
    "numbers for names": lambda weights: dict(enumerate(weights.values())),
}


@pytest.mark.parametrize("fault", BAD_WEIGHTS)
def test_weights_of_another_kind_are_refused(tmp_path: Path, fault: str) -> None:
    path = save(model_of((5,)), tmp_path)
    torch.save(BAD_WEIGHTS[fault](torch.load(path, weights_only=True)), path)
    assert "not the weights of this model" in refusal(path)


@pytest.mark.parametrize("size", [0, 1, 100, -1, -100])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = save(model_of((5,)), tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert "not a PyTorch file, or cut off" in refusal(path)


def test_a_file_larger_than_any_model_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "LARGEST_FILE", 1000)
    assert "more than any model of this program has" in refusal(save(model_of((5,)), tmp_path))


def source_from(tmp_path: Path, **args: Any) -> Source:
    return read_source(save(model_of((5,)), tmp_path, args=args), freezes=False)


def test_rows_that_trained_the_saved_model_and_test_here_are_noticed(tmp_path: Path) -> None:
    ours = {"seed": 42, "group_column": None, "stratify_column": None, "columns": "copus", "cv_folds": 0}
    origin = source_from(tmp_path, **ours).origin
    assert origin
    assert not origin.has_other_split("0", ours)
    assert not origin.has_other_split("another table", ours | {"seed": 1})
    for change in (
        {"seed": 1},
        {"group_column": "ID"},
        {"stratify_column": "ID"},
        {"columns": "numeric"},
        {"cv_folds": 5},
    ):
        assert origin.has_other_split("0", ours | change)
