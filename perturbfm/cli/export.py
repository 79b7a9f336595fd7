"""`perturbfm export RUN_DIR`: a judged run as files that other tools read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbfm.external.export import Written

FORMATS = ("cell-eval", "perturbench")
"""Names of `perturbfm.external.export.LAYOUTS`, so that a help needs no import."""


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser(
        "export",
        help="write a run's predictions as files that cell-eval or PerturbBench read",
        description="Write measured and predicted cells of the test fold, with the same (input) control cells in both. "
        "Predicted cells are those the model emits, or input controls moved by what it predicts.",
    )
    p.add_argument("run_dir", type=Path, help="folder of a run")
    p.add_argument("--format", required=True, choices=FORMATS, help="whose form")
    p.add_argument("--out", type=Path, metavar="DIR", help="where to (RUN_DIR/export/FORMAT)")
    p.set_defaults(call=export)


def export(arguments: argparse.Namespace) -> None:
    """Write the two files and say what reads them."""
    w = export_run(arguments.run_dir, arguments.format, arguments.out)
    print("\n".join(filter(None, (str(w.real), str(w.predicted), w.command, w.note))))


def export_run(run_dir: Path, form: str, out: Path | None = None) -> Written:
    """Write a run as another tool reads it.

    Args:
        run_dir: Folder of a judged run.
        form: `cell-eval` or `perturbench`.
        out: Where to; None means a folder `export` in that of the run.

    Returns:
        Where the files are, what to type or call next, and what a reader must know.

    Raises:
        UnreadableFile: The folder is not that of a judged run.
        NoCells: Data or prediction have no cells.
    """
    from perturbfm.cli.evaluate import judged_data, predictions_of, records_of
    from perturbfm.cli.splits import store
    from perturbfm.external.export import layout_of, write_export

    layout = layout_of(form)
    cfg, manifest, _ = records_of(run_dir)
    split = store().load(manifest["split_hash"])
    prediction = predictions_of(run_dir, split, manifest)["test"]
    dataset, _ = judged_data(cfg, split, run_dir)
    import numpy as np

    from perturbfm.eval.gate import UNKNOWN
    from perturbfm.eval.truth import Truth
    from perturbfm.judging import observe

    truth = Truth(observe(dataset, split, "test"))
    case = truth.judged(prediction, None, np.full(len(truth.n_c), UNKNOWN, dtype=object))
    folder = run_dir / "export" / form if out is None else out
    return write_export(folder, layout, truth, case, dataset.declared.delimiter)
