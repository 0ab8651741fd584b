"""The command `--list_configurations`, which prints the configurations, their sizes and estimated training times.

    print_configurations(request, console)

Lines are printed one by one, so that a large space shows its first lines at once. The configuration is the last column,
so that long ones do not shift the other columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from layersearch.command.request import Request
from layersearch.console import Console
from layersearch.space.configurations import Configuration, ParameterCounts
from layersearch.space.factors import count_options
from layersearch.space.naming import config_text
from layersearch.words import count, duration_text

HEADINGS = ("parameters", "s/training", "s in total", "hidden layers")


def print_configurations(request: Request, console: Console) -> None:
    """Prints a table of all configurations that a request would try, without training them.

    Raises:
        UsageError: the table or the saved model cannot be used.
    """
    from layersearch.engines.choice import choose_device, choose_room, threads_of
    from layersearch.engines.settings import TrainingSettings, nominal_seconds
    from layersearch.engines.workers import available_cores
    from layersearch.loading.loaded import load
    from layersearch.loading.start import behind_encoder, find_source

    latent_dim, seed, plan = request.sizes.latent_dim, request.search.seed, request.plan
    device = choose_device("cpu" if request.run.distributed else request.run.device)
    source = find_source(request.start, request.training, latent_dim)
    loaded = load(request.data, request.training, device, seed=seed, source=source)
    space = behind_encoder(plan.space, source)
    usual = "compiled" if device.type == "cpu" else "stacked"
    engine = usual if request.run.engine == "auto" else request.run.engine
    settings, table = TrainingSettings.of(request.training, latent_dim, seed), loaded.tables[loaded.folds[0]]
    members = 1
    if engine == "stacked":
        n_trials = plan.largest_batch(available_cores()) * plan.options.repeats
        members = choose_room(space, loaded.tables, settings, device, n_trials=n_trials).members

    def seconds(n_parameters: int) -> float:
        return nominal_seconds(engine, n_parameters, len(table.train), settings) / members

    for line in list_configurations(
        space.configurations(),
        ParameterCounts(table.input_dim, latent_dim, **settings.normalizations),
        seconds,
        repeats=plan.options.repeats,
        folds=plan.folds,
        threads=threads_of(engine, request.run.threads),
    ):
        console.summarize(line)
    if plan.study_configs:
        options = count_options(plan.factors)
        console.summarize(f"then the best {plan.study_configs} x {options} options, as often")


def list_configurations(
    configurations: Iterable[Configuration],
    sizes: Mapping[Configuration, int],
    seconds: Callable[[int], float],
    *,
    repeats: int,
    folds: int = 0,
    threads: int = 1,
) -> Iterator[str]:
    """Yields a heading, a line for each configuration in the given order, and a line of totals.

    Args:
        configurations: the configurations of the search space.
        sizes: their numbers of parameters.
        seconds: estimates the time of one training on one core from the number of parameters.
        repeats: number of trainings of each configuration, in each fold.
        folds: number of folds; 0 without cross-validation.
        threads: number of trainings at a time.
    """
    yield "  ".join(HEADINGS)
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
