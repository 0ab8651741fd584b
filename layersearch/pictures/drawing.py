"""Draws the pictures without a display; can run while trainings run.

    pictures = draw_search(searched, verdict, folder=drafts, latent_dim=3, is_sample=False)

Importing this module is fast. Matplotlib, which takes half a second to import, is imported when it is needed, or during
the trainings by `import_late`.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from layersearch.pictures.headless import headless
from layersearch.space.configurations import Configuration
from layersearch.space.naming import name_in_words

if TYPE_CHECKING:
    from layersearch.latent.findings import LatentFindings
    from layersearch.loading.loaded import Loaded
    from layersearch.search.running import Searched
    from layersearch.verdict.verdict import Verdict

LATE = ("layersearch.pictures.search_pictures",)
SELECTED = {"best": "best", "simplest": "simplest tied"}
SAMPLE_NOTE = "Synthetic sample data (data/sample.csv), not real classes"


def import_late(folder: Path, *, is_study: bool, has_repeats: bool) -> None:
    """Imports what is needed after the trainings, while these run.

    scikit-learn, which the latent space needs, is not imported here: that takes longer, and the verdict would wait for
    it. An import that fails here fails again where it is needed, and is reported there.

    Args:
        folder: The folder for Matplotlib's cache, if there is no other place for it.
        is_study: Whether a study will be drawn.
        has_repeats: Whether there will be standard errors, which need SciPy.
    """
    late = [*(["scipy.special"] if has_repeats else []), *LATE, *(["layersearch.pictures.study"] if is_study else [])]
    if sys.modules.keys() >= set(late):
        return
    with suppress(Exception), headless(folder):
        for name in late:
            import_module(name)


def draw_search(
    searched: Searched, verdict: Verdict, *, folder: Path, latent_dim: int, is_sample: bool
) -> dict[str, bytes]:
    """Draws the pictures of a search.

    Args:
        searched: The results of the search, in which at least one configuration finished.
        verdict: The verdict on this search.
        folder: The folder for Matplotlib's cache, if there is no other place for it.
        latent_dim: Size of the latent space.
        is_sample: Whether the table is the synthetic sample, which is then noted in every picture.

    Returns:
        The content of each PNG file, by the field of `OutputFiles` that names the file.
    """
    with headless(folder):
        from layersearch.pictures.search_pictures import draw_search_pictures

        return draw_search_pictures(
            searched.ranking,
            searched.history,
            verdict,
            latent_dim=latent_dim,
            first=searched.first.history if searched.first else None,
            note=SAMPLE_NOTE if is_sample else None,
        )


def draw_latent(
    findings: LatentFindings, loaded: Loaded, config: Configuration, *, folder: Path, select: str
) -> dict[str, bytes]:
    """Draws the pictures of the latent space of a configuration's model; a picture that fails becomes a notice.

    Args:
        findings: The findings about the latent space, to which notices are added.
        loaded: The table.
        config: The best configuration.
        folder: The folder for Matplotlib's cache, if there is no other place for it.
        select: The value of `--select`, by which the configuration was chosen.

    Returns:
        The content of each PNG file, by the field of `OutputFiles` that names the file.
    """
    with headless(folder):
        from layersearch.pictures.latent.drawing import draw

        title = f"the {SELECTED[select]} configuration, {name_in_words(config)}"
        return draw(findings, loaded, title=title, note=SAMPLE_NOTE if loaded.is_sample else None)
