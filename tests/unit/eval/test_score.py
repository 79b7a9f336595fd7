"""Is each metric by itself: one that fails loses nothing, and what was scored is not scored again?"""

import pytest

from perturbfm.errors import BadValue, MetricFailed
from perturbfm.eval.case import plain
from perturbfm.eval.panel import Metric, Panel, on_cells, score
from perturbfm.eval.panel.metric import HIGHER, LOWER, TARGET, OnCells


class Shelf(dict):
    """Keeps in memory."""

    def put(self, identifier, stats):
        self[identifier] = stats

    def flush(self):
        self.flushed = True


class Asked:
    """A metric that counts how often it is asked."""

    def __init__(self, value):
        self.value, self.times = value, 0

    def __call__(self, case):
        self.times += 1
        if isinstance(self.value, Exception):
            raise self.value
        return plain([self.value])


def _panel(*functions):
    return Panel("p", "1", False, tuple(Metric(f"m{i}", f, HIGHER, "") for i, f in enumerate(functions)))


def test_one_that_fails_is_named_and_the_others_are_kept():
    good, bad, shelf = Asked(1.0), Asked(ZeroDivisionError("no")), Shelf()
    with pytest.raises(MetricFailed, match=r"1 of 3 metrics failed.*m1: ZeroDivisionError: no"):
        score(_panel(good, bad, Asked(2.0)), None, shelf)
    assert sorted(shelf) == ["m0", "m2"]
    assert shelf.flushed


def test_what_was_kept_is_not_asked_again():
    good, mended, shelf = Asked(1.0), Asked(3.0), Shelf()
    shelf.put("m0", plain([7.0]))
    found = score(_panel(good, mended), None, shelf)
    assert (good.times, mended.times) == (0, 1)
    assert found["m0"].value_c.tolist() == [7.0]


def test_an_error_with_a_name_keeps_it():
    with pytest.raises(BadValue, match="A level"):
        score(_panel(Asked(BadValue("A level", given=1, expected=2, fix="x"))), None)


def test_the_best_value_follows_the_direction_where_there_is_one():
    kinds = [(HIGHER, False, 1.0), (LOWER, False, 0.0), (LOWER, True, None), (TARGET, False, None)]
    assert [Metric("m", None, b, "", unbounded=u).best for b, u, _ in kinds] == [k[2] for k in kinds]


def test_metrics_that_compare_cells_can_be_told_apart():
    panel = Panel("p", "1", False, (Metric("a", OnCells(None), LOWER, ""), Metric("b", None, LOWER, "")))
    assert (on_cells(panel, True).identifiers, on_cells(panel, False).identifiers) == (("a",), ("b",))
