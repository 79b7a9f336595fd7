"""`perturbfm data`: make the planted world, look at a data set; the public ones are in `catalog.py`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbfm.cli import catalog
from perturbfm.cli.options import add_data, load_data

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset

SCHEMA = """data.npz   X_control, X_pert, delta   float32 [N, G]   matched control, own expression, their difference
           obs_idx                    int64   [N]      optional: rows in the data set it was cut from
           variance                   float32 [N, G]   optional: where a row is a distribution
meta.json  obs    index + columns pert_id, context_id, batch_id, is_control, mode, dose, time, covariates
           var    index + columns
           metadata   name, scale, unit, controls, delimiter, match, fingerprint"""


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser(
        "data", help="make, inspect or fetch data sets", description="Make, inspect or fetch data sets."
    )
    inner = p.add_subparsers(dest="data_verb", required=True, metavar="VERB")
    make = inner.add_parser("make-synth", help="write the planted world as an artifact")
    make.add_argument("--out", required=True, type=Path, help="folder to write data.npz and meta.json into")
    make.add_argument("--preset", default="default", help="which planted world (default: default)")
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(call=make_synth)
    info = inner.add_parser("info", help="print what a data set holds, and its schema")
    add_data(info)
    info.set_defaults(call=show_info)
    catalog.add(inner)


def make_synth(arguments: argparse.Namespace) -> None:
    """Write the planted world."""
    from perturbfm.data.artifact import write_artifact
    from perturbfm.data.planted import load_synthetic

    dataset = load_synthetic(preset=arguments.preset, seed=arguments.seed)
    write_artifact(dataset, arguments.out)
    print(f"wrote {arguments.out / 'data.npz'} and {arguments.out / 'meta.json'}\n")
    describe(dataset)


def show_info(arguments: argparse.Namespace) -> None:
    """Describe a data set."""
    describe(load_data(arguments))


def describe(dataset: PerturbDataset) -> None:
    """Print sizes, declarations, contexts and the schema."""
    d, labels = dataset.declared, dataset.labels()
    print(f"{d.name}: {dataset.n_obs} {d.unit} x {dataset.n_genes} genes")
    print(f"fingerprint  {dataset.fingerprint}")
    print(f"scale        {d.scale}   unit {d.unit}   controls {d.controls}   match {d.match}   delimiter {d.delimiter}")
    print(f"source       {d.source or 'not said'}")
    print(f"obs columns  {', '.join(dataset.obs.columns)}")
    print("\ncontext          rows  controls  conditions  batches  modes")
    for context in sorted(set(labels.context_n.tolist())):
        rows = labels.context_n == context
        treated = rows & ~labels.is_control_n
        conditions, batches = len(set(labels.intervention_n[treated].tolist())), len(set(labels.batch_n[rows].tolist()))
        modes = ", ".join(sorted(set(labels.mode_n[treated].tolist())))
        n_control = int((rows & labels.is_control_n).sum())
        print(f"{context:<14} {int(rows.sum()):>6}  {n_control:>8}  {conditions:>10}  {batches:>7}  {modes}")
    print(f"\nschema of the interchange artifact\n{SCHEMA}")
