"""`perturbfm doctor`: is this installation able to give numbers that can be trusted?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

WORLD_FINGERPRINT = "17a85f68d98d"
"""Start of the fingerprint of the default planted world; counts come from a frozen generator, so it is one for all."""


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser(
        "doctor",
        help="examine a file, or check this installation",
        description="With a file: what it is, which yaml reads it (written), what would mislead, which splits and "
        "models fit; everything is printed, and the exit code is 2 where a STOP must be mended first. Without: check "
        "packages, folders, every stored split, and the planted world's right answers.",
    )
    p.add_argument(
        "file",
        nargs="*",
        help="a file or folder of cells, or several files that are one data set (a quoted pattern too); without one, "
        "the installation is checked",
    )
    p.add_argument("--name", help="name of the data set (default: after the file)")
    p.add_argument("--out", metavar="YAML", help="where to write the yaml (default: conf/data/NAME.yaml)")
    p.add_argument("--overwrite", action="store_true", help="replace a yaml that is there")
    p.add_argument("--no-write", action="store_true", help="write no yaml")
    p.add_argument("--json", action="store_true", help="print everything as JSON")
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="what you know, for example mode=knockout"
    )
    p.set_defaults(call=examine)


def examine(arguments: argparse.Namespace) -> None:
    """Examine a file; without one run every check, a line each, and fail with the first error's exit code."""
    from perturbfm.errors import PerturbFMError

    if arguments.file:
        from perturbfm.cli.doctor_file import examine_file

        examine_file(arguments)
        return

    first: PerturbFMError | None = None
    for name, check in CHECKS.items():
        try:
            print(f"ok    {name}: {check()}")
        except PerturbFMError as e:
            first = first or e
            print(f"FAIL  {name}: {e}")
    if first:
        raise first


def _packages() -> str:
    from importlib.metadata import version

    from perturbfm.record import PACKAGES

    return ", ".join(f"{p} {version(p)}" for p in PACKAGES)


def _outputs() -> str:
    from perturbfm import places
    from perturbfm.record import assert_writable

    assert_writable(places.outputs_dir())
    return f"{places.outputs_dir()} can be written"


def _splits() -> str:
    from perturbfm.cli.splits import store

    problems = store().verify()
    if problems:
        raise problems[0][1]
    return f"{len(store().list())} stored splits give their hashes"


def _world() -> str:
    from perturbfm.data.planted import load_synthetic
    from perturbfm.errors import ArtifactEdited

    found = load_synthetic().fingerprint
    if not found.startswith(WORLD_FINGERPRINT):
        raise ArtifactEdited(
            "The planted world is not the frozen one",
            given=found[:12],
            expected=WORLD_FINGERPRINT,
            fix="Compare the numpy and scipy versions with constraints.txt.",
        )
    return f"fingerprint {found[:12]}"


def _right_answers() -> str:
    """On the planted world a perfect mean explains everything and no change explains nothing."""
    from perturbfm.errors import InternalError

    ev, floor = _planted_ev()
    if floor != 0.0 or not 0.9 < ev < 1.1:
        raise InternalError(
            "The planted world's right answers are not found",
            given=f"EV of the oracle {ev:.3f}, of no change {floor:.3f}",
            expected="0.9 to 1.1, and exactly 0",
            fix="Please report this with the package versions above.",
        )
    return f"EV of the oracle {ev:.3f} (1 in expectation), of no change {floor:g}"


def _planted_ev() -> tuple[float, float]:
    """EV of the planted effects and of no change, through the same truth and metric as every run."""
    import numpy as np

    from perturbfm.data.planted import as_dataset
    from perturbfm.data.synthetic import make_world
    from perturbfm.data.world_settings import preset
    from perturbfm.eval.metric.explained import explained_variance
    from perturbfm.eval.truth import Truth
    from perturbfm.judging import observe
    from perturbfm.split import context_ood

    world = make_world(preset("default"))
    dataset = as_dataset(world, "synthetic", "default")
    held_out = str(world.conditions["context_id"].iloc[-1])
    truth = Truth(observe(dataset, context_ood(dataset.labels(), [held_out]), "test"))
    planted = {
        (c, f"{p}@knockdown"): delta
        for c, p, delta in zip(
            world.conditions["context_id"], world.conditions["pert_id"], world.delta_true_cg, strict=True
        )
    }
    oracle = np.stack([planted[k] for k in zip(truth.context_c, truth.intervention_c, strict=True)])
    found = []
    for mean in (oracle, np.zeros_like(oracle)):
        stats = explained_variance(truth.case(mean, np.ones_like(mean), None, np.full(len(mean), "unknown")))
        found.append(float(stats.num_c.sum() / stats.den_c.sum()))
    return found[0], found[1]


CHECKS: dict[str, Callable[[], str]] = {
    "packages": _packages,
    "outputs": _outputs,
    "splits": _splits,
    "planted world": _world,
    "right answers": _right_answers,
}
