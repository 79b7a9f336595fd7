"""Does the gate tell an effect from noise, by the right statistic?"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from perturbfm.errors import BadValue, MissingLabel, ShapeMismatch
from perturbfm.eval.gate import GateVerdict, effective_number, gate_context
from perturbfm.eval.permutation import detectable_conditions, panel_signal

ONE = ["one"]


def planted(n_conditions, cells, genes, size, *, seed=0, only=None):
    """Gaussian cells around one mean per condition, one batch; `only` plants an effect in that condition alone."""
    rng = np.random.default_rng(seed)
    effect = size * rng.normal(size=(n_conditions, genes))
    if only is not None:
        effect[np.arange(n_conditions) != only] = 0.0
    label = np.repeat([f"p{i:02d}" for i in range(n_conditions)], cells)
    return rng.normal(size=(len(label), genes)) + np.repeat(effect, cells, axis=0), label


def verdict_of(x, label, **changes) -> GateVerdict:
    zero = np.zeros((1, x.shape[1]))
    return gate_context(x, label, np.full(len(label), "one"), zero, zero, ONE, seed=0, **changes)


# --- the statistic ---------------------------------------------------------------------------------


def halved(x, label, batch, input_b, reference_b, rng):
    """S per condition and S_dc for one batch-stratified halving, cell by cell as the protocol says it."""
    names = np.unique(label)
    a_pg, b_pg = np.zeros((len(names), x.shape[1])), np.zeros((len(names), x.shape[1]))
    for p, name in enumerate(names):
        rows = [rng.permutation(np.flatnonzero((label == name) & (batch == b))) for b in range(len(input_b))]
        total = sum(map(len, rows))
        for b, row in enumerate(rows):
            if len(row):
                half, share = len(row) // 2, len(row) / total
                a_pg[p] += share * (x[row[:half]].mean(0) - input_b[b])
                b_pg[p] += share * (x[row[half:]].mean(0) - reference_b[b])
    s_dc = np.sum((a_pg - a_pg.mean(0)) * (b_pg - b_pg.mean(0)))
    return np.append(np.sum(a_pg * b_pg, axis=1), s_dc)


def test_closed_form_is_the_mean_over_halvings():
    rng = np.random.default_rng(0)
    label = np.repeat(np.array(["a", "b", "c"]), [13, 9, 12])
    batch = np.concatenate([np.repeat([0, 1], [8, 5]), np.repeat([0, 1], [6, 3]), np.repeat([1], [12])])
    x = rng.normal(size=(34, 4)) + (label == "a")[:, None] + batch[:, None]
    means = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    drawn = np.array([halved(x, label, batch, *means, rng) for _ in range(6000)])
    names, signal, s_dc = panel_signal(x, label, batch.astype(str), *means, ["0", "1"])
    assert names == ("a", "b", "c")
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - np.append(signal, s_dc)) < 3.5 * error).all()
    assert (error < 0.1 * drawn.std(axis=0)).all()


def test_all_halvings_of_four_cells_by_hand():
    x = np.array([[0.0], [1.0], [2.0], [5.0]])
    want = np.mean([x[i, 0] * x[j, 0] for i in range(4) for j in range(4) if i != j])
    zero = np.zeros((1, 1))
    _, signal, s_dc = panel_signal(x, np.full(4, "a"), np.full(4, "one"), zero, zero, ONE)
    assert signal[0] == pytest.approx(want)
    assert s_dc == 0.0


def test_signal_is_unbiased():
    values = []
    for seed in range(200):
        x, label = planted(4, 10, 20, 0.0, seed=seed)
        values.append(verdict_of(x, label, permutations=1).s_split)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)


def test_control_means_do_not_move_the_centred_signal_in_one_batch():
    x, label = planted(5, 12, 6, 1.0)
    batch, far = np.full(len(label), "one"), np.full((1, 6), 7.0)
    zero = np.zeros((1, 6))
    near = panel_signal(x, label, batch, zero, zero, ONE)
    away = panel_signal(x, label, batch, far, -far, ONE)
    assert near[2] == pytest.approx(away[2])
    assert near[1].sum() != pytest.approx(away[1].sum())


def test_sparse_and_dense_cells_give_the_same_verdict():
    x, label = planted(6, 12, 30, 0.7)
    for thin in (x * (x > 1.9), x * (x > 0)):
        dense, csr = (
            verdict_of(thin, label, permutations=50),
            verdict_of(sparse.csr_matrix(thin), label, permutations=50),
        )
        assert dense.p == csr.p
        assert dense.p_without_strongest == csr.p_without_strongest
        np.testing.assert_allclose(dense.signal_c, csr.signal_c, rtol=1e-10)


def test_batch_differences_alone_are_no_signal():
    rng = np.random.default_rng(0)
    label = np.repeat([f"p{i}" for i in range(12)], 30)
    batch = (rng.random(len(label)) < np.repeat(np.linspace(0.1, 0.9, 12), 30)).astype(int)
    x = rng.normal(size=(len(label), 20)) + 3.0 * batch[:, None]
    control = np.array([np.zeros(20), np.full(20, 3.0)])
    matched = gate_context(x, label, batch.astype(str), control, control, ["0", "1"], permutations=200, seed=0)
    blind = verdict_of(x, label, permutations=200)
    assert matched.verdict == "no_signal"
    assert blind.verdict == "powered"


# --- verdicts --------------------------------------------------------------------------------------


def test_planted_effects_are_powered():
    verdict = verdict_of(*planted(12, 20, 50, 0.5), permutations=500)
    assert verdict.verdict == "powered"
    assert verdict.p == pytest.approx(1 / 501)
    assert verdict.s_dc > 0
    assert verdict.reason.startswith("12 conditions differ (p = 0.002)")


def test_nine_conditions_are_weak_however_strong():
    verdict = verdict_of(*planted(9, 20, 50, 0.5), permutations=200)
    assert verdict.verdict == "weak"
    assert "9 conditions, 10 needed" in verdict.reason


def test_one_strong_condition_is_weak():
    verdict = verdict_of(*planted(12, 20, 50, 1.0, only=4), permutations=200)
    assert verdict.verdict == "weak"
    assert verdict.p_without_strongest > 0.05
    assert "it rests on p04 alone" in verdict.reason
    assert verdict.n_eff < 2


def test_noise_is_called_powered_or_weak_at_the_level_of_the_test():
    p = [verdict_of(*planted(6, 8, 10, 0.0, seed=seed), permutations=60).p for seed in range(300)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert verdict_of(*planted(6, 8, 10, 0.0), permutations=99).verdict == "no_signal"
    assert "no measurable effect: the 6 conditions" in verdict_of(*planted(6, 8, 10, 0.0), permutations=99).reason


def test_one_condition_is_tested_against_control():
    rng = np.random.default_rng(0)
    control, batch = rng.normal(size=(60, 20)), np.full(60, "one")
    for shift, want, words in ((0.0, "no_signal", "not different from control"), (1.0, "weak", "differs from control")):
        x = rng.normal(size=(30, 20)) + shift
        verdict = verdict_of(x, np.full(30, "a"), control_x_mg=control, control_batch_m=batch)
        assert verdict.verdict == want
        assert words in verdict.reason
        assert np.isnan(verdict.p)
    alone = verdict_of(x, np.full(30, "a"))
    assert (alone.verdict, alone.reason) == ("unknown", "one condition and no control cells to test it against")
    assert alone.n_detectable is None


def test_single_cells_cannot_be_halved():
    x, label = planted(3, 10, 4, 1.0)
    verdict = verdict_of(np.vstack([x, 99 * np.ones((1, 4))]), np.append(label, "lone"), permutations=9)
    assert verdict.condition_c == ("p00", "p01", "p02")
    nothing = verdict_of(np.ones((2, 4)), np.array(["a", "b"]), permutations=9)
    assert (nothing.verdict, nothing.n_conditions) == ("unknown", 0)
    assert nothing.reason == "no condition has two cells in one batch, so nothing can be tested"


def test_same_seed_same_verdict():
    x, label = planted(6, 10, 10, 0.1)
    assert verdict_of(x, label, permutations=100).p == verdict_of(x, label, permutations=100).p


# --- against control -------------------------------------------------------------------------------


def test_null_conditions_are_detected_at_the_level_of_the_test():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(2000, 8)), np.repeat([f"p{i}" for i in range(200)], 10)
    control = rng.normal(size=(2000, 8))
    p = detectable_conditions(x, label, np.full(2000, "one"), control, np.full(2000, "one"), permutations=99, seed=0)
    assert 0.02 < np.mean(np.array(list(p.values())) < 0.05) < 0.09


def test_shifted_condition_is_detected_and_batches_are_matched():
    batch, control_batch = np.repeat(["0", "1"], [30, 10]), np.repeat(["0", "1"], [20, 60])
    label, found = np.full(40, "a"), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(40, 10)) + 5.0 * (batch == "1")[:, None]
        control = rng.normal(size=(80, 10)) + 5.0 * (control_batch == "1")[:, None]
        cases = ((x, batch, control_batch), (x + 0.8, batch, control_batch), (x, np.full(40, ""), np.full(80, "")))
        found.append(
            [detectable_conditions(a, label, b, control, c, permutations=199, seed=0)["a"] for a, b, c in cases]
        )
    same, moved, blind = np.array(found).T
    assert np.mean(same < 0.05) < 0.15
    assert (moved == 1 / 200).all()
    assert (blind == 1 / 200).all()


def test_sparse_cells_are_tested_alike():
    rng = np.random.default_rng(0)
    x, control = rng.normal(size=(20, 30)), rng.normal(size=(25, 30))
    x, control = x * (x > 1.9), control * (control > 1.0)
    batch, control_batch = np.repeat(["0", "1"], 10), np.repeat(["0", "1"], [10, 15])
    found = [
        detectable_conditions(a, np.full(20, "a"), batch, b, control_batch, permutations=99, seed=0)["a"]
        for a in (x, sparse.csr_matrix(x))
        for b in (control, sparse.csr_matrix(control))
    ]
    assert len(set(found)) == 1


def test_batches_without_controls_are_left_out():
    x = np.ones((4, 2))
    p = detectable_conditions(
        x, np.array(["a", "a", "b", "b"]), np.array(["0", "0", "9", "9"]), x, np.full(4, "0"), permutations=9, seed=0
    )
    assert p["a"] == 1.0
    assert np.isnan(p["b"])


def test_effective_number():
    assert effective_number(np.array([1.0, 1.0, 1.0, -5.0])) == 3.0
    assert effective_number(np.array([-1.0])) == 0.0


# --- refusals --------------------------------------------------------------------------------------


def test_what_does_not_belong_together_is_refused():
    x, label = planted(3, 10, 4, 1.0)
    batch, zero = np.full(30, "one"), np.zeros((1, 4))
    with pytest.raises(ShapeMismatch, match=r"Cells and their labels .* given 30 cells and \[29, 30\] labels"):
        gate_context(x, label[1:], batch, zero, zero, ONE, seed=0)
    with pytest.raises(ShapeMismatch, match=r"Control means do not fit .* expected \(1, 4\)"):
        gate_context(x, label, batch, zero, np.zeros((1, 5)), ONE, seed=0)
    with pytest.raises(MissingLabel, match=r"batch without control means: given 1 such batches, first 'one'"):
        gate_context(x, label, batch, zero, zero, ["two"], seed=0)
    with pytest.raises(BadValue, match=r"A permutation test needs permutations: given 0"):
        gate_context(x, label, batch, zero, zero, ONE, seed=0, permutations=0)


# --- real data -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_data() -> Path:
    root = Path(__file__).parents[3]
    folder = (root / os.environ.get("PERTURBFM_DATA", "../shared/data")).resolve()
    if not folder.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no real data in {folder}; set PERTURBFM_DATA")
    return folder


def halves(x, control_n, batch_n, names):
    """Batch-stratified halves of the controls: their means per batch."""
    rng, parts = np.random.default_rng(1), []
    for name in names:
        row = rng.permutation(np.flatnonzero(control_n & (batch_n == name)))
        parts.append([np.asarray(x[half].mean(axis=0)).ravel() for half in np.array_split(row, 2)])
    return np.array([a for a, _ in parts]), np.array([b for _, b in parts])


def real_verdict(x, condition_n, batch_n, control):
    control_n, names = condition_n == control, sorted(set(batch_n))
    row = np.flatnonzero(~control_n)
    return gate_context(x[row], condition_n[row], batch_n[row], *halves(x, control_n, batch_n, names), names, seed=0)


@pytest.mark.real
@pytest.mark.parametrize(
    ("line", "verdict", "p_range", "n", "n_eff"),
    [
        ("A172", "weak", (0.0, 0.02), 9, None),
        ("T98G", "weak", (0.02, 0.05), 9, None),
        ("U87MG", "weak", (0.0, 0.02), 9, None),
        ("k562", "powered", (0.0, 0.002), 33, 11.5),
    ],
)
def test_verdicts_on_the_development_data(real_data, line, verdict, p_range, n, n_eff):
    import anndata

    data = anndata.read_h5ad(real_data / "perturbench_devel" / "perturbench_devel.h5ad")
    data = data[data.obs["cell_type"] == line]
    x = sparse.csr_matrix(data.X, dtype=float)
    got = real_verdict(x, data.obs["condition"].to_numpy().astype(str), np.full(data.n_obs, "one"), "control")
    assert got.verdict == verdict
    assert p_range[0] <= got.p <= p_range[1]
    assert got.n_conditions == n
    assert n_eff is None or got.n_eff == pytest.approx(n_eff, abs=0.3)
    if line in ("A172", "T98G"):
        assert "TGFBR2" in got.condition_c[int(np.argmax(got.signal_c))]
        assert got.p_without_strongest > 0.1


@pytest.mark.real
@pytest.mark.slow
def test_papalexi_is_powered_with_batches(real_data):
    import anndata

    data = anndata.read_h5ad(real_data / "papalexi21_eccite" / "papalexi21_eccite.h5ad")
    per_cell = 1e4 / data.obs["response_n_umis"].to_numpy(dtype=float)
    x = sparse.csr_matrix(sparse.diags(per_cell) @ sparse.csr_matrix(data.X, dtype=float)).log1p()
    obs = data.obs[["grna_target", "bio_rep"]].astype(str)
    got = real_verdict(x, obs["grna_target"].to_numpy(), obs["bio_rep"].to_numpy(), "non-targeting")
    assert got.verdict == "powered"
    assert got.n_conditions == 25
    assert got.n_eff == pytest.approx(5.3, abs=0.2)


# --- cells that stay on disk -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_cells_that_are_read_in_chunks_give_the_same_verdict(monkeypatch, kind):
    from perturbfm.eval import permutation
    from perturbfm.types import RowView

    rng = np.random.default_rng(4)
    n, genes = 240, 9
    condition, batch = rng.choice([f"p{i}" for i in range(12)], n), rng.choice(["a", "b"], n)
    x = rng.poisson(1.0, (n, genes)).astype(np.float32)
    x[:, 0] += np.array([int(c[1:]) for c in condition]) * 0.3
    control, means = rng.poisson(1.0, (50, genes)).astype(np.float32), np.ones((2, genes))
    known = {"permutations": 60, "seed": 1, "control_batch_m": rng.choice(["a", "b"], 50), "control_permutations": 40}

    def verdict(cells, controls):
        return gate_context(cells, condition, batch, means, means, ["a", "b"], control_x_mg=controls, **known)

    held = verdict(kind(x), kind(control))
    shuffled = rng.permutation(n)
    view = RowView(kind(x[shuffled]), np.argsort(shuffled)), RowView(kind(control), np.arange(50))
    few = verdict(*view)
    monkeypatch.setattr(permutation, "STREAMED_FROM", 300)
    monkeypatch.setattr(permutation, "CHUNK", 31)
    streamed = verdict(*view)
    for found in (few, streamed):
        assert (found.verdict, found.p, found.reason) == (held.verdict, held.p, held.reason)
        np.testing.assert_allclose(found.signal_c, held.signal_c, rtol=1e-10)
        np.testing.assert_array_equal(found.p_control_c, held.p_control_c)
    assert held.p < 0.05
