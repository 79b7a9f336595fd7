"""Does an evaluation that breaks lose nothing, and does `perturbfm eval` go on from there?"""

import json
from dataclasses import replace
from functools import partial

import pytest

from perturbfm import judging, run_experiment
from perturbfm.cli.evaluate import judge_again
from perturbfm.errors import MetricFailed
from perturbfm.eval.panel import FULL, Panel

SMALL = Panel("full", "2", True, tuple(m for m in FULL.metrics if not m.on_cells))
BROKEN = SMALL.metrics[-1].identifier


def counted(counts, breaks, metric, case):
    """The metric of a line, counting how often it is asked, and breaking where it is told to."""
    counts[metric.identifier] = counts.get(metric.identifier, 0) + 1
    if breaks and metric.identifier == BROKEN:
        raise ZeroDivisionError("a metric that breaks")
    return metric.function(case)


def panel(counts, breaks):
    lines = (replace(m, function=partial(counted, counts, breaks, m)) for m in SMALL.metrics)
    return replace(SMALL, metrics=tuple(lines))


def test_a_metric_that_breaks_ends_the_run_and_eval_finishes_it_without_asking_the_others_again(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "panel_named", lambda _name: panel({}, True))
    with pytest.raises(MetricFailed, match="a metric that breaks"):
        run_experiment(["model=no_change", "eval.bootstrap_draws=100", "eval.permutations=100"])
    (folder,) = (p.parent for p in (tmp_path / "outputs").glob("*/manifest.json"))
    assert json.loads((folder / "manifest.json").read_text())["status"] == "failed"
    assert not (folder / "metrics.json").exists()
    assert (folder / "predictions.npz").is_file()

    counts: dict[str, int] = {}
    monkeypatch.setattr(judging, "panel_named", lambda _name: panel(counts, False))
    metrics, outcome = judge_again(folder)
    assert outcome == "metrics.json was missing and has been written."
    assert metrics["metrics"][BROKEN]["status"] in ("ok", "undefined", "not_applicable")
    floor = next(iter((tmp_path / "outputs" / "standing").glob("*/sealed.json"))).parent
    assert not (floor / "scores").exists()
    once = [i for i, n in counts.items() if n < counts[BROKEN]]
    assert once, "what the first floor had scored was kept"

    counts.clear()
    _, outcome = judge_again(folder)
    assert outcome.startswith("Identical to the stored metrics.json")
    assert counts[BROKEN] < 10, "floors and replicate are kept, so only the model is scored"
