"""The methods section of a paper, written from the results.

    print("\\n\\n".join(methods_text(document)))

`document` is what `results.results_document` makes and the JSON file holds; every number comes from there. Only what
was done is said: a search without folds says nothing of folds. `references.py` lists the publications that are cited.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from layersearch.report.methods_results import (
    agreement,
    clusters,
    compared,
    crossed_levels,
    effects,
    ensemble,
    level_of,
    option_name,
    selection,
)
from layersearch.space.naming import name_of
from layersearch.table.copus import N_ROWS, PUBLISHED_NAME
from layersearch.words import (
    PROG,
    count_of,
    listed,
    readable,
    short,
    whole,
)

Document = Mapping[str, Any]
Crossed = Mapping[str, Sequence[float | str]]  # the levels that a study crossed, by option

DIGITS = 12  # of a digest
DROPOUT = "Srivastava et al., 2014"
DRAWN = "drawn at random (Bergstra & Bengio, 2012)"
PROPOSED = "proposed by a tree-structured Parzen estimator (Bergstra et al., 2011; Optuna, Akiba et al., 2019)"
SAMPLE = "The table is synthetic sample data, not real classes."


def methods_text(document: Document) -> list[str]:
    """Returns the section as plain text, a string for each paragraph.

    The paragraphs are about the data, the models and their training, the selection, a study, the ensemble and the
    latent space, and the software; those that have nothing to say are left out.
    """
    parts = [
        _data(document),
        _models(document) + _training(document),
        selection(document),
        effects(document),
        ensemble(document) + agreement(document) + clusters(document),
        _software(document),
    ]
    return [" ".join(sentences) for sentences in parts if sentences]


def _data(document: Document) -> list[str]:
    data, args = document["data"], document["args"]
    kind = "COPUS codes (Smith et al., 2013)" if args["columns"] == "copus" else "variables"
    table = f"{readable(PurePath(data['path']).name)}, SHA-256 {data['sha256'][:DIGITS]}…"
    table += "; Stains et al., 2018" if _is_published(data) else ""
    sentences = [f"The data were {whole(data['rows'])} observations of {len(data['columns'])} {kind} ({table})."]
    sentences += [SAMPLE] if data["synthetic"] else []
    if data.get("missing_cells"):
        n = whole(data["missing_cells"])
        sentences.append(f"{n} missing cells entered the networks as 0 and counted in no loss.")
    split = f"{whole(data['train_rows'])} were drawn at random for training and {whole(data['test_rows'])} for testing"
    if data.get("validation_rows"):
        split = split.replace(" and", f", {whole(data['validation_rows'])} to decide when to stop training, and")
    split = f"Of these, {split}"
    if data.get("group_column"):
        column, groups = readable(data["group_column"]), whole(data["groups"])
        split += f"; observations that share a value of “{column}” ({groups} groups) were kept on one side"
    if data.get("stratify_column"):
        split += f"; the shares of the values of “{readable(data['stratify_column'])}” were kept alike"
    sentences.append(f"{split} (seed {args['seed']}).")
    return sentences + _scaling(data["scaling"], document.get("init_from"))


def _is_published(data: Document) -> bool:
    """Returns whether the table is the published one, as far as the name of its file and its rows tell."""
    return PurePath(data["path"]).name == PUBLISHED_NAME and data["rows"] == N_ROWS


def _scaling(scaling: Document, start: Document | None) -> list[str]:
    if scaling["kind"] == "percent":
        sentence = f"Values were divided by {scaling['high'][0]:g}"
    elif scaling["kind"] == "none":
        sentence = "Values were not rescaled"
    else:
        low, high = scaling["percentiles"]
        whose = "the earlier model's" if start and start["stored_scaling"] else "the"
        sentence = (
            f"Each variable was scaled linearly, its percentiles {low} and {high} among {whose} training observations "
            "becoming zero and one, and clipped to that range"
        )
    if start and start["stored_scaling"]:
        sentence += "; that scaling was the one of the earlier model from which trainings started, not fitted here"
    return [f"{sentence}."]


def _models(document: Document) -> list[str]:
    args, search, start = document["args"], document["search"], document.get("init_from")
    frozen, n, crossed = start is not None and start["frozen"], args["max_layers"], crossed_levels(document)
    sentences = [_architecture(args, crossed, frozen=frozen)]
    if start and frozen:
        sentences.append(
            f"The encoder was that of the earlier model ({name_of(start)}) and stayed as it was; only decoders, of "
            "widths of their own, were trained behind it."
        )
    elif args["arrangement"] != "asymmetric":
        sentences.append("The decoder mirrored the encoder.")
    layers = f"up to {n} hidden layers" if n > 1 else f"{n} hidden layer"
    tapering = "none wider than the one farther from the latent layer"
    order = {
        "decreasing": tapering if frozen else "none wider than the one before it",
        "any": "in any order",
        "asymmetric": f"in the encoder and, independently, in the decoder, {tapering}",
    }[args["arrangement"]]
    size = "" if search is None or crossed else f" ({count_of(search['space_size'], 'configuration')})"
    considered = "decoders" if frozen else "encoders"
    sentences.append(f"The {considered} considered had {layers} of {_widths(args)}, {order}{size}.")
    if crossed:
        return sentences + _crossing(document, crossed)
    return sentences + ([_strategy(args, search)] if search else [])


def _architecture(args: Document, crossed: Crossed, *, frozen: bool) -> str:
    """Returns what all models have in common, and which of their options were crossed."""
    has_norm = {name: args.get(name, "layer") == "layer" for name in ("normalization", "input_normalization")}
    hidden = ["linear", *(["layer-normalised"] if has_norm["normalization"] else []), "rectified (ReLU)"]
    if "normalization" in crossed:
        hidden = ["linear", "layer-normalised or not (crossed)", "rectified (ReLU)"]
    if "dropout" in crossed or args["dropout"]:
        where = "in the decoder alone " if frozen else ""
        hidden.append(f"{where}subject to dropout (probability {_one_of(args, crossed, 'dropout')}; {DROPOUT})")
    before = "layer normalisation of the input, " if has_norm["input_normalization"] else ""
    if "input_normalization" in crossed:
        before = "layer normalisation of the input or none (crossed), "
    sentence = f"The models were autoencoders with a latent space of {count_of(args['latent_dim'], 'dimension')}: "
    sentence += f"{before}hidden layers that were {listed(hidden, 'and')}, and a linear latent layer"
    is_normalised = any(has_norm.values()) or {"normalization", "input_normalization"} & crossed.keys()
    return sentence + ("; layer normalisation was that of Ba et al. (2016)." if is_normalised else ".")


def _one_of(args: Document, crossed: Crossed, name: str) -> str:
    """Returns an option's value, `0.1`, or the values that were crossed, `0, 0.1 or 0.3, crossed`."""
    return f"{listed(map(level_of, crossed[name]))}, crossed" if name in crossed else short(args[name])


