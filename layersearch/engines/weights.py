"""Starts trainings from a saved model's weights.

    source = read_source("output/best_model_latent3.pth", freezes=False)
    source.start.give(model)                     # overwrites initial weights with the matching saved weights

Encoder layers are matched by their number, counted from the input: the first hidden layer takes the weights of the
saved first one, the second those of the second, and so on; the latent layer takes those of the saved latent layer. The
decoder is matched as a mirror image: its layers are counted from the output, and its first layer, which receives the
latent coordinates, takes the weights of the saved first one. Between models of different depth the layers in between
have no counterpart: those of a deeper saved model are not used, and those of a deeper new model keep their initial
weights. If two matched layers differ in shape, the rows and columns that both have are copied. A LayerNorm's gain and
bias are copied together with the Linear layer before it.

Between models of different depth no rule preserves what a layer has learnt, since its input comes from another layer.
Two other rules (keeping the initial weights of the layers next to the latent layer, or counting all layers from the
input) gave the same losses within the noise (benchmarks/transfer.py, from [64, 64] to [64] and to [64, 64, 64], 6
seeds).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from layersearch.space.configurations import Configuration, Widths, join_dims
from models import DynamicAutoencoder, assign_weights, loading_weights

LARGEST_FILE = 2**30  # bytes; an autoencoder of this program has at most 10^8 parameters
SLOTS = 4  # number of modules for each hidden layer: Linear, LayerNorm, ReLU, Dropout
REMEDY = "give a .pth that this program wrote with --save_models"


@dataclass(frozen=True, eq=False)
class Start:
    """Saved weights that trainings start from. Two objects are equal if their weights and `freezes` are."""

    weights: Mapping[str, np.ndarray]  # float32, by name in the state_dict
    digest: str  # hexadecimal digest of the weights
    freezes: bool  # whether the encoder keeps the saved weights and is not trained

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Start) and (self.digest, self.freezes) == (other.digest, other.freezes)

    def __hash__(self) -> int:
        return hash((self.digest, self.freezes))

    def give(self, model: DynamicAutoencoder) -> int:
        """Copies the matching saved weights into a model, in place, and freezes its encoder if `freezes`.

        Returns:
            The number of weights that were copied.

        Raises:
            ValueError: the encoder would be frozen, but the saved one has another shape.
        """
        own = dict(model.named_parameters())
        if self.freezes and _encoder_of(own) != _encoder_of(self.weights):
            raise ValueError("an encoder that stays as it is has the shape and the normalizations of the saved one")
        n_taken = 0
        for mine, theirs in _partners(own, self.weights):
            values = torch.from_numpy(self.weights[theirs])
            block = tuple(map(slice, map(min, own[mine].shape, values.shape)))
            with torch.no_grad():
                own[mine][block] = values[block]
            n_taken += values[block].numel()
        if self.freezes:
            model.freeze_encoder()
        return n_taken


def _encoder_of(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the encoder's parameters by name."""
    return {n: tuple(w.shape) for n, w in weights.items() if n.startswith(("input_norm.", "encoder."))}


def partners(n_saved: int, n_new: int) -> list[tuple[int, int]]:
    """Returns the matched layers of two encoders as pairs (new, saved), counted from the table to the latent layer."""
    return [*((i, i) for i in range(min(n_saved, n_new) - 1)), (n_new - 1, n_saved - 1)]


