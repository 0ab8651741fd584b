"""The autoencoder whose hidden layers are searched, its parameters as a flat vector, and saved models.

    model = DynamicAutoencoder(24, 3, [64, 32])
    reconstruction, latent = model(x)
    best = load_best("output", latent_dim=3)     # the best model of a finished search
    best.encode(raw_values)

Symbols, in shape comments here and everywhere else:
M models · B batch · F features · H hidden · L latent · N rows · E epochs · S steps of an epoch · P parameters
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

import numpy as np
import torch
from torch import Tensor, nn

from layersearch.options import NORMALIZATIONS
from losses import squared_error_sums

if TYPE_CHECKING:
    from dataset import Scaling

LAYER_NORM_EPS = 1e-6
PYTORCH_MARKS = (b"PK", b"\x80")  # first bytes of PyTorch files: zip archives, or pickles from before version 1.6
SAVE_AGAIN = "run the search again with --save_models"


class Normalizations(TypedDict, total=False):
    """The keyword arguments that choose normalizations: "layer" (LayerNorm, the default) or "none"."""

    normalization: str  # of the hidden layers
    input_normalization: str  # of the input


class DynamicAutoencoder(nn.Module):
    """An autoencoder of any depth with a LayerNorm on its input and a decoder that by default mirrors the encoder.

    Each hidden layer is Linear, LayerNorm, ReLU, Dropout; the latent and the output layer are plain Linear layers.
    If a normalization is "none", an nn.Identity replaces the LayerNorm, so that the other layers keep their names.
    Weights are initialised Xavier-uniform (Glorot & Bengio 2010), biases to zero.

    Args:
        input_dim: F, number of columns of the table.
        latent_dim: L, size of the latent space.
        hidden_dims: widths of the encoder's hidden layers, from the input to the latent layer.
        dropout: probability of dropping a hidden unit in training mode.
        decoder_dims: widths of the decoder's hidden layers, from the latent to the output layer; by default those of
            the encoder in reverse.
        generator: source of the initial weights; by default torch's global generator.
        normalization: normalization of the hidden layers, "layer" (LayerNorm, the default) or "none".
        input_normalization: normalization of the input, "layer" (the default) or "none".

    Raises:
        ValueError: a normalization is neither "layer" nor "none".
        TypeError: a keyword argument is unknown.
    """

    def __init__(
        self,
        input_dim: int = 24,
        latent_dim: int = 3,
        hidden_dims: Sequence[int] = (64,),
        dropout: float = 0.1,
        *,
        decoder_dims: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        **normalizations: Unpack[Normalizations],
    ) -> None:
        super().__init__()
        if unknown := normalizations.keys() - Normalizations.__annotations__:
            raise TypeError(f"unexpected keyword arguments {sorted(unknown)}")
        self.input_dim = input_dim
        self.latent_dim = latent_dim
        self.hidden_dims = list(hidden_dims)
        self.decoder_dims = self.hidden_dims[::-1] if decoder_dims is None else list(decoder_dims)
        self.dropout = dropout
        self.normalization = normalizations.get("normalization", "layer")
        self.input_normalization = normalizations.get("input_normalization", "layer")
        self.is_frozen = False  # whether the encoder is frozen; see `freeze_encoder`
        self.input_norm = _norm(self.input_normalization, input_dim)
        self.encoder = _layers([input_dim, *self.hidden_dims, latent_dim], dropout, self.normalization)
        self.decoder = _layers([latent_dim, *self.decoder_dims, input_dim], dropout, self.normalization)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def freeze_encoder(self) -> None:
        """Freezes the encoder permanently: its parameters get no gradients, and its dropout layers are removed."""
        self.is_frozen = True
        for part in (self.input_norm, self.encoder):
            part.requires_grad_(False)
        for number, layer in enumerate(self.encoder):
            if isinstance(layer, nn.Dropout):
                self.encoder[number] = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the reconstruction [B, F] and the latent coordinates [B, L] of rows [B, F]."""
        latent = self.encode(x)
        return self.decode(latent), latent

    def encode(self, x: Tensor) -> Tensor:
        """Returns the latent coordinates [B, L] of rows [B, F], which are normalized first."""
        latent: Tensor = self.encoder(self.input_norm(x))
        return latent

    def decode(self, z: Tensor) -> Tensor:
        """Returns the reconstruction [B, F] from latent coordinates [B, L]."""
        reconstruction: Tensor = self.decoder(z)
        return reconstruction

    def get_model_info(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the model and its parameter counts, JSON-serializable."""
        return {
            "input_dim": self.input_dim,
            "latent_dim": self.latent_dim,
            "hidden_dims": self.hidden_dims,
            "decoder_dims": self.decoder_dims,
            "dropout": self.dropout,
            "normalization": self.normalization,
            "input_normalization": self.input_normalization,
            "total_params": _count(self),
            "encoder_params": _count(self.encoder),
            "decoder_params": _count(self.decoder),
        }


def _layers(dims: Sequence[int], dropout: float, normalization: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(dims[:-1]):
        layers += [_Linear(n_in, n_out), _norm(normalization, n_out), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, _Linear(dims[-2], dims[-1]))


def _norm(kind: str, width: int) -> nn.Module:
    if kind not in NORMALIZATIONS:
        raise ValueError(f"no normalization is called {kind!r}")
    return nn.LayerNorm(width, eps=LAYER_NORM_EPS) if kind == "layer" else nn.Identity()


class _Linear(nn.Linear):
    """A Linear layer left uninitialised, since nn.Linear would draw its weights from torch's global generator."""

    def reset_parameters(self) -> None:
        pass


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def model_of(info: Mapping[str, Any]) -> DynamicAutoencoder:
    """Returns an untrained model from the result of `get_model_info`, also that of an earlier version."""
    return DynamicAutoencoder(
        info["input_dim"],
        info["latent_dim"],
        info["hidden_dims"],
        info["dropout"],
        decoder_dims=info.get("decoder_dims"),
        normalization=info.get("normalization", "layer"),
        input_normalization=info.get("input_normalization", "layer"),
    )


def encode_rows(model: DynamicAutoencoder, scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the latent coordinates [B, L] and the `row_errors` [B] of scaled rows [B, F] (NaN = missing)."""
    reconstruction, latent = model(scaled.nan_to_num(nan=0.0))
    return latent, row_errors(reconstruction, scaled)


def row_errors(reconstruction: Tensor, scaled: Tensor) -> Tensor:
    """Returns the mean squared error over each row's observed cells, [B]; NaN for a row without any."""
    return squared_error_sums(reconstruction, scaled)[:, 1] / (~scaled.isnan()).sum(1)


def flatten(model: nn.Module) -> np.ndarray:
    """Returns a copy of all parameters as one float32 vector [P] on the CPU, in the order of the state_dict."""
    return np.concatenate([p.detach().cpu().numpy().ravel() for p in model.parameters()])


def load_flat(model: nn.Module, vector: np.ndarray) -> None:
    """Sets all parameters, in place, from a vector [P] returned by `flatten`.

    Raises:
        ValueError: the vector has another length.
    """
    sizes = [parameter.numel() for parameter in model.parameters()]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"a vector of {sum(sizes)} parameters is needed, not one of shape {vector.shape}")
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), torch.from_numpy(vector).split(sizes), strict=True):
            parameter.copy_(values.view_as(parameter))


