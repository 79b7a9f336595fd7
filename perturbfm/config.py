"""From words on a command line to a checked configuration, and from a checked node to an object.

The root and the fixed groups have dataclass schemas; a node with `_target_` is checked against the signature of what it
names. Unknown keys, wrong types and wrong ranges are refused before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perturbfm import places
from perturbfm.errors import (
    BadValue,
    ConfigError,
    ForbiddenTarget,
    MissingValue,
    UnknownChoice,
    UnknownKey,
    UnreadableFile,
    nearest,
)
from perturbfm.signature import parameters_of, type_fits

ALLOWED_PREFIXES = ["perturbfm.", "torch.optim.", "torch.nn.", "lightning.pytorch.", "sklearn."]
"""What a `_target_` may name; more may be added from code or PERTURBFM_ALLOWED_TARGETS, never from a config."""

PANEL_NAMES = ("full", "quick")
"""Panels of `perturbfm/eval/panel/`, named here so that a misspelt one is refused without importing them."""

_HARDWARE = ("accelerator", "devices", "num_workers", "progress")


@dataclass
class SplitConfig:
    """Which frozen split: the hash is the whole choice."""

    hash: str | None = None


@dataclass
class AblationConfig:
    """Name of the difference applied last."""

    name: str = "none"


@dataclass
class EvalConfig:
    """Which panel, and the effort of its resampling."""

    panel: str = MISSING
    bootstrap_draws: int = 1000
    permutations: int = 500
    halvings: int = 10


@dataclass
class TrainerConfig:
    """How long and on what a model is fitted; a closed form always takes one epoch."""

    max_epochs: int = 50
    batch_size: int = 512
    patience: int = 8
    accelerator: str = "cpu"
    devices: int = 1
    num_workers: int = 0
    progress: bool = True


@dataclass
class Config:
    """One experiment."""

    data: Any = MISSING
    split: SplitConfig = field(default_factory=SplitConfig)
    model: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    seed: int = 0


ConfigStore.instance().store(name="schema", node=Config)


# --- composing -------------------------------------------------------------------------------------


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose and check one experiment.

    Raises:
        ConfigError: Unknown key or choice (with the nearest names), wrong type or range.
    """
    overrides = list(overrides)
    try:
        cfg = _composed(overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as e:
        raise translated(e, overrides) from e
    check(cfg)
    return cfg


def _composed(overrides: Sequence[str]) -> DictConfig:
    """Compose beside whatever Hydra is doing: a run composes its floors while Hydra runs it."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(places.conf_dir()), version_base="1.3", job_name="perturbfm"):
            return compose("config", overrides=[*search_path(), *overrides])
    finally:
        GlobalHydra.instance().hydra = outer


def compose_group(group: str, choice: Sequence[str], values: Mapping[str, Any]) -> DictConfig:
    """Compose one group by name, with some of its values changed."""
    extra = [f"{group}.{key}={json.dumps(value)}" for key, value in values.items()]
    node: DictConfig = compose_config([*choice, *extra])[group]
    return node


def data_overrides(name_or_path: str) -> list[str]:
    """The overrides that mean "this data set": a name, an h5ad, or an artifact folder."""
    path = Path(name_or_path)
    if name_or_path.endswith(".h5ad"):
        if not path.is_file():
            raise UnreadableFile(
                "There is no such file", given=path.absolute(), expected="a readable .h5ad", fix="Check the path."
            )
        return [
            "data=h5ad",
            f"data.path={json.dumps(str(path.absolute()))}",
            f"data.name={json.dumps(_slug(path.stem))}",
        ]
    if path.is_dir():
        return ["data=artifact", f"data.path={json.dumps(str(path.absolute()))}"]
    return [f"data={name_or_path}"]


def search_path() -> list[str]:
    """The user's own conf folder, as a Hydra override."""
    folder = places.user_conf_dir()
    return [f"hydra.searchpath=[file://{folder}]"] if folder else []


def add_choice(group: str, name: str, target: str | Callable[..., Any]) -> None:
    """Add a choice to a group at run time, as if a yaml held its `_target_`."""
    path = target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"
    ALLOWED_PREFIXES.append(path)
    ConfigStore.instance().store(group=group, name=name, node={"_target_": path})


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


# --- refusing --------------------------------------------------------------------------------------


def translated(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Say in our words what Hydra or OmegaConf refused."""
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.options is not None:
        asked = str(error.missing_cfg_file)
        word = asked.rpartition("/")[2]
        return UnknownChoice(
            f"Unknown choice {asked!r}",
            given=word,
            expected=f"one of {', '.join(sorted(error.options))}",
            fix=f"Did you mean {nearest(word, error.options)}?",
        )
    match = re.search(r"(?:Key|key) '([^']+)' (?:is )?not in|Could not override '([^']+)'", text)
    if match:
        return _unknown_key(text, overrides)
    first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    chained = str(error.__cause__ or "").splitlines()
    detail = f"{first} {chained[0] if chained and chained[0] not in first else ''}".strip()
    return BadValue(
        "A configuration value does not fit its schema",
        given=f"{' '.join(overrides) or 'the defaults'} ({detail})",
        expected="values of the types in perturbfm/config.py",
        fix="Run `perturbfm config` to see the resolved configuration.",
    )


def _unknown_key(text: str, overrides: Sequence[str]) -> UnknownKey:
    full = re.search(r"full_key: ([\w.\-]+)", text) or re.search(r"override '([^']+)'", text)
    key = full.group(1) if full else text.splitlines()[0]
    parent, _, word = key.rpartition(".")
    cfg = _without_values(overrides)
    node = OmegaConf.select(cfg, parent) if parent else cfg
    beside = sorted(str(k) for k in node if not str(k).startswith("_")) if isinstance(node, DictConfig) else []
    deeper = {path.rpartition(".")[2]: path for path in _leaves(cfg)}
    close = get_close_matches(word, [*beside, *deeper], n=1, cutoff=0.7)
    meant = deeper[close[0]] if close and close[0] not in beside else nearest(word, beside)
    return UnknownKey(
        f"Unknown config key {key!r}",
        given=key,
        expected=f"one of {', '.join(beside) or 'the keys in conf/'}",
        fix=f"Did you mean {meant}?",
    )


def _without_values(overrides: Sequence[str]) -> DictConfig:
    """The configuration that the choices alone give."""
    choices = [o for o in overrides if re.fullmatch(r"(data|split|model|trainer|eval|ablation)=[\w\-]+", o)]
    try:
        return _composed(choices)
    except (HydraException, OmegaConfBaseException):
        return OmegaConf.create({})


def _leaves(node: DictConfig, where: str = "") -> Iterable[str]:
    """Dotted paths of all values."""
    for key in node:
        path = f"{where}.{key!s}" if where else str(key)
        inner = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if isinstance(inner, DictConfig):
            yield from _leaves(inner, path)
        elif not str(key).startswith("_"):
            yield path


def check(cfg: DictConfig) -> None:
    """Check ranges, and every `_target_` node against what it names."""
    ranges: Iterable[tuple[str, float]] = (
        ("seed", 0),
        ("trainer.max_epochs", 1),
        ("trainer.batch_size", 1),
        ("trainer.patience", 1),
        ("trainer.devices", 1),
        ("trainer.num_workers", 0),
        ("eval.bootstrap_draws", 100),
        ("eval.permutations", 100),
        ("eval.halvings", 5),
    )
    for key, least in ranges:
        value = OmegaConf.select(cfg, key)
        if value < least:
            raise BadValue(
                f"{key} is out of range", given=value, expected=f"at least {least}", fix=f"Set {key} higher."
            )
    if cfg.trainer.devices != 1:
        raise BadValue(
            "Only one process is proven",
            given=f"trainer.devices={cfg.trainer.devices}",
            expected="1",
            fix="Set trainer.devices=1.",
        )
    if cfg.eval.panel not in PANEL_NAMES:
        raise UnknownChoice(
            f"Unknown panel {cfg.eval.panel!r}",
            given=cfg.eval.panel,
            expected=f"one of {', '.join(PANEL_NAMES)}",
            fix=f"Did you mean {nearest(cfg.eval.panel, PANEL_NAMES)}?",
        )
    for group in ("data", "model"):
        check_node(cfg[group], group)


def check_node(node: DictConfig, where: str) -> None:
    """Check a `_target_` node: allowed, found, no unknown key, no wrong type, nothing obligatory missing."""
    if "_target_" not in node:
        raise MissingValue(
            f"{where} names no _target_", given=sorted(map(str, node)), expected="_target_", fix=f"Add it to {where}."
        )
    target = str(node["_target_"])
    allowed = [*ALLOWED_PREFIXES, *filter(None, os.environ.get("PERTURBFM_ALLOWED_TARGETS", "").split(","))]
    if not any(target.startswith(prefix) for prefix in allowed):
        raise ForbiddenTarget(
            f"{where}._target_ is not allowed",
            given=target,
            expected=f"something under {', '.join(allowed)}",
            fix="Add its prefix to PERTURBFM_ALLOWED_TARGETS if you trust it.",
        )
    keys = [str(k) for k in node if not str(k).startswith("_")]
    if not target.startswith("perturbfm."):
        return
    known = parameters_of(target)
    for key in keys:
        if key not in known:
            raise UnknownKey(
                f"Unknown config key {f'{where}.{key}'!r}",
                given=key,
                expected=f"one of {', '.join(known)}",
                fix=f"Did you mean {nearest(key, known)}? {target} does not take {key}.",
            )
        _check_value(node, key, known[key].annotation, where)
    missing = [p.name for p in known.values() if p.required and p.name not in keys]
    if missing and not node.get("_partial_", False):
        raise MissingValue(
            f"{where}.{missing[0]} is not set", given=keys, expected=missing, fix=f"Set {where}.{missing[0]}=..."
        )


def _check_value(node: DictConfig, key: str, annotation: str, where: str) -> None:
    if OmegaConf.is_missing(node, key):
        raise MissingValue(
            f"{where}.{key} is not set",
            given="???",
            expected=annotation or "a value",
            fix=f"Give it: {where}.{key}=...",
        )
    value = node[key]
    if isinstance(value, DictConfig) and "_target_" in value:
        check_node(value, f"{where}.{key}")
        return
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    if not type_fits(plain, annotation):
        raise BadValue(
            f"{where}.{key} has the wrong type",
            given=f"{plain!r}",
            expected=annotation,
            fix=f"Set {where}.{key} to a {annotation}.",
        )


# --- building --------------------------------------------------------------------------------------


def build(node: DictConfig) -> Any:
    """Instantiate a checked `_target_` node; the one place where a config becomes an object."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    check_node(node, str(node._get_full_key("")) or "node")
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as e:
        if e.__cause__ is None:
            raise
        raise e.__cause__ from None  # what the target itself said, with its own type and exit code


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers."""
    container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    return {str(k): v for k, v in container.items()} if isinstance(container, dict) else {}


def config_hash(cfg: DictConfig) -> str:
    """SHA-256 of what decides a run's numbers: paths and hardware are left out."""
    content = plain(cfg)
    content["trainer"] = {k: v for k, v in content["trainer"].items() if k not in _HARDWARE}
    content["data"] = {k: v for k, v in content["data"].items() if k != "path"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


__all__ = [
    "Config",
    "add_choice",
    "build",
    "check",
    "check_node",
    "compose_config",
    "compose_group",
    "config_hash",
    "data_overrides",
    "plain",
    "search_path",
    "translated",
]
