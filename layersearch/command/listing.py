"""The table of `--list_configurations`: what there is to try, how large it is, and about how long it takes.

    for line in list_configurations(space.configurations(), input_dim=24, latent_dim=3, repeats=5, seconds=cost):
        print(line)

A generator: the first lines of a large space are there at once. Configurations stand last on their lines, so that
the longest of them moves no column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from layersearch.space.configurations import Configuration, ParameterCounts
from layersearch.space.naming import config_text
from layersearch.words import count, duration_text

HEADINGS = ("parameters", "s/training", "s in total", "hidden layers")


def list_configurations(
    configurations: Iterable[Configuration],
    *,
    input_dim: int,
    latent_dim: int,
    repeats: int,
    seconds: Callable[[int], float],
    folds: int = 0,
    threads: int = 1,
    normalization: str = "layer",
    input_normalization: str = "layer",
) -> Iterator[str]:
    """A heading, a line for each configuration in the order in which they come, and a line of totals.

    `seconds`: about how long one training of a model with so many parameters takes on one core
    (`lifecycle.nominal_seconds`). Each configuration is trained `repeats` times (in each of so many `folds`), as many
    at a time as there are `threads`.
    """
    yield "  ".join(HEADINGS)
    sizes = ParameterCounts(input_dim, latent_dim, normalization=normalization, input_normalization=input_normalization)
    widths = [len(heading) for heading in HEADINGS]
    share = repeats * (folds or 1) / threads
    number, total = 0, 0.0
    for config in configurations:
        size = sizes[config]
        once = seconds(size)
        number, total = number + 1, total + once * share
        figures = (str(size), f"{once:.3f}", f"{once * share:.3f}")
        yield "  ".join([*map(str.rjust, figures, widths), config_text(config)])
    times = [count(number, "configuration"), count(repeats, "repeat")]
    times += [count(folds, "fold")] if folds else []
    yield f"{' x '.join(times)}, {duration_text(total)} on {count(threads, 'core')}"
