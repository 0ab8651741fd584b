"""All options of the command, as one frozen dataclass for each stage of the program.

    options = TrainingOptions(epochs=300)
    options.initial_lr                      # 0.001
    DECLARED["epochs"].bounds               # Whole(low=1, high=1000000)

A field declares its default, its help text, its bounds, the options it requires and what it influences. The parser and
the range checks (`command/`), docs/arguments.md and the identity of a journal (`journal/identity.py`) are made from
these declarations. An option without a default value is None if it was not given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

SUFFIXES = (".csv", ".tsv", ".tab", ".xlsx", ".parquet")
STRATEGIES = ("grid", "random", "halving", "bayesian")
ARRANGEMENTS = ("decreasing", "any", "asymmetric")
NORMALIZATIONS = ("layer", "none")  # LayerNorm, or no normalization
OBJECTIVES = ("loss", "params", "time")
LARGEST = 2**31 - 1
LARGEST_ENSEMBLE = 1000  # models

TRAINING, DATA = "training", "data"  # the values of `Declared.shapes`


class Whole(NamedTuple):
    """Allows whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def remedy(self, value: Any) -> str | None:
        """Returns advice on which values are allowed, or None if `value` is."""
        is_allowed = isinstance(value, int) and self.low <= value <= self.high
        return None if is_allowed else f"give a whole number from {self.low} to {self.high}"


class Number(NamedTuple):
    """Allows the finite numbers for which `is_allowed` is true; `allowed` describes them, e.g. "above 0"."""

    allowed: str
    is_allowed: Callable[[float], bool]

    def remedy(self, value: Any) -> str | None:
        """Returns advice on which values are allowed, or None if `value` is."""
        is_number = isinstance(value, int | float) and math.isfinite(value)
        return None if is_number and self.is_allowed(value) else f"give a number {self.allowed}"


class Choice(NamedTuple):
    """Allows one of a few strings."""

    choices: tuple[str, ...]

    def remedy(self, value: Any) -> str | None:
        """Returns advice on which values are allowed, or None if `value` is."""
        return None if value in self.choices else f"give {', '.join(self.choices[:-1])} or {self.choices[-1]}"


class Use(NamedTuple):
    """The arguments that an option requires: `words` for the message, and a test of all arguments by name."""

    words: str
    holds: Callable[[Mapping[str, Any]], bool]


class Declared(NamedTuple):
    """The complete declaration of one option."""

    name: str
    group: str  # the heading in --help
    kind: type[Any]  # int, float, str or bool (a switch)
    default: Any
    help: str
    stated: str | None  # a description of the default for --help and the documents, if it is not a plain value
    stands_for: str | None  # the value that is used if the option is None
    bounds: Whole | Number | Choice | None
    goes_with: Use | None
    shapes: tuple[str, ...]  # what it influences: a trial's numbers (TRAINING), its rows and columns (DATA), neither

    @property
    def flag(self) -> str:
        """The name of the option on the command line."""
        return f"--{self.name}"

    @property
    def default_text(self) -> str:
        """The default as --help and the documents state it."""
        if self.kind is bool:
            return "off"
        return self.stated or self.stands_for or ("none" if self.default is None else str(self.default))


def option(
    default: Any,
    help_text: str,
    *,
    bounds: Whole | Number | Choice | None = None,
    goes_with: Use | None = None,
    shapes: tuple[str, ...] = (),
    stated: str | None = None,
    stands_for: str | None = None,
) -> Any:
    """Declares a field of a stage's dataclass; `Declared` describes the arguments."""
    about = {"help": help_text, "bounds": bounds, "goes_with": goes_with, "shapes": shapes}
    return field(default=default, metadata={**about, "stated": stated, "stands_for": stands_for})


def _searches(*strategies: str) -> Use:
    return Use(f"--search {' or '.join(strategies)}", lambda given: given["search"] in strategies)


STOPPING_EARLY = Use("--patience", lambda given: given["patience"] != 0)
AT_LEAST_0 = Number("of at least 0", lambda x: x >= 0)


@dataclass(frozen=True)
class SpaceOptions:
    """Options that define the configurations of the search space."""

    latent_dim: int = option(
        3, "fixed size of the latent space, dimensions", bounds=Whole(1, 10_000), shapes=(TRAINING,)
    )
    hidden_dims_search: str = option("16,32,64,128", "hidden-layer widths to combine, units, comma-separated")
    max_layers: int = option(3, "maximum number of hidden layers in the encoder", bounds=Whole(1, 100))
    width_range: str | None = option(None, "any width low:high[:step] instead of --hidden_dims_search")
    arrangement: str = option(
        "decreasing",
        "of widths: decreasing, any, or asymmetric (the decoder has its own)",
        bounds=Choice(ARRANGEMENTS),
    )
    max_configurations: int = option(10_000, "largest search that is started, configurations", bounds=Whole(1, LARGEST))


