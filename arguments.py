"""The command line: its arguments, their help, and all that can be wrong with them.

    arguments = parse_arguments(["--latent_dim", "3"])     # exits with 2 and one line for each fault

Nothing heavy is imported here, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from search import ARRANGEMENTS, NORMALIZATIONS, Space, count_parameters
from study_plan import (
    NUMBERS,
    CrossedSpace,
    crossing,
    factors_of,
    frozen_factor_faults,
    study_faults,
    unused_level_faults,
)

PROG = "hyperparam_optimizer.py"
SUFFIXES = (".csv", ".tsv", ".tab", ".xlsx", ".parquet")
STRATEGIES = ("grid", "random", "halving", "bayesian")
OBJECTIVES = ("loss", "params", "time")
ENCODING = ("--encode", "--model", "--output_dir", "--quiet")  # all that goes with --encode
LARGEST = 2**31 - 1
LARGEST_MODEL = 100_000_000  # parameters; a training keeps 16 bytes for each
LARGEST_ENSEMBLE = 1000  # models
LARGEST_SEARCH = 1_000_000  # trainings; each keeps its curves and its rows' errors
NO_TEXT = re.compile("[\ud800-\udfff]")
ADDRESS = re.compile(r"[^\s:/]+:[0-9]{1,5}|\[[0-9a-fA-F:.]+\]:[0-9]{1,5}")
NEGATIVE = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


class _Default(str):
    """A default that can be told apart from the same text given by the user."""


DEFAULT_DATA_PATH = _Default("data/stains.csv")
DEFAULT_SCALING = _Default("robust")  # a saved model's own goes before it
DEFAULT_OBJECTIVES = _Default("loss,params")  # of the front alone; given by the user, Bayesian search pursues them
SAMPLE_PATH = Path(__file__).resolve().parent / "data" / "sample.csv"


class _Unreadable(str):
    """A value that its argument's type could not read: kept, so that all faults are reported together."""


def _whole(text: str) -> int | _Unreadable:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip()) else _Unreadable(text)


def _text(text: str) -> str:
    return text  # the very same object: argparse hands string defaults to the type, and `_Default` must survive it


