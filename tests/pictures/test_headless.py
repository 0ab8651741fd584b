"""Pictures are the same whatever this machine's Matplotlib is told, and nothing of it is changed for others."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import pytest

from layersearch.pictures.headless import headless

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_users_settings_hold_outside_alone(tmp_path: Path) -> None:
    with mpl.rc_context({"text.usetex": True, "savefig.dpi": 10}):
        with headless(tmp_path):
            assert mpl.rcParams["text.usetex"] is False
            assert mpl.rcParams["savefig.dpi"] == mpl.rcParamsDefault["savefig.dpi"]
        assert mpl.rcParams["text.usetex"] is True


def test_a_backend_that_is_not_there_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    with headless(tmp_path):
        assert "MPLBACKEND" not in os.environ
    assert os.environ["MPLBACKEND"] == "nonsense"


@pytest.mark.parametrize(("wanted", "chosen"), [("svg", "svg"), ("nonsense", "None"), ("", "None")])
def test_whoever_draws_later_has_the_backend_of_their_own(wanted: str, chosen: str, tmp_path: Path) -> None:
    code = "import pathlib, sys; from layersearch.pictures.headless import headless\n"
    code += f"with headless(pathlib.Path({str(tmp_path)!r})): import matplotlib.figure\n"
    code += "import matplotlib; print(matplotlib.get_backend(auto_select=False), 'matplotlib.pyplot' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "MPLBACKEND": wanted},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [chosen, "False"]
    assert done.stderr == ""


@pytest.mark.parametrize("fault", [None, KeyboardInterrupt])
def test_afterwards_all_is_as_before(fault: type[BaseException] | None, tmp_path: Path) -> None:
    def look() -> tuple[object, ...]:
        return dict(os.environ), tempfile.tempdir, logging.getLogger("matplotlib").level, dict(mpl.rcParams)

    before = look()
    try:
        with headless(tmp_path):
            (tmp_path / "matplotlib-x").mkdir()
            os.environ["XDG_CACHE_HOME"] = "elsewhere"
            if fault:
                raise fault
    except KeyboardInterrupt:
        pass
    assert look() == before
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_says_nothing_but_errors(tmp_path: Path) -> None:
    logger = logging.getLogger("matplotlib.font_manager")  # "Matplotlib is building the font cache", a warning
    with headless(tmp_path):
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
