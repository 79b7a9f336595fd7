"""A file of each project: the yaml that the doctor writes loads as it is, and the printed words freeze a split."""

import json
import shlex
import warnings
from itertools import cycle, islice

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm import run_experiment
from perturbfm.cli import main
from perturbfm.data import load
from perturbfm.split import SplitStore

PERTS = ["TP53", "ATM", "KLF1", "JAK2", "STAT1", "AHR", "FEV", "MYC", "CD86", "BRD4"]
DRUGS = [
    "neratinib",
    "CP-724714",
    "(+)-JQ1",
    "Belinostat",
    "1,2-diol",
    "afatinib",
    "AZD_1480",
    "PD-0325901",
    "I-BET",
    "SB.1",
]
COMPLEX = ["A", "B", "C", "D", "E", "F", "A+B", "C+D", "A+C", "B+D", "E+F", "A+F"]
GENES = [*PERTS[:6], *(f"G{i}" for i in range(14))]
N = 24


def turn(values, n):
    return list(islice(cycle(values), n))


def cells(control, labels=PERTS, contexts=("k",), n_control=72, n=N):
    """Labels and contexts of every cell: controls and each perturbation in each context."""
    label = [x for _ in contexts for x in ([control] * n_control + [p for p in labels for _ in range(n)])]
    return label, [c for c in contexts for _ in range(n_control + n * len(labels))]


def norman_scperturb():
    label, _ = cells("control", [x.replace("+", "_") for x in COMPLEX])
    n = len(label)
    keys = {"pert_column": "perturbation", "delimiter": "_", "context_column": "cell_line", "batch_column": "gemgroup"}
    kind = {"perturbation_type": ["CRISPR"] * n, "nperts": [0 if x == "control" else x.count("_") + 1 for x in label]}
    return {"perturbation": label, "cell_line": ["K562"] * n, "celltype": ["lymphoblasts"] * n, **kind,
            "gemgroup": turn([1, 2], n)}, keys | {"context_column": "celltype", "mode": "other"}  # fmt: skip


def gears():
    label, line = cells("ctrl", [x if "+" in x else f"{x}+ctrl" for x in COMPLEX])
    columns = {"condition": label, "cell_type": ["A549"] * len(line), "control": [int(x == "ctrl") for x in label]}
    columns["condition_name"] = [f"A549_{x}_1+1" for x in label]
    columns["dose_val"] = ["1" if x == "ctrl" else "1+1" for x in label]
    return columns, {"pert_column": "condition", "control_labels": ["ctrl"], "drop_control_parts": True}


def replogle():
    label, _ = cells("non-targeting")
    n = len(label)
    columns = {"gem_group": turn([1, 2, 3], n), "gene": label, "gene_id": [f"ENSG{hash_of(x):011d}" for x in label]}
    columns["gene_transcript"] = [f"{i}_{x}_P1_ENSG" for i, x in enumerate(label)]
    columns |= {"sgID_AB": [f"{x}_+_1.23-P1P2|{x}_-_1.23-P1P2" for x in label], "mitopercent": np.linspace(0, 0.1, n)}
    keys = {"pert_column": "gene", "control_labels": ["non-targeting"], "batch_column": "gem_group"}
    return columns, keys | {"context_column": None}


def hash_of(text):
    return sum(map(ord, text))


def kang():
    label, kind = cells("ctrl", ["stim"], ["B", "NK", "CD4 T", "CD8 T", "CD14+ Mono", "DC"], 40, 40)
    columns = {"label": label, "cell_type": kind, "replicate": turn(["patient_101", "patient_1015"], len(label))}
    keys = {
        "pert_column": "label",
        "control_labels": ["ctrl"],
        "context_column": "cell_type",
        "batch_column": "replicate",
    }
    return columns, keys


def frangieh():
    label, setting = cells("control", contexts=["Control", "Co-culture", "IFN-gamma"])
    columns = {"perturbation": label, "perturbation_2": setting, "cell_line": ["melanoma"] * len(label)}
    return columns, {"pert_column": "perturbation", "context_column": ["cell_line", "perturbation_2"]}


