"""Closed-form baselines: one epoch of sufficient statistics, then a solve.

Comes in: a `ConditionTable` of train conditions. Goes out: a fitted `AbstractClosedForm`.
May import: torch, types, errors.
To add one: a class with `fit`, `mean` and `noise` in its own file, and a yaml in `conf/model/`.
"""
