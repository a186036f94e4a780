"""Perplexity of long documents with a sliding window."""

from tasks.perplexity.task import Perplexity

__all__ = ["Perplexity"]
