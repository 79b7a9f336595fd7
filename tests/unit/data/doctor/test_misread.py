"""What the doctor once read wrongly: pooled times, doses of second treatments, units, layers, missing contexts."""

from perturbfm.cli import main

from .conftest import contexts_of, counts, logged, rows, turns

N = 72
DRUGS = {"DMSO": N, "neratinib": N, "afatinib": N}
GUIDES = {"non-targeting": N, "KLF1": N, "AHR": N}


def drugs(**columns):
    return {"drug": rows(DRUGS), "cell_line": ["A375"] * 3 * N, **columns}


def test_controls_of_several_times_are_compared_within(examined):
    keys = examined(drugs(time=turns([6, 24], 3 * N))).proposal.keys
    assert (keys["time_column"], keys["batch_column"]) == ("time", "time")
    keys = examined(drugs(time=turns([6, 24], 3 * N), plate=turns("aabb", 3 * N))).proposal.keys
    assert keys["batch_column"] == ["plate", "time"]


def test_a_time_without_controls_stops(examined, expect):
    found = examined(drugs(time=[*turns([6, 24], N), *turns([6, 24, 72], 2 * N)]))
    expect(found, "controls_of_several_times", "stop", "2 values of time")


def test_columns_are_judged_on_rows_that_are_read(examined, expect):
    per = {**DRUGS, "nan": 9}
    line = [*["A375"] * 3 * N, *[None] * 9]
    assert examined({"drug": rows(per), "cell_line": line}).proposal.keys["context_column"] == "cell_line"
    found = examined({"drug": rows(per), "cell_line": [None, *line[1:]]})
    assert found.proposal.keys["context_column"] is None
    expect(found, "context_missing", "warn", "cell_line is missing in 1 of 216 rows")


def test_a_dose_under_guides_is_not_theirs(examined, expect):
    label = rows(GUIDES, "AB")
    columns = {"gene": label, "cell_type": contexts_of(GUIDES, "AB"), "dose": turns([0.0, 1.0], 6 * N)}
    keys = examined(columns).proposal.keys
    assert (keys["mode"], keys["context_column"]) == ("other", ["cell_type", "dose"])
    assert "dose_column" not in keys
    found = examined(columns, {"context_column": "cell_type"})
    expect(found, "dose_of_second_treatment", "warn", "Add dose to context_column")


def test_several_units_stop_until_one_is_kept(examined, expect):
    columns = drugs(dose=[0.0] * N + turns([1.0, 10.0], 2 * N), dose_unit=["nM"] * 2 * N + ["uM"] * N)
    expect(examined(columns), "dose_units_mixed", "stop", "nM, uM")
    kept = examined(columns, {"keep": {"dose_unit": ["nM"]}})
    assert "dose_units_mixed" not in [f.name for f in kept.findings]


def test_a_layer_is_what_it_holds(examined):
    x = counts(3 * N)
    flat = 1e4 * x / x.sum(1, keepdims=True)
    keys = examined(drugs(), x=flat, layers={"counts": logged(3 * N)}).proposal.keys
    assert (keys["layer"], keys["scale"]) == ("counts", "log1p")
    assert "layer" not in examined(drugs(), x=flat, layers={"counts": flat}).proposal.keys
    found = examined(drugs(), x=logged(3 * N), layers={"counts": logged(3 * N)})
    assert "counts_in_layer" not in [f.name for f in found.findings]


def test_small_values_of_equal_sums_are_not_logged(examined, expect):
    x = counts(3 * N)
    expect(examined(drugs(), x=10 * x / x.sum(1, keepdims=True)), "scale", "stop", "row sums all 10")


def test_a_bare_word_is_no_list_and_what_stops_fails(write, home, capsys):
    path = write(drugs(dose=[0.0] * N + turns([1.0, 10.0], 2 * N), dose_unit=["nM"] * 2 * N + ["uM"] * N))
    assert main(["doctor", str(path), "--set", "control_labels=DMSO"]) == 3
    assert "data.control_labels is a list" in capsys.readouterr().err
    assert main(["doctor", str(path), "--no-write"]) == 2
    said = capsys.readouterr()
    assert "STOP  dose_units_mixed" in said.out
    assert "needs  memory" in said.out
