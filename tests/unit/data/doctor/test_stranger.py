"""Files as strangers bring them: where their matrix lies, which column says more, amounts in words, ten lines."""

import h5py
import numpy as np
import pytest
import yaml

from perturbfm.cli import main
from perturbfm.data import load
from perturbfm.data.doctor import examine
from perturbfm.data.doctor.written import yaml_of
from perturbfm.errors import UnreadableFile

from .conftest import GENES, contexts_of, counts, logged, rows, turns

N = 60
LABELS = {"control": N, "KLF1": N, "MYC": N}
PLAIN = {"perturbation": rows(LABELS)}


def without_x(path):
    with h5py.File(path, "a") as file:
        del file["X"]
    return path


def names(found):
    return [f.name for f in found.findings]


# --- where the matrix lies ---------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "taken"), [(("logcounts", "counts"), "counts"), (("zz", "lognorm"), "lognorm")])
def test_a_layer_is_read_where_x_is_empty(write, layers, taken):
    held = {name: counts(3 * N) if name == "counts" else logged(3 * N) for name in layers}
    found = examine(without_x(write(PLAIN, layers=held)), "made")
    assert found.proposal.keys["layer"] == taken
    assert found.proposal.keys["scale"] == ("counts" if taken == "counts" else "log1p")
    assert found.can_be_read


def test_the_raw_matrix_is_read_where_nothing_else_is_there(write):
    path = without_x(write(PLAIN, raw=counts(3 * N)))
    assert examine(path, "made").proposal.keys["layer"] == "raw"
    with pytest.raises(UnreadableFile, match="layers raw, expected X, or a layer that is named"):
        load("file", name="made", path=str(path), scale="counts")


def test_a_file_without_any_matrix_is_refused(write):
    with pytest.raises(UnreadableFile, match="The file has no matrix"):
        examine(without_x(write(PLAIN)), "made")


def test_a_layer_of_logarithms_is_taken_where_x_is_scaled(examined):
    x = logged(3 * N)
    scaled = (x - x.mean(0)) / x.std(0)
    found = examined(PLAIN, x=scaled, layers={"lognorm": x})
    assert (found.proposal.keys["layer"], found.proposal.keys["scale"]) == ("lognorm", "log1p")
    assert found.can_be_read


# --- which column says more --------------------------------------------------------------------------


def test_a_column_of_targets_comes_before_one_that_says_only_perturbed(examined):
    labels = rows({"NT": N, "KLF1": N, "MYC": N})
    columns = {"perturbation": ["NT" if x == "NT" else "Perturbed" for x in labels], "gene_target": labels}
    assert examined(columns).proposal.keys["pert_column"] == "gene_target"
    only = {"perturbation": columns["perturbation"]}
    assert examined(only).proposal.keys["pert_column"] == "perturbation"


def test_guides_without_a_control_are_perturbations_with_an_open_control(examined, expect):
    labels = rows({f"p_sg{g}-{i}": 30 for g in ("ELK1", "YY1", "IRF1") for i in (1, 2)})
    found = examined({"perturbation": labels})
    assert found.proposal.keys["pert_column"] == "perturbation"
    expect(found, "open_control_labels", "stop", "p_sg")


def test_genes_go_by_the_column_that_names_the_perturbed_ones(examined, expect):
    ensembl = [f"ENSG{i:011d}" for i in range(len(GENES))]
    found = examined(PLAIN, genes=ensembl, var={"gene_name": list(GENES)})
    assert found.proposal.keys["gene_column"] == "gene_name"
    assert "perturbed_not_measured" not in names(found)
    drug = examined({"drug": rows({"DMSO": N, "A1": N, "B1": N})}, genes=ensembl, var={"gene_name": list(GENES)})
    assert "gene_column" not in drug.proposal.keys
    expect(drug, "ensembl_ids", "warn", "gene_column: gene_name")


def test_a_gears_file_has_its_singles_alone_and_no_dose_in_a_name(examined):
    labels = rows({"ctrl": N, "KLF1+ctrl": N, "ctrl+MYC": N, "KLF1+MYC": N})
    columns = {"condition": labels, "cell_type": "K562", "cov_drug_dose_name": [f"K562_{x}_1+1" for x in labels]}
    found = examined(columns)
    assert not {"parts_not_alone", "dose_in_words"} & {*names(found)}


def test_differences_without_a_control_label_can_be_read(write, home, capsys):
    x = np.random.default_rng(0).normal(0, 0.4, (12, len(GENES))).astype(np.float32)
    labels = [*GENES, "TP53+ATM", "KLF1+JAK2"]
    path = write({"perturbation": labels, "cell_line": ["K562"] * 12}, x=x)
    assert main(["doctor", str(path), "--set", "mode=activation"]) == 0
    data = load("made")
    assert (data.declared.controls, int(data.obs["is_control"].sum()), data.n_obs) == ("baked_in", 0, 12)


