"""Is a copy found although it is rounded, and nothing else taken for one?"""

import numpy as np
from scipy import sparse

from perturbfm.external.copies import copies_of, detailed, distinct, nearness


def sparse_rows(n, seed):
    """Log-normalised counts with many zeros, as panels of 500 genes are."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, size=(n, 400))
    return sparse.csr_matrix(np.log1p(counts / counts.sum(1, keepdims=True) * 1e4).astype(np.float32))


def test_copies_are_found_by_their_row_and_others_are_not():
    pool = sparse_rows(300, 0)
    others = sparse_rows(100, 1)
    taken = np.array([5, 17, 299, 5])
    rows = sparse.vstack([others, pool[taken]], format="csr")
    rounded = sparse.csr_matrix(np.round(rows.toarray(), 3))
    for x, y in ((rows, pool), (rounded, pool), (rows.toarray(), pool.toarray())):
        found = copies_of(x, y)
        np.testing.assert_array_equal(found, [*[-1] * 100, *taken])


def test_a_row_that_differs_on_one_gene_is_no_copy():
    pool = sparse_rows(50, 0)
    rows = pool.toarray()
    rows[:, 7] += 0.002
    assert (copies_of(rows, pool) == -1).all()


def test_nothing_is_a_copy_of_nothing():
    pool = sparse_rows(3, 0)
    assert len(copies_of(pool[:0], pool)) == 0
    np.testing.assert_array_equal(copies_of(pool, pool[:0]), [-1, -1, -1])


def test_rows_are_counted_once_within_their_group():
    x = sparse_rows(4, 0)
    rows = sparse.vstack([x, x[:2], x[:1]], format="csr")
    group = np.array([0, 0, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(distinct(rows, group, 3), [2, 3, 0])
    np.testing.assert_array_equal(distinct(rows.toarray(), group, 3), [2, 3, 0])
    np.testing.assert_array_equal(distinct(rows, np.where(group == 0, -1, 0), 1), [3])


def test_jittered_copies_are_near_and_another_sample_is_not():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(300, 400))
    assert nearness(true[:50] + 0.1 * rng.normal(size=(50, 400)), true) < 0.2
    assert 0.95 < nearness(rng.normal(size=(50, 400)), true) < 1.05
    assert 0.65 < nearness(np.zeros((5, 400)), true) < 0.75  # 1 / sqrt(2) in many dimensions
    assert np.isnan(nearness(true[:2], np.ones((4, 400))))


def test_equality_of_nearly_empty_rows_means_nothing():
    x = np.zeros((3, 10))
    x[1, :4], x[2, :5] = 1, 1
    np.testing.assert_array_equal(detailed(x), [False, False, True])