def _number(text: str) -> float | _Unreadable:
    try:
        return float(text) if text.isascii() and "_" not in text else _Unreadable(text)
    except ValueError:
        return _Unreadable(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage and message."""
        _exit_with([f"{message}; see --help"])


def _quoted(text: str) -> str:
    """For messages: in quotes, on one line, and cut where it is long."""
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _exit_with(faults: Sequence[str]) -> NoReturn:
    with suppress(OSError):  # the terminal may be gone
        for fault in faults:
            print(f"{PROG}: error: {fault}", file=sys.stderr)
    sys.exit(2)


def build_parser(*, add_help: bool = True) -> argparse.ArgumentParser:
    """The parser; every stated default is the real one, since argparse fills it in."""
    parser = _Parser(
        prog=PROG,
        description="Finds the hidden layers of an autoencoder with a fixed latent size that reconstruct a table "
        "best: trains every non-increasing arrangement of the widths given, several times, and writes pictures, "
        "JSON, CSV and the best model.",
        allow_abbrev=False,
        add_help=add_help,
    )
    parser._negative_number_matcher = NEGATIVE  # argparse takes -1e-3 and -5,3 for flags, then misses the value
    add = _adder(parser.add_argument_group("search"))
    add("--latent_dim", _whole, 3, "fixed size of the latent space, dimensions")
    add("--hidden_dims_search", _text, "16,32,64,128", "hidden-layer widths to combine, units, comma-separated")
    add("--max_layers", _whole, 3, "maximum number of hidden layers in the encoder")
    add("--repeats", _whole, 5, "trainings of each configuration; initialisation, batch order and dropout differ")
    add("--max_configurations", _whole, 10_000, "largest search that is started, configurations")
    add("--seed", _whole, 42, "everything random derives from it")
    add("--select", _text, "best", "the best configuration is the best measured (best) or the smallest tied (simplest)")
    add(
        "--objectives",
        _text,
        DEFAULT_OBJECTIVES,
        "what the Pareto front weighs: loss and any of params, time (a training's)",
    )

    group = parser.add_argument_group("verdict")
    add = _adder(group)
    add("--confidence", _number, 0.95, "of the verdict and of all intervals")
    add("--cv_folds", _whole, 0, "select on so many folds of the training rows, not on the test rows; 0 is off")
    group.add_argument("--no_probe", action="store_true", help="do not try longer training (default: off)")

    group = parser.add_argument_group("searching with less")
    add = _adder(group)
    add("--search", _text, "grid", "grid (all), random, halving (drop the worse part early) or bayesian (Optuna)")
    add("--trials", _whole, 0, "configurations to try, random and bayesian search")
    text = "print the configurations, their sizes and estimated times, and train nothing (default: off)"
    group.add_argument("--list_configurations", action="store_true", help=text)
    add("--patience", _whole, 0, "stop a training after so many epochs without improvement; 0 is off")
    add("--min_delta", _number, 0.0, "a smaller fall of the validation loss is no improvement")
    add("--validation_fraction", _number, 0.1, "share of the training rows that decide when to stop")
    add("--halving_factor", _whole, 3, "at each rung one in so many goes on, halving")
    add("--min_epochs", _whole, 0, "epochs before the first rung, halving", "a twentieth of --epochs")
    add("--batch_trials", _whole, 0, "configurations proposed at a time, bayesian", "as many as fill the cores")
    add("--width_range", _text, None, "any width low:high[:step] instead of --hidden_dims_search", "none")
    add("--arrangement", _text, "decreasing", "of widths: decreasing, any, or asymmetric (the decoder has its own)")

    add = _adder(parser.add_argument_group("regularisation study"))
    text = "factors and their values, crossed with all configurations: dropout=0,0.1; normalization=layer,none"
    add("--study", _text, None, text, "none")
    add("--study_configs", _whole, 0, "cross only so many, the best of a search as usual; 0 is all")

    add = _adder(parser.add_argument_group("data"))
    add("--data_path", _text, DEFAULT_DATA_PATH, "the table, one observation a row: " + ", ".join(SUFFIXES))
    add("--columns", _text, "copus", "features: copus (the 24 codes), numeric (every numeric column), or names")
    add("--scaling", _text, DEFAULT_SCALING, "robust (1st-99th percentile to 0-1), percent (divided by 100) or none")
    add(
        "--label_column",
        _text,
        None,
        "labels to compare the latent space with",
        "Cluster or Bcluster, where there is one",
    )
    add("--group_column", _text, None, "rows with the same value there are never split up", "none")
    add("--stratify_column", _text, None, "splits keep the shares of its values", "none")

    group = parser.add_argument_group("training")
    add = _adder(group)
    add("--epochs", _whole, 20, "epochs per training")
    add("--batch_size", _whole, 32, "rows per step")
    add("--initial_lr", _number, 0.001, "learning rate of the first epoch")
    add("--eta_min", _number, 1e-6, "learning rate at which cosine annealing ends")
    add("--dropout", _number, 0.1, "probability of dropping a hidden unit while training")
    add("--weight_decay", _number, 1e-4, "AdamW's weight decay")
    add("--normalization", _text, "layer", "of the hidden layers: layer (LayerNorm) or none")
    add("--input_normalization", _text, "layer", "of the input: layer (each row to mean 0 and SD 1) or none")
    add("--init_from", _text, None, "a .pth of --save_models: every training starts from its weights", "none")
    text = "keep that model's encoder as it is, and search decoders for it (default: off)"
    group.add_argument("--freeze_encoder", action="store_true", help=text)

    add = _adder(parser.add_argument_group("running"))
    add("--device", _text, "auto", "auto (CUDA where there is one), cpu, cuda or cuda:N")
    add("--engine", _text, "auto", "auto (compiled on the CPU, stacked on CUDA), compiled, reference or stacked")
    add("--threads", _whole, 0, "trainings at a time, compiled engine or cluster; 0 is one on each core")

    add("--distributed", _text, None, "ray: train on the processors of a Ray cluster, not on this one's", "none")
    add("--ray_address", _text, "auto", "host:port of the cluster's head; auto is the one that this machine is part of")

    add = _adder(parser.add_argument_group("afterwards"))
    add("--ensemble", _text, None, "models as one: tied (of all tied configurations), or of the best N of them", "none")
    add("--encode", _text, None, "a table to encode with --model; nothing is trained", "none")
    add(
        "--model",
        _text,
        None,
        "what encodes: a best_model_latentN.pth or ensemble_latentN.pth, its results beside it",
        "none",
    )

    group = parser.add_argument_group("output")
    add = _adder(group)
    add("--output_dir", _text, "output", "folder for all results, made if need be")
    group.add_argument("--save_models", action="store_true", help="save the best model's weights (default: off)")
    group.add_argument("--fresh", action="store_true", help="train anew what an earlier run has trained (default: off)")
    group.add_argument("--quiet", action="store_true", help="print the closing summary alone (default: off)")
    return parser


def _adder(group: argparse._ArgumentGroup) -> Callable[..., None]:
    metavars: dict[Callable[[str], object], str] = {_whole: "N", _number: "X", _text: "TEXT"}

    def add(flag: str, kind: Callable[[str], object], default: object, text: str, stated: str = "%(default)s") -> None:
        group.add_argument(flag, type=kind, default=default, metavar=metavars[kind], help=f"{text} (default: {stated})")

    return add


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses and checks; on any fault prints one line for each to stderr and exits with 2."""
    arguments, faults = read_arguments(sys.argv[1:] if argv is None else argv, build_parser())
    if faults:
        _exit_with(faults)
    return arguments


def read_arguments(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """The arguments, and all that is wrong with them, one line each."""
    given, valueless = _split_off_valueless(argv, parser)
    arguments, unknown = parser.parse_known_args(given)
    faults = [f"{flag}: give a value; see --help" for flag in valueless]
    faults += _unknown_faults(unknown, parser) + find_faults(arguments)
    faults += _unused_faults(arguments, {text.partition("=")[0] for text in given})
    return arguments, faults


def _split_off_valueless(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """`argv` without the flags that lack their value, and those: argparse would stop at the first of them."""
    valued = {flag for action in parser._actions if action.nargs is None for flag in action.option_strings}
    given: list[str] = []
    valueless = []
    for text, following in zip(argv, [*argv, "--"][1:], strict=True):
        flag, _, value = text.partition("=")
        if (text in valued and following.startswith("--")) or (flag in valued and value == "--"):
            valueless.append(flag)
        else:
            given.append(text)
    return given, valueless


def _unknown_faults(unknown: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    flags = [flag for action in parser._actions for flag in action.option_strings if action.dest != "help"]
    faults = []
    for text, previous in zip(unknown, ["", *unknown], strict=False):
        if text.startswith("-") and not NEGATIVE.match(text):
            meant = _closest(text.split("=")[0].replace("-", "_").strip("_"), flags)
            faults.append(f"unknown argument {_quoted(text)}; " + (f"did you mean {meant}?" if meant else "see --help"))
        elif not previous.startswith("--"):  # else the value of an unknown flag
            faults.append(f"unexpected {_quoted(text)}: belongs to no argument; put a value that has spaces in quotes")
    return faults


def _closest(name: str, flags: Sequence[str]) -> str | None:
    containing = sorted((flag for flag in flags if len(name) > 1 and name in flag), key=len)  # lr -> --initial_lr
    return next(iter(containing + difflib.get_close_matches(f"--{name}", flags, n=1)), None)


def find_faults(arguments: argparse.Namespace) -> list[str]:
    """Everything that is wrong with the arguments, one line each; reads no data."""
    check = _Checker(arguments)
    check.whole("latent_dim", 1, 10_000)
    check.whole("max_layers", 1, 100)
    check.whole("repeats", 1, 10_000)
    check.whole("max_configurations", 1, LARGEST)
    check.whole("seed", 0, 2**63 - 1)
    check.whole("epochs", 1, 1_000_000)
    check.whole("batch_size", 1, LARGEST)
    check.whole("threads", 0, 4096)
    check.number("initial_lr", "above 0 and up to 1e30", lambda x: 0 < x <= 1e30)
    check.number("eta_min", "of at least 0", lambda x: x >= 0)
    for name, (allowed, is_allowed) in NUMBERS.items():
        check.number(name, allowed, is_allowed)
    check.number("confidence", "above 0 and up to 0.9999", lambda x: 0 < x <= 0.9999)
    check.whole("cv_folds", 0, 1000)
    check.choice("search", STRATEGIES)
    check.choice("arrangement", ARRANGEMENTS)
    check.whole("trials", 0, LARGEST)
    check.whole("patience", 0, 1_000_000)
    check.number("min_delta", "of at least 0", lambda x: x >= 0)
    check.number("validation_fraction", "above 0 and below 1", lambda x: 0 < x < 1)
    check.whole("halving_factor", 2, 1000)
    check.whole("min_epochs", 0, 1_000_000)
    check.whole("batch_trials", 0, 10_000)
    check.whole("study_configs", 0, LARGEST)
    check.choice("normalization", NORMALIZATIONS)
    check.choice("input_normalization", NORMALIZATIONS)
    check.choice("select", ("best", "simplest"))
    check.choice("scaling", ("robust", "percent", "none"))
    check.choice("engine", ("auto", "compiled", "reference", "stacked"))
    check.faults += _device_faults(arguments) + _cluster_faults(arguments) + _space_faults(arguments)
    check.faults += _verdict_faults(arguments)
    check.faults += _strategy_faults(arguments)
    check.faults += study_faults(arguments)
    check.faults += _ensemble_faults(arguments)
    if not any(name.strip() for name in arguments.columns.split(",")):
        check.faults.append(f"--columns {_quoted(arguments.columns)}: give copus, numeric, or column names")
    if check.is_fine("initial_lr", "eta_min") and arguments.eta_min > arguments.initial_lr:
        check.faults.append(f"--eta_min {arguments.eta_min} is above --initial_lr {arguments.initial_lr}; lower it")
    return check.faults + _path_faults(arguments) + _text_faults(arguments)


class _Checker:
    """Collects faults of single arguments."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.faults: list[str] = []
        self.faulty: set[str] = set()

    def whole(self, name: str, low: int, high: int) -> None:
        value = getattr(self.arguments, name)
        if isinstance(value, _Unreadable) or not low <= value <= high:
            self._add(name, value, f"give a whole number from {low} to {high}")

    def number(self, name: str, allowed: str, is_allowed: Callable[[float], bool]) -> None:
        value = getattr(self.arguments, name)
        if isinstance(value, _Unreadable) or not (math.isfinite(value) and is_allowed(value)):
            self._add(name, value, f"give a number {allowed}")

    def choice(self, name: str, choices: Sequence[str]) -> None:
        value = getattr(self.arguments, name)
        if value not in choices:
            self._add(name, value, f"give {', '.join(choices[:-1])} or {choices[-1]}")

    def is_fine(self, *names: str) -> bool:
        return self.faulty.isdisjoint(names)

    def _add(self, name: str, value: object, remedy: str) -> None:
        self.faulty.add(name)
        shown = _quoted(value) if isinstance(value, str) else value
        self.faults.append(f"--{name} {shown}: {remedy}")


def read_widths(text: str) -> list[int]:
    """`"64, 32,64"` -> [64, 32]: in the order given, without duplicates.

    Raises:
        ValueError: names the part that is no width.
    """
    widths = []
    for part in text.split(","):
        width = _whole(part)
        if isinstance(width, str) or not 1 <= width <= 65_536:
            raise ValueError(f"{_quoted(part.strip())} is no width; give whole numbers from 1 to 65536, like 16,32,64")
        widths.append(width)
    return list(dict.fromkeys(widths))


def duplicate_widths(text: str) -> list[int]:
    """The widths that the text names more than once."""
    widths = [int(part) for part in text.split(",")]
    return sorted({width for width in widths if widths.count(width) > 1})


def read_width_range(text: str) -> range:
    """`"4:256:4"` -> range(4, 257, 4).

    Raises:
        ValueError: says what is wrong with it.
    """
    numbers = [number for number in map(_whole, text.split(":")) if isinstance(number, int)]
    if len(numbers) not in (2, 3) or len(numbers) != text.count(":") + 1:
        raise ValueError("give low:high or low:high:step, like 4:256 or 16:256:16")
    low, high, step = (*numbers, 1)[:3]
    if not 1 <= low <= 65_536 or not 1 <= high <= 65_536 or step < 1:
        raise ValueError("give widths from 1 to 65536 and a step of at least 1, like 16:256:16")
    if low > high:
        raise ValueError(f"it ends below its start; give {high}:{low}")
    return range(low, high + 1, step)


def read_space(arguments: argparse.Namespace) -> Space:
    """The space that checked arguments span."""
    widths = arguments.width_range and read_width_range(arguments.width_range)
    space = Space(widths or read_widths(arguments.hidden_dims_search), arguments.max_layers, arguments.arrangement)
    if arguments.study is None or arguments.study_configs:
        return space
    return CrossedSpace(**vars(space), factors=factors_of(arguments))


def n_to_try(arguments: argparse.Namespace, space: Space) -> int:
    """How many configurations the search sets out to try."""
    return min(arguments.trials, space.size) if arguments.search in ("random", "bayesian") else space.size


def _strategy_faults(arguments: argparse.Namespace) -> list[str]:
    faults = []
    samples, trials = arguments.search in ("random", "bayesian"), arguments.trials
    if arguments.width_range is not None:
        try:
            read_width_range(arguments.width_range)
        except ValueError as error:
            faults.append(f"--width_range {_quoted(arguments.width_range)}: {error}")
    if samples and trials == 0:
        faults.append(f"--search {arguments.search} needs to know how many to try; give --trials 40, for example")
    if arguments.search == "bayesian" and "time" in arguments.objectives.split(","):
        faults.append("--objectives: bayesian search does not weigh time, which is never twice the same; leave it out")
    return faults


def _unused_faults(arguments: argparse.Namespace, given: Collection[str]) -> list[str]:
    """Flags that were given and that what was chosen does not use."""
    if arguments.encode is not None:
        flags = [f"--{name}" for name in vars(arguments) if f"--{name}" in given and f"--{name}" not in ENCODING]
        return [f"{flag} does not go with --encode, which trains nothing; leave it out" for flag in flags]
    search = arguments.search
    users = {
        "--trials": ("--search random or bayesian", search in ("random", "bayesian")),
        "--batch_trials": ("--search bayesian", search == "bayesian"),
        "--halving_factor": ("--search halving", search == "halving"),
        "--min_epochs": ("--search halving", search == "halving"),
        "--min_delta": ("--patience", arguments.patience != 0),
        "--validation_fraction": ("--patience", arguments.patience != 0),
        "--freeze_encoder": ("--init_from", arguments.init_from is not None),
        "--ray_address": ("--distributed ray", arguments.distributed is not None),
        "--study_configs": ("--study", arguments.study is not None),
        "--model": ("--encode TABLE", False),
    }
    faults = [
        f"{flag} goes with {user}; leave it out" for flag, (user, uses) in users.items() if flag in given and not uses
    ]
    if arguments.freeze_encoder and arguments.scaling is not DEFAULT_SCALING:
        faults.append("--scaling: with --freeze_encoder values are scaled as they were for that encoder; leave it out")
    if arguments.freeze_encoder and arguments.arrangement == "asymmetric":
        faults.append("--arrangement asymmetric: with --freeze_encoder decoders have widths of their own; leave it out")
    if {"--width_range", "--hidden_dims_search"} <= set(given):
        faults.append("--width_range and --hidden_dims_search exclude each other; leave one out")
    return faults + frozen_factor_faults(arguments) + unused_level_faults(arguments, given)


def _space_faults(arguments: argparse.Namespace) -> list[str]:
    try:
        widths = list(read_width_range(arguments.width_range)) if arguments.width_range else []
    except ValueError:
        return []  # said elsewhere
    try:
        widths = widths or read_widths(arguments.hidden_dims_search)
    except ValueError as error:
        return [f"--hidden_dims_search {_quoted(arguments.hidden_dims_search)}: {error}"]
    layers, latent, limit = arguments.max_layers, arguments.latent_dim, arguments.max_configurations
    if any(isinstance(value, str) or value < 1 for value in (layers, latent, limit)) or layers > 100 or latent > 10_000:
        return []
    faults = []
    if arguments.arrangement not in ARRANGEMENTS or arguments.search not in STRATEGIES:
        return []
    count = Space(widths, layers, arguments.arrangement).size
    lists = arguments.list_configurations  # all there are, whatever strategy would try
    if arguments.search in ("random", "bayesian") and not isinstance(arguments.trials, str) and not lists:
        count = min(count, max(arguments.trials, 1))
        if count > limit:
            return [f"--trials {count}: more than --max_configurations {limit}; give fewer, or raise it to {count}"]
    too_many, crossed = crossing(arguments, count, limit)
    if count > limit:
        fault = f"--max_layers {layers} with {len(widths)} widths gives {_at_most(count)} configurations, more than "
        fault += f"--max_configurations {limit}; narrow the search, or try some with --search bayesian --trials 40"
        faults.append(fault + (f", or raise it to {count}" if count <= LARGEST else ""))
    else:
        all_trained = crossed + (count if arguments.study_configs else 0)
        faults += too_many or _amount_faults(arguments, all_trained) + _ensemble_misfit(arguments, crossed)
    size = count_parameters(1, latent, (max(widths),) * layers)
    if size > LARGEST_MODEL:
        faults.append(
            f"--hidden_dims_search {_quoted(arguments.hidden_dims_search)}: {layers} x {max(widths)} units have {size} "
            f"parameters, more than {LARGEST_MODEL}; give smaller widths or a lower --max_layers"
        )
    return faults


def _at_most(count: int) -> str:
    return str(count) if count <= LARGEST else f"more than {LARGEST}"


def _amount_faults(arguments: argparse.Namespace, configurations: int) -> list[str]:
    repeats, folds = arguments.repeats, arguments.cv_folds
    if any(isinstance(value, str) for value in (repeats, folds)) or not (1 <= repeats <= 10_000 and 0 <= folds <= 1000):
        return []
    per_repeat = configurations * max(folds, 1)
    if per_repeat * repeats <= LARGEST_SEARCH:
        return []
    trainings = f"{configurations} configurations x {repeats} repeats" + (f" x {folds} folds" if folds else "")
    remedy = f"give at most {LARGEST_SEARCH // per_repeat}" if per_repeat <= LARGEST_SEARCH else "narrow the search"
    return [f"--repeats {repeats}: {trainings} are more than {LARGEST_SEARCH} trainings; {remedy}"]


def read_objectives(text: str) -> list[str]:
    """`"params, loss"` -> ["params", "loss"].

    Raises:
        ValueError: says what is wrong with them.
    """
    objectives = list(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [_quoted(objective) for objective in objectives if objective not in OBJECTIVES]
    if unknown:
        raise ValueError(f"{unknown[0]} is no objective; give some of {', '.join(OBJECTIVES)}")
    if "loss" not in objectives or len(objectives) == 1:
        raise ValueError("give loss and at least one of params, time")
    return objectives


def _verdict_faults(arguments: argparse.Namespace) -> list[str]:
    faults = []
    try:
        read_objectives(arguments.objectives)
    except ValueError as error:
        faults.append(f"--objectives {_quoted(arguments.objectives)}: {error}")
    if arguments.cv_folds == 1:
        faults.append("--cv_folds 1: one fold leaves nothing to train on; give 2 or more, or 0 for none")
    if arguments.select == "simplest" and arguments.repeats == 1 and arguments.cv_folds == 0:
        faults.append("--select simplest needs to know which configurations are tied; give --repeats 2 or more")
    return faults


def _ensemble_faults(arguments: argparse.Namespace) -> list[str]:
    ensemble, repeats = arguments.ensemble, arguments.repeats
    if ensemble is None or isinstance(repeats, str):
        return []
    flag = f"--ensemble {_quoted(ensemble)}"
    if ensemble == "tied":
        if repeats == 1 and arguments.cv_folds == 0:
            return [f"{flag} needs to know which configurations are tied; give --repeats 2 or more, or a number"]
        return []
    number = _whole(ensemble)
    if isinstance(number, str) or number < 1:
        return [f"{flag}: give tied, or how many of the best configurations"]
    if number * repeats == 1:
        return [f"{flag} with --repeats 1 is a single model; give 2 or more of either"]
    if number * repeats > LARGEST_ENSEMBLE:
        return [
            f"{flag} with --repeats {repeats}: {number * repeats} models, more than {LARGEST_ENSEMBLE}; give"
            f" at most {max(LARGEST_ENSEMBLE // repeats, 1)}"
        ]
    return []


def _ensemble_misfit(arguments: argparse.Namespace, tried: int) -> list[str]:
    number = _whole(arguments.ensemble or "")
    if isinstance(number, str) or number <= tried:
        return []
    there_are = "there is only 1 configuration" if tried == 1 else f"there are only {tried} configurations"
    return [f"--ensemble {number}: {there_are}; give at most {tried}, or tied"]


def _device_faults(arguments: argparse.Namespace) -> list[str]:
    device = arguments.device
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", device):  # torch takes 256 for 0
        return [f"--device {_quoted(device)}: give auto, cpu, cuda or cuda:N"]
    if device.startswith("cuda") and arguments.engine == "compiled":
        return [f"--engine compiled runs on the CPU; give --engine stacked, or --device cpu instead of {device}"]
    return []


def _cluster_faults(arguments: argparse.Namespace) -> list[str]:
    faults = []
    distributed, address = arguments.distributed, arguments.ray_address
    if distributed not in (None, "ray"):
        faults.append(f"--distributed {_quoted(distributed)}: give ray, or leave it out")
    if address != "auto" and not (ADDRESS.fullmatch(address) and 0 < int(address.rpartition(":")[2]) < 2**16):
        faults.append(f"--ray_address {_quoted(address)}: give auto, or host:port like 10.0.0.1:6379")
    if distributed and arguments.engine == "stacked":
        faults.append("--engine stacked: clusters train one model at a time; give --engine compiled")
    if distributed and arguments.device.startswith("cuda"):
        faults.append(f"--device {_quoted(arguments.device)}: clusters train on CPUs; give cpu, or no --distributed")
    return faults


def _path_faults(arguments: argparse.Namespace) -> list[str]:
    faults = []
    if arguments.data_path is not DEFAULT_DATA_PATH and not NO_TEXT.search(arguments.data_path):
        faults += _file_faults("--data_path", arguments.data_path, SUFFIXES)
    for flag, path, suffixes in (("--encode", arguments.encode, SUFFIXES), ("--model", arguments.model, (".pth",))):
        if path is not None and not NO_TEXT.search(path):
            faults += _file_faults(flag, path, suffixes)
    if arguments.encode is not None and arguments.model is None:
        faults.append("--encode needs --model; give the best_model_latentN.pth that a search with --save_models wrote")
    return faults + _init_faults(arguments) + _folder_faults(arguments.output_dir)


def _init_faults(arguments: argparse.Namespace) -> list[str]:
    name = arguments.init_from
    if name is None or NO_TEXT.search(name):
        return []
    if faults := _file_faults("--init_from", name, words="that --save_models wrote"):
        return faults
    own = Path(arguments.output_dir) / f"best_model_latent{arguments.latent_dim}.pth"
    if "\0" not in arguments.output_dir and _exists(own) and own.resolve() == Path(name).resolve():
        return [f"--init_from {name!r} is where this search would save its model; give another --output_dir"]
    return []


def _folder_faults(name: str) -> list[str]:
    folder = Path(name)
    existing = next((path for path in [folder, *folder.parents] if _exists(path)), Path())
    if "\0" in name or not name.strip():
        return [f"--output_dir {name!r}: give the name of a folder"]
    if not existing.is_dir():
        return [f"--output_dir {name!r}: {str(existing)!r} is a file; give a folder"]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [f"--output_dir {name!r}: {str(existing)!r} cannot be written to; give another folder"]
    return []


def _file_faults(flag: str, path: str, suffixes: Sequence[str] = (), words: str = "") -> list[str]:
    """Faults of a file to be read; `suffixes`: of its name, any without them; `words`: what to give."""
    words, kind = words or f"({', '.join(suffixes)})", "table" if suffixes == SUFFIXES else "model"
    if "\0" in path or not _exists(Path(path)):
        return [f"{flag} {path!r}: there is no such file"]
    if Path(path).is_dir():
        return [f"{flag} {path!r} is a folder; give a file {words}"]
    if not Path(path).is_file():
        return [f"{flag} {path!r} is a pipe or a device; save the {kind} to a file"]
    if suffixes and Path(path).suffix.lower() not in suffixes:
        return [f"{flag} {path!r}: cannot tell its format; give a file that ends in {', '.join(suffixes)}"]
    if not os.access(path, os.R_OK):
        return [f"{flag} {path!r} cannot be read; change its permissions"]
    return []


def _text_faults(arguments: argparse.Namespace) -> list[str]:
    """Bytes that are no text, as file names on Linux may hold: they could not be written to the results."""
    return [
        f"--{name} {value!r}: not valid UTF-8; rename it"
        for name, value in vars(arguments).items()
        if isinstance(value, str) and not isinstance(value, _Unreadable) and NO_TEXT.search(value)
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
