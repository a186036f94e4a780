"""POPE: yes/no questions about objects that are, or are not, in an image."""

from tasks.pope.task import Pope

__all__ = ["Pope"]
