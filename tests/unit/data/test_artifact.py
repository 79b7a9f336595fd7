"""An artifact is the data set it was written from, or it is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data import PerturbDataset, load_artifact, load_synthetic, write_artifact
from perturbfm.data.declaration import Declaration
from perturbfm.errors import ArtifactEdited, ForeignArtifact, MissingLabel, UnreadableFile


def logged():
    """Twelve rows with covariates of every kind, one number missing."""
    x = np.random.default_rng(0).random((12, 4)).astype(np.float32) * 3
    obs = pd.DataFrame(
        {
            "pert_id": ["control", "A", "A+B"] * 4,
            "context_id": ["k1"] * 6 + ["k2"] * 6,
            "batch_id": "all",
            "is_control": [True, False, False] * 4,
            "mode": pd.Categorical(["knockout"] * 12),
            "dose": [0.0, 0.1, np.nan] * 4,
            "hours": list(range(12)),
            "vendor": ["a", "b", "ü"] * 4,
            "late": [False, True] * 6,
        },
        index=[f"c{i}" for i in range(12)],
    )
    var = pd.DataFrame({"symbol": list("wxyz")}, index=["g1", "g2", "g3", "g4"])
    return PerturbDataset(
        AnnData(X=sparse.csr_matrix(np.where(x < 1, 0, x)), obs=obs, var=var),
        Declaration("small", "log1p", delimiter="+"),
    )


@pytest.fixture(scope="module")
def planted():
    data = load_synthetic(preset="default")
    return data[np.arange(0, data.n_obs, 40)]


@pytest.fixture
def folder(tmp_path):
    return write_artifact(logged(), tmp_path / "art")


def equal(one, other):
    for name in ("X_control", "delta"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.dense(slice(None)), other.dense(slice(None)))
    for frame in ("obs", "var"):
        mine = getattr(one, frame).astype({c: object for c, k in getattr(one, frame).dtypes.items() if k == "category"})
        assert mine.index.tolist() == getattr(other, frame).index.tolist()
        pd.testing.assert_frame_equal(
            mine, getattr(other, frame), check_names=False, check_index_type=False, check_like=True
        )
    assert one.declared == other.declared
    assert one.metadata == other.metadata
    assert one.fingerprint == other.fingerprint


def edit_meta(folder, change):
    meta = json.loads((folder / "meta.json").read_text())
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


def edit_npz(folder, change):
    with np.load(folder / "data.npz", allow_pickle=False) as npz:
        arrays = dict(npz)
    change(arrays)
    np.savez(folder / "data.npz", **arrays)


# --- round trip ------------------------------------------------------------------------------------


def test_a_slice_of_the_planted_world_comes_back_equal(planted, tmp_path):
    assert planted.declared.counts_hashed
    equal(planted, load_artifact(str(write_artifact(planted, tmp_path / "art"))))


def test_covariates_of_every_kind_come_back_equal(folder):
    data = load_artifact(str(folder))
    equal(logged(), data)
    assert data.obs.dtypes[["dose", "hours", "vendor", "late"]].tolist() == [np.float64, np.int64, object, bool]
    assert data.obs["dose"].isna().sum() == 4


@pytest.mark.parametrize("match", ["context", "draw"])
def test_matches_come_back_whatever_their_kind(match, tmp_path):
    data = load_synthetic(preset="default", match=match, match_seed=3)[slice(0, 900, 9)]
    equal(data, load_artifact(str(write_artifact(data, tmp_path / match))))


def test_an_artifact_of_an_artifact_has_the_same_bytes(folder, tmp_path):
    again = write_artifact(load_artifact(str(folder)), tmp_path / "again")
    assert (again / "meta.json").read_bytes() == (folder / "meta.json").read_bytes()


def test_another_name_may_be_given(folder):
    data = load_artifact(str(folder), name="mine")
    assert data.declared.name == "mine"
    assert data.fingerprint == logged().fingerprint


def test_arrays_are_as_documented(folder, tmp_path):
    with np.load(folder / "data.npz", allow_pickle=False) as npz:
        assert sorted(npz.files) == ["X_control", "X_pert", "delta"]
        assert {npz[k].dtype for k in npz.files} == {np.dtype(np.float32)}
        assert {npz[k].shape for k in npz.files} == {(12, 4)}
    rows = [3, 1, 2]
    cut = write_artifact(logged()[rows], tmp_path / "cut", obs_idx=np.array(rows, dtype=np.int32))
    with np.load(cut / "data.npz", allow_pickle=False) as npz:
        assert npz["obs_idx"].dtype == np.int64
        assert npz["obs_idx"].tolist() == rows
    equal(logged()[rows], load_artifact(str(cut)))


def test_meta_is_json_with_labels_and_what_is_declared(folder):
    meta = json.loads((folder / "meta.json").read_text())
    assert set(meta) == {"schema", "obs", "var", "metadata"}
    assert meta["obs"]["index"] == [f"c{i}" for i in range(12)]
    assert meta["obs"]["columns"]["dose"][:3] == [0.0, 0.1, None]
    assert meta["var"] == {"index": ["g1", "g2", "g3", "g4"], "columns": {"symbol": ["w", "x", "y", "z"]}}
    assert meta["metadata"]["fingerprint"] == logged().fingerprint


# --- refusals --------------------------------------------------------------------------------------


def test_an_edited_matrix_is_refused(folder):
    def change(arrays):
        arrays["X_pert"][5, 2] += 0.25
        arrays["delta"][5, 2] += 0.25

    edit_npz(folder, change)
    with pytest.raises(ArtifactEdited, match=rf"recorded fingerprint: given .*, expected {logged().fingerprint[:12]}"):
        load_artifact(str(folder))


@pytest.mark.parametrize(("column", "value"), [("pert_id", "B"), ("batch_id", "b7"), ("dose", 9.0), ("late", True)])
def test_an_edited_label_is_refused(folder, column, value):
    edit_meta(folder, lambda meta: meta["obs"]["columns"][column].__setitem__(2, value))
    with pytest.raises(ArtifactEdited, match="does not have its recorded fingerprint"):
        load_artifact(str(folder))


def test_an_edited_gene_scale_or_fingerprint_is_refused(folder):
    changes = (
        lambda meta: meta["var"]["index"].__setitem__(0, "g9"),
        lambda meta: meta["metadata"].update(scale="log2"),
        lambda meta: meta["metadata"].update(fingerprint="0" * 64),
        lambda meta: meta["metadata"].pop("fingerprint"),
    )
    original = (folder / "meta.json").read_bytes()
    for change in changes:
        (folder / "meta.json").write_bytes(original)
        edit_meta(folder, change)
        with pytest.raises(ArtifactEdited, match="does not have its recorded fingerprint"):
            load_artifact(str(folder))


def test_a_removed_label_is_refused(folder):
    edit_meta(folder, lambda meta: meta["obs"]["columns"]["pert_id"].__setitem__(1, None))
    with pytest.raises(MissingLabel, match="Rows have no pert_id: given 1 rows, first cell 'c1'"):
        load_artifact(str(folder))


@pytest.mark.parametrize("key", ["X_control", "X_pert", "delta"])
def test_a_missing_array_is_refused(folder, key):
    edit_npz(folder, lambda arrays: arrays.pop(key))
    with pytest.raises(ForeignArtifact, match=f"lacks parts: given .*, expected {key}"):
        load_artifact(str(folder))


@pytest.mark.parametrize("key", ["obs", "var", "metadata"])
def test_a_missing_part_of_meta_is_refused(folder, key):
    edit_meta(folder, lambda meta: meta.pop(key))
    with pytest.raises(ForeignArtifact, match=f"lacks parts: given .*, expected {key}"):
        load_artifact(str(folder))


@pytest.mark.parametrize("key", ["name", "scale"])
def test_a_missing_declaration_is_refused(folder, key):
    edit_meta(folder, lambda meta: meta["metadata"].pop(key))
    with pytest.raises(ForeignArtifact, match="metadata does not declare name and scale"):
        load_artifact(str(folder))


@pytest.mark.parametrize("key", ["X_control", "X_pert", "delta"])
def test_wrong_shapes_and_types_are_refused(folder, key):
    original = (folder / "data.npz").read_bytes()
    wrong = {
        r"float32 \(11, 4\)": lambda x: x[:-1],
        r"float32 \(12, 3\)": lambda x: x[:, :3],
        r"float64 \(12, 4\)": np.float64,
    }
    for told, change in wrong.items():
        (folder / "data.npz").write_bytes(original)
        edit_npz(folder, lambda arrays, change=change: arrays.update({key: change(arrays[key])}))
        with pytest.raises(ForeignArtifact, match=rf"{key} of .* does not fit its labels: given {told}"):
            load_artifact(str(folder))


@pytest.mark.parametrize(
    "change", [lambda t: t.pop("index"), lambda t: t["columns"]["pert_id"].pop(), lambda t: t.pop("columns")]
)
def test_a_table_that_is_none_is_refused(folder, change):
    edit_meta(folder, lambda meta: change(meta["obs"]))
    with pytest.raises(ForeignArtifact, match=r"obs of .* is not a table"):
        load_artifact(str(folder))


@pytest.mark.parametrize("key", ["X_control", "delta"])
@pytest.mark.parametrize("by", [0.01, np.nan])
def test_a_delta_that_is_no_difference_is_refused(folder, key, by):
    edit_npz(folder, lambda arrays: arrays[key].__setitem__((3, 1), arrays[key][3, 1] + np.float32(by)))
    with pytest.raises(
        ForeignArtifact, match=r"delta of .* is not X_pert - X_control: given largest difference (0.01|nan)"
    ):
        load_artifact(str(folder))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("file", ["data.npz", "meta.json"])
def test_a_truncated_file_is_refused(folder, file, share):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableFile, match=r"An artifact cannot be read: given .*art"):
        load_artifact(str(folder))


def test_every_damaged_byte_is_refused_or_harmless(folder):
    content, data = (folder / "data.npz").read_bytes(), logged()
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (folder / "data.npz").write_bytes(damaged)
        try:
            assert load_artifact(str(folder)).fingerprint == data.fingerprint
        except (UnreadableFile, ForeignArtifact, ArtifactEdited):
            continue


def test_a_missing_folder_and_missing_files_are_refused(folder, tmp_path):
    with pytest.raises(UnreadableFile, match=r"An artifact cannot be read: given .*nowhere"):
        load_artifact(str(tmp_path / "nowhere"))
    (folder / "data.npz").unlink()
    with pytest.raises(UnreadableFile, match=r"expected a folder with data.npz and meta.json"):
        load_artifact(str(folder))


def test_pickled_objects_are_never_opened(folder):
    edit_npz(folder, lambda arrays: arrays.update(delta=np.array([{"a": 1}], dtype=object)))
    with pytest.raises(UnreadableFile, match="allow_pickle=False"):
        load_artifact(str(folder))


# --- writing ---------------------------------------------------------------------------------------


def crash_at(monkeypatch, name):
    replace = Path.replace

    def crashing(self, target):
        if Path(target).name == name:
            raise RuntimeError("power cut")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crashing)


def test_a_crash_at_the_first_file_leaves_the_old_artifact(folder, monkeypatch):
    crash_at(monkeypatch, "data.npz")
    with pytest.raises(RuntimeError, match="power cut"):
        write_artifact(logged()[[0, 1, 6]], folder)
    monkeypatch.undo()
    equal(logged(), load_artifact(str(folder)))
    assert sorted(p.name for p in folder.iterdir()) == ["data.npz", "meta.json"]


def test_a_crash_between_the_files_is_seen_when_loading(folder, monkeypatch):
    crash_at(monkeypatch, "meta.json")
    with pytest.raises(RuntimeError, match="power cut"):
        write_artifact(logged()[[0, 1, 6]], folder)
    monkeypatch.undo()
    assert sorted(p.name for p in folder.iterdir()) == ["data.npz", "meta.json"]
    with pytest.raises(
        ForeignArtifact, match=r"does not fit its labels: given float32 \(3, 4\), expected float32 \(12, 4\)"
    ):
        load_artifact(str(folder))


def test_controls_edited_together_with_delta_are_refused(tmp_path):
    folder = write_artifact(logged(), tmp_path / "a")
    with np.load(folder / "data.npz") as npz:
        arrays = {k: npz[k].copy() for k in npz.files}
    arrays["X_control"][3] += 0.5
    arrays["delta"] = arrays["X_pert"] - arrays["X_control"]
    np.savez_compressed(folder / "data.npz", **arrays)
    with pytest.raises(ArtifactEdited, match="does not have its recorded controls_sha256"):
        load_artifact(str(folder))
