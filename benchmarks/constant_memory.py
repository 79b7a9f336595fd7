"""Does memory stay the same from 20,000 to 2,000,000 cells, and does a whole run go through?

    python benchmarks/constant_memory.py FOLDER [--cells 20000 200000 2000000] [--genes 2000] [--no-run]

Makes files by resampling a real one (Papalexi 2021): a cell is stitched from real cells of one knock-out and replicate,
299 genes from each, until the genes are there; contexts are made-up donors of those replicates, ten or one per 20,000
cells. Files are streamed to disk and deleted afterwards; FOLDER needs 20 bytes per stored value (18 GB for 2,000,000 x
2,000 at 22 %).

Every step runs in a process of its own. `anon` is the most anonymous memory it held (RssAnon: what it cannot give back;
sampled every 20 ms), `rss` the most resident memory, which counts pages of mapped files that the system may drop.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

BLOCK, BATCHES, BATCH = 4096, 400, 512
LOADER = {
    "name": "resampled",
    "scale": "counts",
    "target_sum": 10_000.0,
    "pert_column": "grna_target",
    "context_column": "donor",
    "batch_column": None,
    "control_labels": ["non-targeting"],
    "mode": "knockout",
    "cache": True,
}


def main() -> None:
    a = arguments()
    if a.step:
        STEPS[a.step](a)
        return
    a.folder.mkdir(parents=True, exist_ok=True)
    for n in a.cells:
        for step in ("make", "build", "load", "split", "loader", "statistics", *(() if a.no_run else ("run",))):
            here = [sys.executable, __file__, str(a.folder), "--cells", str(n), "--genes", str(a.genes)]
            subprocess.run([*here, "--step", step, "--source", str(a.source)], check=True, env=environment(a.folder))
        for name in ("cache", "splits", "outputs"):
            shutil.rmtree(a.folder / name, ignore_errors=True)
        path_of(a.folder, n).unlink()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 200_000, 2_000_000])
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--no-run", action="store_true")
    parser.add_argument("--step", choices=list(STEPS))
    default = Path(os.environ.get("PERTURBFM_DATA", "../shared/data")) / "papalexi21_eccite" / "papalexi21_eccite.h5ad"
    parser.add_argument("--source", type=Path, default=default)
    return parser.parse_args()


def environment(folder: Path) -> dict[str, str]:
    names = {"PERTURBFM_CACHE": "cache", "PERTURBFM_SPLITS": "splits", "PERTURBFM_OUTPUTS": "outputs"}
    return {**os.environ, **{key: str(folder / name) for key, name in names.items()}}


def path_of(folder: Path, n: int) -> Path:
    return folder / f"resampled_{n}.h5ad"


# --- measuring -------------------------------------------------------------------------------------


def anonymous() -> int:
    """Anonymous resident memory in bytes."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024


@contextmanager
def measured(n: int, step: str):
    """Print time and the most memory of what happens inside; `extra` takes further facts."""
    most, done, extra = [anonymous()], threading.Event(), {}

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], anonymous())

    before, start = anonymous(), time.perf_counter()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield extra
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    facts = {
        "cells": n,
        "step": step,
        "seconds": round(seconds, 1),
        "anon_before_mb": before >> 20,
        "anon_mb": max(most[0], anonymous()) >> 20,
        "anon_after_mb": anonymous() >> 20,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        **extra,
    }
    print(json.dumps(facts), flush=True)


# --- steps -----------------------------------------------------------------------------------------


def make(a: argparse.Namespace) -> None:
    import anndata
    import h5py
    import pandas as pd
    from anndata.io import write_elem
    from scipy import sparse

    n, source = a.cells[0], anndata.read_h5ad(a.source)
    donors = max(10, n // 20_000)
    x, rng = sparse.csr_matrix(source.X, dtype=np.float32), np.random.default_rng(0)
    labels = source.obs[["grna_target", "bio_rep"]].astype(str)
    groups = {k: np.asarray(v) for k, v in labels.groupby(["grna_target", "bio_rep"]).indices.items()}
    names = sorted(groups)
    share = np.array([len(groups[k]) for k in names]) / len(labels)
    of_n = rng.choice(len(names), n, p=share)
    parts = -(-a.genes // x.shape[1])
    with measured(n, "make") as extra, h5py.File(path_of(a.folder, n), "w") as f:
        group = f.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n, a.genes]})
        made = {k: group.create_dataset(k, (0,), t, maxshape=(None,), chunks=(1 << 20,)) for k, t in KINDS.items()}
        pointer = [np.zeros(1, np.int64)]
        for start in range(0, n, BLOCK):
            pools = [groups[names[k]] for k in of_n[start : start + BLOCK]]
            rows = [
                np.array([pool[int(u * len(pool))] for pool, u in zip(pools, rng.random(len(pools)), strict=True)])
                for _ in range(parts)
            ]
            block = sparse.hstack([x[r] for r in rows], format="csr")[:, : a.genes]
            pointer.append(pointer[-1][-1] + block.indptr[1:].astype(np.int64))
            for key in KINDS:
                size = made[key].shape[0]
                made[key].resize((size + block.nnz,))
                made[key][size:] = getattr(block, key)
        group.create_dataset("indptr", data=np.concatenate(pointer))
        donor = {
            r: [f"donor{i}" for i in range(donors) if i % 3 == k] for k, r in enumerate(sorted(set(labels.bio_rep)))
        }
        obs = pd.DataFrame(index=[f"cell{i}" for i in range(n)])
        obs["grna_target"] = pd.Categorical([names[k][0] for k in of_n])
        obs["donor"] = pd.Categorical(
            [donor[names[k][1]][int(u * len(donor[names[k][1]]))] for k, u in zip(of_n, rng.random(n), strict=True)]
        )
        write_elem(f, "obs", obs)
        write_elem(f, "var", pd.DataFrame(index=[f"gene{i}" for i in range(a.genes)]))
        f.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        extra["stored_millions"] = round(made["data"].shape[0] / 1e6, 1)
    print(json.dumps({"file_gb": round(path_of(a.folder, n).stat().st_size / 1e9, 2)}), flush=True)


