"""What the full panel costs beside reading the data once, beside the official codes, and as conditions grow.

    python benchmarks/panel.py [--cells 20000] [--peers PYTHON] [--linear 50000 200000 500000] [--lines]

Data: a real file (Kang 2018, raw counts of 832 cells x 14,053 genes) cut to its 2,000 genes of largest variance. A
cell is one of 20,800: a real cell with its counts thinned (each kept with p = 0.7, 25 times over, so that few cells are
the same) and log1p of 10,000 per cell. A condition mixes cell types and stimulation in shares of its own; 100
conditions of 190 cells share a context with 1,000 controls. The prediction emits as many cells, drawn anew from the
same mixture.

Ours runs in one process on one BLAS thread; `cpu` is time of the process, `wall` of the clock. PYTHON is an
interpreter of an environment that holds the peers (`pip install cell-eval==0.8.2 "polars<2" pot geomloss torch`), which
get the same cells as files; what it lacks is said. With `--linear` conditions are made where they are asked for and
nothing is held: the time per condition and the most resident memory, each size in a process of its own.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from scipy import sparse

from perturbfm.eval.case import Case
from perturbfm.eval.comparison import Comparison, Side, dense, moments_of
from perturbfm.eval.panel import FULL, score, with_emitted_cells
from perturbfm.eval.panel.cell_eval import CELL_EVAL
from perturbfm.eval.panel.full import OWN
from perturbfm.eval.panel.metric import Metric, Panel
from perturbfm.eval.panel.papers import PAPERS
from perturbfm.eval.panel.perturbench import PERTURBENCH
from perturbfm.eval.panel.scperturbench import SCPERTURBENCH

CELLS, CONTROLS, CONDITIONS, GENES = 190, 1000, 100, 2000
TIMES, KEPT = 25, 0.7
PARITY = Path(os.environ.get("PERTURBFM_PARITY", "../shared/parity"))
STORED = (
    ("scPerturBench, pertpy 0.7.0 + ott 0.4.6", "scperturbench/pertpy-0.7.0_ott-0.4.6.json"),
    ("PerturBench v1", "perturbench/v1_2024-08.json"),
    ("PerturBench v3", "perturbench/v3_2026.json"),
    ("cell-eval2 0.20.0", "cell_eval2/0.20.0_devel.json"),
    ("Systema", "systema/values.json"),
    ("Shift", "shift_bioscience/values.json"),
)
"""Official codes that do not install beside us, and where their seconds on the parity inputs are kept."""

STORED_PREDICTIONS = 4
"""Each of those runs judged four predictions, so a quarter is quoted: 33 or 60 conditions of 500 genes, not scaled."""


def main() -> None:
    a = arguments()
    warnings.simplefilter("ignore")
    if a.step:
        print(json.dumps(STEPS[a.step](a)), flush=True)
        return
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d %H:%M')}")
    ours = table(a)
    rivals(a, ours)
    linear(a)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20_000, help="cells of the table, controls counted")
    parser.add_argument("--peers", default=os.environ.get("PERTURBFM_PEERS", ""), help="an interpreter with the peers")
    parser.add_argument("--linear", type=int, nargs="*", default=[])
    parser.add_argument("--lines", action="store_true", help="print every line of the panel that takes 0.1 s or more")
    parser.add_argument("--step", choices=list(STEPS))
    data = Path(os.environ.get("PERTURBFM_DATA", "../shared/data"))
    parser.add_argument("--source", type=Path, default=data / "kang18_ifnb1k_counts" / "kang18_ifnb1k_counts.h5ad")
    return parser.parse_args()


# --- data ------------------------------------------------------------------------------------------


class World:
    """Conditions of equal size drawn from a real file; the same number always gives the same cells."""

    def __init__(self, source: Path, n_cells: int) -> None:
        file = anndata.read_h5ad(source)
        counts = sparse.csr_matrix(file.X, dtype=np.float32)
        total_n = np.asarray(counts.sum(axis=1)).ravel()
        x = sparse.csr_matrix(counts.multiply(1e4 / total_n[:, None])).log1p()
        variance = np.asarray(x.multiply(x).mean(axis=0) - np.square(x.mean(axis=0))).ravel()
        genes = np.sort(np.argsort(-variance)[:GENES])
        rng, counts = np.random.default_rng(0), counts[:, genes].tocsr()
        self.genes = tuple(str(g) for g in file.var_names[genes])
        self.pool = sparse.vstack([thinned(counts, total_n, rng) for _ in range(TIMES)], format="csr")
        stim = np.tile(file.obs["stim"].astype(str), TIMES)
        kind = stim + "/" + np.tile(file.obs["seurat_annotations"].astype(str), TIMES)
        self.groups = [np.flatnonzero(kind == k) for k in sorted(set(kind))]
        self.plain_n = np.flatnonzero(stim == "CTRL")
        self.n = max(2, round(n_cells / (CELLS + CONTROLS / CONDITIONS)))
        self.n_contexts = -(-self.n // CONDITIONS)

    def cells(self, condition: int, side: int) -> sparse.csr_matrix:
        """Cells of a condition, float32 CSR: four in five as unstimulated cells are, the others by its own mixture."""
        mixture = np.random.default_rng([1, condition]).dirichlet(np.ones(len(self.groups)))
        rng = np.random.default_rng([2 + side, condition])
        n_q = rng.multinomial(CELLS // 5, mixture)
        parts = [rng.choice(g, n) for g, n in zip(self.groups, n_q, strict=True)]
        return self.pool[np.concatenate([rng.choice(self.plain_n, CELLS - CELLS // 5), *parts])]

    def control(self, context: int) -> sparse.csr_matrix:
        """Control cells of a context, the same on both sides."""
        return self.pool[np.random.default_rng([4, context]).choice(self.plain_n, CONTROLS)]


def thinned(counts: sparse.csr_matrix, total_n: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    """Every real cell with its counts thinned, log1p of 10,000 per cell."""
    x = counts.copy()
    x.data = rng.binomial(x.data.astype(np.int64), KEPT).astype(np.float32)
    x.data *= np.repeat(1e4 / (KEPT * total_n), np.diff(x.indptr)).astype(np.float32)
    x.eliminate_zeros()
    return x.log1p()


class Held:
    """The same cells, kept as float32 CSR, which is how data lie in a file."""

    def __init__(self, world: World) -> None:
        self.n, self.n_contexts, self.genes = world.n, world.n_contexts, world.genes
        self._cells = [[world.cells(c, side) for c in range(world.n)] for side in (0, 1)]
        self._control = [world.control(k) for k in range(world.n_contexts)]

    def cells(self, condition: int, side: int) -> sparse.csr_matrix:
        return self._cells[side][condition]

    def control(self, context: int) -> sparse.csr_matrix:
        return self._control[context]


class Emitted:
    """True and emitted cells of one condition."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __call__(self, condition: int) -> tuple[np.ndarray, np.ndarray]:
        return self.comparison.truth.cells(condition), self.comparison.predicted.cells(condition)


