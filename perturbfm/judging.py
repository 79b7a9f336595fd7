"""What happens when a run's test loop ends: calibrate, then panel, then artifacts. `run.py`'s right hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perturbfm import config
from perturbfm.calibrate import learn_scale
from perturbfm.data.preprocess import Logarithms
from perturbfm.eval.effort import Effort
from perturbfm.eval.gate import GateVerdict
from perturbfm.eval.judge import Judged, judge
from perturbfm.eval.panel import panel_named
from perturbfm.eval.report import render
from perturbfm.eval.separation import Separation
from perturbfm.eval.truth import TrainCentroids, Truth
from perturbfm.eval.verdict import open_gate
from perturbfm.files import write_gzip, write_json, write_text
from perturbfm.predictions import PREDICTION_FILES, write_prediction
from perturbfm.record import JUDGED_FROM
from perturbfm.train.centroids import train_centroids
from perturbfm.types import Observed, Prediction, RowView

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.record import RunFolder
    from perturbfm.split import Split
    from perturbfm.train.datamodule import PerturbDataModule


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
        openings = self.folder.open_test(str(self.split.frozen_hash), predictions["test"].model)
        self.folder.note(test_openings=openings)
        verdict = judge_folds(self.cfg, self.dataset, self.split, self.datamodule, self.floors, predictions)
        factor = verdict.calibration["factor"]
        for fold, p in (("test", verdict.prediction), ("calib", verdict.calib)):
            write_prediction(self.folder.path / PREDICTION_FILES[fold], p, factor)
        write_json(self.folder.path / "calibration.json", verdict.calibration)
        self.folder.seal(JUDGED_FROM)
        self.folder.seal(verdict.write(self.folder.path, self.folder.facts))
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

    def write(self, path: Path, manifest: dict[str, Any]) -> tuple[str, ...]:
        """Write `per_condition.csv.gz`, `report.html` and last `metrics.json`; returns these names."""
        write_gzip(path / "per_condition.csv.gz", self.judged.per_condition.to_csv(index=False))
        page = render(self.judged.metrics, self.judged.per_condition, self.calibration, manifest, self.split_card)
        write_text(path / "report.html", page)
        write_json(path / "metrics.json", self.judged.metrics)
        return "per_condition.csv.gz", "report.html", "metrics.json"


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
        Separation(calib, model["calib"], "+".join(split.ood_axes), _out_of_distribution(test, split)),
        Effort(e.bootstrap_draws, e.permutations, e.halvings, truth_seed(split)),
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
        "match": dataset.declared.match,
    }
    if datamodule.preprocessor.stages:
        judged.metrics["run"]["preprocess"] = datamodule.preprocessor.card()
    record |= {"split_hash": split.frozen_hash, "floors": {n: scales[n].factor for n in floors}}
    record["learned_in"] = sorted(set(calib.context_c.tolist()))
    record["measured_in"] = sorted(set(test.context_c.tolist()))
    judged.metrics["calibration"] = record
    card = {
        "rule": split.rule,
        "params": dict(split.params),
        "counts": split.summary(),
        "ood_axes": list(split.ood_axes),
        "ood_rows": {axis: len(split.ood_rows(axis)) for axis in split.ood_axes},
    }
    return Verdict(model["test"], model["calib"], record, judged, card)


def _out_of_distribution(truth: Truth, split: Split) -> np.ndarray:
    """Whether each condition of the test is out of distribution on any axis."""
    rows = np.concatenate([split.ood_rows(axis) for axis in split.ood_axes])
    known = np.isin(truth.observed.idx_n[truth.rows], rows)
    return np.bincount(truth.condition_n, weights=known, minlength=len(truth.n_c)) > 0


def gate_of(dataset: PerturbDataset, split: Split) -> dict[str, GateVerdict]:
    """The gate of every context of the test fold, from truth alone, with the seed and effort of a run.

    Counts are looked at as logarithms, over library size and to the median of train.
    """
    seen = observe(dataset, split, "test")
    if dataset.declared.scale == "counts":
        logged = Logarithms.to_median(dataset, split.train_idx)
        parts = {"x_ng": seen.x_ng, "input_mg": seen.input_mg, "reference_rg": seen.reference_rg}
        seen = replace(seen, scale="log1p", **{name: view.of(logged) for name, view in parts.items()})
    return open_gate(Truth(seen), Effort(seed=truth_seed(split)))


def truth_seed(split: Split) -> int:
    """Seed of gate, replicate and intervals: they are facts of a split, so no seed of a model may move them."""
    return int(str(split.frozen_hash)[:8], 16)


def _model_calibrated(
    truth: Truth, predictions: dict[str, Prediction], known: dict[str, Any] | None
) -> tuple[dict[str, Prediction], dict[str, Any]]:
    if known is not None:
        return predictions, dict(known)
    scale = _calibrated(truth, predictions)
    return {f: scale.apply(p) for f, p in predictions.items()}, scale.record()


def _calibrated(truth: Truth, predictions: dict[str, Prediction]) -> Any:
    """One scale, learned on the calibration fold from predictions that never saw it."""
    mean_cg, var_cg = truth.predicted(predictions["calib"])
    return learn_scale(truth.delta_cg - mean_cg, var_cg, truth.noise_cg, truth.scored_cg)


def observe(dataset: PerturbDataset, split: Split, fold: str) -> Observed:
    """All that a judge may see of a fold. Controls are those of the fold's contexts."""
    labels, idx = dataset.labels(), split.fold(fold)
    contexts = set(labels.context_n[idx].tolist())
    mine = np.array([c in contexts for c in labels.context_n], dtype=bool)
    shown, kept = (rows[mine[rows]] for rows in (split.input_control_idx, split.reference_control_idx))
    return Observed(
        idx_n=idx,
        x_ng=RowView(dataset.adata.X, idx),
        intervention_n=labels.intervention_n[idx],
        context_n=labels.context_n[idx],
        batch_n=labels.batch_n[idx],
        input_mg=RowView(dataset.adata.X, shown),
        input_context_m=labels.context_n[shown],
        input_batch_m=labels.batch_n[shown],
        reference_rg=RowView(dataset.adata.X, kept),
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
    columns = {"model": metrics["metrics"], **metrics["floors"]}
    return pd.DataFrame({n: {i: e["value"] for i, e in entries.items()} for n, entries in columns.items()}, dtype=float)
