"""Does the page say everything, plainly and safely?"""

from __future__ import annotations

import copy
import html
import re

import pandas as pd
import pytest

from perturbfm.eval.panel import FULL
from perturbfm.eval.report import render
from perturbfm.eval.report.axis import axis_for
from perturbfm.eval.report.suites import suites_of
from perturbfm.eval.report.words import EV, number, percent

EV_ID = next(i for i in FULL.identifiers if i.startswith(EV))
COVERAGE = next(i for i in FULL.identifiers if i.startswith("coverage[level=0.9,") and "added" in i)
FLOORS = {"no_change": 0.0, "train_mean": 0.3, "source_delta": 0.33}


def entry(metric, value: float, n: int) -> dict:
    return {
        "better": metric.better,
        "meaning": metric.meaning,
        "aliases": list(metric.aliases),
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
        "dynamic_range": {i: {"status": "ok", "value": 0.8, "flagged": False, "reason": ""} for i in FULL.identifiers},
        "separation": separation(n),
        "risk": {"scores": {s: risk_of(n, s) for s in ("mean_var", "mean_var_over_control_var")}},
        "reliability": {noise: reliability_of(noise) for noise in ("added", "ignored")},
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
        "deltas": deltas(),
    }


def separation(n: int) -> dict:
    """Uncertainty on one axis, and on the union of axes."""
    auroc = {"status": "ok", "reason": ""}
    both = {"n_in": 4, "n_out": n, "model": auroc | {"value": 0.81}, "control_variance": auroc | {"value": 0.62}}
    axis = both | {"identifier": "ood_auroc[axis=context,in=calibration]", "inside": "calibration"}
    axis |= {"raw_variance": auroc | {"value": 0.7}, "label_lookup": auroc | {"value": 0.73}}
    union = both | {"axis": "context", "identifier": "ood_auroc[axis=context]"}
    return union | {"context_lookup": auroc | {"value": 0.73}, "axes": {"context": axis}}


def risk_of(n: int, score: str) -> dict:
    """A risk-coverage curve of three points."""
    curve = {"coverage": [0.25, 0.5, 1.0], "risk": [0.2, 0.3, 0.4], "oracle": [0.1, 0.2, 0.4]}
    values = {"mean_risk": 0.4, "aurc": 0.3125, "aurc_oracle": 0.25, "e_aurc": 0.0625, "augrc": 0.1875, "spearman": 0.5}
    pooled = {"status": "ok", "reason": "", "n_scored": n, "n_total": n, **values, "curve": curve}
    return {"identifier": f"pfm.risk_coverage[uncertainty={score}]", "pooled": pooled, "per_context": {"C6": pooled}}


def reliability_of(noise: str) -> dict:
    """A line and a histogram."""
    level = [0.25, 0.5, 0.75]
    coverage = {"nominal": level, "observed": [0.3, 0.6, 0.8], "mace": 0.0667, "rmsce": 0.07}
    pit = {"status": "ok", "reason": "", "share": [0.4, 0.2, 0.2, 0.2], "reliability_index": 0.3}
    return {"status": "ok", "reason": "", "coverage": coverage, "pit": pit}


def deltas(n_genes: int = 4, gene: str = "G") -> dict:
    """Deltas of three conditions."""
    some = [round(1.0 / (k + 1), 4) for k in range(n_genes)]
    one = {
        "context": "C6",
        "value": 0.5,
        "n_rows": 60,
        "n_genes": 2000,
        "genes": [f"{gene}{k}" for k in range(n_genes)],
    }
    one |= {"truth": some, "predicted": [-v / 2 for v in some], "noise_sd": [0.1] * n_genes}
    ranks = ("best", "median", "worst")
    found = [one | {"rank": r, "intervention": f"P{k:04d}@knockdown"} for k, r in enumerate(ranks)]
    return {"metric": "pcc_delta[ref=control_split,genes=all]", "n_ranked": 12, "reason": "", "conditions": found}


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
        *("gate", "headline", "conditions", "deltas", "calibration", "collapse", "panel"),
        *("split", "audit", "provenance", "undefined"),
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
    run["metrics"]["metrics"][COVERAGE]["aliases"] = [bad]
    run["metrics"]["external"] = {"file": bad, "verdict": bad, "findings": [{"check": bad, "message": bad}]}
    run["deltas"] = deltas(4, bad)
    run["deltas"]["conditions"][0]["intervention"] = bad
    page = render(**run)
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;0: true 1.000, predicted −0.500" in page
    assert f"{html.escape(bad)}&#39;&#34;&amp;@knockdown" in page


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
    assert "all 1,000 conditions of model, " in page
    table = run["per_condition"]
    table.loc[table["intervention"] == "P0000@knockdown", ["value", "status", "reason"]] = [0.5, "ok", ""]
    assert "999 conditions of model, " in (page := render(**run))
    assert "and 979 more" in page


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
    run["metrics"]["separation"]["axes"]["context"]["model"] = {
        "value": None,
        "status": "undefined",
        "reason": "one class only",
    }
    run["metrics"]["dynamic_range"][COVERAGE] = {"value": None, "status": "undefined", "reason": "no best value"}
    run["metrics"]["risk"] = {"status": "not_applicable", "reason": "states no variance"}
    run["metrics"]["reliability"]["ignored"]["pit"] = {"status": "undefined", "reason": "an interval, no density"}
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
        "no best value",
        "states no variance",
        "an interval, no density",
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


