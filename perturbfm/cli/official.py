"""`--official FILE --kind KIND`: which kind of split file it is, where nobody said."""

from __future__ import annotations

from pathlib import Path

from perturbfm.errors import MissingValue

KINDS = ("table", "perturbench", "gears", "cell_load")

BY_SUFFIX = {".toml": "cell_load", ".json": "gears", ".pkl": "gears", ".pickle": "gears", ".tsv": "table"}


def kind_of(path: str) -> str:
    """The kind that a file's suffix tells.

    Raises:
        MissingValue: It tells none. A CSV may be a table of some cells (the others are in no fold) or PerturbBench's
            (which must have all); what the two leave out differs, so it is not guessed.
    """
    kind = BY_SUFFIX.get(Path(path).suffix.lower())
    if kind is None:
        raise MissingValue(
            "The kind of official split is not said",
            given=f"--official {Path(path).name} without --kind",
            expected=" | ".join(KINDS),
            fix="Add --kind: table and perturbench are CSV, gears JSON, cell_load TOML.",
        )
    return kind
