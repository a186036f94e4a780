"""How a job ended that did not return: the messages that the submitting process shows."""

from __future__ import annotations

from harness.errors import UserError


class JobLost(UserError):
    """A job that was cancelled, ran out of time or whose node failed. Its records stay; the same command continues."""


class JobBug(Exception):
    """A job that raised. The message is the traceback of the node."""
