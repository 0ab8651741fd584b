"""Matplotlib on any machine: without a display or a home directory, whatever its settings there say.

with headless(folder):  # for what it must write somewhere; removed on leaving
    import plots
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def headless(folder: Path) -> Iterator[None]:
    """Imports Matplotlib if need be, with its own defaults and without a word on stderr.

    Where its cache can be written nowhere, it goes into `folder` for as long as this lasts.
    """
    logger = logging.getLogger("matplotlib")
    level, temporary = logger.level, tempfile.tempdir
    environment = dict(os.environ)
    logger.setLevel(logging.ERROR)
    tempfile.tempdir = str(folder.resolve())
    os.environ["MPLBACKEND"] = "agg"  # the user's may be unknown here, and is then an error
    try:
        import matplotlib

        cache = Path(matplotlib.get_cachedir())
        if cache.parent == folder.resolve():
            os.environ["XDG_CACHE_HOME"] = str(cache)  # or fontconfig complains of the same
        import matplotlib.font_manager

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # the user's may draw every label with TeX
            yield
    finally:
        _restore(environment)
        tempfile.tempdir = temporary
        logger.setLevel(level)
        for left in folder.glob("matplotlib-*"):
            shutil.rmtree(left, ignore_errors=True)


def _restore(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