@dataclass(frozen=True)
class SavedModel:
    """The best model of a finished search, with the columns and the scaling that it needs to read raw values."""

    model: DynamicAutoencoder
    columns: list[str]
    scaling: Scaling
    is_copus: bool = False  # whether the columns are COPUS codes, which other tables may spell differently
    training_errors: np.ndarray | None = None  # [Q] quantiles of the training rows' errors, evenly spaced from 0 to 1
    test_errors: np.ndarray | None = None  # [Q] quantiles of the test rows' errors
    n_test: int = 0  # number of test rows

    def encode(self, values: Tensor | np.ndarray) -> Tensor:
        """Returns the latent coordinates of raw values: [N, F] (NaN = missing), columns ordered as `columns` -> [N, L].

        Raises:
            ValueError: the values have another shape.
        """
        values = torch.as_tensor(values, dtype=torch.float32)
        if values.ndim != 2 or values.shape[1] != len(self.columns):
            raise ValueError(f"values are {list(values.shape)}; give rows of {len(self.columns)} numbers, as `columns`")
        scaled = self.scaling.apply(values)
        with torch.no_grad():
            return self.model.encode(scaled.nan_to_num(nan=0.0))

    def encode_rows(self, scaled: Tensor) -> dict[str, Tensor]:
        """Returns the results of the function `encode_rows` as a dict, "codes" [B, L] and "errors" [B]."""
        codes, errors = encode_rows(self.model, scaled)
        return {"codes": codes, "errors": errors}