@dataclass(frozen=True)
class SearchOptions:
    """Options that decide which configurations are trained, how often and in which order."""

    search: str = option(
        "grid",
        "grid (all), random, halving (drop the worse part early) or bayesian (Optuna)",
        bounds=Choice(STRATEGIES),
    )
    repeats: int = option(
        5,
        "trainings of each configuration; initialisation, batch order and dropout differ",
        bounds=Whole(1, 10_000),
    )
    trials: int = option(
        0,
        "configurations to try, random and bayesian search",
        bounds=Whole(0, LARGEST),
        goes_with=_searches("random", "bayesian"),
    )
    halving_factor: int = option(
        3, "at each rung one in so many goes on, halving", bounds=Whole(2, 1000), goes_with=_searches("halving")
    )
    min_epochs: int = option(
        0,
        "epochs before the first rung, halving",
        bounds=Whole(0, 1_000_000),
        goes_with=_searches("halving"),
        stated="a twentieth of --epochs",
    )
    batch_trials: int = option(
        0,
        "configurations proposed at a time, bayesian",
        bounds=Whole(0, 10_000),
        goes_with=_searches("bayesian"),
        stated="as many as fill the cores",
    )
    objectives: str | None = option(
        None, "what the Pareto front weighs: loss and any of params, time (a training's)", stands_for="loss,params"
    )
    seed: int = option(42, "everything random derives from it", bounds=Whole(0, 2**63 - 1), shapes=(TRAINING, DATA))
    list_configurations: bool = option(
        False, "print the configurations, their sizes and estimated times, and train nothing"
    )


@dataclass(frozen=True)
class StudyOptions:
    """Options of a regularisation study, whose factors are crossed with the configurations."""

    study: str | None = option(
        None, "factors and their values, crossed with all configurations: dropout=0,0.1; normalization=layer,none"
    )
    study_configs: int = option(
        0,
        "cross only so many, the best of a search as usual; 0 is all",
        bounds=Whole(0, LARGEST),
        goes_with=Use("--study", lambda given: given["study"] is not None),
    )


