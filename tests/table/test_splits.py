"""Splits and folds keep groups whole, strata in proportion and every row once, and depend on the seed alone."""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from layersearch.table.formats import DataError
from layersearch.table.splits import Marks, Split, fold_rows, leak_notice, mark_rows, split_rows, validation_rows


def marks(numbers: Sequence[int] | np.ndarray, column: str = "School") -> Marks:
    return Marks(column, np.unique(numbers, return_inverse=True)[1].astype(np.int64))


def of_sizes(*sizes: int) -> Marks:
    return marks(np.repeat(np.arange(len(sizes)), sizes))


def random_groups(seed: int) -> Marks:
    """Returns 10 to 80 groups of very unequal sizes, many of one row, none above a tenth of the 100 to 600 rows."""
    rng = np.random.default_rng(seed)
    n_rows = int(rng.integers(100, 600))
    sizes: list[int] = []
    while sum(sizes) < n_rows:
        sizes.append(min(int(rng.lognormal(0.8, 1.2)) + 1, n_rows // 10))
    return marks(rng.permutation(np.repeat(np.arange(len(sizes)), sizes)))


def shares(stratum_of: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the fraction of each stratum that is in `rows`."""
    counts: np.ndarray = np.bincount(stratum_of[rows], minlength=int(stratum_of.max()) + 1)
    return counts / np.bincount(stratum_of)


def arrays(split: Split) -> tuple[np.ndarray, np.ndarray]:
    assert (split.train.dtype, split.test.dtype) == (torch.int64, torch.int64)
    return split.train.numpy(), split.test.numpy()


# --- The split -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [10, 20, 2008])
def test_without_groups_and_strata_the_split_is_the_documented_permutation(n_rows: int) -> None:
    (train, test), notices = split_rows(n_rows, 42)
    expected = torch.randperm(n_rows, generator=torch.Generator().manual_seed(42))
    assert torch.equal(torch.cat([train, test]), expected)
    assert len(test) == int(0.2 * n_rows)
    assert notices == []


def test_without_groups_and_strata_scikit_learn_is_not_imported() -> None:
    code = "import sys, dataset; from layersearch.table.splits import split_rows; split_rows(20, 1); "
    code += "sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("with_strata", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_no_group_is_on_both_sides_and_a_fifth_of_the_rows_tests(seed: int, with_strata: bool) -> None:
    groups = random_groups(seed)
    n_rows = len(groups.numbers)
    strata = marks(np.random.default_rng(seed).integers(0, 3, n_rows), "Level") if with_strata else None
    split, notices = split_rows(n_rows, seed, groups, strata)
    train, test = arrays(split)
    assert sorted([*train, *test]) == list(range(n_rows))
    assert not set(groups.numbers[train]) & set(groups.numbers[test])
    assert len(test) / n_rows == pytest.approx(0.2, abs=0.02)
    assert notices == []
    if strata is not None:
        assert shares(strata.numbers, test) == pytest.approx([0.2] * 3, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_strata_are_split_80_to_20_to_the_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = marks(rng.choice(4, 203, p=[0.6, 0.25, 0.1, 0.05]), "Level")
    train, test = arrays(split_rows(203, seed, strata=strata)[0])
    assert sorted([*train, *test]) == list(range(203))
    counts = np.bincount(strata.numbers)
    assert np.abs(np.bincount(strata.numbers[test]) - counts / 5).max() < 1


def global_states() -> list[str]:
    numpys = np.random.get_state()  # noqa: NPY002 - the global generator is what is looked at
    parts = [part.tolist() if isinstance(part, np.ndarray) else part for part in numpys]
    return [repr(state) for state in (parts, random.getstate(), torch.random.get_rng_state().tolist())]


def test_splits_depend_on_the_seed_alone() -> None:
    groups, strata = random_groups(1), marks(np.arange(len(random_groups(1).numbers)) % 2, "Level")

    def everything(seed: int) -> list[list[int]]:
        rows = []
        for given in ({"groups": groups}, {"strata": strata}, {"groups": groups, "strata": strata}, {}):
            split, _ = split_rows(len(groups.numbers), seed, **given)
            folds, _ = fold_rows(np.arange(len(groups.numbers)), 3, seed, **given)
            rows += [part.tolist() for pair in (split, *folds) for part in pair]
        return rows

    first = everything(7)
    np.random.seed(99)  # noqa: NPY002 - to show that the global generator does not matter
    states = global_states()
    assert everything(7) == first
    assert global_states() == states
    assert all(one != other for one, other in zip(first, everything(8), strict=True))


def test_split_with_groups_or_strata_has_ascending_rows() -> None:
    groups = random_groups(3)
    train, test = arrays(split_rows(len(groups.numbers), 3, groups)[0])
    assert train.tolist() == sorted(train)
    assert test.tolist() == sorted(test)


@pytest.mark.parametrize("seed", range(6))
def test_a_group_of_most_rows_trains_and_this_is_said(seed: int) -> None:
    groups = of_sizes(70, *[1] * 30)
    split, (notice,) = split_rows(100, seed, groups)
    assert 0 in split.train
    assert 2 <= len(split.test) <= 10
    share = f"{len(split.test):.1f}%"
    assert notice == f"{share} of the rows test instead of 20%, since the groups of 'School' are kept whole"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("sizes", "n_tests"),
    [([5] * 4, {10}), ([5] * 5, {10}), ([5] * 6, {10}), ([60, 38, 1, 1], {2, 39}), ([80, 10, 10], {20})],
)
def test_few_groups_leave_at_least_two_and_at_most_half_of_the_rows_to_test(
    sizes: list[int], n_tests: set[int], seed: int
) -> None:
    groups = of_sizes(*sizes)
    _, test = arrays(split_rows(sum(sizes), seed, groups)[0])
    assert len(set(groups.numbers[test])) == 2
    assert len(test) in n_tests


@pytest.mark.parametrize("sizes", [[10, 10], [30, 2], [5, 5, 5], [20, 15, 15]])
def test_too_few_groups_to_split_is_one_clear_line(sizes: list[int]) -> None:
    with pytest.raises(DataError) as caught:
        split_rows(sum(sizes), 42, of_sizes(*sizes))
    assert str(caught.value) == (
        f"--group_column 'School': its {len(sizes)} groups, of up to {max(sizes)} rows, cannot be split so that at"
        f" least 2 of them and at most half of the {sum(sizes)} rows test; choose a column with more groups or leave"
        " the flag out"
    )


def test_rare_strata_are_split_and_said_without_a_warning() -> None:
    strata = marks([0] * 30 + [1] * 30 + [2] * 3 + [3], "Level")
    split, notices = split_rows(64, 42, strata=strata)
    assert notices == ["fewer than 5 rows for 2 values of 'Level', so perhaps in no test row"]
    assert len(split.test) in (12, 13)
    assert split_rows(63, 42, strata=marks(strata.numbers[:63]))[1][0].startswith("fewer than 5 rows for 1 value of")
    near_unique = marks([0] * 5 + list(range(1, 20)), "Level")  # scikit-learn warns of these in other words
    assert split_rows(24, 42, strata=near_unique)[1]


def test_strata_that_are_all_rare_are_refused() -> None:
    with pytest.raises(DataError, match="--stratify_column 'Level': no value is in more than 4 rows, too few"):
        split_rows(40, 42, strata=marks(np.arange(40) // 4, "Level"))


# --- Folds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [(), ("groups",), ("strata",), ("groups", "strata")])
@pytest.mark.parametrize("seed", range(5))
def test_each_training_row_tests_in_one_fold_and_trains_in_the_others(given: tuple[str, ...], seed: int) -> None:
    groups = random_groups(seed)
    strata = marks(np.random.default_rng(seed).integers(0, 3, len(groups.numbers)), "Level")
    kept = {name: {"groups": groups, "strata": strata}[name] for name in given}
    outer, _ = split_rows(len(groups.numbers), seed, **kept)
    train = np.random.default_rng(seed).permutation(outer.train.numpy())
    folds, notices = fold_rows(train, 4, seed, **kept)
    assert notices == []
    assert len(folds) == 4
    assert sorted(torch.cat([fold.test for fold in folds]).tolist()) == sorted(train)
    place = {row: i for i, row in enumerate(train.tolist())}
    for fold in folds:
        rest, test = arrays(fold)
        assert sorted([*rest, *test]) == sorted(train)
        assert len(test) / len(train) == pytest.approx(0.25, abs=0.12 if "groups" in given else 0.01)
        for rows in (rest, test):
            assert rows.tolist() == sorted(rows.tolist(), key=place.__getitem__)  # the order of `train`
        if "groups" in given:
            assert not set(groups.numbers[rest]) & set(groups.numbers[test])
        if "strata" in given:
            expected = shares(strata.numbers, train) / 4
            assert shares(strata.numbers, test) == pytest.approx(expected, abs=0.1 if "groups" in given else 0.03)


def test_as_many_folds_as_groups_leave_one_group_out_each() -> None:
    groups = of_sizes(9, 4, 1, 6)
    folds, _ = fold_rows(np.arange(20), 4, 42, groups)
    assert sorted(len(fold.test) for fold in folds) == [1, 4, 6, 9]


@pytest.mark.parametrize("seed", range(6))
def test_no_fold_is_empty_where_each_group_is_a_stratum_of_its_own(seed: int) -> None:
    """Here scikit-learn's StratifiedGroupKFold puts two groups into a fold and none into another."""
    groups = of_sizes(9, 11, 13, 6, 8)
    folds, notices = fold_rows(np.arange(47), 5, seed, groups, Marks("Level", groups.numbers))
    assert sorted(len(fold.test) for fold in folds) == [6, 8, 9, 11, 13]
    assert notices in ([], ["the folds do not keep the shares of 'Level': too few groups of 'School'"])


def test_strata_rarer_than_the_folds_are_said() -> None:
    strata = marks([0] * 2 + [1] * 20 + [2] * 6, "Level")
    assert fold_rows(np.arange(28), 6, 1, strata=strata)[1] == [
        "fewer than 6 training rows for 1 value of 'Level', so not in every fold"
    ]
    assert fold_rows(np.arange(2, 28), 6, 1, strata=strata)[1] == []  # the first is not among the training rows


@pytest.mark.parametrize(
    ("k", "groups", "strata", "complaint"),
    [
        (17, None, None, "17: more folds than rows in the training part (16); give at most --cv_folds 16"),
        (5, of_sizes(8, 4, 2, 2, 4), None, "5: more folds than groups of 'School' in the training part (4); give at"),
        (2, of_sizes(16, 4), None, "2: more folds than groups of 'School' in the training part (1); leave the flag"),
        (
            5,
            None,
            of_sizes(4, 4, 4, 4, 4),
            "5: more folds than rows of the most frequent 'School' in the training",
        ),
    ],
)
def test_more_folds_than_can_be_filled_is_one_clear_line(
    k: int, groups: Marks | None, strata: Marks | None, complaint: str
) -> None:
    with pytest.raises(DataError) as caught:
        fold_rows(np.arange(16), k, 42, groups, strata)
    assert f"--cv_folds {complaint}" in str(caught.value)
    assert "\n" not in str(caught.value)
    fold_rows(np.arange(16), 4 if k == 5 else 2, 42, None if k == 2 else groups, strata)


# --- The validation set -----------------------------------------------------------------


def validation_parts(
    train: np.ndarray, fraction: float, seed: int = 1, groups: Marks | None = None, strata: Marks | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns both parts, after checking that they are the rows `train`, each once, in their order."""
    rest, apart = validation_rows(train, fraction, seed, groups, strata)
    assert rest.dtype == apart.dtype == np.int64
    assert len(rest)
    assert len(apart)
    is_apart = np.isin(train, apart)
    assert rest.tolist() == train[~is_apart].tolist()
    assert apart.tolist() == train[is_apart].tolist()
    return rest, apart


@pytest.mark.parametrize(("fraction", "n"), [(0.1, 20), (0.25, 50), (0.5, 100), (0.9, 180), (1e-6, 1), (0.999999, 199)])
def test_so_large_a_fraction_of_the_training_rows_is_set_apart(fraction: float, n: int) -> None:
    train = np.random.default_rng(0).permutation(300)[:200]
    _, apart = validation_parts(train, fraction)
    assert len(apart) == n


@pytest.mark.parametrize("n_rows", [2, 3, 9])
def test_of_the_fewest_rows_one_is_set_apart(n_rows: int) -> None:
    assert len(validation_parts(np.arange(n_rows) * 7, 0.1)[1]) == 1


@pytest.mark.parametrize("with_strata", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_validation_rows_share_no_group_with_those_that_train(seed: int, with_strata: bool) -> None:
    groups = random_groups(seed)
    n_rows = len(groups.numbers)
    strata = marks(np.random.default_rng(seed).integers(0, 3, n_rows), "Level") if with_strata else None
    train = split_rows(n_rows, seed, groups, strata)[0].train.numpy()
    rest, apart = validation_parts(train, 0.1, seed, groups, strata)
    assert not set(groups.numbers[rest]) & set(groups.numbers[apart])
    assert len(apart) / len(train) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
def test_validation_rows_keep_the_shares_of_the_strata(fraction: float) -> None:
    strata = marks(np.random.default_rng(2).choice(3, 400, p=[0.6, 0.3, 0.1]), "Level")
    train = np.random.default_rng(3).permutation(400)[:320]
    _, apart = validation_parts(train, fraction, strata=strata)
    counts = np.bincount(strata.numbers[train])
    assert np.bincount(strata.numbers[apart]) == pytest.approx(fraction * counts, abs=0.02 * len(train))
    assert len(apart) == pytest.approx(fraction * len(train), abs=0.01 * len(train))


@pytest.mark.parametrize(("fraction", "n_groups"), [(0.1, 1), (0.3, 3), (0.4, 4), (0.7, 7), (0.99, 9)])
def test_of_groups_of_one_size_so_many_are_set_apart(fraction: float, n_groups: int) -> None:
    _, apart = validation_parts(np.arange(50), fraction, groups=of_sizes(*[5] * 10))
    assert len(apart) == 5 * n_groups


def test_strata_too_small_to_share_out_are_passed_over() -> None:
    strata = marks(np.arange(40) // 2, "Level")
    for fraction, n in [(0.1, 4), (1e-6, 1), (0.999999, 39)]:
        assert len(validation_parts(np.arange(40), fraction, strata=strata)[1]) == n


def test_of_two_groups_one_is_set_apart_and_of_one_none_can_be() -> None:
    assert len(validation_parts(np.arange(40), 0.1, groups=of_sizes(36, 4))[1]) == 4
    with pytest.raises(DataError, match=r"^--patience: a single group of 'School' leaves no rows to validate on$"):
        validation_rows(np.arange(10), 0.1, 1, of_sizes(10, 10))


def test_validation_rows_depend_on_the_seed_alone() -> None:
    groups = random_groups(1)
    strata = marks(np.arange(len(groups.numbers)) % 2, "Level")
    train = np.arange(0, len(groups.numbers), 2)
    for given in ({}, {"groups": groups}, {"strata": strata}, {"groups": groups, "strata": strata}):
        first = validation_parts(train, 0.1, 7, **given)[1]
        states = global_states()
        assert validation_parts(train, 0.1, 7, **given)[1].tolist() == first.tolist()
        assert global_states() == states
        assert validation_parts(train, 0.1, 8, **given)[1].tolist() != first.tolist()


# --- From cells to groups --------------------------------------------------------------------------


def numbers_of(cells: Sequence[object], *, strata: bool = False) -> list[int]:
    frame = pd.DataFrame({"a": pd.Series(list(cells), dtype=object)})
    groups_and_strata = mark_rows(frame, None, "a", "t.csv") if strata else mark_rows(frame, "a", None, "t.csv")
    found = groups_and_strata[strata]
    assert found is not None
    assert found.numbers.dtype == np.int64
    assert found.n_values == len(set(found.numbers))
    return [int(number) for number in found.numbers]


def test_groups_are_numbered_as_they_first_appear() -> None:
    assert numbers_of(["b", "a", "b", "c"]) == [0, 1, 0, 2]
    assert numbers_of([7.5, -1, 7.5]) == [0, 1, 0]


def test_one_id_in_several_spellings_is_one_group() -> None:
    assert numbers_of(["8", "8.0", 8, 8.0, " 8", "8.00", "A"]) == [0, 0, 0, 0, 0, 0, 1]
    assert numbers_of(["Ann  Lee", "Ann Lee ", "ann lee"]) == [0, 0, 1]
    assert numbers_of(["08", "8", "8.5", "8.50", "8.5"]) == [0, 1, 2, 3, 2]


def test_rows_without_a_value_are_groups_of_one_but_a_stratum_together() -> None:
    cells = ["a", np.nan, "a", None, "", "  ", "b"]
    assert numbers_of(cells) == [0, 1, 0, 2, 3, 4, 5]
    assert numbers_of(cells, strata=True) == [0, 1, 0, 1, 1, 1, 2]
    assert numbers_of([1.0, np.nan, 1.0]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("cells", "columns", "complaint"),
    [
        ([1, 1, 1.0], ("a", None), "--group_column 'a': all 3 rows have the same value, so there are no groups to"),
        ([1, 2, None], ("a", None), "--group_column 'a': no two of the 3 rows share a value, so there are no groups"),
        ([None, None], ("a", None), "--group_column 'a': no two of the 2 rows share a value"),
        ([1, 1, 1.0], (None, "a"), "--stratify_column 'a': all 3 rows have the same value, so there are no shares"),
        ([None, None], (None, "a"), "--stratify_column 'a': all 2 rows have the same value"),
        ([1, 2, None], (None, "a"), "--stratify_column 'a': no two of the 3 rows share a value"),
        ([1, 1, 2], ("a", "a"), "'a' is both --group_column and --stratify_column"),
    ],
)
def test_a_column_that_cannot_group_or_stratify_is_one_clear_line(
    cells: list[object], columns: tuple[str | None, str | None], complaint: str
) -> None:
    with pytest.raises(DataError) as caught:
        mark_rows(pd.DataFrame({"a": pd.Series(cells, dtype=object)}), *columns, "t.csv")
    assert str(caught.value).startswith(f"t.csv: {complaint}")
    assert "\n" not in str(caught.value)


# --- The leak --------------------------------------------------------------------------------------


def test_a_leak_is_told_with_the_flag_that_closes_it() -> None:
    assert leak_notice(pd.DataFrame({"Teacher_ID": ["a", "b", "a", None, "c"]})) == (
        "rows share 'Teacher_ID' (3 values in 4 rows), so rows of the same teacher train and test and the losses look"
        ' better than they are for new ones; to keep them apart: --group_column "Teacher_ID"'
    )
    assert "of the same value train" in str(leak_notice(pd.DataFrame({"ID": [1, 1, 2, 3, 4]})))


def test_no_leak_is_told_where_no_id_repeats_or_a_group_column_would_not_help() -> None:
    assert leak_notice(pd.DataFrame(index=range(5))) is None
    assert leak_notice(pd.DataFrame({"ID": range(5)})) is None
    assert leak_notice(pd.DataFrame({"ID": [1, 2, 3, None, None]})) is None
    assert leak_notice(pd.DataFrame({"ID": [1] * 5})) is None
    assert leak_notice(pd.DataFrame({"ID": [1, 2, 3] * 4})) is None


def test_of_several_ids_the_one_that_most_rows_share_is_told_then_the_coarsest() -> None:
    frame = pd.DataFrame({"Class ID": range(12), "Course ID": np.arange(12) // 2, "Teacher ID": np.arange(12) // 3})
    assert "'Teacher ID' (4 values" in str(leak_notice(frame))
    few_teachers = pd.Series([0, 0, 1, 2, 3])  # the other rows have none
    assert "'Course ID' (6 values" in str(leak_notice(frame.assign(**{"Teacher ID": few_teachers})))
    nearly_unique = frame.assign(**{"Class ID": [0, *range(11)]})  # a typing error, and more rows with a value
    nearly_unique.loc[11, ["Course ID", "Teacher ID"]] = np.nan
    assert "'Teacher ID' (4 values in 11 rows" in str(leak_notice(nearly_unique))


@pytest.mark.parametrize("name", ["School ID", 'the "ID', "$ID", "`x` ID", "it's ID", "a\\ID", "go! ID"])
def test_the_flag_of_the_notice_can_be_pasted_into_a_shell(name: str) -> None:
    notice = leak_notice(pd.DataFrame({name: [1, 1, 2, 3, 4]}))
    assert notice is not None
    pasted = notice.split("to keep them apart: ")[1]
    assert shlex.split(pasted) == ["--group_column", name]
    if not set(name) & set('"$`\\!'):
        assert pasted == f'--group_column "{name}"'  # cmd knows no single quotes
