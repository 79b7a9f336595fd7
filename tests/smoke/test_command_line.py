"""Does the house stand? Whole runs, as a user starts them, from a folder of the user's own."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from perturbfm import RunResult, run_experiment
from perturbfm.cli.evaluate import first_difference, judge_again
from perturbfm.config import compose_config
from perturbfm.errors import ArtifactEdited, RecomputedDifferently, UnreadableFile
from perturbfm.predictions import read_prediction
from perturbfm.run import ordered
from perturbfm.split import SplitStore

RUN, VERB = ["-m", "perturbfm.run"], ["-c", "import sys; from perturbfm.cli import main; sys.exit(main())"]
ROOT = Path(__file__).parents[2]
SHIPPED = SplitStore(ROOT / "splits")
SYNTHETIC = compose_config().split.hash
ARTIFACTS = {
    "config.yaml",
    "manifest.json",
    "split_hash.txt",
    "predictions.npz",
    "predictions_calib.npz",
    "metrics.json",
    "calibration.json",
    "per_condition.csv.gz",
    "report.html",
    "run.log",
    "events.jsonl",
    "checkpoints",
    "logs",
}
HEAVY = ("torch", "lightning", "scanpy", "sklearn", "matplotlib", "torchmetrics", "anndata", "pandas", "scipy")
Done = namedtuple("Done", "code out err folder")


class House:
    """A user's own folder, in which commands are typed."""

    def __init__(self, folder):
        self.cwd, self.outputs, self.splits = folder / "work", folder / "out", folder / "splits"
        self.cwd.mkdir(parents=True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PERTURBFM_", "HYDRA_", "COLUMNS"))}
        self.env = {**clean, "PERTURBFM_OUTPUTS": str(self.outputs), "PYTHONWARNINGS": "ignore"}

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *words):
        done = subprocess.run(
            [sys.executable, *words], cwd=self.cwd, env=self.env, capture_output=True, text=True, timeout=200
        )
        return Done(done.returncode, done.stdout, done.stderr, self.runs()[-1] if self.runs() else None)

    def runs(self):
        return sorted(p.parent for p in self.outputs.glob("*/manifest.json"))


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The first run of a new user."""
    house = House(tmp_path_factory.mktemp("first"))
    return house, house.type(*RUN, "eval=quick")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two models in one sweep; the second one is the first run again."""
    house = House(tmp_path_factory.mktemp("sweep"))
    return house, house.type(*RUN, "-m", "model=no_change,per_perturbation_mean", "seed=0", "eval=quick")


# --- one run -------------------------------------------------------------------------------------------


def test_a_run_leaves_all_its_artifacts_and_nothing_else(first):
    house, done = first
    assert (done.code, done.err) == (0, "")
    assert {p.name for p in done.folder.iterdir()} == ARTIFACTS
    assert {p.name for p in house.outputs.iterdir()} == {done.folder.name, "standing", "test_openings.jsonl"}
    assert list(house.cwd.iterdir()) == []


def test_a_run_prints_its_result_and_where_the_report_lies(first):
    _, done = first
    assert f"Report: {done.folder / 'report.html'}" in done.out
    assert "NOT comparable" in done.out
    assert all(word in done.out for word in ("EV", "CRPS", "coverage"))


def test_the_manifest_says_finished_and_how(first):
    _, done = first
    found = read(done.folder, "manifest.json")
    assert (found["status"], found["error"], found["sweep"]) == ("finished", None, None)
    assert (found["seed"], found["model"], found["test_openings"]) == (0, "per_perturbation_mean", 1)
    events = [json.loads(line)["event"] for line in (done.folder / "events.jsonl").read_text().splitlines()]
    assert events == ["started", "fit_started", "fit_finished", "test_opened", "predicted", "judged", "finished"]
    assert "finished" in (done.folder / "run.log").read_text()


def test_the_audit_of_the_split_stands_in_manifest_and_report(first):
    _, done = first
    found = read(done.folder, "manifest.json")["audit"]
    assert (found["schema"], found["verdict"], found["checks"]["not_checked"]) == ("perturbfm.audit/1", "pass", [])
    assert "learned_outside_train" in found["checks"]["pass"]
    assert "No check found a leak." in (done.folder / "report.html").read_text()


