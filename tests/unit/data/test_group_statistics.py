"""One pass, in chunks: the statistics are those of all rows at once, in any order, also far from zero."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbfm.data import group_statistics as module
from perturbfm.data.controls import group_means
from perturbfm.data.group_statistics import GroupStatistics, group_statistics

KINDS = [np.asarray, sparse.csr_matrix]


def world(seed=0, n=300, genes=6, groups=4, offset=0.0):
    rng = np.random.default_rng(seed)
    x = (rng.poisson(1.0, (n, genes)) * rng.random((n, genes)) + offset).astype(np.float32)
    return x, rng.integers(0, groups, n)


def at_once(x, group, groups):
    parts = [x[group == k].astype(np.float64) for k in range(groups)]
    return np.array([p.mean(0) for p in parts]), np.array([((p - p.mean(0)) ** 2).sum(0) for p in parts])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 7, 300, 8192])
def test_chunks_give_what_all_rows_at_once_give(monkeypatch, kind, chunk):
    monkeypatch.setattr(module, "rows_at_once", lambda genes: chunk)
    x, group = world()
    found = group_statistics(kind(x), group, 4)
    mean, scatter = at_once(x, group, 4)
    np.testing.assert_array_equal(found.n_k, np.bincount(group))
    np.testing.assert_allclose(found.mean_kg, mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.scatter_kg, scatter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(kind, seed):
    x, group = world(seed)
    order = np.random.default_rng(seed).permutation(len(x))
    found = []
    for rows in (np.arange(len(x)), order):
        statistics = GroupStatistics(4, x.shape[1])
        for part in np.array_split(rows, 9):
            statistics.add(kind(x)[part], group[part])
        found.append(statistics)
    for name in ("n_k", "mean_kg", "scatter_kg"):
        np.testing.assert_allclose(getattr(found[0], name), getattr(found[1], name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_offset_does_not_eat_the_variance(monkeypatch, kind):
    """Sums of squares would leave an error of the size of the variance here: 1e8 squared has 16 digits."""
    monkeypatch.setattr(module, "rows_at_once", lambda genes: 50)
    x, group = world(offset=1e6)
    found = group_statistics(kind(x), group, 4)
    _, scatter = at_once(x, group, 4)
    np.testing.assert_allclose(found.scatter_kg, scatter, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_some_rows_of_a_matrix_and_groups_without_rows(monkeypatch, kind):
    monkeypatch.setattr(module, "rows_at_once", lambda genes: 13)
    x, group = world()
    rows = np.flatnonzero(group != 2)[::2]
    found = group_statistics(kind(x), group[rows], 5, rows)
    same = group_statistics(kind(x[rows]), group[rows], 5)
    for name in ("n_k", "mean_kg", "scatter_kg"):
        np.testing.assert_array_equal(getattr(found, name), getattr(same, name))
        assert not getattr(found, name)[[2, 4]].any()


def test_groups_of_groups_are_the_groups_of_their_rows():
    x, group = world(groups=6)
    of = np.array([0, 1, 1, 0, 2, 1])
    merged = group_statistics(sparse.csr_matrix(x), group, 6).merged(of, 3)
    whole = group_statistics(sparse.csr_matrix(x), of[group], 3)
    np.testing.assert_array_equal(merged.n_k, whole.n_k)
    np.testing.assert_allclose(merged.mean_kg, whole.mean_kg, rtol=1e-12)
    np.testing.assert_allclose(merged.scatter_kg, whole.scatter_kg, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [5, 8192])
def test_means_alone(monkeypatch, kind, chunk):
    monkeypatch.setattr("perturbfm.data.controls.rows_at_once", lambda genes: chunk)
    x, group = world()
    rows = np.arange(0, 300, 3)
    np.testing.assert_allclose(
        group_means(kind(x), group[rows], 4, rows), at_once(x[rows], group[rows], 4)[0], rtol=1e-12, atol=1e-14
    )


def test_a_chunk_is_bounded_by_its_entries():
    assert [module.rows_at_once(g) for g in (10, 2000, 18_000, 10**7)] == [8192, 4000, 444, 64]