PARTS = ["gate", "floors", "skill", "intervals", "separation", "run", "panel", "metrics", "dynamic_range", "risk"]


@pytest.mark.parametrize("part", [*PARTS, "reliability"])
@pytest.mark.parametrize("empty", [None, {}])
def test_survives_missing_parts(part, empty):
    run = example()
    run["metrics"][part] = empty
    assert "</html>" in render(**run)


def test_survives_nothing_at_all():
    page = render({}, pd.DataFrame(), {}, {}, {}, None)
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


# --- what is folded away ---------------------------------------------------------------------------------


def section_of(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.S)
    assert found
    return found[0]


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_headline_is_open_and_the_rest_is_folded():
    page = render(**example())
    folded = re.findall(r'<section id="(\w+)"><details class="fold">', page)
    assert folded == ["conditions", "deltas", "calibration", "collapse", "panel", "split", "audit", *folded[-2:]]
    assert folded[-2:] == ["provenance", "undefined"]
    for name in ("gate", "headline"):
        assert f'<section id="{name}">\n<h2>' in page
    assert page.count("<details") == page.count("</details>")
    assert "beforeprint" in page
    assert "details::details-content" in page


def test_numbers_of_every_metric_are_those_of_the_metrics():
    run = example()
    for k, i in enumerate(FULL.identifiers):
        run["metrics"]["metrics"][i]["value"] = 0.1 + 0.00317 * k
        run["metrics"]["floors"]["train_mean"][i]["value"] = -0.2 - 0.00519 * k
    rows = section_of(render(**run), "panel").split("<tr data-metric=")[1:]
    shown = {
        html.unescape(r.split('"')[1]): [text_of(c) for c in re.findall(r"<td[^>]*>(.*?)</td>", r, re.S)] for r in rows
    }
    assert set(shown) == set(FULL.identifiers)
    at = [*re.findall(r'<th class="n">(.*?)</th>', section_of(render(**run), "panel"))].index("train mean")
    for i, cells in shown.items():
        assert cells[1] == number(run["metrics"]["metrics"][i]["value"])
        assert cells[1 + at] == number(run["metrics"]["floors"]["train_mean"][i]["value"])


def test_metrics_stand_under_the_suites_that_publish_them():
    section = section_of(render(**example()), "panel")
    names = [s.partition(":")[0] for s in re.findall(r"<summary>(.*?)</summary>", section)]
    for suite in ("PerturbFM", "scPerturBench", "PerturBench", "Systema", "Ahlmann-Eltze", "Shift", "Uncertainty"):
        assert suite in names
    assert suites_of("mse[space=mean,genes=all]", ["systema.mse_all", "shift.mse"]) == ["Systema", "Shift"]
    assert suites_of("x", ["perturbench_v1.x"]) == ["PerturBench"]
    assert suites_of("x", ["scperturbench_ott0.x"]) == ["scPerturBench"]
    assert suites_of("crps_draws[a]", ["scoringrules_0.10.0.crps"]) == ["Uncertainty"]
    assert suites_of("pfm.ev[a]", []) == ["PerturbFM"]
    assert "systema.corr_all_allpert" in section


def test_low_dynamic_range_is_flagged_wherever_the_metric_is_printed():
    run = example()
    assert "low range" not in section_of(render(**run), "headline")
    why = "dynamic range 0.10 is under 0.3"
    run["metrics"]["dynamic_range"][EV_ID] = {"status": "ok", "value": 0.1, "flagged": True, "reason": why}
    page = render(**run)
    assert "⚑ low range" in section_of(page, "headline")
    assert "in Explained variance (EV)." in text_of(section_of(page, "headline"))
    assert "EV ⚑" in section_of(page, "conditions")
    assert section_of(page, "panel").count(f'title="{why}"') == 1


def test_conditions_can_be_sorted_by_keyboard_and_filtered():
    section = section_of(render(**example()), "conditions")
    heads = re.findall(r'<th[^>]*aria-sort="(\w+)"[^>]*><button type="button">(.*?)</button></th>', section)
    assert [text for _, text in heads[:4]] == ["Context", "Perturbation", "Cells", "EV"]
    assert [order for order, text in heads if order != "none"] == ["ascending"]
    assert {text: order for order, text in heads}["EV"] == "ascending"
    assert len(heads) == section.count("<th aria") + section.count('<th class="n" aria')
    assert '<input type="search"' in section


