"""What happens when a run's test loop ends: calibrate, then panel, then artifacts. `run.py`'s right hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perturbfm import config, places
from perturbfm.calibrate import learn_scale
from perturbfm.data.preprocess import Logarithms
from perturbfm.eval.effort import Effort
from perturbfm.eval.gate import GateVerdict
from perturbfm.eval.judge import Judged, judge, panel_of
from perturbfm.eval.panel import panel_named
from perturbfm.eval.report import render
from perturbfm.eval.separation import Separation
from perturbfm.eval.standing import Standing, stand
from perturbfm.eval.truth import TrainCentroids, Truth
from perturbfm.eval.verdict import open_gate
from perturbfm.files import write_gzip, write_json, write_text
from perturbfm.floors import floor_facts
from perturbfm.kept import SCORES, STANDING, KeptScores, KeptStanding, key_of
from perturbfm.predictions import CELLS_FILE, PREDICTION_FILES, as_stored, read_cells, write_cells, write_prediction
from perturbfm.record import JUDGED_FROM, digest
from perturbfm.train.centroids import train_centroids
from perturbfm.types import Observed, Prediction, RowView

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.record import RunFolder
    from perturbfm.split import Split
    from perturbfm.train.datamodule import PerturbDataModule


UNCALIBRATED = "none"
"""Method of a calibration that could not be."""


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
        kept: What stands beside every model of the split, if it was made before.
        external: Verdict of the audit of another tool's predictions; None for a model that was trained here.
        result: What came of it.
    """

    cfg: DictConfig
    dataset: PerturbDataset
    split: Split
    folder: RunFolder
    datamodule: PerturbDataModule
    floors: dict[str, dict[str, Prediction]]
    kept: KeptStanding
    external: dict[str, Any] | None = None
    result: RunResult | None = field(default=None)

    def __call__(self, predictions: dict[str, Prediction]) -> None:
        """Judge the blind predictions of the test fold and, where there are any, of the calibration fold."""
        openings = self.folder.open_test(str(self.split.frozen_hash), predictions["test"].model)
        self.folder.note(test_openings=openings)
        calibrated, record = self._saved(predictions)
        scores = kept_scores(self.folder.path, self.kept)
        verdict = judge_folds(
            self.cfg,
            self.dataset,
            self.split,
            self.datamodule,
            self.floors,
            calibrated,
            self.kept,
            record,
            scores,
            self.external,
        )
        self.folder.seal(verdict.write(self.folder.path, self.folder.facts))
        scores.drop()
        self.folder.event("judged", panel=verdict.judged.metrics["panel"]["name"])
        self.result = RunResult(
            config.plain(self.cfg),
            metrics_table(verdict.judged.metrics),
            verdict.judged.metrics,
            verdict.prediction,
            self.folder.path,
        )

    def _saved(self, predictions: dict[str, Prediction]) -> tuple[dict[str, Prediction], dict[str, Any]]:
        """The calibrated predictions and the record, on disk and sealed before anything is scored.

        From here on `perturbfm eval RUN` can finish what an interrupt leaves.
        """
        calib = Truth(observe(self.dataset, self.split, "calib"))
        calibrated, record = _model_calibrated(calib, predictions)
        calibrated = {fold: as_stored(p) for fold, p in calibrated.items()}
        path = self.folder.path
        names = []
        for fold, p in calibrated.items():
            names.append(PREDICTION_FILES[fold])
            write_prediction(path / names[-1], p, record["factor"])
        emitted = calibrated["test"].cells
        if emitted is not None:
            names.append(CELLS_FILE)
            write_cells(path / CELLS_FILE, emitted)
            calibrated["test"] = replace(calibrated["test"], cells=read_cells(path / CELLS_FILE))
        record |= {
            "split_hash": self.split.frozen_hash,
            "floors": {n: _calibrated(calib, p).factor for n, p in self.floors.items()},
            "learned_in": sorted(set(calib.context_c.tolist())) if record["method"] != UNCALIBRATED else [],
            "measured_in": sorted(set(self.dataset.labels().context_n[self.split.test_idx].tolist())),
        }
        write_json(path / "calibration.json", record)
        self.folder.seal(dict.fromkeys((*JUDGED_FROM, *names)))
        self.folder.event("predicted")
        return calibrated, record


@dataclass(frozen=True)
class Verdict:
    """A judged run: calibrated predictions, calibration, panel."""

    prediction: Prediction
    calibration: dict[str, Any]
    judged: Judged
    split_card: dict[str, Any]

    def write(self, path: Path, manifest: dict[str, Any]) -> tuple[str, ...]:
        """Write `per_condition.csv.gz`, `report.html` and last `metrics.json`; returns these names."""
        write_gzip(path / "per_condition.csv.gz", self.judged.per_condition.to_csv(index=False))
        self.write_report(path, manifest)
        write_json(path / "metrics.json", self.judged.metrics)
        return "per_condition.csv.gz", "report.html", "metrics.json"

    def write_report(self, path: Path, manifest: dict[str, Any]) -> None:
        """Write the page alone."""
        j = self.judged
        page = render(j.metrics, j.per_condition, self.calibration, manifest, self.split_card, j.deltas)
        write_text(path / "report.html", page)


