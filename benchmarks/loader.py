"""How fast shuffled batches come, against other loaders and against the memory itself, in one run on one machine.

    python benchmarks/loader.py [--genes 2000 18000] [--cells 20000] [--source FILE] [--folder FOLDER]

Data: counts of a real file (Kang 2018, 14,053 genes) with rows drawn again until the cells are there and columns drawn
once (the genes of largest variance) or, beyond its genes, again. The limit is `np.copyto` of a dense float32 batch into
arrays that are there already, in turn as a loader hands them out. Peers that are not installed are left out:
`pip install scdataset==0.3.0 cell-load==0.10.4`. Each line is the best of several rounds over the same number of cells.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from perturbfm.data import load_file
from perturbfm.data.scatter import subtract_into
from perturbfm.split import context_ood
from perturbfm.train.datamodule import PerturbDataModule

ROUNDS, BATCH = 5, 512
Epoch = Callable[[], Iterable[int]]
"""Deals out one epoch and yields the number of cells of each batch, when it is dense."""


def main() -> None:
    a = arguments()
    warnings.simplefilter("ignore")
    for n_genes in a.genes:
        with tempfile.TemporaryDirectory(dir=a.folder) as folder:
            os.environ["PERTURBFM_CACHE"] = str(Path(folder) / "cache")
            path = make(a.source, Path(folder), a.cells, n_genes)
            compare(path, n_genes)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, nargs="+", default=[2000, 18_000])
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where files go while they are needed")
    data = Path(os.environ.get("PERTURBFM_DATA", "../shared/data"))
    parser.add_argument("--source", type=Path, default=data / "kang18_ifnb1k_counts" / "kang18_ifnb1k_counts.h5ad")
    return parser.parse_args()


def make(source: Path, folder: Path, n: int, n_genes: int) -> Path:
    """A file of that size: log-normalised, with four contexts and six perturbations."""
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(anndata.read_h5ad(source).X, dtype=np.float32)
    x = sparse.csr_matrix(x.multiply(1e4 / x.sum(axis=1))).log1p().astype(np.float32)
    variance = np.asarray(x.multiply(x).mean(axis=0)).ravel() - np.asarray(x.mean(axis=0)).ravel() ** 2
    order = np.argsort(-variance)
    genes = order[:n_genes] if n_genes <= len(order) else np.append(order, rng.choice(order, n_genes - len(order)))
    x = x[rng.integers(0, x.shape[0], n)].tocsc()[:, genes].tocsr()
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    obs["pert"] = pd.Categorical(rng.choice(["control", *(f"p{i}" for i in range(6))], n, p=[0.2] + [0.8 / 6] * 6))
    obs["line"] = pd.Categorical(rng.choice([f"k{i}" for i in range(4)], n))
    obs["plate"] = pd.Categorical(np.full(n, "one"))
    order = np.lexsort([obs["pert"], obs["line"]])  # cell-load's consecutive loading wants groups in one piece
    x, obs = x[order], obs.iloc[order]
    made = anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]))
    (folder / "h5").mkdir()
    made.obsm["X_hvg"] = x.toarray()
    made.write_h5ad(folder / "h5" / "world.h5ad")
    share = x.nnz / np.prod(x.shape)
    print(f"\n{n:,} cells x {n_genes:,} genes, {share:.1%} of values stored, batches of {BATCH}, no workers")
    return folder / "h5" / "world.h5ad"


def compare(path: Path, n_genes: int) -> None:
    source, targets = np.ones((BATCH, n_genes), np.float32), [np.ones((BATCH, n_genes), np.float32) for _ in range(8)]

    def copies(most: int) -> Iterable[int]:
        for step in range(80):
            np.copyto(targets[step % most], source)
            yield BATCH

    limit = fastest(lambda: copies(8))
    report("limit: a dense batch written, eight arrays in turn", limit, limit)
    report("the same, always one array (stays in the cache)", fastest(lambda: copies(1)), limit)
    report("limit of our batch once its controls are read", limit / 3, limit)
    for name, epoch in (*ours(path, n_genes).items(), *peers(path).items()):
        try:
            report(name, fastest(epoch), limit)
        except Exception as e:  # noqa: BLE001 - a peer that cannot read the file is a line of the table
            print(f"  {name:<52} failed: {type(e).__name__}: {e}", flush=True)


def fastest(epoch: Epoch) -> float:
    """Cells per second of the fastest round; a round is one epoch, or two seconds of it."""
    best = 0.0
    for _ in range(ROUNDS):
        seen, start = 0, time.perf_counter()
        for n in epoch():
            seen += n
            if time.perf_counter() - start > 2:
                break
        best = max(best, seen / (time.perf_counter() - start))
    return best


def report(name: str, value: float, limit: float) -> None:
    print(f"  {name:<52} {value:>12,.0f} cells/s   {value / limit:6.3f} of the limit", flush=True)


def ours(path: Path, n_genes: int) -> dict[str, Epoch]:
    options = {"pert_column": "pert", "context_column": "line", "batch_column": None, "mode": "drug"}
    dataset = load_file("world", str(path), "log1p", **options, cache=True)
    module = PerturbDataModule(dataset, context_ood(dataset.labels(), ["k3"]).freeze(), BATCH, seed=0)
    loader = module.train_dataloader()

    def dense() -> Iterable[int]:
        nothing = np.zeros((1, n_genes), np.float32)
        for rows in loader.sampler:
            out = module.rows.buffers.take(len(rows))
            none = np.zeros(len(rows), np.int64)
            subtract_into(dataset.adata.X, rows, nothing, none, out)
            yield len(torch.from_numpy(out))

    def whole(workers: int) -> Epoch:
        frozen = context_ood(dataset.labels(), ["k3"]).freeze()
        found = PerturbDataModule(dataset, frozen, BATCH, 0, workers).train_dataloader()
        return lambda: (len(batch.row_n) for batch in found)

    def read() -> Iterable[int]:
        for batch in module.train_dataloader():
            yield len(batch.x_ng[: len(batch.x_var_ng)])

    title = "PerturbFM: whole batch (delta, controls, labels)"
    return {
        "PerturbFM: dense expression alone, mapped": dense,
        title: whole(0),
        "PerturbFM: the same, controls read as dense arrays": read,
        f"{title}, 1 worker": whole(1),
        f"{title}, 2 workers": whole(2),
    }


def peers(path: Path) -> dict[str, Epoch]:
    adata = anndata.read_h5ad(path)
    del adata.obsm["X_hvg"]
    found = {"AnnLoader (in memory)": ann_loader(adata)}
    if find_spec("scdataset"):
        for block in (1, 64):
            found[f"scDataset, blocks of {block} (in memory)"] = sc_dataset(adata.X, block)
    if find_spec("cell_load"):
        for key, name in ((None, "CSR"), ("X_hvg", "dense")):
            for near in (False, True):
                title = f"cell-load, {name} on disk, {'consecutive' if near else 'shuffled'}, with controls"
                found[title] = cell_load(path, key, near)
    return found


def ann_loader(adata: anndata.AnnData) -> Epoch:
    from anndata.experimental import AnnLoader

    loader = AnnLoader(adata, batch_size=BATCH, shuffle=True)
    return lambda: (len(batch.X) for batch in loader)


class Rows:
    """A CSR matrix with a length, which is all that scDataset asks of a collection."""

    def __init__(self, x: sparse.csr_matrix) -> None:
        self.x = x

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, rows: np.ndarray) -> sparse.csr_matrix:
        return self.x[rows]


def sc_dataset(x: sparse.csr_matrix, block: int) -> Epoch:
    from scdataset import BlockShuffling, scDataset

    def tensor(batch: sparse.csr_matrix) -> torch.Tensor:
        return torch.from_numpy(batch.toarray())

    blocks = BlockShuffling(block_size=block)
    made = scDataset(Rows(x), blocks, batch_size=BATCH, fetch_factor=4, batch_transform=tensor)
    loader = torch.utils.data.DataLoader(made, batch_size=None)
    return lambda: (len(batch) for batch in loader)


def cell_load(path: Path, embed_key: str | None, consecutive: bool) -> Epoch:
    from cell_load.data_modules import PerturbationDataModule

    toml = path.parent / "split.toml"
    toml.write_text(f'[datasets]\nworld = "{path.parent}"\n[training]\nworld = "train"\n[zeroshot]\n[fewshot]\n')
    module = PerturbationDataModule(
        toml_config_path=str(toml),
        batch_size=1,
        num_workers=0,
        embed_key=embed_key,
        output_space="embedding" if embed_key else "all",
        pert_col="pert",
        batch_col="plate",
        cell_type_key="line",
        control_pert="control",
        basal_mapping_strategy="random",
        cell_sentence_len=BATCH,
        use_consecutive_loading=consecutive,
    )
    with redirect_stderr(StringIO()):  # its progress bars
        module.setup("fit")
        loader = module.train_dataloader()
    return lambda: (len(batch["pert_cell_emb"]) for batch in loader)


if __name__ == "__main__":
    main()
