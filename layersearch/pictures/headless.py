"""Matplotlib on any machine: without a display or a home directory, whatever its settings there say.

with headless(folder):  # for what it must write somewhere; removed on leaving
    from layersearch.pictures import plots
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLES = ("MPLBACKEND", "MPLCONFIGDIR", "XDG_CACHE_HOME")  # what is set here, or by Matplotlib


@contextmanager
def headless(folder: Path) -> Iterator[None]:
    """Imports Matplotlib if need be, with its own defaults and without a word on stderr.

    Where its cache can be written nowhere, it goes into `folder` for as long as this lasts. Other threads may go on
    meanwhile, as long as they need none of the `VARIABLES`, nor Matplotlib.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    environment = {name: os.environ.get(name) for name in VARIABLES}
    is_first = "matplotlib" not in sys.modules
    logger.setLevel(logging.ERROR)
    os.environ.pop("MPLBACKEND", None)  # the user's may be unknown here, and is then an error
    try:
        cache = _find_cache(folder.resolve())
        if cache.parent == folder.resolve():
            os.environ["XDG_CACHE_HOME"] = str(cache)  # or fontconfig complains of the same
        import matplotlib.font_manager

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # the user's may draw every label with TeX
            yield
    finally:
        _restore(environment)
        if is_first and "matplotlib" in sys.modules:
            _choose_backend(environment["MPLBACKEND"])
        logger.setLevel(level)
        for left in folder.glob("matplotlib-*"):
            shutil.rmtree(left, ignore_errors=True)


def _find_cache(folder: Path) -> Path:
    """Matplotlib's folder for what it keeps, in `folder` if there is no better place."""
    temporary = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        import matplotlib

        return Path(matplotlib.get_cachedir())
    finally:
        tempfile.tempdir = temporary


def _choose_backend(name: str | None) -> None:
    """As Matplotlib would have done when it was imported, for whoever draws in this process later."""
    import matplotlib

    with suppress(ValueError):  # the user's may be unknown here
        if name:
            matplotlib.rcParams["backend"] = name


def _restore(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
