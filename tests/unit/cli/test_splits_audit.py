"""What a person types to have a split audited, and what comes back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perturbfm import run_experiment
from perturbfm.cli import main
from perturbfm.config import compose_config, config_hash
from perturbfm.errors import SplitLeaks
from perturbfm.split import SplitStore
from perturbfm.split.audit import CHECKS

HASH = compose_config().split.hash
SHIPPED = SplitStore(Path(__file__).parents[3] / "splits")
SAME = "P01\tP02\n"
"""In C1 the first is in calibration and the second in train."""

AUDIT = ["splits", "audit", HASH, "--data", "synthetic"]


def test_every_check_has_a_line_and_the_verdict_is_last(capsys):
    assert main(AUDIT) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[-1] == "Verdict: pass"
    for check in CHECKS:
        assert any(check.__name__ in line for line in lines)
    assert any("prior_trained_on_test" in line and "not checked" in line for line in lines)


def test_json_holds_the_findings(capsys):
    assert main([*AUDIT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["split_hash"], found["verdict"]) == ("perturbfm.audit/1", HASH, "pass")
    assert {f["check"] for f in found["findings"]} == {c.__name__ for c in CHECKS}


def test_a_prior_that_has_seen_the_test_gives_the_exit_code_of_a_leak(capsys, tmp_path):
    prior = tmp_path / "weights.yaml"
    prior.write_text("name: state\nkind: weights\ncontexts: [C6]\n")
    assert main([*AUDIT, "--prior", str(prior)]) == 8
    out, err = capsys.readouterr()
    assert out.rstrip().endswith("Verdict: refuse")
    assert err.startswith("SplitLeaks: state (weights) was made from contexts of the test: given C6, expected")
    prior.write_text("name: state\nkind: weights\ncontexts: [C6]\nperturbations: []\n")
    assert main([*AUDIT, "--prior", str(prior)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Verdict: warn")


def test_a_stored_split_that_leaks_is_refused(capsys, tmp_path, monkeypatch):
    split = SHIPPED.load(HASH)
    row = split.train_idx[:1]
    leaky = replace(
        split, train_idx=split.train_idx[1:], calib_idx=np.append(split.calib_idx, row), frozen_hash=None
    ).freeze()
    monkeypatch.setenv("PERTURBFM_SPLITS", str(tmp_path))
    SplitStore(tmp_path).save(leaky)
    assert main(["splits", "audit", leaky.frozen_hash, "--data", "synthetic"]) == 8
    assert "Conditions have rows both in train and in calib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--prior", "none.yaml"], 2, "Cannot read none.yaml for the audit"),
        (["--aliases", "none.tsv"], 2, "Cannot read none.tsv for the audit"),
        (["--set", "data.seed=1"], 8, "locked to other data"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(capsys, more, code, message):
    assert main([*AUDIT, *more]) == code
    assert message in capsys.readouterr().err


def test_aliases_are_used(capsys, tmp_path):
    table = tmp_path / "aliases.tsv"
    table.write_text("P0001\tP0002\n")
    assert main([*AUDIT, "--aliases", str(table)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Verdict: pass")
    table.write_text(SAME)
    assert main([*AUDIT, "--aliases", str(table)]) == 8
    assert "under two labels: given 1 of them, first P01 = P02" in capsys.readouterr().err


def test_a_run_compares_labels_by_the_table_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTURBFM_OUTPUTS", str(tmp_path / "outputs"))
    table = tmp_path / "aliases.tsv"
    table.write_text(SAME)
    with pytest.raises(SplitLeaks, match="Perturbations stand in different folds under two labels"):
        run_experiment([f"aliases={table}"])
    assert not list((tmp_path / "outputs").rglob("manifest.json"))
    assert config_hash(compose_config()) == config_hash(compose_config([f"aliases={table}"]))
