"""What scPerturBench publishes, number for number, and the distances that go by the same names elsewhere.

The suite scores each condition on two sets of genes: the first 100, and the first 5,000 (all, on its data), by |t| of
the truth against control. It draws 2,000 cells of larger groups, and rounds to 4 decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.common_genes import common_genes
from perturbfm.eval.metric.distribution import energy_distance_drawn, energy_distance_squared, mmd_gaussian
from perturbfm.eval.metric.divergence import gaussian_divergence
from perturbfm.eval.metric.marginal import marginal_distance
from perturbfm.eval.metric.mean_profile import (
    cosine_distance,
    euclidean,
    mean_absolute,
    mean_squared,
    pearson_shared,
    r2_distance,
    spearman_distance,
)
from perturbfm.eval.metric.transport import sinkhorn
from perturbfm.eval.panel.metric import HIGHER, LOWER, Metric, OnCells

CAP = 2000
DECIMALS = 4

CELLS = "cells=control_shifted"
DRAWN = f"cap={CAP},draw=mt19937_42"
ROUNDED = f"round={DECIMALS}"

ALONE = ("subset_conditions",)
MOVED = ("subset_conditions", "shift_both")


BY_POSITION = "genes=top100_ttest_abs"
"""Genes that tie at the hundredth place are taken by their order in the file, as scanpy takes them."""


def _line(
    identifier: str,
    function: Callable[[Comparison], PerCondition],
    meaning: str,
    aliases: tuple[str, ...] = (),
    invariances: tuple[str, ...] = ALONE,
    better: str = LOWER,
) -> Metric:
    follows = ("permute_genes",) if BY_POSITION in identifier or identifier.startswith("de_overlap") else ()
    return Metric(
        identifier, OnCells(function), better, meaning, aliases=aliases, invariances=invariances, follows=follows
    )


def _means(top: int) -> tuple[Metric, ...]:
    """Two of the six, means against means on the first genes, rounded as the suite rounds."""
    genes, short = f"genes=top{top}_ttest_abs", f"top{top}"
    return (
        _line(
            f"mse[space=mean,{genes},{ROUNDED}]",
            partial(mean_squared, top=top, decimals=DECIMALS),
            "Squared error of mean expression.",
            (f"scperturbench.mse.{short}",),
        ),
        _line(
            f"pcc_delta[ref=control_true,control=shared,{genes},{ROUNDED}]",
            partial(pearson_shared, top=top, decimals=DECIMALS),
            "Correlation of predicted and true change, both against the same control cells.",
            (f"scperturbench.pcc_delta.{short}",),
            ("subset_conditions", "scale_prediction"),
            HIGHER,
        ),
    )


def _more_means(top: int) -> tuple[Metric, ...]:
    """Kept in the suite's code, but not among its six."""
    where, short = f"space=mean,genes=top{top}_ttest_abs,{ROUNDED}", f"top{top}"
    return (
        _line(
            f"euclidean[{where}]",
            partial(euclidean, squared=False, top=top, decimals=DECIMALS),
            "Euclidean distance of mean expression; the suite prints it twice, once as RMSE, which it is not.",
            (f"scperturbench.euclidean.{short}", f"scperturbench.root_mean_squared_error.{short}"),
        ),
        _line(
            f"mmd[kernel=linear,{where}]",
            partial(euclidean, squared=True, top=top, decimals=DECIMALS),
            "Squared Euclidean distance of mean expression, published as a maximum mean discrepancy.",
            (f"scperturbench.mmd.{short}",),
        ),
        _line(
            f"mae[{where}]",
            partial(mean_absolute, top=top, decimals=DECIMALS),
            "Absolute error of mean expression.",
            (f"scperturbench.mae.{short}",),
        ),
        _line(
            f"cosine_distance[{where}]",
            partial(cosine_distance, top=top, decimals=DECIMALS),
            "Angle between mean expressions; no change does well.",
            (f"scperturbench.cosine_distance.{short}",),
        ),
        _line(
            f"spearman_distance[{where}]",
            partial(spearman_distance, top=top, decimals=DECIMALS),
            "One minus the rank correlation of mean expressions; no change does well.",
            (f"scperturbench.spearman_distance.{short}",),
        ),
        _line(
            f"r2_distance[{where}]",
            partial(r2_distance, top=top, decimals=DECIMALS),
            "Unexplained share of the spread of mean expression over genes; no change does well.",
            (f"scperturbench.r2_distance.{short}",),
        ),
    )


def _cells(top: int) -> tuple[Metric, ...]:
    """Cells against cells on the first genes, drawn and rounded as the suite does."""
    genes = f"genes=top{top}_ttest_abs"
    return (
        _line(
            f"edist[ground=euclidean,stat=V,{genes},{DRAWN},{ROUNDED},{CELLS}]",
            partial(energy_distance_drawn, statistic="V", half=False, top=top, cap=CAP, decimals=DECIMALS),
            "Energy distance between true and predicted cells, biased upwards by few cells.",
            (f"scperturbench.edistance.top{top}",),
        ),
        _line(
            f"kl_gauss_sym[eps=1e-8,agg=mean,{genes},{DRAWN},{ROUNDED},scale=log2p1,dtype=float32,{CELLS}]",
            partial(gaussian_divergence, single=True, top=top, cap=CAP, decimals=DECIMALS),
            "Divergence of per-gene Gaussians; genes that vary on one side only decide it.",
            (f"scperturbench.kl.top{top}",),
        ),
    )


