"""A file of each project is read by its template; a data set of the user's needs one yaml and no code."""

import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from perturbfm.data import load
from perturbfm.errors import UnreadableFile

LOG = np.arange(1, 13, dtype=np.float32).reshape(4, 3) / np.float32(8)
COUNTS = np.array([[1, 2, 3], [4, 0, 1], [0, 5, 2], [7, 1, 1]], dtype=np.float32)
GENES = ["TP53", "ATM", "KLF1"]


@pytest.fixture
def write(tmp_path):
    def write_file(name, columns, x=LOG, var=None, index=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            obs = pd.DataFrame(columns, index=index or [f"c{i}" for i in range(len(x))])
            AnnData(X=x, obs=obs, var=pd.DataFrame(var or {}, index=GENES)).write_h5ad(tmp_path / "tmp.h5ad")
        (tmp_path / "tmp.h5ad").rename(tmp_path / name)
        return str(tmp_path / name)

    return write_file


def labels(data):
    return data.obs["pert_id"].tolist(), data.obs["context_id"].tolist()


def test_perturbench(write):
    columns = {
        "condition": ["control", "KLF1+AHR", "control", "PLK4"],
        "cell_type": ["k562", "k562", "A172", "A172"],
        "perturbation_type": ["CRISPRa", "CRISPRa", "CRISPRi", "CRISPRi"],
        "dataset": ["norman19", "norman19", "mcfaline23", "mcfaline23"],
    }
    data = load("perturbench", name="mine", path=write("x.h5ad", columns))
    assert labels(data) == (["control", "AHR+KLF1", "control", "PLK4"], ["k562", "k562", "A172", "A172"])
    assert data.obs["mode"].tolist()[1::2] == ["activation", "knockdown"]
    one = load("perturbench", name="mine", path=write("x.h5ad", columns), keep={"dataset": ["norman19"]})
    assert (one.n_obs, set(one.obs["context_id"])) == (2, {"k562"})


def test_gears(write):
    columns = {"condition": ["ctrl", "KLF1+ctrl", "ctrl+AHR", "KLF1+AHR"], "cell_type": ["A549"] * 4}
    path = write("x.h5ad", columns, var={"gene_name": ["a", "b", "c"]})
    data = load("gears", name="norman", path=path, context="K562", mode="activation")
    assert labels(data) == (["control", "KLF1", "AHR", "AHR+KLF1"], ["K562"] * 4)
    assert data.genes == ("a", "b", "c")


def test_scperturb_combinations_and_missing_labels(write):
    columns = {"perturbation": ["control", "KLF1_AHR", None, "nan"], "cell_line": ["K562"] * 4}
    data = load("scperturb", name="norman", path=write("x.h5ad", columns, COUNTS), mode="activation")
    assert labels(data) == (["control", "AHR_KLF1"], ["K562"] * 2)
    assert data.declared.source == "2 rows without a perturbation label left out; counts / row sum * 10000, log1p"


def test_scperturb_guides_and_doses(write):
    columns = {"perturbation": ["control", "STAT1g2", "JAK2g1", "JAK2g2"], "cell_line": ["THP-1"] * 4}
    path = write("x.h5ad", columns, COUNTS)
    data = load("scperturb", name="papalexi", path=path, mode="knockout", guide_pattern=r"^(.+?)g\d+$")
    assert data.obs["pert_id"].tolist() == ["control", "STAT1", "JAK2", "JAK2"]
    columns = {"perturbation": ["control", "A", "A", "B"], "cell_line": ["A549"] * 4, "dose_value": [0.0, 10, 1e4, 100]}
    given = {"mode": "drug", "dose_column": "dose_value", "dose_factor": 0.001, "dose_unit": "uM", "delimiter": None}
    data = load("scperturb", name="sciplex", path=write("y.h5ad", columns, COUNTS), **given)
    assert data.obs["dose"].tolist() == ["", "0.01", "10", "0.1"]


def test_state_one_file_per_cell_line(write, tmp_path):
    for line in ("hepg2", "jurkat"):
        genes = ["non-targeting", "AARS", "AARS", "NUP107"]
        write(f"{line}.h5", {"gene": genes, "cell_type": [line] * 4, "gem_group": [1, 1, 2, 2]}, COUNTS)
    data = load("state", name="nadig", path=str(tmp_path / "*.h5"), mode="knockdown")
    assert data.obs["context_id"].tolist() == ["hepg2"] * 4 + ["jurkat"] * 4
    assert data.obs.index.tolist()[3:5] == ["hepg2:c3", "jurkat:c0"]
    assert data.obs["batch_id"].tolist()[:4] == ["1", "1", "2", "2"]


def test_pertpy(write):
    columns = {"perturbation": ["control", "A+B", "A", "B"], "cell_type": ["T"] * 4}
    data = load("pertpy", name="mine", path=write("x.h5ad", columns, COUNTS), mode="knockout")
    assert data.obs["pert_id"].tolist() == ["control", "A+B", "A", "B"]
    columns = {"label": ["ctrl", "stim", "ctrl", "stim"], "cell_type": ["B", "B", "T", "T"]}
    given = {"pert_column": "label", "control_labels": ["ctrl"], "mode": "ligand"}
    data = load("pertpy", name="kang", path=write("y.h5ad", columns, COUNTS), **given)
    assert labels(data) == (["control", "stim"] * 2, ["B", "B", "T", "T"])


def test_scperturbench(write, tmp_path):
    columns = {"condition1": ["T", "T", "B", "B"], "condition2": ["control", "IFN", "control", "IFN"]}
    data = load("scperturbench", name="kang", path=write("x.h5ad", columns), mode="ligand")
    assert labels(data) == (["control", "IFN"] * 2, ["T", "T", "B", "B"])
    with pytest.raises(UnreadableFile, match=r"GPL-3\.0.*third_party/"):
        load("scperturbench", name="kang", path=str(tmp_path / "scPerturBench" / "kang.h5ad"), mode="ligand")


def test_pseudobulk(write):
    columns = {"perturbation": ["control", "A", "B", "A+B"], "cell_type": ["K562"] * 4}
    data = load("pseudobulk", name="mine", path=write("x.h5ad", columns, LOG - 1), mode="activation")
    np.testing.assert_array_equal(data.delta, LOG - 1)
    assert (data.declared.unit, data.declared.controls, data.declared.scale) == ("pseudobulk", "baked_in", "delta")


def test_tenx_and_csv(tmp_path):
    cells = pd.DataFrame({"perturbation": ["control", "A"] * 2, "cell_type": ["T"] * 4}, [f"c{i}" for i in range(4)])
    cells.to_csv(tmp_path / "cells.csv")
    given = {"name": "mine", "mode": "drug", "obs": str(tmp_path / "cells.csv")}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        from scipy import sparse

        x = sparse.csc_matrix(COUNTS.T)
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = x.data.astype(np.int32), x.indices, x.indptr
        group["shape"], group["barcodes"] = np.array(x.shape), np.array([c.encode() for c in cells.index])
        names = np.array([g.encode() for g in GENES])
        group["features/id"], group["features/name"] = names, names
        group["features/feature_type"] = np.array([b"Gene Expression"] * 3)
    tenx = load("tenx", path=str(tmp_path / "x.h5"), **given)
    pd.DataFrame(COUNTS.T, GENES, cells.index).to_csv(tmp_path / "x.csv")
    text = load(
        "csv", path=str(tmp_path / "x.csv"), scale="counts", orientation="genes_by_cells", target_sum=1e4, **given
    )
    assert labels(tenx) == labels(text) == (["control", "A"] * 2, ["T"] * 4)
    assert tenx.fingerprint == text.fingerprint


@pytest.mark.parametrize("name", ["x.h5", "x.h5mu"])
def test_a_file_of_another_format_is_loaded_by_its_path(write, tmp_path, name):
    path = write(name, {"pert": ["control", "A", "A", "A"]})
    given = {"pert_column": "pert", "context_column": None, "context": "k", "mode": "drug"}
    assert load(path, scale="log1p", **given).declared.name == "x"


MINE = """defaults: [{template}, _self_]
name: mine
path: {path}
scale: log1p
pert_column: drug
context_column: line
control_labels: [DMSO]
mode: drug
"""


@pytest.mark.parametrize("template", ["file", "h5ad"])
def test_a_data_set_needs_one_yaml_and_no_code(write, tmp_path, monkeypatch, template):
    columns = {"drug": ["DMSO", "X", "DMSO", "Y"], "line": ["a", "a", "b", "b"]}
    path = write("mine.h5ad", columns)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(MINE.format(path=path, template=template))
    monkeypatch.setenv("PERTURBFM_CONF", str(tmp_path / "conf"))
    data = load("mine")
    assert labels(data) == (["control", "X", "control", "Y"], ["a", "a", "b", "b"])
    np.testing.assert_array_equal(data.delta[1::2], (LOG[1::2] - LOG[::2]))
