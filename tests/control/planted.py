"""Predictors and scores in plain numpy, written without the package, to judge the planted world and its judges.

Axes: k contexts, p perturbations, g genes. The last context is held out. `T = mean of perturbed cells - mean of
reference controls`, `D = predicted mean - mean of input controls`, `V` the sampling variance of T.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbfm.data.synthetic import World


@dataclass(frozen=True)
class Panel:
    """Means and variances of cells, all contexts, singles and doubles as asked for."""

    mean_kpg: np.ndarray
    var_kpg: np.ndarray
    half_kpg: np.ndarray
    other_half_kpg: np.ndarray
    input_kg: np.ndarray
    reference_kg: np.ndarray
    reference_var_kg: np.ndarray
    detected_kg: np.ndarray
    true_kpg: np.ndarray
    true_var_kpg: np.ndarray
    true_control_var_kg: np.ndarray
    n: int
    n_reference: int
    names: list[str]

    @property
    def truth_pg(self) -> np.ndarray:
        return self.mean_kpg[-1] - self.reference_kg[-1]

    @property
    def noise_pg(self) -> np.ndarray:
        return self.var_kpg[-1] / self.n + self.reference_var_kg[-1] / self.n_reference

    @property
    def train_delta_kpg(self) -> np.ndarray:
        return (self.mean_kpg - self.input_kg[:, None])[:-1]


def _halves(stratum_n: np.ndarray) -> np.ndarray:
    """Every second cell of each batch and depth; cells of a stratum are exchangeable, so no draw is needed."""
    first_n = np.zeros(len(stratum_n), dtype=bool)
    for s in np.unique(stratum_n):
        first_n[np.flatnonzero(stratum_n == s)[::2]] = True
    return first_n


def _variance(x_ng: np.ndarray, stratum_n: np.ndarray) -> np.ndarray:
    """Pooled variance within strata: what the variance of a mean over balanced strata is made of."""
    strata = np.unique(stratum_n)
    squares = sum(((x - x.mean(axis=0)) ** 2).sum(axis=0) for x in (x_ng[stratum_n == s] for s in strata))
    return squares / (len(x_ng) - len(strata))


def panel(world: World, doubles: bool = False) -> Panel:
    """Means and variances of every condition; controls of every context cut into input and reference halves."""
    kind_c, n_genes = world.conditions["kind"].to_numpy(), world.x_ng.shape[1]
    n_contexts = world.conditions["context_id"].nunique()
    per = len(kind_c) // n_contexts
    keep = [p for p in range(1, per) if doubles or not kind_c[p].startswith("double")]
    stratum_n = world.obs.groupby(["batch_id", "depth"]).ngroup().to_numpy()
    start_c = np.searchsorted(world.condition_n, np.arange(len(kind_c) + 1))
    pert = {name: np.empty((n_contexts, len(keep), n_genes)) for name in ("mean", "var", "a", "b")}
    control = {name: np.empty((n_contexts, n_genes)) for name in ("input", "reference", "var", "detected")}
    for k in range(n_contexts):
        for i, p in enumerate([0, *keep]):
            rows = slice(start_c[k * per + p], start_c[k * per + p + 1])
            x, stratum = world.x_ng[rows].astype(float), stratum_n[rows]
            first = _halves(stratum)
            if p == 0:
                control["input"][k], control["reference"][k] = x[first].mean(axis=0), x[~first].mean(axis=0)
                control["var"][k] = _variance(x[~first], stratum[~first])
                control["detected"][k] = (x[first] > 0).mean(axis=0)
                n_reference = int((~first).sum())
            else:
                pert["mean"][k, i - 1], pert["var"][k, i - 1] = x.mean(axis=0), _variance(x, stratum)
                pert["a"][k, i - 1], pert["b"][k, i - 1] = x[first].mean(axis=0), x[~first].mean(axis=0)
    return Panel(
        mean_kpg=pert["mean"],
        var_kpg=pert["var"],
        half_kpg=pert["a"],
        other_half_kpg=pert["b"],
        input_kg=control["input"],
        reference_kg=control["reference"],
        reference_var_kg=control["var"],
        detected_kg=control["detected"],
        true_kpg=world.delta_true_cg.reshape(n_contexts, per, n_genes)[:, keep],
        true_var_kpg=world.var_stratum_cg.reshape(n_contexts, per, n_genes)[:, keep],
        true_control_var_kg=world.var_stratum_cg.reshape(n_contexts, per, n_genes)[:, 0],
        n=world.settings.n_cells,
        n_reference=n_reference,
        names=world.conditions["pert_id"].iloc[keep].tolist(),
    )


# --- scores ----------------------------------------------------------------------------------------


def explained_variance(predicted_pg: np.ndarray, truth_pg: np.ndarray, noise_pg: np.ndarray) -> float:
    """`1 - sum(|D - T|^2 - V) / sum(|T|^2 - V)`."""
    return float(1 - ((predicted_pg - truth_pg) ** 2 - noise_pg).sum() / (truth_pg**2 - noise_pg).sum())


def centred_correlation(predicted_pg: np.ndarray, truth_pg: np.ndarray) -> float:
    """Mean Pearson correlation over genes after centring both over perturbations."""
    d, t = predicted_pg - predicted_pg.mean(axis=0), truth_pg - truth_pg.mean(axis=0)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(d, t, strict=True)]))


def centred_retrieval(predicted_pg: np.ndarray, truth_pg: np.ndarray) -> float:
    """Mean share of other truths that are less like a prediction than its own truth is, by cosine after centring."""
    d, t = predicted_pg - predicted_pg.mean(axis=0), truth_pg - truth_pg.mean(axis=0)
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)  # noqa: E731
    like_pp = unit(d) @ unit(t).T
    own_p = np.diag(like_pp)[:, None]
    share_pp = (like_pp < own_p) + 0.5 * (like_pp == own_p)
    return float((share_pp.sum(axis=1) - 0.5).mean() / (len(d) - 1))


# --- predictors, all of the change from the held-out context's input controls ----------------------


def no_change(p: Panel) -> np.ndarray:
    return np.zeros_like(p.truth_pg)


def global_mean(p: Panel) -> np.ndarray:
    return np.broadcast_to(p.train_delta_kpg.mean(axis=(0, 1)), p.truth_pg.shape)


def per_perturbation_mean(p: Panel) -> np.ndarray:
    return p.train_delta_kpg.mean(axis=0)


def reversed_mean(p: Panel) -> np.ndarray:
    """What a model learns that takes perturbed cells as input and controls as target."""
    return -per_perturbation_mean(p)


def oracle(p: Panel) -> np.ndarray:
    return p.true_kpg[-1]


def shuffled(p: Panel, by: int = 1) -> np.ndarray:
    """The oracle with labels moved on; a family's members are n_families apart, so a step of one leaves the family."""
    return np.roll(p.true_kpg[-1], by, axis=0)


