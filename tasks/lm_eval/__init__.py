"""The tasks of EleutherAI's lm-evaluation-harness. The library itself is imported when one of its tasks is used."""

from tasks.lm_eval.task import LmEval

__all__ = ["LmEval"]
