"""Small files made for one question."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from perturbfm.data import load_file


@pytest.fixture
def write(tmp_path):
    """Write an `.h5ad` of the given columns; values are logarithms that no two entries share."""

    def write_file(columns, genes=("g1", "g2", "g3"), x=None, name="file.h5ad", index=None, var=None, layers=None):
        n = len(next(iter(columns.values())))
        index = [f"c{i}" for i in range(n)] if index is None else index
        if x is None:
            x = np.arange(1, n * len(genes) + 1, dtype=np.float32).reshape(n, -1) / np.float32(64)
        var = pd.DataFrame(var or {}, index=list(genes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            AnnData(X=x, obs=pd.DataFrame(columns, index=index), var=var, layers=layers).write_h5ad(tmp_path / name)
        return str(tmp_path / name)

    return write_file


@pytest.fixture
def labelled(write):
    """Load a file whose perturbation column holds the given labels."""

    def load_labels(labels, columns=None, **options):
        path = write({"pert": labels, **(columns or {})})
        given = {"pert_column": "pert", "context_column": None, "context": "K562", "batch_column": None, "mode": "drug"}
        return load_file("small", path, "log1p", **{**given, **options})

    return load_labels