def gate_model(p: Panel) -> np.ndarray:
    """Per-perturbation mean, scaled gene by gene by how strongly the target's controls express the gene.

    `D_pg = shift_g + (alpha + beta z_g) (mean_k delta_kpg - shift_g)`, `z` the log rate of the target's input
    controls minus that of the train contexts, `shift` the mean over train contexts and perturbations. Alpha and beta
    are pooled over genes and perturbations: least squares on train contexts, each predicted from the others.
    """
    delta_kpg, rate_kg = p.train_delta_kpg, np.log(np.maximum(np.expm1(p.input_kg), 0.02))
    plain, scaled, target = [], [], []
    for k in range(len(delta_kpg)):
        rest = [j for j in range(len(delta_kpg)) if j != k]
        shift_g = delta_kpg[rest].mean(axis=(0, 1))
        effect_pg = delta_kpg[rest].mean(axis=0) - shift_g
        plain.append(effect_pg)
        scaled.append(effect_pg * (rate_kg[k] - rate_kg[rest].mean(axis=0)))
        target.append(delta_kpg[k] - shift_g)
    design = np.stack([np.ravel(plain), np.ravel(scaled)], axis=1)
    alpha, beta = np.linalg.lstsq(design, np.ravel(target), rcond=None)[0]
    shift_g = delta_kpg.mean(axis=(0, 1))
    z_g = rate_kg[-1] - rate_kg[:-1].mean(axis=0)
    return shift_g + (alpha + beta * z_g) * (delta_kpg.mean(axis=0) - shift_g)
