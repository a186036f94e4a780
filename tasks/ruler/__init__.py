"""RULER: 13 generated long-context tasks with exact lengths."""

from tasks.ruler.task import Ruler

__all__ = ["Ruler"]
