"""Does train know nothing of a held-out gene, whatever it was done with?"""

import pytest
from toy_labels import check_books, conditions, crossed, labels_of, parts, perts

from perturbfm.errors import BadValue, TooFewConditions, TooFewControls
from perturbfm.split import audit
from perturbfm.split.rule import unseen_perturbation

GENES = [f"G{i}X" for i in range(10)]
KNOWN = ("train", "val", "calib")


def wide():
    """Ten genes in two contexts, two modes, two doses, and pairs of neighbours."""
    found = crossed(["k1", "k2"], GENES) + crossed(["k1"], GENES, mode="activation")
    found += crossed(["k1"], GENES, dose="2") + [{"context": "k1", "pert": f"G{i}X+G{i + 1}X"} for i in range(9)]
    return labels_of(found)


def test_a_held_out_gene_is_gone_from_all_contexts_modes_doses_and_combinations():
    labels = wide()
    split = unseen_perturbation(labels, holdout=["G0X", "G5X"])
    assert perts(labels, split.test_idx) == {"G0X", "G5X"}
    assert len(split.test_idx) == 2 * 4 * 4  # two genes; k1, k2, activation and a dose; four rows each
    for name in KNOWN:
        assert not parts(labels, split.fold(name)) & {"G0X", "G5X"}
    assert split.ood_rows("perturbation").tolist() == split.test_idx.tolist()
    assert split.ood_axes == ("perturbation",)
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_folds_have_whole_genes_and_the_shares_asked_for():
    labels = labels_of(crossed(["k1", "k2"], GENES))
    split = unseen_perturbation(labels, fraction=0.2, val_fraction=0.125, calib_fraction=0.25)
    genes = {name: perts(labels, split.fold(name)) for name in ("train", "val", "calib", "test")}
    assert {name: len(found) for name, found in genes.items()} == {"train": 5, "val": 1, "calib": 2, "test": 2}
    assert len(set.union(*genes.values())) == 10
    assert split.params["genes"] == {"train": 5, "val": 1, "calib": 2, "test": 2}
    assert split.params["n_conditions"] == {"train": 10, "val": 2, "calib": 4, "test": 4}


def test_the_genes_dealt_depend_on_the_seed():
    labels = labels_of(crossed(["k"], GENES))
    assert len({unseen_perturbation(labels, seed=seed).params["holdout"] for seed in range(20)}) > 5


def test_combinations_with_held_out_genes_are_in_no_fold_or_in_the_test():
    labels = wide()
    without = unseen_perturbation(labels, holdout=["G0X"])
    with_them = unseen_perturbation(labels, holdout=["G0X"], combinations="include")
    assert perts(labels, without.test_idx) == {"G0X"}
    assert "G0X" in perts(labels, with_them.test_idx)
    assert perts(labels, with_them.test_idx) <= {"G0X", "G0X+G1X"}
    for split in (without, with_them):
        assert all("+" not in p or "G0X" not in p for n in KNOWN for p in perts(labels, split.fold(n)))
        check_books(labels, split)
        audit(split, labels).assert_no_leak()


def test_a_combination_of_genes_of_two_folds_is_in_none():
    labels = wide()
    split = unseen_perturbation(labels, holdout=["G0X"], combinations="include")
    fold_of = {p: name for name in ("train", "val", "calib", "test") for p in perts(labels, split.fold(name))}
    for pair in (f"G{i}X+G{i + 1}X" for i in range(9)):
        folds = {fold_of[part] for part in pair.split("+")}
        expected = (
            "train" if folds == {"train"} else next(iter(folds - {"train"})) if len(folds - {"train"}) == 1 else None
        )
        assert fold_of.get(pair) == expected


def test_within_leaves_other_contexts_out():
    labels = wide()
    split = unseen_perturbation(labels, within=["k2"])
    used = {labels.context_n[i] for idx in split.indices().values() for i in idx}
    assert used == {"k2"}
    assert split.params["excluded"]["other_context"] == int((labels.context_n[~labels.is_control_n] == "k1").sum())
    check_books(labels, split)


def test_train_has_no_mode_that_the_test_lacks():
    labels = labels_of(crossed(["k"], GENES) + crossed(["k"], ["A1", "A2"], mode="activation"))
    split = unseen_perturbation(labels, holdout=["G0X"])
    assert set(labels.mode_n[split.train_idx]) == {"knockdown"}
    assert split.params["excluded"]["other_mode"] == 8
    assert split.params["n_conditions"]["val"] >= 1
    audit(split, labels).assert_no_leak()


@pytest.mark.parametrize("seed", range(10))
def test_validation_genes_are_of_the_mode_of_the_test(seed):
    few = labels_of(crossed(["k"], GENES[:4]) + crossed(["k"], [f"A{i}Y" for i in range(40)], mode="activation"))
    split = unseen_perturbation(few, holdout=["G0X"], seed=seed)
    assert split.params["n_conditions"] == {"train": 1, "val": 1, "calib": 1, "test": 1}


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"holdout": ["G0Y"]}, BadValue, "holdout has names that are not in the data: given G0Y.*nearest to G0Y: G0X"),
        ({"holdout": "G0X"}, BadValue, "holdout is not a list of names"),
        ({"holdout": ["G0X", "G0X"]}, BadValue, "holdout is not a list of names"),
        ({"within": ["k9"]}, BadValue, "within has names that are not in the data: given k9"),
        ({"fraction": 1.0}, BadValue, "fraction is out of range: given 1.0"),
        ({"fraction": True}, BadValue, "fraction is out of range: given True"),
        ({"combinations": "some"}, BadValue, "Unknown combinations: given 'some', expected exclude or include"),
        ({"val_fraction": 0.5, "calib_fraction": 0.5}, BadValue, "leave nothing to train on: given 0.5 and 0.5"),
        ({"min_controls": 0}, BadValue, "min_controls is out of range: given 0"),
        ({"min_controls": 41}, TooFewControls, "Too few controls for an input and a reference half: given k with 40"),
        (
            {"holdout": GENES[:8]},
            TooFewConditions,
            "Too few genes are left for train, validation.*given 2 of 10, with 8",
        ),
        ({"holdout": GENES}, TooFewConditions, "Too few genes are left"),
    ],
)
def test_refusals(options, kind, message):
    with pytest.raises(kind, match=message):
        unseen_perturbation(labels_of(crossed(["k"], GENES)), **options)


def test_conditions_of_a_fold():
    labels = labels_of(crossed(["k"], GENES))
    found = conditions(labels, unseen_perturbation(labels, holdout=["G3X"]))
    assert found["test"] == {"k|G3X@knockdown"}
