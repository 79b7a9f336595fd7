"""`perturbfm splits create --spec leave_one_context_out`: what is made, and what is refused in words."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from perturbfm.cli import main


@pytest.fixture
def create(tmp_path, monkeypatch, capsys):
    """Run the verb on a small file in which `odd` shares no perturbation; returns code, stdout and stderr."""
    monkeypatch.setenv("PERTURBFM_SPLITS", str(tmp_path / "splits"))
    perts = {"k1": "ABC", "k2": "ABC", "k3": "ABC", "odd": "Z"}
    rows = [(p, k) for k, names in perts.items() for p in ("control", *names) for _ in range(10)]
    obs = pd.DataFrame(rows, columns=["pert_id", "context_id"], index=[f"c{i}" for i in range(len(rows))])
    x = np.random.default_rng(0).gamma(1.0, 1.0, (len(rows), 5)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AnnData(X=x, obs=obs).write_h5ad(tmp_path / "tiny.h5ad")
    words = ["splits", "create", "--data", str(tmp_path / "tiny.h5ad"), "--spec", "leave_one_context_out"]
    for setting in ("scale=log1p", "batch_column=null", "mode=drug"):
        words += ["--set", f"data.{setting}"]

    def run(*more):
        code = main([*words, *more])
        return code, *capsys.readouterr()

    return run


def test_refusals_are_told_and_the_others_made(create):
    code, out, err = create("--min-controls", "5")
    assert code == 0
    assert [line.split("held out ")[1].split()[0] for line in out.splitlines()[::2]] == ["k1", "k2", "k3"]
    assert err.count("Not held out") == 1
    assert "Not held out: odd. NoSharedPerturbation: Held-out interventions occur in no source context" in err


def test_the_first_refusal_is_raised_where_all_are_refused(create):
    code, out, err = create()
    assert (code, out) == (2, "")
    assert [line.split(":")[0] for line in err.splitlines()] == ["Not held out"] * 4 + ["TooFewControls"]


def test_a_named_context_is_refused(create):
    code, _, err = create("--holdout-context", "k1")
    assert code == 3
    assert "BadValue: Contexts are held out in turn, and one is named: given --holdout-context k1" in err
