"""Official codes on the cells of `panel.py`, run by an interpreter that has them; prints seconds as JSON.

    python benchmarks/panel_peers.py FOLDER

FOLDER holds `true.h5ad` and `predicted.h5ad` (`obs.perturbation`, controls `control`). Times are of the process and of
the clock, one thread each. A peer that is missing or fails is a line with the reason instead of a time.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np

warnings.simplefilter("ignore")
CONTROL = "control"


def main() -> None:
    folder = Path(sys.argv[1])
    files = [anndata.read_h5ad(folder / f"{name}.h5ad") for name in ("true", "predicted")]
    for name, peer in PEERS.items():
        print(json.dumps({"peer": name, **seconds(lambda peer=peer: peer(*files))}), flush=True)


def seconds(function: Callable[[], Any]) -> dict[str, Any]:
    """Time of a peer that prints what it likes on the other stream."""
    out, sys.stdout = sys.stdout, sys.stderr
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        function()
    except ImportError as e:
        return {"missing": str(e)}
    except Exception as e:  # noqa: BLE001 - a peer that cannot read the files is a line of the table
        return {"missing": f"{type(e).__name__}: {e}"[:200]}
    finally:
        sys.stdout = out
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def groups(file: anndata.AnnData) -> dict[str, np.ndarray]:
    """Dense cells of each condition in double precision, controls among them."""
    label = file.obs["perturbation"].astype(str).to_numpy()
    return {k: file.X[np.flatnonzero(label == k)].toarray().astype(float) for k in sorted(set(label))}


def cell_eval(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
    from cell_eval import MetricsEvaluator

    with tempfile.TemporaryDirectory() as folder:
        MetricsEvaluator(
            adata_pred=predicted.copy(),
            adata_real=true.copy(),
            control_pert=CONTROL,
            pert_col="perturbation",
            num_threads=1,
            outdir=folder,
        ).compute(profile="full")


def pdex(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
    from pdex import pdex as run

    for file in (true, predicted):
        run(file.copy(), groupby="perturbation", mode="ref", reference=CONTROL, threads=1)


def scanpy(method: str) -> Callable[[anndata.AnnData, anndata.AnnData], None]:
    def test(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
        import scanpy as sc

        for file in (true, predicted):
            sc.tl.rank_genes_groups(file.copy(), "perturbation", reference=CONTROL, method=method)

    return test


def scipy_ranks(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
    from scipy.stats import mannwhitneyu

    for cells in (groups(true), groups(predicted)):
        for name, x in cells.items():
            if name != CONTROL:
                mannwhitneyu(x, cells[CONTROL], method="asymptotic")


def scipy_genes(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
    from scipy.stats import energy_distance, wasserstein_distance

    a, b = groups(true), groups(predicted)
    for name in (k for k in a if k != CONTROL):
        for x, y in zip(a[name].T, b[name].T, strict=True):
            wasserstein_distance(x, y)
            energy_distance(x, y)


def scipy_pairs(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
    from scipy.spatial.distance import cdist, pdist

    a, b = groups(true), groups(predicted)
    for name in (k for k in a if k != CONTROL):
        _ = cdist(a[name], b[name]).sum(), pdist(a[name]).sum(), pdist(b[name]).sum()


def pot(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
    import ot

    a, b = groups(true), groups(predicted)
    for name in (k for k in a if k != CONTROL):
        cost = ot.dist(a[name][:, :100], b[name][:, :100])
        for epsilon in (0.05 * cost.mean(), 0.05 * cost.std()):
            ot.sinkhorn([], [], cost, epsilon, method="sinkhorn_log", numItermax=2000, stopThr=1e-3)


def geomloss(true: anndata.AnnData, predicted: anndata.AnnData) -> None:
    import torch
    from geomloss import SamplesLoss

    torch.set_num_threads(1)
    a, b, loss = groups(true), groups(predicted), SamplesLoss("energy", p=2)
    for name in (k for k in a if k != CONTROL):
        loss(*(torch.from_numpy(side[name].astype(np.float32)) for side in (a, b)))


PEERS: dict[str, Callable[[anndata.AnnData, anndata.AnnData], None]] = {
    "cell-eval 0.8.2 + pdex 0.3, full profile": cell_eval,
    "of which pdex, both sides": pdex,
    "scanpy t-test, both sides": scanpy("t-test"),
    "scanpy t-test_overestim_var, both sides": scanpy("t-test_overestim_var"),
    "scanpy wilcoxon, both sides": scanpy("wilcoxon"),
    "scipy mannwhitneyu, both sides": scipy_ranks,
    "scipy wasserstein and energy distance, gene by gene": scipy_genes,
    "scipy cdist and pdist, all pairs": scipy_pairs,
    "POT sinkhorn_log, 100 genes, both epsilons": pot,
    "geomloss energy": geomloss,
}


if __name__ == "__main__":
    main()
