"""Answers and usage are a sample's own: see `invariance.py`, which also reproduces a failure."""

from __future__ import annotations

import pytest

from tests import tiny_vlm
from tests.campaigns import FULL
from tests.campaigns.invariance import differences
from tests.models import small

SOME = (
    ("generate", "llama", 0),
    ("generate", "gemma3_text", 1),
    ("nll", "mistral", 0),
    ("requests", "llama", 2),
    ("pictures", "llava", 0),
)
ALL = [
    *(("generate", family, 0) for family in small.FAMILIES),
    *(("pictures", family, 0) for family in tiny_vlm.FAMILIES),
    *(("requests", family, 2) for family in small.FAMILIES),
    *(("nll", family, 0) for family in small.FAMILIES),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "family", "seed"), sorted({*SOME, *ALL}) if FULL else SOME)
def test_nothing_depends_on_batches_or_sharing(kind: str, family: str, seed: int) -> None:
    found = differences(kind, family, seed)
    assert not found, "\n".join([f"{len(found)} differences, the first ones:", *found[:8]])
