"""Any tool's predictions -> `Prediction`, after an audit; and a run -> files that other tools read.

Comes in: an `.h5ad`, `.zarr` or `.npz` of somebody else's model, and what is known of the judged folds.
Goes out: `Prediction` by fold, the verdict of the audit; or AnnData files for cell-eval and PerturbBench.
May import: types, errors, predictions, data (its readers and labels), eval.truth; numpy, scipy, pandas, anndata. No
    torch, no Lightning, no Hydra, no training.
To add a form of file: one function in `table.py` that returns a `Foreign`. To add a check: one function in `audit.py`
    that refuses with a typed error or returns a `Finding`. To add an export: one function in `export.py`.

    prediction_file.py  the options a user sets, and the way from file to predictions
    table.py            the forms of files: AnnData, rows as in predictions.npz, one row per condition
    labels.py           labels as the file writes them -> conditions of the judged folds
    audit.py            what is refused and what is noted       copies.py  rows that are copies of measured cells
    convert.py          predicted expression -> changes from the input controls
    export.py           a judged run as files that cell-eval and PerturbBench read unchanged
"""
