"""What would give a wrong number without any error: refused while reading, each with what to do."""

import os

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data import load_file
from perturbfm.data.csr_cache import content_hash
from perturbfm.errors import BadValue, ControlTimesPooled, ScaleMismatch, SizeTooSmall

N = 60


def made(path, x=None, **columns):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"pert": ["ctrl", "A", "B"] * (N // 3), "line": ["k1", "k2"] * (N // 2), **columns})
    obs.index = [f"c{i}" for i in range(N)]
    counts = rng.poisson(3, (N, 8)).astype(np.float32) + 1
    AnnData(sparse.csr_matrix(counts if x is None else x), obs=obs).write_h5ad(path)
    return {
        "name": "made",
        "path": str(path),
        "scale": "log1p",
        "pert_column": "pert",
        "context_column": "line",
        "batch_column": None,
        "control_labels": ["ctrl"],
        "mode": "drug",
    }


@pytest.fixture
def logged():
    return np.log1p(np.random.default_rng(1).poisson(3, (N, 8)).astype(np.float32) / 2)


def test_controls_of_several_times_are_not_one_group(tmp_path, logged):
    time = [6] * (N // 2) + [24] * (N // 2)
    options = made(tmp_path / "t.h5ad", logged, time=time) | {"time_column": "time"}
    with pytest.raises(ControlTimesPooled, match=r"2 groups, first k1 with 2 times.*data.batch_column"):
        load_file(**options)
    within = load_file(**options | {"batch_column": "time"})
    assert within.declared.match == "context_batch"
    assert set(within.labels().time_n[~within.labels().is_control_n]) == {"6", "24"}
    with pytest.raises(ControlTimesPooled, match="Controls of several times would be compared with as one"):
        load_file(**options | {"batch_column": "time", "match": "context"})


def test_a_size_below_the_counts_is_no_library_size(tmp_path):
    options = made(tmp_path / "s.h5ad", factor=np.full(N, 0.5)) | {"scale": "counts", "target_sum": 1e4}
    with pytest.raises(SizeTooSmall, match=r"smaller than the counts of 100% of the cells: given factor: median 0.5"):
        load_file(**options, size_column="factor")


def test_normalised_values_that_were_never_logged_are_no_logarithms(tmp_path):
    x = np.random.default_rng(2).gamma(1.0, 1.0, (N, 8))
    x = (10 * x / x.sum(1, keepdims=True)).astype(np.float32)
    with pytest.raises(ScaleMismatch, match="normalised, but never logged: given rows that all sum to 10"):
        load_file(**made(tmp_path / "u.h5ad", x))
    assert load_file(**made(tmp_path / "l.h5ad", np.log1p(x))).n_obs == N


@pytest.mark.parametrize("other", ["Ctrl", "ctrl ", "CTRL"])
def test_another_spelling_of_a_control_is_no_perturbation(tmp_path, logged, other):
    pert = [other if i % 7 == 0 else "ctrl" if i % 3 else "A" for i in range(N)]
    options = made(tmp_path / "c.h5ad", logged, pert=pert)
    with pytest.raises(BadValue, match="Labels read like a control and are not declared as one"):
        load_file(**options)
    assert load_file(**options | {"control_labels": ["ctrl", other]}).labels().is_control_n.sum() > N // 2


def test_a_file_that_changed_under_its_old_time_is_hashed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTURBFM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "f.bin"
    path.write_bytes(b"one")
    before, first = path.stat(), content_hash(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content_hash(path) != first
