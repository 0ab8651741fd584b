"""All that can be wrong with the command line's arguments, one line each.

    faults = find_faults(arguments) + find_unused(arguments, given)

Each names the flag, the value, and what to give instead. No data is read, and nothing heavy imported.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from layersearch.command.values import (
    DEFAULT_DATA_PATH,
    DEFAULT_SCALING,
    STRATEGIES,
    SUFFIXES,
    Unreadable,
    read_objectives,
    read_whole,
    read_width_range,
    read_widths,
)
from layersearch.options import LARGEST_ENSEMBLE
from layersearch.space.configurations import ARRANGEMENTS, NORMALIZATIONS, Space, count_parameters
from layersearch.space.factors import NUMBERS, crossing, frozen_factor_faults, study_faults, unused_level_faults
from layersearch.words import quoted

ENCODING = ("--encode", "--model", "--output_dir", "--quiet")  # all that goes with --encode
LARGEST = 2**31 - 1
LARGEST_MODEL = 100_000_000  # parameters; a training keeps 16 bytes for each
LARGEST_SEARCH = 1_000_000  # trainings; each keeps its curves and its rows' errors
NO_TEXT = re.compile("[\ud800-\udfff]")
ADDRESS = re.compile(r"[^\s:/]+:[0-9]{1,5}|\[[0-9a-fA-F:.]+\]:[0-9]{1,5}")


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
        check.faults.append(f"--columns {quoted(arguments.columns)}: give copus, numeric, or column names")
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
        if isinstance(value, Unreadable) or not low <= value <= high:
            self._add(name, value, f"give a whole number from {low} to {high}")

    def number(self, name: str, allowed: str, is_allowed: Callable[[float], bool]) -> None:
        value = getattr(self.arguments, name)
        if isinstance(value, Unreadable) or not (math.isfinite(value) and is_allowed(value)):
            self._add(name, value, f"give a number {allowed}")

    def choice(self, name: str, choices: Sequence[str]) -> None:
        value = getattr(self.arguments, name)
        if value not in choices:
            self._add(name, value, f"give {', '.join(choices[:-1])} or {choices[-1]}")

    def is_fine(self, *names: str) -> bool:
        return self.faulty.isdisjoint(names)

    def _add(self, name: str, value: object, remedy: str) -> None:
        self.faulty.add(name)
        shown = quoted(value) if isinstance(value, str) else str(value).removesuffix(".0")
        self.faults.append(f"--{name} {shown}: {remedy}")


def _strategy_faults(arguments: argparse.Namespace) -> list[str]:
    faults = []
    samples, trials = arguments.search in ("random", "bayesian"), arguments.trials
    if arguments.width_range is not None:
        try:
            read_width_range(arguments.width_range)
        except ValueError as error:
            faults.append(f"--width_range {quoted(arguments.width_range)}: {error}")
    if samples and trials == 0:
        faults.append(f"--search {arguments.search} needs to know how many to try; give --trials 40, for example")
    if arguments.search == "bayesian" and "time" in arguments.objectives.split(","):
        faults.append("--objectives: bayesian search does not weigh time, which is never twice the same; leave it out")
    return faults


def find_unused(arguments: argparse.Namespace, given: Collection[str]) -> list[str]:
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
        return [f"--hidden_dims_search {quoted(arguments.hidden_dims_search)}: {error}"]
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
            f"--hidden_dims_search {quoted(arguments.hidden_dims_search)}: {layers} x {max(widths)} units have {size} "
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


def _verdict_faults(arguments: argparse.Namespace) -> list[str]:
    faults = []
    try:
        read_objectives(arguments.objectives)
    except ValueError as error:
        faults.append(f"--objectives {quoted(arguments.objectives)}: {error}")
    if arguments.cv_folds == 1:
        faults.append("--cv_folds 1: one fold leaves nothing to train on; give 2 or more, or 0 for none")
    if arguments.select == "simplest" and arguments.repeats == 1 and arguments.cv_folds == 0:
        faults.append("--select simplest needs to know which configurations are tied; give --repeats 2 or more")
    return faults


def _ensemble_faults(arguments: argparse.Namespace) -> list[str]:
    ensemble, repeats = arguments.ensemble, arguments.repeats
    if ensemble is None or isinstance(repeats, str):
        return []
    flag = f"--ensemble {quoted(ensemble)}"
    if ensemble == "tied":
        if repeats == 1 and arguments.cv_folds == 0:
            return [f"{flag} needs to know which configurations are tied; give --repeats 2 or more, or a number"]
        return []
    number = read_whole(ensemble)
    if isinstance(number, str) or number < 1:
        return [f"{flag}: give tied, or how many of the best configurations"]
    if number * repeats == 1:
        return [f"{flag} with --repeats 1 is a single model; give 2 or more of either"]
    return []


def _ensemble_misfit(arguments: argparse.Namespace, tried: int) -> list[str]:
    number, repeats = read_whole(arguments.ensemble or ""), arguments.repeats
    if isinstance(number, str):
        return []
    if number > tried:
        there_are = "there is only 1 configuration" if tried == 1 else f"there are only {tried} configurations"
        return [f"--ensemble {number}: {there_are}; give at most {tried}, or tied"]
    if not isinstance(repeats, str) and number * repeats > LARGEST_ENSEMBLE:
        models = f"{number * repeats} models, more than {LARGEST_ENSEMBLE}"
        most = max(LARGEST_ENSEMBLE // repeats, 1)
        return [f"--ensemble {number} with --repeats {repeats}: {models}; give at most {most}"]
    return []


def _device_faults(arguments: argparse.Namespace) -> list[str]:
    device = arguments.device
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", device):  # torch takes 256 for 0
        return [f"--device {quoted(device)}: give auto, cpu, cuda or cuda:N"]
    if device.startswith("cuda") and arguments.engine == "compiled":
        return [f"--engine compiled runs on the CPU; give --engine stacked, or --device cpu instead of {device}"]
    return []


def _cluster_faults(arguments: argparse.Namespace) -> list[str]:
    faults = []
    distributed, address = arguments.distributed, arguments.ray_address
    if distributed not in (None, "ray"):
        faults.append(f"--distributed {quoted(distributed)}: give ray, or leave it out")
    if address != "auto" and not (ADDRESS.fullmatch(address) and 0 < int(address.rpartition(":")[2]) < 2**16):
        faults.append(f"--ray_address {quoted(address)}: give auto, or host:port like 10.0.0.1:6379")
    if distributed and arguments.engine == "stacked":
        faults.append("--engine stacked: clusters train one model at a time; give --engine compiled")
    if distributed and arguments.device.startswith("cuda"):
        faults.append(f"--device {quoted(arguments.device)}: clusters train on CPUs; give cpu, or no --distributed")
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
        if isinstance(value, str) and not isinstance(value, Unreadable) and NO_TEXT.search(value)
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