@dataclass(frozen=True)
class DataOptions:
    """Options that choose the table and its columns, and how its rows are split."""

    data_path: str | None = option(
        None, f"the table, one observation a row: {', '.join(SUFFIXES)}", stands_for="data/stains.csv"
    )
    columns: str = option(
        "copus", "features: copus (the 24 codes), numeric (every numeric column), or names", shapes=(DATA,)
    )
    scaling: str | None = option(
        None,
        "robust (1st-99th percentile to 0-1), percent (divided by 100) or none",
        bounds=Choice(("robust", "percent", "none")),
        shapes=(DATA,),
        stands_for="robust",
    )
    label_column: str | None = option(
        None,
        "labels to compare the latent space with",
        shapes=(DATA,),
        stated="Cluster or Bcluster, where there is one",
    )
    group_column: str | None = option(None, "rows with the same value there are never split up", shapes=(DATA,))
    stratify_column: str | None = option(None, "splits keep the shares of its values", shapes=(DATA,))
    cv_folds: int = option(
        0,
        "select on so many folds of the training rows, not on the test rows; 0 is off",
        bounds=Whole(0, 1000),
        shapes=(DATA,),
    )


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the training of one configuration."""

    epochs: int = option(20, "epochs per training", bounds=Whole(1, 1_000_000), shapes=(TRAINING,))
    batch_size: int = option(32, "rows per step", bounds=Whole(1, LARGEST), shapes=(TRAINING,))
    initial_lr: float = option(
        0.001,
        "learning rate of the first epoch",
        bounds=Number("above 0 and up to 1e30", lambda x: 0 < x <= 1e30),
        shapes=(TRAINING,),
    )
    eta_min: float = option(1e-6, "learning rate at which cosine annealing ends", bounds=AT_LEAST_0, shapes=(TRAINING,))
    dropout: float = option(
        0.1,
        "probability of dropping a hidden unit while training",
        bounds=Number("from 0 to below 1", lambda x: 0 <= x < 1),
        shapes=(TRAINING,),
    )
    weight_decay: float = option(
        1e-4, "AdamW's weight decay", bounds=Number("from 0 to 1e30", lambda x: 0 <= x <= 1e30), shapes=(TRAINING,)
    )
    normalization: str = option(
        "layer", "of the hidden layers: layer (LayerNorm) or none", bounds=Choice(NORMALIZATIONS), shapes=(TRAINING,)
    )
    input_normalization: str = option(
        "layer",
        "of the input: layer (each row to mean 0 and SD 1) or none",
        bounds=Choice(NORMALIZATIONS),
        shapes=(TRAINING,),
    )
    patience: int = option(
        0,
        "stop a training after so many epochs without improvement; 0 is off",
        bounds=Whole(0, 1_000_000),
        shapes=(TRAINING, DATA),
    )
    min_delta: float = option(
        0.0,
        "a smaller fall of the validation loss is no improvement",
        bounds=AT_LEAST_0,
        goes_with=STOPPING_EARLY,
        shapes=(TRAINING,),
    )
    validation_fraction: float = option(
        0.1,
        "share of the training rows that decide when to stop",
        bounds=Number("above 0 and below 1", lambda x: 0 < x < 1),
        goes_with=STOPPING_EARLY,
        shapes=(DATA,),
    )


@dataclass(frozen=True)
class StartOptions:
    """Options that choose the initial weights."""

    init_from: str | None = option(None, "a .pth of --save_models: every training starts from its weights")
    freeze_encoder: bool = option(
        False,
        "keep that model's encoder as it is, and search decoders for it",
        goes_with=Use("--init_from", lambda given: given["init_from"] is not None),
        shapes=(TRAINING,),
    )


@dataclass(frozen=True)
class VerdictOptions:
    """Options that decide how the configurations are judged and which is selected."""

    select: str = option(
        "best",
        "the best configuration is the best measured (best) or the recommended one (simplest)",
        bounds=Choice(("best", "simplest")),
    )
    confidence: float = option(
        0.95,
        "of the verdict and of all intervals",
        bounds=Number("above 0 and up to 0.9999", lambda x: 0 < x <= 0.9999),
    )
    margin: float = option(
        0.05,
        "recommended is the smallest shown to be at most this share worse than the best; 0 recommends the best",
        bounds=Number("from 0 to 1", lambda x: 0 <= x <= 1),
    )
    no_probe: bool = option(False, "do not try longer training")
    ensemble: str | None = option(
        None, "models as one: tied (of all tied configurations), or of the best N configurations"
    )


@dataclass(frozen=True)
class RunOptions:
    """Options that choose the hardware and the engine that train."""

    device: str = option("auto", "auto (CUDA where there is one), cpu, cuda or cuda:N")
    engine: str = option(
        "auto",
        "auto (compiled on the CPU, stacked on CUDA), compiled, reference or stacked",
        bounds=Choice(("auto", "compiled", "reference", "stacked")),
    )
    threads: int = option(
        0, "trainings at a time, compiled engine or cluster; 0 is one on each core", bounds=Whole(0, 4096)
    )
    distributed: str | None = option(None, "ray: train on the processors of a Ray cluster, not on this one's")
    ray_address: str = option(
        "auto",
        "host:port of the cluster's head; auto is the one that this machine is part of",
        goes_with=Use("--distributed ray", lambda given: given["distributed"] is not None),
    )


@dataclass(frozen=True)
class EncodeOptions:
    """Options for encoding another table with a saved model instead of searching."""

    encode: str | None = option(None, "a table to encode with --model; nothing is trained")
    model: str | None = option(
        None,
        "what encodes: a best_model_latentN.pth or ensemble_latentN.pth, its results beside it",
        goes_with=Use("--encode TABLE", lambda given: given["encode"] is not None),
    )


@dataclass(frozen=True)
class OutputOptions:
    """Options that decide where results are written and what is printed."""

    output_dir: str = option("output", "folder for all results, made if need be")
    save_models: bool = option(False, "save the best model's weights")
    fresh: bool = option(False, "train anew what an earlier run has trained")
    quiet: bool = option(False, "print only the closing summary and the files written")


STAGES: Mapping[type[Any], str] = {  # with their headings in --help, in the same order
    SpaceOptions: "search space",
    SearchOptions: "search",
    StudyOptions: "regularisation study",
    DataOptions: "data",
    TrainingOptions: "training",
    StartOptions: "starting weights",
    VerdictOptions: "verdict",
    RunOptions: "running",
    EncodeOptions: "encoding another table",
    OutputOptions: "output",
}


def _declared(stage: type[Any], group: str) -> dict[str, Declared]:
    kinds: dict[str, type[Any]] = {"int": int, "float": float, "str": str, "bool": bool}
    return {
        f.name: Declared(f.name, group, kinds[str(f.type).split(" ")[0]], f.default, **f.metadata)
        for f in fields(stage)
    }


DECLARED: Mapping[str, Declared] = {
    name: declared for stage, group in STAGES.items() for name, declared in _declared(stage, group).items()
}


def that_shape(what: str) -> list[str]:
    """Returns the names of the options whose `shapes` include `what` (`TRAINING` or `DATA`)."""
    return [name for name, declared in DECLARED.items() if what in declared.shapes]


def stated_value(name: str, value: Any) -> Any:
    """Returns the value of an option as the results state it: its `stands_for` instead of None, if it has one."""
    return DECLARED[name].stands_for if value is None else value
