"""What Arc's suites compute: cell-eval, so the Virtual Cell Challenge of 2025, and the owned part of cell-eval2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.de_count import de_count, de_count_spearman
from perturbfm.eval.metric.de_curve import de_curve_area
from perturbfm.eval.metric.de_direction import (
    de_direction_match,
    de_direction_of_delta,
    de_direction_reach,
    de_direction_share,
)
from perturbfm.eval.metric.de_magnitude import de_lfc_nmae, de_lfc_spearman
from perturbfm.eval.metric.de_overlap import de_jaccard, de_overlap, de_recall
from perturbfm.eval.metric.differential import CELL_EVAL2, PANEL, PDEX_01, PDEX_03, Recipe
from perturbfm.eval.metric.discrimination import discrimination, discrimination_midrank
from perturbfm.eval.metric.effect_size import effect_size_pearson
from perturbfm.eval.metric.profile_distance import profile_error
from perturbfm.eval.metric.pseudobulk import change_error, pearson_change
from perturbfm.eval.panel.metric import HIGHER, LOWER, NONE, Metric, OnCells

TOPS = (50, 100, 200, 500)
CELLS = "cells=control_shifted"


@dataclass(frozen=True)
class Edition:
    """A version of a suite that has its own tests, corrections and fold changes.

    Attributes:
        suite: First part of its aliases.
        recipe: What its functions take.
        choices: The same in an identifier.
        floor: What becomes of very small adjusted p in curves.
        least: Significant genes that a truth must have, and perturbations that have one, where the suite asks for more.
        names: Names of metrics that it calls otherwise.
    """

    suite: str
    recipe: Recipe
    choices: str
    floor: str
    least: int
    names: dict[str, str]

    def alias(self, name: str) -> str:
        """The suite's name of a metric."""
        return f"{self.suite}.{self.names.get(name, name)}"


TEST = "test=mwu_tie"
NEW = Edition("cell_eval_0.8.2", PDEX_03, f"{TEST},fdr=per_pert,lfc=geometric,eps=0,control=own,{CELLS}", "clip", 1, {})
OLD = Edition("cell_eval_0.6.8", PDEX_01, f"{TEST},fdr=global,lfc=geometric,clip=20,control=own,{CELLS}", "zero", 1, {})
SECOND = Edition(
    "cell_eval2_0.20.0",
    CELL_EVAL2,
    f"{TEST},fdr=per_pert,lfc=arithmetic,eps=1e-9,control=true,{CELLS}",
    "least",
    10,
    {
        **{f"overlap_at_{k}": f"de_wilcoxon_overlap_top{k}" for k in TOPS},
        **{f"precision_at_{k}": f"de_wilcoxon_precision_top{k}" for k in TOPS},
        "overlap_at_N": "de_wilcoxon_overlap",
        "precision_at_N": "de_wilcoxon_precision",
        "de_spearman_sig": "de_wilcoxon_nsig_spearman",
        "de_direction_match": "de_wilcoxon_direction_match",
        "de_spearman_lfc_sig": "de_wilcoxon_lfc_spearman",
        "de_sig_genes_recall": "de_wilcoxon_sig_recall",
        "de_nsig_counts_real": "de_wilcoxon_nsig_counts_real",
        "de_nsig_counts_pred": "de_wilcoxon_nsig_counts_pred",
        "pr_auc": "de_wilcoxon_pr_auc",
        "roc_auc": "de_wilcoxon_roc_auc",
    },
)


BY_POSITION = ("de_overlap", "de_precision")
"""Equal fold changes, the infinite ones among them, are taken by the order of genes, as the suite takes them."""


def _line(
    identifier: str,
    function: Callable[[Comparison], PerCondition],
    better: str,
    meaning: str,
    *aliases: str,
    invariances: tuple[str, ...] = ("subset_conditions",),
) -> Metric:
    follows = ("permute_genes",) if identifier.startswith(BY_POSITION) else ()
    return Metric(
        identifier, OnCells(function), better, meaning, aliases=aliases, invariances=invariances, follows=follows
    )


def _overlaps(edition: Edition, own: tuple[str, ...]) -> tuple[Metric, ...]:
    lines = []
    for word, of, told in (
        ("overlap", "truth", "Share of the truth's {k} most changed significant genes that the prediction finds."),
        ("precision", "prediction", "Share of the prediction's {k} most changed significant genes that are true."),
    ):
        for k in (None, *TOPS):
            n = "N" if k is None else k
            lines.append(
                _line(
                    f"de_{word}[{edition.choices},rank=abs_lfc,k={'n_real' if k is None and of == 'truth' else n}]",
                    partial(de_overlap, recipe=edition.recipe, k=k, of=of),
                    HIGHER,
                    told.format(k="" if k is None else k).replace("  ", " "),
                    edition.alias(f"{word}_at_{n}"),
                    invariances=own,
                )
            )
    return tuple(lines)


