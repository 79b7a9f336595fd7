"""Small labels with known answers, for the tests of the rules."""

import numpy as np

from perturbfm.split import FOLDS
from perturbfm.types import Labels


def labels_of(conditions, n_rows=4, n_controls=80, **changes):
    """Labels of some conditions, each a dict of `context`, `pert`, `mode`, `batch`, `dose`, `time`, `n` and covariates.

    Every (context, batch, covariates) that occurs gets `n_controls` controls.
    """
    plain = ("context", "pert", "mode", "batch", "dose", "time", "n")
    extra = sorted({key for c in conditions for key in c} - {*plain})
    rows, places = [], {}
    for c in conditions:
        full = {"context": "k", "mode": "knockdown", "batch": "b", "dose": "", "time": "", **c}
        places[(full["context"], full["batch"], *(full[key] for key in extra))] = full
        rows += [{**full, "control": False}] * c.get("n", n_rows)
    for full in places.values():
        rows += [{**full, "pert": "control", "dose": "", "time": "", "control": True}] * n_controls
    columns = {
        f"{key}_n": np.array([row[key] for row in rows], dtype=object) for key in ("pert", "context", "batch", "mode")
    }
    for key in ("dose", "time"):
        if any(key in c for c in conditions):
            columns[f"{key}_n"] = np.array([row[key] for row in rows], dtype=object)
    given = {
        **columns,
        "cell_n": np.array([f"cell{i}" for i in range(len(rows))], dtype=object),
        "is_control_n": np.array([row["control"] for row in rows]),
        "fingerprint": "f" * 64,
        "data_name": "toy",
        "delimiter": "+",
        "covariates": {key: np.array([row[key] for row in rows], dtype=object) for key in extra},
    }
    return Labels(**{**given, **changes})


def crossed(contexts, perts, **further):
    """Every perturbation in every context."""
    return [{"context": c, "pert": p, **further} for c in contexts for p in perts]


def conditions(labels, split):
    """Conditions of each fold."""
    return {name: set(labels.condition_n[split.fold(name)]) for name in FOLDS}


def perts(labels, rows):
    """Perturbation labels of some rows."""
    return set(labels.pert_n[rows])


def parts(labels, rows):
    """Parts of the perturbations of some rows."""
    return {part for pert in perts(labels, rows) for part in pert.split(labels.delimiter)}


def combination_axis(labels, split, row):
    """The axis of a held-out combination, counted cell by cell from what train has."""
    train = [(labels.context_n[i], labels.mode_n[i], set(labels.pert_n[i].split("+"))) for i in split.train_idx]
    context, mode, wanted = labels.context_n[row], labels.mode_n[row], labels.pert_n[row].split("+")
    places = {context} if context in {c for c, _, _ in train} else {c for c, _, _ in train}
    seen = [part for part in wanted if any(c in places and m == mode and p == {part} for c, m, p in train)]
    if len(seen) == len(wanted):
        return "combination_seen_2"
    if any(part in p for part in wanted if part not in seen for _, _, p in train):
        return "combination_mixed"
    return f"combination_seen_{min(len(seen), 1)}"


def check_books(labels, split):
    """Every row is used once or excluded for a reason."""
    n_used = sum(len(idx) for idx in split.indices().values())
    assert n_used + sum(split.params["excluded"].values()) == labels.n_obs
    assert min(split.params["excluded"].values()) >= 0
