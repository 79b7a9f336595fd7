"""Are donors, batches and times held out whole, with controls of their own?"""

from dataclasses import replace

import pytest
from toy_labels import check_books, crossed, labels_of

from perturbfm.errors import BadValue, NoSharedPerturbation, SplitLeaks, TooFewConditions, UnknownContext
from perturbfm.split import FOLDS, audit
from perturbfm.split.rule import covariate_ood, time_ood

PERTS = ["A", "B", "C", "D"]
KNOWN = ("train", "val", "calib")


def donors():
    """Each context is one donor's: controls are the donor's own."""
    return labels_of([c for i in range(5) for c in crossed([f"d{i}:T", f"d{i}:NK"], PERTS, donor=f"d{i}")])


def batches(match="context_batch", n=5):
    """One context, every condition in every batch."""
    return labels_of([c for i in range(n) for c in crossed(["k"], PERTS, batch=f"b{i}")], match=match)


def test_a_donor_with_contexts_of_its_own():
    labels = donors()
    split = covariate_ood(labels, "donor", ["d2"])
    donor_n = labels.covariates["donor"]
    assert set(donor_n[split.test_idx]) == {"d2"}
    assert len(split.test_idx) == 2 * 4 * 4
    assert not any("d2" in donor_n[split.fold(name)] for name in KNOWN)
    assert split.ood_axes == ("donor",)
    assert "folds" not in split.params
    assert split.params["validation"].startswith("donor:d")
    assert len(set(donor_n[split.val_idx])) == 1
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_a_batch_within_a_context_has_controls_of_its_own():
    labels = batches()
    split = covariate_ood(labels, "batch", ["b3"], axis="plate")
    assert set(labels.batch_n[split.test_idx]) == {"b3"}
    assert not any("b3" in labels.batch_n[split.fold(name)] for name in KNOWN)
    assert split.ood_axes == ("plate",)
    assert split.params["folds"] == "conditions within batch"
    for one, other in (("train", "val"), ("train", "calib"), ("val", "calib")):
        pairs = [set(zip(labels.pert_n[i], labels.batch_n[i], strict=True)) for i in map(split.fold, (one, other))]
        assert not pairs[0] & pairs[1]
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_conditions_cut_within_a_batch_are_caught():
    labels = batches()
    split = covariate_ood(labels, "batch", ["b3"])
    moved = split.train_idx[0]
    cut = replace(split, train_idx=split.train_idx[1:], calib_idx=[*split.calib_idx, moved])
    with pytest.raises(SplitLeaks, match="Conditions have rows both in train and in calib"):
        audit(cut, labels).assert_no_leak()


def test_a_study_may_be_a_column_within_batches():
    labels = labels_of(
        [c for i in range(4) for c in crossed(["k"], PERTS, batch=f"b{i}", study=f"s{i % 2}")], match="context_batch"
    )
    split = covariate_ood(labels, "study", ["s1"])
    assert set(labels.batch_n[split.test_idx]) == {"b1", "b3"}
    assert split.params["n_conditions"]["test"] == 4
    audit(split, labels).assert_no_leak()


def test_levels_that_share_controls_are_refused():
    with pytest.raises(
        BadValue, match=r"Levels of batch share their controls: given controls matched by context, with"
    ):
        covariate_ood(batches(match="context"), "batch", ["b0"])
    mixed = labels_of(crossed(["k"], PERTS, donor="x") + crossed(["k"], PERTS, donor="y"), match="context_batch")
    with pytest.raises(BadValue, match=r"set data\.batch_column=donor with data\.match=context_batch"):
        covariate_ood(mixed, "donor", ["x"])


@pytest.mark.parametrize(
    ("column", "holdout", "kind", "message"),
    [
        ("donr", ["d0"], BadValue, "No such column to hold out: given 'donr'.*Nearest: donor"),
        ("donor", ["d9"], UnknownContext, "Held-out donors are not in the data: given d9"),
        ("donor", "d0", BadValue, "holdout is not a list of donors"),
        ("donor", [], BadValue, "holdout is not a list of donors"),
        ("donor", [f"d{i}" for i in range(5)], NoSharedPerturbation, "every donor with perturbed rows is held out"),
    ],
)
def test_refusals(column, holdout, kind, message):
    with pytest.raises(kind, match=message):
        covariate_ood(donors(), column, holdout)


def test_a_level_without_perturbed_rows():
    labels = labels_of(
        [*crossed(["k1", "k2", "k3"], PERTS, donor="d"), {"context": "k4", "pert": "A", "donor": "e", "n": 0}]
    )
    with pytest.raises(TooFewConditions, match="Held-out donors have no perturbed rows: given e"):
        covariate_ood(labels, "donor", ["e"])


# --- time ----------------------------------------------------------------------------------------------


def course(times=("6", "24", "48")):
    return labels_of([c for t in times for c in crossed(["k1", "k2"], PERTS, time=t)])


def test_a_time_is_held_out_of_all_interventions():
    labels = course()
    for given in (["24"], [24], [24.0]):
        split = time_ood(labels, given)
        assert set(labels.time_n[split.test_idx]) == {"24"}
        assert len(split.test_idx) == 2 * 4 * 4
        assert not any("24" in labels.time_n[split.fold(name)] for name in KNOWN)
        assert split.ood_axes == ("time",)
        assert split.params["not_in_train"] == ()
        check_books(labels, split)
        audit(split, labels).assert_no_leak()


def test_validation_is_a_whole_time_where_there_are_four():
    labels = course(("1", "6", "24", "48", "72"))
    split = time_ood(labels, ["72"])
    (name,) = set(labels.time_n[split.val_idx])
    assert split.params["validation"] == f"time:{name}"
    assert len(split.val_idx) == 2 * 4 * 4


def test_an_intervention_of_one_time_is_refused_or_dropped():
    labels = labels_of([*crossed(["k1", "k2"], PERTS, time="6"), *crossed(["k1"], ["A", "Z"], time="24")])
    with pytest.raises(
        NoSharedPerturbation, match="occur in no source time in the same mode.*given 1 unshared of 2: Z@"
    ):
        time_ood(labels, [24])
    split = time_ood(labels, [24], filter_unshared=True)
    assert set(labels.pert_n[split.test_idx]) == {"A"}
    assert split.params["excluded"]["unshared"] == 4
    check_books(labels, split)


@pytest.mark.parametrize(
    ("holdout", "kind", "message"),
    [
        ([12], UnknownContext, "Held-out times are not in the data: given 12"),
        ([None], UnknownContext, "Held-out times are not in the data: given None"),
        ([[24]], UnknownContext, r"Held-out times are not in the data: given \[24\]"),
        ("24", BadValue, "holdout is not a list of times"),
    ],
)
def test_refusals_of_times(holdout, kind, message):
    with pytest.raises(kind, match=message):
        time_ood(course(), holdout)


def test_data_without_times():
    with pytest.raises(BadValue, match=r"The data declare no time: given data\.time_column=null"):
        time_ood(donors(), ["24"])


def test_every_fold_is_filled():
    assert all(len(time_ood(course(), [6]).fold(name)) for name in FOLDS)
