"""Dialogue recall: a fact told long ago, asked for at the end."""

from tasks.recall.task import Recall

__all__ = ["Recall"]