def _family(edition: Edition) -> tuple[Metric, ...]:
    """The differential-expression metrics that all editions have."""
    recipe, floor, choices = edition.recipe, edition.floor, edition.choices
    own = ("subset_conditions",) if recipe.fdr == "perturbation" else ()
    gated = f"{choices},n_real>={edition.least}"
    return (
        *_overlaps(edition, own),
        _line(
            f"de_count_spearman[{choices},n_moved>={edition.least}]",
            partial(de_count_spearman, recipe=recipe, least=edition.least),
            HIGHER,
            "Whether perturbations that move many genes are predicted to move many.",
            edition.alias("de_spearman_sig"),
            invariances=(),
        ),
        _line(
            f"de_direction_match[{gated}]",
            partial(de_direction_match, recipe=recipe, least=edition.least),
            HIGHER,
            "Share of truly significant genes that are predicted to change in the right direction.",
            edition.alias("de_direction_match"),
            invariances=own,
        ),
        _line(
            f"de_lfc_spearman[{gated}]",
            partial(de_lfc_spearman, recipe=recipe, least=edition.least),
            HIGHER,
            "Whether truly significant genes are ordered right by their fold change.",
            edition.alias("de_spearman_lfc_sig"),
            invariances=own,
        ),
        _line(
            f"de_recall[{gated}]",
            partial(de_recall, recipe=recipe, least=edition.least),
            HIGHER,
            "Share of truly significant genes that are predicted to be significant.",
            edition.alias("de_sig_genes_recall"),
            invariances=own,
        ),
        *(
            _line(
                f"de_count[{choices},side={side}]",
                partial(de_count, recipe=recipe, side=word),
                NONE,
                f"Significant genes of the {told}.",
                edition.alias(f"de_nsig_counts_{side}"),
                invariances=own,
            )
            for side, word, told in (("real", "truth", "truth"), ("pred", "predicted", "prediction"))
        ),
        *(
            _line(
                f"de_{curve}_auc[{gated},floor={FLOORS[floor]}]",
                partial(de_curve_area, recipe=recipe, curve=curve, floor=floor, least=edition.least),
                HIGHER,
                "How well predicted significance finds truly significant genes.",
                edition.alias(f"{curve}_auc"),
                invariances=own if floor != "least" else (),
            )
            for curve in ("pr", "roc")
        ),
    )


FLOORS = {"clip": "clip1e-10", "zero": "zero_to_1e-10", "least": "least_nonzero"}


def _both(name: str) -> tuple[str, str]:
    return f"cell_eval_0.8.2.{name}", f"cell_eval_0.6.8.{name}"


def _second(name: str) -> str:
    return f"cell_eval2_0.20.0.{name}"


MEANS = (
    *(
        _line(
            f"{word}[space=mean_log1p,genes=all]",
            partial(profile_error, space="mean", error=word),
            LOWER,
            f"{told} error of mean expression.",
            *_both(word),
            _second(f"expr_{word}"),
            invariances=("subset_conditions", "shift_both"),
        )
        for word, told in (("mae", "Absolute"), ("mse", "Squared"))
    ),
    *(
        _line(
            f"{word}[space=delta,ref=control_{control},genes=all]",
            partial(change_error, power=power, control=control),
            LOWER,
            f"{told} error of the change from control.",
            *(_both(f"{word}_delta") if control == "own" else (_second(f"delta_{word}"),)),
            invariances=("subset_conditions", "shift_both"),
        )
        for word, power, told in (("mae", 1, "Absolute"), ("mse", 2, "Squared"))
        for control in ("own", "true")
    ),
    *(
        _line(
            f"pcc_delta[ref=control_{control},genes=all]",
            partial(pearson_change, control=control),
            HIGHER,
            "Correlation of predicted and true change from the same controls; rewards the mean response.",
            *(_both("pearson_delta") if control == "own" else (_second("delta_pearson"),)),
            invariances=(
                "subset_conditions",
                "shift_both",
                "scale_both",
                *(("scale_prediction",) if control == "own" else ()),
            ),
        )
        for control in ("own", "true")
    ),
    _line(
        f"effect_size_pearson[dist=edist_euclidean_V,control=own,{CELLS}]",
        effect_size_pearson,
        HIGHER,
        "Whether strong perturbations are predicted to be strong.",
        *_both("pearson_edistance"),
        invariances=("shift_both", "scale_both"),
    ),
)

