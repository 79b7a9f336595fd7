"""Do suites see the cells that are there, and moments that are theirs?"""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import ttest_ind

from perturbfm.eval.comparison import Comparison, Side, moments_of
from perturbfm.eval.metric.welch import against_control, against_rest


def _cells(seed: int, n: int, g: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(1.0, (n, g)) * rng.random((n, g))


def _side(groups, controls, form=np.asarray) -> Side:
    return Side(lambda c: form(groups[c]), lambda k: form(controls[k]), len(groups), len(controls))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_moments_are_numpys_whatever_the_form_of_the_matrix(form):
    groups = [_cells(1, 9), _cells(2, 1), _cells(3, 30)]
    found = moments_of(lambda c: form(groups[c]), 3)
    for r, x in enumerate(groups):
        assert found.n_r[r] == len(x)
        np.testing.assert_allclose(found.mean_rg[r], x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(found.var_rg[r], x.var(0), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found.nonzero_rg[r], (x != 0).mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.unbiased_rg[2], groups[2].var(0, ddof=1), rtol=1e-12)
    assert (found.unbiased_rg[1] == 0).all()


def test_a_stored_zero_counts_as_zero():
    x = sparse.csr_matrix((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2))
    assert moments_of(lambda _: x, 1).nonzero_rg.tolist() == [[0.0, 1.0]]


def test_welch_is_scipys():
    groups, controls = [_cells(1, 9), _cells(3, 30)], [_cells(4, 20)]
    found = against_control(_side(groups, controls), np.array([0, 0]))
    for c, x in enumerate(groups):
        known = ttest_ind(x, controls[0], equal_var=False)
        np.testing.assert_allclose(found.t_rg[c], known.statistic, rtol=1e-10)
        np.testing.assert_allclose(found.p_rg[c], known.pvalue, rtol=1e-10)


def test_the_overestimating_variance_divides_both_by_the_groups_own_number():
    group, control = _cells(1, 9), _cells(4, 20)
    found = against_control(_side([group], [control]), np.array([0]), overestimate=True)
    expected = (group.mean(0) - control.mean(0)) / np.sqrt(group.var(0, ddof=1) / 9 + control.var(0, ddof=1) / 9)
    np.testing.assert_allclose(found.t_rg[0], expected, rtol=1e-10)


def test_rest_is_every_other_group():
    groups = [_cells(s, n) for s, n in ((1, 9), (2, 12), (3, 30))]
    found = against_rest(moments_of(lambda c: groups[c], 3), np.arange(3))
    for c in range(3):
        rest = np.concatenate([x for i, x in enumerate(groups) if i != c])
        known = ttest_ind(groups[c], rest, equal_var=False)
        np.testing.assert_allclose(found.t_rg[c], known.statistic, rtol=1e-9)


def test_genes_without_spread_score_zero_when_means_agree_and_infinity_when_not():
    group, control = np.array([[1.0, 2.0]] * 3), np.array([[1.0, 1.0]] * 3)
    found = against_control(_side([group], [control]), np.array([0]))
    assert found.t_rg.tolist() == [[0.0, np.inf]]
    assert found.p_rg[0, 0] == 1.0


def test_shared_work_is_done_once_per_side_and_per_comparison():
    side = _side([_cells(1, 3)], [_cells(2, 3)])
    pair = Comparison(("k",), np.array([0]), np.array(["A"]), tuple("abcdef"), side, side)
    asked = []
    for holder in (side, pair):
        assert [holder.once("x", lambda: asked.append(1) or 7) for _ in range(2)] == [7, 7]
    assert len(asked) == 2