def _transport(epsilon: str, alias: str) -> Metric:
    return _line(
        f"sinkhorn_reg[cost=sqeuclidean,eps=0.05*{epsilon},genes=top100_ttest_abs,{DRAWN},{ROUNDED},{CELLS}]",
        partial(sinkhorn, top=100, cap=CAP, epsilon=epsilon, decimals=DECIMALS),
        "Entropic cost of moving predicted cells onto true ones, published as Wasserstein; never 0.",
        (alias,),
    )


SUITE = (
    *_means(100),
    *_means(5000),
    *_more_means(100),
    *_more_means(5000),
    *_cells(100),
    *_cells(5000),
    _transport("mean", "scperturbench.wasserstein.top100"),
    _transport("std", "scperturbench_ott0.6.wasserstein.top100"),
    _line(
        f"de_overlap[test=ttest,rank=abs_score,k=100,norm=k,code=reconstructed,{CELLS}]",
        partial(common_genes, top=100),
        "Share of the 100 most changed genes that truth and prediction have in common; the suite's code is not public.",
        ("scperturbench.common_degs",),
        better=HIGHER,
    ),
)


def _genes(top: int | None) -> tuple[str, str, tuple[str, ...]]:
    """How a set of genes is written in an identifier and in an alias, and what leaves distances on it as they are."""
    return ("genes=all", "all", MOVED) if top is None else (f"genes=top{top}_ttest_abs", f"top{top}", ALONE)


def _energies(top: int | None) -> tuple[Metric, ...]:
    """The five numbers that go by the name of E-distance."""
    genes, short, same = _genes(top)
    pairs = partial(energy_distance_drawn, top=top, cap=CAP, decimals=None)
    squares = partial(energy_distance_squared, top=top)
    return (
        _line(
            f"edist[ground=euclidean,stat=V,{genes},{DRAWN},{CELLS}]",
            partial(pairs, statistic="V", half=False),
            "Energy distance between true and predicted cells, biased upwards by few cells.",
            (f"pertpy_1.0.3.edistance.{short}",),
            same,
        ),
        _line(
            f"edist[ground=euclidean,stat=U,{genes},{DRAWN},{CELLS}]",
            partial(pairs, statistic="U", half=False),
            "The same without bias: 0 in expectation for equal distributions, and negative at times.",
            (f"pertpy_1.0.4.edistance.{short}",),
            same,
        ),
        _line(
            f"edist[ground=euclidean,stat=V,scale=half,{genes},{DRAWN},{CELLS}]",
            partial(pairs, statistic="V", half=True),
            "Half of the biased form, published by PerturBench as MMD.",
            (f"geomloss_0.3.1.energy.{short}",),
            same,
        ),
        _line(
            f"edist[ground=sqeuclidean,stat=V,{genes}]",
            partial(squares, statistic="V"),
            "Twice the squared distance of means; of cells it says nothing.",
            (f"pertpy_0.10.edistance.{short}",),
            same,
        ),
        _line(
            f"edist[ground=sqeuclidean,stat=U,{genes},{CELLS}]",
            partial(squares, statistic="U"),
            "The same with the sampling variance of both means taken off.",
            (f"scperturb_0.1.0.edist.{short}",),
            same,
        ),
    )


def _others(top: int | None) -> tuple[Metric, ...]:
    """Kernels, single genes, and the divergence in double precision."""
    genes, short, same = _genes(top)
    return (
        _line(
            f"mmd[kernel=linear,space=mean,{genes}]",
            partial(euclidean, squared=True, top=top, decimals=None),
            "Squared Euclidean distance of mean expression.",
            (f"pertpy_1.0.3.mmd_linear.{short}",),
            same,
        ),
        _line(
            f"mmd[kernel=rbf,gamma=1,stat=V,{genes},{DRAWN},{CELLS}]",
            partial(mmd_gaussian, gamma=1.0, top=top, cap=CAP),
            "Maximum mean discrepancy with a Gaussian kernel, nearly blind on hundreds of genes.",
            (f"pertpy_1.0.3.mmd_rbf_gamma1.{short}",),
            same,
        ),
        _line(
            f"w1_marginal_mean[{genes},{DRAWN},{CELLS}]",
            partial(marginal_distance, power=1, top=top, cap=CAP),
            "Wasserstein distance of single genes, averaged.",
            (f"scipy_1.17.w1_marginal_mean.{short}",),
            same,
        ),
        _line(
            f"energy_marginal_mean[{genes},{DRAWN},{CELLS}]",
            partial(marginal_distance, power=2, top=top, cap=CAP),
            "Energy distance of single genes, averaged.",
            (f"scipy_1.17.energy_marginal_mean.{short}",),
            same,
        ),
        _line(
            f"kl_gauss_sym[eps=1e-8,agg=mean,{genes},{DRAWN},scale=log2p1,dtype=float64,{CELLS}]",
            partial(gaussian_divergence, single=False, top=top, cap=CAP, decimals=None),
            "Divergence of per-gene Gaussians; genes that vary on one side only decide it.",
            (f"pertpy_1.0.3.sym_kldiv_log2p1.{short}",),
        ),
    )


SCPERTURBENCH = (
    *SUITE,
    *_energies(None),
    *_energies(100),
    *_others(None),
    *_others(100),
    _line(
        f"sinkhorn_reg[cost=sqeuclidean,eps=0.05*std,genes=top100_ttest_abs,{DRAWN},{CELLS}]",
        partial(sinkhorn, top=100, cap=CAP, epsilon="std", decimals=None),
        "Entropic cost of moving predicted cells onto true ones, not rounded; never 0.",
        ("pertpy_1.0.3.wasserstein.top100",),
    ),
)
