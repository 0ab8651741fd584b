"""The search space: which hidden layers there are to try, and as which trials.

    space = Space([16, 32, 64], max_layers=3)
    len(list(space.configurations())) == space.size == 19
    trials = plan_trials(space.configurations(), repeats=5, input_dim=24, latent_dim=3)

A configuration is a tuple of hidden widths in the encoder's order, by default non-increasing; the decoder is its
mirror image. One whose decoder has widths of its own is a pair: ((64, 32), (16, 64)); one that is trained with options
of its own is a `Variant`. A trial is one training of one configuration. Which of the space are tried is up to
`strategies.py`. Nothing here knows of tensors, files or plots.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations_with_replacement, pairwise, product
from math import comb
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Widths = tuple[int, ...]
Layers = tuple[Any, ...]  # Widths; or (Widths, Widths): encoder and decoder
ARRANGEMENTS = ("decreasing", "any", "asymmetric")
NORMALIZATIONS = ("layer", "none")  # LayerNorm, or nothing in its place
OPTIONS = ("dropout", "weight_decay", "normalization", "input_normalization")  # that a training may have of its own
LARGEST_ENSEMBLE = 1000  # most models that `--ensemble` may combine


@dataclass(frozen=True)
class Variant:
    """Hidden layers trained with options of their own, where a search compares these too.

    `options`: pairs of name and value, in the order of `OPTIONS`; what is not named is as the arguments say.
    """

    layers: Layers
    options: tuple[tuple[str, float | str], ...]


Configuration = Any  # Layers, or a Variant of them


def layers_of(config: Configuration) -> Layers:
    """The hidden layers alone."""
    return config.layers if isinstance(config, Variant) else config


def options_of(config: Configuration) -> dict[str, float | str]:
    """The options that it does not share with all others, by name."""
    return dict(config.options) if isinstance(config, Variant) else {}


def encoder_dims(config: Configuration) -> Widths:
    """The encoder's hidden widths, from the input to the latent."""
    layers = layers_of(config)
    return layers[0] if isinstance(layers[0], tuple) else layers


def decoder_dims(config: Configuration) -> Widths:
    """The decoder's hidden widths, from the latent to the output."""
    layers = layers_of(config)
    return layers[1] if isinstance(layers[0], tuple) else layers[::-1]


@dataclass(frozen=True)
class Trial:
    """One training of one configuration; `repeat` and `fold` count from 0.

    With a fold it trains on the other folds of the training rows and is scored on this one; without, it
    trains on all training rows and is scored on the test rows.
    """

    config: Configuration
    repeat: int
    fold: int | None = None


@dataclass(frozen=True)
class TrialResult:
    """What one trial left behind. E epochs, N_test rows it is scored on, P parameters.

    Of more than `uncertainty.MAX_UNITS` test rows, `row_errors` are those of bundles: its size is bounded.
    `failed_epoch` is None, or the epoch (from 1) in which the trial stopped being finite; the curves
    then end before that epoch, the final losses are None, and `parameters` and `row_errors` are empty.
    `parameters` are empty too where they were not kept. A trial that is paused, to go on or be dropped, has its
    curves so far and no final losses. With early stopping the curves end where it stopped, and all that is final is of
    the weights of `best_epoch`.
    """

    trial: Trial
    train_losses: np.ndarray  # [E] float64, mean batch loss while training (dropout on)
    test_losses: np.ndarray  # [E] float64, loss of the whole test set in eval mode
    final_train_loss: float | None  # loss of the whole training set in eval mode after the last epoch
    final_test_loss: float | None  # that of the weights kept: == test_losses[-1], or [best_epoch - 1]
    row_errors: np.ndarray  # [N_test, 2] float32: squared error over non-zero cells, over all cells; of many, sums
    parameters: np.ndarray  # [P] float32, flat (models.flatten), after the last epoch
    seconds: float
    failed_epoch: int | None = None
    out_of_memory: bool = False  # then all is empty
    is_paused: bool = False
    validation_losses: np.ndarray | None = None  # [E] loss of the validation rows in eval mode, with early stopping
    best_epoch: int | None = None  # from 1; None without early stopping

    @property
    def has_failed(self) -> bool:
        """Whether it will never have a final loss."""
        return self.failed_epoch is not None or self.out_of_memory


@dataclass
class TrialState:
    """A trial between two epochs: all that one hands to the next. It is trained in place."""

    epoch: int  # how many are done
    train_losses: np.ndarray  # [E] float64, of which the first `epoch` are known
    test_losses: np.ndarray  # [E]
    parameters: np.ndarray  # [P] float32
    moments: np.ndarray  # [2, P] float32, of AdamW
    seconds: float = 0.0  # spent so far
    validation_losses: np.ndarray | None = None  # [E], with early stopping
    best_epoch: int = 0  # whose validation loss is the lowest, from 1; 0 before the first
    best_parameters: np.ndarray | None = None  # [P], after that epoch


