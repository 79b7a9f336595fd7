"""`perturbfm doctor FILE`: what a file is, which yaml reads it, what would mislead, which splits and models fit."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.data.doctor import Examination
    from perturbfm.split import Suggestion
    from perturbfm.types import Labels

SIGN = {"note": "note", "warn": "WARN", "stop": "STOP"}
MOST_SPLITS = 12
READ_WHOLE = 50e6
"""Stored values up to which the proposed yaml is tried out at once."""

RATE_ROUNDS, RATE_ROWS = 3, 512


def examine_file(arguments: argparse.Namespace) -> None:
    """Examine a file, write its yaml, say what it can carry; then fail where something must be mended first."""
    from perturbfm.data.doctor import examine
    from perturbfm.data.file import name_of

    paths = _paths(arguments.file)
    start = time.perf_counter()
    given = _given(arguments.set)
    stem = name_of(str(paths[0] if len(paths) == 1 else paths[0].absolute().parent))
    called = _name(arguments, stem)
    if len(paths) > 1 and len(arguments.file) == 1:
        given["path"] = str(Path(arguments.file[0]).absolute())
    found = examine(paths, arguments.name or stem, given)
    labels, refusal = _labels(found)
    report = _report(found, labels, refusal, called)
    report["renamed"] = (
        "" if called == (arguments.name or stem) else f" ({stem} is a data set that comes with PerturbFM)"
    )
    report["yaml_path"] = str(_write(found, arguments, called)) if not arguments.no_write else None
    report["seconds"] = round(time.perf_counter() - start, 1)
    print(json.dumps(report, indent=1, default=str) if arguments.json else "\n".join(_text(report)))
    if refusal is not None:
        raise refusal
    _refuse_stopped(found)


def _paths(said: list[str]) -> list[Path]:
    """Files that are named, or that a pattern finds."""
    from perturbfm.data.several import paths_of

    return paths_of(said)


def _refuse_stopped(found: Examination) -> None:
    """Fail, after everything is said, where a finding stops."""
    from perturbfm.data.doctor.finding import STOP, listed
    from perturbfm.errors import InputError

    stops = [f.name for f in found.findings if f.level == STOP]
    if stops:
        raise InputError(
            "The file cannot be read as it is proposed",
            given=f"STOP {listed(dict.fromkeys(stops))}",
            expected="no finding that stops",
            fix="Do what each of them says, and ask again.",
        )


def _name(arguments: argparse.Namespace, stem: str) -> str:
    """What `data=` will say: a yaml that travels with the package is found before the user's own of that name."""
    from perturbfm import places
    from perturbfm.errors import OutputNotWritable

    def shipped(name: str) -> bool:
        return (places.conf_dir() / "data" / f"{name}.yaml").is_file()

    name = arguments.name or stem
    if not shipped(name):
        return str(name)
    if arguments.name:
        raise OutputNotWritable(
            "PerturbFM has a data set of that name",
            given=f"--name {name}",
            expected="a name that is free: its own yaml would be read before yours",
            fix="Pass --name OTHER.",
        )
    return next(f"{name}_{i}" for i in range(2, 1000) if not shipped(f"{name}_{i}"))


