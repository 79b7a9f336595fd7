"""Does the page say everything, plainly and safely?"""

from __future__ import annotations

import copy
import html
import re

import pandas as pd
import pytest

from perturbfm.eval.panel import FULL
from perturbfm.eval.report import render
from perturbfm.eval.report.picture import axis_for
from perturbfm.eval.report.words import EV, number, percent

EV_ID = next(i for i in FULL.identifiers if i.startswith(EV))
COVERAGE = next(i for i in FULL.identifiers if i.startswith("coverage[level=0.9,") and "added" in i)
FLOORS = {"no_change": 0.0, "train_mean": 0.3, "source_delta": 0.33}


def entry(metric, value: float, n: int) -> dict:
    return {
        "better": metric.better,
        "meaning": metric.meaning,
        "lead": metric.lead,
        "status": "ok",
        "reason": "",
        "value": value,
        "strict": None,
        "n_scored": n,
        "n_total": n,
        "aggregates": {"per_context": {"C6": value}, "macro_context": value, "micro": value, "cell_weighted": value},
        "unscored": {},
    }


def example(n: int = 12, names: list[str] | None = None) -> dict:
    """Arguments of `render` for a powered run."""
    names = names or [f"P{k:04d}@knockdown" for k in range(n)]
    values = {m.identifier: 0.35 + 0.01 * k for k, m in enumerate(FULL.metrics)} | {EV_ID: 0.35, COVERAGE: 0.91}
    halves = {"status": "ok", "reason": "", "value": 0.12, "n_scored": n, "n_total": n}
    gate = {
        "verdict": "powered",
        "reason": "differ",
        "p": 0.002,
        "p_without_strongest": 0.004,
        "s_split": 3.1,
        "s_dc": 1.0,
    }
    metrics = {
        "schema": "perturbfm.metrics/2",
        "panel": {"name": "full", "version": "1", "comparable": True, "metrics": list(FULL.identifiers)},
        "gate": {"C6": {**gate, "n_conditions": n, "n_detectable": n - 1, "n_eff": 7.5}},
        "metrics": {m.identifier: entry(m, values[m.identifier], n) for m in FULL.metrics},
        "floors": {
            **{f: {m.identifier: entry(m, v, n) for m in FULL.metrics} for f, v in FLOORS.items()},
            **{f: {i: dict(halves) for i in FULL.identifiers} for f in ("replicate", "random_other")},
        },
        "skill": {EV_ID: {"value": None, "reason": "replicate does not beat the train mean"}},
        "intervals": {
            "rule": "two_way_bootstrap",
            "level": 0.95,
            "reason": "",
            "metrics": {EV_ID: {"low": 0.31, "high": 0.42, "se": 0.03, "n_draws": 1000}},
        },
        "separation": {
            "axis": "context",
            "identifier": "ood_auroc[axis=context]",
            "n_in": 4,
            "n_out": n,
            **{
                k: {"value": 0.8, "status": "ok", "reason": ""} for k in ("model", "control_variance", "context_lookup")
            },
        },
        "run": {"split_hash": "ab" * 32, "fingerprint": "cd" * 32, "data": "toy", "model": "ridge", "ablation": "none"}
        | {"config_hash": "ef" * 32, "seed": 0, "fold": "test", "scale": "log1p"},
    }
    calibration = {"method": "scale", "factor": 1.1, "obs_share": 0.4, "learned_in": ["C1"], "measured_in": ["C6"]}
    return {
        "metrics": metrics,
        "per_condition": conditions(metrics, names),
        "calibration": calibration
        | {"learned_on": "calib", "note": "", "at_bound": False, "floors": {"no_change": 0.9}},
        "manifest": {"run_id": "r1", "command_line": "run.py", "packages": {"numpy": "2.0"}, "test_openings": 3},
        "split_card": {
            "rule": "context_ood",
            "params": {"holdout": "C6"},
            "counts": {"test": 60},
            "ood_axes": ["context"],
        },
    }


