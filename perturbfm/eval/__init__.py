"""`Prediction` + truth -> a complete panel. Learns from nothing.

Comes in: `Observed` (judged rows, input and reference controls), `Prediction`s of any tool, the centroids of train.
Goes out: one combined object of every metric of a panel with status, reason, aggregates, floors and gate.
May import: types, errors; numpy, scipy, pandas, torchmetrics. Never data, split, model, train or calibrate.
To add a metric: one function `(case) -> PerCondition` in `metric/`, one line in `panel/full.py`.

    case.py       truth beside prediction, condition by condition: all that a metric sees
    truth.py      what was measured, from judged rows and reference controls
    comparison.py cells of both sides with one set of controls: what benchmark suites compare
    cells.py      the cells behind a prediction: emitted, moved controls, or real ones
    standing.py   what stands beside every model of a split, made once
    interpolated.py  a replicate that trusts itself only where its cells are sure
    moments.py    sums per group, held and synced by torchmetrics
    gate.py       whether a context carries measurable signal, from truth alone
    permutation.py  the tests behind the gate
    verdict.py    the gate, opened for every context
    resample.py   draws of conditions and of reference controls
    redraw.py     the same predictions beside redrawn truths
    intervals.py  what truth refuses; two-way intervals, sign-flip, or values only
    replicate.py  half of the cells predicts the other half; skill
    dynamic_range.py  whether a metric tells a replicate from no knowledge on the data at hand
    separation.py whether uncertainty rises out of distribution, axis by axis
    risk.py       whether a model is less wrong where it says it is sure
    reliability.py  nominal against observed coverage, PIT histogram
    aggregate.py  per context, macro, micro, cell-weighted
    shown.py      what the page shows of a few conditions, gene by gene
    vcc2026.py    the challenge's preset, run by its own library
    judge.py      scores a prediction and its floors by one code path
    metric/       the definitions
    panel/        which metrics, under which names and version
    report/       the page a person reads
"""