def case_of(world: World | Held) -> Case:
    """The one prediction beside its truth; nothing is computed yet but means."""
    context_c = np.arange(world.n) // CONDITIONS
    true = Side(lambda c: world.cells(c, 0), world.control, world.n, world.n_contexts)
    known = lambda: true.control_moments  # noqa: E731
    guess = Side(lambda c: world.cells(c, 1), world.control, world.n, world.n_contexts, None, known)
    m, p, base = true.moments, guess.moments, true.control_moments
    control_cg, spread_cg = base.mean_rg[context_c], base.unbiased_rg[context_c]
    perturbation_c = np.array([world.genes[c % GENES] for c in range(world.n)], dtype=object)
    name_k = tuple(f"k{k:04d}" for k in range(world.n_contexts))
    targets_cg = np.eye(GENES, dtype=bool)[np.arange(world.n) % GENES]
    comparison = Comparison(
        context_k=name_k,
        context_of_c=context_c,
        perturbation_c=perturbation_c,
        genes_g=world.genes,
        truth=true,
        predicted=guess,
        train_centroid_g=m.mean_rg.mean(axis=0),
        targets_cg=targets_cg,
    )
    return Case(
        context_c=comparison.context_c,
        intervention_c=perturbation_c + "@knockout",
        n_c=m.n_r,
        genes_g=world.genes,
        truth_cg=m.mean_rg - control_cg,
        noise_cg=m.unbiased_rg / m.n_r[:, None] + spread_cg / CONTROLS,
        noise_known=True,
        predicted_cg=p.mean_rg - control_cg,
        variance_cg=p.unbiased_rg / p.n_r[:, None] + 1e-6,
        mean_cg=m.mean_rg,
        input_cg=control_cg,
        input_var_cg=spread_cg,
        scored_cg=base.nonzero_rg[context_c] >= 0.1,
        train_centroid_g=m.mean_rg.mean(axis=0),
        train_delta_g=(m.mean_rg - control_cg).mean(axis=0),
        cells=Emitted(comparison),
        powered_c=np.full(world.n, "powered", dtype=object),
        targets_cg=targets_cg,
        comparison=comparison,
    )


