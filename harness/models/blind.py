"""What a model without eyes answers to pictures. Imports no torch."""

from __future__ import annotations

from harness.errors import UserError


def blind(model: str) -> UserError:
    """What a model without eyes says to a task with pictures."""
    return UserError(
        f"Model '{model}' reads text only, and this task shows it pictures; choose a vision-language model "
        "(`heed list models`)."
    )
