"""Draws all pictures of a search.

pictures = draw_search_pictures(ranking, history, verdict, latent_dim=3)
Path("verdict_latent3.png").write_bytes(pictures["verdict_plot"])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layersearch.pictures.curves import draw_curves
from layersearch.pictures.history import draw_history
from layersearch.pictures.sizes import draw_sizes
from layersearch.pictures.style import png
from layersearch.pictures.verdict import draw_verdict
from layersearch.space.naming import short_options_note

if TYPE_CHECKING:
    from layersearch.search.history import History
    from layersearch.space.ranking import ConfigurationResult
    from layersearch.verdict.verdict import Verdict


def draw_search_pictures(
    ranking: Sequence[ConfigurationResult],
    history: History,
    verdict: Verdict,
    *,
    latent_dim: int,
    first: History | None = None,
    note: str | None = None,
) -> dict[str, bytes]:
    """Draws the curves, sizes, verdict, history and study of a search.

    Args:
        ranking: The configurations that were tried, best first; at least one finished.
        history: What was trained, in order. If it has no steps, no picture of it is drawn.
        verdict: The verdict on this ranking. If it has effects of a study, a picture of these is drawn.
        latent_dim: Size of the latent space.
        first: The history of the search that chose the hidden layers, if this is the second stage of a study.
        note: Small print for all pictures.

    Returns:
        The content of each PNG file, by the field of `OutputFiles` that names the file.
    """
    notes = "\n".join(filter(None, [note, short_options_note(ranking[0].config)])) or None
    about: dict[str, Any] = {"latent_dim": latent_dim, "note": notes}
    size = history.space_size
    drawn = {
        "search_plot": png(draw_curves(ranking, verdict=verdict, space_size=size, **about)),
        "configurations_plot": png(draw_sizes(ranking, verdict=verdict, space_size=size, **about)),
        "verdict_plot": png(draw_verdict(verdict, ranking, space_size=size, **about)),
    }
    if history.steps:
        drawn["history_plot"] = png(draw_history(history, verdict=verdict, ranking=ranking, first=first, **about))
    if verdict.study and verdict.study.main_effects:
        from layersearch.pictures.study import draw_study  # imports SciPy, needed only by a study

        drawn["study_plot"] = png(draw_study(verdict.study, latent_dim=latent_dim, note=note))
    return drawn
