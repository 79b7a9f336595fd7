"""Does every metric explain itself, under any of its names?"""

import pytest

from perturbfm.cli import main
from perturbfm.cli.metrics import definition_of
from perturbfm.errors import UnknownChoice
from perturbfm.eval.panel import FULL


def test_the_list_holds_every_identifier_and_alias_headline_first(capsys):
    assert main(["metrics", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(FULL.metrics)
    stars = [line.startswith("*") for line in lines]
    assert stars == sorted(stars, reverse=True)
    for m, line in ((m, next(x for x in lines if f" {m.identifier} " in x)) for m in FULL.metrics):
        assert all(alias in line for alias in m.aliases)


@pytest.mark.parametrize("metric", FULL.metrics, ids=lambda m: m.identifier)
def test_a_metric_says_what_it_is_where_it_comes_from_and_when_it_is_not(metric, capsys):
    assert main(["metrics", "explain", metric.identifier]) == 0
    told = capsys.readouterr().out
    assert metric.meaning in told
    assert "invariances: permute_cells" in told
    _, definition = definition_of(metric)
    assert "Source:" in definition
    assert "Returns:" in definition


def test_a_beginning_is_enough_when_only_one_has_it(capsys):
    assert main(["metrics", "explain", "pfm.ev"]) == 0
    assert capsys.readouterr().out.startswith("pfm.ev[")


@pytest.mark.parametrize(
    ("name", "said"), [("coverage", "Several metrics are named"), ("pfm.evv", "No metric is named")]
)
def test_a_name_of_none_or_several_is_refused(name, said, capsys):
    assert main(["metrics", "explain", name]) == UnknownChoice.exit_code
    assert said in capsys.readouterr().err


def test_identifiers_and_aliases_are_unique():
    names = [n for m in FULL.metrics for n in (m.identifier, *m.aliases)]
    assert len(names) == len(set(names))
