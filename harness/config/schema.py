"""The typed root of a configuration, and which options its groups have. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore

from harness.config.plugins import files
from harness.contracts.options import MOST, Within

BASELINE = "dense"
GROUPS = ("model", "method", "probe", "task")
SECTIONS = ("tracking", "decoding", "bench")
MOST_PARTS = 100_000  # of a plan, or of a cell's samples


@dataclass
class TrackingConfig:
    """Weights & Biases, fed from the records."""

    mode: str = "auto"  # auto (online if logged in, else disabled) | disabled | offline | online
    project: str = "heed"
    group: str | None = None  # None: derived from the plan
    timeout: Annotated[float, Within(0, 1e6, "seconds a cell may spend on tracking")] = 60.0  # then it is given up


@dataclass
class DecodingConfig:
    """How the next token is chosen; see harness/asking/decoding.py."""

    search: str = "greedy"  # greedy | sample | beam
    num_beams: Annotated[int, Within(1, 1024, "beams that a beam search keeps")] = 5
    temperature: Annotated[float, Within(1e-4, 1e4, "what scores are divided by before a token is drawn")] = 1.0
    top_p: Annotated[float, Within(0, 1, "share of the probability that is drawn from; 1: all")] = 1.0
    top_k: Annotated[int, Within(0, MOST, "tokens that are drawn from; 0: all")] = 0


@dataclass
class BenchConfig:
    """`heed bench`; see harness/efficiency/bench.py for how it measures."""

    kind: str = "model"  # model: whole requests | attention: one layer's attention function alone
    lengths: Annotated[Any, Within(1, 2**24, "prompt tokens")] = field(default_factory=lambda: [512, 1024, 2048])
    batches: Annotated[Any, Within(1, 2**20, "requests computed together")] = field(default_factory=lambda: [1])
    new_tokens: Annotated[int, Within(1, 2**20, "decode steps of each request")] = 8
    repeats: Annotated[int, Within(1, 100_000, "counted rounds; every method runs once in each")] = 10
    budget_s: Annotated[float, Within(1e-3, 1e7, "seconds that a method may take at one length and batch size")] = 60.0
    layers: Annotated[int, Within(1, 10_000, "layers taken of the shape")] | None = None  # of model.random
    dtype: str = "auto"  # of model.random
    device: str = "auto"  # of model.random


@dataclass
class RunConfig:
    """The typed root. The four groups are open dictionaries: their content is checked by the classes they name."""

    seed: int = 0
    limit: Annotated[int, Within(1, MOST, "most examples of a task, taken evenly over its groups")] | None = None
    baseline: bool = True  # add `dense` to the methods: it is everybody's baseline
    efficiency: str = "quick"  # off | quick | full
    batch_tokens: Annotated[int, Within(1, MOST, "tokens in a batch, prompt and new, with padding")] = 8192
    lowering: str = "auto"  # auto | dense | gather | flex: how block patterns are computed
    share: bool = True  # compute once what methods have in common, where that is provably equal
    part: str | None = None  # i/n: run the i-th (from 0) of n parts of the plan's cells
    shard: str | None = None  # i/n: run the i-th (from 0) of n parts of every cell's samples
    allow_errors: Annotated[int, Within(0, MOST, "samples that may raise before a cell has failed")] = 0
    results: str = "results"
    dry_run: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)  # `heed bench` alone reads it
    published: Any = None  # numbers of a paper for this protocol, shown beside the measured ones
    preset: Any = None
    model: Any = None
    method: Any = None
    probe: Any = None
    task: Any = None


CHOICES = {
    "efficiency": ("off", "quick", "full"),
    "lowering": ("auto", "dense", "gather", "flex"),
    "decoding.search": ("greedy", "sample", "beam"),
    "tracking.mode": ("auto", "disabled", "offline", "online"),
    "bench.kind": ("model", "attention"),
}

ROOT_KEYS = (*(f.name for f in fields(RunConfig)), "suite")
ConfigStore.instance().store(name="heed_schema", node=RunConfig)


def options(group: str) -> list[str]:
    """The names that `group=` accepts: option files (`plugins.files`), and models that `expand_models` added."""
    added = ConfigStore.instance().repo.get(group) or {}
    return sorted(set(files(group)) | {Path(name).stem for name in added})
