"""The planted world: cells whose every expectation is known, to judge judges and models by.

Two observation models over the same planted effects: counts, with exact moments of `log1p(count / depth)` as finite
sums, and a Gaussian twin on whose scale effects are exactly additive. Every random number comes from a named stream
of `frozen_random`, so a setting changes what it names and nothing else. The **last context is the one to hold out**.

What the formulas leave open, and what holds here:

* Family of single p is `p mod n_families`; its gene and sign are shared by its members. Nulls are the last singles.
* Doubles join active singles of different families (by number, also where families are off), so that additive ones
  stay within the clip and add; the types are dealt in turn.
* Without families the family's gene becomes a second gene of the perturbation's own, with a sign of its own, so
  effect sizes stay comparable and nothing is shared.
* `graph`: `true` spreads effects over the graph that is handed out; `absent` spreads nothing (K = I) and hands the
  graph out all the same; `rewired` spreads over the true graph and hands out a degree-preserving rewiring of it.
* Shift: `u_g` is a sign times a uniform on (0.5, 1.5), as strengths are, so its size is one on average.
* Batch effects are centred over batches and rescaled to keep their standard deviation; they are shared by contexts.
* Depths are balanced within condition x batch, so `var_stratum_cg / n` is the exact sampling variance of a mean.
* Gaussian twin: `mu0_cg` is the base log rate, `sigma_g` is uniform on (0.5, 1), no batch effect, depth 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.frozen_random import log1p_moments, negative_binomial_counts, normals, order, signs, uniforms
from perturbfm.data.world_settings import (
    DOUBLE_TYPES,
    LARGEST_RATE,
    N_SHIFT_GENES,
    WorldSettings,
    pairs_of,
)

DEPTHS = (0.5, 0.7, 0.8, 1.0, 2.0)
"""Depth factors of cells, equally frequent; their mean is exactly 1."""

N_EDGES_OUT = 3
LARGEST_EFFECT = 2.0
EFFECT_SIZE = 1.6
CONTEXT_SD = 0.7


@dataclass(frozen=True)
class Edges:
    """A directed signed graph over genes: what happens at `source_e` reaches `target_e` times `weight_e`."""

    source_e: np.ndarray
    target_e: np.ndarray
    weight_e: np.ndarray


@dataclass(frozen=True)
class World:
    """Cells, labels and the truth behind them; conditions are context x perturbation, controls included.

    Attributes:
        settings: What it was made from.
        counts_ng: Counts, int32 CSR; None for the Gaussian twin.
        x_ng: float32, `log1p(count / depth)`, or the values of the Gaussian twin (scale `delta`, may be negative).
        obs: One row per cell, index of unique cell ids, ordered by context, perturbation, batch. `ood_combination` is
            the number of parts seen as singles, -1 where the row is no combination.
        var: One row per gene, index of gene names.
        edges: The graph that is handed out to models.
        true_edges: The graph that effects spread over where they spread.
        conditions: One row per condition: `context_id`, `pert_id`, `kind`.
        condition_n: Row of `conditions` of every cell.
        base_kg: Log rate of control cells of depth 1, per context.
        gate_kg: How strongly a gene of a context answers; 1 on average over the base rates met.
        shift_kg: Log-rate shift that every perturbation brings.
        batch_bg: Log-rate effect of every batch, summing to zero over batches.
        shared_pg: Effect of every perturbation before gate and chance, in the order of one context's conditions
            without its control.
        delta_log_cg: Log-rate effect (the mean difference itself in the Gaussian twin); 0 for controls.
        mean_true_cg: E X of a cell, batches and depths equally weighted.
        var_true_cg: Var X of a cell of one batch, averaged over batches; depths differ within a batch.
        var_total_cg: Var X of a cell of any batch and depth.
        var_stratum_cg: Var X of a cell of one batch and depth, averaged; over n it is the variance of a mean of n
            cells that are balanced over batches and depths, as they are here.
        delta_true_cg: `mean_true_cg` minus that of the control of the same context.
    """

    settings: WorldSettings
    counts_ng: sparse.csr_matrix | None
    x_ng: np.ndarray
    obs: pd.DataFrame
    var: pd.DataFrame
    edges: Edges
    true_edges: Edges
    conditions: pd.DataFrame
    condition_n: np.ndarray
    base_kg: np.ndarray
    gate_kg: np.ndarray
    shift_kg: np.ndarray
    batch_bg: np.ndarray
    shared_pg: np.ndarray
    delta_log_cg: np.ndarray
    mean_true_cg: np.ndarray
    var_true_cg: np.ndarray
    var_total_cg: np.ndarray
    var_stratum_cg: np.ndarray
    delta_true_cg: np.ndarray


def make_world(settings: WorldSettings) -> World:
    """Plant a world: labels, effects, exact moments, cells.

    Args:
        settings: As validated by `WorldSettings`; see `preset` for named ones.

    Returns:
        The same world for the same settings on every machine: labels and counts exactly, moments to rounding.
    """
    s = settings
    true_edges = _grow_graph(s)
    doubles = _choose_doubles(s)
    conditions = _condition_table(s, doubles)
    condition_n, batch_n = _deal_cells(s, conditions)
    obs = _cell_table(s, conditions, condition_n, batch_n)
    base_kg, shift_kg, batch_bg = _base_rates(s), _shift(s), _batch_effects(s)
    gate_kg = _gate(s, base_kg)
    shared_pg = _shared_effects(s, true_edges, doubles)
    delta_log_cg = _log_rate_effects(s, gate_kg, shared_pg, shift_kg)
    log_rate_cg = np.repeat(base_kg, len(shared_pg) + 1, axis=0) + delta_log_cg
    if s.observation == "counts":
        mean_cg, within_batch_cg, total_cg, stratum_cg = _count_moments(s, log_rate_cg, batch_bg)
        depth_n = obs["depth"].to_numpy()
        dense_ng = _draw_counts(s, log_rate_cg[condition_n] + batch_bg[batch_n], depth_n)
        counts_ng, x_ng = sparse.csr_matrix(dense_ng), np.log1p(dense_ng / depth_n[:, None]).astype(np.float32)
    else:
        sigma_g = 0.5 + 0.5 * uniforms(s.seed, "gaussian sd", (s.n_genes,))
        mean_cg, counts_ng = log_rate_cg, None
        within_batch_cg = total_cg = stratum_cg = np.tile(sigma_g**2, (len(log_rate_cg), 1))
        noise_ng = normals(s.seed, "gaussian cells", (len(obs), s.n_genes))
        x_ng = (log_rate_cg[condition_n] + sigma_g * noise_ng).astype(np.float32)
    control_c = np.arange(len(conditions)) // (len(shared_pg) + 1) * (len(shared_pg) + 1)
    return World(
        settings=s,
        counts_ng=counts_ng,
        x_ng=x_ng,
        obs=obs,
        var=pd.DataFrame(index=pd.Index(_names("G", s.n_genes, 3), name="gene")),
        edges=_rewire(s, true_edges) if s.graph == "rewired" else true_edges,
        true_edges=true_edges,
        conditions=conditions,
        condition_n=condition_n,
        base_kg=base_kg,
        gate_kg=gate_kg,
        shift_kg=shift_kg,
        batch_bg=batch_bg,
        shared_pg=shared_pg,
        delta_log_cg=delta_log_cg,
        mean_true_cg=mean_cg,
        var_true_cg=within_batch_cg,
        var_total_cg=total_cg,
        var_stratum_cg=stratum_cg,
        delta_true_cg=mean_cg - mean_cg[control_c],
    )


# --- graph -----------------------------------------------------------------------------------------


def _grow_graph(s: WorldSettings) -> Edges:
    """Let every gene in turn choose three targets, likelier those chosen before; columns get absolute sum 1."""
    n_edges = N_EDGES_OUT * s.n_genes
    pick = uniforms(s.seed, "graph targets", (s.n_genes, N_EDGES_OUT))
    attraction_g = np.ones(s.n_genes, dtype=np.int64)
    target_ge = np.empty((s.n_genes, N_EDGES_OUT), dtype=np.int64)
    for source in range(s.n_genes):
        free_g = attraction_g.copy()
        free_g[source] = 0
        for e in range(N_EDGES_OUT):
            upto_g = np.cumsum(free_g)
            target = int(np.searchsorted(upto_g, pick[source, e] * upto_g[-1], side="right"))
            target_ge[source, e], free_g[target] = target, 0
        attraction_g[target_ge[source]] += 1
    size = 0.5 + 0.5 * uniforms(s.seed, "graph weights", (s.n_genes, N_EDGES_OUT))
    weight_ge = signs(s.seed, "graph signs", size.shape, plus=0.7) * size / size.sum(axis=1, keepdims=True)
    return Edges(np.arange(n_edges) // N_EDGES_OUT, target_ge.ravel(), weight_ge.ravel())


def _rewire(s: WorldSettings, edges: Edges) -> Edges:
    """Swap targets of random pairs of edges; in- and out-degrees and weights of sources stay, loops never appear."""
    target_e, n_edges = edges.target_e.copy(), len(edges.target_e)
    present = set(zip(edges.source_e.tolist(), target_e.tolist(), strict=True))
    pairs = (uniforms(s.seed, "rewiring", (10 * n_edges, 2)) * n_edges).astype(np.int64)
    for i, j in pairs.tolist():
        a, b = int(edges.source_e[i]), int(edges.source_e[j])
        to_a, to_b = int(target_e[j]), int(target_e[i])
        if a in (b, to_a) or b == to_b or (a, to_a) in present or (b, to_b) in present:
            continue
        present -= {(a, to_b), (b, to_a)}
        present |= {(a, to_a), (b, to_b)}
        target_e[i], target_e[j] = to_a, to_b
    return Edges(edges.source_e, target_e, edges.weight_e)


def _spread(s: WorldSettings, edges: Edges, start_pg: np.ndarray) -> np.ndarray:
    """Apply `K = I + rho W + (rho W)^2 + (rho W)^3` to every row, edge by edge so that no sum depends on a library."""
    total_pg, hop_pg = start_pg.copy(), start_pg
    if s.graph == "absent":
        return total_pg
    for _ in range(3):
        passed_gp = np.zeros_like(start_pg.T)
        np.add.at(passed_gp, edges.target_e, s.rho * edges.weight_e[:, None] * hop_pg.T[edges.source_e])
        hop_pg = passed_gp.T
        total_pg = total_pg + hop_pg
    return total_pg


# --- effects ---------------------------------------------------------------------------------------


def _choose_doubles(s: WorldSettings) -> list[tuple[int, int, str]]:
    """Choose pairs of singles with an effect and deal them the three types in turn."""
    pairs = pairs_of(s)
    chosen = order(s.seed, "doubles", len(pairs))[: s.n_doubles].tolist()
    types = [DOUBLE_TYPES[i % 3] if s.interaction else "additive" for i in range(s.n_doubles)]
    return [(*pairs[i], kind) for i, kind in zip(chosen, types, strict=True)]


def _shared_effects(s: WorldSettings, edges: Edges, doubles: list[tuple[int, int, str]]) -> np.ndarray:
    """Effects before gate and chance: singles, then doubles, on the log rate, shape (p, g)."""
    single_p, gene_g = np.arange(s.n_singles), order(s.seed, "target genes", s.n_genes)
    group_p = single_p % s.n_families if s.families else single_p
    start_pg = np.zeros((s.n_singles, s.n_genes))
    start_pg[single_p, gene_g[group_p]] = signs(s.seed, "family signs", (s.n_singles,))[group_p]
    own_p = 0.35 + 0.65 * uniforms(s.seed, "own sizes", (s.n_singles,))
    start_pg[single_p, gene_g[s.n_singles + single_p]] = own_p * signs(s.seed, "own signs", (s.n_singles,))
    strength_p = EFFECT_SIZE * (0.5 + uniforms(s.seed, "strengths", (s.n_singles,)))
    strength_p[s.n_singles - s.n_nulls :] = 0.0
    single_pg = strength_p[:, None] * _spread(s, edges, start_pg)
    new_pg = EFFECT_SIZE * _spread(s, edges, _new_targets(s))
    double_pg = np.zeros((s.n_doubles, s.n_genes))
    for row, (a, b, kind) in enumerate(doubles):
        sum_g = single_pg[a] + single_pg[b]
        double_pg[row] = {"additive": sum_g, "buffering": 0.6 * sum_g, "neomorphic": sum_g + new_pg[row]}[kind]
    return np.concatenate([single_pg, double_pg])


def _new_targets(s: WorldSettings) -> np.ndarray:
    """Two random genes per double with signs, for the effect that neither part has."""
    start_pg = np.zeros((s.n_doubles, s.n_genes))
    u_pg, sign_pg = uniforms(s.seed, "new genes", start_pg.shape), signs(s.seed, "new signs", (s.n_doubles, 2))
    two_p2 = np.argsort(u_pg, axis=1, kind="stable")[:, :2]
    np.put_along_axis(start_pg, two_p2, sign_pg, axis=1)
    return start_pg


def _base_rates(s: WorldSettings) -> np.ndarray:
    """Base log rates `min(log 25, 0.8 N_g + 0.7 N_cg + const)`, the constant per context by bisection on `umi`."""
    gene_g = 0.8 * normals(s.seed, "base genes", (s.n_genes,))
    free_kg = gene_g + CONTEXT_SD * normals(s.seed, "base contexts", (s.n_contexts, s.n_genes))
    low_k, high_k = np.full((s.n_contexts, 1), -50.0), np.full((s.n_contexts, 1), 50.0)
    for _ in range(80):
        middle_k = (low_k + high_k) / 2
        enough_k = np.exp(np.minimum(log(LARGEST_RATE), free_kg + middle_k)).sum(axis=1, keepdims=True) > s.umi
        low_k, high_k = np.where(enough_k, low_k, middle_k), np.where(enough_k, middle_k, high_k)
    return np.minimum(log(LARGEST_RATE), free_kg + high_k)


def _gate(s: WorldSettings, base_kg: np.ndarray) -> np.ndarray:
    """Gate `2 / (1 + exp(-kappa (b - mean over contexts of b) / 0.7))`, in (0, 2)."""
    return 2.0 / (1.0 + np.exp(-s.kappa * (base_kg - base_kg.mean(axis=0)) / CONTEXT_SD))


def _shift(s: WorldSettings) -> np.ndarray:
    """Shift `omega u_g (1 + 0.3 N_cg)` on twenty genes, the same for every perturbation of a context."""
    size_g, few = np.zeros(s.n_genes), (N_SHIFT_GENES,)
    size_few = signs(s.seed, "shift signs", few) * (0.5 + uniforms(s.seed, "shift sizes", few))
    size_g[order(s.seed, "shift genes", s.n_genes)[:N_SHIFT_GENES]] = size_few
    return s.omega * size_g * (1.0 + 0.3 * normals(s.seed, "shift contexts", (s.n_contexts, s.n_genes)))


def _batch_effects(s: WorldSettings) -> np.ndarray:
    """Batch effects on the log rate: normal, centred over batches, standard deviation `batch_sd`."""
    free_bg = normals(s.seed, "batches", (s.n_batches, s.n_genes))
    if s.n_batches == 1:
        return np.zeros_like(free_bg)
    return s.batch_sd * (s.n_batches / (s.n_batches - 1)) ** 0.5 * (free_bg - free_bg.mean(axis=0))


def _log_rate_effects(s: WorldSettings, gate_kg: np.ndarray, shared_pg: np.ndarray, shift_kg: np.ndarray) -> np.ndarray:
    """Effects `clip(gate E xi, -2, 2) + shift` of every condition, 0 for controls, shape (c, g)."""
    xi_kpg = 1.0 + s.tau * normals(s.seed, "unpredictable", (s.n_contexts, *shared_pg.shape))
    own_kpg = np.clip(gate_kg[:, None] * shared_pg * xi_kpg, -LARGEST_EFFECT, LARGEST_EFFECT)
    with_control = np.concatenate([np.zeros_like(gate_kg)[:, None], own_kpg + shift_kg[:, None]], axis=1)
    return with_control.reshape(-1, s.n_genes)


# --- labels ----------------------------------------------------------------------------------------


def _names(letter: str, n: int, digits: int) -> list[str]:
    """Numbered names of equal length, so that sorting keeps their order."""
    digits = max(digits, len(str(n)))
    return [f"{letter}{i:0{digits}d}" for i in range(1, n + 1)]


def _condition_table(s: WorldSettings, doubles: list[tuple[int, int, str]]) -> pd.DataFrame:
    """Conditions in their fixed order: by context; its control, its singles, its doubles."""
    single = _names("P", s.n_singles, 2)
    kinds = ["single"] * (s.n_singles - s.n_nulls) + ["null"] * s.n_nulls
    rows = [("control", "control"), *zip(single, kinds, strict=True)]
    rows += [(f"{single[a]}+{single[b]}", f"double_{kind}") for a, b, kind in doubles]
    contexts = _names("C", s.n_contexts, 1)
    return pd.DataFrame(
        [(context, pert, kind) for context in contexts for pert, kind in rows],
        columns=["context_id", "pert_id", "kind"],
    )


def _deal_cells(s: WorldSettings, conditions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Condition and batch of every cell, in order of both; batches as equal in size as they can be."""
    size_c = np.where(conditions["kind"] == "control", s.n_controls, s.n_cells)
    condition_n = np.repeat(np.arange(len(conditions)), size_c)
    return condition_n, _place_in_group(condition_n) * s.n_batches // size_c[condition_n]


