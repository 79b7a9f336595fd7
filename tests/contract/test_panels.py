"""Does the configuration know exactly the panels there are, and does each line of a panel hold together?"""

import pytest

from perturbfm.config import PANEL_NAMES
from perturbfm.errors import UnknownChoice
from perturbfm.eval.panel import PANELS, panel_named
from perturbfm.eval.panel.metric import HIGHER, LOWER, NONE, TARGET


def test_config_names_every_panel():
    assert tuple(p.name for p in PANELS) == PANEL_NAMES
    assert [panel_named(n).name for n in PANEL_NAMES] == list(PANEL_NAMES)


def test_unknown_panel_is_refused_with_the_nearest():
    with pytest.raises(UnknownChoice, match="Unknown panel 'ful'.*Did you mean full"):
        panel_named("ful")


@pytest.mark.parametrize("panel", PANELS, ids=[p.name for p in PANELS])
def test_identifiers_are_unique_and_carry_their_choices(panel):
    assert len(set(panel.identifiers)) == len(panel.metrics)
    for metric in panel.metrics:
        assert metric.better in (HIGHER, LOWER, TARGET, NONE)
        assert "[" in metric.identifier
        assert metric.meaning.endswith((".", "nothing."))
        assert metric.worst is None or metric.worst != metric.best


def test_only_the_full_panel_is_comparable():
    assert {p.name: p.comparable for p in PANELS} == {"full": True, "quick": False}
