"""The fingerprint changes with everything that matters and with nothing else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.data.fingerprint import counts_from_log1p, fingerprint

DECLARED = Declaration("tiny", "log1p", delimiter="+")
X = np.array([[0.5, 0, 1.25], [0, 0.75, 0], [2.5, 0, 0.125], [0, 1.5, 3.5]], dtype=np.float32)


def tiny_obs():
    return pd.DataFrame(
        {
            "pert_id": ["control", "A", "A+B", "control"],
            "context_id": ["k1", "k1", "k2", "k2"],
            "batch_id": ["b1", "b1", "b2", "b2"],
            "is_control": [True, False, False, True],
            "mode": ["drug"] * 4,
            "dose": [0.0, 1.0, 2.5, 0.0],
        },
        index=["c1", "c2", "c3", "c4"],
    )


def dataset(x=X, obs=None, genes=("g1", "g2", "g3"), declared=DECLARED):
    obs = tiny_obs() if obs is None else obs
    return PerturbDataset(AnnData(X=x, obs=obs, var=pd.DataFrame(index=list(genes))), declared)


BASE = dataset().fingerprint


def test_it_is_64_hexadecimal_digits_and_repeats():
    assert len(BASE) == 64
    assert set(BASE) <= set("0123456789abcdef")
    assert dataset().fingerprint == BASE


def test_one_flipped_bit_of_the_matrix_changes_it():
    x = X.copy()
    x.view(np.uint8)[0, 0] ^= 1
    assert np.abs(x - X).max() < 1e-6
    assert dataset(x).fingerprint != BASE


def test_swapped_rows_change_it():
    order = [0, 2, 1, 3]
    assert dataset(X[order], tiny_obs().iloc[order]).fingerprint != BASE
    assert dataset(X[order]).fingerprint != BASE


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("pert_id", "C"),
        ("context_id", "k2"),
        ("batch_id", "b9"),
        ("mode", "ligand"),
        ("dose", 1.5),
        ("is_control", True),
    ],
)
def test_one_changed_label_changes_it(column, value):
    obs = tiny_obs()
    obs.loc["c2", column] = value
    assert dataset(obs=obs).fingerprint != BASE


def test_a_renamed_cell_an_added_and_a_renamed_covariate_change_it():
    assert dataset(obs=tiny_obs().rename(index={"c2": "c9"})).fingerprint != BASE
    assert dataset(obs=tiny_obs().assign(time=1.0)).fingerprint != BASE
    assert dataset(obs=tiny_obs().rename(columns={"dose": "time"})).fingerprint != BASE


def test_genes_renamed_or_reordered_change_it():
    assert dataset(genes=("g1", "g2", "g9")).fingerprint != BASE
    assert dataset(genes=("g2", "g1", "g3")).fingerprint != BASE
    order = [1, 0, 2]
    assert dataset(X[:, order], genes=("g2", "g1", "g3")).fingerprint != BASE
    assert dataset(X[:, order]).fingerprint != BASE


@pytest.mark.parametrize(
    "change",
    [{"scale": "log2"}, {"unit": "pseudobulk"}, {"controls": "baked_in"}, {"delimiter": "_"}, {"delimiter": None}],
)
def test_what_is_declared_of_the_values_changes_it(change):
    assert dataset(declared=replace(DECLARED, **change)).fingerprint != BASE


@pytest.mark.parametrize("change", [{"name": "other"}, {"match": "draw"}, {"match_seed": 7}, {"source": "elsewhere"}])
def test_what_is_declared_of_its_use_does_not(change):
    assert dataset(declared=replace(DECLARED, **change)).fingerprint == BASE


def test_the_order_of_columns_and_categories_do_not_change_it():
    obs = tiny_obs()
    assert dataset(obs=obs[obs.columns[::-1]]).fingerprint == BASE
    assert dataset(obs=obs.astype({"pert_id": "category", "mode": "category"})).fingerprint == BASE


def test_sparse_and_dense_are_one():
    assert dataset(sparse.csr_matrix(X)).fingerprint == BASE
    assert dataset(X.astype(np.float64)).fingerprint == BASE


def test_explicit_zeros_are_no_content():
    dense = np.ones_like(X)
    csr = sparse.csr_matrix(dense)
    csr.data = X.ravel().copy()
    assert csr.nnz == X.size
    assert dataset(csr).fingerprint == BASE
    assert csr.nnz == X.size, "hashing must not change the matrix"


def test_unsorted_indices_are_no_content():
    csr = sparse.csr_matrix(X)
    indices, data = csr.indices.copy(), csr.data.copy()
    for start, stop in zip(csr.indptr[:-1], csr.indptr[1:], strict=True):
        indices[start:stop], data[start:stop] = indices[start:stop][::-1], data[start:stop][::-1]
    shuffled = sparse.csr_matrix((data, indices, csr.indptr), shape=X.shape)
    assert not shuffled.has_sorted_indices
    assert dataset(shuffled).fingerprint == BASE


def test_rows_are_hashed_over_the_border_of_a_chunk():
    x = np.ones((4100, 1), dtype=np.float32)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(4100)])
    one = fingerprint(x, None, obs, ["g"], {})
    assert one == fingerprint(sparse.csr_matrix(x), None, obs, ["g"], {})
    x[4099] = 2
    assert one != fingerprint(x, None, obs, ["g"], {})


COUNTS = np.array([[3, 0, 1], [0, 2, 0], [900, 0, 5], [0, 17, 1]])
SIZE = np.array([0.4, 1.7, 90.5, 2.0])


def counted(counts, nudge=None, size=SIZE):
    x = np.log1p(counts / size[:, None]).astype(np.float32)
    if nudge is not None:
        x = np.where(x > 0, np.nextafter(x, np.float32(nudge)), x)
    obs = tiny_obs().assign(size_factor=size)
    return dataset(sparse.csr_matrix(x), obs, declared=replace(DECLARED, counts_hashed=True))


@pytest.mark.parametrize("nudge", [0.0, np.inf])
def test_counts_are_hashed_and_not_the_last_bit_of_their_logarithm(nudge):
    one, other = counted(COUNTS), counted(COUNTS, nudge)
    assert (one.X_pert != other.X_pert).nnz == np.count_nonzero(COUNTS)
    assert one.fingerprint == other.fingerprint
    plain = replace(DECLARED, counts_hashed=False)
    assert (
        dataset(one.X_pert, one.obs, declared=plain).fingerprint
        != dataset(other.X_pert, one.obs, declared=plain).fingerprint
    )


def test_one_count_or_one_size_changes_it():
    counts, size = COUNTS.copy(), SIZE.copy()
    counts[2, 0] += 1
    assert counted(counts).fingerprint != counted(COUNTS).fingerprint
    size[1] = np.nextafter(size[1], 2)
    assert counted(COUNTS, size=size).fingerprint != counted(COUNTS).fingerprint


def test_counts_are_recovered_exactly():
    x = sparse.csr_matrix(np.log1p(COUNTS / SIZE[:, None]).astype(np.float32))
    np.testing.assert_array_equal(counts_from_log1p(x, SIZE).toarray(), COUNTS)


def test_a_word_and_a_number_are_different_labels():
    obs = pd.DataFrame({"dose": [1.0, 2.0]}, index=["a", "b"])
    words = pd.DataFrame({"dose": np.array(["1.0", "2.0"], dtype=object)}, index=["a", "b"])
    x = np.ones((2, 1), dtype=np.float32)
    assert fingerprint(x, None, obs, ["g"], {}) != fingerprint(x, None, words, ["g"], {})