# --- amounts in words --------------------------------------------------------------------------------

DRUGS = rows({"DMSO": N, "neratinib": N, "afatinib": N})


def drugs(c, of, **more):
    """A column in which each drug has two amounts in turn."""
    return {"drug": DRUGS, c: [of(x, v) for x, v in zip(DRUGS, turns([0.5, 10], 3 * N), strict=True)], **more}


@pytest.mark.parametrize(
    ("column", "of", "unit"),
    [
        ("dose", lambda x, v: f"{v} uM", "uM"),
        ("concentration", lambda x, v: f"{v}nM", "nM"),
        ("drugname_drugconc", lambda x, v: f"[('{x}', {v}, 'uM')]", "uM"),
    ],
)
def test_the_dose_is_taken_from_its_words(write, home, capsys, column, of, unit):
    path = write(drugs(column, of))
    assert main(["doctor", str(path)]) == 0
    assert "dose_in_words" not in capsys.readouterr().out
    data = load("made")
    assert (sorted(set(data.obs["dose"])), data.declared.dose_unit) == (["", "0.5", "10"], unit)


def test_doses_of_several_units_stay_words(examined, expect):
    found = examined(drugs("dose", lambda x, v: f"{v} {'nM' if v == 10 else 'uM'}"))
    assert "dose_column" not in found.proposal.keys
    expect(found, "dose_in_words", "warn", "dose_pattern")


def test_times_in_words_are_read_and_compared_within(write, home, capsys):
    path = write(drugs("time", lambda x, v: "6h" if v == 10 else "24h"))
    assert main(["doctor", str(path)]) == 0
    data = load("made")
    assert sorted(set(data.obs["time"])) == ["", "24", "6"]
    assert sorted(set(data.obs["batch_id"])) == ["24h", "6h"]
    assert data.declared.time_unit == "h"


def test_times_that_cannot_be_read_are_told_and_compared_within(examined, expect):
    found = examined(drugs("time", lambda x, v: "early" if v == 10 else "late"))
    expect(found, "time_in_words", "warn", "early", "time_pattern")
    assert found.proposal.keys["batch_column"] == "time"


# --- batches -----------------------------------------------------------------------------------------


def test_batches_without_controls_are_told(examined, expect):
    batch = [f"b{i % 3}" for i in range(3 * N)]
    label = ["KLF1" if x == "control" and b == "b2" else x for x, b in zip(PLAIN["perturbation"], batch, strict=True)]
    found = examined({"perturbation": label, "batch": batch})
    assert "batch_column" not in found.proposal.keys
    expect(found, "batch_without_controls", "warn", "1 of 3 levels of batch", "drop: {batch: [b2]}")
    fine = examined({**PLAIN, "batch": batch})
    assert "batch_without_controls" not in names(fine)
    own = [{"control": "b0", "KLF1": "b1", "MYC": "b2"}[x] for x in PLAIN["perturbation"]]
    expect(examined({**PLAIN, "batch": own}), "batch_without_controls", "warn", "2 of 3 levels", "drop")


# --- ten lines ---------------------------------------------------------------------------------------


def test_many_keys_are_left_to_a_template_until_ten_lines_are_left(write, home, capsys):
    lines = ("A549", "K562")
    labels = rows({"control": N, "neratinib": N, "afatinib": N}, lines)
    labels[-3:] = ["nan"] * 3
    columns = {"perturbation": labels, "cell_line": contexts_of({"x": 3 * N}, lines)}
    columns |= {"dose_value": turns([10.0, 1000.0], 6 * N), "dose_unit": ["nM"] * 6 * N}
    columns |= {"replicate": turns(["r1", "r1", "r2"], 6 * N), "time": turns([24, 24, 24, 72, 72, 72], 6 * N)}
    path = write(columns)
    assert main(["doctor", str(path), "--name", "mine"]) == 0
    text = (home / "conf" / "data" / "mine.yaml").read_text()
    said = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(said) <= 10 < len(examine(path, "mine").proposal.keys)
    assert yaml.safe_load(text)["defaults"] == ["scperturb"]
    assert "#   pert_column: 4 labels (scperturb.yaml says it)" in text
    data = load("mine")
    assert (data.n_obs, data.declared.delimiter, data.declared.dose_unit) == (6 * N - 3, None, "nM")
    assert (sorted(set(data.obs["dose"])), set(data.obs["batch_id"])) == (
        ["", "10", "1000"],
        {"r1::24", "r1::72", "r2::24", "r2::72"},
    )


def test_few_keys_are_all_written(examined):
    found = examined(PLAIN)
    assert "control_labels" in yaml.safe_load(yaml_of(found.proposal, "about"))


# --- several files -----------------------------------------------------------------------------------


