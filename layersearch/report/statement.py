"""The verdict in sentences, for the summary on the console and for the JSON.

    for line in state(verdict, probe=probe, honest=honest, n_test=401):
        print(line)

The sentences state as facts only what the data show at the stated confidence, and call luck what may be luck.
"""

from __future__ import annotations

from collections.abc import Sequence

from layersearch.search.history import FULL_GRID, History
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.probe import Probe
from layersearch.verdict.verdict import Baseline, Estimate, Verdict
from layersearch.words import LINEAR, NOT_YET_WORTH, baseline_name, difference_text, interval_text, loss_text, percent

NAMED = 6  # most tied configurations that are named
TO_THE_END = " trained to the end"


def scope_of(history: History | None, ranking: Sequence[ConfigurationResult]) -> str:
    """Returns what to add to "configurations" where the verdict is not about the whole space, like ` tried`."""
    if history is None or history.strategy == FULL_GRID:
        return ""
    if any(configuration.drop for configuration in ranking):
        return TO_THE_END
    return " tried" if len(ranking) < history.space_size else ""


def state(
    verdict: Verdict,
    *,
    probe: Probe | None,
    honest: Estimate | None,
    n_test: int,
    time: str = "",
    scope: str = "",
    trained: str = "",
    model: str = "",
) -> list[str]:
    """Returns the lines of the verdict, of which all but the first are indented.

    Args:
        verdict: on the search.
        probe: the convergence probe, if there was one.
        honest: the chosen configuration's loss on the test rows, where it was chosen by cross-validation.
        n_test: number of test rows.
        time: how long a search with the suggested epochs takes, as "takes about 25 s".
        scope: from `scope_of`.
        trained: how long and at which learning rate, as " at 20 epochs, learning rate 0.001".
        model: a sentence on the model that was kept.
    """
    lines = [f"Verdict: {_headline(verdict, scope, trained)}"]
    details = _not_worth(verdict)
    if len(verdict.tied) > 1:
        details.append(f"tied ({percent(verdict.confidence)}): {_tied_text(verdict.tied)}")
    if verdict.is_known and verdict.n_configurations > 1:
        details.append(f"Recommended: {_recommendation(verdict)}")
    details += _trust(verdict, honest, n_test, scope)
    details += [model] if model else []
    details += [_baselines(verdict, scope)] if verdict.baselines else []
    details += [_length(probe, time)] if probe else []
    return lines + [f"  {detail}" for detail in details]


def _headline(verdict: Verdict, scope: str, trained: str) -> str:
    best, count = config_text(verdict.best.config), verdict.n_configurations
    if count == 1:
        return f"{best} is the only configuration{scope}; there is nothing to compare."
    if not verdict.is_known and verdict.training_df > 0:
        return f"{best} is the best measured, but it was scored on a single {verdict.resampled.removesuffix('s')}."
    if not verdict.is_known:
        return (
            f"{best} is the best measured, but with one training each luck cannot be told from merit; "
            "--repeats 5 can tell."
        )
    if verdict.is_proven:
        of = f"of {count} configurations{scope}"
        return f"{best} is the only one {of} not ruled out as the best ({percent(verdict.confidence)}){trained}."
    tied = f"{len(verdict.tied)} of {count} configurations{scope}"
    return f"{best} is the best measured, but not proven: {tied} are tied for best."


def _tied_text(tied: Sequence[ConfigurationResult]) -> str:
    shown = [f"{config_text(c.config)} {c.model_params}" for c in tied[:NAMED]]
    shown[0] += " parameters"
    more = [f"{len(tied) - NAMED} more"] if len(tied) > NAMED else []
    return " · ".join(shown + more)


def _recommendation(verdict: Verdict) -> str:
    best, recommended = verdict.best, verdict.recommended
    name, within = config_text(recommended.config), f"within {percent(verdict.margin)}"
    bound, needed, has_smaller = verdict.recommendation[1:]
    if bound is not None:
        difference = verdict.standings[recommended.config].difference
        assert difference is not None
        loss = best.final_test_loss
        return (
            f"{name}, the smallest shown to be {within} of the best ({recommended.model_params} parameters, loss "
            f"{loss_text(recommended.final_test_loss)}, {difference_text(difference, loss)}, "
            f"at most {difference_text(bound, loss)})"
        )
    if not has_smaller:
        return f"{name}, the best measured; none is smaller"
    if verdict.margin == 0:
        return f"{name}, the best measured, as --margin 0 asks"
    scored = f"{verdict.n_resampled} {verdict.resampled}"
    remedy = f"about {needed} repeats would do" if needed else f"on {scored}, more repeats will not do"
    return f"{name}, the best measured; none smaller is shown to be {within} ({remedy})"


