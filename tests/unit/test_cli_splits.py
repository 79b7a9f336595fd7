"""`perturbfm splits create --spec leave_one_context_out`: what is made, and what is refused in words."""

import hashlib
import json
import re
import shlex
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

from perturbfm import run_experiment
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

    def run(verb, *words, settings=SETTINGS):
        words = ["splits", verb, *words]
        if verb in ("create", "suggest", "audit"):
            words += [*(["--data"] if verb != "suggest" else []), str(home / "wide.h5ad")]
            for setting in settings:
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


def test_the_gate_of_counts_is_told_from_their_logarithms(home, splits):
    """Most files hold counts; a split of these is told what its test fold can carry as any other is."""
    adata = read_h5ad(home / "wide.h5ad")
    rng = np.random.default_rng(0)
    hit = (adata.obs["pert_id"] == "A").to_numpy()
    counts = rng.poisson(np.where(hit[:, None], [9.0] * 3 + [1.0] * (adata.n_vars - 3), 3.0))
    adata.X = counts.astype(np.float32)
    adata.write_h5ad(home / "wide.h5ad")
    words = ("create", "--rule", "unseen_perturbation", "holdout=[A]", "min_controls=5")
    code, out, _ = splits(*words, settings=("scale=counts", *SETTINGS[1:]))
    assert code == 0
    lines = out.splitlines()[1:-1]
    assert lines[0].startswith("gate: of counts over library size, to the median of train, and log1p;")
    assert [line.split(":")[0] for line in lines[1:]] == ["gate 1", "gate c'3", "gate null"]
    assert all("1 conditions, effective" in line for line in lines[1:])


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
            ["--rule", "official", "--official", "nowhere.csv", "--kind", "table"],
            2,
            "UnreadableFile: There is no such split file: given nowhere",
        ),
        (["--rule", "random_cells", "--official", "x.csv"], 3, "MissingValue: --official does not fit random_cells"),
        (
            ["--rule", "random_cells", "--kind", "gears", "--official-dataset", "x"],
            3,
            "BadValue: An option of official splits has no split file: given --kind gears, --official-dataset x",
        ),
        (["--rule", "dose_ood", "holdout=[1]"], 3, "BadValue: The data declare no dose"),
        (["--rule", "context_ood"], 3, "MissingValue: No context is held out"),
    ],
)
def test_words_that_do_not_fit(splits, words, code, message):
    got, out, err = splits("create", *words)
    assert (got, out) == (code, "")
    assert re.search(message, err), err
    assert "Traceback" not in err


