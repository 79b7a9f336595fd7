"""`python -m perturbfm.run`: one experiment, a line per room. The only module that knows all rooms."""

from __future__ import annotations

import atexit
import math
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from perturbfm import config, places
from perturbfm.errors import InternalError, NoSplitNamed, PerturbFMError

if TYPE_CHECKING:
    import pandas as pd

    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.eval.judge import Judged
    from perturbfm.eval.truth import Truth
    from perturbfm.record import RunFolder
    from perturbfm.split import Split
    from perturbfm.train.datamodule import PerturbDataModule
    from perturbfm.train.response_module import ResponseModule
    from perturbfm.types import Observed, Prediction

PREDICTION_FILES = {"test": "predictions.npz", "calib": "predictions_calib.npz"}
SAME_TO = 1e-6
"""Relative difference up to which a recomputed number is the same: variances are stored as float32."""

FLOORS = {"no_change": "no_change", "train_mean": "global_mean", "source_delta": "per_perturbation_mean"}
"""Floors that learn on train, and the model that each one is."""


@dataclass(frozen=True)
class RunResult:
    """What a run gives, for notebooks.

    Attributes:
        config: The resolved configuration.
        table: Metrics x (model, floors), one number each; NaN where undefined or not applicable.
        metrics: All that stands in `metrics.json`.
        prediction: The calibrated prediction of the test fold.
        folder: Where the artifacts are.
    """

    config: dict[str, Any]
    table: pd.DataFrame
    metrics: dict[str, Any]
    prediction: Prediction
    folder: Path

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.folder / "report.html"


def run_experiment(overrides: Sequence[str] = ()) -> RunResult:
    """Run one experiment from Python, exactly as the command line would.

    Args:
        overrides: As on the command line, for example `["model=ridge", "seed=1"]`.

    Raises:
        PerturbFMError: Typed; its `exit_code` is the command line's.
    """
    return experiment(config.compose_config(overrides))


def experiment(cfg: DictConfig, sweep: str | None = None) -> RunResult:
    """Data -> split -> model -> train -> calibrate -> eval, then artifacts."""
    if not cfg.split.hash:
        raise NoSplitNamed(
            "No split is named",
            given="split.hash=null",
            expected="the hash of a frozen split",
            fix="Make one with `perturbfm splits create`, then pass split=frozen split.hash=HASH.",
        )
    from perturbfm.record import RunFolder, assert_writable
    from perturbfm.split import SplitStore

    split = SplitStore(places.splits_dir(), places.shipped_splits_dirs()).load(str(cfg.split.hash))
    assert_writable(places.outputs_dir())
    dataset = config.build(cfg.data)
    split.assert_fits(dataset.fingerprint, dataset.n_obs)
    facts = {
        "seed": cfg.seed,
        "ablation": cfg.ablation.name,
        "data": dataset.metadata,
        "sweep": sweep,
        "split": split.summary(),
    }
    folder = RunFolder(
        places.outputs_dir(), str(split.frozen_hash), str(cfg.model.name), config.config_hash(cfg), facts
    )
    try:
        result = _in_folder(cfg, dataset, split, folder)
    except BaseException as e:
        stopped = isinstance(e, KeyboardInterrupt) or (
            isinstance(e, SystemExit) and isinstance(e.__context__, KeyboardInterrupt)
        )
        folder.finish("interrupted" if stopped else "failed", f"{type(e).__name__}: {e}")
        if isinstance(e, SystemExit) and stopped:  # Lightning turns an interrupt into exit code 1 and ignores the next
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from e
        raise
    folder.finish("finished")
    return result


def _in_folder(cfg: DictConfig, dataset: PerturbDataset, split: Split, folder: RunFolder) -> RunResult:
    from perturbfm.files import write_text
    from perturbfm.train.datamodule import PerturbDataModule
    from perturbfm.train.fit import TrainerSettings, fit_and_test, seed_all

    write_text(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config.plain(cfg))))
    seed_all(cfg.seed)
    datamodule = PerturbDataModule(dataset, split, cfg.trainer.batch_size, cfg.seed, cfg.trainer.num_workers)
    folder.note(unknown_to_train=datamodule.encoder.unknown(dataset.labels(), split.test_idx))
    floors = {name: _floor(model, datamodule) for name, model in FLOORS.items()}
    seed_all(cfg.seed)
    module = config.build(cfg.model)(dims=datamodule.encoder.dims)
    judge = Judge(cfg, dataset, split, folder, datamodule, floors)
    t = cfg.trainer
    settings = TrainerSettings(
        t.max_epochs, t.patience, t.accelerator, t.devices, bool(t.progress) and sys.stderr.isatty()
    )
    fit_and_test(module, datamodule, settings, judge, folder.event, folder.path)
    if judge.result is None:
        raise InternalError(
            "A run ended without its panel", given="no verdict", expected="a complete panel", fix="Please report this."
        )
    return judge.result


