"""The prediction file: the seam on disk."""

import io
import zipfile

import numpy as np
import pytest

from perturbfm.errors import UnreadableFile
from perturbfm.predictions import as_stored, read_prediction, write_prediction
from perturbfm.types import Prediction


def prediction(**changes):
    rng = np.random.default_rng(0)
    content = {
        "mean_qg": rng.normal(size=(3, 4)).astype(np.float32),
        "var_qg": rng.uniform(0.1, 1, size=(3, 4)).astype(np.float32),
        "query_n": np.array([2, 0, 0, 1, 2]),
        "idx_n": np.array([10, 11, 15, 20, 21]),
        "genes_g": ("a", "b", "ü", "a.b"),
        "scale": "log1p",
        "fold": "test",
        "model": "ridge",
        "split_hash": "ab" * 32,
        "fingerprint": "cd" * 32,
    }
    return Prediction(**{**content, **changes})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "predictions.npz"
    write_prediction(path, prediction(), 1.25)
    return path


def test_a_prediction_comes_back_as_it_was(path):
    found, factor = read_prediction(path)
    assert factor == 1.25
    np.testing.assert_array_equal(found.mean_ng(), prediction().mean_ng())
    np.testing.assert_array_equal(found.var_ng(), prediction().var_ng())
    np.testing.assert_array_equal(found.idx_n, prediction().idx_n)
    for word in ("genes_g", "scale", "fold", "model", "split_hash", "fingerprint"):
        assert getattr(found, word) == getattr(prediction(), word)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_what_is_scored_is_what_comes_back(tmp_path, wide):
    """Rows that nobody asks, rows that are equal, and digits that float32 does not hold."""
    rng = np.random.default_rng(1)
    kind = np.float64 if wide else np.float32
    mean, var = rng.normal(size=(6, 4)).astype(kind), rng.uniform(0.1, 1, size=(6, 4)).astype(kind)
    mean[4], var[4] = mean[1], var[1]
    given = prediction(mean_qg=mean, var_qg=var, query_n=np.array([5, 4, 1, 0, 2]))
    write_prediction(tmp_path / "p.npz", given, 1.0)
    read, kept = read_prediction(tmp_path / "p.npz")[0], as_stored(given)
    for name in ("mean_qg", "var_qg", "query_n"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(read, name))
    assert kept.mean_qg.dtype == read.mean_qg.dtype == np.float32
    np.testing.assert_array_equal(kept.mean_ng(), given.mean_ng().astype(np.float32))


def test_a_file_has_one_row_per_judged_row_and_the_promised_types(path):
    with np.load(path, allow_pickle=False) as npz:
        assert npz["mean"].shape == npz["var"].shape == (5, 4)
        assert (npz["mean"].dtype, npz["var"].dtype, npz["idx"].dtype) == (np.float32, np.float32, np.int64)
        assert str(npz["split_hash"]) == "ab" * 32


def test_rows_of_one_query_stay_one_query(path):
    assert len(read_prediction(path)[0].mean_qg) == 3


def test_an_empty_fold_is_a_prediction_too(tmp_path):
    none = prediction(query_n=np.array([], dtype=int), idx_n=np.array([], dtype=int))
    write_prediction(tmp_path / "p.npz", none, 1.0)
    assert read_prediction(tmp_path / "p.npz")[0].mean_ng().shape == (0, 4)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_truncated_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableFile, match=r"A prediction file cannot be read: given .*predictions\.npz"):
        read_prediction(path)


def test_a_damaged_array_is_refused(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match="A prediction file cannot be read"):
        read_prediction(path)


def test_a_missing_file_or_array_is_refused(path, tmp_path):
    with pytest.raises(UnreadableFile, match="FileNotFoundError"):
        read_prediction(tmp_path / "none.npz")
    np.savez(path, mean=np.zeros((1, 1)))
    with pytest.raises(UnreadableFile, match=r"KeyError.*expected mean, var, idx, genes"):
        read_prediction(path)


@pytest.mark.parametrize("missing", ["variance_factor", "genes", "fingerprint"])
def test_every_array_is_obligatory(path, missing):
    with np.load(path) as npz:
        rest = {k: npz[k] for k in npz.files if k != missing}
    np.savez(path, **rest)
    with pytest.raises(UnreadableFile, match=f"KeyError.*{missing}"):
        read_prediction(path)


def test_a_bare_array_is_no_prediction_file(path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UnreadableFile, match="A prediction file cannot be read"):
        read_prediction(path)


def test_no_pickle_is_written_or_opened(path):
    with zipfile.ZipFile(path) as parts:
        for name in parts.namelist():
            assert b"'|O'" not in parts.read(name)[:200]
    with np.load(path) as npz:
        rest = {k: npz[k] for k in npz.files}
    np.savez(path, **{**rest, "genes": np.array(rest["genes"], dtype=object)})
    with pytest.raises(UnreadableFile, match="Object arrays cannot be loaded"):
        read_prediction(path)