def _place_in_group(group_n: np.ndarray) -> np.ndarray:
    """Number the members of each group from 0; groups are contiguous and ascending."""
    return np.arange(len(group_n)) - np.searchsorted(group_n, group_n)


def _cell_table(
    s: WorldSettings, conditions: pd.DataFrame, condition_n: np.ndarray, batch_n: np.ndarray
) -> pd.DataFrame:
    """Labels of every cell."""
    obs = conditions.iloc[condition_n].reset_index(drop=True)
    obs["batch_id"] = np.array(_names("B", s.n_batches, 1), dtype=object)[batch_n]
    obs["is_control"] = obs["kind"] == "control"
    obs["depth"] = _depths(s, condition_n * s.n_batches + batch_n)
    obs["mode"] = "knockdown"
    obs["ood_context"] = obs["context_id"] == conditions["context_id"].iloc[-1]
    obs["ood_perturbation"] = False
    obs["ood_combination"] = np.where(obs["kind"].str.startswith("double"), 2, -1)
    place_n = _place_in_group(condition_n)
    names = [f"{c}:{p}:{i:04d}" for c, p, i in zip(obs["context_id"], obs["pert_id"], place_n, strict=True)]
    obs.index = pd.Index(names, name="cell_id")
    columns = ["pert_id", "context_id", "batch_id", "is_control", "depth", "mode", "kind"]
    return obs[[*columns, "ood_context", "ood_perturbation", "ood_combination"]]


