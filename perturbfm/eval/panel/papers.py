"""Metrics of three papers on baselines and collapse, and our own diagnostics of collapse."""

from __future__ import annotations

from functools import partial

from perturbfm.eval.metric.centroid import centroid_accuracy
from perturbfm.eval.metric.collapse import effective_rank, pairwise_cosine, tied_rows, variance_ratio
from perturbfm.eval.metric.gene_overlap import jaccard_top20
from perturbfm.eval.metric.mean_correlation import pearson_of_means
from perturbfm.eval.metric.mean_error import distance_of_means, mse_of_means, rmse_of_means
from perturbfm.eval.metric.profile_distance import profile_error
from perturbfm.eval.metric.rest_weight import n_rest_genes
from perturbfm.eval.metric.systematic import systematic_variation
from perturbfm.eval.metric.weighted import r2_of_means, weighted_mse, weighted_mse_disjoint
from perturbfm.eval.panel.metric import HIGHER, LOWER, NONE, Metric, OnCells

REST = "test=ttest_overestim_var,against=rest"
OWN = "ref=control,control=shared"
CENTROID = "ref=pert_centroid_train"

TO_ALL = ("subset_conditions", "shift_both", "scale_both", "scale_prediction")
"""What a correlation of deltas over all genes does not depend on."""

_TOP20 = ("top20_gears", "top20_ttest_abs")


def _twenty(genes: str) -> str:
    return "" if genes == "top20_gears" else ".ttest_abs"


SYSTEMA = (
    Metric(
        f"pcc_delta[space=mean,{CENTROID},genes=all]",
        OnCells(partial(pearson_of_means, reference="train_centroid", genes="all")),
        HIGHER,
        "Correlation around the mean of train perturbations: what sets a perturbation apart, not what all share.",
        effect=True,
        worst=0.0,
        aliases=("systema.corr_all_allpert", "shift.pearson_deltapert"),
        invariances=("subset_conditions",),
    ),
    Metric(
        f"pcc_delta[space=mean,{OWN},genes=all]",
        OnCells(partial(pearson_of_means, reference="control", genes="all")),
        HIGHER,
        "Correlation of changes from the same control cells; rewards the mean response and shared control noise.",
        effect=True,
        worst=0.0,
        aliases=("systema.corr_all", "shift.pearson_deltactrl"),
        invariances=TO_ALL,
    ),
    *(
        metric
        for genes in _TOP20
        for metric in (
            Metric(
                f"pcc_delta[space=mean,{CENTROID},genes={genes}]",
                OnCells(partial(pearson_of_means, reference="train_centroid", genes=genes)),
                HIGHER,
                "The same around the train mean, over the 20 genes that change most in truth.",
                effect=True,
                worst=0.0,
                aliases=(f"systema.corr_20de_allpert{_twenty(genes)}",),
                invariances=("subset_conditions",),
            ),
            Metric(
                f"pcc_delta[space=mean,{OWN},genes={genes}]",
                OnCells(partial(pearson_of_means, reference="control", genes=genes)),
                HIGHER,
                "The same against control, over the 20 genes that change most in truth.",
                effect=True,
                worst=0.0,
                aliases=(f"systema.corr_20de{_twenty(genes)}",),
                invariances=("subset_conditions", "scale_both", "scale_prediction"),
            ),
        )
    ),
    Metric(
        "mse[space=mean,genes=all]",
        OnCells(partial(profile_error, space="mean", error="mse")),
        LOWER,
        "Squared error of mean expression.",
        aliases=("systema.mse_all", "shift.mse"),
        invariances=("subset_conditions", "shift_both"),
    ),
    Metric(
        "rmse[space=mean,genes=all]",
        OnCells(partial(profile_error, space="mean", error="rmse")),
        LOWER,
        "Its square root.",
        aliases=("systema.rmse_all",),
        invariances=("subset_conditions", "shift_both"),
    ),
    Metric(
        "mse[space=mean,genes=top20_gears]",
        OnCells(partial(mse_of_means, genes="top20_gears")),
        LOWER,
        "Squared error of mean expression over the 20 genes that change most in truth.",
        aliases=("systema.mse_20de",),
        invariances=("subset_conditions",),
    ),
    Metric(
        "rmse[space=mean,genes=top20_gears]",
        OnCells(partial(rmse_of_means, genes="top20_gears")),
        LOWER,
        "Its square root.",
        aliases=("systema.rmse_20de",),
        invariances=("subset_conditions",),
    ),
    Metric(
        f"jaccard[{OWN},true=top20_gears,predicted=top20_abs_delta]",
        OnCells(partial(jaccard_top20, genes="top20_gears")),
        HIGHER,
        "Overlap of the 20 genes that change most in truth with the 20 that the prediction moves most.",
        effect=True,
        worst=0.0,
        aliases=("systema.jaccard",),
        invariances=("subset_conditions", "scale_both", "scale_prediction"),
    ),
    Metric(
        "retrieval[space=mean,query=prediction,dist=l2,norm=n-1,ties=lose,pool=judged_of_context]",
        OnCells(centroid_accuracy),
        HIGHER,
        "How many other perturbations' means are farther away than the right one; 0.5 is one prediction for all.",
        effect=True,
        worst=0.0,
        aliases=("systema.centroid_accuracy", "shift.nir"),
        invariances=("shift_both", "scale_both"),
    ),
    Metric(
        "cosine_to_mean_delta[of=truth,ref=control,agg=conditions]",
        OnCells(systematic_variation),
        NONE,
        "Systematic variation: how alike all perturbations' true responses are; where it is high, the mean looks good.",
        aliases=("systema.systematic_variation",),
        invariances=("shift_both", "scale_both", "scale_prediction"),
    ),
)