def test_the_model_is_beaten_by_floors_only_never_by_what_is_made_of_the_truth():
    run = example()
    run["metrics"]["floors"]["interpolated"] = copy.deepcopy(run["metrics"]["floors"]["replicate"])
    for e in run["metrics"]["floors"]["interpolated"].values():
        e["value"] = 5.0
    said = verdict_of(render(**run))
    assert "interpolated" not in said


def test_a_value_that_rests_on_few_conditions_says_so():
    run = example()
    assert "Rests on" not in render(**run)
    run["metrics"]["metrics"][EV_ID]["n_scored"] = 2
    assert "Rests on 2 of 12 conditions" in render(**run)


def test_genes_are_drawn_with_what_ranked_the_conditions():
    section = section_of(render(**example()), "deltas")
    assert section.count("<figure") == 3
    assert "by the correlation of predicted and true change from control" in section
    assert section.count("<title>G0: true 1.000, predicted −0.500</title>") == 3
    assert "4 of 2000 genes" in section
    assert "No condition can be drawn: the deltas were not handed" in section_of(
        render(**example() | {"deltas": None}), "deltas"
    )


def test_uncertainty_has_its_curves_and_its_blind_scores():
    section = section_of(render(**example()), "calibration")
    for number_shown in ("0.3125", "0.0625", "0.1875", "0.2500"):
        assert f">{number_shown}<" in section
    assert section.count("<polyline") == 2 + 3
    assert section.count('<svg class="pit') == 2
    cells = [">0.810<", ">0.700<", ">0.620<", ">0.730<"]
    assert [c for c in cells if c in section] == cells
    assert "The model is less certain where the context is new." in section
    assert "But " not in section
    run = example()
    run["metrics"]["separation"]["axes"]["context"]["label_lookup"]["value"] = 1.0
    assert "But a look-up of the label, which knows nothing of the model, separates as well." in render(**run)


def test_a_prediction_without_variance_says_so_instead_of_curves():
    run = example()
    for part in ("risk", "reliability"):
        run["metrics"][part] = {"status": "not_applicable", "reason": "the prediction states no variance"}
    section = section_of(render(**run), "calibration")
    assert "No reliability diagram and no PIT histogram: the prediction states no variance." in section
    assert "No risk-coverage curve: the prediction states no variance." in section
    assert "<polyline" not in section


def test_collapse_is_told_beside_the_truth():
    run = example()
    ratio, mine, truth = (
        next(i for i in FULL.identifiers if i.startswith(start))
        for start in ("pfm.variance_ratio", "pfm.pairwise_cosine[of=predicted", "pfm.pairwise_cosine[of=truth")
    )
    for i, v in ((ratio, 0.05), (mine, 0.991), (truth, 0.123)):
        run["metrics"]["metrics"][i]["value"] = v
    section = section_of(render(**run), "collapse")
    assert "The model says almost the same of every perturbation" in section
    assert '<td class="n first">0.991</td><td class="n">0.123</td>' in section
    assert "truth 0.123" in section


def test_another_tools_audit_has_its_own_section():
    run = example()
    assert 'id="external"' not in render(**run)
    found = {"check": "scale_differs", "verdict": "warn", "message": "looks like counts"}
    run["metrics"]["external"] = {"file": "p.h5ad", "form": "cells", "sha256": "ef" * 32, "verdict": "warn"}
    run["metrics"]["external"] |= {"findings": [found], "variance": "none", "calibration_fold": "none", "batches": "b"}
    section = section_of(render(**run), "external")
    assert "<th>scale differs</th>" in section
    assert "looks like counts" in section
    assert "ef" * 32 in section


def crowd(n: int) -> dict:
    """A run of many conditions with every floor, where much has no value for ever other reasons."""
    run = example(n, [f"GENE{k:04d}+OTHERGENE{k:04d}@knockdown" for k in range(n)])
    more = ("additive", "matching_mean", "interpolated")
    run["metrics"]["floors"] |= {f: copy.deepcopy(run["metrics"]["floors"]["train_mean"]) for f in more}
    tables = [run["per_condition"]]
    model = tables[0][tables[0]["predictor"] == "model"]
    tables += [model.assign(predictor=f) for f in more]
    table = pd.concat(tables, ignore_index=True)
    lost = (table.index % 7 == 0) | (table.index % 11 == 3)
    reasons = pd.Series([f"only {k % 9} significant genes of {k % 31}" for k in range(len(table))])
    table["reason"] = table["reason"].where(~lost, reasons)
    table["status"] = table["status"].where(~lost, "undefined")
    table["value"] = table["value"].where(~lost)
    run["per_condition"], run["deltas"] = table, deltas(300, "ENSG00000")
    return run


def test_a_crowded_run_stays_small_and_drops_no_reason():
    run = crowd(200)
    page = render(**run)
    assert len(page.encode()) < 2_000_000
    below = section_of(page, "undefined")
    for reason in set(run["per_condition"]["reason"]) - {""}:
        assert f"<h3>{reason}</h3>" in below


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