def _depths(s: WorldSettings, group_n: np.ndarray) -> np.ndarray:
    """Depth of every cell: the five values equally often in each group as far as they divide it, in random order."""
    if s.observation == "gaussian":
        return np.ones(len(group_n))
    dealt_n = (_place_in_group(group_n) + group_n) % len(DEPTHS)  # the group's number rotates the remainder
    shuffled = np.lexsort((uniforms(s.seed, "depths", (len(group_n),)), group_n))
    depth_n = np.empty(len(group_n))
    depth_n[shuffled] = np.array(DEPTHS)[dealt_n]
    return depth_n


# --- cells and moments -----------------------------------------------------------------------------


def _draw_counts(s: WorldSettings, log_rate_ng: np.ndarray, depth_n: np.ndarray) -> np.ndarray:
    """Counts of every cell, negative binomial with mean `depth exp(log rate)`, int32."""
    mean_ng = np.exp(log_rate_ng) * depth_n[:, None]
    u_ng = uniforms(s.seed, "count cells", mean_ng.shape)
    return negative_binomial_counts(u_ng.ravel(), mean_ng.ravel(), s.dispersion).reshape(mean_ng.shape)


def _count_moments(
    s: WorldSettings, log_rate_cg: np.ndarray, batch_bg: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance within batch, total variance and variance within batch and depth of `log1p(count / depth)`."""
    rate_bcg = np.exp(log_rate_cg + batch_bg[:, None])
    both = [log1p_moments(d * rate_bcg.ravel(), d, s.dispersion) for d in DEPTHS]
    first_dbcg = np.stack([first for first, _ in both]).reshape(len(DEPTHS), *rate_bcg.shape)
    second_dbcg = np.stack([second for _, second in both]).reshape(first_dbcg.shape)
    first_bcg, second_bcg = first_dbcg.mean(axis=0), second_dbcg.mean(axis=0)
    mean_cg = first_bcg.mean(axis=0)
    within_batch_cg = (second_bcg - first_bcg**2).mean(axis=0)
    total_cg = second_bcg.mean(axis=0) - mean_cg**2
    stratum_cg = (second_dbcg - first_dbcg**2).mean(axis=(0, 1))
    return mean_cg, within_batch_cg, total_cg, stratum_cg