def load_best(output_dir: str | Path, latent_dim: int) -> SavedModel:
    """Loads the best model that a search with `--save_models` wrote into `output_dir`.

    Reads `hyperparam_results_latent{N}.json` and the .pth file named there. The model is on the CPU, in eval mode.
    The files may come from an untrusted source: no code in them is run, and they take no more memory than disk space.

    Args:
        output_dir: folder of the search.
        latent_dim: latent size of the search.

    Raises:
        FileNotFoundError: the results do not exist, or the search was run without `--save_models`.
        ValueError: one of the files is damaged, of another kind, or does not match the other.
    """
    results_path = Path(output_dir) / f"hyperparam_results_latent{latent_dim}.json"
    if not results_path.exists():
        raise FileNotFoundError(f"{results_path}: no such file; give the folder and the latent size of a search")
    with reading_results(results_path):
        results = json.loads(results_path.read_text(encoding="utf-8"))
        best = results["best_configuration"]
        info, saved = (best[part] for part in ("model_info", "saved_model"))
        if saved is None:
            raise FileNotFoundError(f"{results_path}: its search saved no model; run it again with --save_models")
        weights = results_path.with_name(saved["file"])  # with_name refuses paths outside the folder
        with torch.device("meta"):  # shapes without memory
            model = model_of(info)
        saved_model = with_results(model.eval(), results)
    with loading_weights(weights, read_own(weights, saved)) as tensors:
        assign_weights(model, tensors)
    return saved_model


def with_results(model: DynamicAutoencoder, results: Mapping[str, Any]) -> SavedModel:
    """Returns a model together with the columns, scaling and errors from the results of its search.

    Must be called within `reading_results`, which converts its errors.
    """
    columns, scaling = columns_of(results, model.input_dim)
    best = results["best_configuration"]
    training, test = (read_quantiles(best.get(f"{part}_errors")) for part in ("training", "test"))
    n_test = int(results["data"].get("test_rows", 0))
    return SavedModel(model, columns, scaling, is_of_copus(results), training, test, n_test)


def columns_of(results: Mapping[str, Any], n_columns: int) -> tuple[list[str], Scaling]:
    """Returns the names of the columns in the results of a search, and their scaling.

    Raises:
        ValueError: there are not `n_columns` of both.
    """
    from dataset import Scaling

    columns, scaling = results["data"]["columns"], Scaling.from_dict(results["data"]["scaling"])
    if not len(columns) == len(scaling.low) == len(scaling.high) == n_columns:
        raise ValueError("its columns, their scaling and the model differ in number")
    return columns, scaling


def is_of_copus(results: Mapping[str, Any]) -> bool:
    """Returns whether the columns of a search are COPUS codes."""
    return bool(results.get("args", {}).get("columns") == "copus")


def read_quantiles(numbers: Any) -> np.ndarray | None:
    """Returns error quantiles from the results, [Q] float32, or None if an earlier version wrote none.

    Raises:
        ValueError: they are not at least two numbers in ascending order.
    """
    if numbers is None:
        return None
    quantiles = np.array(numbers, dtype=np.float32)
    if quantiles.ndim != 1 or len(quantiles) < 2 or not (np.diff(quantiles) >= 0).all():
        raise ValueError("its errors of training and test rows are no quantiles")
    return quantiles


@contextmanager
def reading_results(path: Path) -> Iterator[None]:
    """Converts every error within the block, except OSError, into a ValueError that names the damaged results file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # a damaged file can cause any of them
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{path}: not the results of a search ({reason}); run the search again") from None


def assign_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Assigns weights to a model on the device "meta", within `loading_weights`, which converts errors."""
    model.load_state_dict(tensors, assign=True)
    if not all(parameter.isfinite().all() and parameter.dtype == torch.float32 for parameter in model.parameters()):
        raise ValueError("not all weights are finite float32 numbers")


def read_own(path: Path, entry: Mapping[str, Any], remedy: str = SAVE_AGAIN) -> bytes:
    """Returns the content of a .pth file after checking its SHA-256 against the results.

    Args:
        path: the file.
        entry: the description of the file in the results.
        remedy: the advice with which an error message ends.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not the one that the results describe.
    """
    content = path.read_bytes()
    known = entry.get("sha256")  # missing in results of earlier versions
    if known is not None and hashlib.sha256(content).hexdigest() != known:
        raise ValueError(f"{path}: not the model of the results beside it, but another's; {remedy}")
    return content


@contextmanager
def loading_weights(path: Path, content: bytes, remedy: str = SAVE_AGAIN) -> Iterator[Mapping[str, Tensor]]:
    """Yields the tensors in `content`, the bytes of the file `path`, without running any code in it.

    Every error within the block is converted into a ValueError that names the file and the remedy.
    """
    weights = _read_weights(path, content, remedy)
    try:
        yield weights
    except Exception as error:  # a damaged file can cause any of them
        fault = f"not the weights of this model ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise ValueError(f"{path}: {fault}; {remedy}") from None


def _read_weights(path: Path, content: bytes, remedy: str) -> Mapping[str, Tensor]:
    fault = "not a PyTorch file, or cut off"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about archives of other kinds, which raise an error as well
            return cast(Mapping[str, Tensor], torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))
    except pickle.UnpicklingError:
        if content.startswith(PYTORCH_MARKS):
            fault = "holds more than weights, perhaps a program; nothing of it was run"
    except Exception:  # torch raises various kinds
        pass
    raise ValueError(f"{path}: {fault}; {remedy}")
