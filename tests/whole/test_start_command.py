"""`--init_from` and `--freeze_encoder` as the command carries them out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from commands import VALIDATOR, Run, assert_one_line, but_for_time, run
from made_tables import copus_frame, write

from dataset import COPUS_CODES
from layersearch.command.arguments import parse_arguments
from layersearch.command.request import read_request
from layersearch.loading.loaded import load
from layersearch.loading.start import find_source
from layersearch.space.configurations import Configuration, encoder_dims
from models import load_best

SHORT = ["--epochs", "2", "--repeats", "2", "--no_probe"]
SEARCH = ["--hidden_dims_search", "6,9", "--max_layers", "2", *SHORT]
N_CONFIGURATIONS = 5


class Places:
    """Two tables of the same columns, and a model that was trained on the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first, self.second = folder / "first.csv", folder / "second.csv"
        frame = copus_frame(60)
        write(frame, self.first)
        shuffled = frame.sample(frac=1, random_state=1).reset_index(drop=True)
        shuffled[list(COPUS_CODES)] *= 0.9
        write(shuffled, self.second)
        self.pretrained = folder / "pretrained"
        space = ["--hidden_dims_search", "9", "--max_layers", "1", "--seed", "7"]
        done = run(self.pretrained, *space, *SHORT, "--data_path", self.first, "--save_models")
        assert done.status == 0, done.err
        self.model = self.pretrained / "best_model_latent3.pth"

    def search(self, name: str, *arguments: object) -> Run:
        return run(self.folder / name, *SEARCH, "--data_path", self.second, "--init_from", self.model, *arguments)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("start"))


def configurations(results: dict[str, Any]) -> set[Configuration]:
    def plain(config: list[Any]) -> Configuration:
        return tuple(plain(part) if isinstance(part, list) else part for part in config)

    return {plain(entry["config"]) for entry in results["all_results"]}


def test_a_search_from_a_saved_model_says_what_it_started_from(places: Places) -> None:
    done = places.search("warm")
    assert done.status == 0, done.err
    results = done.results()
    VALIDATOR.validate(results)
    pretrained = json.loads((places.pretrained / "hyperparam_results_latent3.json").read_text())
    start = results["init_from"]
    assert start["config"] == pretrained["best_configuration"]["config"] == [9]
    assert start["model_params"] == pretrained["best_configuration"]["model_params"]
    assert 0 < start["taken"] <= start["model_params"]
    assert (start["frozen"], start["stored_scaling"]) == (False, True)
    assert results["data"]["scaling"] == pretrained["data"]["scaling"]
    assert f"starting from {places.model}: [9], latent dimension 3" in done.err
    assert "values are scaled as that model's were" in done.err
    assert pretrained["init_from"] is None


def test_the_same_command_gives_the_same_results(places: Places) -> None:
    one, other = (places.search(name, "--threads", threads).results() for name, threads in (("a", 1), ("b", 2)))
    for part in ("all_results", "verdict", "init_from", "best_configuration"):
        assert but_for_time(one)[part] == but_for_time(other)[part]


def test_folds_have_the_stored_scaling_too(places: Places) -> None:
    arguments = ["--data_path", str(places.second), "--init_from", str(places.model), "--cv_folds", "2"]
    request = read_request(parse_arguments(arguments))
    source = find_source(request.start, request.training, request.sizes.latent_dim)
    loaded = load(request.data, request.training, torch.device("cpu"), seed=request.search.seed, source=source)
    expected = load_best(places.pretrained, 3).scaling.apply(loaded.dataset.data)
    assert list(loaded.tables) == [None, 0, 1]
    assert all(torch.equal(table.values, expected) for table in loaded.tables.values())


def test_a_scaling_that_is_asked_for_goes_before_the_stored_one(places: Places) -> None:
    done = places.search("percent", "--scaling", "percent")
    assert done.results()["data"]["scaling"]["kind"] == "percent"
    assert not done.results()["init_from"]["stored_scaling"]
    assert "--scaling percent is used, not the scaling of that model" in done.err
    robust = places.search("robust", "--scaling", "robust").results()["data"]["scaling"]
    assert robust != load_best(places.pretrained, 3).scaling.to_dict()


