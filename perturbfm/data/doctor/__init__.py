"""What a file is, which yaml reads it, and what would mislead: evidence and proposals, never a silent guess.

Comes in: a path. Goes out: an `Examination`: findings, each with its fix, and a proposal, each line with its reason.
May import: the rest of the data room, places; yaml, numpy, scipy, pandas, h5py, anndata. Nothing that learns or splits.
To add a hazard: one function `(Survey, Proposal) -> Iterator[Finding]` in `hazard.py`, and its name in `HAZARDS` there.

    survey.py    facts: sizes, columns                    sample.py      some rows of the matrix
    column.py    which column holds perturbations         place.py       which hold contexts, batches, doses, sizes
    amount.py    doses and times, also among words
    scale.py     what the matrix holds                    vocabulary.py  words seen in the field's files
    propose.py   the loader's keys, with reasons          written.py     the yaml
    hazard.py    what would mislead: hazard_label.py, hazard_gene.py, hazard_amount.py
    labels.py    labels without the matrix
"""

from perturbfm.data.doctor.examine import Examination, examine
from perturbfm.data.doctor.finding import Finding
from perturbfm.data.doctor.labels import labels_of

__all__ = ["Examination", "Finding", "examine", "labels_of"]
