"""`--normalization` and `--input_normalization` as the command carries them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import TINY, VALIDATOR, assert_one_line, run

from layersearch.space.configurations import count_parameters
from models import load_best

NONE = ["--normalization", "none"]
NONE_OF_INPUT = ["--input_normalization", "none"]


@pytest.mark.parametrize("flags", [NONE, NONE_OF_INPUT, [*NONE, *NONE_OF_INPUT]], ids=" ".join)
def test_sizes_the_saved_model_and_the_list_are_those_without_normalizations(tmp_path: Path, flags: list[str]) -> None:
    done = run(tmp_path, *TINY, *flags, "--save_models", "--no_probe")
    assert done.status == 0, done.err
    results = done.results()
    VALIDATOR.validate(results)
    norms: dict[str, Any] = {
        name: "none" if f"--{name}" in flags else "layer" for name in ("normalization", "input_normalization")
    }
    size = count_parameters(24, 3, (4,), **norms)
    best = results["best_configuration"]
    assert results["all_results"][0]["model_params"] == best["model_info"]["total_params"] == size
    assert norms.items() <= best["model_info"].items()
    assert sum(parameter.numel() for parameter in load_best(tmp_path, 3).model.parameters()) == size
    assert run(tmp_path, *TINY, *flags, "--list_configurations").out.splitlines()[1].split()[0] == str(size)


def test_trainings_with_other_normalizations_are_another_search(tmp_path: Path) -> None:
    assert run(tmp_path, *TINY, "--no_probe").status == 0
    for flags in (NONE, NONE_OF_INPUT):
        message = assert_one_line(run(tmp_path, *TINY, "--quiet", *flags), 2)
        assert f"belongs to another search ({flags[0]} 'layer', now 'none')" in message