def _floor(model: str, datamodule: PerturbDataModule) -> dict[str, Prediction]:
    """Predictions of a floor, through the same Trainer and the same guards as any model."""
    from perturbfm.train.fit import TrainerSettings, fit_and_test

    module: ResponseModule = config.build(config.compose_group("model", [f"model={model}"], {}))(
        dims=datamodule.encoder.dims
    )
    found: dict[str, Prediction] = {}
    fit_and_test(module, datamodule, TrainerSettings(), found.update, _ignore, None)
    return found


def _ignore(_event: str, **_fields: Any) -> None:
    """A floor leaves no trace of its own; the run that scores it does."""


# --- the judge -------------------------------------------------------------------------------------


@dataclass
class Judge:
    """Calibrate, then panel, then artifacts: what happens when the test loop ends.

    Attributes:
        cfg: The configuration.
        dataset: The data.
        split: The frozen split.
        folder: The run's folder; None judges without writing.
        datamodule: Batches and encoder of the run.
        floors: For each floor, its predictions by fold.
        result: What came of it.
    """

    cfg: DictConfig
    dataset: PerturbDataset
    split: Split
    folder: RunFolder
    datamodule: PerturbDataModule
    floors: dict[str, dict[str, Prediction]]
    result: RunResult | None = field(default=None)

    def __call__(self, predictions: dict[str, Prediction]) -> None:
        """Judge the blind predictions of the calibration and test folds."""
        from perturbfm.predictions import write_prediction

        openings = self.folder.open_test(str(self.split.frozen_hash), predictions["test"].model)
        self.folder.note(test_openings=openings)
        verdict = judge_folds(self.cfg, self.dataset, self.split, self.datamodule, self.floors, predictions)
        factor = verdict.calibration["factor"]
        for fold, p in (("test", verdict.prediction), ("calib", verdict.calib)):
            write_prediction(self.folder.path / PREDICTION_FILES[fold], p, factor)
        verdict.write(self.folder.path, self.folder.facts)
        self.folder.event("judged", panel=verdict.judged.metrics["panel"]["name"])
        self.result = RunResult(
            config.plain(self.cfg),
            metrics_table(verdict.judged.metrics),
            verdict.judged.metrics,
            verdict.prediction,
            self.folder.path,
        )


@dataclass(frozen=True)
class Verdict:
    """A judged run: calibrated predictions, calibration, panel."""

    prediction: Prediction
    calib: Prediction
    calibration: dict[str, Any]
    judged: Judged
    split_card: dict[str, Any]

    def write(self, path: Path, manifest: dict[str, Any]) -> None:
        """Write `calibration.json`, `per_condition.csv.gz`, `report.html` and last `metrics.json`."""
        from perturbfm.eval.report import render
        from perturbfm.files import write_gzip, write_json, write_text

        write_json(path / "calibration.json", self.calibration)
        write_gzip(path / "per_condition.csv.gz", self.judged.per_condition.to_csv(index=False))
        page = render(self.judged.metrics, self.judged.per_condition, self.calibration, manifest, self.split_card)
        write_text(path / "report.html", page)
        write_json(path / "metrics.json", self.judged.metrics)