RANKS = (
    *(
        _line(
            f"retrieval[query=prediction,dist={d},norm=n,ties=position,exclude=row_target]",
            partial(discrimination, distance=d),
            HIGHER,
            "Position of the own true change by distance from the predicted one (PDS).",
            *_both(f"discrimination_score_{d}"),
            invariances=("shift_both", "scale_both", *(("scale_prediction",) if d == "cosine" else ())),
        )
        for d in ("l1", "l2", "cosine")
    ),
    *(
        _line(
            f"retrieval[query=prediction,dist={d},norm=n-1,ties=mid,exclude=panel_targets,ref=control_true]",
            partial(discrimination_midrank, distance=d),
            HIGHER,
            "How often the own true change is nearer to the predicted one than another's; 0.5 is chance.",
            _second(f"pds_{d}"),
            invariances=("shift_both", "scale_both"),
        )
        for d in ("l1", "l2", "cosine")
    ),
)

_SHARES = (
    ("called", "de_direction_fidelity", "direction_fidelity_raw", HIGHER, "Share of called genes with the right sign."),
    ("true", "de_direction_yield", "direction_yield_raw", NONE, "Right calls per gene that is truly significant."),
    (
        "larger",
        "de_direction_fidelity_yield",
        "direction_fidelity_yield_raw",
        HIGHER,
        "Right calls, as a share of calls or of truly significant genes, whichever are more.",
    ),
    ("coverage", "de_direction_coverage", "direction_coverage", NONE, "Calls per gene that is truly significant."),
)

SECOND_FAMILY = (
    *_family(SECOND),
    *(
        _line(
            f"{name}[{SECOND.choices},exclude=row_target]",
            partial(de_direction_share, recipe=CELL_EVAL2, of=of),
            better,
            meaning,
            _second(f"de_wilcoxon_{theirs}"),
        )
        for of, name, theirs, better, meaning in _SHARES
    ),
    _line(
        f"de_direction_reach[{SECOND.choices},exclude=row_target,purity=0.9]",
        partial(de_direction_reach, recipe=CELL_EVAL2),
        HIGHER,
        "How far down the prediction's ranking of truly significant genes 90 % of signs are right.",
        _second("de_wilcoxon_direction_reach_raw"),
    ),
    _line(
        f"de_jaccard[{SECOND.choices},exclude=row_target]",
        partial(de_jaccard, recipe=CELL_EVAL2),
        HIGHER,
        "Genes significant on both sides, as a share of those significant on either.",
        _second("de_wilcoxon_sig_jaccard"),
    ),
    _line(
        f"de_lfc_nmae[{SECOND.choices},exclude=row_target,n_real>=10]",
        partial(de_lfc_nmae, recipe=CELL_EVAL2),
        LOWER,
        "Error of fold changes of truly significant genes, as a share of their size; no change is 1.",
        _second("de_wilcoxon_lfc_nmae"),
    ),
)

OURS = f"{TEST},fdr=per_pert,control=shared,exclude=row_target,n_real>=10"
DIRECTION = f"pfm.de_direction[{OURS},sign=split_delta]"
SIGNIFICANCE = f"pfm.de_significance[{OURS},{CELLS}]"

HEADLINE = (
    Metric(
        DIRECTION,
        OnCells(partial(de_direction_of_delta, recipe=PANEL, least=10), whole_case=True),
        HIGHER,
        "Share of truly significant genes (10 at least) predicted to change in the right direction; 0.5 is chance.",
        title="DE direction",
        lead=True,
        effect=True,
        worst=0.5,
        invariances=("subset_conditions", "scale_both", "scale_prediction"),
    ),
    Metric(
        SIGNIFICANCE,
        OnCells(partial(de_jaccard, recipe=PANEL, least=10)),
        HIGHER,
        "Genes significant in truth (10 at least) and in the prediction, as a share of those significant in either.",
        title="DE significance",
        lead=True,
        effect=True,
        invariances=("subset_conditions", "shift_both", "scale_both"),
    ),
)

CELL_EVAL = (*HEADLINE, *_family(NEW), *_family(OLD), *MEANS, *RANKS, *SECOND_FAMILY)