def lines_of(write, name="{}.h5", cell_line=True, **options):
    """A file for each of three cell lines, as STATE keeps them."""
    for i, line in enumerate(("hepg2", "jurkat", "k562")):
        columns = {"gene": rows({"non-targeting": N, "KLF1": N, "MYC": N}), "gem_group": turns([1, 2], 3 * N)}
        columns |= {"cell_line": [line] * 3 * N} if cell_line else {}
        path = write(columns, x=counts(3 * N, len(GENES), seed=i), name=name.format(line), **options)
    return path.parent


def test_a_pattern_of_files_is_one_data_set(write, home, capsys):
    folder = lines_of(write)
    assert main(["doctor", f"{folder}/*.h5", "--name", "mine", "--set", "mode=knockdown"]) == 0
    assert "hepg2.h5 and 2 more: 540 cells x 10 genes" in capsys.readouterr().out
    data = load("mine")
    assert (data.n_obs, sorted(set(data.obs["context_id"]))) == (9 * N, ["hepg2", "jurkat", "k562"])
    assert sorted(set(data.obs["batch_id"])) == ["1", "2"]
    assert data.obs.index[0] == "hepg2:c0"


def test_files_that_do_not_say_their_line_are_named_by_it(write, home, capsys):
    folder = lines_of(write, cell_line=False)
    paths = [str(p) for p in sorted(folder.glob("*.h5"))]
    assert main(["doctor", *paths, "--name", "mine", "--set", "mode=knockdown"]) == 0
    assert yaml.safe_load((home / "conf" / "data" / "mine.yaml").read_text())["file_context"] is True
    data = load("mine")
    assert sorted(set(data.obs["context_id"])) == ["hepg2", "jurkat", "k562"]


def test_several_files_have_the_genes_they_share(write, home, capsys):
    folder = lines_of(write)
    write(
        {"gene": rows({"non-targeting": N, "KLF1": N}), "gem_group": 1, "cell_line": "rpe1"},
        genes=GENES[::-1],
        name="rpe1.h5",
    )
    write(
        {"gene": rows({"non-targeting": N, "KLF1": N}), "gem_group": 1, "cell_line": "x"}, genes=GENES[:8], name="x.h5"
    )
    found = examine(sorted(folder.glob("*.h5")), "made")
    assert (found.proposal.keys["genes"], found.survey.n_obs, len(found.survey.genes)) == ("intersect", 13 * N, 8)
    write({"gene": rows({"non-targeting": N, "KLF1": N})}, genes=list("abcdefgh"), name="other.h5")
    assert main(["doctor", f"{folder}/*.h5"]) == 2
    assert "do not have the same genes" in capsys.readouterr().err


def test_a_pattern_without_files_is_refused(home, capsys):
    assert main(["doctor", "nothing/*.h5"]) == 2
    assert "a pattern that files match" in capsys.readouterr().err


# --- labels that look alike --------------------------------------------------------------------------


def test_spaces_around_labels_are_dropped_and_told(write, home, capsys):
    labels = [x + " " if x == "KLF1" and i % 3 else x for i, x in enumerate(PLAIN["perturbation"])]
    assert main(["doctor", str(write({"perturbation": labels}))]) == 0
    said = capsys.readouterr().out
    assert "spaces: 1 labels begin or end with a space" in said
    assert "label_variants" not in said
    assert sorted(set(load("made").obs["pert_id"])) == ["KLF1", "MYC", "control"]


def test_a_context_in_two_spellings_is_told(examined, expect):
    lines = ["K562", "k562 "]
    found = examined({"perturbation": rows(LABELS, lines), "cell_line": contexts_of({"x": 3 * N}, lines)})
    expect(found, "level_variants", "warn", "1 levels of cell_line", "'K562' = 'k562 '")


def test_a_second_column_of_targets_stops(examined, expect):
    first = rows({"NegCtrl": N, "KLF1": N, "MYC": N, "ATM": N})
    second = ["MYC" if x == "KLF1" and i % 2 else "ATM" if i % 7 == 0 else "NegCtrl" for i, x in enumerate(first)]
    found = examined({"guide_target_1": first, "guide_target_2": second})
    expect(found, "second_target", "stop", "guide_target_2, e.g. KLF1 and ", "A+B")
    same = examined({"guide_target_1": first, "guide_target_2": first})
    assert "second_target" not in names(same)
    renamed = ["ATM2" if x == "ATM" else "KLF1" if x == "MYC" else "MYC" if x == "KLF1" else x for x in first]
    assert "second_target" not in names(examined({"guide_target_1": first, "guide_target_2": renamed}))


def test_an_alias_settles_a_delimiter_in_a_name(examined, expect):
    columns = {"condition": rows({"DMSO": N, "(+)-JQ1": N, "SAHA": N, "AR42": N, "SAHA+AR42": N})}
    expect(examined(columns), "delimiter_in_name", "stop", "(+)-JQ1")
    assert examined(columns, {"aliases": {"(+)-JQ1": "JQ1"}}).can_be_read