def no_memory_for(trial: Trial) -> TrialResult:
    """The result of a trial that does not fit into memory."""
    import numpy as np

    curve, nothing = np.empty(0), np.empty(0, dtype=np.float32)
    return TrialResult(trial, curve, curve, None, None, nothing.reshape(0, 2), nothing, 0.0, out_of_memory=True)


@dataclass(frozen=True)
class Space:
    """All configurations of 1 to `max_layers` layers of these widths.

    `arrangement`: "decreasing" (non-increasing towards the latent, mirrored), "any" (widths in any order, mirrored) or
    "asymmetric" (encoder and decoder each non-increasing towards the latent, of lengths of their own). With an
    `encoder` that is given, these are the decoders, read from the output to the latent; then it is not "asymmetric".
    """

    widths: Sequence[int]
    max_layers: int
    arrangement: str = "decreasing"
    encoder: Widths | None = None

    @property
    def size(self) -> int:
        """How many configurations there are, without making them.

        A multiset of size k from n is chosen in C(n + k - 1, k) ways; over k = 1..K they add up to C(n + K, K) - 1.
        """
        n, k = len(set(self.widths)), self.max_layers
        if self.arrangement == "any":
            return sum(n**layers for layers in range(1, k + 1))
        halves = comb(n + k, k) - 1
        return halves**2 if self.arrangement == "asymmetric" else halves

    def configurations(self) -> Iterator[Configuration]:
        """All of them, each once: shortest first, then widest first.

        Of asymmetric ones that is the order of the encoders, and for each encoder that of its decoders, read from the
        output to the latent.
        """
        if self.arrangement == "asymmetric":
            for encoder, mirrored in product(self._halves(), repeat=2):
                yield join_dims(encoder, mirrored[::-1])
        else:
            yield from map(self.complete, self._halves())

    def complete(self, half: Widths) -> Configuration:
        """The configuration of a half, read from the table to the latent: mirrored, or behind the encoder given."""
        return half if self.encoder is None else join_dims(self.encoder, half[::-1])

    def half_of(self, config: Configuration) -> Widths:
        """What `complete` made this configuration of."""
        return encoder_dims(config) if self.encoder is None else decoder_dims(config)[::-1]

    def sample(self, generator: random.Random) -> Configuration:
        """One of them, each as likely as any other."""
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
        """A multiset of k from n widths is a subset of k from n + k - 1, whose i-th element is lowered by i."""
        widths = self._descending
        layers = _draw_depth([comb(len(widths) + k - 1, k) for k in range(1, self.max_layers + 1)], generator)
        chosen = sorted(generator.sample(range(len(widths) + layers - 1), layers))
        return tuple(widths[place - i] for i, place in enumerate(chosen))


def _draw_depth(counts: Sequence[int], generator: random.Random) -> int:
    """A number of layers, from 1, as likely as there are configurations of it, which may be more than a float holds."""
    drawn = generator.randrange(sum(counts))
    return 1 + sum(drawn >= below for below in accumulate(counts))


def enumerate_configurations(widths: Iterable[int], max_layers: int) -> list[Configuration]:
    """All non-increasing configurations; see `Space`."""
    return list(Space(list(widths), max_layers).configurations())


def join_dims(encoder: Widths, decoder: Widths) -> Configuration:
    """The configuration of this encoder and this decoder: a plain tuple where they mirror each other."""
    return encoder if decoder == encoder[::-1] else (encoder, decoder)


def count_parameters(
    input_dim: int,
    latent_dim: int,
    config: Configuration,
    *,
    normalization: str = "layer",
    input_normalization: str = "layer",
) -> int:
    """Trainable parameters of the `DynamicAutoencoder` of this shape; a variant's own options go first."""
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
    """`count_parameters` of any configuration that is asked for."""

    def __init__(
        self, input_dim: int, latent_dim: int, *, normalization: str = "layer", input_normalization: str = "layer"
    ) -> None:
        super().__init__()
        self._normalization, self._input_normalization = normalization, input_normalization
        self._dims = input_dim, latent_dim

    def __missing__(self, config: Configuration) -> int:
        self[config] = count_parameters(
            *self._dims,
            config,
            normalization=self._normalization,
            input_normalization=self._input_normalization,
        )
        return self[config]


def plan_trials(
    configurations: Sequence[Configuration], repeats: int, *, input_dim: int, latent_dim: int, folds: int = 0
) -> list[Trial]:
    """Every configuration `repeats` times (in each of so many `folds`), costliest first: all cores finish together.

    The cost of a training is taken as proportional to the parameter count.
    """
    by_cost = sorted(configurations, key=lambda config: count_parameters(input_dim, latent_dim, config), reverse=True)
    numbers = range(folds) if folds else [None]
    return [Trial(config, repeat, fold) for config in by_cost for repeat in range(repeats) for fold in numbers]
