"""The lines of PerturBench, v1 (2024) and v3 (2026), each under the name of what it computes."""

from __future__ import annotations

from functools import partial

from perturbfm.eval.metric.half_energy import half_energy
from perturbfm.eval.metric.profile_distance import profile_error, profile_similarity
from perturbfm.eval.metric.profile_rank import profile_rank
from perturbfm.eval.metric.topk_recall import topk_recall
from perturbfm.eval.panel.metric import HIGHER, LOWER, Metric, OnCells

LOGFC = "log2p0.1_of_mean_log1p"
LOGP_V1 = "signed_ln_p_ranksum"
T_V3 = "t_overestim_var_f32"
"""`f32`: variance from float32 squares, as scanpy takes it; it decides the t of genes that are constant in a group."""

SHIFT_SCALE = ("shift_both", "scale_both")
ONE = ("subset_conditions",)


def _both(name: str) -> tuple[str, ...]:
    return f"perturbench_v1.{name}", f"perturbench_v3.{name}"


AVERAGE = (
    Metric(
        "rmse[space=mean,genes=all]",
        OnCells(partial(profile_error, space="mean", error="rmse")),
        LOWER,
        "Root mean squared error of mean expression.",
        aliases=_both("rmse_average"),
        invariances=(*ONE, "shift_both"),
    ),
    Metric(
        "mse[space=mean,genes=all]",
        OnCells(partial(profile_error, space="mean", error="mse")),
        LOWER,
        "Its square.",
        aliases=_both("mse_average"),
        invariances=(*ONE, "shift_both"),
    ),
    Metric(
        "mae[space=mean,genes=all]",
        OnCells(partial(profile_error, space="mean", error="mae")),
        LOWER,
        "Mean absolute error of mean expression; mostly noise of genes that do not move.",
        aliases=_both("mae_average"),
        invariances=(*ONE, "shift_both"),
    ),
    Metric(
        "pearson[space=mean,genes=all]",
        OnCells(partial(profile_similarity, space="mean", similarity="pearson")),
        HIGHER,
        "Correlation over genes of mean expression; near 1 for any cells of the same kind.",
        worst=0.0,
        aliases=_both("pearson_average"),
        invariances=(*ONE, "scale_both"),
    ),
    Metric(
        "r2[space=mean,genes=all,truth=prediction]",
        OnCells(partial(profile_similarity, space="mean", similarity="r2")),
        HIGHER,
        "One minus squared error over the variance of the predicted means: the suite swaps the two sides.",
        aliases=("perturbench_v1.r2_score_average",),
        invariances=(*ONE, "scale_both"),
    ),
    Metric(
        "cosine[space=mean,genes=all]",
        OnCells(partial(profile_similarity, space="mean", similarity="cosine")),
        HIGHER,
        "Cosine of mean expression; near 1 for any cells of the same kind.",
        worst=0.0,
        aliases=("perturbench_v1.cosine_average",),
        invariances=(*ONE, "scale_both"),
    ),
)

LOG_FOLD = (
    Metric(
        f"cosine[space={LOGFC},control=shared,genes=all]",
        OnCells(partial(profile_similarity, space="logfc", similarity="cosine")),
        HIGHER,
        "Cosine of log ratios against shared controls; control noise counts on both sides, so no effect is not 0.",
        effect=True,
        worst=0.0,
        aliases=_both("cosine_logfc"),
        invariances=ONE,
    ),
    Metric(
        f"pearson[space={LOGFC},control=shared,genes=all]",
        OnCells(partial(profile_similarity, space="logfc", similarity="pearson")),
        HIGHER,
        "Correlation over genes of the same.",
        effect=True,
        worst=0.0,
        aliases=_both("pearson_logfc"),
        invariances=ONE,
    ),
    Metric(
        f"rmse[space={LOGFC},control=shared,genes=all]",
        OnCells(partial(profile_error, space="logfc", error="rmse")),
        LOWER,
        "Root mean squared error of the same; the control cancels.",
        aliases=("perturbench_v1.rmse_logfc",),
        invariances=ONE,
    ),
    Metric(
        f"r2[space={LOGFC},control=shared,genes=all,truth=prediction]",
        OnCells(partial(profile_similarity, space="logfc", similarity="r2")),
        HIGHER,
        "One minus squared error over the variance of the predicted log ratios.",
        effect=True,
        aliases=("perturbench_v1.r2_score_logfc",),
        invariances=ONE,
    ),
)