def mcfaline():
    per = [*PERTS, "TP53,ATM", "ATM,NTC"]
    label, line = cells("NTC", per, ["A172", "T98G", "U87MG"], n=12)
    columns = {"gene_id": label, "cell_type": line, "treatment": ["vehicle"] * len(label), "dose": [0.0] * len(label)}
    return columns, {"pert_column": "gene_id", "control_labels": ["NTC"], "delimiter": ",", "drop_control_parts": True}


def jiang():
    label, line = cells("NT", contexts=["A549", "HT29", "MCF7"], n=12)
    columns = {"gene": label, "cell_type": line, "treatment": ["IFNB"] * len(label), "guide": [f"{x}g1" for x in label]}
    return columns, {"pert_column": "gene", "control_labels": ["NT"], "context_column": "cell_type"}


def op3():
    label, kind = cells("Dimethyl Sulfoxide", DRUGS, ["B cells", "NK cells", "T cells CD4+"], n=12)
    columns = {"sm_name": label, "cell_type": kind, "donor_id": turn(["d1", "d2"], len(label))}
    columns |= {
        "plate_name": turn(["p1", "p1", "p2", "p2"], len(label)),
        "dose_uM": [14.1 if x == "Dimethyl Sulfoxide" else 1.0 for x in label],
    }
    columns |= {
        "well": turn([f"A{i}" for i in range(96)], len(label)),
        "control": [x in ("Dimethyl Sulfoxide", "Belinostat") for x in label],
    }
    return columns, {"pert_column": "sm_name", "control_labels": ["Dimethyl Sulfoxide"], "mode": "drug"}


def papalexi_guides():
    label, _ = cells("control", [f"{g}g{i}" for g in PERTS for i in (1, 2)], n=12)
    columns = {
        "perturbation": label,
        "cell_line": ["THP-1"] * len(label),
        "hto": turn(["rep1-tx", "rep2-tx"], len(label)),
    }
    return columns, {"pert_column": "perturbation", "context_column": "cell_line", "batch_column": "hto"}


def tahoe():
    label, line = cells("DMSO_TF", DRUGS, ["CVCL_0023", "CVCL_0480"], n=16)
    columns = {"drug": label, "cell_line_id": line, "plate": turn(["plate1", "plate2"], len(label))}
    columns |= {"sample": turn([f"smp_{i}" for i in range(60)], len(label)), "moa-fine": ["x"] * len(label)}
    return columns, {"pert_column": "drug", "control_labels": ["DMSO_TF"], "batch_column": "plate", "mode": "drug"}


def vcc():
    label, _ = cells("non-targeting")
    columns = {
        "target_gene": label,
        "guide_id": [f"{x}_P1_A|{x}_P1_B" for x in label],
        "batch": turn(["F1", "F2"], len(label)),
    }
    return columns, {"pert_column": "target_gene", "control_labels": ["non-targeting"], "batch_column": "batch"}


def xatlas():
    label, _ = cells("Non-Targeting")
    columns = {
        "gene_target": label,
        "guide_target": [f"{x}_1" for x in label],
        "sample": turn(["s1", "s2"], len(label)),
    }
    columns["pass_guide_filter"] = turn([True, True, False], len(label))
    return columns, {"pert_column": "gene_target", "control_labels": ["Non-Targeting"], "batch_column": "sample"}


def lincs():
    label, line = cells("DMSO", DRUGS, ["A375", "MCF7"], n=12)
    dose = [0.0 if x == "DMSO" else d for x, d in zip(label, turn([0.1, 1.0, 10.0], len(label)), strict=True)]
    kind = ["ctl_vehicle" if x == "DMSO" else "trt_cp" for x in label]
    columns = {"pert_iname": label, "cell_id": line, "pert_type": kind, "pert_dose": dose}
    columns |= {"pert_dose_unit": ["-666" if x == "DMSO" else "um" for x in label], "pert_time": [24] * len(label)}
    return columns, {"pert_column": "pert_iname", "dose_column": "pert_dose", "dose_unit": "um", "mode": "drug"}