AHLMANN_ELTZE = (
    Metric(
        "l2[space=mean,genes=top1000_ctrl_expr]",
        OnCells(partial(distance_of_means, genes="top1000_ctrl_expr")),
        LOWER,
        "Distance of mean expression over the 1,000 highest genes in control; it grows with the number of genes.",
        aliases=("ahlmann_eltze.l2",),
        invariances=("subset_conditions",),
    ),
    Metric(
        f"pcc_delta[space=mean,{OWN},genes=top1000_ctrl_expr]",
        OnCells(partial(pearson_of_means, reference="control", genes="top1000_ctrl_expr")),
        HIGHER,
        "Correlation of changes from control over the 1,000 highest genes in control.",
        effect=True,
        worst=0.0,
        aliases=("ahlmann_eltze.r2_delta",),
        invariances=("subset_conditions", "scale_both", "scale_prediction"),
    ),
)


def _r2(reference: str, weighted: bool) -> Metric:
    words = OWN if reference == "control" else CENTROID
    suite = "deltactrl" if reference == "control" else "deltapert"
    kept = ("scale_both",) if weighted else ("subset_conditions", "shift_both", "scale_both")
    return Metric(
        f"r2w[space=delta,{words},w=minmax2_abs_t,{REST},fallback=unweighted]"
        if weighted
        else f"r2[space=delta,{words}]",
        OnCells(partial(r2_of_means, reference=reference, weighted=weighted)),
        HIGHER,
        f"Share of the {'weighted ' if weighted else ''}variance over genes of the true change that is predicted.",
        effect=True,
        aliases=(f"shift.{'weighted_' if weighted else ''}r2_{suite}",),
        invariances=kept if reference == "control" else kept[:-2],
    )


SHIFT = (
    Metric(
        f"wmse[space=mean,w=minmax2_abs_t,{REST},cells=those_that_score]",
        OnCells(weighted_mse),
        LOWER,
        "Squared error weighted by how much genes set a perturbation apart, learned on the very cells that score.",
        aliases=("shift.wmse",),
    ),
    Metric(
        f"pfm.wmse[weights=disjoint_half,space=mean,w=minmax2_abs_t,{REST},halves=cross_fit,seed=0]",
        OnCells(partial(weighted_mse_disjoint, seed=0)),
        LOWER,
        "The same with weights learned on one half of the cells and scored on the other, both ways round.",
    ),
    *(_r2(reference, weighted) for reference in ("control", "train_centroid") for weighted in (False, True)),
    Metric(
        f"n_genes[of=truth,{REST},fdr=bh_per_condition,below=0.05]",
        OnCells(n_rest_genes),
        NONE,
        "Number of genes that tell a perturbation from the other perturbations of its context.",
        aliases=("shift.n_degs",),
        invariances=("scale_both", "scale_prediction"),
    ),
)

COLLAPSE = (
    Metric(
        "pfm.variance_ratio[space=delta,across=conditions,genes=above_noise,agg=median]",
        variance_ratio,
        NONE,
        "How much predictions differ between perturbations, as a share of truth; 0 is the same answer for all.",
        invariances=("shift_both", "scale_both"),
    ),
    *(
        Metric(
            f"pfm.effective_rank[of={of},space=delta,values=singular,centred=no]",
            partial(effective_rank, of=of),
            NONE,
            f"How many directions {'predicted' if of == 'predicted' else 'true'} changes take; 1 is one for all.",
            invariances=("shift_both", "scale_both", "scale_prediction"),
        )
        for of in ("predicted", "truth")
    ),
    *(
        Metric(
            f"pfm.pairwise_cosine[of={of},space=delta]",
            partial(pairwise_cosine, of=of),
            NONE,
            f"How alike the {'predicted' if of == 'predicted' else 'true'} changes of two perturbations are.",
            invariances=("shift_both", "scale_both", "scale_prediction"),
        )
        for of in ("predicted", "truth")
    ),
    Metric(
        "pfm.tied_rows[space=delta,query=reference,dist=l2]",
        tied_rows,
        LOWER,
        "Share of perturbations whose prediction ties with another's in retrieval.",
        invariances=("shift_both", "scale_both"),
    ),
)

PAPERS = (*SYSTEMA, *AHLMANN_ELTZE, *SHIFT, *COLLAPSE)
