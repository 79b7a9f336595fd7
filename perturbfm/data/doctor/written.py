"""A proposal as a yaml: what a user would write, at most a line per key, with the reasons as comments above."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import yaml

from perturbfm import places
from perturbfm.data.doctor.propose import UNKNOWN, Proposal
from perturbfm.data.file import name_of

MOST_LINES = 10
"""Lines of a yaml, beyond which what a template says already is left to it."""

_LEFT = object()
"""Marks a key that is left to the template."""

_DEFAULTS: dict[str, Any] = {"batch_column": None, "controls": "cells", "unit": "cells"}
_ORDER = (
    "name", "path", "layer", "scale", "target_sum", "size_column", "pert_column", "control_labels", "delimiter",
    "context_column", "context", "batch_column", "match", "mode", "mode_column", "mode_values",
)  # fmt: skip


def yaml_of(proposal: Proposal, about: str) -> str:
    """The text of `conf/data/<name>.yaml`."""
    keys = {k: v for k, v in proposal.keys.items() if k not in _DEFAULTS or _DEFAULTS[k] != v}
    if keys["name"] == name_of(keys["path"]):
        del keys["name"]  # the loader names a data set after its file
    template, left = ("file", {}) if len(keys) < MOST_LINES else _shortest(keys)
    keys = {k: v for k, v in {**keys, **left}.items() if k not in left or left[k] is not _LEFT}
    order = [*(k for k in _ORDER if k in keys), *(k for k in keys if k not in _ORDER)]
    told = [k for k in [*order, *(k for k in left if k not in keys)] if k in proposal.reasons]
    head = [f"# {about}", "# Proposed by `perturbfm doctor`; every line is yours to check:"]
    head += [f"#   {k}: {proposal.reasons[k]}{'' if k in keys else f' ({template}.yaml says it)'}" for k in told]
    return "\n".join([*head, f"defaults: [{template}]", *(f"{k}: {_written(keys[k])}" for k in order)]) + "\n"


def _shortest(keys: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The template under which the fewest lines are left, and what it changes: keys left to it, and set back."""
    best: tuple[str, dict[str, Any]] = ("file", {})
    for name, says in _templates().items():
        back = {k: _file()[k] for k, v in says.items() if k not in keys and v != _file()[k]}
        left = {k: _LEFT for k, v in keys.items() if k in _file() and v == says.get(k, _file()[k])}
        if len(left) - len(back) > sum(1 if v is _LEFT else -1 for v in best[1].values()):
            best = (name, {**left, **back})
    return best


@cache
def _file() -> dict[str, Any]:
    """Every key of the loader with what it is where nothing is said."""
    says: dict[str, Any] = yaml.safe_load((places.conf_dir() / "data" / "file.yaml").read_text(encoding="utf-8"))
    return {k: v for k, v in says.items() if k not in ("defaults", "_target_")}


@cache
def _templates() -> dict[str, dict[str, Any]]:
    """What the templates say beside the general one; yamls of data sets name a path and are none."""
    found: dict[str, dict[str, Any]] = {"file": {}}
    for path in sorted((places.conf_dir() / "data").glob("*.yaml")):
        says = yaml.safe_load(path.read_text(encoding="utf-8"))
        if says.pop("defaults", None) == ["file", "_self_"] and "path" not in says:
            found[path.stem] = says
    return found


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
