"""PerturbFM: predict how cells answer a perturbation, with numbers that cannot be wrong in the usual ways.

data -> split -> model -> train -> calibrate -> eval, one room per step, no way back.

Comes in: a data set and a frozen split, by name. Goes out: `perturbfm.run_experiment([...])`, a scored, calibrated,
    documented run; `perturbfm.data.load(...)`, a checked data set. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbfm import data
    from perturbfm.judging import RunResult
    from perturbfm.run import run_experiment

__version__ = "0.1.0"
__all__ = ["RunResult", "data", "run_experiment"]
_HOME = {"RunResult": "perturbfm.judging", "run_experiment": "perturbfm.run"}


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "data":
        return import_module("perturbfm.data")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
