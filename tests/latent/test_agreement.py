"""Agreement with labels follows the definitions of the measures, and so do its intervals and the clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pictures import NOTE, assert_readable, words_in
from sklearn.metrics import adjusted_rand_score, silhouette_score

from layersearch.latent import agreement
from layersearch.latent.agreement import Clusters, LabelError, choose_rows, measure, prefer_clusters
from layersearch.pictures.latent.agreement import draw_agreement

N = 120
_rng = np.random.default_rng(3)
GROUP = np.repeat([0, 1, 2], N // 3)
LABELS = pd.Series(np.array(["red", "green", "blue"])[GROUP], name="colour")
APART = np.array([[0, 0], [9, 0], [0, 9]])[GROUP] + _rng.normal(size=(N, 2))
NOISE = _rng.normal(size=(N, 2))
IS_TEST = np.arange(N) % 5 == 0
SIZES = {"latent": 2, "pca": 2, "columns": 24}


def compared(
    latent: np.ndarray = APART, pca: np.ndarray = NOISE, labels: Any = LABELS, groups: np.ndarray | None = None
) -> agreement.Agreement:
    chosen = choose_rows(labels, groups, most_columns=24, seed=1)
    spaces = {name: space[chosen.rows] for name, space in (("latent", latent), ("pca", pca), ("columns", latent))}
    return measure(chosen, spaces, IS_TEST[chosen.rows], confidence=0.95, seed=1)


@pytest.fixture(scope="module")
def found() -> agreement.Agreement:
    return compared()


def test_separate_labels_agree_with_the_space_and_noise_does_not(found: agreement.Agreement) -> None:
    assert found.values["knn_accuracy"]["latent"].value == 1
    assert found.values["adjusted_rand_index"]["latent"].value > 0.95
    assert found.values["silhouette"]["latent"].value > 0.6
    assert found.values["knn_accuracy"]["pca"].value < 0.5
    assert abs(found.values["adjusted_rand_index"]["pca"].value) < 0.1
    assert found.majority_share == pytest.approx(1 / 3)
    assert found.on_test_rows["latent"] == 1


def test_silhouette_and_rand_index_match_scikit_learn(found: agreement.Agreement) -> None:
    chosen = found.chosen
    assert found.values["silhouette"]["pca"].value == pytest.approx(silhouette_score(NOISE, GROUP), rel=1e-6)
    cluster = agreement._mixture_components(NOISE, chosen, 1)
    exact = adjusted_rand_score(GROUP, cluster)
    assert found.values["adjusted_rand_index"]["pca"].value == pytest.approx(exact, abs=1e-9)


def test_the_rand_index_of_drawn_rows_counts_pairs_of_different_rows() -> None:
    chosen = choose_rows(LABELS, None, most_columns=2, seed=0)
    cluster, weights = np.arange(N) % 3, np.random.default_rng(0).integers(0, 4, (5, N)).astype(np.float32)
    same_label, same_cluster = (np.equal.outer(x, x) for x in (chosen.label, cluster))
    for drawn, index in zip(weights.astype(float), agreement._rand_indices(chosen, cluster, weights), strict=True):
        pairs = np.triu(np.outer(drawn, drawn), k=1)
        by_label, by_cluster = (pairs * same_label).sum(), (pairs * same_cluster).sum()
        expected = by_label * by_cluster / pairs.sum()
        exact = ((pairs * same_label * same_cluster).sum() - expected) / ((by_label + by_cluster) / 2 - expected)
        assert index == pytest.approx(exact, abs=1e-9)


def test_intervals_contain_the_value_and_differences_are_paired(found: agreement.Agreement) -> None:
    for name in agreement.MEASURES:
        low, high = found.values[name]["pca"].interval or (np.nan, np.nan)
        assert low < found.values[name]["pca"].value < high
        difference = found.differences[name]
        expected = found.values[name]["latent"].value - found.values[name]["pca"].value
        assert difference.value == pytest.approx(expected)
        assert difference.interval is not None
        assert difference.interval[0] > 0
    same = compared(NOISE, NOISE).differences["knn_accuracy"]
    assert (same.value, same.interval) == (0, (0, 0)), "the same space on the same draws"


def test_the_same_seed_gives_the_same_numbers(found: agreement.Agreement) -> None:
    assert compared().entry() == found.entry()


def test_groups_stay_in_one_fold_and_are_resampled_whole() -> None:
    """Rows of a group are alike and share a random label, so only a neighbour from the same group could predict it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 5)
    label = pd.Series(np.repeat(rng.permutation([0, 1] * 12), 5), name="x")
    space = np.repeat(rng.normal(size=(24, 2)) * 50, 5, axis=0) + rng.normal(size=(N, 2))
    torn, whole = (compared(space, space, label, given) for given in (None, groups))
    assert torn.values["knn_accuracy"]["latent"].value > 0.55
    assert whole.values["knn_accuracy"]["latent"].value < torn.values["knn_accuracy"]["latent"].value
    widths = []
    for result in (torn, whole):
        low, high = result.values["silhouette"]["latent"].interval or (0, 0)
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]
    folds = list(agreement._folds(whole.chosen, 1))
    assert all(set(groups[train]).isdisjoint(groups[scored]) for train, scored in folds)
    assert whole.entry()["resampled"] == "groups"


