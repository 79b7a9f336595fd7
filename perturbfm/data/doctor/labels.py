"""Labels of a file that is too large to read whole: all that split rules need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data.check import check_labels
from perturbfm.data.declaration import Declaration
from perturbfm.data.doctor.examine import Examination
from perturbfm.data.file import SUBTRACT, match_of
from perturbfm.data.label import LabelRules
from perturbfm.data.obs_map import ObsMap, label_rows
from perturbfm.data.several import FILE_NAME
from perturbfm.types import Labels

UNREAD = "unread"
"""Fingerprint of labels whose matrix was not read: no split can be frozen on them."""


def labels_of(found: Examination) -> Labels:
    """Labels under the proposal, from the table of cells alone.

    Raises:
        MissingLabel, ControlLabelAbsent, ...: What the loader would refuse of the table.
    """
    k = found.proposal.keys
    rules = LabelRules(
        [str(v) for v in k.get("control_labels", ["control"])],
        k.get("delimiter"),
        bool(k.get("drop_control_parts", False)),
        k.get("guide_pattern"),
        k.get("aliases", {}),
    )
    table, _, _ = label_rows(found.survey.obs, _map(k, rules))
    subtracted = k.get("controls") == SUBTRACT
    controls = "cells" if subtracted else k.get("controls", "cells")
    declared = Declaration(str(k["name"]), "log1p", controls=controls, delimiter=k.get("delimiter"))
    check_labels(table, declared, needs_controls=True)
    if subtracted:
        return _labels(table[~table["is_control"]], {**k, "controls": "baked_in"})
    return _labels(table, k)


def _map(k: dict[str, Any], rules: LabelRules) -> ObsMap:
    return ObsMap(
        k["pert_column"],
        FILE_NAME if k.get("file_context") else k.get("context_column"),
        k.get("batch_column"),
        rules,
        context=k.get("context") or str(k["name"]),
        mode=k.get("mode"),
        mode_column=k.get("mode_column"),
        mode_values=k.get("mode_values"),
        covariates=k.get("covariates", ()),
        guide_column=k.get("guide_column"),
        drop_missing=bool(k.get("drop_missing", False)),
        missing_labels=k.get("missing_labels", ()),
        keep=k.get("keep", {}),
        drop=k.get("drop", {}),
        dose_column=k.get("dose_column"),
        missing_doses=k.get("missing_doses", ()),
        dose_delimiter=k.get("dose_delimiter"),
        dose_pattern=k.get("dose_pattern"),
        time_column=k.get("time_column"),
        time_pattern=k.get("time_pattern"),
    )


def _labels(table: pd.DataFrame, k: dict[str, Any]) -> Labels:
    text = {c: table[c].to_numpy(dtype=object) for c in ("pert_id", "context_id", "batch_id", "mode")}
    own = {*text, "is_control", "dose", "time"}
    return Labels(
        cell_n=table.index.to_numpy(dtype=object),
        pert_n=text["pert_id"],
        context_n=text["context_id"],
        batch_n=text["batch_id"],
        mode_n=text["mode"],
        is_control_n=table["is_control"].to_numpy(dtype=bool),
        fingerprint=UNREAD,
        data_name=str(k["name"]),
        unit=k.get("unit", "cells"),
        controls=k.get("controls", "cells"),
        delimiter=k.get("delimiter"),
        match="context" if match_of(k.get("match"), k.get("batch_column")) == "context" else "context_batch",
        dose_n=table["dose"].to_numpy(dtype=object) if "dose" in table else None,
        time_n=table["time"].to_numpy(dtype=object) if "time" in table else None,
        covariates={str(c): np.asarray(table[c], dtype=object) for c in table.columns if c not in own},
    )
