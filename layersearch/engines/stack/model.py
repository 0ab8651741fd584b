"""Many autoencoders of one depth as one module: `DynamicAutoencoder` with a leading axis M on every tensor.

    stacked = stack(models)                       # of different widths
    reconstruction, latent = stacked(x)           # [M, B, F] -> [M, B, F], [M, B, L]
    model = unstack(stacked, m)                   # a DynamicAutoencoder again

Layers have the same names as in the single models. All members are padded to the same widths. A padded weight is zero
and stays zero, because activations and gradients in the padding are zero too; LayerNorm divides by each member's own
width. No operation mixes members, so that nothing in one changes a bit of another. HFTA (Wang et al., MLSys 2021)
trains models of equal shapes like this.

Symbols: as in `models.py`; here F, H, L and P include the padding, and P_m is member m's number of parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layersearch.engines.stack.plan import aligned
from models import LAYER_NORM_EPS, DynamicAutoencoder, flatten, load_flat


@dataclass(frozen=True)
class Shape:
    """The arguments of a member's `DynamicAutoencoder`."""

    input_dim: int
    latent_dim: int
    hidden_dims: tuple[int, ...]
    decoder_dims: tuple[int, ...]
    dropout: float
    normalization: str
    input_normalization: str
    is_frozen: bool

    @property
    def kind(self) -> tuple[int, int, str, str, bool]:
        """What all members of a stack have in common: depths, normalizations, and whether the encoder is frozen."""
        norms = self.normalization, self.input_normalization
        return len(self.hidden_dims), len(self.decoder_dims), *norms, self.is_frozen

    def build(self, device: str) -> DynamicAutoencoder:
        """Returns a model of this shape on a device; its weights are still to be set."""
        with torch.device(device):
            model = DynamicAutoencoder(
                self.input_dim,
                self.latent_dim,
                self.hidden_dims,
                self.dropout,
                decoder_dims=self.decoder_dims,
                normalization=self.normalization,
                input_normalization=self.input_normalization,
                generator=torch.Generator(device="cpu"),
            )
        if self.is_frozen:
            model.freeze_encoder()
        return model


def shape_of(model: DynamicAutoencoder) -> Shape:
    """Returns the shape of a model."""
    return Shape(
        model.input_dim,
        model.latent_dim,
        tuple(model.hidden_dims),
        tuple(model.decoder_dims),
        model.dropout,
        model.normalization,
        model.input_normalization,
        model.is_frozen,
    )