def _given(settings: list[str]) -> dict[str, Any]:
    """`--set data.KEY=VALUE` or `KEY=VALUE` in yaml's own words."""
    import inspect

    import yaml

    from perturbfm.data.file import load_file
    from perturbfm.errors import BadValue, UnknownKey, nearest

    known = [key for key in inspect.signature(load_file).parameters if key not in ("name", "path")]
    pairs: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.removeprefix("data.").partition("=")
        if not sign:
            raise BadValue(
                "A setting has no value", given=setting, expected="KEY=VALUE", fix="Write --set mode=knockout."
            )
        if key not in known:
            raise UnknownKey(
                "A setting that no file takes",
                given=setting,
                expected=f"a key of conf/data/file.yaml, such as {nearest(key, known)}",
                fix="Correct it; the name is --name, the path is the argument.",
            )
        try:
            pairs[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadValue(
                "A setting cannot be read", given=setting, expected="KEY=VALUE in yaml", fix="Quote the value."
            ) from error
        _check_list(key, pairs[key], setting)
    if isinstance(pairs.get("obs"), str):
        pairs["obs"] = str(Path(pairs["obs"]).expanduser().absolute())
    return pairs


LISTS = ("control_labels", "missing_labels", "missing_doses", "covariates")


def _check_list(key: str, value: Any, setting: str) -> None:
    from perturbfm.errors import BadValue

    if key in LISTS and not isinstance(value, list):
        raise BadValue(
            f"data.{key} is a list",
            given=setting,
            expected=f"{key}=[LABEL, ...]",
            fix=f"Write --set '{key}=[{value}]'.",
        )


# --- looking further --------------------------------------------------------------------------------


def _labels(found: Examination) -> tuple[Labels | None, Any]:
    """Labels under the proposed yaml, by loading it; of a large file without its matrix."""
    from perturbfm.data.doctor import labels_of
    from perturbfm.errors import PerturbFMError

    if not found.can_be_read:
        return None, None
    try:
        if found.survey.sample.n_stored > READ_WHOLE:
            return labels_of(found), None
        return _loaded(found).labels(), None
    except PerturbFMError as error:
        return None, error


def _loaded(found: Examination) -> PerturbDataset:
    """What `data=NAME` gives with the proposed yaml."""
    import yaml
    from omegaconf import OmegaConf

    from perturbfm import config, places
    from perturbfm.data.doctor.written import yaml_of

    keys = yaml.safe_load(yaml_of(found.proposal, found.about()))
    template = keys.pop("defaults")[0]
    for name in dict.fromkeys([template, "file"]):
        says = yaml.safe_load((places.conf_dir() / "data" / f"{name}.yaml").read_text(encoding="utf-8"))
        keys = {**says, **keys}
    keys.pop("defaults", None)
    dataset: PerturbDataset = config.build(OmegaConf.create(keys))
    return dataset


def _report(found: Examination, labels: Labels | None, refusal: Any, name: str) -> dict[str, Any]:
    from perturbfm.data.doctor.written import yaml_of

    s = found.survey
    return {
        "about": found.about(),
        "name": name,
        "can_be_read": found.can_be_read and refusal is None,
        "columns": {str(c): _column(found, str(c)) for c in dict.fromkeys(s.obs.columns)},
        "layers": list(s.layers),
        "keys": found.proposal.keys,
        "yaml": yaml_of(found.proposal, found.about()),
        "findings": [vars(f) for f in found.findings],
        "refusal": None if refusal is None else f"{type(refusal).__name__}: {refusal}",
        "splits": [] if labels is None else list(_splits(labels, name)),
        "models": [] if labels is None else list(_models(labels)),
        "needs": _needs(found),
    }


def _column(found: Examination, c: str) -> str:
    import numpy as np
    import pandas as pd

    from perturbfm.data.doctor.finding import listed

    s = found.survey
    if c in s.text:
        levels = s.levels(c)
        shown = ", ".join(f"{listed([k or 'missing'])} {n}" for k, n in list(levels.items())[:4])
        return f"{levels.size} labels: {shown}{' ...' if levels.size > 4 else ''}"
    number = pd.to_numeric(s.obs[c]).to_numpy(float, na_value=np.nan)
    number = number[np.isfinite(number)]
    return f"numbers from {number.min():.6g} to {number.max():.6g}" if number.size else "no number"


def _splits(labels: Labels, name: str) -> Iterator[dict[str, Any]]:
    from perturbfm.split import suggest

    for s in suggest(labels):
        yield _split(s, name)


def _split(s: Suggestion, name: str) -> dict[str, Any]:
    words = f"perturbfm splits create --data {name} {' '.join(s.words())}"
    if s.split is None:
        return {"feasible": False, "rule": s.rule, "words": words, "why": f"{type(s.refusal).__name__}: {s.refusal}"}
    n = s.split.params["n_conditions"]
    axes = {axis: len(s.split.ood_rows(axis)) for axis in s.split.ood_axes}
    return {"feasible": True, "rule": s.rule, "words": words, "conditions": dict(n), "axes": axes}


def _models(labels: Labels) -> Iterator[dict[str, str]]:
    """What each kind of model can and cannot say on these data."""
    treated = ~labels.is_control_n.astype(bool)
    contexts = len(set(labels.context_n[treated].tolist()))
    pairs = set(zip(labels.context_n[treated].tolist(), labels.intervention_n[treated].tolist(), strict=True))
    n_shared = len(pairs) - len({intervention for _, intervention in pairs})
    yield {"model": "no_change, global_mean", "fits": "always; the floors"}
    shared = f"{n_shared} conditions repeat an intervention in another context"
    yield {
        "model": "per_perturbation_mean",
        "fits": f"context splits ({shared})"
        if n_shared
        else "no intervention is in two contexts: it is the global mean",
    }
    if labels.controls == "baked_in":
        yield {"model": "ridge, small_network", "fits": "no control profile to learn from; names only"}
    else:
        fits = (
            f"{contexts} contexts with control profiles"
            if contexts > 2
            else f"only {contexts} control profile(s) to learn from"
        )
        yield {"model": "ridge", "fits": fits}
        rows = int(treated.sum())
        yield {"model": "small_network", "fits": "yes" if rows >= LEAST_ROWS else f"{rows} perturbed rows are few"}


LEAST_ROWS = 500


def _needs(found: Examination) -> dict[str, str]:
    """Memory of the matrix, and how fast rows are cut on this machine, measured on the sample just now."""
    import numpy as np
    from scipy import sparse

    s = found.survey
    stored = s.sample.n_stored * (8 if s.sample.is_sparse else 4)
    rows = min(RATE_ROWS, len(s.sample.row_n))
    best = np.inf
    for _ in range(RATE_ROUNDS):
        start = time.perf_counter()
        block = s.sample.x_ng[:rows]
        _ = np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=np.float32).sum()
        best = min(best, time.perf_counter() - start)
    rate = max(rows, 1) / max(best, 1e-6)
    return {
        "memory": f"{stored / 1e6:,.0f} MB for the matrix, about {2.5 * stored / 1e6 + 600:,.0f} MB for a run",
        "time": f"about {s.n_obs / rate:,.1f} s to cut all rows once ({rate:,.0f} rows/s dense, measured just now)",
        "disk": f"{s.n_bytes / 1e6:,.0f} MB",
    }


