"""From words on a command line to a checked configuration, and from a checked node to an object.

The root and the fixed groups have dataclass schemas; a node with `_target_` is checked against the signature of what it
names. Unknown keys, wrong types and wrong ranges are refused before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perturbfm import places
from perturbfm.errors import (
    BadValue,
    ConfigError,
    ForbiddenTarget,
    MissingValue,
    PreprocessLeaks,
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

_SHIPPED_PREFIXES = tuple(ALLOWED_PREFIXES)

_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_")

_DATA_FILE = re.compile(r"\.(h5ad|h5|h5mu|hdf5|zarr|mtx|csv|tsv|txt)(\.gz)?$", re.IGNORECASE)
"""Names of files that are data sets, whatever their content turns out to be."""

_WHERE = ("path", "obs", "gene_map", "cache")
"""Where the files of a data set lie and how they are read; their content is in its fingerprint."""

_HARDWARE = ("accelerator", "devices", "num_workers", "progress")

LEARN_ON = ("train", "all")
"""Rows that preprocessing may learn from."""

STAGES = "perturbfm.train.stage."
"""Where the stages of preprocessing are at home; a recorded one is read back from there and from nowhere else."""

ACCELERATORS = ("cpu", "gpu", "cuda", "mps", "auto")

REFUSED = (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError, OSError)
"""What composing raises for keys, values and files that are not right."""


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
    shuffle_block: int = 0
    progress: bool = True


@dataclass
class CellsConfig:
    """Rows to use at all; applied before a split is made. See `perturbfm.data.cells.keep_cells`."""

    min_genes: int | None = None
    min_counts: float | None = None
    max_mito_fraction: float | None = None
    relaxed_mito_fraction: float | None = None
    mito_prefix: str = "MT-"
    mito_column: str | None = None
    min_cells_per_condition: int | None = None


@dataclass
class PreprocessConfig:
    """Which rows, which stages, and what the stages learn from: `train`, or `all`, which leaks and must be allowed."""

    name: str = MISSING
    cells: CellsConfig = field(default_factory=CellsConfig)
    stages: list[Any] = field(default_factory=list)
    learn_on: str = "train"
    allow_leak: bool = False


@dataclass
class Config:
    """One experiment."""

    data: Any = MISSING
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    seed: int = 0
    priors: list[str] = field(default_factory=list)
    aliases: str | None = None


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
        check(cfg)
    except REFUSED as e:
        raise translated(e, overrides) from e
    return cfg


def _composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration that some overrides give."""
    with _own_hydra():
        return compose("config", overrides=[*search_path(), *overrides])


@contextmanager
def _own_hydra(folder: Path | None = None) -> Iterator[None]:
    """Compose beside whatever Hydra is doing: a run composes its floors while Hydra runs it."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder or places.conf_dir()), version_base="1.3", job_name="perturbfm"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def compose_group(group: str, choice: Sequence[str], values: Mapping[str, Any]) -> DictConfig:
    """Compose one group by name, with some of its values changed."""
    tables = {key: dict(value) for key, value in values.items() if isinstance(value, Mapping)}
    extra = [f"{group}.{k}={'null' if k in tables else quoted(v)}" for k, v in values.items()]
    node: DictConfig = compose_config([*choice, *extra])[group]
    if tables:  # keys of a table may hold signs that Hydra's grammar cannot quote
        for key, table in tables.items():
            node[key] = table
        check_node(node, group)
    return node


def compose_rule(name: str, values: Sequence[str]) -> DictConfig:
    """Compose one split rule of `conf/split/rule/` by name.

    Args:
        name: Its yaml.
        values: Options as `key=value`.

    Raises:
        UnknownChoice: No yaml of that name, with the nearest ones.
        UnknownKey: An option that the rule does not take.
    """
    known = _rule_files()
    if name not in known:
        raise UnknownChoice(
            f"Unknown choice {name!r}",
            given=name,
            expected=f"one of {', '.join(known)}",
            fix=f"Did you mean {nearest(name, known)}?",
        )
    try:
        with _own_hydra(known[name].parents[2]):  # a yaml that is composed by itself is not searched for elsewhere
            node = compose(f"split/rule/{name}").split.rule
            options = [str(key) for key in node if not str(key).startswith("_")]
            for key in (value.partition("=")[0] for value in values):
                if key not in options:
                    raise _not_taken(key, options, f"The rule {name}", name)
            overrides = [f"split.rule.{value}" for value in values]
            node = compose(f"split/rule/{name}", overrides=overrides).split.rule
            check_node(node, name)
    except REFUSED as e:
        raise translated(e, values) from e
    return node


def rules() -> dict[str, str]:
    """Split rules there are, the user's own included, with the first line of each yaml."""
    return {name: path.read_text().partition("\n")[0].strip("# ") for name, path in _rule_files().items()}