def _partners(new: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the names of matched parameters as pairs (new, saved)."""
    names = [(f"input_norm.{kind}", f"input_norm.{kind}") for kind in ("weight", "bias")]
    for half in ("encoder", "decoder"):
        n_new, n_saved = (n_layers(weights, half) for weights in (new, saved))
        for mine, theirs in partners(n_saved, n_new):
            if half == "decoder":
                mine, theirs = n_new - 1 - mine, n_saved - 1 - theirs
            for slot in (0, 1):  # the Linear layer and its LayerNorm
                new_layer, saved_layer = (f"{half}.{SLOTS * number + slot}" for number in (mine, theirs))
                names += [(f"{new_layer}.{kind}", f"{saved_layer}.{kind}") for kind in ("weight", "bias")]
    return ((mine, theirs) for mine, theirs in names if mine in new and theirs in saved)


def n_layers(weights: Mapping[str, Any], half: str) -> int:
    """Returns the number of Linear layers in the "encoder" or the "decoder" of a state_dict."""
    number = 0
    while f"{half}.{SLOTS * number}.weight" in weights:
        number += 1
    return number


class Origin(NamedTuple):
    """The results of the search that trained a saved model."""

    results: Mapping[str, Any]

    @property
    def columns(self) -> list[str]:
        """The names of the features, in the model's order."""
        columns: list[str] = self.results["data"]["columns"]
        return columns

    def has_other_split(self, sha256: str, arguments: Mapping[str, Any]) -> bool:
        """Returns whether the model was trained on the same table, perhaps including rows that are now test rows.

        Args:
            sha256: digest of the table of the present search.
            arguments: the arguments of the present search.
        """
        ours = {name: arguments[name] for name in ("seed", "group_column", "stratify_column", "columns")}
        theirs = {name: self.results["args"].get(name) for name in ours}
        is_same_table = self.results["data"]["sha256"] == sha256
        return is_same_table and (theirs != ours or arguments["cv_folds"] > 0)


@dataclass(frozen=True)
class Source:
    """The file of a saved model and its content."""

    path: Path
    sha256: str  # digest of the file
    start: Start
    model: DynamicAutoencoder  # the saved model
    origin: Origin | None  # None if no results in the same folder refer to the file

    @property
    def encoder(self) -> Widths:
        """The widths of the encoder's hidden layers."""
        return tuple(self.model.hidden_dims)

    @property
    def config(self) -> Configuration:
        """The hidden layers of the model."""
        return join_dims(self.encoder, tuple(self.model.decoder_dims))

    @property
    def n_parameters(self) -> int:
        """The number of parameters of the model."""
        return sum(weights.size for weights in self.start.weights.values())


def read_source(path: str | Path, *, freezes: bool) -> Source:
    """Reads a model saved with `--save_models`, and the results in the same folder if they refer to it.

    The files may come from an untrusted source: no code in them is run, and they take no more memory than disk space.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged or is not a saved model; the message names it.
    """
    path = Path(path)
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, more than any model of this program has; {REMEDY}")
    content = path.read_bytes()
    with loading_weights(path, content, REMEDY) as tensors:
        model = model_of_weights(tensors)
        assign_weights(model, tensors)
    start = start_from(model.eval(), freezes=freezes)
    return Source(path, hashlib.sha256(content).hexdigest(), start, model, _origin_of(path, model))


def start_from(model: DynamicAutoencoder, *, freezes: bool) -> Start:
    """Returns a copy of a model's weights as a start for trainings; the model must be on the CPU."""
    weights = {name: values.numpy().copy() for name, values in model.state_dict().items()}
    digest = hashlib.blake2b(digest_size=16)
    for name, values in weights.items():
        digest.update(repr((name, values.shape)).encode() + values.tobytes())
    return Start(weights, digest.hexdigest(), freezes)


def model_of_weights(weights: Mapping[str, Tensor]) -> DynamicAutoencoder:
    """Returns a model of the shape of a state_dict, without memory (on the device "meta").

    Raises:
        ValueError, KeyError: the state_dict is not that of a `DynamicAutoencoder`.
    """
    if not all(values.is_contiguous() for values in weights.values()):  # a view may hold a larger tensor in memory
        raise ValueError("not plain tensors")
    encoder, decoder = (
        [_width(weights, half, n) for n in range(n_layers(weights, half))] for half in ("encoder", "decoder")
    )
    if len(encoder) < 2 or len(decoder) < 2:
        raise ValueError("no encoder and decoder with hidden layers")
    has = {name: f"{name}.weight" in weights for name in ("input_norm", "encoder.1")}
    with torch.device("meta"):
        return DynamicAutoencoder(
            weights["encoder.0.weight"].shape[1],
            encoder[-1],
            encoder[:-1],
            decoder_dims=decoder[:-1],
            normalization="layer" if has["encoder.1"] else "none",
            input_normalization="layer" if has["input_norm"] else "none",
        )


def _width(weights: Mapping[str, Tensor], half: str, number: int) -> int:
    width, n_in = weights[f"{half}.{SLOTS * number}.weight"].shape
    if not width * n_in:
        raise ValueError("a layer without units")
    return width


def _origin_of(path: Path, model: DynamicAutoencoder) -> Origin | None:
    """Returns the results in the folder of a model, or None if they are missing, damaged or of another model."""
    from dataset import Scaling

    file = path.with_name(f"hyperparam_results_latent{model.latent_dim}.json")
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        saved, data = results["best_configuration"]["saved_model"], results["data"]
        scaling = Scaling.from_dict(data["scaling"])
        is_sound = len(data["columns"]) == len(scaling.low) == len(scaling.high) == model.input_dim
        is_sound = is_sound and isinstance(data["sha256"], str) and isinstance(results["args"], dict)
        return Origin(results) if is_sound and saved["file"] == path.name else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
