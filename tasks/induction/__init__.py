"""Induction: random tokens said twice, and how much of the second time is predicted."""

from tasks.induction.task import Induction

__all__ = ["Induction"]
