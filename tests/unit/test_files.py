"""A file is the old one or the new one, never half of one."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from perturbfm import files
from perturbfm.errors import OutputNotWritable
from perturbfm.files import write_bytes, write_gzip, write_json, write_npz, write_text


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_write_bytes_makes_folders_and_leaves_only_the_file(tmp_path):
    path = write_bytes(tmp_path / "a" / "b" / "f.bin", b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert names(path.parent) == ["f.bin"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_write_replaces_the_old_file(tmp_path):
    write_text(tmp_path / "f", "a long old text")
    assert write_text(tmp_path / "f", "new").read_text() == "new"
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("crash", [KeyboardInterrupt("killed"), RuntimeError("killed")])
def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch, crash):
    write_text(tmp_path / "f", "old")

    def killed(self, target):
        raise crash

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(type(crash), match="killed"):
        write_text(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_a_full_disk_is_refused_and_leaves_the_old_file(tmp_path, monkeypatch):
    write_json(tmp_path / "f.json", {"a": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("perturbfm.files.os.fsync", full)
    with pytest.raises(OutputNotWritable, match=r"cannot be written: given .*f\.json \(No space left on device\)"):
        write_json(tmp_path / "f.json", {"a": 2})
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": 1}
    assert names(tmp_path) == ["f.json"]


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputNotWritable, match=r"cannot be written: given .*Not a directory.*PERTURBFM_OUTPUTS"):
        write_bytes(tmp_path / "file" / "sub" / "f", b"x")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "f").mkdir()
    with pytest.raises(OutputNotWritable, match="Is a directory"):
        write_bytes(tmp_path / "f", b"x")
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_json_has_not_and_keeps_the_old_file(tmp_path, value):
    write_json(tmp_path / "f.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f.json", {"a": [value]})
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": 1}


def test_json_bytes_do_not_depend_on_the_order_of_keys(tmp_path):
    one = write_json(tmp_path / "1", {"b": None, "a": [1, 2.5]}).read_bytes()
    assert one == write_json(tmp_path / "2", {"a": [1, 2.5], "b": None}).read_bytes()
    assert json.loads(one) == {"a": [1, 2.5], "b": None}


def test_gzip_bytes_depend_on_the_text_only(tmp_path, monkeypatch):
    one = write_gzip(tmp_path / "1.gz", "text\n" * 50).read_bytes()
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert one == write_gzip(tmp_path / "another name.gz", "text\n" * 50).read_bytes()
    assert gzip.decompress(one).decode() == "text\n" * 50


def test_npz_round_trip_and_no_pickles(tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with np.load(write_npz(tmp_path / "f.npz", {"x": x}), allow_pickle=False) as npz:
        assert npz.files == ["x"]
        assert npz["x"].dtype == np.float32
        np.testing.assert_array_equal(npz["x"], x)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_npz(tmp_path / "g.npz", {"x": np.array(["a", None], dtype=object)})
    assert names(tmp_path) == ["f.npz"]


def test_expanded_rows_are_written_as_the_array_would_be(tmp_path, monkeypatch):
    matrix, rows = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([3, 0, 0, 2, 3])
    whole = write_npz(tmp_path / "whole.npz", {"x": matrix[rows], "y": np.array("word")}).read_bytes()
    for block in (1, 6, 10**6):
        monkeypatch.setattr(files, "_BLOCK", block)
        pieces = write_npz(tmp_path / "pieces.npz", {"x": files.Expanded(matrix, rows), "y": np.array("word")})
        assert pieces.read_bytes() == whole
    with np.load(tmp_path / "pieces.npz", allow_pickle=False) as npz:
        np.testing.assert_array_equal(npz["x"], matrix[rows])


def test_a_compressed_file_is_the_one_that_numpy_writes(tmp_path):
    arrays = {"x": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "bc"])}
    np.savez_compressed(tmp_path / "numpy.npz", **arrays)
    assert write_npz(tmp_path / "ours.npz", arrays).read_bytes() == (tmp_path / "numpy.npz").read_bytes()
