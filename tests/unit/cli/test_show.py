"""What a person sees when a run ends: names as they are, brackets and all."""

import pytest

from perturbfm.cli.show import print_result

COVERAGE, SHARE = "coverage[level=0.9,genes=detected10]", "pfm.obs_share[genes=detected10]"
PCC, MSE = "pfm.pcc_delta[ref=panel,genes=all]", "mse[space=mean_delta]"


def entry(value, lead=True, title=""):
    status = "ok" if value is not None else "not_applicable"
    return {"value": value, "status": status, "lead": lead, "title": title}


def metrics(share_leads=False):
    entries = {
        COVERAGE: entry(0.91, title="coverage 90%"),
        MSE: entry(9, False),
        SHARE: entry(0.55, share_leads, "[share]"),
        PCC: entry(None, title="PCC"),
    }
    return {
        "run": {"model": "a [red]b", "data": "[/i]:smile:", "split_hash": "ab" * 32},
        "gate": {"[/b]": {"verdict": "weak", "reason": "[bold]few"}},
        "metrics": entries,
        "floors": {"no_change": {i: entry(0.25) for i in entries}},
        "intervals": {"metrics": {COVERAGE: {"low": 0.8, "high": 0.95}}},
        "panel": {"name": "[/u]", "comparable": False},
    }


@pytest.fixture(params=[False, True], ids=["share beside", "share leads"])
def shown(request, capsys, tmp_path):
    print_result(metrics(request.param), tmp_path / "[/c]")
    return capsys.readouterr().out


def test_names_are_printed_as_they_are(shown):
    for word in ("[/b]: weak ([bold]few)", "a [red]b on [/i]:smile:", "the panel is '[/u]'", "[/c]"):
        assert word in shown


def test_each_metric_has_its_title_and_noise_follows_coverage(shown):
    rows = [[c.strip() for c in line.strip("│").split("│")] for line in shown.splitlines() if line.startswith("│")]
    assert rows == [
        ["coverage 90%", "0.910", "0.250"],
        ["", "0.800 to 0.950", ""],
        ["[share]", "0.550", "0.250"],
        ["PCC", "n/a", "0.250"],
    ]
    assert "n/a = not applicable" in shown


def test_nine_columns_fit_and_no_number_wraps(capsys, tmp_path):
    found = metrics()
    found["metrics"][MSE] = entry(-123.456, title="retrieval panel-centred")
    names = ["no_change", "train_mean", "source_delta", "additive", "matching_mean", "random_other", "interpolated"]
    found["floors"] = {n: {i: entry(-123.456) for i in found["metrics"]} for n in (*names, "replicate")}
    print_result(found, tmp_path)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert max(map(len, rows)) <= 140
    assert sum(line.count("-123.456") for line in rows) == 4 * 8 + 1
    assert any("retrieval panel-centred" in line for line in rows)


def test_low_dynamic_range_is_flagged_and_explained(capsys, tmp_path):
    found = metrics()
    print_result(found, tmp_path)
    assert "dynamic range" not in capsys.readouterr().out
    found["dynamic_range"] = {COVERAGE: {"flagged": True, "value": 0.1}, PCC: {"flagged": False, "value": 0.8}}
    print_result(found, tmp_path)
    out = capsys.readouterr().out
    assert "coverage 90%*" in out
    assert "PCC*" not in out
    assert "* dynamic range under 0.3" in out


def test_leaking_preprocessing_is_said_last(capsys, tmp_path):
    for leaking in (False, True):
        found = metrics()
        found["run"]["preprocess"] = {"name": "gears", "leaking": leaking}
        print_result(found, tmp_path)
        assert ("PREPROCESSING LEAKED: it learned from all cells" in capsys.readouterr().out) == leaking
