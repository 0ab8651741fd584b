"""Parses the command line, and reports unknown arguments.

    arguments = parse_arguments(["--latent_dim", "3"])     # exits with status 2 and one line for each error

The options are declared in `layersearch/options.py`; `values.py` parses their values and `faults.py` checks them. This
module imports neither torch nor pandas, so that `--help` and errors appear at once.
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
from layersearch.command.values import read_number, read_whole
from layersearch.options import DECLARED, STAGES
from layersearch.words import PROG, quoted

READERS: dict[type[Any], tuple[Callable[[str], object], str]] = {  # type of option -> its parser, its metavar
    int: (read_whole, "N"),
    float: (read_number, "X"),
    str: (str, "TEXT"),
}
NEGATIVE = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Prints the message on one line, without argparse's usage, and exits."""
        _exit_with([f"{message}; see --help"])

    def _print_message(self, message: str, file: Any = None) -> None:
        """Prints the help; ignores a closed output, which raises in the first releases of Python 3.11."""
        with suppress(OSError):
            super()._print_message(message, file)


def _exit_with(faults: Sequence[str]) -> NoReturn:
    with suppress(OSError):  # the terminal may be closed
        for fault in faults:
            print(f"{PROG}: error: {fault}", file=sys.stderr)
    sys.exit(2)


def build_parser(*, add_help: bool = True) -> argparse.ArgumentParser:
    """Returns the parser of all options that `layersearch/options.py` declares."""
    parser = _Parser(
        prog=PROG,
        description="Finds the hidden layers of an autoencoder with a fixed latent size that reconstruct a table "
        "best: trains every non-increasing arrangement of the widths given, several times, and writes pictures, "
        "JSON, CSV and the best model.",
        allow_abbrev=False,
        add_help=add_help,
    )
    parser._negative_number_matcher = NEGATIVE  # by default argparse mistakes -1e-3 and -5,3 for flags
    groups = {title: parser.add_argument_group(title) for title in STAGES.values()}
    for option in DECLARED.values():
        text = f"{option.help} (default: {option.default_text})".replace("%", "%%")
        if option.kind is bool:
            groups[option.group].add_argument(option.flag, action="store_true", help=text)
        else:
            read, metavar = READERS[option.kind]
            groups[option.group].add_argument(
                option.flag, type=read, default=option.default, metavar=metavar, help=text
            )
    return parser


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses and checks the arguments; prints one line for each error to stderr and exits with status 2."""
    arguments, faults = read_arguments(sys.argv[1:] if argv is None else argv, build_parser())
    if faults:
        _exit_with(faults)
    return arguments


def read_arguments(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed arguments and an error message of one line for everything that is wrong with them."""
    given, valueless = _split_off_valueless(argv, parser)
    arguments, unknown = parser.parse_known_args(given)
    faults = [f"{flag}: give a value; see --help" for flag in valueless]
    faults += _unknown_faults(unknown, parser) + find_faults(arguments)
    faults += find_unused(arguments, {text.partition("=")[0] for text in given})
    return arguments, faults


def _split_off_valueless(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Returns `argv` without flags whose value is missing, and these flags. argparse would report only the first."""
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
        elif not previous.startswith("--"):  # otherwise it is the value of an unknown flag
            faults.append(f"unexpected {quoted(text)}: belongs to no argument; put a value that has spaces in quotes")
    return faults


def _closest(name: str, flags: Sequence[str]) -> str | None:
    containing = sorted((flag for flag in flags if len(name) > 1 and name in flag), key=len)  # "lr" -> "--initial_lr"
    return next(iter(containing + difflib.get_close_matches(f"--{name}", flags, n=1)), None)
