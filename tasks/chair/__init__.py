"""CHAIR: objects that a caption names and the image does not hold."""

from tasks.chair.task import Chair

__all__ = ["Chair"]
