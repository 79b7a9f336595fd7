"""Is another tool's file judged as the model that it came from, on real data and from the command line?"""

import json
import subprocess
import sys

import anndata
import numpy as np
import pytest

from perturbfm import run_experiment
from perturbfm.cli.evaluate import first_difference, judge_again
from perturbfm.cli.export import export_run
from perturbfm.errors import ArtifactEdited, ConditionsDiffer, MissingValue, ScaleMismatch, UnreadableFile
from perturbfm.predictions import CELLS_FILE

HASH = "2ffd97f288c5"
CHOICES = ["data=perturbench_devel", "split=frozen", f"split.hash={HASH}", "eval=quick"]
PREDICTED = ("control_copy", "mean_shift", "noisy_truth")

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(real_data, tmp_path_factory):
    return tmp_path_factory.mktemp("external")


@pytest.fixture
def judge(real_data, monkeypatch):
    monkeypatch.setenv("PERTURBFM_DATA", str(real_data))

    def judged(path, name="tool", *more):
        return run_experiment([*CHOICES, "model=external", f"model.path={path}", f"model.name={name}", *more])

    return judged


@pytest.fixture
def trained(real_data, monkeypatch):
    monkeypatch.setenv("PERTURBFM_DATA", str(real_data))
    return run_experiment([*CHOICES, "model=per_perturbation_mean"])


@pytest.fixture(scope="module")
def judged_part(parity_folder, folder):
    """A prediction set of the benchmark suites, cut down to the judged context."""

    def cut(name, everything=False):
        adata = anndata.read_h5ad(parity_folder / "inputs" / f"pred_{name}.h5ad")
        part = adata if everything else adata[adata.obs["cell_type"] == "T98G"].copy()
        part.write_h5ad(folder / f"{name}.h5ad")
        return folder / f"{name}.h5ad"

    return cut


def values(metrics):
    return {i.replace("control_shifted", "predicted"): e["value"] for i, e in metrics["metrics"].items()}


def test_a_model_judged_by_its_files_has_the_numbers_of_the_model(trained, judge, tmp_path):
    ours = values(trained.metrics)
    rows = judge(trained.folder / "predictions.npz").metrics
    assert not first_difference(ours, values(rows))  # the stored variance is calibrated already
    written = export_run(trained.folder, "perturbench", tmp_path / "theirs")
    cells = judge(written.predicted).metrics
    for i, value in values(cells).items():
        if cells["metrics"][i]["status"] == "ok" or ours[i] is None:
            assert value == (None if ours[i] is None else pytest.approx(ours[i], rel=1e-5)), i
        else:
            assert cells["metrics"][i]["reason"] == "the prediction states no variance", i
    assert any("cells=predicted" in i for i in cells["metrics"])


@pytest.mark.parametrize("name", PREDICTED)
def test_the_suites_prediction_sets_are_judged_and_can_be_judged_again(name, judge, judged_part):
    result = judge(judged_part(name), name)
    told = json.loads((result.folder / "manifest.json").read_text())["external"]
    assert told == result.metrics["external"]
    assert told["file"] == f"{name}.h5ad"
    controls = next(f for f in told["findings"] if f["check"] == "controls")
    assert controls["message"] == "the data's own: all 100 of T98G"
    near = next(f for f in told["findings"] if f["check"] == "near_copies")
    assert near["verdict"] == ("warn" if name == "noisy_truth" else "pass")  # that one was made from the judged cells
    entries = result.metrics["metrics"]
    assert entries["crps_gaussian[target=mean_delta,obs_noise=added,genes=detected10]"]["status"] == "not_applicable"
    if name in ("control_copy", "mean_shift"):  # the same for every perturbation: no rank, however it is asked
        assert entries["pfm.pcc_delta[ref=panel,genes=all]"]["status"] == "undefined"
        ranked = entries["retrieval[space=delta,query=prediction,dist=cosine,norm=n-1,ties=mid]"]
        assert ranked["value"] == pytest.approx(0.5)
    page = (result.folder / "report.html").read_text()
    assert "the prediction states no variance" in page
    assert "The predictions come from a file that another tool wrote" in page
    assert judge_again(result.folder)[1].startswith("Identical")


def test_cells_edited_or_slipped_in_after_the_run_are_refused(judge, judged_part, trained):
    result = judge(judged_part("shrunk_truth"))
    path = result.folder / CELLS_FILE
    (trained.folder / CELLS_FILE).write_bytes(path.read_bytes())
    with pytest.raises(ArtifactEdited, match=f"{CELLS_FILE} is not what the run wrote"):
        judge_again(trained.folder)
    with np.load(path) as npz:
        arrays = {k: npz[k] for k in npz.files}
    np.savez(path, **{**arrays, "data": arrays["data"] * 0.9})
    with pytest.raises(ArtifactEdited, match=f"{CELLS_FILE} is not what the run wrote"):
        judge_again(result.folder)


def test_counts_and_unjudged_conditions_end_the_run_and_the_manifest_says_so(judge, judged_part, tmp_path):
    with pytest.raises(ScaleMismatch, match="all integers"):
        judge(judged_part("counts_thinned_truth"))
    with pytest.raises(ConditionsDiffer, match=r"A172\|\S+ \(of another fold\)"):
        judge(judged_part("noisy_truth", everything=True))
    states = [json.loads(p.read_text()) for p in (tmp_path / "outputs").glob("*/manifest.json")]
    assert [s["status"] for s in states] == ["failed", "failed"]
    assert any("ScaleMismatch" in s["error"] for s in states)


VERB = [sys.executable, "-c", "import sys; from perturbfm.cli import main; sys.exit(main())"]


def test_the_command_line_judges_a_file_and_says_what_is_not_applicable(judged_part, real_data, tmp_path):
    path = judged_part("shrunk_truth")
    words = [*VERB, "eval", "--predictions", str(path), "--data", "perturbench_devel", "--split", HASH]
    done = subprocess.run([*words, "--set", "eval=quick"], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "shrunk_truth.h5ad: audit" in done.stdout
    assert "variance not stated, so uncertainty is not applicable" in done.stdout
    assert "calibration: the prediction states no variance" in done.stdout
    run = next((tmp_path / "outputs").glob("*/metrics.json")).parent
    done = subprocess.run([*VERB, "export", str(run), "--format", "cell-eval"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--pert-col target_gene" in done.stdout
    assert (run / "export" / "cell-eval" / "pred.h5ad").is_file()


@pytest.mark.parametrize(
    "words", [[], ["--predictions", "p.h5ad"], ["--predictions", "p", "--data", "d", "--split", "s", "run"]]
)
def test_it_must_be_said_what_to_judge(words):
    from perturbfm.cli.main import parser

    arguments = parser().parse_args(["eval", *words])
    with pytest.raises(MissingValue, match="It is not said what to judge"):
        arguments.call(arguments)


def test_a_run_is_needed_for_an_export(tmp_path):
    with pytest.raises(UnreadableFile, match="not the folder of a judged run"):
        export_run(tmp_path, "cell-eval")
