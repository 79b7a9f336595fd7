"""What is done to the values before a model sees them, one file and one class per step.

Comes in: `Rows`, the rows a stage may learn from (train, and the input controls of its contexts). Goes out: what it
    learned, as plain containers, and the same rows with other values or fewer genes.
May import: data, types, errors; scanpy only inside the function that calls it. Never torch: a stage runs before one.
To add a stage: one class here with `learn` and `apply`, named by `_target_` in a yaml of conf/preprocess/.

    rows.py               what a stage may look at        abstract.py          what every stage can do
    filter_genes.py       genes seen in too few cells     normalise_total.py   one library size for all
    log1p.py              the logarithm, once             highly_variable.py   genes worth predicting
    differential.py       genes that answer               scale.py             what models see, not what is judged
"""