# --- writing ----------------------------------------------------------------------------------------


def _write(found: Examination, arguments: argparse.Namespace, name: str) -> Path:
    """Write the yaml under a name that is free; another data set's yaml is never replaced."""
    from perturbfm.data.doctor.written import yaml_of
    from perturbfm.errors import OutputNotWritable
    from perturbfm.files import write_text

    text = yaml_of(found.proposal, found.about())
    path = Path(arguments.out) if arguments.out else Path("conf") / "data" / f"{name}.yaml"
    if path.exists() and path.read_text(encoding="utf-8") != text and not arguments.overwrite:
        raise OutputNotWritable(
            f"{path} is there already and says something else",
            given=f"a yaml for {name}",
            expected="a name that is free",
            fix="Pass --name OTHER, --out FILE or --overwrite; or --no-write to look only.",
        )
    return write_text(path, text)


# --- telling ----------------------------------------------------------------------------------------


def _text(report: dict[str, Any]) -> Iterator[str]:
    yield report["about"]
    if report["layers"]:
        yield f"layers: {', '.join(report['layers'])}"
    yield ""
    for c, about in report["columns"].items():
        yield f"  {c:<24} {about[:110]}"
    yield ""
    for f in sorted(report["findings"], key=lambda f: ("stop", "warn", "note").index(f["level"])):
        yield f"{SIGN[f['level']]}  {f['name']}: {f['message']}\n      -> {f['fix']}"
    yield ""
    written = f"yaml, written to {report['yaml_path']}" if report["yaml_path"] else "yaml, not written"
    written += report["renamed"]
    yield f"{written}:"
    yield from (f"  {line}" for line in report["yaml"].splitlines())
    yield ""
    yield from _split_lines(report)
    yield from (f"model  {m['model']}: {m['fits']}" for m in report["models"])
    yield from (f"needs  {k}: {v}" for k, v in report["needs"].items())
    if report["yaml_path"] and report["splits"]:
        run = f"python -m perturbfm.run data={report['name']} split=frozen split.hash=HASH"
        yield f"\nNext: freeze a split with one of the lines above, then {run}"


def _split_lines(report: dict[str, Any]) -> Iterator[str]:
    feasible = [s for s in report["splits"] if s["feasible"]]
    for s in feasible[:MOST_SPLITS]:
        n, axes = s["conditions"], ", ".join(f"{k} {v} rows" for k, v in s["axes"].items())
        yield f"split  {n['test']} test, {n['train']} train conditions; {axes}\n       {s['words']}"
    if len(feasible) > MOST_SPLITS:
        yield f"       and {len(feasible) - MOST_SPLITS} more: perturbfm splits suggest {report['name']}"
    if report["splits"] and not feasible:
        first = report["splits"][0]
        yield f"split  none is feasible. {first['why']}"
    if not report["splits"] and report["refusal"] is None:
        yield "split  not looked at: fill in what is open, or mend what stops, and ask again"
