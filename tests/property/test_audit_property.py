"""For all data: hashes tell equal rows, labels keep their meaning, and no verdict depends on the order of rows."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

from perturbfm.split import FOLDS, ROLES, Split, audit
from perturbfm.split.audit import CHECKS, Evidence
from perturbfm.split.audit.duplicate import duplicates, row_hashes
from perturbfm.split.audit.naming import canonical
from perturbfm.types import Labels, Learned

always = settings(derandomize=True, deadline=None, max_examples=100)
PLACES = (*FOLDS, *ROLES)
matrices = npst.arrays(
    st.sampled_from([np.float32, np.float64, np.int64]),
    npst.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.integers(0, 2),
)


@always
@given(matrices, st.randoms(use_true_random=False))
def test_duplicates_are_exactly_the_equal_rows_of_different_places(x_ng, random):
    place_n = np.array([random.randrange(-1, 3) for _ in x_ng], dtype=np.int8)
    wanted = {}
    for row, values in enumerate(x_ng.tolist()):
        if place_n[row] >= 0:
            wanted.setdefault(tuple(values), []).append(row)
    wanted = sorted(sorted(g) for g in wanted.values() if len({place_n[r] for r in g}) > 1)
    for form in (np.asarray, sparse.csr_matrix, sparse.csc_matrix):
        found = duplicates(form(x_ng), place_n)
        assert sorted(sorted(g.tolist()) for g in found.groups(few=True)) == wanted
        assert not list(found.groups(few=False))
        assert not list(found.groups(few=False, rescaled=True))


@always
@given(matrices)
def test_a_row_hash_does_not_depend_on_how_the_row_is_stored(x_ng):
    csr = sparse.csr_matrix(x_ng)
    n, g = x_ng.shape
    explicit = sparse.csr_matrix((x_ng.ravel(), np.tile(np.arange(g), n), np.arange(n + 1) * g), x_ng.shape)
    backwards = sparse.csr_matrix((x_ng[:, ::-1].ravel(), np.tile(np.arange(g)[::-1], n), explicit.indptr), x_ng.shape)
    hashes = row_hashes(csr)
    assert (row_hashes(x_ng) == hashes).all()
    assert (row_hashes(explicit) == hashes).all()
    assert (row_hashes(backwards) == hashes).all()
    negative_zero = np.where(x_ng == 0, -0.0, x_ng).astype(np.float64)
    assert (row_hashes(negative_zero) == row_hashes(x_ng.astype(np.float64))).all()


@always
@given(matrices, st.sampled_from([np.log1p, np.sqrt, lambda x: 7 * x, lambda x: x / max(1, x.sum())]))
def test_a_row_hash_does_not_depend_on_how_the_row_was_normalised(x_ng, again):
    once, twice = x_ng.astype(np.float64), np.array([again(row) for row in x_ng.astype(np.float64)])
    assert (row_hashes(once) == row_hashes(twice.reshape(once.shape))).all()
    assert (row_hashes(sparse.csr_matrix(once)) == row_hashes(twice.reshape(once.shape))).all()


@always
@given(matrices)
def test_rows_with_other_genes_or_another_order_of_values_have_other_hashes(x_ng):
    hashes, known = row_hashes(x_ng), {}
    for value, row in zip(hashes.tolist(), x_ng, strict=True):
        known.setdefault(tuple(np.sign(np.diff(row[row != 0])).tolist()) + tuple(row != 0), set()).add(value)
    assert all(len(values) == 1 for values in known.values())
    assert len({v for values in known.values() for v in values}) == len(known)


genes = st.text("ABCDEFG123", min_size=1, max_size=5)


@always
@given(st.lists(genes, min_size=1, max_size=3), st.randoms(use_true_random=False), st.sampled_from("+_,;|&"))
def test_spelling_does_not_change_what_a_label_means(parts, random, delimiter):
    label = "+".join(parts)
    spelt = [random.choice([p, p.lower(), f" {p} "]) for p in random.sample([*parts, "ctrl"], len(parts) + 1)]
    assert canonical(delimiter.join(spelt), "+", {}) == canonical(label, "+", {})


@always
@given(genes, genes)
def test_other_genes_are_other_labels(one, other):
    assert (canonical(one, "+", {}) == canonical(other, "+", {})) == (one == other)


@st.composite
def worlds(draw):
    """Rows with labels that collide, cells that repeat, and places dealt without any rule."""
    rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))
    n = draw(st.integers(12, 40))

    def pick(*choices):
        return np.array([choices[k] for k in rng.integers(0, len(choices), n)], dtype=object)

    place = pick(*PLACES, "").astype(str)
    place[: len(PLACES)] = PLACES
    cell = np.where(
        rng.random(n) < 0.2, "ACGTACGTACGT-1", [f"{s}-{k}" for k, s in enumerate(pick("c", "ACGTACGTACGT"))]
    )
    pert = pick("A", "a", "B", "A+B", "ctrl+B", "X_1", "X_2")
    labels = Labels(
        cell_n=cell.astype(object),
        pert_n=pert,
        context_n=pick("k0", "k1"),
        batch_n=pick("b0", "b1"),
        mode_n=pick("knockdown", "knockdown", "drug"),
        is_control_n=np.isin(place, ROLES) ^ (pick(*[0] * 9, 1) == 1),
        fingerprint="f" * 64,
        data_name="toy",
        delimiter="+",
        covariates={"donor": pick("d0", "d1"), "guide": pick("Xg1", "Xg2", "Y")},
    )
    x_ng = np.ones((n, 22), dtype=np.float32)
    x_ng[:, : draw(st.integers(1, 6))] = rng.integers(0, 2, (n, 1))
    axes = tuple(draw(st.lists(st.sampled_from(AXES), min_size=1, max_size=2, unique=True)))
    looked = rng.integers(0, n, 4)
    return labels, place, x_ng, axes, looked


AXES = ["context", "perturbation", "combination_seen_1", "donor", "batch", "few_shot", "none"]


def verdicts(labels, place, x_ng, axes, looked):
    split = Split(
        **{f"{name}_idx": np.flatnonzero(place == name) for name in PLACES},
        fingerprint=labels.fingerprint,
        data_name="toy",
        rule="by_hand",
        params={},
        ood_axes=axes,
        seed=0,
        n_obs=labels.n_obs,
        unit="cells",
    )
    stored = {"uns/x/A": np.ones(3), "uns/mean": x_ng[place == "test"].mean(axis=0).astype(np.float64)}
    evidence = Evidence(
        x_ng=x_ng, genes=("X",), uns=stored, learned=(Learned("scaler", looked),), priors=(), aliases={}
    )
    return audit(split, labels, evidence)


@always
@given(worlds(), st.randoms(use_true_random=False))
def test_no_finding_depends_on_the_order_of_rows(world, random):
    labels, place, x_ng, axes, looked = world
    order = np.array(random.sample(range(labels.n_obs), labels.n_obs))
    position = np.argsort(order)
    columns = ("cell_n", "pert_n", "context_n", "batch_n", "mode_n", "is_control_n")
    shuffled = replace(
        labels,
        **{name: getattr(labels, name)[order] for name in columns},
        covariates={name: values[order] for name, values in labels.covariates.items()},
    )
    one = verdicts(labels, place, x_ng, axes, looked)
    other = verdicts(shuffled, place[order], x_ng[order], axes, position[looked])
    told = [[(f.check, f.verdict, f.message, f.n, f.examples) for f in a.findings] for a in (one, other)]
    assert told[0] == told[1]
    assert {f.check for f in one.findings} == {c.__name__ for c in CHECKS}
    assert one.verdict == other.verdict