def judge_folds(
    cfg: DictConfig,
    dataset: PerturbDataset,
    split: Split,
    datamodule: PerturbDataModule,
    floors: dict[str, dict[str, Prediction]],
    predictions: dict[str, Prediction],
    kept: KeptStanding,
    record: dict[str, Any],
    scores: KeptScores,
    external: dict[str, Any] | None = None,
) -> Verdict:
    """Score the test fold with the whole panel.

    Args:
        cfg: The configuration.
        dataset: The data.
        split: The frozen split.
        datamodule: Batches and encoder of the run.
        floors: For each floor, its predictions by fold, not calibrated.
        predictions: The model's, by fold, calibrated; another tool may be silent on the calibration fold.
        kept: What stands beside every model of the split, if it was made before.
        record: The record of the model's calibration.
        scores: What an evaluation of these predictions that was killed has scored.
        external: Verdict of the audit of another tool's predictions, to stand in the metrics.
    """
    calib, test = (Truth(observe(dataset, split, f)) for f in ("calib", "test"))
    train = TrainCentroids(*train_centroids(datamodule))
    beside = {n: _calibrated(calib, p).apply(p["test"]) for n, p in floors.items()}
    judged = judge(
        panel_named(cfg.eval.panel),
        test,
        predictions["test"],
        beside,
        train,
        _separation(dataset, split, test, Separation(calib, predictions.get("calib"), "+".join(split.ood_axes))),
        effort_of(cfg, split),
        stood(cfg, split, test, beside, train, kept),
        scores,
    )
    judged.metrics["run"] = _run_card(cfg, dataset, split, datamodule, predictions["test"].model)
    if external is not None:
        judged.metrics["external"] = external
    judged.metrics["calibration"] = dict(record)
    return Verdict(predictions["test"], record, judged, _split_card(split))


def _run_card(
    cfg: DictConfig, dataset: PerturbDataset, split: Split, datamodule: PerturbDataModule, model: str
) -> dict[str, Any]:
    """What was judged, as it stands in `metrics.json`."""
    preprocessor = datamodule.preprocessor
    return {
        "split_hash": split.frozen_hash,
        "fingerprint": split.fingerprint,
        "data": dataset.declared.name,
        "model": model,
        "ablation": cfg.ablation.name,
        "config_hash": config.config_hash(cfg),
        "seed": cfg.seed,
        "fold": "test",
        "scale": dataset.declared.scale,
        "match": dataset.declared.match,
    } | ({"preprocess": preprocessor.card()} if preprocessor.stages else {})


def _split_card(split: Split) -> dict[str, Any]:
    """Who was held out, for the report."""
    return {
        "rule": split.rule,
        "params": dict(split.params),
        "counts": split.summary(),
        "ood_axes": list(split.ood_axes),
        "ood_rows": {axis: len(split.ood_rows(axis)) for axis in split.ood_axes},
    }


def stood(
    cfg: DictConfig,
    split: Split,
    test: Truth,
    floors: dict[str, Prediction],
    train: TrainCentroids,
    kept: KeptStanding,
) -> Standing:
    """What stands beside every model of the split: kept, or made now and kept."""
    found = kept.standing()
    if found is None:
        panel = panel_of(panel_named(cfg.eval.panel), test)
        found = stand(panel, test, floors, train, effort_of(cfg, split), {n: kept.scores(n) for n in floors})
        kept.keep(found)
        found = kept.standing() or found
    return found


def kept_standing(cfg: DictConfig, dataset: PerturbDataset, split: Split) -> KeptStanding:
    """Where what stands beside every model of this split is kept: by data, split, panel, effort and code."""
    panel = panel_named(cfg.eval.panel)
    facts = {
        **floor_facts(dataset, split),
        "panel": [panel.name, panel.version, *panel.identifiers],
        "effort": asdict(effort_of(cfg, split)),
        "match": dataset.declared.match,
    }
    return KeptStanding(places.outputs_dir() / STANDING, key_of(facts))


def kept_scores(run_dir: Path, kept: KeptStanding) -> KeptScores:
    """What has been scored of a run's stored predictions."""
    return KeptScores(run_dir / SCORES, f"{kept.key} {digest(run_dir / PREDICTION_FILES['test'])}")


def effort_of(cfg: DictConfig, split: Split) -> Effort:
    """How much a judgement resamples, seeded by the split."""
    e = cfg.eval
    return Effort(e.bootstrap_draws, e.permutations, e.halvings, truth_seed(split))


def _separation(dataset: PerturbDataset, split: Split, test: Truth, seen: Separation) -> Separation:
    """With the conditions of the test that are out of distribution, on each axis and on any, and what train has."""
    labels, train = dataset.labels(), split.train_idx
    pairs = zip(labels.context_n[train].astype(str), labels.intervention_n[train].astype(str), strict=True)
    axes = {axis: _out_of_distribution(test, split.ood_rows(axis)) for axis in split.ood_axes}
    out_c = np.logical_or.reduce(list(axes.values()))
    return replace(seen, out_c=out_c, axes=axes, train_pairs=frozenset(pairs))


def _out_of_distribution(truth: Truth, rows: np.ndarray) -> np.ndarray:
    """Whether each condition of the test holds any of some rows."""
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


def _model_calibrated(truth: Truth, predictions: dict[str, Prediction]) -> tuple[dict[str, Prediction], dict[str, Any]]:
    why = "" if predictions["test"].has_variance else "the prediction states no variance, so there is none to calibrate"
    if not why and "calib" not in predictions:
        why = "there is no prediction of the calibration fold: the stated variance is judged as it is"
    if why:
        return predictions, {"method": UNCALIBRATED, "factor": 1.0, "note": why}
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
        delimiter=labels.delimiter,
    )


def metrics_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """Metrics x (model, floors); NaN where a value is undefined or not applicable."""
    columns = {"model": metrics["metrics"], **metrics["floors"]}
    return pd.DataFrame({n: {i: e["value"] for i, e in entries.items()} for n, entries in columns.items()}, dtype=float)