def _rule_files() -> dict[str, Path]:
    """Yaml of each rule, sorted; the shipped one where the user's has the same name."""
    folders = [folder for folder in (places.user_conf_dir(), places.conf_dir()) if folder is not None]
    files = {path.stem: path for folder in folders for path in (folder / "split" / "rule").glob("*.yaml")}
    return dict(sorted(files.items()))


def data_overrides(name_or_path: str) -> list[str]:
    """The overrides that mean "this data set": a name, a file of a known format, or an artifact folder.

    A folder that merely has the name of a data set is no artifact; a word with a separator is always a path.
    """
    path = Path(name_or_path)
    if _DATA_FILE.search(path.name) or (path.is_dir() and any(path.glob("*.mtx*"))):
        if not path.exists():
            raise UnreadableFile(
                "There is no such file", given=path.absolute(), expected="a readable .h5ad", fix="Check the path."
            )
        return [
            "data=file",
            f"data.path={quoted(str(path.absolute()))}",
            f"data.name={quoted(_slug(path.stem))}",
        ]
    if path.is_dir() and (path.name != name_or_path or (path / "meta.json").is_file()):
        return ["data=artifact", f"data.path={quoted(str(path.absolute()))}"]
    return [f"data={name_or_path}"]


def search_path() -> list[str]:
    """The user's own conf folder, as a Hydra override."""
    folder = places.user_conf_dir()
    return [f"hydra.searchpath=[{quoted(f'file://{folder}')}]"] if folder else []


def add_choice(group: str, name: str, target: str | Callable[..., Any]) -> None:
    """Add a choice to a group at run time, as if a yaml held its `_target_`."""
    path = target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"
    ALLOWED_PREFIXES.append(path)
    ConfigStore.instance().store(group=group, name=name, node={"_target_": path})


