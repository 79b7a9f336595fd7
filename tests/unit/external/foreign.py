"""A small world of two batches and four contexts, one per fold, and files that predict its test fold."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
from anndata import AnnData

from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.eval.truth import Truth
from perturbfm.external.prediction_file import PredictionFile
from perturbfm.judging import observe
from perturbfm.split import Split
from perturbfm.types import Prediction

GENES = tuple(f"g{i:02d}" for i in range(30))
PERTS = ("A", "B", "A+B", "C", "D", "E")
CONTEXTS = {"r": "train", "v": "val", "k": "calib", "t": "test"}
CELLS, CONTROLS = 20, 40


@dataclass(frozen=True)
class World:
    """Data, split, and what is judged of them."""

    dataset: PerturbDataset
    split: Split

    @property
    def observed(self):
        return {fold: observe(self.dataset, self.split, fold) for fold in ("calib", "test")}

    @property
    def truth(self):
        return Truth(self.observed["test"])

    def judgeable(self, path, own=None, **options):
        return PredictionFile("tool", str(path), **options).judgeable(
            self.dataset, self.split, self.observed, own or {}
        )


def build(match="context_batch", perts=PERTS, dose=False, unit="cells", seed=0):
    rng = np.random.default_rng(seed)
    rows, values = [], []
    for context in CONTEXTS:
        base = 4.0 + rng.random(len(GENES))
        for pert in ("control", *perts):
            n = CONTROLS if pert == "control" else CELLS
            delta = 0.0 if pert == "control" else 0.5 * rng.normal(size=len(GENES))
            batch = np.array(["x", "y", "y", "x", "y"] * (n // 5))
            shift = np.where(batch == "x", 0.3, -0.2)[:, None]
            values.append(base + delta + shift + 0.3 * rng.normal(size=(n, len(GENES))))
            rows += [(context, pert, b) for b in batch]
    obs = pd.DataFrame(rows, columns=["context_id", "pert_id", "batch_id"], dtype=object)
    obs.index = [f"cell{i:04d}" for i in range(len(obs))]
    obs["is_control"], obs["mode"] = (obs["pert_id"] == "control").to_numpy(), "knockdown"
    if dose:
        obs["dose"] = np.where(obs["is_control"], "", np.where(np.arange(len(obs)) % 2, "1", "10"))
    x = np.concatenate(values).astype(np.float32)
    declared = Declaration("small", "log1p", unit, delimiter="+", match=match)
    return PerturbDataset(AnnData(X=x, obs=obs, var=pd.DataFrame(index=list(GENES))), declared)


def dealt(dataset):
    """One context per fold; every other control of a batch is shown."""
    obs = dataset.obs
    control = obs["is_control"].to_numpy()
    place = obs.groupby(["context_id", "batch_id", "is_control"]).cumcount().to_numpy()
    folds = {f"{f}_idx": np.flatnonzero((obs["context_id"] == c).to_numpy() & ~control) for c, f in CONTEXTS.items()}
    return Split(
        **folds,
        input_control_idx=np.flatnonzero(control & (place % 2 == 0)),
        reference_control_idx=np.flatnonzero(control & (place % 2 == 1)),
        fingerprint=dataset.fingerprint,
        data_name="small",
        rule="by_hand",
        params={},
        ood_axes=("context",),
        seed=0,
        n_obs=dataset.n_obs,
        unit="cells",
    ).freeze()


def predicted_cells(world, contexts=("t",), n=12, seed=1, controls=False):
    """Cells that a tool could emit: columns and values, free to be spoiled before they are written."""
    rng = np.random.default_rng(seed)
    obs = world.dataset.obs
    rows, values = [], []
    for context in contexts:
        base = 4.0 + rng.random(len(GENES))
        for pert in dict.fromkeys(obs["pert_id"][obs["context_id"] == context]):
            if pert != "control":
                values.append(base + 0.2 * rng.normal(size=len(GENES)) + 0.3 * rng.normal(size=(n, len(GENES))))
                rows += [(context, pert)] * n
        if controls:
            mine = np.flatnonzero((obs["context_id"] == context) & obs["is_control"])
            values.append(np.asarray(world.dataset.adata.X[mine]))
            rows += [(context, "control")] * len(mine)
    columns = pd.DataFrame(rows, columns=["context_id", "pert_id"], dtype=object)
    columns.index = [f"p{i}" for i in range(len(columns))]
    return SimpleNamespace(obs=columns, x=np.concatenate(values).astype(np.float32), genes=list(GENES), layers={})


def stated(world, delta, var=0.1, fold="test"):
    """A prediction of a model that states mean and variance."""
    truth = Truth(world.observed[fold])
    return Prediction(
        mean_qg=np.broadcast_to(np.asarray(delta, dtype=float), truth.mean_cg.shape),
        var_qg=np.full(truth.mean_cg.shape, var),
        query_n=truth.condition_n,
        idx_n=truth.observed.idx_n,
        genes_g=GENES,
        scale="log1p",
        fold=fold,
        model="floor",
        split_hash="s",
        fingerprint="f",
    )
