"""Is every number under a suite's name the number that the suite's own code gives?"""

import importlib

import pytest
import yaml

from perturbfm.cli import main
from perturbfm.errors import ParityMissed, UnknownChoice, UnreadableFile
from perturbfm.eval.panel import FULL
from perturbfm.parity import table
from perturbfm.parity.check import Check
from perturbfm.parity.reference import References


@pytest.fixture(scope="session")
def checks(parity_folder):
    return table.all_checks(References(parity_folder))


def test_every_alias_agrees_or_has_its_reason(checks):
    accepted, _ = table.register()
    missed = [c for row in table.rows(checks, accepted) for c in row.missed]
    assert not missed, missed[:10]


def test_no_line_of_the_register_is_idle(checks):
    accepted, _ = table.register()
    assert table.idle(checks, accepted) == []


def test_every_alias_of_the_panel_is_compared_or_says_why_not(checks):
    aliases = [a for m in FULL.metrics for a in m.aliases]
    assert table.unchecked(aliases, checks) == []
    assert table.unchecked(["nobody_1.0.x"], checks) == ["nobody_1.0.x"]


def test_every_line_of_the_register_has_a_reason():
    found = yaml.safe_load(table.REGISTER.read_text())
    assert all(len(line["reason"]) > 20 for line in found["accepted"] + found["not_owned"] + found["no_reference"])


def _fake(monkeypatch, *checks):
    module = type("suite", (), {"checks": staticmethod(lambda _references: iter(checks))})
    monkeypatch.setattr(table, "SUITES", ("fake",))
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: module if name.endswith("fake") else real(name))


def test_a_difference_is_a_miss_and_an_exit_code(monkeypatch, capsys, tmp_path):
    _fake(monkeypatch, Check("fake.x", "a/b", 1.0, 1.001), Check("fake.x", "a/c", 1.0, 1.0))
    assert main(["metrics", "parity", "--references", str(tmp_path)]) == ParityMissed.exit_code
    told = capsys.readouterr()
    assert "MISS" in told.out
    assert "fake.x a/b: 1.001 for 1.0" in told.err


def test_a_number_where_the_suite_has_none_is_a_miss():
    assert not Check("fake.x", "a", None, 0.0).agrees
    assert not Check("fake.x", "a", 0.0, None).agrees
    assert Check("fake.x", "a", None, None).agrees


def test_the_register_covers_by_pattern_and_shows_idle_lines():
    line = table.Accepted("fake.*", "a/*", "because the suite draws at random")
    wrong, right = Check("fake.x", "a/b", 1.0, 2.0), Check("fake.x", "c/b", 1.0, 1.0)
    (row,) = table.rows([wrong, right], [line])
    assert (row.verdict, row.n, row.n_accepted) == ("accepted", 2, 1)
    assert table.idle([right], [line]) == [line]


def test_an_unknown_suite_or_folder_is_refused(tmp_path):
    with pytest.raises(UnknownChoice, match="No suite 'x' is compared"):
        table.all_checks(References(tmp_path), ["x"])
    with pytest.raises(UnreadableFile, match="A file of official values cannot be read"):
        References(tmp_path).values("a.json")
    with pytest.raises(UnreadableFile, match="A reference input is missing"):
        References(tmp_path).comparison("noisy_truth")
