"""Rules: pure functions from labels to an unfrozen split."""

from perturbfm.split.rule.context_ood import context_ood, leave_one_context_out

__all__ = ["context_ood", "leave_one_context_out"]
