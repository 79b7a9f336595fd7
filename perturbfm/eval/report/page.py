"""Placeholder of the page until its template stands."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd


def render(metrics: dict[str, Any], per_condition: pd.DataFrame, calibration: dict[str, Any], manifest: dict[str, Any], split_card: dict[str, Any]) -> str:
    """Render."""
    return "<html><body><pre>" + json.dumps(metrics, indent=1) + "</pre></body></html>"
