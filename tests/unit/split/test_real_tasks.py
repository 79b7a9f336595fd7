"""Are the frozen tasks of the protocol within reach of the rules, with the protocol's numbers of conditions?"""

import numpy as np
import pytest
from toy_labels import check_books

from perturbfm.errors import GuidesNotGenes
from perturbfm.split import audit
from perturbfm.split.rule import dose_ood, unseen_combination, unseen_perturbation
from perturbfm.types import Labels


def labels_of_file(folder, name, *, pert, context, mode, control, batch=None, dose=None, **changes):
    import anndata

    obs = anndata.read_h5ad(folder / name / f"{name}.h5ad", backed="r").obs
    n = len(obs)

    def column(key):
        return obs[key].astype(str).to_numpy(dtype=object) if key in obs else np.full(n, key or "all", dtype=object)

    is_control = column(pert) == control
    given = {"delimiter": "+", **changes}
    if dose:
        given["dose_n"] = np.array(
            ["" if c else f"{d:g}" for d, c in zip(obs[dose], is_control, strict=True)], dtype=object
        )
    return Labels(
        cell_n=obs.index.to_numpy(dtype=object),
        pert_n=column(pert),
        context_n=column(context),
        batch_n=column(batch),
        mode_n=column(mode),
        is_control_n=is_control,
        fingerprint="f" * 64,
        data_name=name,
        **given,
    )


def devel(folder):
    return labels_of_file(
        folder, "perturbench_devel", pert="condition", context="cell_type", mode="perturbation_type", control="control"
    )


def norman(folder):
    return labels_of_file(
        folder,
        "norman19_pseudobulk",
        pert="perturbation",
        context="cell_type",
        mode="perturbation_type",
        control="control",
        unit="pseudobulk",
        controls="baked_in",
    )


def papalexi(folder, pert="grna_target"):
    return labels_of_file(
        folder,
        "papalexi21_eccite",
        pert=pert,
        context="THP-1",
        mode="knockout",
        control="non-targeting",
        batch="bio_rep",
    )


def books(labels, split):
    check_books(labels, split)
    audit(split, labels).assert_no_leak()
    return split.params["n_conditions"]


def test_devel_k562_unseen_perturbation(real_data):
    labels = devel(real_data)
    k562 = set(labels.pert_n[(labels.context_n == "k562") & ~labels.is_control_n])
    assert len(k562) == 33
    n = books(labels, split := unseen_perturbation(labels, within=["k562"], combinations="include"))
    assert sum(n.values()) <= 33
    assert set(labels.context_n[split.test_idx]) == {"k562"}


def test_devel_k562_doubles_with_both_singles(real_data):
    labels = devel(real_data)
    singles = {p for p in labels.pert_n[labels.context_n == "k562"] if "+" not in p}
    doubles = {p for p in labels.pert_n if "+" in p and set(p.split("+")) <= singles}
    assert len(doubles) == 5
    split = unseen_combination(labels, seen=[2], holdout=sorted(doubles), within=["k562"])
    assert books(labels, split)["test"] == 5
    assert split.ood_axes == ("combination_seen_2",)
    assert split.params["combinations"] == {"combination_seen_2": 5}


def test_norman_doubles_and_singles(real_data):
    labels = norman(real_data)
    alone = {p for p in labels.pert_n[~labels.is_control_n] if "+" not in p}
    full = {p for p in labels.pert_n if "+" in p and set(p.split("+")) <= alone}
    assert (len(alone), len(full)) == (104, 126)
    split = unseen_combination(labels, fraction=0.2)
    assert books(labels, split)["test"] == 25  # a fifth of 126
    assert set(labels.pert_n[split.test_idx]) <= full
    single = unseen_perturbation(labels, fraction=0.2)
    assert books(labels, single)["test"] == 21  # a fifth of 104
    assert sum(single.params["genes"].values()) == len(
        {g for p in alone | full for g in p.split("+")}
        | {g for p in labels.pert_n[~labels.is_control_n] for g in p.split("+")}
    )


def test_papalexi_unseen_gene_and_its_guides(real_data):
    labels = papalexi(real_data)
    n = books(labels, unseen_perturbation(labels, fraction=0.2))
    assert sum(n.values()) == 25
    assert n["test"] == 5
    with pytest.raises(GuidesNotGenes, match="labels share a stem: ATF2g1, ATF2g2"):
        unseen_perturbation(papalexi(real_data, "grna_id"))


@pytest.mark.parametrize(("dose", "kind", "n"), [("1.11", "inside", 58), ("3.33", "inside", 58), ("10", "outside", 58)])
def test_lincs_doses(real_data, dose, kind, n):
    """Of 59 compounds one lacks 1.11 and one lacks 10; the former still has a lower dose to 3.33, so it is inside."""
    labels = labels_of_file(
        real_data,
        "lincs_ljp005_a375",
        pert="pert_iname",
        context="cell_id",
        mode="drug",
        control="DMSO",
        dose="pert_dose",
    )
    split = dose_ood(labels, [dose], min_controls=5)
    assert split.params["conditions_by_kind"][kind] == n
    assert books(labels, split)["test"] >= n
