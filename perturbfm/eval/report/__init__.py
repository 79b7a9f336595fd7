"""The page a person reads: one self-contained HTML file.

Comes in: the combined metrics object, the table per condition, calibration, manifest, split card. Goes out: HTML text.
May import: jinja2, types, errors. To add a section: one block in `page.html.j2`.
"""

from perturbfm.eval.report.page import render

__all__ = ["render"]