def test_a_prior_that_has_seen_the_test_stops_a_run_before_it_has_a_folder(house):
    prior = house.cwd / "weights.yaml"
    prior.write_text("name: state\nkind: weights\ndata_sets: [synthetic]\n")
    done = house.type(*RUN, "eval=quick", f"priors=[{prior}]")
    assert done.code == 8
    assert "state (weights) was made from data of the test: given the data set synthetic" in done.err
    assert "Refused by: prior_trained_on_test." in done.err
    assert house.runs() == []


def test_predictions_are_those_of_the_judged_rows(first):
    _, done = first
    split = SHIPPED.load(SYNTHETIC)
    for fold, name in (("test", "predictions.npz"), ("calib", "predictions_calib.npz")):
        with np.load(done.folder / name, allow_pickle=False) as npz:
            rows = split.fold(fold)
            np.testing.assert_array_equal(np.sort(npz["idx"]), rows)
            assert npz["mean"].shape == npz["var"].shape == (len(rows), len(npz["genes"]))
            assert np.isfinite(npz["mean"]).all()
            assert (npz["var"] > 0).all()


def test_the_hashes_inside_agree(first):
    _, done = first
    manifest, metrics = read(done.folder, "manifest.json"), read(done.folder, "metrics.json")
    prediction, factor = read_prediction(done.folder / "predictions.npz")
    calibration = read(done.folder, "calibration.json")
    assert {
        (done.folder / "split_hash.txt").read_text().strip(),
        manifest["split_hash"],
        metrics["run"]["split_hash"],
        prediction.split_hash,
        calibration["split_hash"],
    } == {SYNTHETIC}
    assert {manifest["data"]["fingerprint"], metrics["run"]["fingerprint"], prediction.fingerprint} == {
        SHIPPED.load(SYNTHETIC).fingerprint
    }
    assert manifest["config_hash"] == metrics["run"]["config_hash"]
    assert factor == pytest.approx(calibration["factor"])
    assert manifest["config_hash"][:7] in done.folder.name


def test_every_metric_has_a_status_and_a_number_or_a_reason(first):
    metrics = read(first[1].folder, "metrics.json")
    for entries in (metrics["metrics"], *metrics["floors"].values()):
        for identifier, entry in entries.items():
            assert entry["status"] in ("ok", "undefined", "not_applicable"), identifier
            assert (entry["value"] is not None) == (entry["status"] == "ok"), identifier
            assert entry["status"] == "ok" or entry["reason"], identifier