def test_without_results_beside_it_or_with_other_columns_the_table_has_its_own_scaling(
    places: Places, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.pth"
    shutil.copy(places.model, alone)
    done = places.search("alone", "--init_from", alone)
    assert f"no results beside {alone} name it" in done.err
    assert not done.results()["init_from"]["stored_scaling"]
    fewer = places.search("fewer", "--columns", "Ind,L,CG")
    assert "trained on other columns (24, here 3)" in fewer.err
    swapped = places.search("swapped", "--columns", ",".join(["Ind", "L", *COPUS_CODES[2:]]))
    assert "trained on other columns ('L' where this has 'Ind')" in swapped.err
    assert not swapped.results()["init_from"]["stored_scaling"]


def test_rows_that_may_have_trained_the_saved_model_are_noticed(places: Places) -> None:
    same = ["--data_path", places.first]
    said = "that model was trained on this very table, split in another way"
    assert said in places.search("other seed", *same).err
    assert said in places.search("its seed, folds", *same, "--seed", "7", "--cv_folds", "2").err
    assert said not in places.search("its seed", *same, "--seed", "7").err
    assert said not in places.search("other table").err


def test_values_beyond_the_stored_range_are_noticed(places: Places, tmp_path: Path) -> None:
    frame = pd.read_csv(places.second)
    frame[list(COPUS_CODES)] *= 1.5
    said = "of the cells lie beyond the range of that scaling and are clipped to it"
    assert said in places.search("beyond", "--data_path", write(frame, tmp_path / "large.csv")).err
    assert said not in places.search("other table").err


def test_a_journal_of_other_weights_is_refused(places: Places, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    search = [*SEARCH, "--data_path", places.second]
    assert run(folder, *search).status == 0
    assert "belongs to another search (--init_from None, now 'weights " in assert_one_line(
        run(folder, *search, "--init_from", places.model, "--scaling", "robust", "--quiet"), 2
    )
    other = tmp_path / "other.pth"
    weights = torch.load(places.model, weights_only=True)
    weights["decoder.4.bias"] += 1e-3
    assert run(folder, *search, "--init_from", places.model, "--scaling", "robust", "--fresh").status == 0
    torch.save(weights, other)
    assert "(--init_from 'weights " in assert_one_line(
        run(folder, *search, "--init_from", other, "--scaling", "robust", "--quiet"), 2
    )


def test_a_search_would_not_save_its_model_over_the_one_it_starts_from(places: Places) -> None:
    message = assert_one_line(run(places.pretrained, *SEARCH, "--init_from", places.model), 2)
    assert "is where this search would save its model; give another --output_dir" in message


# A frozen encoder


@pytest.mark.parametrize(
    "strategy",
    [
        [],
        ["--search", "random", "--trials", "3"],
        ["--search", "halving", "--halving_factor", "2", "--min_epochs", "1"],
        ["--search", "bayesian", "--trials", "4"],
        ["--arrangement", "any"],
        ["--engine", "reference"],
        ["--engine", "stacked"],
        ["--patience", "1", "--cv_folds", "2"],
    ],
    ids=" ".join,
)
def test_after_a_frozen_search_the_latent_space_is_that_of_the_saved_model(
    places: Places, strategy: list[str], tmp_path: Path
) -> None:
    done = places.search(str(tmp_path / "frozen"), "--freeze_encoder", "--save_models", *strategy)
    assert done.status == 0, done.err
    results = done.results()
    VALIDATOR.validate(results)
    assert results["init_from"]["frozen"]
    assert {encoder_dims(config) for config in configurations(results)} == {(9,)}
    before, after = (load_best(folder, 3) for folder in (places.pretrained, done.folder))
    values = 150 * torch.rand(40, 24, generator=torch.Generator().manual_seed(0))
    values[values > 140] = torch.nan
    assert torch.equal(before.encode(values), after.encode(values))
    assert after.columns == before.columns
    one, other = (list(best.model.parameters())[-1] for best in (before, after))
    assert not torch.equal(one, other)


def test_a_frozen_search_tries_the_decoders_that_a_search_would_try_as_halves(places: Places) -> None:
    results = places.search("all decoders", "--freeze_encoder").results()
    decoders: set[Configuration] = {(9,), ((9,), (6,)), ((9,), (9, 9)), ((9,), (6, 9)), ((9,), (6, 6))}
    assert configurations(results) == decoders
    assert results["total_configurations"] == results["search"]["space_size"] == N_CONFIGURATIONS


def test_a_frozen_search_lists_its_decoders_and_counts_them_as_others(places: Places) -> None:
    lines = places.search("listed", "--freeze_encoder", "--list_configurations").out.splitlines()
    assert [line.split("  ")[-1] for line in lines[1:-1]] == [
        "[9]", "[9] -> [6]", "[9] -> [9, 9]", "[9] -> [6, 9]", "[9] -> [6, 6]",
    ]  # fmt: skip
    refused = places.search("too many", "--freeze_encoder", "--max_configurations", "4")
    assert "gives 5 configurations" in assert_one_line(refused, 2)


def test_what_does_not_fit_a_frozen_encoder_is_refused(places: Places, tmp_path: Path) -> None:
    def refusal(*arguments: object) -> str:
        return assert_one_line(places.search(str(tmp_path / "refused"), "--freeze_encoder", *arguments), 2)

    assert "--latent_dim 2: the encoder that --freeze_encoder keeps has 3; give --latent_dim 3" in refusal(
        "--latent_dim", "2"
    )
    assert "--normalization none: the encoder that --freeze_encoder keeps has layer" in refusal(
        "--normalization", "none"
    )
    assert "give a table with its columns" in refusal("--columns", "Ind,L,CG")
    alone = tmp_path / "alone.pth"
    shutil.copy(places.model, alone)
    assert f"no results beside {alone} name it" in refusal("--init_from", alone)
    assert not (tmp_path / "refused").exists()
