"""The page a person reads: one self-contained HTML file. Every number comes from the artifacts; none is computed anew.

Comes in: the combined metrics object, the table per condition, calibration, manifest, split card. Goes out: HTML text.
The same inputs give the same bytes. May import: jinja2, numpy, pandas, types, errors.
To add a section: one function that returns its values, one line in `render`, one block in `page.html.j2`.

    page.html.j2    layout, style and the script that sorts
    page.py         `render`: every section and its values
    words.py        how values, names, metrics and predictors are said
    entries.py      finding things in the metrics object
    verdict.py      the paragraph at the top
    picture.py      axes, lanes and marks of the lead metrics
    tables.py       gate, headline, contexts, skill, the whole panel, floors
    conditions.py   the table of conditions
    calibration.py  coverage, width, reliability diagram, separation
    provenance.py   the split and the run
    audit.py        what the audit of the split found
    undefined.py    what has no value, by reason
"""

from perturbfm.eval.report.page import render

__all__ = ["render"]
