"""`Batch` -> `Gaussian`.

Comes in: `Batch` (matched input controls, intervention, context) and `Dims`. Goes out: `Gaussian`, the mean and the
    predictive variance of each query's *mean* delta.
May import: torch, types, errors. No Lightning, no data, no split.
To add a closed-form model: one class in `baseline/` with `fit`, `mean` and `noise`, one yaml in `conf/model/`.
To add a network: one class in `perturbfm/` with `mean` and `cell_variance`, one yaml in `conf/model/`.

    response.py            the sockets: AbstractResponse, AbstractClosedForm, AbstractNetwork
    baseline/statistics.py sufficient statistics of one epoch, and the table of conditions they give
    baseline/*.py          one closed-form baseline per file
    perturbfm/*.py         one network per file
"""
