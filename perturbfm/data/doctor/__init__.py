"""What a file is, which yaml reads it, and what would mislead: evidence and proposals, never a silent guess.

Comes in: a path. Goes out: an `Examination`: findings, each with its fix, and a proposal whose every line has its reason.
May import: the rest of the data room; numpy, scipy, pandas, h5py, anndata. Nothing that learns or splits.
To add a hazard: one function `(Survey, Proposal) -> Iterator[Finding]` in `hazard.py`, and its name in `HAZARDS` there.

    survey.py    facts: sizes, columns, a sample of the matrix      vocabulary.py  words seen in the field's files
    column.py    which column means what                            scale.py       what the matrix holds
    propose.py   the loader's keys, with reasons                    hazard.py      what would mislead
    written.py   the yaml                                           labels.py      labels without the matrix
"""

from perturbfm.data.doctor.examine import Examination, examine
from perturbfm.data.doctor.finding import Finding
from perturbfm.data.doctor.labels import labels_of

__all__ = ["Examination", "Finding", "examine", "labels_of"]