SPREAD = (
    Metric(
        "rmse[space=mean_of_zscores,moments=own_side_all_cells,clip=10,control=shared,genes=all,cells=control_shifted]",
        OnCells(partial(profile_error, space="scaled", error="rmse")),
        LOWER,
        "Error of mean z-scores, each side standardised by all of its own cells.",
        aliases=("perturbench_v1.rmse_scaled",),
        invariances=SHIFT_SCALE,
    ),
    Metric(
        "rmse[space=cv,ddof=0,nan=0,genes=all,cells=control_shifted]",
        OnCells(partial(profile_error, space="cv", error="rmse")),
        LOWER,
        "Error of the coefficient of variation of single cells.",
        aliases=("perturbench_v1.rmse_var",),
        invariances=(*ONE, "scale_both"),
    ),
    Metric(
        "pearson[space=cv,ddof=0,nan=0,genes=all,cells=control_shifted]",
        OnCells(partial(profile_similarity, space="cv", similarity="pearson")),
        HIGHER,
        "Correlation over genes of the coefficient of variation of single cells.",
        worst=0.0,
        aliases=("perturbench_v1.pearson_var",),
        invariances=(*ONE, "scale_both"),
    ),
    Metric(
        "edist[ground=euclidean,stat=V,factor=0.5,cells=control_shifted]",
        OnCells(half_energy),
        LOWER,
        "Half of the energy distance between true and predicted cells; the suite calls it mmd.",
        aliases=("perturbench_v3.mmd",),
        invariances=(*ONE, "shift_both"),
    ),
)

TESTED = (
    Metric(
        f"cosine[space={LOGP_V1},ties=uncorrected,floor=1e-24,control=shared,genes=all,cells=control_shifted]",
        OnCells(partial(profile_similarity, space="logp_ranksum", similarity="cosine")),
        HIGHER,
        "Cosine of signed log p-values of Wilcoxon's test against shared controls.",
        effect=True,
        worst=0.0,
        aliases=("perturbench_v1.cosine_logp",),
        invariances=(*ONE, *SHIFT_SCALE),
    ),
    Metric(
        f"pearson[space={LOGP_V1},ties=uncorrected,floor=1e-24,control=shared,genes=all,cells=control_shifted]",
        OnCells(partial(profile_similarity, space="logp_ranksum", similarity="pearson")),
        HIGHER,
        "Correlation over genes of the same.",
        effect=True,
        worst=0.0,
        aliases=("perturbench_v1.pearson_logp",),
        invariances=(*ONE, *SHIFT_SCALE),
    ),
    Metric(
        f"cosine[space={T_V3},inf=0,control=shared,genes=all,cells=control_shifted]",
        OnCells(partial(profile_similarity, space="t", similarity="cosine")),
        HIGHER,
        "Cosine of t-scores against shared controls.",
        effect=True,
        worst=0.0,
        aliases=("perturbench_v3.cosine_scores",),
        invariances=ONE,
    ),
    Metric(
        f"r2[space={T_V3},inf=0,control=shared,genes=all,truth=prediction,cells=control_shifted]",
        OnCells(partial(profile_similarity, space="t", similarity="r2")),
        HIGHER,
        "One minus squared error over the variance of the predicted t-scores.",
        effect=True,
        aliases=("perturbench_v3.r2_score_scores",),
        invariances=ONE,
    ),
    Metric(
        f"cosine[space=signed_ln_q_{T_V3},fdr=per_pert,floor=1e-37,control=shared,genes=all,cells=control_shifted]",
        OnCells(partial(profile_similarity, space="logq_t", similarity="cosine")),
        HIGHER,
        "Cosine of signed log adjusted p-values of the same test.",
        effect=True,
        worst=0.0,
        aliases=("perturbench_v3.cosine_logp",),
        invariances=ONE,
    ),
    Metric(
        f"pearson[space=p_{T_V3},inf=1,control=shared,genes=all,cells=control_shifted]",
        OnCells(partial(profile_similarity, space="p", similarity="pearson")),
        HIGHER,
        "Correlation over genes of p-values of the same test.",
        effect=True,
        worst=0.0,
        aliases=("perturbench_v3.pearson_pvals",),
        invariances=ONE,
    ),
    Metric(
        f"topk_recall[score={T_V3},k=50,ties=argsort_by_name,control=shared,cells=control_shifted]",
        OnCells(partial(topk_recall, k=50, ties="argsort")),
        HIGHER,
        "Share of the 50 genes of largest t that are predicted to be among the 50; sorting decides between ties.",
        effect=True,
        worst=0.0,
        aliases=("perturbench_v3.top_k_recall",),
        invariances=ONE,
    ),
    Metric(
        f"pfm.topk_recall[score={T_V3},k=50,ties=expected,control=shared,cells=control_shifted]",
        OnCells(partial(topk_recall, k=50, ties="expected")),
        HIGHER,
        "The same, averaged over the order of tied genes.",
        effect=True,
        worst=0.0,
        invariances=ONE,
    ),
)


