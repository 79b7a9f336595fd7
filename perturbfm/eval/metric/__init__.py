"""The definitions of metrics, one family per file.

Comes in: `Case`. Goes out: `PerCondition`, a numerator and a denominator per condition with status and reason.
May import: numpy, scipy, types, errors, `eval.case`. To add one: a function here, a line in `panel/full.py`.
"""