KINDS = {"data": "<f4", "indices": "<i4"}


def dataset_of(a: argparse.Namespace):
    from perturbfm.data import load_file

    return load_file(**LOADER, path=str(path_of(a.folder, a.cells[0])))


def build(a: argparse.Namespace) -> None:
    from perturbfm.data.csr_cache import cached_csr

    with measured(a.cells[0], "build cache"):
        cached_csr([path_of(a.folder, a.cells[0])])


def load(a: argparse.Namespace) -> None:
    import perturbfm.data.h5ad  # noqa: F401 - imports are not measured

    for step in ("first load (logarithms are cached)", "load and check"):
        with measured(a.cells[0], step):
            dataset = dataset_of(a)
    with measured(a.cells[0], "fingerprint") as extra:
        extra["fingerprint"] = dataset.fingerprint[:12]


def split(a: argparse.Namespace) -> None:
    from perturbfm.split import SplitStore, context_ood
    from perturbfm.split.audit import audit

    labels = dataset_of(a).labels()
    store = SplitStore(a.folder / "splits")
    with measured(a.cells[0], "split: make"):
        made = context_ood(labels, ["donor9"])
    with measured(a.cells[0], "split: freeze"):
        made = made.freeze()
    with measured(a.cells[0], "split: save") as extra:
        extra["megabytes"] = round(store.save(made).stat().st_size / 1e6, 1)
    with measured(a.cells[0], "split: load"):
        found = store.load(str(made.frozen_hash))
    with measured(a.cells[0], "split: audit"):
        audit(found, labels)


def stored_split(a: argparse.Namespace):
    from perturbfm.split import SplitStore

    return SplitStore(a.folder / "splits").load(next((a.folder / "splits").glob("*.json")).stem.rsplit("-", 1)[1])


def loader(a: argparse.Namespace) -> None:
    from perturbfm.train.datamodule import PerturbDataModule

    dataset, frozen = dataset_of(a), stored_split(a)
    with measured(a.cells[0], "encoder and controls"):
        module = PerturbDataModule(dataset, frozen, BATCH, 0)
    with measured(a.cells[0], f"{BATCHES} batches of {BATCH}") as extra:
        batches, start, seen = iter(module.train_dataloader()), time.perf_counter(), 0
        for _, batch in zip(range(BATCHES), batches, strict=False):
            seen += len(batch.row_n)
        extra["cells_per_s"] = round(seen / (time.perf_counter() - start))


def statistics(a: argparse.Namespace) -> None:
    import pandas as pd

    from perturbfm.data.group_statistics import group_statistics

    dataset = dataset_of(a)
    code, names = pd.factorize(dataset.labels().condition_n, sort=True)
    with measured(a.cells[0], f"mean and variance of {len(names)} conditions"):
        group_statistics(dataset.adata.X, code, len(names))


def run(a: argparse.Namespace) -> None:
    import yaml

    conf = a.folder / "conf" / "data"
    conf.mkdir(parents=True, exist_ok=True)
    node = {"_target_": "perturbfm.data.h5ad.load_file", **LOADER, "path": str(path_of(a.folder, a.cells[0]))}
    (conf / "resampled.yaml").write_text(yaml.safe_dump(node))
    os.environ["PERTURBFM_CONF"] = str(a.folder / "conf")
    import perturbfm

    hash_ = str(stored_split(a).frozen_hash)
    with measured(a.cells[0], "perturbfm.run model=per_perturbation_mean eval=quick") as extra:
        result = perturbfm.run_experiment(
            ["data=resampled", "split=frozen", f"split.hash={hash_}", "model=per_perturbation_mean", "eval=quick"]
        )
        extra["gate"] = {k: v["reason"] for k, v in result.metrics["gate"].items()}


STEPS = {
    "make": make,
    "build": build,
    "load": load,
    "split": split,
    "loader": loader,
    "statistics": statistics,
    "run": run,
}


if __name__ == "__main__":
    main()