def conditions(metrics: dict, names: list[str]) -> pd.DataFrame:
    """The table per condition, value rising with the row."""
    rows = [
        (p, i, "C6", c, 60, 0.001 * k, "ok", "")
        for p in ("model", *FLOORS)
        for i in metrics["panel"]["metrics"]
        for k, c in enumerate(names)
    ]
    columns = ["predictor", "metric", "context", "intervention", "n_rows", "value", "status", "reason"]
    return pd.DataFrame(rows, columns=columns)


def verdict_of(page: str) -> str:
    found = re.search(r'<div class="verdict"><p>(.*?)</p>', page, re.S)
    assert found
    return found.group(1).replace("\u00a0", " ")


def test_holds_every_identifier_and_section():
    page = render(**example())
    for i in FULL.identifiers:
        assert html.escape(i) in page
    for section in (
        "gate",
        "headline",
        "panel",
        "calibration",
        "conditions",
        "split",
        "audit",
        "provenance",
        "undefined",
    ):
        assert f'<section id="{section}">' in page
    assert "opened 3 times" in page
    assert "ab" * 32 in page
    assert "not run from a git checkout" in page


def test_tells_a_powered_run_in_words():
    said = verdict_of(render(**example()))
    assert said.startswith("C6 carries measurable signal (powered): of 12 conditions, 11 differ")
    assert "explains 35 % of the true effect beyond noise (95 % interval 31 % to 42 %)" in said
    assert "train mean 30 %" in said
    assert "lies inside the model&#39;s interval" in said
    assert "explains 12 %" in said
    assert "hold 91.0 % of the true mean changes: near their level" in said


def test_says_when_floors_are_as_good():
    run = example()
    run["metrics"]["floors"]["source_delta"] = copy.deepcopy(run["metrics"]["metrics"])
    assert "same value as the floor “source delta”" in verdict_of(render(**run))
    run = example()
    run["metrics"]["floors"]["train_mean"][EV_ID]["value"] = 0.6
    assert "does not do better than the best floor, train mean" in verdict_of(render(**run))


def test_weak_and_silent_contexts_come_first_and_forbid_ranking():
    run = example()
    gate = run["metrics"]["gate"]["C6"]
    run["metrics"]["gate"] |= {"A172": gate | {"verdict": "no_signal"}, "T98G": gate | {"verdict": "weak"}}
    said = verdict_of(render(**run))
    assert said.startswith("A172 carries no measurable signal")
    assert said.index("T98G carries only weak signal") < said.index("C6 carries measurable signal")
    assert "no ranking of models" in said
    assert "floor" not in said


def test_untestable_gate_is_not_called_signal():
    run = example()
    run["metrics"]["gate"]["C6"] |= {"verdict": "unknown", "p": None, "reason": "not testable"}
    assert verdict_of(render(**run)).startswith("Whether C6 carries signal could not be tested")


def test_banner_only_where_runs_may_not_be_compared():
    run = example()
    assert "Not comparable" not in render(**run)
    run["metrics"]["panel"] |= {"name": "quick", "comparable": False}
    assert "Not comparable" in render(**run)


def test_escapes_labels():
    bad = "<script>alert(1)</script>"
    run = example(1, [f"{bad}'\"&@knockdown"])
    run["metrics"]["run"] |= {"data": bad, "model": bad}
    run["metrics"]["gate"] = {bad: run["metrics"]["gate"]["C6"] | {"reason": bad}}
    run["manifest"] |= {"command_line": bad, "unknown_to_train": {"contexts": [bad]}}
    run["split_card"]["params"] = {bad: {bad: bad}}
    run["metrics"]["metrics"][EV_ID] |= {"status": "undefined", "value": None, "reason": bad}
    page = render(**run)
    assert "<script>alert" not in page
    assert page.count("<script>") == 1


def test_loads_nothing_from_anywhere():
    page = render(**example())
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"""(src|href)=["'](?!#|data:,)""", page)
    assert "default-src 'none'" in page