def judge_folds(
    cfg: DictConfig,
    dataset: PerturbDataset,
    split: Split,
    datamodule: PerturbDataModule,
    floors: dict[str, dict[str, Prediction]],
    predictions: dict[str, Prediction],
    known: dict[str, Any] | None = None,
) -> Verdict:
    """Calibrate on the calibration fold, then score the test fold with the whole panel.

    Args:
        cfg: The configuration.
        dataset: The data.
        split: The frozen split.
        datamodule: Batches and encoder of the run.
        floors: For each floor, its predictions by fold.
        predictions: The model's, by fold.
        known: The record of a calibration that the predictions have had already; None learns one.
    """
    from perturbfm.eval.effort import Effort
    from perturbfm.eval.judge import judge
    from perturbfm.eval.panel import panel_named
    from perturbfm.eval.separation import Separation
    from perturbfm.eval.truth import TrainCentroids, Truth
    from perturbfm.train.centroids import train_centroids

    calib, test = (Truth(observe(dataset, split, f)) for f in ("calib", "test"))
    scales = {n: _calibrated(calib, p) for n, p in floors.items()}
    model, record = _model_calibrated(calib, predictions, known)
    e = cfg.eval
    judged = judge(
        panel_named(e.panel),
        test,
        model["test"],
        {n: scales[n].apply(p["test"]) for n, p in floors.items()},
        TrainCentroids(*train_centroids(datamodule)),
        Separation(calib, model["calib"]),
        Effort(e.bootstrap_draws, e.permutations, e.halvings, cfg.seed),
    )
    judged.metrics["run"] = {
        "split_hash": split.frozen_hash,
        "fingerprint": split.fingerprint,
        "data": dataset.declared.name,
        "model": predictions["test"].model,
        "ablation": cfg.ablation.name,
        "config_hash": config.config_hash(cfg),
        "seed": cfg.seed,
        "fold": "test",
        "scale": dataset.declared.scale,
    }
    record |= {"split_hash": split.frozen_hash, "floors": {n: scales[n].factor for n in floors}}
    record["learned_in"] = sorted(set(calib.context_c.tolist()))
    record["measured_in"] = sorted(set(test.context_c.tolist()))
    judged.metrics["calibration"] = record
    card = {
        "rule": split.rule,
        "params": dict(split.params),
        "counts": split.summary(),
        "ood_axes": list(split.ood_axes),
    }
    return Verdict(model["test"], model["calib"], record, judged, card)


def _model_calibrated(
    truth: Truth, predictions: dict[str, Prediction], known: dict[str, Any] | None
) -> tuple[dict[str, Prediction], dict[str, Any]]:
    if known is not None:
        return predictions, dict(known)
    scale = _calibrated(truth, predictions)
    return {f: scale.apply(p) for f, p in predictions.items()}, scale.record()


def _calibrated(truth: Truth, predictions: dict[str, Prediction]) -> Any:
    """One scale, learned on the calibration fold from predictions that never saw it."""
    from perturbfm.calibrate import learn_scale

    mean_cg, var_cg = truth.predicted(predictions["calib"])
    return learn_scale(truth.delta_cg - mean_cg, var_cg, truth.noise_cg, truth.scored_cg)


def observe(dataset: PerturbDataset, split: Split, fold: str) -> Observed:
    """All that a judge may see of a fold. Controls are those of the fold's contexts."""
    import numpy as np

    from perturbfm.types import Observed

    labels, idx = dataset.labels(), split.fold(fold)
    contexts = set(labels.context_n[idx].tolist())
    mine = np.array([c in contexts for c in labels.context_n], dtype=bool)
    shown, kept = (rows[mine[rows]] for rows in (split.input_control_idx, split.reference_control_idx))
    return Observed(
        idx_n=idx,
        x_ng=dataset.adata.X[idx],
        intervention_n=labels.intervention_n[idx],
        context_n=labels.context_n[idx],
        batch_n=labels.batch_n[idx],
        input_mg=dataset.adata.X[shown],
        input_context_m=labels.context_n[shown],
        input_batch_m=labels.batch_n[shown],
        reference_rg=dataset.adata.X[kept],
        reference_context_r=labels.context_n[kept],
        reference_batch_r=labels.batch_n[kept],
        genes_g=dataset.genes,
        scale=dataset.declared.scale,
        unit=dataset.declared.unit,
        controls=dataset.declared.controls,
        match_batch=dataset.declared.match != "context",
        fold=fold,
    )


def metrics_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """Metrics x (model, floors); NaN where a value is undefined or not applicable."""
    import pandas as pd

    columns = {"model": metrics["metrics"], **metrics["floors"]}
    return pd.DataFrame({n: {i: e["value"] for i, e in entries.items()} for n, entries in columns.items()}, dtype=float)


# --- judging again ---------------------------------------------------------------------------------


