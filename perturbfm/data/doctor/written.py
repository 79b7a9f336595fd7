"""A proposal as a yaml: what a user would write, at most a line per key, with the reasons as comments above."""

from __future__ import annotations

import json
from typing import Any

from perturbfm.data.doctor.propose import UNKNOWN, Proposal
from perturbfm.data.file import name_of

_DEFAULTS: dict[str, Any] = {"batch_column": None, "controls": "cells", "unit": "cells"}
_ORDER = (
    "name", "path", "layer", "scale", "target_sum", "size_column", "pert_column", "control_labels", "delimiter",
    "context_column", "context", "batch_column", "match", "mode", "mode_column", "mode_values",
)  # fmt: skip


def yaml_of(proposal: Proposal, about: str) -> str:
    """The text of `conf/data/<name>.yaml`."""
    keys = {k: v for k, v in proposal.keys.items() if k not in _DEFAULTS or _DEFAULTS[k] != v}
    if keys["name"] == name_of(str(keys["path"])):
        del keys["name"]  # the loader names a data set after its file
    order = [*(k for k in _ORDER if k in keys), *(k for k in keys if k not in _ORDER)]
    pairs = [(k, keys[k]) for k in order]
    head = [f"# {about}", "# Proposed by `perturbfm doctor`; every line is yours to check:"]
    head += [f"#   {k}: {proposal.reasons[k]}" for k, _ in pairs if k in proposal.reasons]
    return "\n".join([*head, "defaults: [file]", *(f"{k}: {_written(v)}" for k, v in pairs)]) + "\n"


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str) and value == UNKNOWN:
        return "null   # fill in"  # `???` would leave the template's default in force; null is refused
    if isinstance(value, list):
        return f"[{', '.join(_written(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_written(k)}: {_written(v)}' for k, v in value.items())}}}"
    if isinstance(value, str):
        return _interpolated(json.dumps(value, ensure_ascii=False))
    return json.dumps(value)


def _interpolated(text: str) -> str:
    """A `${` in a name is no interpolation."""
    return text.replace("${", "\\\\${")
