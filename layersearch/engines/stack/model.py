"""Many autoencoders of one depth as one module, like `DynamicAutoencoder` with a leading axis M on every tensor.

    stacked = stack(models)                       # of different widths
    reconstruction, latent = stacked(x)           # [M, B, F] -> [M, B, F], [M, B, L]
    model = unstack(stacked, m)                   # a DynamicAutoencoder again

Layers have the same names as in the single models. All members are padded to the same widths. Weights in the padding
are zero and stay zero, because activations and gradients in the padding are zero too; LayerNorm divides by each
member's own width. No operation mixes members, so no member affects the bits of another. HFTA (Wang et al., MLSys 2021)
trains models of equal shapes in this way.

Symbols: as in `models.py`; here F, H, L and P include the padding, and P_m is member m's number of parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layersearch.engines.stack.plan import aligned
from models import LAYER_NORM_EPS, DynamicAutoencoder, flatten, load_flat, model_of


class StackedAutoencoder(nn.Module):
    """M autoencoders in one module, made by `stack`. A member may be None for an empty place, whose parameters are 0.

    Attributes:
        members: for each member a model of its shape without memory, or None for an empty place.
        flat: all parameters, [M, P]; the parameters of the layers are views of it.
        places: for each member the columns of `flat` with its parameters in the order of `models.flatten`, [P_m]
            int64, or None for an empty place.
    """

    def __init__(
        self, members: Sequence[DynamicAutoencoder | None], padded: DynamicAutoencoder, device: torch.device
    ) -> None:
        super().__init__()
        self.members = [None if model is None else _untrained(model) for model in members]
        self.input_dim, self.width = padded.input_dim, padded.hidden_dims[0]
        self.depths, self.is_frozen = (len(padded.hidden_dims), len(padded.decoder_dims)), padded.is_frozen
        parameters = list(padded.parameters())
        sizes = [parameter.numel() for parameter in parameters]
        self.n_frozen = sum(p.numel() for p in parameters if not p.requires_grad)  # the first columns of `flat`
        self.flat = torch.zeros(len(members), sum(sizes), device=device)  # [M, P]
        self.places = [None if model is None else _places(model, padded) for model in members]
        views = iter(
            block.view(len(members), *parameter.shape)
            for block, parameter in zip(self.flat.split(sizes, dim=1), parameters, strict=True)
        )

        def twin(name: str, layer: nn.Module) -> nn.Module:
            if isinstance(layer, nn.Linear):
                return StackedLinear(next(views), next(views))
            if isinstance(layer, nn.LayerNorm):
                widths = [0 if model is None else _width(model.get_submodule(name)) for model in members]
                return StackedLayerNorm(next(views), next(views), widths)
            return layer

        self.input_norm = twin("input_norm", padded.input_norm)
        self.encoder, self.decoder = (
            nn.Sequential(*(twin(f"{half}.{number}", layer) for number, layer in enumerate(layers)))
            for half, layers in (("encoder", padded.encoder), ("decoder", padded.decoder))
        )
        for part in (self.input_norm, self.encoder):
            part.requires_grad_(not self.is_frozen)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the reconstruction [M, B, F] and the latent coordinates [M, B, L] of rows [M, B, F]."""
        latent: Tensor = self.encoder(self.input_norm(x))
        return self.decoder(latent), latent

    def rows(self, vectors: Mapping[int, np.ndarray]) -> Tensor:
        """Pads vectors of members [P_m], such as their parameters, with zeros to rows [M, P] on the CPU."""
        rows = np.zeros(self.flat.shape, dtype=np.float32)
        for member, vector in vectors.items():
            rows[member, self.places[member]] = vector
        return torch.from_numpy(rows)

    def own(self, rows: np.ndarray, member: int) -> np.ndarray:
        """Returns a copy of one member's part [..., P_m] of an array with the layout of `flat`, [..., M, P]."""
        place = self.places[member]
        assert place is not None
        part: np.ndarray = rows[..., member, place]
        return part


class StackedLinear(nn.Module):
    """`nn.Linear` with a leading axis M."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # [M, H_out, H_in]
        self.bias = nn.Parameter(bias)  # [M, H_out]

    def forward(self, x: Tensor) -> Tensor:
        """Returns the layer's output [M, B, H_out] for an input [M, B, H_in]."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)  # [M, B, H_in] @ [M, H_in, H_out]


