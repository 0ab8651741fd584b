"""What a search ran on: the `environment` part of its results, and what must be the same for the same bits."""

from __future__ import annotations

import argparse
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from layersearch.files import PROGRAM
from layersearch.fingerprint import fingerprint
from layersearch.journal.journal import WORDING

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "matplotlib", "numba", "optuna", "ray")

# What shapes a trial. Anything else may change and a search still goes on where it was.
ARGUMENTS = (
    "latent_dim", "epochs", "batch_size", "initial_lr", "eta_min", "dropout", "weight_decay", "seed", "patience",
    "min_delta", "normalization", "input_normalization", "freeze_encoder",
)  # fmt: skip
DATA_ARGUMENTS = (
    "columns", "label_column", "scaling", "seed", "cv_folds", "group_column", "stratify_column", "patience",
    "validation_fraction",
)  # fmt: skip
VERSIONS = ("torch", "numpy")
COMPILER_VERSIONS = ("numba", "llvmlite")
# The code that a training's bits depend on: whole rooms, and the modules outside that these import.
CODE = (
    "layersearch/engines",
    "layersearch/journal",
    "layersearch/space",
    "layersearch/randomness.py",
    "losses.py",
    "models.py",
)


def describe_environment(device: torch.device, engine: str, threads: int) -> dict[str, Any]:
    """Versions, machine and engine, ready for JSON; `git_commit` is None outside a checkout.

    It ends in "-dirty" where the checkout has changes of its own.
    """
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "engine": engine,
        "threads": threads,
        "git_commit": _git_commit(),
    }


def search_identity(
    arguments: argparse.Namespace,
    sha256: str,
    data: str,
    arithmetic: str,
    device: torch.device,
    engine: str,
    *,
    init_from: str | None = None,
) -> dict[str, Any]:
    """What two runs must share for the trials of one to be those of the other, bit for bit; ready for JSON.

    `data`: the digest of all that is trained on; `sha256` of the table's file and the arguments that choose from it
    only say why it may differ. `arithmetic`: the digest of a small training here. `init_from`: names the weights that
    trainings start from.
    """
    return {
        "data": data,
        **{f"--{name}": getattr(arguments, name) for name in ARGUMENTS},
        "--init_from": init_from,
        **machine_identity(arithmetic, device, engine),
        WORDING: {"table": sha256} | {f"--{name}": getattr(arguments, name) for name in DATA_ARGUMENTS},
    }


def machine_identity(arithmetic: str, device: torch.device, engine: str) -> dict[str, str | None]:
    """The part of it that is the machine's and the program's, not the search's: the same on all that share a search."""
    return {
        "program": _program_digest(),
        "engine": engine,
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: _version(name) for name in (*VERSIONS, *(COMPILER_VERSIONS if engine == "compiled" else ()))},
        "arithmetic": arithmetic,
    }


def code_files(program: Path) -> list[Path]:
    """Returns the files of `CODE` in the folder `program`, those of a folder in the order of their names."""
    paths = [program / name for name in CODE]
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def _program_digest() -> str:
    return fingerprint(code_files(PROGRAM))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name as its system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    folder = PROGRAM
    if not (folder / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
