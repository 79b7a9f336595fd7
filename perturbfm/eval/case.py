"""One prediction beside one truth, condition by condition: the only thing a metric sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from perturbfm.eval.comparison import Comparison

OK, UNDEFINED, NOT_APPLICABLE = "ok", "undefined", "not_applicable"

GAUSSIAN, INTERVAL = "gaussian", "interval"
"""What a predictive variance stands for: a normal distribution, or an interval that claims its level and no more."""


@dataclass(frozen=True)
class PerCondition:
    """A metric's statistics: one numerator and one denominator per condition.

    A condition's value is `num_c / den_c`; an aggregate is `sum(w num) / sum(w den)`. A metric that is a plain mean
    has `den_c = 1`. Where `status_c` is not `ok`, `num_c` and `den_c` are NaN and `reason_c` says why.
    """

    num_c: np.ndarray
    den_c: np.ndarray
    status_c: np.ndarray
    reason_c: np.ndarray

    @property
    def value_c(self) -> np.ndarray:
        """Value per condition; NaN where the status is not `ok` or the denominator is not positive."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where((self.status_c == OK) & (self.den_c > 0), self.num_c / self.den_c, np.nan)

    @property
    def ok_c(self) -> np.ndarray:
        """Which conditions carry a value."""
        return self.status_c == OK


def plain(value_c: np.ndarray, reason_c: np.ndarray | None = None, status: str = UNDEFINED) -> PerCondition:
    """Statistics of a metric that is a mean of values.

    Args:
        value_c: One value per condition.
        reason_c: Reason per condition, empty where the value stands; conditions with a reason get `status`.
        status: What a condition with a reason is: `undefined` or `not_applicable`.
    """
    value_c = np.asarray(value_c, dtype=float)
    reason_c = np.full(len(value_c), "", dtype=object) if reason_c is None else np.asarray(reason_c, dtype=object)
    ok_c = reason_c == ""
    status_c = np.where(ok_c, OK, status).astype(object)
    return PerCondition(np.where(ok_c, value_c, np.nan), np.where(ok_c, 1.0, np.nan), status_c, reason_c)


def ratio(num_c: np.ndarray, den_c: np.ndarray) -> PerCondition:
    """Statistics of a metric that is a ratio of sums over conditions; every condition takes part in the sums."""
    n = len(num_c)
    return PerCondition(
        np.asarray(num_c, dtype=float),
        np.asarray(den_c, dtype=float),
        np.full(n, OK, dtype=object),
        np.full(n, "", dtype=object),
    )


def nowhere(n: int, reason: str, status: str = NOT_APPLICABLE) -> PerCondition:
    """Statistics of a metric that has no value on any of `n` conditions, for one reason."""
    return plain(np.full(n, np.nan), np.full(n, reason, dtype=object), status)


@dataclass(frozen=True)
class Case:
    """Truth and prediction of one fold, rows = conditions (context x intervention), columns = genes.

    Attributes:
        context_c: Context of each condition.
        intervention_c: Intervention (`perturbation@mode`) of each condition.
        n_c: Judged rows (cells) of each condition.
        genes_g: Gene names.
        truth_cg: True mean delta T: mean of the condition's rows minus batch-matched mean of *reference* controls.
        noise_cg: Sampling variance V of T, `s2_p/n_p + s2_R/n_R`; zeros where `noise_known` is false.
        noise_known: False for files without cells.
        predicted_cg: Predicted mean delta D, against *input* controls.
        variance_cg: Predictive variance of the mean delta, without the truth's own sampling variance.
        mean_cg: Mean expression of the condition's rows (truth, no control subtracted).
        input_cg: Mean of the matched input controls.
        input_var_cg: Variance of single input-control cells of the context; zeros where there are none.
        scored_cg: Genes on which variance is judged: detected in at least 10 % of the context's input controls.
        train_centroid_g: Unweighted mean over train conditions of their mean expression; None when unknown.
        train_delta_g: Unweighted mean over train conditions of their delta against input controls; None when unknown.
        cells: For a condition's number, `(true cells [n, g], predicted cells [m, g])` dense; None where the file has
            no cells. For a model that predicts means, predicted cells are the condition's input-control cells, each
            once, plus the predicted delta.
        powered_c: Gate verdict of each condition's context: `powered`, `weak`, `no_signal` or `unknown`.
        faint_c: Where a ratio has no safe denominator: why the signal energy of the condition's context is not clear of
            zero, empty elsewhere; None when that was not asked.
        targets_cg: Which measured genes a condition's intervention acts on itself; None when that is not known.
        comparison: The same conditions in the same order as benchmark suites compare them; None where that cannot be.
        incomparable: Why there is no comparison; where there are no cells at all, why there are none.
        draws: For a condition's number, draws of its mean delta from the predictive distribution, shape (s, g), made
            when asked for; None where the model states mean and variance only.
        distribution: `gaussian`, or `interval` where the prediction is a conformal interval, which has no density.
        has_variance: Whether the prediction states a variance; where not, `variance_cg` is NaN.
    """

    context_c: np.ndarray
    intervention_c: np.ndarray
    n_c: np.ndarray
    genes_g: tuple[str, ...]
    truth_cg: np.ndarray
    noise_cg: np.ndarray
    noise_known: bool
    predicted_cg: np.ndarray
    variance_cg: np.ndarray
    mean_cg: np.ndarray
    input_cg: np.ndarray
    input_var_cg: np.ndarray
    scored_cg: np.ndarray
    train_centroid_g: np.ndarray | None
    train_delta_g: np.ndarray | None
    cells: Callable[[int], tuple[np.ndarray, np.ndarray]] | None
    powered_c: np.ndarray
    faint_c: np.ndarray | None = None
    targets_cg: np.ndarray | None = None
    comparison: Comparison | None = None
    incomparable: str = "the file has no cells"
    draws: Callable[[int], np.ndarray] | None = None
    distribution: str = GAUSSIAN
    has_variance: bool = True

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return len(self.n_c)

    def with_truth(self, truth_cg: np.ndarray, noise_cg: np.ndarray, mean_cg: np.ndarray) -> Case:
        """Return the same prediction beside another draw of the truth."""
        return replace(self, truth_cg=truth_cg, noise_cg=noise_cg, mean_cg=mean_cg)

    def members(self) -> list[np.ndarray]:
        """Condition numbers of each context, contexts in sorted order."""
        return [np.flatnonzero(self.context_c == k) for k in sorted(set(self.context_c.tolist()))]