class StackedLayerNorm(nn.Module):
    """`nn.LayerNorm` with a leading axis M, which normalizes over each member's own width."""

    def __init__(self, weight: Tensor, bias: Tensor, widths: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # [M, H]
        self.bias = nn.Parameter(bias)  # [M, H]
        own = torch.tensor(widths)[:, None, None]  # [M, 1, 1]
        is_own = torch.arange(weight.shape[1]) < own  # [M, 1, H]
        self.register_buffer("is_own", is_own.to(weight), persistent=False)
        self.register_buffer("share", (1 / own.clamp(min=1)).to(weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the layer's output [M, B, H] for an input [M, B, H]; it is zero in the padding if `x` is."""
        normalized = _Normalize.apply(x, self.is_own, self.share)  # type: ignore[no-untyped-call]
        return torch.addcmul(self.bias.unsqueeze(1), normalized, self.weight.unsqueeze(1))


class _Normalize(torch.autograd.Function):
    """LayerNorm without gain and shift, in fewer operations than autograd would use."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_own: Tensor, share: Tensor) -> Tensor:
        """Normalizes each row over its member's own width.

        Args:
            ctx: PyTorch's context.
            x: [M, B, H], zero in the padding.
            is_own: [M, 1, H], 1 for the member's own units, 0 for padding.
            share: [M, 1, 1], 1 divided by the member's own width.
        """
        mean = x.sum(-1, keepdim=True) * share  # [M, B, 1]
        centred = torch.addcmul(x, mean, is_own, value=-1)
        variance = centred.square().sum(-1, keepdim=True) * share
        inverse_sd = (variance + LAYER_NORM_EPS).rsqrt()
        normalized = centred * inverse_sd
        ctx.save_for_backward(normalized, inverse_sd, is_own, share)
        return normalized

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> tuple[Tensor, None, None]:
        """Returns the gradient with respect to `x`; the given one [M, B, H] is zero in the padding like the gain."""
        (delta,), (normalized, inverse_sd, is_own, share) = deltas, ctx.saved_tensors
        mean_delta = delta.sum(-1, keepdim=True) * share  # [M, B, 1]
        mean_product = (delta * normalized).sum(-1, keepdim=True) * share
        centred = torch.addcmul(delta, mean_delta, is_own, value=-1)
        return torch.addcmul(centred, normalized, mean_product, value=-1) * inverse_sd, None, None


def stack(
    models: Sequence[DynamicAutoencoder | None], width: int = 0, device: torch.device | None = None
) -> StackedAutoencoder:
    """Stacks models of the same input and latent size, depths and normalizations.

    Args:
        models: the members; None leaves a place empty.
        width: minimum width of all hidden layers; by default that of the widest layer.
        device: device of the stack; by default the CPU.

    Raises:
        ValueError: the models cannot share a stack.
    """
    some, *others = (model for model in models if model)
    for model in others:
        if _kind(model) != _kind(some):
            raise ValueError(f"models of one depth and normalization can be stacked, not {some} and {model}")
    widest = aligned(max(width, *(n for model in (some, *others) for n in model.hidden_dims + model.decoder_dims)))
    padded = _untrained(
        some,
        input_dim=aligned(some.input_dim),
        latent_dim=aligned(some.latent_dim),
        hidden_dims=[widest] * len(some.hidden_dims),
        decoder_dims=[widest] * len(some.decoder_dims),
    )
    stacked = StackedAutoencoder(models, padded, device or torch.device("cpu"))
    with torch.no_grad():
        stacked.flat.copy_(stacked.rows({m: flatten(model) for m, model in enumerate(models) if model}))
    return stacked


def unstack(stacked: StackedAutoencoder, m: int) -> DynamicAutoencoder:
    """Returns member m as a single model on the CPU.

    Raises:
        ValueError: the place is empty.
    """
    member = stacked.members[m]
    if member is None:
        raise ValueError(f"place {m} of the stack is empty")
    model = _untrained(member).to_empty(device="cpu")
    load_flat(model, stacked.own(stacked.flat.detach().cpu().numpy(), m))
    return model


def _kind(model: DynamicAutoencoder) -> tuple[object, ...]:
    """Returns what all members of a stack have in common."""
    depths = len(model.hidden_dims), len(model.decoder_dims)
    return *depths, model.normalization, model.input_normalization, model.is_frozen


def _untrained(model: DynamicAutoencoder, **changes: Any) -> DynamicAutoencoder:
    """Returns a model of the same shape apart from `changes`, without memory (on the device "meta")."""
    with torch.device("meta"):
        untrained = model_of({**model.get_model_info(), **changes})
    if model.is_frozen:
        untrained.freeze_encoder()
    return untrained


def _places(model: DynamicAutoencoder, padded: DynamicAutoencoder) -> np.ndarray:
    """Returns the positions of a model's parameters in the flat vector of the padded model, [P_m] int64."""
    places, start = [], 0
    for own, block in zip(model.parameters(), padded.parameters(), strict=True):
        numbers = np.arange(start, start + block.numel()).reshape(block.shape)
        places.append(numbers[tuple(map(slice, own.shape))].ravel())
        start += block.numel()
    return np.concatenate(places)


def _width(layer: nn.Module) -> int:
    assert isinstance(layer, nn.LayerNorm)
    return layer.normalized_shape[0]
