"""Is a held-out dose inside or outside of what train really has of that compound?"""

import pytest
from toy_labels import check_books, conditions, labels_of

from perturbfm.errors import BadValue, TooFewConditions, UnknownDose
from perturbfm.split import FOLDS, audit
from perturbfm.split.rule import dose_ood

DOSES = ("0.04", "0.12", "0.37", "1.11", "3.33", "10")


def world(doses_of, contexts=("A375",), **changes):
    found = [
        {"context": k, "pert": c, "dose": d, "mode": "drug"}
        for k in contexts
        for c, doses in doses_of.items()
        for d in doses
    ]
    return labels_of(found, **changes)


def plate(n=10):
    return world({f"c{i}": DOSES for i in range(n)})


def train_doses(labels, split, row):
    same = (labels.pert_n == labels.pert_n[row]) & (labels.context_n == labels.context_n[row])
    return [float(labels.dose_n[i]) for i in split.train_idx if same[i]]


def check_axes(labels, split):
    on = {int(i): axis for axis in split.ood_axes for i in split.ood_rows(axis)}
    assert sorted(on) == split.test_idx.tolist()
    for row, axis in on.items():
        known, dose = train_doses(labels, split, row), float(labels.dose_n[row])
        assert known
        assert axis == ("dose_inside" if min(known) < dose < max(known) else "dose_outside")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("dose", "axis"), [("1.11", "inside"), (3.33, "inside"), ("10", "outside"), (0.04, "outside")])
def test_inside_and_outside_of_what_train_has_after_dealing(dose, axis, seed):
    labels = plate()
    split = dose_ood(labels, [dose], seed=seed, val_fraction=0.2, calib_fraction=0.3)
    assert split.ood_axes == (f"dose_{axis}",)
    assert split.params["conditions_by_kind"] == {axis: 10}
    assert {labels.dose_n[i] for i in split.test_idx} == {str(dose)}
    check_axes(labels, split)
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_of_held_doses_stay_in_train(seed):
    labels = plate()
    split = dose_ood(labels, ["1.11"], seed=seed, val_fraction=0.2, calib_fraction=0.3)
    train = conditions(labels, split)["train"]
    assert {f"A375|c{i}@drug;dose={d}" for i in range(10) for d in ("0.37", "3.33")} <= train


def test_two_held_doses_are_no_neighbours_of_each_other():
    labels = plate()
    split = dose_ood(labels, ["3.33", "10"])
    assert split.ood_axes == ("dose_outside",)
    inner = dose_ood(labels, ["1.11", "3.33"])
    assert inner.ood_axes == ("dose_inside",)
    assert {f"A375|c{i}@drug;dose={d}" for i in range(10) for d in ("0.37", "10")} <= conditions(labels, inner)["train"]


def test_each_compound_and_context_has_its_own_range():
    labels = labels_of(
        [
            {"context": k, "pert": c, "dose": d, "mode": "drug"}
            for k, c, doses in [
                ("k1", "wide", ("1", "2", "3")),
                ("k2", "wide", ("1", "2")),
                ("k1", "short", ("2", "3")),
                ("k1", "only", ("2",)),
                ("k1", "rest", ("1", "3", "4", "5", "6", "7")),
            ]
            for d in doses
        ]
    )
    split = dose_ood(labels, [2])
    assert {labels.condition_n[i] for i in split.ood_rows("dose_inside")} == {"k1|wide@drug;dose=2"}
    assert {labels.condition_n[i] for i in split.ood_rows("dose_outside")} == {
        "k2|wide@drug;dose=2",
        "k1|short@drug;dose=2",
    }
    assert split.params["excluded"]["held_out_dose_of_other_kind_or_alone"] == 4
    check_axes(labels, split)
    inside = dose_ood(labels, [2], where="inside")
    assert inside.ood_axes == ("dose_inside",)
    assert inside.params["excluded"]["held_out_dose_of_other_kind_or_alone"] == 12
    assert not any(labels.dose_n[i] == "2" for name in FOLDS[:-1] for i in inside.fold(name))
    check_books(labels, inside)


def test_combinations_with_a_held_out_dose_are_in_no_fold():
    found = [{"pert": c, "dose": d, "mode": "drug"} for c in ("A", "B", "C") for d in ("1", "2", "3")]
    found += [{"pert": "A+B", "dose": d, "mode": "drug"} for d in ("1+3", "2+1", "3+3")]
    labels = labels_of(found)
    split = dose_ood(labels, [2])
    used = {labels.condition_n[i] for name in FOLDS for i in split.fold(name)}
    assert "k|A+B@drug;dose=2+1" not in used
    assert "k|A+B@drug;dose=1+3" in used
    assert {labels.pert_n[i] for i in split.test_idx} == {"A", "B", "C"}
    check_books(labels, split)


def test_rows_without_a_dose_or_with_no_number_stay_in_the_source():
    labels = world({f"c{i}": ("1", "2", "3") for i in range(3)} | {"odd": ("", "high", "nan")})
    split = dose_ood(labels, [2])
    assert {labels.pert_n[i] for i in split.test_idx} == {"c0", "c1", "c2"}
    check_books(labels, split)


def test_within_looks_at_some_contexts():
    labels = world({f"c{i}": ("1", "2", "3", "4") for i in range(4)}, contexts=("k1", "k2"))
    split = dose_ood(labels, [2], within=["k2"])
    assert {labels.context_n[i] for idx in split.indices().values() for i in idx} == {"k2"}
    check_books(labels, split)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"holdout": [7]}, UnknownDose, "Held-out doses are not in the data: given 7, expected some of 0.04, 0.12"),
        ({"holdout": ["11.1"]}, UnknownDose, r"nearest to 11.1: 1.11"),
        ({"holdout": []}, BadValue, r"holdout is not a list of doses: given \[\]"),
        ({"holdout": "10"}, BadValue, "holdout is not a list of doses: given '10'"),
        ({"holdout": [10, "10.0"]}, BadValue, "holdout is not a list of doses"),
        ({"holdout": [10], "where": "above"}, BadValue, "Unknown where: given 'above'"),
        (
            {"holdout": [10], "where": "inside"},
            TooFewConditions,
            "No dose can be held out: given doses 10.0 with where=",
        ),
        ({"holdout": list(DOSES)}, TooFewConditions, "No dose can be held out"),
    ],
)
def test_refusals(options, kind, message):
    with pytest.raises(kind, match=message):
        dose_ood(plate(), **options)


def test_data_without_doses():
    with pytest.raises(BadValue, match=r"The data declare no dose: given data\.dose_column=null"):
        dose_ood(labels_of([{"pert": "A"}]), [1])


def test_everything_is_needed_in_train():
    with pytest.raises(
        TooFewConditions, match="Nothing is left to validate and calibrate on: given 0 source conditions"
    ):
        dose_ood(world({f"c{i}": ("1", "2", "3") for i in range(3)}), [2])