def test_rare_and_missing_labels_are_left_out_and_counted() -> None:
    labels = LABELS.astype(object).copy()
    labels[:4], labels[4:7] = "rare", None
    found = compared(labels=labels)
    assert found.chosen.names == ["blue", "green", "red"]
    assert (len(found.chosen.rows), found.chosen.n_rare) == (N - 7, 4)
    assert found.entry()["labels"] == {"blue": 40, "green": 40, "red": 33}
    assert "Without 4 rows of labels that fewer than 5 have" in words_in(draw_agreement(found, SIZES, title="x"))


def test_neighbours_and_folds_are_as_many_as_the_smallest_label_allows() -> None:
    found = compared(labels=pd.Series(np.where(np.arange(N) < 6, "few", "many"), name="x"))
    assert (found.neighbours, found.folds) == (6, 5)
    assert found.entry()["neighbours"] == 6


@pytest.mark.parametrize(
    ("labels", "groups", "words"),
    [
        (np.zeros(N), None, "fewer than two values of 'x' have 5 rows or more"),
        (np.arange(N), None, "fewer than two values of 'x' have 5 rows or more"),
        (
            np.arange(N) // 5,
            None,
            "24 values of 'x' have 5 rows or more; more than 20 such",
        ),
        (np.arange(N) % 2, np.zeros(N, int), "all rows with a value of 'x' are one group"),
    ],
    ids=["one", "all different", "identifiers", "one group"],
)
def test_labels_that_cannot_be_compared_are_refused(labels: np.ndarray, groups: Any, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        choose_rows(pd.Series(labels, name="x"), groups, most_columns=2, seed=0)


def test_large_tables_are_sampled_at_random() -> None:
    labels = pd.Series(np.arange(20_000) % 3, name="x")
    assert len(choose_rows(labels, None, most_columns=24, seed=0).rows) == 5_000
    assert len(choose_rows(labels, None, most_columns=1_000, seed=0).rows) == 2_500
    few, other = (choose_rows(labels, None, most_columns=10**6, seed=seed) for seed in (0, 1))
    assert len(few.rows) == 500
    assert few.rows.tolist() != other.rows.tolist()


@pytest.mark.parametrize("columns", [1, 2, 50])
def test_ten_rows_and_collapsed_spaces_can_be_compared_and_drawn(columns: int) -> None:
    labels = pd.Series([0, 1] * 5, name="a label with a rather long name, longer than any picture is wide " * 2)
    space = np.random.default_rng(0).normal(size=(10, columns))
    for given in (space, np.zeros_like(space)):
        found = compared(given, given, labels)
        figure = draw_agreement(found, SIZES, title="Agreement with a label", note=NOTE)
        assert_readable(figure)
        assert np.isfinite([x.value for of in found.values.values() for x in of.values()]).all()


def test_the_picture_says_what_was_measured(found: agreement.Agreement) -> None:
    figure = draw_agreement(found, SIZES, title="Agreement with colour", note=NOTE)
    assert_readable(figure)
    words = words_in(figure)
    assert "k = 15" in words
    assert "Columns (24)" in words
    assert f"{found.differences['silhouette'].value:+.3f} [" in words


# --- Clusters, without labels ----------------------------------------------------------------------


def test_the_number_of_clusters_is_found_and_the_largest_comes_first() -> None:
    sizes = np.bincount(prefer_clusters(APART, seed=0).assignment)
    assert len(sizes) == 3
    uneven = np.concatenate([APART[:40], APART[40:60], APART[80:110]])
    found = prefer_clusters(uneven, seed=0)
    assert np.bincount(found.assignment).tolist() == [40, 30, 20]
    assert found.entry()["preferred"] == 3
    assert found.entry()["at_least"] is False


def test_if_the_largest_number_of_clusters_is_best_there_may_be_more() -> None:
    cells = np.arange(30) % 3
    most, fewer, one = (Clusters(bic, cells, 30).entry() for bic in ([3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [3.0]))
    assert [(found["preferred"], found["at_least"]) for found in (most, fewer, one)] == [
        (3, True),
        (2, False),
        (1, False),
    ]


def test_noise_and_identical_rows_are_one_cluster() -> None:
    assert prefer_clusters(NOISE, seed=0).preferred == 1
    for codes in (np.ones((50, 3)), np.random.default_rng(0).normal(size=(10, 40))):
        found = prefer_clusters(codes, seed=0)
        assert (found.preferred, found.entry()["at_least"]) == (1, False)


def test_of_many_rows_a_sample_is_fitted_and_all_are_assigned() -> None:
    codes = np.random.default_rng(0).normal(size=(6_000, 1)) + 20 * (np.arange(6_000) % 2)[:, None]
    found = prefer_clusters(codes, seed=0)
    assert (found.n_fitted, len(found.assignment), found.preferred) == (5_000, 6_000, 2)


@pytest.mark.parametrize(("n_columns", "starts"), [(3, 10), (24, 2)])
def test_the_likeliest_of_several_starts_is_taken_and_fewer_in_many_dimensions(
    n_columns: int, starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    fit = agreement._fit_mixture

    def note(ready: np.ndarray, n_components: int, seed: int, starts: int = 1) -> object:
        taken.append(starts)
        return fit(ready[:50], n_components, seed)

    monkeypatch.setattr(agreement, "_fit_mixture", note)
    labels = pd.Series(np.arange(2000) % 7, name="x")
    chosen = choose_rows(labels, None, most_columns=n_columns, seed=0)
    agreement._mixture_components(np.random.default_rng(0).standard_normal((2000, n_columns)), chosen, 0)
    assert taken == [starts]
