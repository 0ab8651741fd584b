"""The methods section of a paper, from the results document.

    print("\\n\\n".join(methods_text(document)))

`document`: what `report.results_document` makes and the JSON holds. Every number comes from there. Only what was done
is said: a search without folds says nothing of folds. `sources.py` has the sources that it cites: those that the
modules name which do the work.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from arguments import PROG, build_parser
from document_words import count_of, figure, listed, name_of, readable, short, whole
from report import percent
from statement import difference_text

COPUS = "copus"
SHOWN = 12  # digits of a digest
SAMPLE = "The table is synthetic sample data, not real classes."


def methods_text(document: Mapping[str, Any]) -> list[str]:
    """Data, models and training, selection, software: a paragraph each, plain text."""
    parts = [_data(document), _models(document) + _training(document), _selection(document), _software(document)]
    return [" ".join(sentences) for sentences in parts if sentences]


def _data(document: Mapping[str, Any]) -> list[str]:
    data, args = document["data"], document["args"]
    kind = "COPUS codes (Smith et al., 2013)" if args["columns"] == COPUS else "variables"
    table = f"{readable(PurePath(data['path']).name)}, SHA-256 {data['sha256'][:SHOWN]}…"
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


def _scaling(scaling: Mapping[str, Any], start: Mapping[str, Any] | None) -> list[str]:
    if start and start["stored_scaling"]:
        return ["Values were scaled as for the model from which trainings started."]
    if scaling["kind"] == "percent":
        return [f"Values were divided by {scaling['high'][0]:g}."]
    if scaling["kind"] == "none":
        return ["Values were not rescaled."]
    low, high = scaling["percentiles"]
    return [
        f"Each variable was scaled linearly, its percentiles {low} and {high} among the training observations "
        "becoming zero and one, and clipped to that range."
    ]


def _models(document: Mapping[str, Any]) -> list[str]:
    args, search = document["args"], document["search"]
    layer_norm, input_norm = (args.get(f"{name}normalization", "layer") == "layer" for name in ("", "input_"))
    hidden = ["linear", *(["layer-normalised"] if layer_norm else []), "rectified (ReLU)"]
    sentence = f"The models were autoencoders with a latent space of {count_of(args['latent_dim'], 'dimension')}: "
    sentence += "layer normalisation of the input, " if input_norm else ""
    sentence += f"hidden layers that were {', '.join(hidden)} and subject to dropout (probability {args['dropout']:g}; "
    sentence += "Srivastava et al., 2014), and a linear latent layer"
    sentence += "; layer normalisation was that of Ba et al., 2016" if layer_norm or input_norm else ""
    mirrored = "" if args["arrangement"] == "asymmetric" else " The decoder mirrored the encoder."
    start, study, n = document.get("init_from"), document.get("study"), args["max_layers"]
    considered = "decoders" if start and start["frozen"] else "encoders"
    layers = f"up to {n} hidden layers" if n > 1 else f"{n} hidden layer"
    order = {
        "decreasing": ", none wider than the one before it",
        "any": ", in any order",
        "asymmetric": ", in the encoder and, independently, in the decoder, none wider than the one farther from the "
        "latent layer",
    }[args["arrangement"]]
    size = "" if search is None or study else f" ({count_of(search['space_size'], 'configuration')})"
    return [
        f"{sentence}.{mirrored} The {considered} considered had {layers} of {_widths(args)}{order}{size}.",
        *_options(study),
        *([_strategy(args, search)] if search else []),
        *_start(start),
    ]


def _options(study: Mapping[str, Any] | None) -> list[str]:
    """What was crossed with the hidden layers."""
    if not study:
        return []
    factors = [
        f"{factor['name'].replace('_', ' ')} ({listed(map(_level, factor['levels']), 'and')})"
        for factor in study["factors"]
    ]
    n = count_of(len(study["configurations"]), "configuration")
    return [f"Crossed with {n} were {listed(factors, 'and')}, in place of what is said above."]


def _level(level: float | str) -> str:
    return level if isinstance(level, str) else short(level)


def _start(start: Mapping[str, Any] | None) -> list[str]:
    """The saved model that trainings started from."""
    if not start:
        return []
    frozen = ", whose encoder was kept as it was" if start["frozen"] else ""
    file = f"{readable(PurePath(start['file']).name)}, SHA-256 {start['sha256'][:SHOWN]}…"
    return [f"Trainings started from the weights of an earlier model ({file}){frozen}."]


def _widths(args: Mapping[str, Any]) -> str:
    if args["width_range"]:
        low, high, *step = args["width_range"].split(":")
        return f"{low.strip()} to {high.strip()} units" + (f" in steps of {step[0].strip()}" if step else "")
    return f"{listed(part.strip() for part in args['hidden_dims_search'].split(','))} units"


def _strategy(args: Mapping[str, Any], search: Mapping[str, Any]) -> str:
    tried = whole(search["tried"])
    if search["strategy"] == "random":
        return f"Of these, {tried} were drawn at random (Bergstra & Bengio, 2012) and trained."
    if search["strategy"] == "halving":
        return (
            f"They were compared by successive halving (Jamieson & Talwalkar, 2016), which let one in "
            f"{args['halving_factor']} go on at each rung ({whole(search['finished'])} trained to the end)."
        )
    if search["strategy"] == "bayesian":
        return (
            f"Of these, {tried} were proposed by a tree-structured Parzen estimator (Bergstra et al., 2011; Optuna, "
            "Akiba et al., 2019) and trained."
        )
    return f"Of these, {tried} were trained." if search["tried"] < search["space_size"] else "All were trained."


def _training(document: Mapping[str, Any]) -> list[str]:
    args, weights = document["args"], document["loss"]
    folds, repeats = args["cv_folds"], args["repeats"]
    sentences = [
        f"Training minimised {weights['nonzero']:g} times the mean squared error over the cells that are not zero plus "
        f"{weights['all']:g} times that over all cells.",
        "Initial weights were uniform, scaled as by Glorot & Bengio, 2010.",
        f"They were trained for {count_of(args['epochs'], 'epoch')} in batches of {args['batch_size']} with AdamW "
        f"(weight decay {short(args['weight_decay'])}; Loshchilov & Hutter, 2019); the learning rate fell from "
        f"{short(args['initial_lr'])} to {short(args['eta_min'])} by cosine annealing (Loshchilov & Hutter, 2017).",
    ]
    if args["patience"]:
        sentences.append(
            f"A training stopped after {count_of(args['patience'], 'epoch')} in which the loss of the observations set "
            f"apart did not fall by more than {short(args['min_delta'])}, and kept its best weights."
        )
    times = ["once" if repeats == 1 else f"{repeats} times"] + ([f"on each of {folds} folds"] if folds else [])
    differing = ", with different initial weights, batch orders and dropout patterns" if repeats > 1 else ""
    sentences.append(f"Each configuration was trained {' '.join(times)}{differing}.")
    return sentences


def _selection(document: Mapping[str, Any]) -> list[str]:
    verdict, best, args = document["verdict"], document["best_configuration"], document["args"]
    if verdict is None or best is None:
        return []
    rows = "the folds of the training observations" if args["cv_folds"] else "the test observations"
    mean = "" if args["repeats"] * max(args["cv_folds"], 1) == 1 else "mean "
    n = sum(entry["status"] == "ok" for entry in document["all_results"])
    sentences = [f"What counts is the {mean}loss after the last epoch on {rows}."]
    if verdict["tied"] is not None and n > 1:
        sentences.append(
            "Which configuration may be the best was decided by multiple comparisons with the best (Hsu, 1984) with "
            f"{percent(verdict['confidence'])} confidence, with critical values from a bootstrap over "
            f"{whole(verdict['n_resampled'])} {verdict['resampled']} (Efron, 1979) and Student's t over trainings, "
            "whose variances were moderated (Smyth, 2004)."
        )
    sentences += [_outcome(document, verdict, n), *_honesty(document, verdict, best)]
    if verdict["baselines"]:
        texts = [f"{_baseline(b['name'], args)} reached {figure(b['loss'])}" for b in verdict["baselines"]]
        sentences.append(f"As baselines, scored alike, {listed(texts, 'and')}.")
    return sentences + _probe(verdict["probe"])


def _outcome(document: Mapping[str, Any], verdict: Mapping[str, Any], n: int) -> str:
    measured, recommended = verdict["best_measured"], verdict["recommended"]
    first = document["all_results"][0]
    sd = "" if first["final_test_loss_sd"] is None else " (mean ± standard deviation over repeats)"
    best = f"{name_of(measured)} had {'the lowest' if n > 1 else 'a'} loss"
    best += " of " if n == 1 else ", "
    best += f"{figure(first['final_test_loss'], first['final_test_loss_sd'])}{sd}, "
    best += f"with {count_of(measured['model_params'], 'parameter')}"
    if verdict["tied"] is None or n < 2:
        return f"{best}."
    if verdict["proven"]:
        return f"{best}, and was the only one not ruled out as the best."
    tied = f"{len(verdict['tied'])} of {whole(n)} configurations were not ruled out as the best"
    if recommended["config"] == measured["config"]:
        return f"{best}; {tied}, of which it was the smallest."
    smallest = f"{name_of(recommended)} ({count_of(recommended['model_params'], 'parameter')}, loss "
    return f"{best}; {tied}, of which {smallest}{figure(recommended['final_test_loss'])}) was the smallest."


def _honesty(document: Mapping[str, Any], verdict: Mapping[str, Any], best: Mapping[str, Any]) -> list[str]:
    """What the loss of the chosen configuration is worth, as far as `statement.py` says it too."""
    if best["honest_test_loss"] is not None:
        low, high = best["honest_test_loss_interval"] or (None, None)
        return [
            f"{name_of(best)} was then trained on all training observations and scored on the "
            f"{whole(document['data']['test_rows'])} test observations, which had chosen nothing: loss "
            f"{figure(best['honest_test_loss'])} ({percent(verdict['confidence'])} interval {figure(low)} to "
            f"{figure(high)})."
        ]
    if document["args"]["cv_folds"] or len(document["all_results"]) < 2:
        return []
    known = verdict["optimism"] is not None and not (document["search"] or {}).get("dropped")
    if not known:
        return ["The same observations chose and scored it, so its loss is optimistic, by an unknown amount."]
    optimism = difference_text(max(verdict["optimism"], 0.0), verdict["best_measured"]["final_test_loss"], signed=False)
    if float(optimism) == 0:
        return ["The same observations chose and scored it; its loss shows no sign of optimism all the same."]
    return [f"The same observations chose and scored it, so its loss is optimistic, by about {optimism}."]


def _probe(probe: Mapping[str, Any] | None) -> list[str]:
    if not probe:
        return []
    losses = [entry["loss"] for entry in probe["losses"]]
    return [
        f"Trained for {probe['epochs'][-1]} epochs instead of {probe['epochs'][0]}, "
        f"{listed((name_of(entry) for entry in probe['losses']), 'and')} reached losses of "
        f"{listed((figure(loss[-1]) for loss in losses), 'and')} instead of "
        f"{listed((figure(loss[0]) for loss in losses), 'and')}."
    ]


def _baseline(name: str, args: Mapping[str, Any]) -> str:
    return f"PCA with {count_of(args['latent_dim'], 'component')}" if name == "PCA" else f"the {name}"


def _software(document: Mapping[str, Any]) -> list[str]:
    environment = document["environment"]
    used = [
        f"PyTorch {environment['torch']} (Paszke et al., 2019)",
        f"NumPy {environment['numpy']} (Harris et al., 2020)",
    ]
    if environment["engine"] == "compiled":
        used.append(f"Numba {environment['numba']} (Lam et al., 2015)")
    machine = environment["device_name"] or environment["processor"]
    digest, dirty, _ = (environment["git_commit"] or "").partition("-")
    commit = f", commit {digest[:SHOWN]}{' with changes' if dirty else ''}" if digest else ""
    return [
        f"The search was run by {PROG}{commit}, with Python {environment['python']}, {listed(used, 'and')}, on "
        f"{readable(machine)} ({readable(environment['platform'])}, {environment['engine']} engine). "
        f"Everything random derives from the seed {document['args']['seed']}."
    ]


def command_line(args: Mapping[str, Any]) -> str:
    """The command that these arguments came from: those that differ from their defaults, ready for a shell."""
    words = ["python", PROG]
    for name, value in changed_arguments(args).items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)


def changed_arguments(args: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not what they are by default."""
    defaults = {action.dest: action.default for action in build_parser()._actions}
    return {name: value for name, value in args.items() if value != defaults.get(name)}
