"""Our numbers beside the official ones: every suite's alias recomputed on inputs that the suite's own code has scored.

Comes in: a folder of reference inputs and of JSON files with the numbers that official code gave on them.
Goes out: one `Check` per number, and a table. `register.yaml` holds every difference that is accepted, with its reason.
May import: eval, types, errors; anndata, rich. Nothing imports it but the command line.
To add a suite: a module with `checks(references) -> Iterator[Check]`, a line in `SUITES`.

    reference.py    opens the folder: truth, predictions, official values
    check.py        one number against another, within a tolerance
    averaging.py    means as suites take them, summed in float32
    papers.py       Systema, Shift Bioscience
    register.yaml   accepted differences, and keys of official files that no panel owns
    table.py        all suites: verdict per alias
"""
