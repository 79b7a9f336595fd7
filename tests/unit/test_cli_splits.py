"""`perturbfm splits create --spec leave_one_context_out`: what is made, and what is refused in words."""

import re
import shlex
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from perturbfm.cli import main
from perturbfm.split import SplitStore


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
    assert [line.split("held out ")[1].split()[0] for line in out.splitlines() if "held out " in line] == [
        "k1",
        "k2",
        "k3",
    ]
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


# --- any rule ------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of splits, and a file of five genes and three pairs in three contexts."""
    monkeypatch.setenv("PERTURBFM_SPLITS", str(tmp_path / "splits"))
    rows = [(p, k, f"d{k}") for k in ("1", "null", "c'3") for p in ("control", *PERTS) for _ in range(14)]
    obs = pd.DataFrame(rows, columns=["pert_id", "context_id", "donor"], index=[f"c{i}" for i in range(len(rows))])
    x = np.random.default_rng(0).gamma(1.0, 1.0, (len(rows), 5)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AnnData(X=x, obs=obs).write_h5ad(tmp_path / "wide.h5ad")
    return tmp_path


@pytest.fixture
def splits(home, capsys):
    """Run `perturbfm splits` with some words; returns code, stdout and stderr."""

    def run(verb, *words):
        words = ["splits", verb, *words]
        if verb in ("create", "suggest"):
            words += [*(["--data"] if verb == "create" else []), str(home / "wide.h5ad")]
            for setting in SETTINGS:
                words += ["--set", f"data.{setting}"]
        code = main(words)
        return code, *capsys.readouterr()

    return run


PERTS = ("A", "B", "C", "D", "E", "F", "A+B", "B+C", "C+D", "D+E", "E+F")
SETTINGS = ("scale=log1p", "batch_column=donor", "mode=knockdown", "delimiter=+")


def made(home, out):
    """The split whose hash stands alone on the last line."""
    return SplitStore(home / "splits").load(out.splitlines()[-1])


def test_the_hash_stands_alone_on_the_last_line_after_the_gate(home, splits):
    code, out, _ = splits("create", "--rule", "unseen_perturbation", "holdout=[A]", "min_controls=5", "--seed", "3")
    lines = out.splitlines()
    assert code == 0
    assert re.fullmatch("[0-9a-f]{64}", lines[-1])
    assert lines[0].endswith("n_obs=504")
    assert "held out A" in lines[0]
    assert [line.split(":")[0] for line in lines[1:-1]] == ["gate 1", "gate c'3", "gate null"]
    split = made(home, out)
    assert (split.rule, split.seed, split.params["holdout"]) == ("unseen_perturbation", 3, ("A",))


def test_the_gate_may_be_left_out(splits):
    _, out, _ = splits("create", "--rule", "random_cells", "min_controls=5", "--no-gate")
    assert len(out.splitlines()) == 2


def test_what_is_suggested_can_be_created(home, splits):
    code, out, _ = splits("suggest")
    assert code == 0
    words = [shlex.split("--rule " + line.split("--rule ", 1)[1]) for line in out.splitlines() if "--rule " in line]
    assert {w[1] for w in words} >= {"context_ood", "covariate_transfer", "unseen_perturbation", "unseen_combination"}
    assert {w[1] for w in words} >= {"several_axes", "covariate_ood", "random_cells"}
    for line, given in zip([x for x in out.splitlines() if "--rule " in x], words, strict=True):
        code, told, err = splits("create", "--no-gate", *given)
        assert code == 0, err
        split = made(home, told)
        assert split.rule == given[1]
        assert int(line.split()[0]) == split.params["n_conditions"]["test"]


def test_what_is_not_suggested_says_why(splits):
    _, out, _ = splits("suggest", "--all")
    refused = [line for line in out.splitlines() if line.startswith("refused ")]
    assert refused
    assert all(re.search(r": [A-Z][A-Za-z]+: .*: given .*, expected ", line) for line in refused)


def test_a_series_of_a_base(home, splits):
    _, out, _ = splits("create", "--rule", "context_ood", "--holdout-context", "null", "min_controls=5", "--no-gate")
    base = made(home, out)
    code, out, _ = splits(
        "create", "--rule", "scaling_series", "--base", base.short, "fractions=[0.5,1.0]", "--no-gate"
    )
    assert code == 0
    assert [line.split()[1:3] for line in out.splitlines()[::2]] == [["scaling_series", "of"]] * 2
    assert made(home, out).train_idx.tolist() == base.train_idx.tolist()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--rule", "few_shot"], 3, "MissingValue: --base does not fit few_shot: given --base None"),
        (["--rule", "random_cells", "--base", "abcd"], 3, "MissingValue: --base does not fit random_cells"),
        (["--rule", "unseen_perturbatio"], 3, "UnknownChoice: Unknown choice .*Did you mean unseen_perturbation"),
        (["--rule", "random_cells", "fractoin=1"], 3, "UnknownKey: Unknown config key 'random_cells.fractoin'"),
        (["--rule", "random_cells", "seed=many"], 3, "BadValue: random_cells.seed has the wrong type: given 'many'"),
        (["--rule", "dose_ood"], 3, r"MissingValue: dose_ood.holdout is not set: given \?\?\?"),
        (["--rule", "official"], 3, "MissingValue: --official does not fit official: given --official None"),
        (
            ["--rule", "official", "--official", "nowhere.csv"],
            2,
            "UnreadableFile: Cannot read the official split nowhere",
        ),
        (["--rule", "random_cells", "--official", "x.csv"], 3, "MissingValue: --official does not fit random_cells"),
        (["--rule", "dose_ood", "holdout=[1]"], 3, "BadValue: The data declare no dose"),
        (["--rule", "context_ood"], 3, "MissingValue: No context is held out"),
    ],
)
def test_words_that_do_not_fit(splits, words, code, message):
    got, out, err = splits("create", *words)
    assert (got, out) == (code, "")
    assert re.search(message, err), err
    assert "Traceback" not in err


