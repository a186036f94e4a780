"""`heed probe`: the road of `heed run` with probes in place of methods; it ends in tables and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config.compose import options
from harness.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def look(overrides: list[str], multirun: bool) -> int:
    """One matrix of models, probes and tasks in this process, or a sweep of them."""
    if multirun:
        from harness.commands.sweep import sweep

        return sweep(overrides, _check)
    from harness.commands import run
    from harness.launch.options import refuse_without_m

    refuse_without_m(overrides)
    return run.once(overrides, check=_check)


def _check(cfg: DictConfig) -> None:
    if not cfg.probe:
        known = options("probe")
        raise UserError(
            f"No probe was chosen: write heed probe model=NAME probe=[{known[0]}] task=[NAME]. Known: {', '.join(known)}. What they "
            "look for: heed list probes."
        )
