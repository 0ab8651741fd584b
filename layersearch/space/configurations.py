"""Configurations of hidden layers, and the search space that lists them.

    space = Space([16, 32, 64], max_layers=3)
    len(list(space.configurations())) == space.size == 19

A configuration has one of three forms:
    (64, 32)                                hidden widths from input to latent space; the decoder mirrors the encoder
    ((64, 32), (16, 64))                    encoder and decoder, if these do not mirror each other
    Variant((64, 32), (("dropout", 0.3),))  layers and the training options that a study gives them

This module needs neither NumPy nor torch, so that the command line can be checked quickly.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations_with_replacement, pairwise, product
from math import comb
from typing import Any

Widths = tuple[int, ...]
Layers = tuple[Any, ...]  # Widths, or a pair of Widths: encoder and decoder
OPTIONS = ("initial_lr", "dropout", "weight_decay", "normalization", "input_normalization")  # that a study can vary


@dataclass(frozen=True)
class Variant:
    """Hidden layers and the training options that a study gives them."""

    layers: Layers
    options: tuple[tuple[str, float | str], ...]  # names and values, ordered as in `OPTIONS`


Configuration = Any  # Layers, or a Variant of them


def layers_of(config: Configuration) -> Layers:
    """Returns the hidden layers of a configuration, without the options of a variant."""
    return config.layers if isinstance(config, Variant) else config


def options_of(config: Configuration) -> dict[str, float | str]:
    """Returns the options of a variant by name; an empty dictionary for any other configuration."""
    return dict(config.options) if isinstance(config, Variant) else {}


def encoder_dims(config: Configuration) -> Widths:
    """Returns the hidden widths of the encoder, from the input to the latent space."""
    layers = layers_of(config)
    return layers[0] if isinstance(layers[0], tuple) else layers


def decoder_dims(config: Configuration) -> Widths:
    """Returns the hidden widths of the decoder, from the latent space to the output."""
    layers = layers_of(config)
    return layers[1] if isinstance(layers[0], tuple) else layers[::-1]


@dataclass(frozen=True)
class Space:
    """All configurations of 1 to `max_layers` hidden layers with these widths.

    The arrangement is "decreasing" (widths do not increase towards the latent space, and the decoder mirrors the
    encoder), "any" (widths in any order, mirrored) or "asymmetric" (encoder and decoder may differ in length and
    widths, neither increases towards the latent space). If `encoder` is given, all configurations have that encoder;
    the arrangement, which is then not "asymmetric", is that of the decoder, read from the output to the latent space.
    """

    widths: Sequence[int]
    max_layers: int
    arrangement: str = "decreasing"
    encoder: Widths | None = None

    @property
    def size(self) -> int:
        """Number of configurations, computed without listing them.

        There are C(n + k - 1, k) multisets of size k from n widths; over k = 1..K they add up to C(n + K, K) - 1.
        """
        n, k = len(set(self.widths)), self.max_layers
        if self.arrangement == "any":
            return sum(n**layers for layers in range(1, k + 1))
        halves = comb(n + k, k) - 1
        return halves**2 if self.arrangement == "asymmetric" else halves

    def configurations(self) -> Iterator[Configuration]:
        """Yields each configuration once: the shortest first, and among those of equal length the widest first.

        Asymmetric ones are ordered in this way by encoder, then by decoder, read from the output to the latent space.
        """
        if self.arrangement == "asymmetric":
            for encoder, mirrored in product(self._halves(), repeat=2):
                yield join_dims(encoder, mirrored[::-1])
        else:
            yield from map(self.complete, self._halves())

    def complete(self, half: Widths) -> Configuration:
        """Makes a configuration of one half, read towards the latent space: mirrored, or a decoder for `encoder`."""
        return half if self.encoder is None else join_dims(self.encoder, half[::-1])

    def half_of(self, config: Configuration) -> Widths:
        """Returns the half from which `complete` makes this configuration."""
        return encoder_dims(config) if self.encoder is None else decoder_dims(config)[::-1]

    def sample(self, generator: random.Random) -> Configuration:
        """Returns a configuration drawn uniformly at random."""
        if self.arrangement == "any":
            n = len(self._descending)
            layers = _draw_depth([n**k for k in range(1, self.max_layers + 1)], generator)
            return self.complete(tuple(generator.choices(self._descending, k=layers)))
        if self.arrangement == "asymmetric":
            return join_dims(self._sample_half(generator), self._sample_half(generator)[::-1])
        return self.complete(self._sample_half(generator))

    @property
    def _descending(self) -> list[int]:
        return sorted(set(self.widths), reverse=True)

    def _halves(self) -> Iterator[Widths]:
        for layers in range(1, self.max_layers + 1):
            if self.arrangement == "any":
                yield from product(self._descending, repeat=layers)
            else:
                yield from combinations_with_replacement(self._descending, layers)

    def _sample_half(self, generator: random.Random) -> Widths:
        """Returns a half drawn uniformly at random.

        Subtracting i from the i-th of k sorted places drawn from n + k - 1 gives a uniform multiset of k from n widths.
        """
        widths = self._descending
        layers = _draw_depth([comb(len(widths) + k - 1, k) for k in range(1, self.max_layers + 1)], generator)
        chosen = sorted(generator.sample(range(len(widths) + layers - 1), layers))
        return tuple(widths[place - i] for i, place in enumerate(chosen))


def _draw_depth(counts: Sequence[int], generator: random.Random) -> int:
    """Draws a number of layers, from 1, with probability proportional to `counts`, which may exceed any float."""
    drawn = generator.randrange(sum(counts))
    return 1 + sum(drawn >= below for below in accumulate(counts))


def enumerate_configurations(widths: Iterable[int], max_layers: int) -> list[Configuration]:
    """Returns all configurations of a `Space` with the arrangement "decreasing"."""
    return list(Space(list(widths), max_layers).configurations())


def join_dims(encoder: Widths, decoder: Widths) -> Configuration:
    """Returns the configuration of an encoder and a decoder: a plain tuple of widths if they mirror each other."""
    return encoder if decoder == encoder[::-1] else (encoder, decoder)


def count_parameters(
    input_dim: int,
    latent_dim: int,
    config: Configuration,
    *,
    normalization: str = "layer",
    input_normalization: str = "layer",
) -> int:
    """Returns the number of trainable parameters of a `DynamicAutoencoder`.

    The normalizations of a variant take precedence over those given.
    """
    own = options_of(config)
    encoder = [input_dim, *encoder_dims(config), latent_dim]
    decoder = [latent_dim, *decoder_dims(config), input_dim]
    linear = sum((n_in + 1) * n_out for dims in (encoder, decoder) for n_in, n_out in pairwise(dims))
    layer_norms = input_norm = 0
    if own.get("normalization", normalization) == "layer":
        layer_norms = 2 * (sum(encoder[1:-1]) + sum(decoder[1:-1]))
    if own.get("input_normalization", input_normalization) == "layer":
        input_norm = 2 * input_dim
    return linear + layer_norms + input_norm


class ParameterCounts(dict[Configuration, int]):
    """The number of parameters of each configuration, counted when it is first looked up."""

    def __init__(self, input_dim: int, latent_dim: int, **normalizations: str) -> None:
        super().__init__()
        self._input_dim, self._latent_dim, self._normalizations = input_dim, latent_dim, normalizations

    def __missing__(self, config: Configuration) -> int:
        self[config] = count_parameters(self._input_dim, self._latent_dim, config, **self._normalizations)
        return self[config]
