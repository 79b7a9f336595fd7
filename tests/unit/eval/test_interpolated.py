"""Does the interpolated duplicate trust its cells only where they are sure?"""

import numpy as np
from scipy.stats import false_discovery_control, t

from perturbfm.eval.interpolated import interpolated
from perturbfm.eval.truth import Truth
from perturbfm.types import Observed


def _words(n, word=""):
    return np.full(n, word, dtype=object)


def _truth(groups, contexts, controls):
    """Conditions of some contexts in one batch; input and reference controls are the same cells."""
    x, n = np.concatenate(groups), [len(g) for g in groups]
    shown = np.concatenate(list(controls.values()))
    shown_k = np.concatenate([_words(len(c), k) for k, c in controls.items()])
    return Truth(
        Observed(
            idx_n=np.arange(len(x)),
            x_ng=x,
            intervention_n=np.repeat([f"p{i}@other" for i in range(len(groups))], n).astype(object),
            context_n=np.repeat(contexts, n).astype(object),
            batch_n=_words(len(x)),
            input_mg=shown,
            input_context_m=shown_k,
            input_batch_m=_words(len(shown)),
            reference_rg=shown,
            reference_context_r=shown_k,
            reference_batch_r=_words(len(shown)),
            genes_g=tuple(f"g{i}" for i in range(x.shape[1])),
            scale="log1p",
            unit="cells",
            controls="cells",
            match_batch=False,
            fold="test",
        )
    )


def test_alpha_is_one_minus_the_adjusted_p_against_the_other_cells_of_the_context():
    rng = np.random.default_rng(0)
    groups = [rng.normal(rng.normal(0, 0.5, 8), 1, (n, 8)) for n in (12, 15, 9)]
    controls = {"u": rng.normal(0, 1, (20, 8)), "v": rng.normal(0, 1, (11, 8))}
    truth = _truth(groups, ["u", "u", "v"], controls)
    delta, base = rng.normal(size=(2, 3, 8))
    found = interpolated(truth, delta, base)
    rests = [np.concatenate([groups[1], controls["u"]]), np.concatenate([groups[0], controls["u"]]), controls["v"]]
    for c, (x, rest) in enumerate(zip(groups, rests, strict=True)):
        n, a, b = len(x), x.var(0, ddof=1) / len(x), rest.var(0, ddof=1) / len(x)
        free = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (n - 1))
        p = 2 * t.sf(np.abs(x.mean(0) - rest.mean(0)) / np.sqrt(a + b), free)
        alpha = 1 - false_discovery_control(p)
        np.testing.assert_allclose(found[c], alpha * delta[c] + (1 - alpha) * base[c], rtol=1e-8)


def test_a_sure_gene_is_the_duplicates_and_a_blank_one_the_train_means():
    truth = _truth([np.column_stack([np.full(20, 3.0), np.zeros(20)])], ["u"], {"u": np.zeros((20, 2))})
    found = interpolated(truth, np.array([[3.0, 0.0]]), np.array([[9.0, 9.0]]))
    np.testing.assert_array_equal(found, [[3.0, 9.0]])