def judge_again(run_dir: Path) -> tuple[dict[str, Any], str]:
    """Score a run's stored predictions again, by the same code path.

    Args:
        run_dir: Folder of a run.

    Returns:
        The metrics, and a sentence on how they compare with those stored.

    Raises:
        ArtifactEdited: Predictions, manifest and split do not carry the same hashes.
        RecomputedDifferently: The stored numbers are others; the new ones are written beside them.
    """
    import json

    from perturbfm.errors import ArtifactEdited, RecomputedDifferently, UnreadableFile
    from perturbfm.files import write_json
    from perturbfm.predictions import read_prediction
    from perturbfm.split import SplitStore

    try:
        cfg = OmegaConf.load(run_dir / "config.yaml")
        manifest = json.loads((run_dir / "manifest.json").read_text())
        calibration = json.loads((run_dir / "calibration.json").read_text())
    except (OSError, ValueError) as e:
        raise UnreadableFile(
            "This is not the folder of a finished run",
            given=f"{run_dir}: {e}",
            expected="config.yaml, manifest.json, calibration.json and predictions.npz",
            fix="Name a folder under outputs/.",
        ) from e
    if not isinstance(cfg, DictConfig):
        raise UnreadableFile(
            "config.yaml holds no mapping", given=run_dir, expected="a run's config", fix="Name a run."
        )
    split = SplitStore(places.splits_dir(), places.shipped_splits_dirs()).load(manifest["split_hash"])
    predictions = {f: read_prediction(run_dir / n)[0] for f, n in PREDICTION_FILES.items()}
    for fold, p in predictions.items():
        if (p.split_hash, p.fingerprint, p.fold) != (split.frozen_hash, split.fingerprint, fold):
            raise ArtifactEdited(
                f"The {fold} predictions belong to another split or other data",
                given=f"split {p.split_hash[:12]}, data {p.fingerprint[:12]}",
                expected=f"split {split.short}, data {split.fingerprint[:12]}",
                fix="Restore the run's own files.",
            )
    dataset = config.build(cfg.data)
    split.assert_fits(dataset.fingerprint, dataset.n_obs)
    from perturbfm.train.datamodule import PerturbDataModule

    datamodule = PerturbDataModule(dataset, split, cfg.trainer.batch_size, cfg.seed)
    floors = {name: _floor(model, datamodule) for name, model in FLOORS.items()}
    verdict = judge_folds(cfg, dataset, split, datamodule, floors, predictions, calibration)
    stored = run_dir / "metrics.json"
    if not stored.is_file():
        verdict.write(run_dir, manifest)
        return verdict.judged.metrics, "metrics.json was missing and has been written."
    different = first_difference(json.loads(stored.read_text()), verdict.judged.metrics)
    if different:
        write_json(run_dir / "metrics.recomputed.json", verdict.judged.metrics)
        raise RecomputedDifferently(
            "Scoring again gives other numbers than metrics.json",
            given=different,
            expected=f"the stored value, to {SAME_TO:g} relative",
            fix=f"Compare {run_dir / 'metrics.recomputed.json'}; versions and commit of the run stand in its manifest.",
        )
    return verdict.judged.metrics, f"Identical to the stored metrics.json (to {SAME_TO:g})."


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


# --- the command line ------------------------------------------------------------------------------


def _scratch() -> str:
    """A folder for what Hydra insists on writing in a sweep; its name is the sweep's id."""
    folder = tempfile.mkdtemp(prefix="perturbfm-sweep-")
    atexit.register(shutil.rmtree, folder, True)
    return folder


OmegaConf.register_new_resolver("perturbfm_scratch", _scratch, use_cache=True, replace=True)


@hydra.main(config_path=str(places.conf_dir()), config_name="config", version_base="1.3")
def _hydra_main(cfg: DictConfig) -> float | None:
    """One job of Hydra's."""
    config.check(cfg)
    job = HydraConfig.get()
    result = experiment(cfg, Path(job.sweep.dir).name if job.mode and job.mode.name == "MULTIRUN" else None)
    from perturbfm.cli.show import print_result

    print_result(result.metrics, result.folder)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit code of the design's table."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors reach us and get their own exit code
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not any(a.startswith("hydra.searchpath") for a in arguments):
        arguments += config.search_path()
    sys.argv = [sys.argv[0], *arguments]
    return guarded(_hydra_main, [a for a in arguments if not a.startswith("-")])


def guarded(call: Any, overrides: Sequence[str]) -> int:
    """Call something and turn what it raises into a message and an exit code."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        call()
    except PerturbFMError as e:
        return _say(e)
    except (HydraException, OmegaConfBaseException) as e:
        return _say(config.translated(e, overrides))
    except KeyboardInterrupt:
        print("Interrupted. What was written is whole; the run's manifest says interrupted.", file=sys.stderr)
        return 130
    except MemoryError as e:
        print(f"ResourceError: out of memory: {e}. Use fewer genes or smaller batches.", file=sys.stderr)
        return 4
    except Exception:  # noqa: BLE001 - the last border: whatever is not typed is ours to mend, and is shown whole
        traceback.print_exc()
        print("InternalError: an error that has no name here. Please report it with the lines above.", file=sys.stderr)
        return 9
    return 0


def _say(error: PerturbFMError) -> int:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