def _crossing(document: Document, crossed: Crossed) -> list[str]:
    """Returns what was crossed with what, and how the configurations had been chosen."""
    study, search = document.get("study"), document["search"]
    levels = (f"{option_name(name)} ({listed(map(level_of, some), 'and')})" for name, some in crossed.items())
    design = f"crossed, in a full factorial design, with {listed(levels, 'and')}"
    if search is None:
        return [f"They were {design}."]
    n, first = search["space_size"], study["first_stage"] if study else None
    variants = f"these {count_of(n, 'variant')}"
    trained = f"all of {variants}" if search["tried"] == n else f"of {variants} {whole(search['tried'])}"
    if not first and not document["args"].get("study_configs"):
        return [f"They were {design}; {trained} were trained."]
    n_best = n // math.prod(map(len, crossed.values()))
    best = f"The best {whole(n_best)} of them were" if n_best > 1 else "The best of them was"
    return [
        *([_first_stage(document["args"], first, crossed)] if first else []),
        f"{best} {design}; {trained} were trained anew, in other repeats than those that had chosen them.",
    ]


def _first_stage(args: Document, first: Document, crossed: Iterable[str]) -> str:
    """Returns how the configurations were searched whose best were crossed."""
    ranking, own = first["ranking"], listed((f"{option_name(name)} {level_of(args[name])}" for name in crossed), "and")
    finished = sum(entry["status"] == "ok" for entry in ranking)
    which = f"all {whole(len(ranking))}" if first["strategy"] == "grid" else whole(len(ranking))
    return f"In a first stage {_searched(which, first['strategy'], args, finished)}, with {own}."


def _widths(args: Document) -> str:
    if args["width_range"]:
        low, high, *step = args["width_range"].split(":")
        return f"{low.strip()} to {high.strip()} units" + (f" in steps of {step[0].strip()}" if step else "")
    return f"{listed(part.strip() for part in args['hidden_dims_search'].split(','))} units"


def _strategy(args: Document, search: Document) -> str:
    """Returns how the configurations were searched."""
    which = f"Of these, {whole(search['tried'])}"
    if search["strategy"] == "halving":
        which = "They"
    elif search["strategy"] == "grid" and search["tried"] == search["space_size"]:
        which = "All"
    return f"{_searched(which, search['strategy'], args, search['finished'])}."


