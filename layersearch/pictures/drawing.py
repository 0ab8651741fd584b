"""Draws the pictures beside the trainings, without a display.

    pictures = draw_search(searched, verdict, folder=drafts, latent_dim=3, is_sample=False)

Importing this module is cheap. Matplotlib, which takes half a second, is imported when it is needed, or beside the
trainings by `import_late`.
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

    scikit-learn, which the latent space needs, is not among it: that takes longer, and the verdict would wait for it.
    An import that fails here fails again where it is needed, and is reported there.

    Args:
        folder: for files that Matplotlib can keep nowhere else.
        is_study: whether a study will be drawn.
        has_repeats: whether there will be standard errors, which need SciPy.
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
        searched: at least one configuration finished.
        verdict: on this search.
        folder: for files that Matplotlib can keep nowhere else.
        latent_dim: size of the latent space.
        is_sample: whether the table is the synthetic sample, which every picture then says.

    Returns:
        The content of a PNG file by the field of `OutputFiles` that says where it goes.
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
        findings: what was found in the latent space; gets the notices.
        loaded: the table.
        config: the best configuration.
        folder: for files that Matplotlib can keep nowhere else.
        select: how the configuration was chosen, as `--select` says.

    Returns:
        The content of a PNG file by the field of `OutputFiles` that says where it goes.
    """
    with headless(folder):
        from layersearch.pictures.latent.drawing import draw

        title = f"the {SELECTED[select]} configuration, {name_in_words(config)}"
        return draw(findings, loaded, title=title, note=SAMPLE_NOTE if loaded.is_sample else None)
