"""Results say what made them."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layersearch.journal import identity
from layersearch.journal.identity import describe_environment

CPU = torch.device("cpu")


def test_versions_machine_and_engine_are_named() -> None:
    found = describe_environment(CPU, "compiled", 2)
    assert found["python"] == platform.python_version()
    assert found["torch"] == str(torch.__version__)
    assert found["numpy"] == np.__version__
    assert (found["device"], found["device_name"]) == ("cpu", None)
    assert (found["engine"], found["threads"]) == ("compiled", 2)
    assert found["platform"]
    assert found["processor"]
    json.dumps(found, allow_nan=False)


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "PACKAGES", ("torch", "no-such-package"))
    assert describe_environment(CPU, "reference", 1)["no-such-package"] is None


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit that is taken for the program's own."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    program = tmp_path / "environment.py"
    program.write_text("1\n")
    try:
        git("init")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    monkeypatch.setattr(identity, "PROGRAM", tmp_path)
    return tmp_path


def test_the_commit_is_named_and_whether_files_differ_from_it(checkout: Path) -> None:
    commit = describe_environment(CPU, "compiled", 1)["git_commit"]
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    (checkout / "environment.py").write_text("2\n")
    assert describe_environment(CPU, "compiled", 1)["git_commit"] == f"{commit}-dirty"


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "PROGRAM", tmp_path)
    assert describe_environment(CPU, "compiled", 1)["git_commit"] is None


def test_the_commit_of_a_checkout_that_merely_contains_the_program_is_not_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "PROGRAM", checkout / "vendored")
    (checkout / "vendored").mkdir()
    assert describe_environment(CPU, "compiled", 1)["git_commit"] is None


@pytest.mark.parametrize("fault", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 5)])
def test_a_git_that_does_not_work_is_no_error(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(subprocess, "run", fail)
    assert describe_environment(CPU, "compiled", 1)["git_commit"] is None