def test_the_report_needs_no_network(first):
    page = (first[1].folder / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert SYNTHETIC[:12] in page


def test_a_number_edited_in_a_result_is_noticed(first, tmp_path):
    house, done = first
    copy = shutil.copytree(done.folder, tmp_path / "copy")
    metrics = read(copy, "metrics.json")
    identifier, entry = next((i, e) for i, e in metrics["metrics"].items() if e["status"] == "ok")
    entry["value"] += 0.01
    (copy / "metrics.json").write_text(json.dumps(metrics))
    again = house.type(*VERB, "eval", str(copy))
    assert again.code == RecomputedDifferently.exit_code == 6
    assert identifier in four_parts(again, "RecomputedDifferently")
    assert read(copy, "metrics.json") == metrics
    recomputed = read(copy, "metrics.recomputed.json")
    assert not first_difference(recomputed, read(done.folder, "metrics.json"))


@pytest.fixture
def copy(first, tmp_path):
    return shutil.copytree(first[1].folder, tmp_path / "copy")


def test_the_manifest_seals_what_the_run_wrote(first):
    sealed = read(first[1].folder, "manifest.json")["files"]
    results = {"metrics.json", "per_condition.csv.gz", "report.html"}
    assert sealed.keys() == {*results, "config.yaml", "calibration.json", "predictions.npz", "predictions_calib.npz"}
    for name, digest in sealed.items():
        assert hashlib.sha256((first[1].folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", ["predictions.npz", "predictions_calib.npz"])
def test_predictions_edited_after_the_run_are_refused_although_nothing_is_left_to_compare(copy, name):
    with np.load(copy / name, allow_pickle=False) as npz:
        arrays = {k: npz[k] for k in npz.files}
    arrays["mean"] = arrays["mean"] * 0.5
    np.savez_compressed(copy / name, **arrays)
    (copy / "metrics.json").unlink()
    with pytest.raises(ArtifactEdited, match=f"{name} is not what the run wrote.*, expected .*manifest.json"):
        judge_again(copy)
    assert not (copy / "metrics.json").exists()


@pytest.mark.parametrize("name", ["config.yaml", "calibration.json"])
def test_a_record_edited_after_the_run_is_refused(copy, name):
    (copy / name).write_text((copy / name).read_text() + "\n")
    with pytest.raises(ArtifactEdited, match=f"{name} is not what the run wrote"):
        judge_again(copy)


def test_metrics_that_went_missing_are_written_again(copy, first):
    calibration = (copy / "calibration.json").read_bytes()
    (copy / "metrics.json").unlink()
    assert judge_again(copy)[1] == "metrics.json was missing and has been written."
    assert not first_difference(read(copy, "metrics.json"), read(first[1].folder, "metrics.json"))
    assert (copy / "calibration.json").read_bytes() == calibration


def test_a_report_that_went_missing_is_written_again(copy, first):
    (copy / "report.html").unlink()
    assert judge_again(copy)[1].endswith("report.html was missing and has been written.")
    assert (copy / "report.html").read_text() == (first[1].folder / "report.html").read_text()


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"split_hash": null, "files": {}}', '{"files": {}'])
def test_a_manifest_without_the_hashes_of_a_judged_run_is_refused(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(UnreadableFile, match="This is not the folder of a judged run"):
        judge_again(copy)


def test_a_sealed_file_that_is_gone_is_refused(copy):
    (copy / "predictions_calib.npz").unlink()
    with pytest.raises(UnreadableFile, match="This is not the folder of a judged run.*predictions_calib.npz"):
        judge_again(copy)


def test_a_truncated_result_is_refused(copy):
    (copy / "metrics.json").write_text((copy / "metrics.json").read_text()[:100])
    with pytest.raises(UnreadableFile, match="The stored metrics cannot be read"):
        judge_again(copy)


# --- sweeps and seeds ----------------------------------------------------------------------------------


def test_a_sweep_makes_finished_runs_of_one_sweep_and_leaves_nothing_of_hydras(sweep):
    house, done = sweep
    assert done.code == 0, done.err
    manifests = [read(f, "manifest.json") for f in house.runs()]
    assert sorted(m["model"] for m in manifests) == ["no_change", "per_perturbation_mean"]
    assert {m["status"] for m in manifests} == {"finished"}
    assert len({m["sweep"] for m in manifests}) == 1
    assert manifests[0]["sweep"].startswith("perturbfm-sweep-")
    assert [m["test_openings"] for m in sorted(manifests, key=lambda m: m["finished_utc"])] == [1, 2]
    assert list(house.cwd.iterdir()) == []
    assert len(list(house.outputs.iterdir())) == 4
    assert not list(house.cwd.parent.rglob(".hydra"))
    assert not list(house.cwd.parent.rglob("multirun*"))


def test_the_same_seed_gives_the_same_bytes_alone_and_after_another_run(first, sweep):
    again = next(f for f in sweep[0].runs() if "per_perturbation_mean" in f.name)
    for name in ("metrics.json", "calibration.json", "per_condition.csv.gz"):
        assert (again / name).read_bytes() == (first[1].folder / name).read_bytes(), name


def test_only_the_flag_of_a_sweep_goes_to_the_front():
    words = ["data=mine", "-c", "job", "--multirun", "model=a,b"]
    assert ordered(words) == ["--multirun", "data=mine", "-c", "job", "model=a,b"]
    assert ordered(["a=b", "-m", "model=a,b"]) == ["-m", "a=b", "model=a,b"]


# --- a new user, from Python ---------------------------------------------------------------------------


def test_a_new_user_goes_from_data_to_a_judged_baseline(house):
    house.env["PERTURBFM_SPLITS"] = str(house.splits)
    made = house.type(*VERB, "data", "make-synth", "--out", "world")
    assert made.code == 0, made.err
    assert {p.name for p in (house.cwd / "world").iterdir()} == {"data.npz", "meta.json"}
    words = ["--spec", "context_ood", "--holdout-context", "C5"]
    frozen = house.type(*VERB, "splits", "create", "--data", "world", *words)
    assert frozen.code == 0, frozen.err
    digest = frozen.out.splitlines()[-1]
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert SplitStore(house.splits).load(digest).params["holdout"] == ("C5",)
    words = ["--split", digest[:12], "--baseline", "ridge", "--set", "eval=quick"]
    trained = house.type(*VERB, "train", "baseline", "--data", "world", *words)
    assert trained.code == 0, trained.err
    assert read(trained.folder, "manifest.json")["split_hash"] == digest
    before = (trained.folder / "metrics.json").read_bytes()
    judged = house.type(*VERB, "eval", str(trained.folder))
    assert judged.code == 0, judged.err
    assert "Identical to the stored metrics.json" in judged.out
    assert (trained.folder / "metrics.json").read_bytes() == before
    assert [p.name for p in house.cwd.iterdir()] == ["world"]
    assert [p.name for p in (trained.folder / "..").resolve().glob("*/scores")] == []


def test_a_run_from_python_gives_a_table_numbers_and_a_prediction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_experiment(["eval=quick", "model=no_change", "seed=2"])
    assert isinstance(result, RunResult)
    assert result.folder.parent == tmp_path / "outputs"
    assert list(result.table.columns[:2]) == ["model", "no_change"]
    assert set(result.table.index) == set(result.metrics["metrics"])
    assert result.prediction.fold == "test"
    assert not result.prediction.mean_qg.any()
    assert result.report.is_file()
    assert result.config["seed"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outputs"]
    (result.folder / "metrics.json").unlink()
    metrics, outcome = judge_again(result.folder)
    assert outcome == "metrics.json was missing and has been written."
    assert not first_difference(metrics, result.metrics)
    assert not first_difference(read(result.folder, "metrics.json"), result.metrics)


# --- refusals ------------------------------------------------------------------------------------------


def four_parts(done, name):
    """A message says what is wrong, what was given, what was expected, what to do."""
    lines = [line for line in done.err.splitlines() if line.startswith(f"{name}: ")]
    assert lines, done.err
    message = done.err[done.err.index(lines[0]) :]
    assert re.search(r": given .+, expected .+\. \S.+", message, re.DOTALL), message
    assert "Traceback" not in done.err
    return message


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["sedd=1"], 3, "UnknownKey"),
        (["+sedd=1"], 3, "UnknownKey"),
        (["model=rigde"], 3, "UnknownChoice"),
        (["split=frozen"], 3, "NoSplitNamed"),
        (["eval.panel=quik"], 3, "UnknownChoice"),
        (["split.hash=" + "0" * 64], 8, "UnknownSplit"),
        (["data=h5ad", "data.name=x", "data.scale=log1p", "data.path=none.h5ad"], 2, "UnreadableFile"),
        (["data.seed=1"], 8, "SplitOfOtherData"),
    ],
)
def test_a_refusal_has_its_exit_code_and_four_parts(house, words, code, name):
    done = house.type(*RUN, *words)
    assert done.code == code, done.err
    four_parts(done, name)
    assert done.folder is None


def test_a_sweep_that_cannot_run_has_the_exit_code_of_its_error(house):
    done = house.type(*RUN, "split=frozen", "-m", "model=ridge,no_change")
    assert done.code == 3, done.err
    four_parts(done, "NoSplitNamed")


def test_an_edited_split_is_refused(house):
    house.env["PERTURBFM_SPLITS"] = str(house.splits)
    house.splits.mkdir()
    source = SHIPPED.find(SYNTHETIC)
    content = json.loads(source.read_text())
    content["train_idx"][0], moved = content["train_idx"][0] + 1, content["train_idx"][0]
    assert content["train_idx"][0] != moved
    (house.splits / source.name).write_text(json.dumps(content))
    done = house.type(*RUN)
    assert done.code == 8, done.err
    four_parts(done, "SplitEdited")


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_computed(house):
    house.outputs.write_text("a file")
    house.env["PERTURBFM_OUTPUTS"] = str(house.outputs / "below")
    done = house.type(*RUN)
    assert done.code == 4, done.err
    four_parts(done, "OutputNotWritable")


def test_the_folder_of_no_run_is_refused(house):
    done = house.type(*VERB, "eval", "nothing")
    assert done.code == 2, done.err
    four_parts(done, "UnreadableFile")


def test_output_that_nobody_reads_is_dropped_without_a_word(house):
    code = "import sys; from perturbfm.run import guarded; sys.exit(guarded(lambda: print('x' * 100_000), []))"
    process = house.start("-c", code)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 1)
    process.stderr.close()


# --- interrupts ----------------------------------------------------------------------------------------

ENDLESS = ["model=small_network", "trainer.max_epochs=100000", "trainer.patience=100000"]


def training(house):
    """A run that trains, and its folder."""
    process = house.start(*RUN, *ENDLESS)
    for _ in range(1200):
        events = [f / "events.jsonl" for f in house.runs()]
        if events and events[0].is_file() and '"fit_started"' in events[0].read_text():
            time.sleep(0.3)
            return process, events[0].parent
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.kill()
    return pytest.fail("training did not begin within two minutes")


def test_an_interrupted_run_says_so(house):
    process, folder = training(house)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert read(folder, "manifest.json")["status"] == "interrupted"
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert not (folder / "metrics.json").exists()
    assert not (house.outputs / "test_openings.jsonl").exists()


def test_a_killed_run_is_seen_to_have_only_started(house):
    process, folder = training(house)
    process.kill()
    process.communicate(timeout=60)
    assert read(folder, "manifest.json")["status"] == "started"
    assert (folder / "split_hash.txt").read_text().strip() == SYNTHETIC


# --- light imports -------------------------------------------------------------------------------------


def test_a_data_set_is_at_hand_after_a_light_import(house):
    code = (
        f"import sys, perturbfm; assert not set(sys.modules) & set({HEAVY!r}); "
        "print(len(perturbfm.data.load('synthetic').genes), hasattr(perturbfm, 'dat'))"
    )
    done = house.type("-c", code)
    assert done.code == 0, done.err
    assert re.fullmatch(r"[1-9]\d* False\n", done.out)


def imported(house, words):
    done = house.type("-X", "importtime", *words)
    names = {line.rpartition("|")[2].strip() for line in done.err.splitlines() if line.startswith("import time:")}
    return done.code, {n.partition(".")[0] for n in names}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([*RUN, "--help"], 0),
        ([*VERB, "--help"], 0),
        ([*VERB, "--version"], 0),
        ([*VERB, "doctor", "--help"], 0),
        ([*VERB, "config", "--help"], 0),
        ([*VERB, "data", "--help"], 0),
        ([*VERB, "data", "make-synth", "--help"], 0),
        ([*VERB, "data", "info", "--help"], 0),
        ([*VERB, "splits", "--help"], 0),
        ([*VERB, "splits", "create", "--help"], 0),
        ([*VERB, "train", "baseline", "--help"], 0),
        ([*VERB, "eval", "--help"], 0),
        ([*VERB, "config"], 0),
        ([*RUN, "sedd=1"], 3),
        ([*RUN, "+data.sede=1"], 3),
        ([*RUN, "model=rigde"], 3),
        ([*RUN, "split=frozen"], 3),
        ([*RUN, "model=small_network", "model.optimizer._target_=os.system"], 3),
        ([*VERB, "data", "info", "--data", "synthtic"], 3),
    ],
)
def test_help_and_config_errors_import_nothing_heavy(house, words, code):
    found, names = imported(house, words)
    assert found == code
    assert not names & set(HEAVY)
    assert "perturbfm" in names
