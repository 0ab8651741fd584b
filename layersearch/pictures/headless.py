"""Makes Matplotlib work alike on any machine, without a display or a home directory and whatever the user's settings.

with headless(folder):  # a folder for temporary files, which are removed on leaving
    from layersearch.pictures.search_pictures import draw_search_pictures
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

VARIABLES = ("MPLBACKEND", "MPLCONFIGDIR", "XDG_CACHE_HOME")  # variables that `headless` or Matplotlib may set


@contextmanager
def headless(folder: Path) -> Iterator[None]:
    """Imports Matplotlib if necessary, resets its settings to its defaults and silences its warnings.

    If Matplotlib has no place for its cache, the cache is in `folder` within the context. On leaving, the environment,
    the settings and the logging level are restored. Within the context, other threads must use neither Matplotlib nor
    the environment variables in `VARIABLES`.

    Args:
        folder: An existing folder for temporary files.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    environment = {name: os.environ.get(name) for name in VARIABLES}
    is_first = "matplotlib" not in sys.modules
    logger.setLevel(logging.ERROR)
    os.environ.pop("MPLBACKEND", None)  # Matplotlib refuses to be imported if it does not know the user's backend
    try:
        cache = _find_cache(folder.resolve())
        if cache.parent == folder.resolve():
            os.environ["XDG_CACHE_HOME"] = str(cache)  # otherwise fontconfig complains that it has no cache
        import matplotlib.font_manager

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # the user's settings may, for instance, draw every label with TeX
            yield
    finally:
        _restore(environment)
        if is_first and "matplotlib" in sys.modules:
            _choose_backend(environment["MPLBACKEND"])
        logger.setLevel(level)
        for left in folder.glob("matplotlib-*"):
            shutil.rmtree(left, ignore_errors=True)


def _find_cache(folder: Path) -> Path:
    """Returns the folder of Matplotlib's cache, which is in `folder` if Matplotlib finds no other place."""
    temporary = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        import matplotlib

        return Path(matplotlib.get_cachedir())
    finally:
        tempfile.tempdir = temporary


def _choose_backend(name: str | None) -> None:
    """Sets the backend that Matplotlib would have chosen when imported, for other code that draws in this process."""
    import matplotlib

    with suppress(ValueError):  # Matplotlib may not know the user's backend
        if name:
            matplotlib.rcParams["backend"] = name


def _restore(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
