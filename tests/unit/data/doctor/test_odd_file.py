"""Files at the edge: nothing in them, one row, odd columns, many levels; and what is written and refused."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml

from perturbfm.cli import main
from perturbfm.data import load
from perturbfm.data.doctor import examine, labels_of
from perturbfm.errors import ConfigError

from .conftest import GENES, contexts_of, counts, rows, turns

N = 70
PER = {"control": N, "KLF1": N, "AHR": N, "MYC": N, "ATM": N}
PLAIN = {"perturbation": rows(PER), "cell_type": ["K562"] * 5 * N, "perturbation_type": ["CRISPRi"] * 5 * N}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_rows_are_told_and_not_read(write, home, capsys, n):
    path = write({"perturbation": ["control", "KLF1"][:n], "cell_type": ["K562"] * n}, x=counts(n))
    assert main(["doctor", str(path), "--json"]) in (0, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert json.loads(said.out)["splits"] == [] or not any(s["feasible"] for s in json.loads(said.out)["splits"])


def test_a_file_without_rows_is_told(write, expect):
    expect(examine(write({"perturbation": []}, x=counts(0)), "made"), "empty", "stop", "0 cells and 10 genes")


def test_a_file_without_columns_is_open(write, expect):
    path = write({"x": [1] * 5})
    import anndata

    data = anndata.read_h5ad(path)
    del data.obs["x"]
    data.write_h5ad(path)
    expect(examine(path, "made"), "open_pert_column", "stop", "no column reads like perturbations: none")


def test_columns_that_say_nothing_are_not_proposed(examined):
    odd = {
        "treatment": [np.nan] * 5 * N,
        "condition": ["same"] * 5 * N,
        "guide": [""] * 5 * N,
        "donor": pd.Categorical([None] * 5 * N, categories=["d"]),
        "dose": [np.nan] * 5 * N,
        "batch": [*turns(["a", "b"], 5 * N - 1), None],
        "cell_line": ["x"] * (5 * N - 1) + [None],
        "n_counts": [0] * 5 * N,
        "flag": turns([True, False], 5 * N),
    }
    keys = examined({**odd, **PLAIN}).proposal.keys
    assert set(keys) == {
        *("name", "path", "scale", "target_sum", "pert_column", "control_labels", "context_column", "mode")
    }
    assert (keys["pert_column"], keys["context_column"]) == ("perturbation", "cell_type")


def test_many_levels_are_no_perturbations(examined):
    n = 5 * N
    odd = {"target_barcode": [f"AAAC{i}" for i in range(n)], "compound_id": [f"x{i}" for i in range(n)]}
    assert examined({**odd, **PLAIN}).proposal.keys["pert_column"] == "perturbation"


def test_long_labels_are_cut_in_what_is_said(write, home, capsys):
    labels = rows({"control": N, "y" * 5_000: N, "KLF1": N})
    path = write({"perturbation": labels, "cell_type": ["K562"] * 3 * N})
    assert main(["doctor", str(path)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 400


def test_a_folder_of_zarr_is_examined(write, tmp_path):
    import anndata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anndata.read_h5ad(write(PLAIN)).write_zarr(tmp_path / "made.zarr")
    found = examine(tmp_path / "made.zarr", "made")
    assert found.proposal.keys["pert_column"] == "perturbation"
    assert found.survey.sample.whole is False


def test_text_is_examined_with_its_table_of_cells(tmp_path, home, capsys):
    cells = [f"c{i}" for i in range(5 * N)]
    pd.DataFrame(counts(5 * N), cells, list(GENES)).to_csv(tmp_path / "made.csv")
    pd.DataFrame(PLAIN, cells).to_csv(tmp_path / "obs.csv")
    words = ["doctor", str(tmp_path / "made.csv"), "--set", f"obs={tmp_path / 'obs.csv'}", "--json"]
    assert main(words) == 0
    assert yaml.safe_load(json.loads(capsys.readouterr().out)["yaml"])["obs"] == str(tmp_path / "obs.csv")
    assert load("made").n_obs == 5 * N


def test_labels_without_the_matrix_are_those_with_it(examined, write, home):
    per = {"control": N, "A": N, "B": N, "A+B": N, "nan": 9}
    columns = {"condition": rows(per, "xy"), "cell_type": contexts_of(per, "xy"), "donor": turns("12", 2 * (4 * N + 9))}
    columns["dose"] = [
        {"control": "0", "A+B": "1+1"}.get(c, d) for c, d in zip(columns["condition"], turns("12", 578), strict=True)
    ]
    path = write(columns)
    assert main(["doctor", str(path), "--set", "mode=drug"]) == 0
    mine, whole = labels_of(examine(path, "made", {"mode": "drug"})), load("made").labels()
    for name in ("cell_n", "pert_n", "context_n", "batch_n", "mode_n", "is_control_n", "dose_n"):
        assert np.array_equal(getattr(mine, name), getattr(whole, name)), name
    assert (mine.match, mine.delimiter, mine.unit) == (whole.match, whole.delimiter, whole.unit)
    assert {k: v.tolist() for k, v in mine.covariates.items()} == {k: v.tolist() for k, v in whole.covariates.items()}


def test_what_is_open_is_refused_until_it_is_filled_in(write, home, capsys):
    path = write({**PLAIN, "perturbation": [x.replace("control", "sg7") for x in PLAIN["perturbation"]]})
    assert main(["doctor", str(path)]) == 2
    assert "STOP  open_control_labels" in capsys.readouterr().out
    mine = home / "conf" / "data" / "made.yaml"
    with pytest.raises(ConfigError, match="control_labels"):
        load("made")
    mine.write_text(mine.read_text().replace("null   # fill in", "[sg7]"))
    assert load("made").obs["is_control"].sum() == N


def test_what_a_person_says_is_written_and_loads(write, home):
    path = write({**PLAIN, "perturbation": [x.replace("control", "sg7") for x in PLAIN["perturbation"]]})
    assert main(["doctor", str(path), "--set", "control_labels=[sg7]", "--set", "data.mode=knockout"]) == 0
    data = load("made")
    assert (data.obs["is_control"].sum(), set(data.obs["mode"])) == (N, {"knockout"})


# --- writing ----------------------------------------------------------------------------------------


def test_another_yaml_of_that_name_is_never_replaced(write, home, capsys):
    path = write(PLAIN)
    mine = home / "conf" / "data" / "made.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine: 1\n")
    assert main(["doctor", str(path)]) == 4
    assert "made.yaml is there already and says something else" in capsys.readouterr().err
    assert mine.read_text() == "mine: 1\n"
    assert main(["doctor", str(path), "--name", "other"]) == 0
    assert load("other").declared.name == "other"
    assert main(["doctor", str(path), "--overwrite"]) == 0
    assert load("made").n_obs == 5 * N


def test_a_name_that_comes_with_the_package_is_not_taken(write, home, capsys):
    path = write(PLAIN, name="scperturb.h5ad")
    assert main(["doctor", str(path)]) == 0
    out = capsys.readouterr().out
    assert "conf/data/scperturb_2.yaml (scperturb is a data set that comes with PerturbFM)" in out
    assert "splits create --data scperturb_2" in out
    assert load("scperturb_2").n_obs == 5 * N
    assert main(["doctor", str(path), "--name", "gears"]) == 4
    assert "PerturbFM has a data set of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("mode", "A setting has no value"),
        (
            "mod=drug",
            "A setting that no file takes: given mod=drug, expected a key of conf/data/file.yaml, such as mode",
        ),
        ("mode={", "A setting cannot be read"),
    ],
)
def test_settings_that_cannot_be_are_refused(write, home, capsys, setting, said):
    assert main(["doctor", str(write(PLAIN)), "--set", setting]) == 3
    assert said in capsys.readouterr().err


def test_what_the_loader_refuses_is_told_with_its_exit_code(write, home, capsys):
    assert main(["doctor", str(write(PLAIN)), "--set", "context_column=nowhere"]) == 2
    said = capsys.readouterr()
    assert "MissingColumn: Missing column 'nowhere' in obs" in said.err
    assert "yaml, written to" in said.out


def test_looking_only_writes_nothing(write, home, capsys):
    path = write(PLAIN)
    assert main(["doctor", str(path), "--no-write"]) == 0
    assert "yaml, not written" in capsys.readouterr().out
    assert sorted(p.name for p in home.iterdir()) == ["made.h5ad"]