def state():
    label, line = cells("non-targeting", contexts=["hepg2", "jurkat", "k562"], n=12)
    columns = {"gene": label, "cell_type": line, "gem_group": turn([1, 2], len(label))}
    return columns, {"pert_column": "gene", "context_column": "cell_type", "batch_column": "gem_group"}


def scperturbench():
    label, line = cells("control", contexts=["A549", "K562", "MCF7"], n=12)
    return {"condition1": line, "condition2": label}, {"pert_column": "condition2", "context_column": "condition1"}


def sciplex():
    label, line = cells("control", DRUGS, ["A549", "K562"], n=16)
    dose = [
        0.0 if x == "control" else d for x, d in zip(label, turn([10.0, 100.0, 1000.0, 1e4], len(label)), strict=True)
    ]
    columns = {
        "perturbation": [*label[:-9], *[None] * 9],
        "cell_line": line,
        "dose_value": dose,
        "dose_unit": ["nM"] * len(label),
    }
    columns |= {"replicate": turn(["rep1", "rep2"], len(label)), "perturbation_type": ["drug"] * len(label)}
    return columns, {
        "pert_column": "perturbation",
        "dose_column": "dose_value",
        "dose_unit": "nM",
        "drop_missing": True,
    }


def perturbench():
    label, line = cells("control", COMPLEX, ["k562", "A172"])
    kind = [{"k562": "CRISPRa", "A172": "CRISPRi"}[x] for x in line]
    columns = {"condition": label, "cell_type": line, "perturbation_type": kind, "treatment": ["none"] * len(label)}
    return columns, {"pert_column": "condition", "delimiter": "+", "mode_column": "perturbation_type"}


# --- names that nobody listed -----------------------------------------------------------------------


def unseen_spellings():
    label, line = cells("vehicle", DRUGS, ["HepG2", "A375"], n=16)
    dose = [0.0 if x == "vehicle" else d for x, d in zip(label, turn([0.1, 1.0, 10.0], len(label)), strict=True)]
    columns = {
        "Drug Name": label,
        "Cell.Line": line,
        "concentration_uM": dose,
        "Plate-ID": turn(["1", "2"], len(label)),
    }
    keys = {"pert_column": "Drug Name", "context_column": "Cell.Line", "dose_column": "concentration_uM"}
    return columns, keys | {"dose_unit": "uM", "batch_column": "Plate-ID", "mode": "drug"}


def unseen_flag():
    label, kind = cells("OR1A1", contexts=["naïve", "βcell"], n=12)
    columns = {"KO.Gene": label, "cellType": kind, "isControl": [x == "OR1A1" for x in label]}
    return columns, {"pert_column": "KO.Gene", "context_column": "cellType", "control_labels": ["OR1A1"]}


def unseen_group():
    label, kind = cells("PBS", ["IFN-β", "TNF-α", "IL-6", "IL-2", "IL-4", "IL-10"], ["T", "B"])
    columns = {"treatment_group": label, "Cell Type": kind, "('obs', 'n')": [1.5] * len(label)}
    return columns, {"pert_column": "treatment_group", "context_column": "Cell Type", "control_labels": ["PBS"]}


def unseen_content():
    label, kind = cells("scramble")
    return {"arm": label, "x.y": kind}, {"pert_column": "arm", "context_column": None, "control_labels": ["scramble"]}


def unseen_codes():
    label, _ = cells("control")
    code = pd.Categorical([0 if x == "control" else 1 + PERTS.index(x) for x in label])
    return {"Perturbation": code, "is_ctrl": [int(x == "control") for x in label]}, {"control_labels": ["0"]}


FORMATS = (
    norman_scperturb, gears, replogle, kang, frangieh, mcfaline, jiang, op3, papalexi_guides, tahoe, vcc, xatlas, lincs,
    state, scperturbench, sciplex, perturbench, unseen_spellings, unseen_flag, unseen_group, unseen_content,
    unseen_codes,
)  # fmt: skip
LOGGED = (gears, scperturbench, perturbench, jiang)


