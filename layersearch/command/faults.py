"""Finds everything that is wrong with the arguments of the command line.

    faults = find_faults(arguments) + find_unused(arguments, given)

Each fault is a line that names the flag, its value, and what to give instead. No data are read. The functions named
`_…_faults` return the faults of one subject; if a value that they need is invalid, another function reports it.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from layersearch.command.values import Unreadable, read_objectives, read_whole, read_width_range, read_widths
from layersearch.options import (
    ARRANGEMENTS,
    DECLARED,
    LARGEST,
    LARGEST_ENSEMBLE,
    STRATEGIES,
    SUFFIXES,
    stated_value,
)
from layersearch.space.configurations import Space, count_parameters
from layersearch.space.factors import Factors, count_options, read_factors
from layersearch.words import level_text, quoted, shortened

ENCODING = ("encode", "model", "output_dir", "quiet")  # the only options that --encode allows
LARGEST_MODEL = 100_000_000  # parameters; a training needs 16 bytes for each
LARGEST_SEARCH = 1_000_000  # trainings; each keeps its loss curves and row errors in memory
NO_TEXT = re.compile("[\ud800-\udfff]")
ADDRESS = re.compile(r"[^\s:/]+:[0-9]{1,5}|\[[0-9a-fA-F:.]+\]:[0-9]{1,5}")


def find_faults(arguments: argparse.Namespace) -> list[str]:
    """Returns a line for everything that is wrong with the arguments."""
    faults, faulty = _out_of_bounds(arguments)
    faults += _device_faults(arguments) + _cluster_faults(arguments) + _space_faults(arguments)
    faults += _verdict_faults(arguments) + _strategy_faults(arguments) + _study_faults(arguments)
    faults += _ensemble_faults(arguments)
    if not any(name.strip() for name in arguments.columns.split(",")):
        faults.append(f"--columns {quoted(arguments.columns)}: give copus, numeric, or column names")
    if faulty.isdisjoint(("initial_lr", "eta_min")) and arguments.eta_min > arguments.initial_lr:
        faults.append(f"--eta_min {arguments.eta_min} is above --initial_lr {arguments.initial_lr}; lower it")
    return faults + _path_faults(arguments) + _text_faults(arguments)


def _out_of_bounds(arguments: argparse.Namespace) -> tuple[list[str], set[str]]:
    """Returns a line for each value outside the declared bounds of its option, and the names of these options."""
    faults, faulty = [], set()
    for name, option in DECLARED.items():
        value = getattr(arguments, name)
        remedy = option.bounds.remedy(value) if option.bounds and value is not None else None
        if remedy:
            shown = quoted(value) if isinstance(value, str) else str(value).removesuffix(".0")
            faults.append(f"{option.flag} {shown}: {remedy}")
            faulty.add(name)
    return faults, faulty


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
    if arguments.search == "bayesian" and "time" in (arguments.objectives or "").split(","):
        faults.append("--objectives: bayesian search does not weigh time, which is never twice the same; leave it out")
    return faults


def find_unused(arguments: argparse.Namespace, given: Collection[str]) -> list[str]:
    """Returns a line for each flag in `given` that has no effect with the other arguments."""
    if arguments.encode is not None:
        flags = [option.flag for name, option in DECLARED.items() if option.flag in given and name not in ENCODING]
        return [f"{flag} does not go with --encode, which trains nothing; leave it out" for flag in flags]
    faults = [
        f"{option.flag} goes with {option.goes_with.words}; leave it out"
        for option in DECLARED.values()
        if option.flag in given and option.goes_with and not option.goes_with.holds(vars(arguments))
    ]
    if arguments.freeze_encoder and arguments.scaling is not None:
        faults.append("--scaling: with --freeze_encoder values are scaled as they were for that encoder; leave it out")
    if arguments.freeze_encoder and arguments.arrangement == "asymmetric":
        faults.append("--arrangement asymmetric: with --freeze_encoder decoders have widths of their own; leave it out")
    if {"--width_range", "--hidden_dims_search"} <= set(given):
        faults.append("--width_range and --hidden_dims_search exclude each other; leave one out")
    return faults + _frozen_factor_faults(arguments) + _unused_level_faults(arguments, given)


def _factors(arguments: argparse.Namespace) -> Factors:
    """Returns the factors of `--study`; none if it is invalid, which `_study_faults` reports."""
    try:
        return read_factors(arguments.study)
    except ValueError:
        return ()


def _study_faults(arguments: argparse.Namespace) -> list[str]:
    """Returns what is wrong with `--study`, independently of the search space."""
    try:
        factors = read_factors(arguments.study)
    except ValueError as error:
        return [f"--study {shortened(arguments.study, 40)!r}: {error}"]
    if factors and arguments.study_configs == 0 and arguments.search in ("random", "halving", "bayesian"):
        return [
            f"--search {arguments.search} leaves gaps, and a study needs every combination; give --study_configs 3 to "
            "cross the best it finds, or leave --search out"
        ]
    rates = next((factor.levels for factor in factors if factor.name == "initial_lr"), ())
    return [
        f"--eta_min {arguments.eta_min} is above initial_lr {level_text(rate)} of --study; lower it, or leave that out"
        for rate in rates
        if float(rate) < arguments.eta_min
    ]


def _unused_level_faults(arguments: argparse.Namespace, given: Collection[str]) -> list[str]:
    """Returns a line for each option in `given` whose value is not among those that the study tries."""
    if arguments.study_configs != 0 or _study_faults(arguments):
        return []  # with --study_configs the search before the study uses the value
    unused = [f for f in _factors(arguments) if f"--{f.name}" in given and getattr(arguments, f.name) not in f.levels]
    return [
        f"--{f.name} {getattr(arguments, f.name)}: --study has only {', '.join(map(level_text, f.levels))}; "
        "add it there, or leave the flag out"
        for f in unused
    ]


def _frozen_factor_faults(arguments: argparse.Namespace) -> list[str]:
    """Returns a line for each factor of the study that would change the encoder frozen by `--freeze_encoder`."""
    if not arguments.freeze_encoder or _study_faults(arguments):
        return []
    own = ("dropout", "normalization", "input_normalization")
    return [
        f"--study: with --freeze_encoder the encoder keeps its own {factor.name}; leave that factor out"
        for factor in _factors(arguments)
        if factor.name in own
    ]


def _crossing(arguments: argparse.Namespace, n_configurations: int, limit: int) -> tuple[list[str], int]:
    """Returns what is wrong with the size of a study, and its number of variants.

    Without a study the number of variants is `n_configurations`.
    """
    chosen, factors = arguments.study_configs, _factors(arguments)
    if not factors or _study_faults(arguments) or isinstance(chosen, str) or chosen < 0:
        return [], n_configurations
    if chosen > n_configurations:
        return [f"--study_configs {chosen}: there are only {n_configurations} to choose from; give fewer"], 0
    crossed, options = chosen or n_configurations, count_options(factors)
    if crossed * options <= limit:
        return [], crossed * options
    remedy = "name fewer values" if chosen else "cross only the best with --study_configs 3, name fewer values"
    return [
        f"--study: {crossed} configurations x {options} options are {crossed * options}, more than "
        f"--max_configurations {limit}; {remedy}, or raise it to {crossed * options}"
    ], crossed * options


def _space_faults(arguments: argparse.Namespace) -> list[str]:
    try:
        widths = list(read_width_range(arguments.width_range)) if arguments.width_range else []
    except ValueError:
        return []  # reported by `_strategy_faults`
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
    lists = arguments.list_configurations  # lists the whole space, whatever the strategy
    if arguments.search in ("random", "bayesian") and not isinstance(arguments.trials, str) and not lists:
        count = min(count, max(arguments.trials, 1))
        if count > limit:
            return [f"--trials {count}: more than --max_configurations {limit}; give fewer, or raise it to {count}"]
    too_many, crossed = _crossing(arguments, count, limit)
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
        read_objectives(stated_value("objectives", arguments.objectives))
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
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", device):  # torch would read cuda:256 as cuda:0
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
    if arguments.data_path is not None and not NO_TEXT.search(arguments.data_path):
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
    """Returns what is wrong with an input file; empty `suffixes` allow any, `words` describe the file to give."""
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
    """Returns a line for each value that is not valid UTF-8, as file names on Linux may be; JSON cannot hold it."""
    return [
        f"--{name} {value!r}: not valid UTF-8; rename it"
        for name, value in vars(arguments).items()
        if isinstance(value, str) and not isinstance(value, Unreadable) and NO_TEXT.search(value)
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # the name is not valid for a file
        return False