def quoted(value: Any) -> str:
    """A value as Hydra's grammar reads it, whatever signs and letters are in it.

    Only a quote, and backslashes before one, are escaped there; every other backslash stands for itself.
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(quoted, value))}]"
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value) + '"'


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
    if isinstance(error, yaml.YAMLError | OSError | UnicodeError):
        return BadValue(
            "A yaml of the configuration cannot be read",
            given=f"{' '.join(overrides) or 'the defaults'} ({' '.join(text.split())[:300]})",
            expected="keys and values in yaml",
            fix="Correct the file, or write it again: `perturbfm doctor FILE` writes one for data.",
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
        fix=f"Did you mean {meant}?" if meant else "Look into conf/ for the keys there are.",
    )


def _without_values(overrides: Sequence[str]) -> DictConfig:
    """The configuration that the choices alone give."""
    choices = [o for o in overrides if re.fullmatch(r"(data|preprocess|split|model|trainer|eval|ablation)=[\w\-]+", o)]
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
    """Check keys and ranges of the fixed groups, and every `_target_` node against what it names."""
    _check_keys(cfg, "", Config)
    for group, schema in _FIXED.items():
        _check_keys(cfg[group], f"{group}.", schema)
    for key, (least, most) in _RANGES.items():
        value = OmegaConf.select(cfg, key)
        if value < least or (most is not None and value > most):
            raise BadValue(
                f"{key} is out of range",
                given=value,
                expected=f"at least {least}" + ("" if most is None else f" and at most {most}"),
                fix=f"Set {key} {'higher' if value < least else 'lower'}.",
            )
    if cfg.trainer.devices != 1:
        raise BadValue(
            "Only one process is proven",
            given=f"trainer.devices={cfg.trainer.devices}",
            expected="1",
            fix="Set trainer.devices=1.",
        )
    if cfg.trainer.accelerator not in ACCELERATORS:
        raise BadValue(
            "Unknown accelerator",
            given=f"trainer.accelerator={cfg.trainer.accelerator}",
            expected=f"one of {', '.join(ACCELERATORS)}",
            fix=f"Did you mean {nearest(cfg.trainer.accelerator, ACCELERATORS)}?",
        )
    if cfg.eval.panel not in PANEL_NAMES:
        raise UnknownChoice(
            f"Unknown panel {cfg.eval.panel!r}",
            given=cfg.eval.panel,
            expected=f"one of {', '.join(PANEL_NAMES)}",
            fix=f"Did you mean {nearest(cfg.eval.panel, PANEL_NAMES)}?",
        )
    _check_preprocess(cfg.preprocess)
    for group in ("data", "model"):
        if not isinstance(cfg[group], DictConfig):
            raise BadValue(f"{group} is no mapping", given=cfg[group], expected="a _target_", fix="Name a choice.")
        check_node(cfg[group], group)
    if not cfg.model.get("name"):
        raise MissingValue("model.name is not set", given="nothing", expected="a name", fix="Give model.name=...")


_FIXED: Mapping[str, type] = {
    "preprocess": PreprocessConfig,
    "split": SplitConfig,
    "trainer": TrainerConfig,
    "eval": EvalConfig,
    "ablation": AblationConfig,
}

_RANGES: Mapping[str, tuple[int, int | None]] = {
    "seed": (0, 2**32 - 1),
    "trainer.max_epochs": (1, None),
    "trainer.batch_size": (1, None),
    "trainer.patience": (1, None),
    "trainer.devices": (1, None),
    "trainer.num_workers": (0, None),
    "trainer.shuffle_block": (0, None),
    "eval.bootstrap_draws": (100, None),
    "eval.permutations": (100, None),
    "eval.halvings": (5, None),
}


def _check_preprocess(node: DictConfig) -> None:
    """Check row filters and stages, and refuse to learn from all rows unless that is allowed in so many words."""
    _check_keys(node.cells, "preprocess.cells.", CellsConfig)
    for key in ("min_genes", "min_counts", "min_cells_per_condition", "max_mito_fraction", "relaxed_mito_fraction"):
        value, share = node.cells[key], key.endswith("fraction")
        if value is not None and (value <= 0 or (share and value > 1)):
            raise BadValue(
                f"preprocess.cells.{key} is out of range",
                given=value,
                expected="above 0 and at most 1" if share else "above 0",
                fix=f"Set preprocess.cells.{key} within that range, or to null.",
            )
    for i, stage in enumerate(node.stages):
        where = f"preprocess.stages.{i}"
        if not isinstance(stage, DictConfig):
            raise BadValue(f"{where} is no stage", given=stage, expected="a _target_", fix="Write it as a mapping.")
        check_node(stage, where)
        if not str(stage["_target_"]).startswith(STAGES):
            raise ForbiddenTarget(
                f"{where} is no preprocess stage",
                given=stage["_target_"],
                expected=f"a class under {STAGES.rstrip('.')}",
                fix="Name one of the stages in conf/preprocess/.",
            )
    if node.learn_on not in LEARN_ON:
        raise BadValue(
            "Unknown preprocess.learn_on",
            given=node.learn_on,
            expected=" or ".join(LEARN_ON),
            fix="Set preprocess.learn_on=train.",
        )
    if node.learn_on == "all" and not node.allow_leak:
        raise PreprocessLeaks(
            "Preprocessing would learn from the cells that models are judged on",
            given="preprocess.learn_on=all",
            expected="train",
            fix="Set preprocess.learn_on=train; or, to reproduce a published pipeline that leaks, add "
            "preprocess.allow_leak=true: manifest, metrics and report will say so.",
        )


def _check_keys(node: DictConfig, where: str, schema: type) -> None:
    """Refuse a key that `+key=` put beside those of a schema, and one that `~key` took away."""
    known = [f.name for f in fields(schema)]
    for key in map(str, node):
        if key not in known:
            raise UnknownKey(
                f"Unknown config key {where + key!r}",
                given=where + key,
                expected=f"one of {', '.join(known)}",
                fix=f"Did you mean {nearest(key, known)}?",
            )
    for key in known:
        if key not in node or OmegaConf.is_missing(node, key):
            raise MissingValue(f"{where}{key} is not set", given="nothing", expected=key, fix=f"Give {where}{key}=...")


def check_node(node: DictConfig, where: str) -> None:
    """Check a `_target_` node: allowed, found, no unknown key, no wrong type, nothing obligatory missing.

    What lies deeper is checked too, in lists and mappings as well: Hydra calls every `_target_` it meets.
    """
    if "_target_" not in node:
        raise MissingValue(
            f"{where} names no _target_", given=sorted(map(str, node)), expected="_target_", fix=f"Add it to {where}."
        )
    target = str(node["_target_"])
    if not target.startswith(_allowed()):
        raise ForbiddenTarget(
            f"{where}._target_ is not allowed",
            given=target,
            expected=f"something under {', '.join(_allowed())}",
            fix="Add its prefix to PERTURBFM_ALLOWED_TARGETS if you trust it.",
        )
    for key in map(str, node):
        if key.startswith("_") and key not in _HYDRA_KEYS:
            raise UnknownKey(
                f"Unknown config key {f'{where}.{key}'!r}",
                given=key,
                expected=f"named arguments, or one of {', '.join(_HYDRA_KEYS)}",
                fix="Give arguments by name.",
            )
    for inner, path in _nodes(node, where):
        check_node(inner, path)
    if target.startswith("perturbfm."):
        _check_arguments(node, target, where)


def _allowed() -> tuple[str, ...]:
    further = os.environ.get("PERTURBFM_ALLOWED_TARGETS", "").split(",")
    return (*ALLOWED_PREFIXES, *(prefix.strip() for prefix in further if prefix.strip()))


def _nodes(parent: DictConfig | ListConfig, where: str) -> Iterator[tuple[DictConfig, str]]:
    """The nearest `_target_` nodes below a container, with their paths."""
    keys: Iterable[Any] = range(len(parent)) if isinstance(parent, ListConfig) else list(parent)
    for key in keys:
        value = None if OmegaConf.is_missing(parent, key) else parent[key]
        path = f"{where}.{key}"
        if isinstance(value, DictConfig) and "_target_" in value:
            yield value, path
        elif isinstance(value, DictConfig | ListConfig):
            yield from _nodes(value, path)


def _check_arguments(node: DictConfig, target: str, where: str) -> None:
    keys = [str(k) for k in node if not str(k).startswith("_")]
    known = parameters_of(target)
    for key in keys:
        if key not in known:
            raise _not_taken(key, list(known), target, where)
        _check_value(node, key, known[key].annotation, where)
    missing = [p.name for p in known.values() if p.required and p.name not in keys]
    if missing and not node.get("_partial_", False):
        raise MissingValue(
            f"{where}.{missing[0]} is not set", given=keys, expected=missing, fix=f"Set {where}.{missing[0]}=..."
        )


def _not_taken(key: str, known: Sequence[str], target: str, where: str) -> UnknownKey:
    return UnknownKey(
        f"Unknown config key {f'{where}.{key}'!r}",
        given=key,
        expected=f"one of {', '.join(known)}",
        fix=f"Did you mean {nearest(key, known)}? {target} does not take {key}.",
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

    where = str(node._get_full_key("")) or "node"
    check_node(node, where)
    _check_foreign(node, where)
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as e:
        if e.__cause__ is None:
            raise
        raise e.__cause__ from None  # what the target itself said, with its own type and exit code


def _check_foreign(node: DictConfig, where: str) -> None:
    """What only an import can tell of other people's targets: where they are at home, and what they take.

    A dotted path that walks through an allowed package into what that package merely imports is refused.
    """
    from hydra.utils import get_object

    target = str(node["_target_"])
    foreign = tuple(p for p in _SHIPPED_PREFIXES if p != "perturbfm.")
    if target.startswith(foreign):
        try:
            found = get_object(target)
        except (ImportError, ValueError) as e:
            raise ForbiddenTarget(
                f"{where}._target_ cannot be found",
                given=target,
                expected="the dotted path of a function or class",
                fix="Check the spelling in the yaml.",
            ) from e
        home = str(getattr(found, "__module__", None))
        if not f"{home}.".startswith(foreign):
            raise ForbiddenTarget(
                f"{where}._target_ only passes through an allowed package",
                given=f"{target}, which belongs to {home}",
                expected=f"something that belongs to {', '.join(foreign)}",
                fix="Add its prefix to PERTURBFM_ALLOWED_TARGETS if you trust it.",
            )
        known = inspect.signature(found).parameters
        free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
        for key in map(str, node):
            if not (free or key.startswith("_") or key in known):
                raise _not_taken(key, list(known), target, where)
    for inner, path in _nodes(node, where):
        _check_foreign(inner, path)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers."""
    container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    return {str(k): v for k, v in container.items()} if isinstance(container, dict) else {}


def config_hash(cfg: DictConfig) -> str:
    """SHA-256 of what decides a run's numbers: paths and hardware are left out."""
    content = {k: v for k, v in plain(cfg).items() if k not in ("priors", "aliases")}
    content["trainer"] = {k: v for k, v in content["trainer"].items() if k not in _HARDWARE}
    if not content["trainer"].get("shuffle_block"):
        content["trainer"].pop("shuffle_block", None)  # off, a run is the one it was before there was such a setting
    content["data"] = {k: v for k, v in content["data"].items() if k not in _WHERE}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


__all__ = [
    "Config",
    "add_choice",
    "build",
    "check",
    "check_node",
    "compose_config",
    "compose_group",
    "compose_rule",
    "config_hash",
    "data_overrides",
    "plain",
    "quoted",
    "rules",
    "search_path",
    "translated",
]
