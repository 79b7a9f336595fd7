"""How values, names, metrics and predictors are said."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NAMED = 20
"""How many names a list spells out."""
MODEL, REPLICATE, RANDOM_OTHER = "model", "replicate", "random_other"
INTERPOLATED = "interpolated"
HALVED = (RANDOM_OTHER, INTERPOLATED, REPLICATE)
"""Made of the judged cells themselves, so no floors that a model could be asked to beat."""
ORDER = (MODEL, "source_delta", "additive", "matching_mean", "train_mean", "no_change", *HALVED)
WORDS = {
    MODEL: "model",
    "source_delta": "source delta",
    "additive": "additive",
    "matching_mean": "matching mean",
    "train_mean": "train mean",
    "no_change": "no change",
    RANDOM_OTHER: "random other",
    INTERPOLATED: "interpolated",
    REPLICATE: "replicate",
}
WHAT = {
    "source_delta": "what the same perturbation did in other contexts",
    "additive": "the parts of a combination added up, shrunken",
    "matching_mean": "mean over train conditions that share a part with the perturbation",
    "train_mean": "the mean change over all perturbations of train",
    "no_change": "the cells stay as the controls are",
    RANDOM_OTHER: "half of the cells of another perturbation",
    INTERPOLATED: "the replicate where its genes are significant, the train mean elsewhere",
    REPLICATE: "half of the cells, judged against the other half; a noisy repeat of the experiment, no ceiling",
}
THIN = "\u00a0"
"""Keeps a number and its per cent sign on one line."""
EV, PCC, RETRIEVAL = "pfm.ev[", "pfm.pcc_delta[ref=panel", "pfm.retrieval["
COVERAGE_90 = "coverage[level=0.9,"
EDIST = "edist[ground=euclidean,stat=U"
SHARE = "pfm.obs_share["
TITLES = (
    (EV, "Explained variance (EV)"),
    (PCC, "Correlation, panel-centred"),
    (RETRIEVAL, "Retrieval, panel-centred"),
    ("pfm.de_direction[", "Direction of DE genes"),
    ("pfm.de_significance[", "Agreement on DE genes"),
    ("crps_gaussian[", "CRPS"),
    (COVERAGE_90, f"Coverage of the 90{THIN}% interval"),
    (SHARE, "Share of observation noise"),
    (EDIST, "Energy distance, own cells"),
)
BETTER = {"higher": "higher is better", "lower": "lower is better", "target": "", "none": ""}
STATUS = {"ok": "ok", "undefined": "undefined", "not_applicable": "not applicable"}
SHORT_STATUS = {"undefined": "undef.", "not_applicable": "n/a"}
VERDICTS = {"powered": "powered", "weak": "weak", "no_signal": "no signal", "unknown": "not testable"}
NO_ENERGY = "no positive signal energy in this condition alone: noise taken out, its true effect is not above zero"


@dataclass
class Notes:
    """Footnotes: each reason gets one number, in order of appearance."""

    words: list[str] = field(default_factory=list)

    def of(self, reason: str) -> int:
        """The number of a reason."""
        if reason not in self.words:
            self.words.append(reason)
        return self.words.index(reason) + 1


def real(value: Any) -> float | None:
    """A finite number, or None."""
    if value is None or isinstance(value, str | bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def number(value: Any, digits: int = 3) -> str:
    """A number for the eye: a dash for none, a true minus, exponents only for the very small and very large."""
    x = real(value)
    if x is None:
        return "–"
    if x != 0 and (abs(x) < 0.5 * 10**-digits or abs(x) >= 1e5):
        text = f"{x:.2e}"
    else:
        text = f"{x:.{digits}f}" if abs(x) < 1000 else f"{x:.0f}"
    return re.sub(r"^-(0\.?0*)$", r"\1", text).replace("-", "−")


def percent(value: Any) -> str:
    """A share in whole per cent."""
    x = real(value)
    return "–" if x is None else f"{number(100 * x, 0)}{THIN}%"


def shortened(names: Iterable[Any], most: int = NAMED) -> str:
    """Names in a row, and how many were left out."""
    known = [str(n) for n in names]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more


def names_or_dash(names: Any) -> str:
    """Names in a row, or a dash for none."""
    return shortened(names) if names else "–"


def plain(value: Any) -> str:
    """Any value of a manifest as text."""
    if value is None or value == "":
        return "–"
    if isinstance(value, list | tuple | set) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(str, sorted(value) if isinstance(value, set) else value)) or "none"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)


def word(name: str) -> str:
    """A predictor's name in words."""
    return WORDS.get(name, name.replace("_", " "))


def title(identifier: str) -> str:
    """A lead metric's name in words."""
    return next((t for start, t in TITLES if identifier.startswith(start)), identifier.split("[")[0])


def plural(n: int, thing: str) -> str:
    """A count and its noun."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
