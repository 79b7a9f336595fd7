"""Does our EV of the source mean on Kang agree with the number the field protocol gives for it?

The protocol's 0.668 pools the 7 cell types (sum of numerators over sum of denominators) and averages the deltas of
all six others; a frozen split gives two of them to validation and calibration. Here all six are used.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from perturbfm.data import load
from perturbfm.eval.metric.explained import explained_variance
from perturbfm.eval.truth import Truth
from perturbfm.judging import observe
from perturbfm.split import Split

ROOT = Path(__file__).parents[2]


@pytest.mark.real
def test_source_mean_of_six_cell_types_explains_two_thirds(real_data, monkeypatch):
    monkeypatch.setenv("PERTURBFM_DATA", str(real_data))
    dataset = load("kang18_pbmc_scgen")
    labels, found = dataset.labels(), []
    for path in sorted((ROOT / "splits").glob("kang18_pbmc_scgen-*.json")):
        split = Split.from_json(path.read_text(), str(path))
        held_out = json.loads(path.read_text())["params"]["holdout"][0]
        deltas = []
        for context in sorted(set(labels.context_n) - {held_out}):
            mine = labels.context_n == context
            shown = split.input_control_idx[mine[split.input_control_idx]]
            treated = np.flatnonzero(mine & ~labels.is_control_n)
            deltas.append(dataset.dense(treated).mean(0) - dataset.dense(shown).mean(0))
        truth = Truth(observe(dataset, split, "test"))
        prediction = np.mean(deltas, axis=0, dtype=float)[None]
        stats = explained_variance(truth.case(prediction, np.ones_like(prediction), None, np.array(["weak"])))
        found.append((float(stats.num_c[0]), float(stats.den_c[0])))
    assert len(found) == 7
    numerator, denominator = np.sum(found, axis=0)
    assert numerator / denominator == pytest.approx(0.668, abs=0.02)