def fresh(case: Case) -> Case:
    """The same case, its moments known, with nothing else kept from before."""
    c = case.comparison
    assert c is not None

    def again(side: Side) -> Side:
        moments, control = side.moments, c.truth.control_moments
        known = (lambda: moments, lambda: control)
        return Side(side._cells_of, side._control_of, side.n_conditions, side.n_contexts, *known)

    comparison = replace(c, truth=again(c.truth), predicted=again(c.predicted), _made={})
    return replace(case, comparison=comparison, cells=Emitted(comparison))


# --- what is timed ---------------------------------------------------------------------------------


class Clock:
    """Time of a process and of the clock."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    @property
    def both(self) -> tuple[float, float]:
        return time.process_time() - self.cpu, time.perf_counter() - self.wall


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    clock = Clock()
    function()
    return clock.both


def read(world: Held) -> None:
    """Every cell once: CSR to dense per condition, its mean and variance."""
    for side in (0, 1):
        moments_of(lambda c, side=side: dense(world.cells(c, side)), world.n)
    moments_of(lambda k: dense(world.control(k)), world.n_contexts)


DRAWS = ("crps_draws", "pit")


def on_means(m: Metric) -> bool:
    """Whether a line of the panel needs means and variances of the conditions only, no cells and no test."""
    if m.identifier.startswith(("edist", "effect_size", "de_", "pfm.de_", "mmd[kernel=rbf", "kl_", "w1_", "energy_")):
        return "ground=sqeuclidean" in m.identifier and "top" not in m.identifier
    cells = (
        "sinkhorn",
        "zscores",
        "ranksum",
        "t_overestim",
        "wmse",
        "topk",
        "pfm.topk",
        "top100",
        "n_rest",
        "pfm.wmse",
    )
    return not any(word in m.identifier for word in cells)


def families() -> dict[str, tuple[Metric, ...]]:
    own = {m.identifier for m in OWN}
    names = {m.identifier: m for m in with_emitted_cells(FULL).metrics}
    suites = {"scPerturBench and distances": SCPERTURBENCH, "PerturBench": PERTURBENCH, "cell-eval": CELL_EVAL}
    found = {
        "mean-level lines of the panel": tuple(m for m in FULL.metrics if on_means(m)),
        "ours: effect, fit, uncertainty": tuple(
            m for i, m in zip(FULL.identifiers, names.values(), strict=True) if i in own or i not in _of_suites()
        ),
        **suites,
        "Systema, Ahlmann-Eltze, Shift, collapse": PAPERS,
    }
    return {**found, "the full panel": tuple(names.values())}


def _of_suites() -> set[str]:
    return {m.identifier for m in (*SCPERTURBENCH, *PERTURBENCH, *CELL_EVAL, *PAPERS)}


def table(a: argparse.Namespace) -> dict[str, tuple[float, float]]:
    world = Held(World(a.source, a.cells))
    stored = sum(world.cells(c, 0).nnz for c in range(world.n)) / (world.n * CELLS * GENES)
    print(f"{world.n} conditions x {CELLS} cells + {CONTROLS} controls, {GENES} genes, {stored:.0%} of values stored")
    found = {"reading the data once": timed(lambda: read(world))}
    case = case_of(world)
    for name, metrics in families().items():
        panel, one = Panel(name, "0", False, metrics), fresh(case)
        found[name] = lines(panel, one) if a.lines else timed(lambda panel=panel, one=one: score(panel, one))
        report(f"{name} ({len(metrics)} lines)", found[name], found["reading the data once"])
    return found


def lines(panel: Panel, case: Case) -> tuple[float, float]:
    """The same line by line; a line pays for what it is the first to ask for."""
    each = [(m.identifier, timed(lambda m=m: m.function(case))) for m in panel.metrics]
    for name, (cpu, _) in sorted(each, key=lambda row: -row[1][0]):
        if cpu >= 0.1:
            print(f"    {cpu:7.2f}  {name}", flush=True)
    return sum(t[0] for _, t in each), sum(t[1] for _, t in each)


def report(name: str, one: tuple[float, float], unit: tuple[float, float] | None = None) -> None:
    times = f"  {one[0] / unit[0]:7.1f} x reading" if unit else ""
    print(f"  {name:<62} cpu {one[0]:8.2f} s  wall {one[1]:8.2f} s{times}", flush=True)


# --- beside the official codes ---------------------------------------------------------------------

APART = ("of which", "scipy mannwhitneyu", "scanpy t-test,")
"""Peers that are printed and not summed: part of another one, or the same test once more."""

STORED_TOO = ("scanpy", "scipy cdist", "POT", "geomloss")
"""Peers whose numbers are also among those of suites with stored times (PerturBench, scPerturBench)."""


def rivals(a: argparse.Namespace, ours: dict[str, tuple[float, float]]) -> None:
    """Peers on the same cells, and the stored seconds of the others."""
    panel, live, once = ours["the full panel"], 0.0, 0.0
    for row in run_peers(a) if a.peers else []:
        if "missing" in row:
            print(f"  live: {row['peer']:<56} not run: {row['missing']}")
            continue
        apart = row["peer"].startswith(APART)
        report(f"live: {row['peer']}{' (not summed)' if apart else ''}", (row["cpu"], row["wall"]))
        live += 0.0 if apart else row["cpu"]
        once += 0.0 if apart or row["peer"].startswith(STORED_TOO) else row["cpu"]
    if not a.peers:
        print("  live: not installed (name an interpreter that has the peers with --peers)")
    stored = sum(quoted())
    for word, seconds in (("live alone", live), ("live and stored, no number twice", once + stored)):
        print(f"  official codes, {word}: {seconds:.1f} s, {seconds / panel[0]:.1f} times the panel's {panel[0]:.1f} s")


def run_peers(a: argparse.Namespace) -> list[dict[str, Any]]:
    world = Held(World(a.source, a.cells))
    with tempfile.TemporaryDirectory() as folder:
        for side, name in enumerate(("true", "predicted")):
            write(world, side, Path(folder) / f"{name}.h5ad")
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
        one |= {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": "", "TQDM_DISABLE": "1"}
        command = [a.peers, str(Path(__file__).with_name("panel_peers.py")), folder]
        out = subprocess.run(command, env={**os.environ, **one}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return [json.loads(line) for line in out.stdout.decode().splitlines()]


def write(world: Held, side: int, path: Path) -> None:
    """The first context as a file, under the gene that each condition is named after."""
    parts = [world.control(0), *(world.cells(c, side) for c in range(min(world.n, CONDITIONS)))]
    label = np.repeat(["control", *world.genes[: min(world.n, CONDITIONS)]], [p.shape[0] for p in parts])
    made = anndata.AnnData(sparse.vstack(parts, format="csr"), obs={"perturbation": label})
    made.obs_names = [f"c{i}" for i in range(made.n_obs)]
    made.var_names = list(world.genes)
    made.write_h5ad(path)


def quoted() -> list[float]:
    """Seconds that codes which cannot run here took for one prediction of parity's inputs."""
    found = []
    for name, path in STORED:
        if not (PARITY / path).is_file():
            print(f"  stored: {name:<54} not there")
            continue
        found.append(total(json.loads((PARITY / path).read_text())["timing_s"]))
        print(f"  stored: {name:<54} {found[-1]:12.1f} s, quoted: smaller inputs, not scaled")
    return found