def test_many_conditions_stay_small_and_show_both_ends():
    page = render(**example(1000))
    assert len(page.encode()) < 2_000_000
    assert "Of 1,000 conditions the 250 with the lowest and the 250 with the highest EV" in page
    for shown in ("P0000@", "P0249@", "P0750@", "P0999@"):
        assert shown in page
    assert "P0500@" not in page


def test_many_conditions_without_any_value_stay_small():
    run = example(1000)
    run["per_condition"] = run["per_condition"].assign(value=float("nan"), status="undefined", reason="no signal " * 8)
    page = render(**run)
    assert len(page.encode()) < 2_000_000
    assert "1,000 conditions of model, " in page
    assert "and 980 more" in page


def test_gives_every_reason():
    run = example()
    run["metrics"]["metrics"][EV_ID] |= {
        "status": "undefined",
        "value": None,
        "reason": "denominator near zero",
        "aggregates": None,
    }
    run["metrics"]["floors"]["replicate"][EV_ID] |= {
        "status": "not_applicable",
        "value": None,
        "reason": "no cells to halve",
    }
    run["metrics"]["separation"]["model"] = {"value": None, "status": "undefined", "reason": "one class only"}
    table = run["per_condition"]
    first = (table["predictor"] == "model") & (table["metric"] == EV_ID) & (table["intervention"] == "P0003@knockdown")
    table.loc[first, ["value", "status", "reason"]] = [float("nan"), "undefined", "too few genes"]
    page = render(**run)
    assert "is undefined: denominator near zero" in verdict_of(page)
    below = page[page.index('<section id="undefined">') :]
    for reason in (
        "denominator near zero",
        "no cells to halve",
        "one class only",
        "too few genes",
        "replicate does not beat",
    ):
        assert reason in below
    assert "1 condition of model: P0003@knockdown" in below
    assert "not applicable" in below


def test_a_value_that_is_missing_without_a_reason_is_still_told():
    run = example()
    table = run["per_condition"]
    table.loc[(table["predictor"] == "model") & (table["intervention"] == "P0000@knockdown"), "value"] = float("nan")
    assert "no positive signal energy in this condition" in render(**run)


def test_same_inputs_same_bytes_and_inputs_are_left_alone():
    run = example()
    before = copy.deepcopy({k: v for k, v in run.items() if k != "per_condition"})
    assert render(**run) == render(**run)
    assert before == {k: v for k, v in run.items() if k != "per_condition"}


@pytest.mark.parametrize("part", ["gate", "floors", "skill", "intervals", "separation", "run", "panel", "metrics"])
@pytest.mark.parametrize("empty", [None, {}])
def test_survives_missing_parts(part, empty):
    run = example()
    run["metrics"][part] = empty
    assert "</html>" in render(**run)


def test_survives_nothing_at_all():
    page = render({}, pd.DataFrame(), {}, {}, {})
    assert "Not comparable" in page
    assert "</html>" in page


def _hollow(value):
    """Every leaf None."""
    return {k: _hollow(v) for k, v in value.items()} if isinstance(value, dict) else None


def test_survives_values_that_are_none():
    run = example()
    page = render(
        _hollow(run["metrics"]),
        run["per_condition"],
        _hollow(run["calibration"]),
        _hollow(run["manifest"]),
        _hollow(run["split_card"]),
    )
    assert "</html>" in page


def test_uninformative_coverage_is_flagged():
    run = example()
    share = next(i for i in FULL.identifiers if i.startswith("pfm.obs_share"))
    run["metrics"]["metrics"][share]["value"] = 0.8
    page = render(**run)
    assert "coverage is uninformative" in page
    assert "80 % of the predictive variance is measurement noise" in verdict_of(page)
    run["metrics"]["metrics"][share]["value"] = 0.2
    assert "coverage is uninformative" not in render(**run)


def test_sign_flip_stands_where_an_interval_cannot():
    run = example(9)
    flip = {EV_ID: {"sign_flip_p": 0.0039, "reason": "", "against": "train_mean"}}
    run["metrics"]["intervals"] = {"rule": "sign_flip", "level": None, "reason": "", "metrics": flip}
    assert "p = 0.004 against train mean" in render(**run)