def _rank(space: str, distance: str, query: str, norm: str, alias: str) -> Metric:
    """One rank: 0 is best here, unlike `retrieval` lines of other suites."""
    name, choices, holds = {
        "mean": ("mean", "genes=all", ("shift_both", "scale_both") if distance == "rmse" else ("scale_both",)),
        "logfc": (LOGFC, "control=shared,genes=all", ()),
        "t": (T_V3, "control=shared,cells=control_shifted", ()),
    }[space]
    asked = "predictions for a truth" if query == "reference" else "truths for a prediction"
    return Metric(
        f"retrieval[space={name},query={query},dist={distance},norm={norm},ties=mid,best=0,{choices}]",
        OnCells(partial(profile_rank, space=space, distance=distance, query=query, norm=norm)),
        LOWER,
        f"Rank of the right one among {asked}, ties in the middle; 0 is best, about 0.5 chance.",
        effect=True,
        worst=0.5,
        aliases=(alias,),
        invariances=holds,
    )


RANK = (
    _rank("mean", "rmse", "reference", "n", "perturbench_v1.rank_rmse_average"),
    _rank("mean", "pearson", "reference", "n", "perturbench_v1.rank_pearson_average"),
    _rank("logfc", "cosine", "reference", "n", "perturbench_v1.rank_cosine_logfc"),
    _rank("mean", "rmse", "reference", "n-1", "perturbench_v3.rank_rmse_average"),
    _rank("mean", "pearson", "reference", "n-1", "perturbench_v3.rank_pearson_average"),
    _rank("logfc", "cosine", "reference", "n-1", "perturbench_v3.rank_cosine_logfc"),
    _rank("t", "top50", "reference", "n-1", "perturbench_v3.rank_top_k_recall"),
    _rank("mean", "rmse", "prediction", "n-1", "perturbench_v3.rank_transpose_rmse_average"),
    _rank("mean", "pearson", "prediction", "n-1", "perturbench_v3.rank_transpose_pearson_average"),
    _rank("logfc", "cosine", "prediction", "n-1", "perturbench_v3.rank_transpose_cosine_logfc"),
    _rank("t", "top50", "prediction", "n-1", "perturbench_v3.rank_transpose_top_k_recall"),
)

PERTURBENCH = (*AVERAGE, *LOG_FOLD, *SPREAD, *TESTED, *RANK)
"""What the suite scores, without its PCA aggregations."""
