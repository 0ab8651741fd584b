"""The command line: its arguments and their help.

    arguments = parse_arguments(["--latent_dim", "3"])     # exits with 2 and one line for each fault

Their values are read by `argument_values.py`; what can be wrong with them is in `argument_faults.py`. Nothing heavy is
imported here, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from layersearch.command.faults import find_faults, find_unused
from layersearch.command.values import (
    DEFAULT_DATA_PATH,
    DEFAULT_OBJECTIVES,
    DEFAULT_SCALING,
    SUFFIXES,
    read_number,
    read_whole,
    read_width_range,
    read_widths,
)
from layersearch.space.configurations import Space
from layersearch.space.factors import CrossedSpace, factors_of
from layersearch.words import PROG, quoted

NEGATIVE = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


def _text(text: str) -> str:
    return text  # the very same object: argparse hands string defaults to the type, and `_Default` must survive it


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage and message."""
        _exit_with([f"{message}; see --help"])

    def _print_message(self, message: str, file: Any = None) -> None:
        """The help; nowhere, where it cannot be written: the first releases of Python 3.11 raise there."""
        with suppress(OSError):
            super()._print_message(message, file)


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
    _add_what_to_search(parser)
    _add_what_to_train(parser)
    _add_how_to_run(parser)
    return parser


def _add_what_to_search(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser.add_argument_group("search"))
    add("--latent_dim", read_whole, 3, "fixed size of the latent space, dimensions")
    add("--hidden_dims_search", _text, "16,32,64,128", "hidden-layer widths to combine, units, comma-separated")
    add("--max_layers", read_whole, 3, "maximum number of hidden layers in the encoder")
    add("--repeats", read_whole, 5, "trainings of each configuration; initialisation, batch order and dropout differ")
    add("--max_configurations", read_whole, 10_000, "largest search that is started, configurations")
    add("--seed", read_whole, 42, "everything random derives from it")
    add("--select", _text, "best", "the best configuration is the best measured (best) or the smallest tied (simplest)")
    add(
        "--objectives",
        _text,
        DEFAULT_OBJECTIVES,
        "what the Pareto front weighs: loss and any of params, time (a training's)",
    )

    group = parser.add_argument_group("verdict")
    add = _adder(group)
    add("--confidence", read_number, 0.95, "of the verdict and of all intervals")
    add("--cv_folds", read_whole, 0, "select on so many folds of the training rows, not on the test rows; 0 is off")
    group.add_argument("--no_probe", action="store_true", help="do not try longer training (default: off)")

    group = parser.add_argument_group("searching with less")
    add = _adder(group)
    add("--search", _text, "grid", "grid (all), random, halving (drop the worse part early) or bayesian (Optuna)")
    add("--trials", read_whole, 0, "configurations to try, random and bayesian search")
    text = "print the configurations, their sizes and estimated times, and train nothing (default: off)"
    group.add_argument("--list_configurations", action="store_true", help=text)
    add("--patience", read_whole, 0, "stop a training after so many epochs without improvement; 0 is off")
    add("--min_delta", read_number, 0.0, "a smaller fall of the validation loss is no improvement")
    add("--validation_fraction", read_number, 0.1, "share of the training rows that decide when to stop")
    add("--halving_factor", read_whole, 3, "at each rung one in so many goes on, halving")
    add("--min_epochs", read_whole, 0, "epochs before the first rung, halving", "a twentieth of --epochs")
    add("--batch_trials", read_whole, 0, "configurations proposed at a time, bayesian", "as many as fill the cores")
    add("--width_range", _text, None, "any width low:high[:step] instead of --hidden_dims_search", "none")
    add("--arrangement", _text, "decreasing", "of widths: decreasing, any, or asymmetric (the decoder has its own)")

    add = _adder(parser.add_argument_group("regularisation study"))
    text = "factors and their values, crossed with all configurations: dropout=0,0.1; normalization=layer,none"
    add("--study", _text, None, text, "none")
    add("--study_configs", read_whole, 0, "cross only so many, the best of a search as usual; 0 is all")


def _add_what_to_train(parser: argparse.ArgumentParser) -> None:
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
    add("--epochs", read_whole, 20, "epochs per training")
    add("--batch_size", read_whole, 32, "rows per step")
    add("--initial_lr", read_number, 0.001, "learning rate of the first epoch")
    add("--eta_min", read_number, 1e-6, "learning rate at which cosine annealing ends")
    add("--dropout", read_number, 0.1, "probability of dropping a hidden unit while training")
    add("--weight_decay", read_number, 1e-4, "AdamW's weight decay")
    add("--normalization", _text, "layer", "of the hidden layers: layer (LayerNorm) or none")
    add("--input_normalization", _text, "layer", "of the input: layer (each row to mean 0 and SD 1) or none")
    add("--init_from", _text, None, "a .pth of --save_models: every training starts from its weights", "none")
    text = "keep that model's encoder as it is, and search decoders for it (default: off)"
    group.add_argument("--freeze_encoder", action="store_true", help=text)


def _add_how_to_run(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser.add_argument_group("running"))
    add("--device", _text, "auto", "auto (CUDA where there is one), cpu, cuda or cuda:N")
    add("--engine", _text, "auto", "auto (compiled on the CPU, stacked on CUDA), compiled, reference or stacked")
    add("--threads", read_whole, 0, "trainings at a time, compiled engine or cluster; 0 is one on each core")
    add("--distributed", _text, None, "ray: train on the processors of a Ray cluster, not on this one's", "none")
    add("--ray_address", _text, "auto", "host:port of the cluster's head; auto is the one that this machine is part of")

    add = _adder(parser.add_argument_group("afterwards"))
    add(
        "--ensemble",
        _text,
        None,
        "models as one: tied (of all tied configurations), or of the best N configurations",
        "none",
    )
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
    group.add_argument(
        "--quiet", action="store_true", help="print only the closing summary and the files written (default: off)"
    )


def _adder(group: argparse._ArgumentGroup) -> Callable[..., None]:
    metavars: dict[Callable[[str], object], str] = {read_whole: "N", read_number: "X", _text: "TEXT"}

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
    faults += find_unused(arguments, {text.partition("=")[0] for text in given})
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
            faults.append(f"unknown argument {quoted(text)}; " + (f"did you mean {meant}?" if meant else "see --help"))
        elif not previous.startswith("--"):  # else the value of an unknown flag
            faults.append(f"unexpected {quoted(text)}: belongs to no argument; put a value that has spaces in quotes")
    return faults


def _closest(name: str, flags: Sequence[str]) -> str | None:
    containing = sorted((flag for flag in flags if len(name) > 1 and name in flag), key=len)  # lr -> --initial_lr
    return next(iter(containing + difflib.get_close_matches(f"--{name}", flags, n=1)), None)


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
