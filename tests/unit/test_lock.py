"""Does a frozen split refuse any data but its own?"""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.errors import SplitOfOtherData
from perturbfm.split import context_ood

PERTS, CONTEXTS, GENES = ["control", "A", "B", "C"], ["k1", "k2", "k3"], 12


def raw():
    rng = np.random.default_rng(0)
    rows = [(p, k) for k in CONTEXTS for p in PERTS for _ in range(10)]
    obs = pd.DataFrame(rows, columns=["pert_id", "context_id"], index=[f"c{i}" for i in range(len(rows))])
    obs["batch_id"], obs["mode"], obs["is_control"] = "all", "knockdown", (obs["pert_id"] == "control").to_numpy()
    x = np.log1p(rng.poisson(1.5, size=(len(rows), GENES)) / 1.3).astype(np.float32)
    return x, obs, [f"g{i}" for i in range(GENES)]


def dataset(x, obs, genes):
    adata = anndata.AnnData(X=sparse.csr_matrix(x), obs=obs, var=pd.DataFrame(index=genes))
    return PerturbDataset(adata, Declaration("tiny", "log1p"))


def flipped_bit(x, obs, genes):
    x = x.copy()
    x[7, 3] = np.float32(2.5) if x[7, 3] == 0 else np.nextafter(x[7, 3], np.float32(9))
    return x, obs, genes


def swapped_rows(x, obs, genes):
    order = np.arange(len(x))
    order[[15, 16]] = [16, 15]
    return x[order], obs.iloc[order], genes


def changed_label(x, obs, genes):
    obs = obs.copy()
    obs.loc["c11", "pert_id"] = "B"
    return x, obs, genes


def reordered_gene(x, obs, genes):
    order = [1, 0, *range(2, GENES)]
    return x[:, order], obs, [genes[i] for i in order]


def renamed_cell(x, obs, genes):
    return x, obs.rename(index={"c5": "cell5"}), genes


@pytest.mark.parametrize("change", [flipped_bit, swapped_rows, changed_label, reordered_gene, renamed_cell])
def test_split_refuses_changed_data(change):
    mine = dataset(*raw())
    split = context_ood(mine.labels(), ["k3"], min_controls=5).freeze()
    split.assert_fits(mine.fingerprint, mine.n_obs)
    other = dataset(*change(*raw()))
    with pytest.raises(
        SplitOfOtherData,
        match=f"given.*{other.fingerprint[:12]}.*expected.*{mine.fingerprint[:12]}|{mine.fingerprint[:12]}",
    ):
        split.assert_fits(other.fingerprint, other.n_obs)


def test_same_content_read_again_is_accepted():
    split = context_ood(dataset(*raw()).labels(), ["k3"], min_controls=5).freeze()
    again = dataset(*raw())
    split.assert_fits(again.fingerprint, again.n_obs)
