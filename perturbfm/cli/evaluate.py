"""`perturbfm eval RUN_DIR`: judge a stored prediction again and compare with what was reported."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbfm.cli.options import add_set
from perturbfm.cli.splits import store
from perturbfm.errors import ArtifactEdited, MissingValue, RecomputedDifferently, UnreadableFile

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.judging import Verdict
    from perturbfm.split import Split
    from perturbfm.train.preprocess import Preprocessor
    from perturbfm.types import Prediction

SAME_TO = 1e-6
"""Relative difference up to which a recomputed number is the same: variances are stored as float32."""


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser(
        "eval",
        help="judge a run's stored predictions again, or another tool's predictions",
        description="Score predictions.npz of a run again, by the same code path, and compare with its metrics.json. "
        "A missing metrics.json or report.html is written; a different metrics.json is kept, the new one beside it. "
        "With --predictions, audit and judge another tool's file on a frozen split, as a run of its own.",
    )
    p.add_argument("run_dir", type=Path, nargs="?", help="folder of a run")
    p.add_argument("--predictions", metavar="FILE", help="an .h5ad, .zarr or .npz of another tool")
    p.add_argument("--data", help="with --predictions: a name in conf/data, a data file, or an artifact folder")
    p.add_argument("--split", metavar="HASH", help="with --predictions: hash of a frozen split")
    p.add_argument("--name", default="external", help="with --predictions: name of the tool")
    add_set(p)
    p.set_defaults(call=evaluate)


def evaluate(arguments: argparse.Namespace) -> None:
    """Judge again, print, and say whether the numbers are those reported; or judge another tool's file."""
    from perturbfm.cli.show import print_result

    if arguments.predictions is not None or arguments.run_dir is None:
        judge_predictions(arguments)
        return
    metrics, outcome = judge_again(arguments.run_dir)
    print_result(metrics, arguments.run_dir)
    print(outcome)


def judge_predictions(arguments: argparse.Namespace) -> None:
    """Judge another tool's file: the same experiment as `python -m perturbfm.run model=external`."""
    a = arguments
    given = {"--predictions": a.predictions, "--data": a.data, "--split": a.split}
    missing = [name for name, value in given.items() if value is None]
    if missing or a.run_dir is not None:
        raise MissingValue(
            "It is not said what to judge",
            given=f"no {missing[0]}" if missing else f"a run's folder and --predictions {a.predictions}",
            expected="the folder of a run, or --predictions FILE --data NAME --split HASH",
            fix="Give one of them.",
        )
    from perturbfm import config
    from perturbfm.cli.show import print_result
    from perturbfm.run import run_experiment

    tool = [f"model.path={config.quoted(str(Path(a.predictions).absolute()))}", f"model.name={config.quoted(a.name)}"]
    choices = [*config.data_overrides(a.data), "split=frozen", f"split.hash={config.quoted(a.split)}"]
    result = run_experiment([*choices, "model=external", *tool, *a.set])
    print_result(result.metrics, result.folder)


def judge_again(run_dir: Path) -> tuple[dict[str, Any], str]:
    """Score a run's stored predictions again, by the same code path.

    Args:
        run_dir: Folder of a run.

    Returns:
        The metrics, and a sentence on how they compare with those stored.

    Raises:
        UnreadableFile: The folder is not that of a judged run, or its metrics.json cannot be read.
        ArtifactEdited: A file is not what the run wrote, or predictions and split do not carry the same hashes.
        RecomputedDifferently: The stored numbers are others; the new ones are written beside them.
    """
    cfg, manifest, calibration = records_of(run_dir)
    reported = _reported(run_dir / "metrics.json")
    split = store().load(manifest["split_hash"])
    predictions = predictions_of(run_dir, split, manifest)
    from perturbfm.files import write_json

    verdict = _scored(cfg, split, predictions, calibration, run_dir, manifest.get("external"))
    if reported is None:
        verdict.write(run_dir, manifest)
        return verdict.judged.metrics, "metrics.json was missing and has been written."
    different = first_difference(reported, verdict.judged.metrics)
    if different:
        write_json(run_dir / "metrics.recomputed.json", verdict.judged.metrics)
        raise RecomputedDifferently(
            "Scoring again gives other numbers than metrics.json",
            given=different,
            expected=f"the stored value, to {SAME_TO:g} relative",
            fix=f"Compare {run_dir / 'metrics.recomputed.json'}; versions and commit of the run stand in its manifest.",
        )
    same = f"Identical to the stored metrics.json (to {SAME_TO:g})."
    if not (run_dir / "report.html").exists():
        verdict.write_report(run_dir, manifest)
        same += " report.html was missing and has been written."
    return verdict.judged.metrics, same


