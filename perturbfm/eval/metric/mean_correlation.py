"""Whether predicted and measured means differ from a reference in the same way over genes, as papers compare them."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import PerCondition, nowhere, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.gene_set import gene_set

CENTRES = ("control", "train_centroid")

ROUNDING_TRUE = 1e-12
"""A measured difference shorter than this share of the means it is a difference of is rounding."""

ROUNDING_PREDICTED = 1e-6
"""The same for predictions, which may have been made in float32."""

CENTROID_UNKNOWN = "the mean of train conditions is not known"


def pearson_of_means(comparison: Comparison, *, reference: str, genes: str) -> PerCondition:
    r"""Pearson correlation over some genes of predicted and measured mean, each minus one reference.

    .. math:: r_{g \in S}(\hat\mu_p - O,\; \mu_p - O)

    with O the mean of the context's measured control cells (`control`: both sides are compared with the *same* cells)
    or the unweighted mean of train conditions (`train_centroid`).

    Args:
        comparison: Cells of both sides; only their means are looked at.
        reference: `control` or `train_centroid`.
        genes: A name known to `gene_set`.

    Returns:
        One value in [-1, 1] per condition; 1 is best. *Undefined* where a side is constant over the genes up to
        rounding (no change, against control), or where the gene set is tied. *Not applicable* where the train
        centroid is not known.

    Raises:
        UnknownChoice: Another word for `reference` or `genes`.

    Source:
        mlbio-epfl/systema fe087c9 `corr_all`, `corr_20de`, `corr_all_allpert`, `corr_20de_allpert`; Shift Bioscience
        08db3c1 `pearson_deltactrl`, `pearson_deltapert`; Ahlmann-Eltze et al. 092743c `r2_delta`, a Pearson r.
    """
    if (centre_cg := centre(comparison, reference)) is None:
        return nowhere(comparison.n_conditions, CENTROID_UNKNOWN)
    chosen = gene_set(comparison, genes)
    true_cg, predicted_cg = comparison.truth.moments.mean_rg, comparison.predicted.moments.mean_rg
    x_cg, least_x_c = _centred(predicted_cg, centre_cg, chosen.kept_cg, ROUNDING_PREDICTED)
    y_cg, least_y_c = _centred(true_cg, centre_cg, chosen.kept_cg, ROUNDING_TRUE)
    norm_x_c, norm_y_c = np.linalg.norm(x_cg, axis=1), np.linalg.norm(y_cg, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        r_c = np.clip(np.sum(x_cg * y_cg, axis=1) / (norm_x_c * norm_y_c), -1.0, 1.0)
    reason_c = np.where(norm_y_c <= least_y_c, "true delta is constant over the genes", chosen.reason_c)
    return plain(r_c, np.where(norm_x_c <= least_x_c, "predicted delta is constant over the genes", reason_c))


def centre(comparison: Comparison, reference: str) -> np.ndarray | None:
    """What a condition's means are compared with, shape (c, g); None where it is not known.

    Raises:
        UnknownChoice: Another word for `reference`.
    """
    if reference == "control":
        return np.asarray(comparison.truth.control_moments.mean_rg[comparison.context_of_c], dtype=float)
    if reference == "train_centroid":
        if comparison.train_centroid_g is None:
            return None
        return np.tile(np.asarray(comparison.train_centroid_g, dtype=float), (comparison.n_conditions, 1))
    raise UnknownChoice(
        "There is no such reference of a mean",
        given=repr(reference),
        expected=f"one of {', '.join(CENTRES)}",
        fix=f"Closest: {nearest(reference, CENTRES, most=1)}.",
    )


def _centred(
    mean_cg: np.ndarray, centre_cg: np.ndarray, kept_cg: np.ndarray, rounding: float
) -> tuple[np.ndarray, np.ndarray]:
    """Difference from the reference minus its mean over the kept genes, zero elsewhere; norm of its rounding."""
    delta_cg = np.where(kept_cg, mean_cg - centre_cg, 0.0)
    middle_c = delta_cg.sum(axis=1) / np.maximum(kept_cg.sum(axis=1), 1)
    least_c = rounding * np.linalg.norm(np.where(kept_cg, np.abs(mean_cg) + np.abs(centre_cg), 0.0), axis=1)
    return np.where(kept_cg, delta_cg - middle_c[:, None], 0.0), least_c