def test_far_values_do_not_squash_the_picture():
    run = example()
    run["metrics"]["floors"]["train_mean"][EV_ID]["value"] = -130.0
    page = render(**run)
    assert "◀" in page
    assert "−130.000" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (-0.00001, "−1.00e−05"),
        (0.1234, "0.123"),
        (-2.0, "−2.000"),
        (1440, "1440"),
        (-0.0, "0.000"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_percent():
    assert percent(0.345).replace("\u00a0", " ") in ("34 %", "35 %")
    assert percent(None) == "–"


@pytest.mark.parametrize("values", [[], [0.0], [0.5, 0.5], [1e-9, 2e-9], [-3.0, 7.0], [1e6]])
def test_axes_hold_their_values(values):
    axis = axis_for(values)
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 8
    for v in values:
        assert axis.beyond(v) == ""
        assert 0 <= axis.at(v) <= 100


# --- preprocessing -------------------------------------------------------------------------------------


CARD = {
    "name": "gears",
    "learn_on": "train",
    "leaking": False,
    "stages": "gears (learned on train): Log1p()",
    "rows": 42,
}


def test_preprocessing_is_told():
    asked = example()
    assert "none in this run" in render(**asked)
    asked["metrics"]["run"]["preprocess"] = {**CARD, "rows_sha256": "ab" * 32}
    page = render(**asked)
    assert "gears (learned on train): Log1p()" in page
    assert "train rows and the input controls of their contexts (42 rows with SHA-256 abababababab)" in page
    assert "Preprocessing leaked" not in page


def test_preprocessing_that_leaked_is_shouted():
    asked = example()
    asked["metrics"]["run"]["preprocess"] = {**CARD, "rows_sha256": "ab" * 32, "leaking": True, "learn_on": "all"}
    page = render(**asked)
    assert "<b>Preprocessing leaked.</b>" in page
    assert "ALL CELLS (42 rows" in page


# --- the audit of the split ----------------------------------------------------------------------------


def finding(check, verdict, **more):
    return {
        "check": check,
        "verdict": verdict,
        "message": "Nothing found",
        "given": "",
        "expected": "",
        "fix": "",
    } | more


def audit_section(findings, verdict):
    run = example()
    run["manifest"]["audit"] = {"verdict": verdict, "findings": findings}
    return re.search(r'<section id="audit">.*?</section>', render(**run), re.S)[0]


def test_an_audit_that_passed_is_folded():
    section = audit_section([finding("mode_transfer", "pass"), finding("random_split", "pass")], "pass")
    assert "No check found a leak." in section
    assert "<details><summary>2 checks passed</summary>" in section
    assert "mode transfer: Nothing found" in section
    assert "<table>" not in section


def test_what_the_audit_warns_of_stands_open_with_its_fix_and_escaped():
    warned = finding(
        "axis_confounded_with_batch", "warn", message="<b>x</b>", given="a & b", expected="c", fix="Do <i>this</i>."
    )
    unmade = finding("prior_trained_on_test", "not_checked", message="nobody said", fix="Say it.")
    section = audit_section([warned, finding("mode_transfer", "pass"), unmade], "warn")
    shown = section.partition("<details>")[0]
    assert '<span class="chip warn">warn</span>' in shown
    assert "&lt;b&gt;x&lt;/b&gt;: given a &amp; b, expected c" in shown
    assert "Do &lt;i&gt;this&lt;/i&gt;." in shown
    assert "<th>prior trained on test</th>" in shown
    assert '<span class="chip not_checked">not checked</span>' in shown
    assert "1 check could not be made for want of evidence." in shown
    assert "mode transfer" not in shown


def test_a_refused_audit_forbids_its_numbers():
    section = audit_section([finding("controls_shared", "refuse", given="3 rows", expected="none")], "refuse")
    assert "the numbers of this run must not be used" in section
    assert '<span class="chip refuse">refuse</span>' in section


def test_a_run_without_an_audit_says_so():
    assert "No audit of the split is recorded." in render(**example())
