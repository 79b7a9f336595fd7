"""`perturbfm splits`: suggest, freeze, show, list and audit splits."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from perturbfm.cli import audit
from perturbfm.cli.official import KINDS, kind_of
from perturbfm.cli.options import add_data, load_data

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.errors import PerturbFMError
    from perturbfm.split import Split, SplitStore, Suggestion
    from perturbfm.types import Labels

MOST_NAMED = 6
"""Held-out names that are listed on a line."""

OF_A_BASE = ("few_shot", "scaling_series", "imbalance_series")


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser(
        "splits",
        help="suggest, freeze, show, list and audit splits",
        description="Suggest, freeze, show, list and audit splits.",
    )
    inner = p.add_subparsers(dest="splits_verb", required=True, metavar="VERB")
    _add_create(inner)
    advice = inner.add_parser("suggest", help="try every rule on a data set, with counts")
    add_data(advice, positional=True)
    advice.add_argument("--all", action="store_true", help="show what is refused too, and why")
    advice.set_defaults(call=suggest_splits)
    show = inner.add_parser("show", help="print one split's card")
    show.add_argument("hash", help="full or short hash")
    show.set_defaults(call=show_split)
    listing = inner.add_parser("list", help="list stored splits, and those that do not verify")
    listing.set_defaults(call=list_splits)
    rules = inner.add_parser("rules", help="list the rules, a line each")
    rules.set_defaults(call=list_rules)
    audit.add(inner)


def _add_create(inner: Any) -> None:
    create = inner.add_parser("create", help="freeze a split; its hash stands alone on the last line")
    add_data(create)
    create.add_argument("--rule", "--spec", required=True, dest="rule", help="a rule of `perturbfm splits rules`")
    create.add_argument("options", nargs="*", metavar="KEY=VALUE", help="options of the rule, for example holdout=[C6]")
    create.add_argument("--holdout-context", action="append", default=[], metavar="CONTEXT", help="may be given again")
    create.add_argument("--seed", type=int)
    create.add_argument("--val-fraction", type=float)
    create.add_argument("--calib-fraction", type=float)
    create.add_argument("--min-controls", type=int, help="least control cells per half and context")
    create.add_argument(
        "--filter-unshared", action="store_true", help="drop test perturbations that train does not have"
    )
    create.add_argument("--base", metavar="HASH", help="the frozen split that few_shot and the series start from")
    create.add_argument(
        "--official", metavar="FILE", help="split file of another project that the rule official takes over"
    )
    create.add_argument("--kind", choices=KINDS, help="what kind of file that is; needed for a CSV")
    create.add_argument("--official-column", metavar="NAME", help="column of folds, where a CSV has several")
    create.add_argument("--official-dataset", metavar="NAME", help="data set of a TOML that names several")
    create.add_argument("--no-gate", action="store_true", help="do not look at whether the test fold carries signal")
    create.set_defaults(call=create_splits)


def store() -> SplitStore:
    """The store of this machine: the local folder, then what came with the package."""
    from perturbfm import places
    from perturbfm.split import SplitStore

    return SplitStore(places.splits_dir(), places.shipped_splits_dirs())


# --- create ----------------------------------------------------------------------------------------


def create_splits(arguments: argparse.Namespace) -> None:
    """Freeze what a rule gives, one split or a series, and print each hash."""
    from perturbfm import config

    _check_words(arguments)
    node = config.compose_rule(arguments.rule, [*_flags(arguments), *arguments.options])
    base = _base(arguments)
    dataset = load_data(arguments)
    for split in _made(arguments, config.build(node), dataset.labels(), base):
        frozen = split.freeze()
        path = store().save(frozen)
        counts = " ".join(f"{k}={v}" for k, v in frozen.summary().items())
        print(f"{path}  {held_out(frozen)}  {counts}")
        if not arguments.no_gate:
            for line in _carries(dataset, frozen):
                print(line)
        print(frozen.frozen_hash)


def _flags(arguments: argparse.Namespace) -> list[str]:
    """Options given as flags, as the rule's yaml names them."""
    from perturbfm.config import quoted

    named = {key: getattr(arguments, key) for key in ("seed", "val_fraction", "calib_fraction", "min_controls")}
    words = [f"{key}={value}" for key, value in named.items() if value is not None]
    words += ["filter_unshared=true"] if arguments.filter_unshared else []
    if arguments.holdout_context:
        words.append(f"holdout={quoted(arguments.holdout_context)}")
    return words


def _check_words(arguments: argparse.Namespace) -> None:
    from perturbfm.errors import BadValue, MissingValue

    given = [option for option in arguments.options if option.startswith("holdout=")]
    if arguments.rule == "context_ood" and not arguments.holdout_context and not given:
        raise MissingValue(
            "No context is held out",
            given="no --holdout-context",
            expected="at least one context",
            fix="Add --holdout-context NAME; `perturbfm data info` lists the contexts.",
        )
    if arguments.rule == "leave_one_context_out" and arguments.holdout_context:
        raise BadValue(
            "Contexts are held out in turn, and one is named",
            given=f"--holdout-context {', '.join(arguments.holdout_context)} with --spec leave_one_context_out",
            expected="no --holdout-context",
            fix="Remove it, or use --spec context_ood.",
        )
    if (arguments.rule in OF_A_BASE) != (arguments.base is not None):
        raise MissingValue(
            f"--base does not fit {arguments.rule}",
            given=f"--base {arguments.base}",
            expected="the hash of a frozen split" if arguments.rule in OF_A_BASE else "no --base",
            fix=f"{', '.join(OF_A_BASE)} start from a frozen split; the other rules do not.",
        )

    if (arguments.rule == "official") != (arguments.official is not None):
        raise MissingValue(
            f"--official does not fit {arguments.rule}",
            given=f"--official {arguments.official}",
            expected="a split file" if arguments.rule == "official" else "no --official",
            fix="The rule official takes a file, the other rules do not.",
        )
    of_a_file = {"--kind": arguments.kind, "--official-column": arguments.official_column}
    of_a_file["--official-dataset"] = arguments.official_dataset
    idle = [f"{option} {value}" for option, value in of_a_file.items() if value is not None]
    if idle and arguments.official is None:
        raise BadValue(
            "An option of official splits has no split file",
            given=", ".join(idle),
            expected="--official FILE beside it",
            fix="Add the file, or remove the option.",
        )


