"""The test matrix as data: every method, a setting that acts on `PROMPT` tokens, one that must equal dense, families.

The settings act even under the tiny models' sliding window of 32 keys. A new method is one more `Case`.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.contracts.method import Method
from methods.cache.h2o import HeavyHitters
from methods.cache.snapkv import SnapKV
from methods.cache.streaming_kv import StreamingKV
from methods.dense import Dense
from methods.patterns.dilated import DilatedWindow
from methods.patterns.longnet import LongNet
from methods.patterns.power import PowerAttention
from methods.patterns.sliding import SlidingWindow
from methods.patterns.streaming import StreamingMask
from methods.patterns.stride_slash import StrideSlash
from methods.selection.quest import Quest
from tests import tiny

PROMPT = 90
FAR = 10**6  # a budget no test context reaches
VARIANTS = ("llama", "gemma3", "gpt2")  # where second settings of a method are tried
ROTARY = tuple(f for f in tiny.FAMILIES if f != "gpt2")


@dataclass(frozen=True)
class Case:
    """One row of the matrix."""

    acts: Method
    equals_dense: Method
    families: tuple[str, ...] = tiny.FAMILIES
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.acts.name


CASES = (
    Case(Dense(), Dense()),
    Case(PowerAttention(block_size=4, window_blocks=2), PowerAttention(block_size=4, window_blocks=FAR)),
    Case(
        PowerAttention(block_size=4, window_blocks=2, full_layers=(1,)),
        PowerAttention(block_size=4, window_blocks=2, full_layers=(0, 1, 2)),
        VARIANTS,
        label="power_hybrid",
    ),
    Case(SlidingWindow(block_size=4, window_blocks=3), SlidingWindow(block_size=4, window_blocks=FAR)),
    Case(StrideSlash(block_size=4, window_blocks=2, stride=4), StrideSlash(block_size=4, stride=1)),
    Case(DilatedWindow(block_size=4, span_blocks=6), DilatedWindow(block_size=4, span_blocks=FAR, dilation=0)),
    Case(LongNet(block_size=4, widths=(2, 4, 8), rates=(1, 2, 4)), LongNet(block_size=4, widths=(2**20,), rates=(1,))),
    Case(StreamingMask(sinks=4, recent=12, block_size=8), StreamingMask(sinks=4, recent=FAR, block_size=8)),
    Case(Quest(page=4, budget=12, dense_layers=1), Quest(page=1, budget=FAR, dense_layers=0)),
    Case(
        Quest(page=4, budget=12, dense_layers=1, share="group"),
        Quest(page=1, budget=FAR, dense_layers=0, share="group"),
        VARIANTS,
        label="quest_group",
    ),
    Case(SnapKV(window=4, capacity=12), SnapKV(window=4, capacity=FAR)),
    Case(
        SnapKV(window=4, capacity=12, share="per_head", pool="max", kernel=7),
        SnapKV(window=4, capacity=PROMPT, share="per_head", pool="max"),
        VARIANTS,
        label="snapkv_per_head",
    ),
    Case(HeavyHitters(heavy=6, recent=6), HeavyHitters(heavy=0.5, recent=FAR)),
    Case(StreamingKV(sinks=4, recent=12), StreamingKV(sinks=4, recent=FAR), ROTARY),
)
PAIRS = [(case, family) for case in CASES for family in case.families]
ACTING = [(case, family) for case, family in PAIRS if case.acts.name != "dense"]


def pair_id(value: object) -> str:
    """Test ids such as `quest-mistral`."""
    return str(value)
