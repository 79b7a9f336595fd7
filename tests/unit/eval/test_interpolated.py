"""Does the interpolated duplicate trust its cells only where they are sure?"""

from types import SimpleNamespace

import numpy as np
from scipy.stats import false_discovery_control, ttest_ind

from perturbfm.eval.interpolated import interpolated


def _half(cells, controls):
    """A half of one condition in one batch, with the moments a truth would have."""
    own = cells.var(0, ddof=1) / len(cells)
    control = controls.var(0, ddof=1) / len(controls)
    shown = SimpleNamespace(noise_kg=control[None], n_k=np.array([float(len(controls))]))
    return SimpleNamespace(
        own_noise_cg=own[None], weight_ck=np.ones((1, 1)), n_c=np.array([len(cells)]), input=shown
    ), (cells.mean(0) - controls.mean(0))[None]


def test_alpha_is_one_minus_the_adjusted_p_of_scipys_welch_test():
    rng = np.random.default_rng(0)
    cells, controls = rng.normal(rng.normal(0, 0.5, 30), 1, (25, 30)), rng.normal(0, 1, (60, 30))
    half, delta = _half(cells, controls)
    base = rng.normal(size=(1, 30))
    alpha = 1 - false_discovery_control(ttest_ind(cells, controls, equal_var=False).pvalue)
    np.testing.assert_allclose(interpolated(half, delta, base)[0], alpha * delta[0] + (1 - alpha) * base[0], rtol=1e-9)


def test_a_sure_gene_is_the_duplicates_and_a_blank_one_the_train_means():
    cells = np.column_stack([np.full(20, 3.0), np.zeros(20)])
    controls = np.zeros((20, 2))
    half, delta = _half(cells, controls)
    np.testing.assert_array_equal(interpolated(half, delta, np.array([[9.0, 9.0]])), [[3.0, 9.0]])