def records_of(run_dir: Path) -> tuple[DictConfig, dict[str, Any], dict[str, Any]]:
    """Configuration, manifest and calibration of a run, all of them as the run wrote them."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        manifest = json.loads((run_dir / "manifest.json").read_text())
        _assert_untouched(run_dir, manifest)
        cfg = OmegaConf.load(run_dir / "config.yaml")
        calibration = json.loads((run_dir / "calibration.json").read_text())
    except (OSError, ValueError, OmegaConfBaseException) as e:
        raise _no_run(run_dir, str(e)) from e
    if not isinstance(cfg, DictConfig):
        raise _no_run(run_dir, "config.yaml holds no mapping")
    if _stages(cfg) and "preprocess.json" not in manifest["files"]:
        raise _no_run(run_dir, "manifest.json lacks the hash of preprocess.json")
    return cfg, manifest, calibration


def _assert_untouched(run_dir: Path, manifest: Any) -> None:
    """Refuse files that numbers are computed from, when their bytes are not those the run noted."""
    from perturbfm.record import ALSO_JUDGED_FROM, JUDGED_FROM, digest

    facts = manifest if isinstance(manifest, dict) else {}
    files, named = facts.get("files"), isinstance(facts.get("split_hash"), str)
    if not (named and isinstance(files, dict) and files.keys() >= set(JUDGED_FROM)):
        raise _no_run(run_dir, "manifest.json lacks the hashes of a judged run")
    for name in (*JUDGED_FROM, *(n for n in ALSO_JUDGED_FROM if n in files or (run_dir / n).exists())):
        found = digest(run_dir / name)
        if found != files.get(name, ""):
            raise ArtifactEdited(
                f"{name} is not what the run wrote",
                given=f"{run_dir / name} with SHA-256 {found[:12]}",
                expected=f"{str(files.get(name, 'no such file'))[:12]}, as in manifest.json",
                fix="Restore the run's own file, or run the model again.",
            )


def _reported(path: Path) -> Any:
    """The metrics that the run reported; None when there is no file of them."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise UnreadableFile(
            "The stored metrics cannot be read",
            given=f"{path}: {e}",
            expected="JSON, as the run wrote it",
            fix="Restore the file, or remove it: `perturbfm eval` then writes it again.",
        ) from e


def _no_run(run_dir: Path, found: str) -> UnreadableFile:
    return UnreadableFile(
        "This is not the folder of a judged run",
        given=f"{run_dir}: {found}",
        expected="config.yaml, manifest.json, calibration.json and predictions, with their hashes in the manifest",
        fix="Name a folder under outputs/.",
    )


def predictions_of(run_dir: Path, split: Split, manifest: dict[str, Any]) -> dict[str, Prediction]:
    """The stored predictions, which must carry the hashes of the split, with the cells that a model emitted."""
    from dataclasses import replace

    from perturbfm.predictions import CELLS_FILE, PREDICTION_FILES, read_cells, read_prediction

    sealed = manifest["files"]
    predictions = {f: read_prediction(run_dir / n)[0] for f, n in PREDICTION_FILES.items() if n in sealed}
    if CELLS_FILE in sealed:
        predictions["test"] = replace(predictions["test"], cells=read_cells(run_dir / CELLS_FILE))
    for fold, p in predictions.items():
        if (p.split_hash, p.fingerprint, p.fold) != (split.frozen_hash, split.fingerprint, fold):
            raise ArtifactEdited(
                f"The {fold} predictions belong to another split or other data",
                given=f"split {p.split_hash[:12]}, data {p.fingerprint[:12]}",
                expected=f"split {split.short}, data {split.fingerprint[:12]}",
                fix="Restore the run's own files.",
            )
    return predictions


def _scored(
    cfg: DictConfig,
    split: Split,
    predictions: dict[str, Prediction],
    calibration: dict[str, Any],
    run_dir: Path,
    external: dict[str, Any] | None,
) -> Verdict:
    """The verdict on predictions that have had their calibration already."""
    dataset, preprocessor = judged_data(cfg, split, run_dir)
    from perturbfm.floors import fitted_floors
    from perturbfm.judging import judge_folds, kept_scores, kept_standing, truth_seed
    from perturbfm.train.datamodule import PerturbDataModule

    datamodule = PerturbDataModule(dataset, split, cfg.trainer.batch_size, cfg.seed, preprocessor=preprocessor)
    kept = kept_standing(cfg, dataset, split)
    floors = fitted_floors(dataset, split, preprocessor, kept, truth_seed(split))
    scores = kept_scores(run_dir, kept)
    verdict = judge_folds(cfg, dataset, split, datamodule, floors, predictions, kept, calibration, scores, external)
    scores.drop()
    return verdict


def judged_data(cfg: DictConfig, split: Split, run_dir: Path) -> tuple[PerturbDataset, Preprocessor]:
    """The data as the run judged them, and what made them so."""
    from perturbfm.data import load_composed

    dataset = load_composed(cfg)
    split.assert_fits(dataset.fingerprint, dataset.n_obs)
    preprocessor = _preprocessor(cfg, dataset, split, run_dir)
    return preprocessor.apply(dataset), preprocessor


def _preprocessor(cfg: DictConfig, dataset: PerturbDataset, split: Split, run_dir: Path) -> Preprocessor:
    """What the run learned of its data, read back and never learned again."""
    from perturbfm.train.preprocess import FILE, learning_rows, nothing, read

    if not _stages(cfg):
        return nothing(dataset)
    return read(run_dir / FILE, learning_rows(split, dataset.labels(), cfg.preprocess.learn_on))


def _stages(cfg: DictConfig) -> Any:
    """The stages of a run; runs from before there was preprocessing have none."""
    choice = cfg.get("preprocess")
    return choice.stages if choice is not None else []


def first_difference(a: Any, b: Any, where: str = "") -> str:
    """Path and values of the first difference of two JSON values; empty when they agree."""
    if isinstance(a, dict) and isinstance(b, dict):
        missing = sorted(a.keys() ^ b.keys())
        if missing:
            return f"{where}/{missing[0]} is on one side only"
        return next((d for k in sorted(a) if (d := first_difference(a[k], b[k], f"{where}/{k}"))), "")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next(
            (d for i, (x, y) in enumerate(zip(a, b, strict=True)) if (d := first_difference(x, y, f"{where}/{i}"))), ""
        )
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    same = math.isclose(a, b, rel_tol=SAME_TO, abs_tol=1e-12) if numbers else a == b
    return "" if same else f"{where}: {a} stored, {b} now"
