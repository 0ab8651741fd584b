"""Pictures are the same whatever this machine's Matplotlib is told, and nothing of it is changed for others."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import matplotlib as mpl
import pytest

from headless import headless


def test_a_users_settings_hold_outside_alone(tmp_path: Path) -> None:
    with mpl.rc_context({"text.usetex": True, "savefig.dpi": 10}):
        with headless(tmp_path):
            assert mpl.rcParams["text.usetex"] is False
            assert mpl.rcParams["savefig.dpi"] == mpl.rcParamsDefault["savefig.dpi"]
        assert mpl.rcParams["text.usetex"] is True


def test_a_backend_that_is_not_there_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    with headless(tmp_path):
        assert os.environ["MPLBACKEND"] == "agg"
    assert os.environ["MPLBACKEND"] == "nonsense"


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
