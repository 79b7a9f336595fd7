"""Checks, fingerprint, normalisation and statistics read a mapped matrix in pieces: same answers, bounded memory."""

import hashlib
import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data import check, fingerprint
from perturbfm.data.check import check_matrix
from perturbfm.data.csr_cache import cached_csr, open_csr
from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.data.group_statistics import group_statistics
from perturbfm.data.preprocess import Logarithms, normalise_log1p
from perturbfm.data.scatter import subtract_into
from perturbfm.errors import ScaleMismatch, SizeNotPositive, ValuesNegative, ValuesNotFinite
from perturbfm.train.preprocess import Preprocessor
from perturbfm.train.stage.log1p import Log1p
from perturbfm.train.stage.normalise_total import NormaliseTotal

COUNTS = Declaration("counted", "counts")


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("block", [1, 3, 1000])
@pytest.mark.parametrize(
    ("value", "scale", "error", "match"),
    [
        (np.nan, "log2", ValuesNotFinite, "1 NaN or infinite entries"),
        (-np.inf, "log1p", ValuesNotFinite, "1 NaN or infinite entries"),
        (-2.0, "log1p", ValuesNegative, "minimum -2"),
        (0.125, "counts", ScaleMismatch, "for example 0.125"),
        (21.5, "log1p", ScaleMismatch, "maximum 21.5"),
        (4.0, "log2", ScaleMismatch, "integers up to 9"),
    ],
)
def test_one_wrong_value_is_found_wherever_it_is(monkeypatch, kind, block, value, scale, error, match):
    monkeypatch.setattr(check, "_BLOCK", block)
    x = np.array([[1, 0, 2], [0, 3, 0], [5, 0, 9], [1, 1, 0]], dtype=np.float32)
    if value != 4.0:
        x[:2] += 0 if scale == "counts" else 0.5
    for row in (0, 3):
        wrong = x.copy()
        wrong[row, 0] = value
        with pytest.raises(error, match=match):
            check_matrix(kind(wrong), scale)


@pytest.mark.parametrize("rows", [1, 2, 4096])
def test_text_in_blocks_gives_the_bytes_of_one_dump(monkeypatch, rows):
    monkeypatch.setattr(fingerprint, "_ROWS_PER_CHUNK", rows)
    for values in ([], ["a"], ["a", 'b"', "c", 1.5, np.nan], [1, 2, 3, 4]):
        streamed = hashlib.sha256()
        fingerprint._text(streamed, "obs:x", values)
        whole = json.dumps(["obs:x", [v if isinstance(v, str) else [repr(v)] for v in values]])
        assert streamed.hexdigest() == hashlib.sha256(whole.encode()).hexdigest()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, lambda x: sparse.csr_matrix(x.astype(np.float64))])
def test_rows_less_rows_of_a_table_are_written_over_whatever_was_there(kind):
    x = np.array([[1, 0, 2.5], [0, 0, 0], [0, 4, 0]], dtype=np.float32)
    table, group = np.array([[0, 1, 2], [5, 5, 5]], dtype=np.float32), np.array([1, 0, 0, 1])
    for rows in ([2, 0], [1], [0, 0, 1, 2], []):
        out = np.full((len(rows), 3), np.nan, dtype=np.float32)
        subtract_into(kind(x), np.array(rows, dtype=np.int64), table, group[: len(rows)], out)
        np.testing.assert_array_equal(out, x[rows] - table[group[: len(rows)]])


def test_rows_are_read_from_a_matrix_with_wide_indices_and_one_that_may_not_be_written():
    x = sparse.csr_matrix(np.eye(3, dtype=np.float32))
    x.data.flags.writeable = False
    x.indices, x.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    out = np.zeros((2, 3), dtype=np.float32)
    subtract_into(x, np.array([2, 1]), np.ones((1, 3), np.float32), np.zeros(2, np.int64), out)
    np.testing.assert_array_equal(out, [[-1, -1, 0], [-1, 0, -1]])


def test_memory_does_not_grow_with_rows(tmp_path, monkeypatch):
    """Python's own allocations, mapped pages left out: 16 times the rows, the same peak but for 8 bytes per row."""
    monkeypatch.setenv("PERTURBFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("perturbfm.data.check._BLOCK", 50_000)
    monkeypatch.setattr("perturbfm.data.csr_source.BLOCK", 50_000)
    monkeypatch.setattr("perturbfm.data.preprocess.BLOCK", 50_000)
    monkeypatch.setattr("perturbfm.data.csr_cache._READ", 200_000)
    monkeypatch.setattr("perturbfm.data.group_statistics.ENTRIES", 100_000)
    monkeypatch.setattr("perturbfm.data.fingerprint._ROWS_PER_CHUNK", 500)
    genes, peaks = 100, []
    for n in (4_000, 64_000):
        x = sparse.random(n, genes, 0.3, format="csr", dtype=np.float32, random_state=1)
        x.data = np.ceil(x.data * 5)
        AnnData(x).write_h5ad(tmp_path / f"{n}.h5ad")
        size, obs = np.full(n, 500.0), pd.DataFrame(index=pd.RangeIndex(n))
        del x
        tracemalloc.start()
        folder = cached_csr([tmp_path / f"{n}.h5ad"])
        counts = open_csr(folder)
        check_matrix(counts, "counts")
        logged, _ = normalise_log1p(counts, obs, Declaration("tiny", "counts"), size, 100.0, None, folder)
        check_matrix(logged, "log1p")
        fingerprint.fingerprint(logged, size, pd.DataFrame(index=["cell"]), ["gene"], {})
        group_statistics(logged, np.arange(n) % 5, 5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    stored = 8 * 0.3 * genes * 64_000
    assert peaks[1] - peaks[0] < 50 * 60_000
    assert peaks[1] < stored / 3


@pytest.mark.parametrize("as_sparse", [True, False])
@pytest.mark.parametrize("sized", [True, False])
def test_logarithms_of_counts_made_when_asked_for_are_those_of_the_stages(as_sparse, sized):
    rng = np.random.default_rng(0)
    x = rng.poisson(2.0, (40, 12)).astype(np.float32)
    obs = pd.DataFrame({"pert_id": ["control", "A"] * 20, "context_id": "k", "batch_id": "b", "mode": "drug"})
    obs.index = [f"c{i}" for i in range(40)]
    obs["is_control"] = (obs["pert_id"] == "control").to_numpy()
    if sized:
        obs["library_size"] = x.sum(axis=1) + rng.integers(0, 9, 40)
    kind = sparse.csr_matrix if as_sparse else np.asarray
    data = PerturbDataset(AnnData(kind(x), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(12)])), COUNTS)
    rows = np.arange(0, 30)
    done = Preprocessor.learn([NormaliseTotal("median"), Log1p()], data, rows, "two", "train").apply(data)
    view = Logarithms.to_median(data, rows)
    asked = np.array([7, 3, 3, 39])
    expected = done.adata.X[asked]
    expected = expected.toarray() if as_sparse else expected
    np.testing.assert_allclose(view[asked].toarray(), expected, rtol=1e-6)
    assert view.shape == (40, 12)
    assert view[asked].dtype == np.float32


def test_a_row_without_counts_has_no_logarithm():
    x = sparse.csr_matrix(np.array([[1, 2], [0, 0]], dtype=np.float32))
    data = SimpleNamespace(adata=SimpleNamespace(X=x), obs=pd.DataFrame(index=["full", "empty"]))
    with pytest.raises(SizeNotPositive, match="Cells have no library size: given 1 cells, first 'empty'"):
        Logarithms.to_median(data, np.array([0]))