def _base(arguments: argparse.Namespace) -> Split | None:
    return store().load(arguments.base) if arguments.base else None


def _made(arguments: argparse.Namespace, rule: Any, labels: Labels, base: Split | None) -> Iterator[Split]:
    from perturbfm.split import Split

    if base is not None:
        given = rule(labels, base)
    elif arguments.official is not None:
        given = rule(labels, *_official(arguments, labels))
    elif arguments.rule == "leave_one_context_out":
        given = rule(labels, on_skip=_say_skipped)
    else:
        given = rule(labels)
    yield from [given] if isinstance(given, Split) else list(given)


def _official(arguments: argparse.Namespace, labels: Labels) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Fold by cell id, and where it comes from."""
    from perturbfm.data.official_split import read_official

    found = read_official(
        arguments.official,
        arguments.kind or kind_of(arguments.official),
        labels,
        column=arguments.official_column,
        dataset=arguments.official_dataset,
    )
    return found.fold_by_cell, found.origin


def _say_skipped(context: str, refusal: PerturbFMError) -> None:
    print(f"Not held out: {context}. {type(refusal).__name__}: {refusal}", file=sys.stderr)


def _carries(dataset: PerturbDataset, split: Split) -> Iterator[str]:
    """What the test fold can carry: conditions, effective number and gate verdict of each context; truth only."""
    from perturbfm.judging import gate_of

    if dataset.declared.scale == "counts":
        yield "gate: of counts over library size, to the median of train, and log1p; a run's own stages may move it"
    for context, v in gate_of(dataset, split).items():
        numbers = f"{v.n_conditions} conditions, effective {v.n_eff:.1f}, p {v.p:.3g}"
        yield f"gate {context}: {v.verdict}, {numbers}. {v.reason}"


# --- suggest ---------------------------------------------------------------------------------------


def suggest_splits(arguments: argparse.Namespace) -> None:
    """Print what each rule gives on a data set, and the words that create it."""
    from perturbfm.split import suggest

    found = list(suggest(load_data(arguments).labels()))
    print("  test  train  val  calib  (conditions)   test rows  axes")
    for s in found:
        if s.split is not None:
            print(_line(s, s.split))
    refused = [s for s in found if s.refusal is not None]
    if arguments.all:
        for s in refused:
            print(f"refused {' '.join(s.words())}: {type(s.refusal).__name__}: {s.refusal}")
    elif refused:
        print(f"{len(refused)} more are refused; --all shows why.")
    print("Freeze one with `perturbfm splits create --data ...` and the words behind it.")


def _line(suggestion: Suggestion, split: Split) -> str:
    n = split.params["n_conditions"]
    axes = ", ".join(f"{axis} {len(split.ood_rows(axis))}" for axis in split.ood_axes)
    numbers = f"{n['test']:>6} {n['train']:>6} {n['val']:>4} {n['calib']:>6} {'':>10} {len(split.test_idx):>11}"
    return f"{numbers}  {axes:<34} {' '.join(suggestion.words())}"


# --- show and list ---------------------------------------------------------------------------------


def list_rules(arguments: argparse.Namespace) -> None:
    """Print the rules with the first line of their yaml."""
    from perturbfm import config

    for name, about in config.rules().items():
        print(f"{name:<24} {about}")


def show_split(arguments: argparse.Namespace) -> None:
    """Print a split's card."""
    split = store().load(arguments.hash)
    card = {
        "hash": split.frozen_hash,
        "data": split.data_name,
        "fingerprint": split.fingerprint,
        "rule": split.rule,
        "params": split.params,
        "ood_axes": list(split.ood_axes),
        "ood_rows": {axis: len(split.ood_rows(axis)) for axis in split.ood_axes},
        "seed": split.seed,
        "unit": split.unit,
        "rows": split.summary(),
        "input_controls_of_held_out_contexts": "shown at prediction only",  # see `learning_rows`
    }
    print(json.dumps(card, indent=1, default=dict))


def held_out(split: Split) -> str:
    """What a split holds out, in words."""
    named = ", ".join(map(str, split.params.get("holdout", ())))
    if split.params.get("base"):
        return f"{split.rule} of {str(split.params['base'])[:12]}"
    if not named or len(split.params.get("holdout", ())) > MOST_NAMED:
        return f"held out {', '.join(split.ood_axes)}"
    return f"held out {named}"


def list_splits(arguments: argparse.Namespace) -> None:
    """Print a line per stored split; what does not verify is said and gives the exit code of its error."""
    for path, split in store().list():
        print(f"{split.frozen_hash}  {split.data_name:<20} {split.rule:<14} {held_out(split):<25} {path}")
    problems = store().verify()
    for path, problem in problems:
        print(f"NOT VALID  {path}: {problem}")
    if problems:
        raise problems[0][1]
