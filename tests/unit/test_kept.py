"""Is what was kept given back as it was, and never believed under another key or after an edit?"""

import json

import numpy as np
import pandas as pd
import pytest

from perturbfm import kept
from perturbfm.eval.case import OK, UNDEFINED, PerCondition
from perturbfm.eval.replicate import Halves
from perturbfm.eval.standing import Standing
from perturbfm.kept import KeptScores, KeptStanding, key_of
from perturbfm.types import Prediction


def _stats() -> PerCondition:
    words = np.array([OK, UNDEFINED], dtype=object), np.array(["", "no spread, too bad"], dtype=object)
    return PerCondition(np.array([1 / 3, np.nan]), np.array([1.0, np.nan]), *words)


def _standing() -> Standing:
    halves = Halves(2, 2, "", {"replicate": {"x": [1 / 3, None]}}, {"replicate": {"x": ""}}, {"x": float("nan")})
    table = pd.DataFrame({"predictor": ["NA", "b"], "value": [0.1 + 0.2, np.nan], "reason": ["", "no effect"]})
    return Standing(
        {"C": {"verdict": "weak"}}, {"C": "faint"}, {"no_change": {}}, halves, {"x": {"value": None}}, table
    )


def _prediction() -> Prediction:
    mean, query = np.array([[0.5, -1.0], [2.0, 0.0]], dtype=np.float32), np.array([0, 1, 1])
    return Prediction(mean, np.ones_like(mean), query, np.arange(3), ("a", "b"), "log1p", "test", "m", "h", "f")


def test_scores_come_back_bit_by_bit(tmp_path):
    store = KeptScores(tmp_path / "s", "key")
    assert store.get("m[a=1]") is None
    store.put("m[a=1]", _stats())
    store.flush()
    found = KeptScores(tmp_path / "s", "key").get("m[a=1]")
    for name in ("num_c", "den_c", "status_c", "reason_c"):
        np.testing.assert_array_equal(getattr(found, name), getattr(_stats(), name))
    assert store.get("m[a=2]") is None


def test_the_file_is_written_when_seconds_have_gone_by(tmp_path, monkeypatch):
    store = KeptScores(tmp_path / "s", "key")
    store.put("m", _stats())
    assert not store.path.exists()
    monkeypatch.setattr(kept, "WRITE_EVERY", -1.0)
    store.put("n", _stats())
    assert KeptScores(tmp_path / "s", "key").get("m") is not None


def test_scores_of_another_key_are_gone(tmp_path):
    store = KeptScores(tmp_path / "s", "key")
    store.put("m", _stats())
    store.flush()
    assert KeptScores(tmp_path / "s", "other").get("m") is None
    assert KeptScores(tmp_path / "s", "key").get("m") is None


def test_a_cut_file_of_scores_was_not_kept(tmp_path):
    store = KeptScores(tmp_path / "s", "key")
    store.put("m", _stats())
    store.flush()
    store.path.write_bytes(store.path.read_bytes()[:-40])
    assert KeptScores(tmp_path / "s", "key").get("m") is None
    store.drop()
    assert not (tmp_path / "s").exists()


def test_a_standing_comes_back_bit_by_bit(tmp_path):
    store = KeptStanding(tmp_path, "k" * 64)
    assert store.standing() is None
    store.keep(_standing())
    found = KeptStanding(tmp_path, "k" * 64).standing()
    assert found.to_plain() == _standing().to_plain()
    pd.testing.assert_frame_equal(found.table, _standing().table)


@pytest.mark.parametrize("name", ["standing.json", "table.csv.gz", "sealed.json"])
def test_an_edited_standing_was_not_kept(tmp_path, name):
    store = KeptStanding(tmp_path, "k" * 64)
    store.keep(_standing())
    path = store.path / name
    path.write_bytes(path.read_bytes().replace(b"weak", b"powe") + b" ")
    if name == "sealed.json":
        path.write_text("{}")
    assert store.standing() is None


def test_the_seal_of_another_key_does_not_count(tmp_path):
    store = KeptStanding(tmp_path, "k" * 64)
    store.keep(_standing())
    assert KeptStanding(tmp_path, "k" * 20 + "x" * 44).standing() is None


def test_floors_come_back_and_a_lost_file_loses_them(tmp_path):
    store = KeptStanding(tmp_path, "k" * 64)
    assert store.floors() is None
    store.keep_floors({"no_change": {"test": _prediction()}})
    found = store.floors()["no_change"]["test"]
    np.testing.assert_array_equal(found.mean_ng(), _prediction().mean_ng())
    (store.path / "no_change.test.npz").unlink()
    assert store.floors() is None


def test_the_key_knows_facts_and_code(monkeypatch):
    first = key_of({"split": "a"})
    assert first == key_of({"split": "a"})
    assert first != key_of({"split": "b"})
    monkeypatch.setattr(kept, "code_digest", lambda: "other code")
    assert first != key_of({"split": "a"})


def test_the_code_digest_reads_what_computes_a_score():
    assert all((kept.Path(kept.__file__).parent / name).exists() for name in kept.COMPUTES)
    assert json.dumps(kept.code_digest())