def test_rules_are_listed_with_what_they_are(splits):
    code, out, _ = splits("rules")
    assert code == 0
    assert re.search(r"^unseen_perturbation +Genes or compounds that train has seen in no context", out, re.MULTILINE)
    assert re.search(r"^random_cells +NEGATIVE EXAMPLE", out, re.MULTILINE)


def test_a_rule_of_the_users_is_one_function_and_one_yaml(home, splits, monkeypatch):
    (home / "conf" / "split" / "rule").mkdir(parents=True)
    (home / "conf" / "split" / "rule" / "first_gene.yaml").write_text(
        "# The first gene by name.\n_target_: my_rules.first_gene\n_partial_: true\nmin_controls: 5\n"
    )
    (home / "my_rules.py").write_text(
        "from perturbfm.split.rule import unseen_perturbation\n\n\n"
        "def first_gene(labels, *, min_controls=30):\n"
        "    return unseen_perturbation(labels, holdout=[min(labels.pert_n)], min_controls=min_controls)\n"
    )
    monkeypatch.syspath_prepend(home)
    monkeypatch.setenv("PERTURBFM_CONF", str(home / "conf"))
    code, _, err = splits("create", "--rule", "first_gene")
    assert code == 3
    assert "ForbiddenTarget" in err
    monkeypatch.setenv("PERTURBFM_ALLOWED_TARGETS", "my_rules.")
    assert "first_gene               The first gene by name." in splits("rules")[1]
    code, out, err = splits("create", "--rule", "first_gene", "--no-gate")
    assert code == 0, err
    assert made(home, out).params["holdout"] == ("A",)


# --- official splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "suffix", "sign"), [("", ".csv", ","), ("cell\tsplit\n", ".tsv", "\t")])
def test_an_official_split_is_frozen_with_its_origin(home, splits, header, suffix, sign):
    per_context = 14 * (1 + len(PERTS))
    fold = {i: "test" if i // per_context == 2 else "train" for i in range(3 * per_context)}
    (home / f"them{suffix}").write_text(header + "".join(f"c{i}{sign}{f}\n" for i, f in fold.items()))
    words = ("--rule", "official", "--official", str(home / f"them{suffix}"), "min_controls=5", "--no-gate")
    code, out, err = splits("create", *words)
    assert code == 0, err
    split = made(home, out)
    assert split.test_idx.tolist() == [i for i in fold if i >= 2 * per_context + 14]
    assert split.params["origin"]["file"] == f"them{suffix}"
    assert len(split.params["origin"]["sha256"]) == 64
    assert "context" in split.ood_axes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "an empty file"),
        ("c1,train,x\n", "line 1 with 3 columns"),
        ("c1,train\nc1,val\n", "2 lines with 1 cell ids"),
    ],
)
def test_a_table_that_is_no_split(home, splits, text, found):
    (home / "them.csv").write_text(text)
    code, _, err = splits("create", "--rule", "official", "--official", str(home / "them.csv"))
    assert code == 2
    assert f"UnreadableFile: Cannot read the official split them.csv: given {found}" in err
