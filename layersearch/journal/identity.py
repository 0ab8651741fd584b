"""Describes what a search runs on, for its results, and the identity that runs with bitwise equal results share.

A journal belongs to one identity. If any part of the identity differs, trainings might differ too, and the journal is
not resumed.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from layersearch.files import PROGRAM
from layersearch.fingerprint import fingerprint
from layersearch.journal.journal import WORDING
from layersearch.options import DATA, DECLARED, TRAINING, that_shape

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "matplotlib", "numba", "optuna", "ray")

VERSIONS = ("torch", "numpy")
COMPILER_VERSIONS = ("numba", "llvmlite")
# The code on which a training's exact result depends: whole packages, and other modules that these import.
CODE = (
    "layersearch/engines",
    "layersearch/journal",
    "layersearch/space",
    "layersearch/randomness.py",
    "losses.py",
    "models.py",
)


def describe_environment(device: torch.device, engine: str, threads: int) -> dict[str, Any]:
    """Returns the `environment` part of the results: versions, machine and engine, ready for JSON.

    `git_commit` is None outside a checkout, and ends in "-dirty" if the checkout has uncommitted changes.
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
    arguments: Mapping[str, Any], machine: Mapping[str, Any], *, sha256: str, data: str, init_from: str | None = None
) -> dict[str, Any]:
    """Returns what two runs must share for their trainings to be bitwise equal, ready for JSON.

    Args:
        arguments: The value of each option by name.
        machine: What `machine_identity` returns.
        sha256: Digest of the table's file. Like the options that shape the data, it is not compared, but explains why
            `data` may differ.
        data: Digest of all data that is used for training and scoring.
        init_from: Identifies the weights from which trainings start.
    """
    return {
        "data": data,
        **{DECLARED[name].flag: arguments[name] for name in that_shape(TRAINING)},
        "--init_from": init_from,
        **machine,
        WORDING: {"table": sha256} | {DECLARED[name].flag: arguments[name] for name in that_shape(DATA)},
    }


def machine_identity(arithmetic: str, device: torch.device, engine: str) -> dict[str, str | None]:
    """Returns the part of the identity that all machines of a search must share; ready for JSON.

    Args:
        arithmetic: Digest of a small training on this machine.
        device: The device on which trainings run.
        engine: The name of the engine that trains.
    """
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
    """Returns the files of `CODE` in the folder `program`; those within a folder are sorted by name."""
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
    """Returns the name of the processor as the operating system reports it."""
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