def _searched(which: str, strategy: str, args: Document, finished: int) -> str:
    """Returns the clause on a search: `Of these, 5 were drawn at random … and trained`.

    Args:
        which: The configurations that were tried, as the subject of the clause.
        strategy: The strategy of the search.
        args: The arguments of the command.
        finished: How many of the configurations were trained to the end.
    """
    if strategy == "halving":
        return (
            f"{which} were compared by successive halving (Jamieson & Talwalkar, 2016), which let one in "
            f"{args['halving_factor']} go on at each rung ({whole(finished)} trained to the end)"
        )
    chosen = {"random": f" {DRAWN} and", "bayesian": f" {PROPOSED} and"}.get(strategy, "")
    return f"{which} were{chosen} trained"


def _training(document: Document) -> list[str]:
    args, weights, crossed = document["args"], document["loss"], crossed_levels(document)
    is_halving = (document["search"] or {}).get("strategy") == "halving"
    until = ", or until they were left behind," if is_halving else ""
    sentences = [
        f"Training minimised {weights['nonzero']:g} times the mean squared error over the cells that are not zero plus "
        f"{weights['all']:g} times that over all cells.",
        *_initial_weights(document),
        f"The models were trained for {count_of(args['epochs'], 'epoch')}{until} in batches of {args['batch_size']} "
        f"with AdamW (weight decay {_one_of(args, crossed, 'weight_decay')}; Loshchilov & Hutter, 2019); the learning "
        f"rate fell from {_one_of(args, crossed, 'initial_lr')} to {short(args['eta_min'])} by cosine annealing "
        "(Loshchilov & Hutter, 2017).",
    ]
    if args["patience"]:
        sentences.append(
            f"A training stopped after {count_of(args['patience'], 'epoch')} in which the loss of the observations set "
            f"apart did not fall by more than {short(args['min_delta'])}, and kept its best weights."
        )
    return [*sentences, *_repeats(document, crossed)]


def _initial_weights(document: Document) -> list[str]:
    start, best = document.get("init_from"), document["best_configuration"]
    if not start:
        return ["Initial weights were uniform, scaled as by Glorot & Bengio (2010)."]
    file = f"{readable(PurePath(start['file']).name)}, SHA-256 {start['sha256'][:DIGITS]}…"
    sentences = [
        f"Trainings started from the weights of an earlier model ({file}); weights without a counterpart there were "
        "drawn uniformly, scaled as by Glorot & Bengio (2010)."
    ]
    if best and start.get("taken"):
        sentences.append(f"{name_of(best)} took {count_of(start['taken'], 'parameter')} from there.")
    return sentences


def _repeats(document: Document, crossed: Crossed) -> list[str]:
    """Returns how often each configuration was trained, what differed between repeats, and what did not finish."""
    args, start = document["args"], document.get("init_from")
    folds, repeats = args["cv_folds"], args["repeats"]
    times = ["once" if repeats == 1 else f"{repeats} times"] + ([f"on each of {folds} folds"] if folds else [])
    differ = ["batch orders", *(["dropout patterns"] if args["dropout"] or "dropout" in crossed else [])]
    differing = f", with different {listed(['initial weights', *differ], 'and')}"
    if start:
        differing = f", all from that start, with different {listed(differ, 'and')}"
        differing += " and different weights where these were drawn"
    thing, was = compared(document), "was" if document["complete"] else "was to be"
    sentences = [f"Each {thing} {was} trained {' '.join(times)}{differing if repeats > 1 else ''}."]
    failed = sum(entry["status"].startswith("failed") for entry in document["all_results"])
    sentences += [f"{count_of(failed, thing)} failed and {'is' if failed == 1 else 'are'} not ranked."] * (failed > 0)
    return sentences + ["The search was interrupted before its end."] * (not document["complete"])


def _software(document: Document) -> list[str]:
    environment = document["environment"]
    used = [
        f"PyTorch {environment['torch']} (Paszke et al., 2019)",
        f"NumPy {environment['numpy']} (Harris et al., 2020)",
    ]
    if environment["engine"] == "compiled":
        used.append(f"Numba {environment['numba']} (Lam et al., 2015)")
    if agreement(document) or clusters(document):
        used.append(f"scikit-learn {environment['scikit-learn']} (Pedregosa et al., 2011)")
    machine = environment["device_name"] or environment["processor"]
    digest, dirty, _ = (environment["git_commit"] or "").partition("-")
    commit = f", commit {digest[:DIGITS]}{' with changes' if dirty else ''}" if digest else ""
    return [
        f"The search was run by {PROG}{commit}, with Python {environment['python']}, {listed(used, 'and')}, on "
        f"{readable(machine)} ({readable(environment['platform'])}, {environment['engine']} engine). "
        f"Everything random derives from the seed {document['args']['seed']}."
    ]