class StackedAutoencoder(nn.Module):
    """M autoencoders in one module, made by `stack`. A member may be None: an empty place, whose parameters are 0.

    Attributes:
        flat: all parameters, [M, P]; the parameters of the layers are views of it.
        places: for each member the columns of `flat` that hold its parameters in the order of `models.flatten`, [P_m]
            int64; None for an empty place.
    """

    def __init__(self, members: Sequence[Shape | None], padded: Shape, device: torch.device) -> None:
        super().__init__()
        self.members = list(members)
        self.input_dim, self.width = padded.input_dim, padded.hidden_dims[0]  # with padding
        self.depths, self.is_frozen = (len(padded.hidden_dims), len(padded.decoder_dims)), padded.is_frozen
        template = padded.build("meta")
        sizes = [parameter.numel() for parameter in template.parameters()]
        self.n_frozen = sum(
            p.numel() for p in template.parameters() if not p.requires_grad
        )  # these come first in each row
        self.flat = torch.zeros(len(members), sum(sizes), device=device)  # [M, P]
        own = [None if member is None else member.build("meta") for member in members]
        self.places = [None if model is None else _places(model, template) for model in own]
        views = iter(
            block.view(len(members), *parameter.shape)
            for block, parameter in zip(self.flat.split(sizes, dim=1), template.parameters(), strict=True)
        )

        def twin(name: str, layer: nn.Module) -> nn.Module:
            if isinstance(layer, nn.Linear):
                return StackedLinear(next(views), next(views))
            if isinstance(layer, nn.LayerNorm):
                widths = [0 if model is None else _width(model.get_submodule(name)) for model in own]
                return StackedLayerNorm(next(views), next(views), widths)
            return layer

        self.input_norm = twin("input_norm", template.input_norm)
        self.encoder, self.decoder = (
            nn.Sequential(*(twin(f"{half}.{number}", layer) for number, layer in enumerate(layers)))
            for half, layers in (("encoder", template.encoder), ("decoder", template.decoder))
        )
        for part in (self.input_norm, self.encoder):
            part.requires_grad_(not self.is_frozen)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the reconstruction and the latent coordinates, [M, B, F] -> [M, B, F], [M, B, L]."""
        latent: Tensor = self.encoder(self.input_norm(x))
        return self.decoder(latent), latent

    def rows(self, vectors: Mapping[int, np.ndarray]) -> Tensor:
        """Returns members' vectors [P_m], such as their parameters, as rows padded with zeros, [M, P], on the CPU."""
        rows = np.zeros(self.flat.shape, dtype=np.float32)
        for member, vector in vectors.items():
            rows[member, self.places[member]] = vector
        return torch.from_numpy(rows)

    def own(self, rows: np.ndarray, member: int) -> np.ndarray:
        """Returns a copy of one member's part [..., P_m] of an array that is laid out like `flat`, [..., M, P]."""
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
        """Returns the layer's output, [M, B, H_in] -> [M, B, H_out]."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)  # [M, B, H_in] @ [M, H_in, H_out]


class StackedLayerNorm(nn.Module):
    """`nn.LayerNorm` with a leading axis M, over each member's own width."""

    def __init__(self, weight: Tensor, bias: Tensor, widths: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # [M, H]
        self.bias = nn.Parameter(bias)  # [M, H]
        own = torch.tensor(widths)[:, None, None]  # [M, 1, 1]
        is_own = torch.arange(weight.shape[1]) < own  # [M, 1, H]
        self.register_buffer("is_own", is_own.to(weight), persistent=False)
        self.register_buffer("share", (1 / own.clamp(min=1)).to(weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the layer's output, [M, B, H] -> [M, B, H]; it is zero in the padding if `x` is."""
        normalized = _Normalize.apply(x, self.is_own, self.share)  # type: ignore[no-untyped-call]
        return torch.addcmul(self.bias.unsqueeze(1), normalized, self.weight.unsqueeze(1))


class _Normalize(torch.autograd.Function):
    """LayerNorm without gain and shift, in fewer operations than autograd would use."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_own: Tensor, share: Tensor) -> Tensor:
        """Normalizes each row over its member's own width.

        Args:
            ctx: PyTorch's context.
            x: [M, B, H], zero where `is_own` is.
            is_own: 1 for a unit of the member, 0 for padding, [M, 1, H].
            share: 1 / the member's own width, [M, 1, 1].
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
        """Returns the gradient with respect to `x`; the incoming one [M, B, H] is zero in the padding like the gain."""
        (delta,), (normalized, inverse_sd, is_own, share) = deltas, ctx.saved_tensors
        mean_delta = delta.sum(-1, keepdim=True) * share  # [M, B, 1]
        mean_product = (delta * normalized).sum(-1, keepdim=True) * share
        centred = torch.addcmul(delta, mean_delta, is_own, value=-1)
        return torch.addcmul(centred, normalized, mean_product, value=-1) * inverse_sd, None, None


def stack(
    models: Sequence[DynamicAutoencoder | None], width: int = 0, device: torch.device | None = None
) -> StackedAutoencoder:
    """Stacks models of the same input, latent size, depths and normalizations.

    Args:
        models: the members; None leaves a place empty.
        width: least width of all hidden layers; by default what the widest model needs.
        device: where the stack is; by default the CPU.

    Raises:
        ValueError: the models cannot share a stack.
    """
    shapes = [None if model is None else shape_of(model) for model in models]
    some = next(shape for shape in shapes if shape)
    widest = max(width, *(n for shape in shapes if shape for n in shape.hidden_dims + shape.decoder_dims))
    for shape in shapes:
        if shape and shape.kind != some.kind:
            raise ValueError(f"models of one depth and normalization can be stacked, not {some} and {shape}")
    hidden, decoder = ((aligned(widest),) * depth for depth in some.kind[:2])
    padded = replace(
        some,
        input_dim=aligned(some.input_dim),
        latent_dim=aligned(some.latent_dim),
        hidden_dims=hidden,
        decoder_dims=decoder,
    )
    stacked = StackedAutoencoder(shapes, padded, device or torch.device("cpu"))
    with torch.no_grad():
        stacked.flat.copy_(stacked.rows({m: flatten(model) for m, model in enumerate(models) if model}))
    return stacked


def unstack(stacked: StackedAutoencoder, m: int) -> DynamicAutoencoder:
    """Returns member m as a model of its own, on the CPU.

    Raises:
        ValueError: the place is empty.
    """
    shape = stacked.members[m]
    if shape is None:
        raise ValueError(f"place {m} of the stack is empty")
    model = shape.build("cpu")
    load_flat(model, stacked.own(stacked.flat.detach().cpu().numpy(), m))
    return model


def _places(model: DynamicAutoencoder, padded: DynamicAutoencoder) -> np.ndarray:
    """Returns where a model's parameters, in flat order, are in the flat vector of the padded model, [P_m] int64."""
    places, start = [], 0
    for own, block in zip(model.parameters(), padded.parameters(), strict=True):
        numbers = np.arange(start, start + block.numel()).reshape(block.shape)
        places.append(numbers[tuple(map(slice, own.shape))].ravel())
        start += block.numel()
    return np.concatenate(places)


def _width(layer: nn.Module) -> int:
    assert isinstance(layer, nn.LayerNorm)
    return layer.normalized_shape[0]
