"""What one cell costs if it shares nothing: from a model, what is asked and a method's burden to work, time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add

from harness.pricing import work
from harness.pricing.batches import Batch, plan
from harness.pricing.burden import Burden
from harness.pricing.model import Model
from harness.pricing.requests import Workload
from harness.pricing.speed import Speeds
from harness.pricing.work import Memory, Work

# requests of the longest prompt beside the samples
PROOF, PROOF_STEPS = 3, 2  # dense, the method, dense again, and their decode steps (harness/attention/engaged.py)
# warm-ups, repeats, steps, seconds for the repeats
TIMED = {"quick": (1, 3, 8, 1.0), "full": (2, 10, 32, float("inf"))}
TIMING = 0.3  # seconds that measuring speed takes beside its requests
NOTHING = Work()


@dataclass(frozen=True)
class Cost:
    """`encode`: making tokens of the pictures, once for every prompt. `common`: the part of the prefill that prompts about
    one picture repeat. Seconds are uncorrected: those of the samples, of the proof and of measuring speed.
    """

    batches: tuple[Batch, ...]
    prefill: Work
    decode: Work
    encode: Work
    common: Work
    seconds_prefill: float
    seconds_decode: float
    seconds_encode: float
    seconds_common: float
    seconds_proof: float
    seconds_speed: float
    burden: Burden
    scored: bool

    def memory(self, m: Model, side_by_side: int = 1) -> Memory:
        """See `work.memory`."""
        return work.memory(m, self.batches, self.burden, side_by_side, self.scored)

    @property
    def seconds_samples(self) -> float:
        return self.seconds_prefill + self.seconds_decode + self.seconds_encode


def cost(
    m: Model, asked: Workload, burden: Burden, mode: str, budget: int, level: str, speeds: Speeds, scored: bool = False
) -> Cost:
    """`mode`: the method's batching; `budget`: padded tokens of a batch; `level`: of measuring speed; `scored`: a
    likelihood task.
    """
    batches = plan(asked.groups, budget, mode)
    prefill = reduce(add, (work.prefill(m, b, burden, scored) for b in batches), NOTHING)
    decode = reduce(add, (work.decode(m, b, burden) for b in batches), NOTHING)
    encode = Work(weights=asked.count * m.eyes.flops) if m.eyes and asked.shows else NOTHING
    common = NOTHING
    if m.eyes and m.eyes.tokens and asked.pictures and asked.count > asked.pictures:
        one = work.prefill(m, Batch(1, m.eyes.tokens, 0, 0), burden)
        common = Work(one.weights, one.attention) * (asked.count - asked.pictures)
    seconds = speeds.prefill(prefill, burden.hooked)
    return Cost(
        tuple(batches), prefill, decode, encode, common,
        seconds, speeds.decode(decode, burden.hooked), speeds.prefill(encode), min(seconds, speeds.prefill(common)),
        _proof(m, batches, burden, speeds, scored), _speed(m, batches, burden, speeds, level), burden, scored,
    )  # fmt: skip


@lru_cache(maxsize=1 << 14)
def request(m: Model, prompt: int, steps: int, burden: Burden, speeds: Speeds) -> tuple[float, float]:
    """Seconds of one request of `prompt` tokens: to the first token, and of the `steps` decode steps."""
    b = Batch(1, prompt, steps + 1, steps + 1)
    first, rest = work.prefill(m, b, burden), work.decode(m, b, burden)
    return speeds.prefill(first, burden.hooked), speeds.decode(rest, burden.hooked)


def _proof(m: Model, batches: list[Batch], burden: Burden, speeds: Speeds, scored: bool) -> float:
    if not burden.acts:
        return 0.0
    longest = max(b.prompt for b in batches)
    return PROOF * sum(request(m, longest, 0 if scored else PROOF_STEPS, burden, speeds))


def _speed(m: Model, batches: list[Batch], burden: Burden, speeds: Speeds, level: str) -> float:
    if level not in TIMED:
        return 0.0
    warm, repeats, steps, most = TIMED[level]
    once = sum(request(m, max(b.prompt for b in batches), steps, burden, speeds))
    return TIMING + once * (
        warm + max(1, min(repeats, int(most / max(once, 1e-9)) if most < float("inf") else repeats))
    )