def _trust(verdict: Verdict, honest: Estimate | None, n_test: int, scope: str) -> list[str]:
    loss = verdict.best.final_test_loss
    if honest:
        interval = interval_text(honest.interval, loss, signed=False)
        return [f"Honest test loss: {loss_text(honest.loss)} {interval}, on {n_test} test rows that chose nothing."]
    if scope == TO_THE_END and not verdict.best.is_cross_validated:
        return [
            "The best's loss is optimistic by an unknown amount (others were dropped on the rows that score it); "
            "--cv_folds 5 gives an honest one."
        ]
    if verdict.optimism is None or verdict.n_configurations == 1:
        return []
    shown = difference_text(verdict.optimism, loss, signed=False)
    shown = f"about {shown}" if float(shown) else f"less than {shown[:-1]}1"
    return [
        f"The best's loss is optimistic by {shown} (chosen on the rows that score it); "
        "--cv_folds 5 gives an honest one."
    ]


def _not_worth(verdict: Verdict) -> list[str]:
    """Returns what it means where no configuration beats the linear autoencoder, and what to do."""
    linear = verdict.linear
    if not linear or linear.not_beaten_by < verdict.n_configurations:
        return []
    name = f"a {baseline_name(LINEAR, None)} ({loss_text(linear.loss)})"
    which = "No configuration beats" if verdict.n_configurations > 1 else "It does not beat"
    return [f"{which} {name}: {NOT_YET_WORTH}."]


def _baselines(verdict: Verdict, scope: str) -> str:
    texts = [
        f"{baseline_name(b.name, b.components)} {loss_text(b.loss)} ({_beaten(b, verdict, scope)})"
        for b in verdict.baselines
    ]
    return f"Baselines: {', '.join(texts)}."


def _beaten(baseline: Baseline, verdict: Verdict, scope: str) -> str:
    count, losers = verdict.n_configurations, baseline.not_beaten_by
    if losers == 0:
        return f"all configurations{scope} beat it" if count > 1 else "beaten"
    if losers == count:
        return f"no configuration{scope} beats it" if count > 1 else "not beaten"
    winners = count - losers
    return f"{winners} of {count} configurations{scope} {'beats' if winners == 1 else 'beat'} it"


def _length(probe: Probe, time: str) -> str:
    asked, longest = probe.epochs[0], probe.epochs[-1]
    before, after = (loss_text(loss) for loss in probe.losses.mean(axis=0)[[0, -1]])
    change = f"with {longest} epochs instead of {asked} the loss {{}} from {before} to {after} ({_probed(probe)})"
    if probe.is_unclear:
        return f"Perhaps too short: {change.format('falls')}, which may be luck; more --repeats can tell."
    if probe.suggested_epochs is None and not probe.overfits:
        return f"Long enough: {change.format('goes')}, within the noise{_order(probe)}."
    if probe.suggested_epochs is None:
        remedy = "more --dropout or --weight_decay may help"
        return f"Longer is worse: {change.format('rises')}{_order(probe)}; {remedy}."
    advice = f"--epochs {probe.suggested_epochs}" + (f" {time}" if time else "")
    return f"Too short: {change.format('falls')}{_order(probe)}; {advice}."


def _probed(probe: Probe) -> str:
    """Returns what the probe's losses are means of."""
    names = ", ".join(map(config_text, probe.configs))
    which = [f"mean of {names}" if len(probe.configs) > 1 else names]
    which += [f"{probe.repeats} repeats"] if probe.repeats > 1 else []
    which += ["first fold"] if probe.is_cross_validated else []
    return ", ".join(which)


def _order(probe: Probe) -> str:
    if probe.overtaking is None:
        return ""
    winner, loser = map(config_text, probe.overtaking)
    return f" and the order changes ({winner} overtakes {loser})"
