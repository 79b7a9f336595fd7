"""Is what is feasible told, what is not refused with a reason, and neither at endless length?"""

import shlex

import pytest
from toy_labels import crossed, labels_of

from perturbfm.split import suggest
from perturbfm.split.suggest import _written

PERTS = [f"G{i}X" for i in range(6)]


def test_hundreds_of_levels_give_a_page():
    labels = labels_of(
        [{"context": f"k{i}", "pert": p, "dose": f"{i + 1}", "mode": "drug"} for i in range(150) for p in ("A", "B")],
        n_rows=1,
        n_controls=12,
    )
    found = list(suggest(labels))
    assert len(found) <= 50
    assert {s.rule for s in found} >= {"context_ood", "dose_ood", "unseen_perturbation"}
    assert all((s.split is None) != (s.refusal is None) and s.feasible == (s.split is not None) for s in found)


def test_few_controls_lower_the_least_number_and_show_it():
    found = list(suggest(labels_of(crossed(["k1", "k2", "k3"], PERTS), n_controls=20)))
    feasible = [s for s in found if s.feasible]
    assert {s.options["min_controls"] for s in feasible} == {10}
    assert all("min_controls=10" in s.words() for s in feasible)
    none = list(suggest(labels_of(crossed(["k1", "k2", "k3"], PERTS), n_controls=8)))
    assert not any(s.feasible for s in none)
    assert "TooFewControls" in {type(s.refusal).__name__ for s in none}


def test_refusals_carry_their_reason():
    labels = labels_of(crossed(["k1"], PERTS) + crossed(["k2"], ["Z"], mode="activation"))
    refused = {(s.rule, str(s.options.get("holdout"))): s.refusal for s in suggest(labels) if s.refusal}
    assert type(refused["context_ood", "['k2']"]).__name__ == "NoSharedPerturbation"
    assert type(refused["unseen_combination", "None"]).__name__ == "TooFewConditions"


def test_columns_without_levels_or_with_one_per_row_are_not_tried():
    labels = labels_of(
        [{**c, "only": "one", "plate": f"p{i}"} for i, c in enumerate(crossed(["k1", "k2"], PERTS))], n_rows=1
    )
    assert "only" not in {s.options.get("column") for s in suggest(labels)}


@pytest.mark.parametrize(
    "name",
    [
        "K562",
        "1",
        "1.5",
        "null",
        "true",
        "nan",
        "CD4 T",
        "5'-UTR",
        'a"b',
        "a,b",
        "[x]",
        "a=b",
        "${x}",
        "a\\b",
        "end\\",
        "",
    ],
)
def test_a_name_survives_shell_and_grammar(name):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = shlex.split(shlex.quote(f"holdout={_written([name])}"))
    value = OverridesParser.create().parse_override(word).value()
    assert [str(v.text if hasattr(v, "text") else v).replace("\\${", "${") for v in value] == [name]
