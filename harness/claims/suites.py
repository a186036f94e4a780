"""Suites as their files say them, for the figures and selectors that claims take from there."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def suite_table(file: Path) -> dict[str, Any]:
    """The `published` block of a suite, empty if it has none."""
    return dict(suite(file).get("published") or {})


@cache
def suite(file: Path) -> dict[str, Any]:
    """A suite's file as it stands, interpolations unresolved."""
    found: Any = OmegaConf.to_container(OmegaConf.load(file))
    return dict(found or {})
