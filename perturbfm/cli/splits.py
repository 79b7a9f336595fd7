"""`perturbfm splits`: freeze, show, list and audit splits."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from perturbfm.cli import audit
from perturbfm.cli.options import add_data, load_data

if TYPE_CHECKING:
    from perturbfm.errors import PerturbFMError
    from perturbfm.split import SplitStore

SPECS = ("context_ood", "leave_one_context_out")


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser(
        "splits", help="freeze, show, list and audit splits", description="Freeze, show, list and audit splits."
    )
    inner = p.add_subparsers(dest="splits_verb", required=True, metavar="VERB")
    create = inner.add_parser("create", help="freeze a split; its hash stands alone on the last line")
    add_data(create)
    create.add_argument("--spec", required=True, choices=SPECS, help="rule")
    create.add_argument("--holdout-context", action="append", default=[], metavar="CONTEXT", help="may be given again")
    create.add_argument("--seed", type=int, default=0)
    create.add_argument("--val-fraction", type=float, default=0.1)
    create.add_argument("--calib-fraction", type=float, default=0.2)
    create.add_argument("--min-controls", type=int, default=30, help="least control cells per half and context")
    create.add_argument(
        "--filter-unshared", action="store_true", help="drop test perturbations that train does not have"
    )
    create.set_defaults(call=create_splits)
    show = inner.add_parser("show", help="print one split's card")
    show.add_argument("hash", help="full or short hash")
    show.set_defaults(call=show_split)
    listing = inner.add_parser("list", help="list stored splits, and those that do not verify")
    listing.set_defaults(call=list_splits)
    audit.add(inner)


def store() -> SplitStore:
    """The store of this machine: the local folder, then what came with the package."""
    from perturbfm import places
    from perturbfm.split import SplitStore

    return SplitStore(places.splits_dir(), places.shipped_splits_dirs())


def create_splits(arguments: argparse.Namespace) -> None:
    """Freeze a split, or one per context, and print the hash."""
    from perturbfm.errors import BadValue, MissingValue
    from perturbfm.split import context_ood, leave_one_context_out

    if arguments.spec == "context_ood" and not arguments.holdout_context:
        raise MissingValue(
            "No context is held out",
            given="no --holdout-context",
            expected="at least one context",
            fix="Add --holdout-context NAME; `perturbfm data info` lists the contexts.",
        )
    if arguments.spec == "leave_one_context_out" and arguments.holdout_context:
        raise BadValue(
            "Contexts are held out in turn, and one is named",
            given=f"--holdout-context {', '.join(arguments.holdout_context)} with --spec leave_one_context_out",
            expected="no --holdout-context",
            fix="Remove it, or use --spec context_ood.",
        )
    labels = load_data(arguments).labels()
    options: dict[str, Any] = {
        "seed": arguments.seed,
        "val_fraction": arguments.val_fraction,
        "calib_fraction": arguments.calib_fraction,
        "min_controls": arguments.min_controls,
        "filter_unshared": arguments.filter_unshared,
    }
    if arguments.spec == "context_ood":
        made = [context_ood(labels, arguments.holdout_context, **options)]
    else:
        made = list(leave_one_context_out(labels, on_refusal="skip", on_skip=_say_skipped, **options))
    for split in made:
        frozen = split.freeze()
        path = store().save(frozen)
        counts = " ".join(f"{k}={v}" for k, v in frozen.summary().items())
        print(f"{path}  held out {', '.join(frozen.params['holdout'])}  {counts}")
        print(frozen.frozen_hash)


def _say_skipped(context: str, refusal: PerturbFMError) -> None:
    print(f"Not held out: {context}. {type(refusal).__name__}: {refusal}", file=sys.stderr)


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
        "seed": split.seed,
        "unit": split.unit,
        "rows": split.summary(),
    }
    print(json.dumps(card, indent=1, default=dict))


def list_splits(arguments: argparse.Namespace) -> None:
    """Print a line per stored split; what does not verify is said and gives the exit code of its error."""
    for path, split in store().list():
        held_out = ", ".join(split.params.get("holdout", ()))
        print(f"{split.frozen_hash}  {split.data_name:<20} {split.rule:<14} held out {held_out:<16} {path}")
    problems = store().verify()
    for path, problem in problems:
        print(f"NOT VALID  {path}: {problem}")
    if problems:
        raise problems[0][1]