def written(folder, name, columns, logged):
    n = len(next(iter(columns.values())))
    x = np.random.default_rng(0).poisson(3.0, (n, len(GENES))).astype(np.float32)
    x[:, 0] += 1
    x = np.log1p(1e4 * x / x.sum(1, keepdims=True)) if logged else x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])
        AnnData(X=sparse.csr_matrix(x), obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(folder / f"{name}.h5ad")
    return str(folder / f"{name}.h5ad")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERTURBFM_SPLITS", str(tmp_path / "splits"))
    return tmp_path


def chain(home, capsys, make, name):
    """Examine, load by name, freeze a split with the printed words; what the doctor said, and the split's hash."""
    columns, keys = make()
    path = written(home, name, columns, make in LOGGED)
    assert main(["doctor", path, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    text = (home / "conf" / "data" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text == report["yaml"]
    assert report["can_be_read"], report["findings"]
    feasible = [s for s in report["splits"] if s["feasible"]]
    assert feasible, report["splits"]
    assert main([*shlex.split(feasible[0]["words"])[1:], "--no-gate"]) == 0
    frozen = capsys.readouterr().out.split()[-1]
    return report, keys, frozen


@pytest.mark.parametrize("make", FORMATS, ids=lambda f: f.__name__)
def test_the_written_yaml_loads_and_the_printed_words_freeze_a_split(home, capsys, make):
    name = f"file_{make.__name__}"
    report, keys, frozen = chain(home, capsys, make, name)
    proposed = report["keys"]
    assert {k: proposed.get(k, "absent") for k in keys} == keys
    data = load(name)
    assert data.declared.name == name
    assert 0 < data.obs["is_control"].sum() < data.n_obs
    split = SplitStore(home / "splits", ()).load(frozen)
    assert split.fingerprint == data.fingerprint
    assert all(f["fix"].endswith(".") for f in report["findings"])


@pytest.mark.parametrize("make", [kang, unseen_spellings], ids=lambda f: f.__name__)
def test_a_run_on_the_proposed_yaml_and_split_finishes(home, capsys, make):
    name = f"file_{make.__name__}"
    _, _, frozen = chain(home, capsys, make, name)
    given = [f"data={name}", "split=frozen", f"split.hash={frozen}", "model=global_mean", "eval=quick"]
    result = run_experiment([*given, "trainer.accelerator=cpu"])
    assert result.report.is_file()


REAL = {
    "kang18_ifnb1k_counts": {"scale": "counts", "pert_column": "stim", "context_column": "seurat_annotations"},
    "kang18_pbmc_scgen": {"scale": "log1p", "pert_column": "condition", "context_column": "cell_type"},
    "lincs_ljp005_a375": {"scale": "log2", "dose_column": "pert_dose", "unit": "pseudobulk", "mode": "drug"},
    "norman19_pseudobulk": {"scale": "delta", "controls": "baked_in", "delimiter": "+", "mode": "activation"},
    "papalexi21_eccite": {"size_column": "response_n_umis", "batch_column": "bio_rep", "context_column": None},
    "perturbench_devel": {"delimiter": "+", "mode_column": "perturbation_type", "covariates": ["dataset"]},
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_a_real_file_needs_at_most_ten_lines_and_carries_a_split(home, capsys, real_data, name):
    assert main(["doctor", str(real_data / name / f"{name}.h5ad"), "--name", "mine", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    lines = [line for line in report["yaml"].splitlines() if not line.startswith("#")]
    assert len(lines) - any(line.startswith("name:") for line in lines) <= 10
    assert {k: report["keys"][k] for k in REAL[name]} == REAL[name]
    feasible = [s for s in report["splits"] if s["feasible"]]
    assert main([*shlex.split(feasible[0]["words"])[1:], "--no-gate"]) == 0
    frozen = SplitStore(home / "splits", ()).load(capsys.readouterr().out.split()[-1])
    assert frozen.fingerprint == load("mine").fingerprint