def total(seconds: Any) -> float:
    """Stored seconds of one prediction: cell-eval2 timed each, the others all four together."""
    if not isinstance(seconds, dict):
        return float(seconds) / STORED_PREDICTIONS
    if any("/v2-" in key for key in seconds):
        return float(np.mean([v for key, v in seconds.items() if "/v2-" in key]))
    return float(sum(seconds.values())) / STORED_PREDICTIONS


# --- as conditions grow ----------------------------------------------------------------------------


def linear(a: argparse.Namespace) -> None:
    for n in a.linear:
        here = [sys.executable, __file__, "--cells", str(n), "--source", str(a.source), "--step", "stream"]
        out = subprocess.run(here, stdout=subprocess.PIPE, check=True)
        found = json.loads(out.stdout.decode().splitlines()[-1])
        print("  streamed: " + ", ".join(f"{k} {v}" for k, v in found.items()), flush=True)


def stream(a: argparse.Namespace) -> dict[str, Any]:
    """The full panel on conditions that are made as they are asked for; contexts grow with cells."""
    world = World(a.source, a.cells)
    start, clock = rss(), Clock()
    case = case_of(world)
    score(with_emitted_cells(FULL), case)
    cpu, wall = clock.both
    table_mb = world.n * GENES * 8 >> 20
    return {
        "cells": world.n * CELLS + world.n_contexts * CONTROLS,
        "conditions": world.n,
        "cpu_s": round(cpu, 1),
        "wall_s": round(wall, 1),
        "cpu_ms_per_condition": round(1000 * cpu / world.n, 1),
        "rss_before_mb": start,
        "rss_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "one_table_mb": table_mb,
        "tables": round(((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) - start) / max(table_mb, 1), 1),
    }


def rss() -> int:
    """Resident memory now, in MB."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) >> 10


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"stream": stream}


if __name__ == "__main__":
    main()