def test_a_card_says_who_sees_the_controls_of_held_out_contexts(home, splits, capsys):
    split = made(
        home, splits("create", "--rule", "context_ood", "--holdout-context", "null", "min_controls=5", "--no-gate")[1]
    )
    assert main(["splits", "show", split.frozen_hash]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["input_controls_of_held_out_contexts"] == "shown at prediction only"
    assert card["params"]["n_conditions"]["test"] == len(PERTS)


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


PER_CONTEXT = 14 * (1 + len(PERTS))
FOLD = {i: "test" if i // PER_CONTEXT == 2 else "train" for i in range(3 * PER_CONTEXT)}
LAST = [i for i in FOLD if i >= 2 * PER_CONTEXT + 14]
"""The perturbed cells of the last context."""


def take_over(home, splits, name, text, *words):
    (home / name).write_text(text)
    return splits("create", "--rule", "official", "--official", str(home / name), "min_controls=5", "--no-gate", *words)


def table(sign=","):
    return "".join(f"c{i}{sign}{fold}\n" for i, fold in FOLD.items())


def gears():
    names = [p if "+" in p else f"{p}+ctrl" for p in PERTS]
    return json.dumps({"train": ["ctrl", *names[:4], *names[5:9]], "val": names[9:], "test": [names[4]]})


TOML = """[datasets]
them = "/somewhere"
[training]
them = "train"
[zeroshot]
"them.c'3" = "test"
[fewshot]
"""


@pytest.mark.parametrize(
    ("name", "text", "words", "kind", "tested"),
    [
        ("them.csv", table(), ["--kind", "table"], "table", LAST),
        ("them.tsv", "cell\tsplit\n" + table("\t"), [], "table", LAST),
        ("them.csv", "cell,split\n" + table(), ["--kind", "perturbench"], "perturbench", LAST),
        (
            "wide.csv",
            "cell,one,two\n" + "".join(f"c{i},train,{fold}\n" for i, fold in FOLD.items()),
            ["--kind", "perturbench", "--official-column", "two"],
            "perturbench",
            LAST,
        ),
        (
            "them.json",
            gears(),
            [],
            "gears",
            [i for i in FOLD if i % PER_CONTEXT // 14 == 1 + PERTS.index("E")],
        ),
        ("them.toml", TOML, [], "cell_load", LAST),
        (
            "two.toml",
            TOML.replace("[training]", 'others = "/elsewhere"\n[training]'),
            ["--official-dataset", "them"],
            "cell_load",
            LAST,
        ),
    ],
    ids=["table", "tsv", "perturbench", "columns", "gears", "cell_load", "data sets"],
)
def test_an_official_split_is_frozen_with_its_origin_and_audited(home, splits, name, text, words, kind, tested):
    code, out, err = take_over(home, splits, name, text, *words)
    assert code == 0, err
    split = made(home, out)
    assert split.test_idx.tolist() == tested
    origin = split.params["origin"]
    assert (origin["kind"], origin["file"]) == (kind, name)
    assert origin["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    code, out, err = splits("audit", split.frozen_hash)
    assert code == 0, err
    assert "Verdict: " in out


@pytest.mark.parametrize(
    ("name", "text", "words", "code", "told"),
    [
        (
            "them.csv",
            table(),
            [],
            3,
            "MissingValue: The kind of official split is not said: given --official them.csv without --kind",
        ),
        ("them.tsv", "", [], 2, "UnreadableFile: An official split cannot be read: given them.tsv: no rows of two"),
        ("them.tsv", "c1\ttrain\nc2\n", [], 2, "UnreadableFile: An official split cannot be read: given them.tsv: no "),
        ("them.tsv", "c1\ttrain\nc1\tval\n", [], 2, "OfficialSplitUnfit: An official split names a cell twice"),
        (
            "them.tsv",
            table("\t") + "strange\ttrain\n",
            [],
            2,
            "OfficialSplitUnfit: An official split names cells that the data do not have: "
            "given 1 of 505, first 'strange'",
        ),
        ("them.toml", "[datasets", [], 2, "UnreadableFile: An official split cannot be read: given them.toml"),
        ("them.pkl", "", [], 2, "PickleRefused: A split dictionary is a pickle"),
    ],
)
def test_a_file_that_is_no_such_split(home, splits, name, text, words, code, told):
    got, out, err = take_over(home, splits, name, text, *words)
    assert (got, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


def test_a_table_may_leave_cells_out(home, splits):
    kept = "".join(line for line in table("\t").splitlines(keepends=True) if line.split("\t")[0] not in ("c20", "c21"))
    code, out, err = take_over(home, splits, "them.tsv", kept)
    assert code == 0, err
    assert made(home, out).params["excluded"]["not_in_the_official_split"] == 2


def test_a_run_takes_an_official_split_that_validates_in_a_held_out_context(home, splits, monkeypatch, capsys):
    """STATE's few-shot form: validation lists perturbations of the held-out cell type."""
    monkeypatch.setenv("PERTURBFM_OUTPUTS", str(home / "outputs"))
    fewshot = (
        '[fewshot."them.c\'3"]\nval = ["A", "B"]\ntest = ["C", "D", "E", "F", "A+B", "B+C", "C+D", "D+E", "E+F"]\n'
    )
    text = TOML.replace('"them.c\'3" = "test"\n', "").replace("[fewshot]\n", fewshot)
    code, out, err = take_over(home, splits, "them.toml", text)
    assert code == 0, err
    split = made(home, out)
    assert split.ood_axes == ("context",)
    assert set(split.val_idx) & set(range(2 * PER_CONTEXT, 3 * PER_CONTEXT))
    found = splits("audit", split.frozen_hash, "--json")
    verdicts = {f["check"]: (f["verdict"], f["message"]) for f in json.loads(found[1])["findings"]}
    assert found[0] == 0
    assert verdicts["held_out_context_elsewhere"][0] == "warn"
    assert "the official split validates so" in verdicts["held_out_context_elsewhere"][1]
    words = ["eval=quick", "model=no_change", "split=frozen", f"split.hash={split.frozen_hash}", "data=h5ad"]
    words += ["data.name=wide", f"data.path={home / 'wide.h5ad'}", *(f"data.{setting}" for setting in SETTINGS)]
    result = run_experiment(words)
    assert json.loads((result.folder / "manifest.json").read_text())["status"] == "finished"
