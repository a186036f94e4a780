"""Usage is a property of the sample: counted by hand, whatever batch, padding, beams or shared beginning it came through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.asking.decoding import Decoding
from harness.asking.dialogue import converse
from harness.asking.generation import Generation, generate
from harness.asking.likelihood import nll
from harness.asking.requests import respond
from harness.asking.side_by_side import prefill
from harness.asking.transform import transformed
from harness.attention.attach import attach, prepared
from harness.attention.usage import of_sample, report
from harness.contracts.call import Call, Request
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.contracts.question import GenerateUntil, LogLikelihood, Requests
from harness.models.inputs import Sample, sample_of
from methods.cache.snapkv import SnapKV
from methods.contrast.icd import ICD
from methods.inputs.carve import Carve
from methods.patterns.streaming import StreamingMask
from methods.positions.cca import ConcentricCausal
from methods.selection.quest import Quest
from tests import tiny_vlm
from tests.campaigns.invariance import differences
from tests.models import small

PROMPTS = [tuple(10 + (7 * i * j + 3 * i + j * j) % 240 for j in range(n)) for i, n in enumerate((90, 71, 40))]
LIMITS = [3, 9, 6]
STREAMING = StreamingMask(sinks=4, recent=12, block_size=8)
QUEST = Quest(page=4, budget=12, dense_layers=1)


def used(
    method: Method, prompts: Any, limits: Any, decoding: Decoding | None = None, share: bool = False
) -> list[dict]:
    view = small.view("llama")
    with attach(view, method) as attached:
        made = generate(view, prompts, limits, attached, decoding or Decoding(), share)
    return [of_sample(g.usage) | {"bytes": g.kv_bytes_logical} for g in made]


@pytest.mark.parametrize("method", ["power", "quest", "snapkv", "streaming_kv"])
def test_a_few_methods_do_not_depend_on_batches_or_sharing(method: str) -> None:
    assert not differences("generate", "llama", 5, [method], n=6)


def test_pairs_are_those_that_the_pattern_allows_to_this_prompt_and_its_own_steps() -> None:
    """Streaming over a prompt of 71: token j is read by i if it is a sink or within the window of blocks; counted one by
    one, beside a longer and a shorter prompt.
    """
    one = used(STREAMING, PROMPTS, LIMITS)[1]
    blocks = STREAMING.blocks()
    i, j = torch.arange(71 + 8)[:, None], torch.arange(71 + 8)[None]
    kept = blocks.keep(None, i // 8, j // 8) | (i // 8 == j // 8)
    kept = (kept & blocks.token(i, j) if blocks.token is not None else kept) & (j <= i) | (i == j)
    reads = kept.sum(1)
    assert one["density_prefill"] == int(reads[:71].sum()) / (71 * 72 // 2)
    assert one["density_decode"] == int(reads[71:].sum()) / sum(range(72, 80))
    assert one["keys_read"] == int(reads[71:].sum()) / 8 and one["keys_read_prefill"] == int(reads[:71].sum()) / 71
    assert one["kv_tokens_kept"] == one["kv_tokens_seen"] == 79 and one["kv_share"] == 1
    assert one["bytes_read"] == one["keys_read"] * 3 * 2 * 2 * 8 * 4  # layers, key and value, key heads, size, bytes
    assert one["phases"] == ["prefill", "decode"] and one["layers_dense"] == [] and one["changed"] == 1


def test_a_sample_that_ends_at_once_has_no_decode_and_remembers_no_pages() -> None:
    first, *_ = used(QUEST, PROMPTS, [1, 9, 6])
    alone = used(QUEST, PROMPTS[:1], [1])[0]
    assert first == alone and first["density_decode"] is None and first["phases"] == [] and first["changed"] == 0
    assert first["bytes"] == 90 * 3 * 2 * 2 * 8 * 4


def test_the_layers_that_stay_dense_are_named_and_the_calls_that_changed_are_counted() -> None:
    """A prompt, then 8 steps in which two of three layers select."""
    one = used(QUEST, PROMPTS, LIMITS)[1]
    assert one["layers_dense"] == [0] and one["phases"] == ["decode"]
    assert one["changed"] == 8 * 2 / (9 * 3)


def test_a_budget_that_covers_a_prompt_changes_nothing_of_it() -> None:
    long, _, short = used(StreamingMask(sinks=4, recent=60, block_size=8), PROMPTS, [4, 4, 4])
    assert short["changed"] == 0 and short["density"] == 1 and short["layers_dense"] == [0, 1, 2]
    assert long["changed"] == 1 and long["density"] < 1


def test_beams_of_a_sample_are_averaged() -> None:
    beams = Decoding("beam", num_beams=3)
    together = used(STREAMING, PROMPTS, LIMITS, beams)
    assert together == [used(STREAMING, [p], [n], beams)[0] for p, n in zip(PROMPTS, LIMITS, strict=True)]
    assert 0 < together[0]["keys_read"] < 30


def test_rows_of_a_likelihood_are_counted_alone() -> None:
    view = small.view("llama")
    with attach(view, STREAMING) as attached:
        nll(view, PROMPTS, [5, 5, 5], attached)
        together = attached.counted([0, 0, 0])
        alone = []
        for prompt in PROMPTS:
            nll(view, [prompt], [5], attached)
            alone += attached.counted([0]) or []
    assert together == alone and report(alone[2:])["density"] == used(STREAMING, PROMPTS[2:], [1])[0]["density"]


def test_a_method_that_goes_on_from_a_dense_prefill_has_read_it_itself() -> None:
    view, method = small.view("llama"), SnapKV(window=4, capacity=12)
    samples = [Sample(p) for p in (PROMPTS[0], PROMPTS[0][::-1])]
    member = prepared(view, method)
    shared = prefill(view, samples, [4, 7], [member, prepared(view, SnapKV(window=4, capacity=16))]).go_on(member)
    with attach(view, method) as attached:
        assert shared == generate(view, samples, [4, 7], attached)
    assert of_sample(shared[1].usage)["kv_tokens_kept"] == 12 + 6


def test_requests_and_dialogues_count_everything_that_was_asked() -> None:
    view = small.view("llama")
    asked = (LogLikelihood(0, "x"), LogLikelihood(0, "yz"), GenerateUntil(0, ("zq",), 5))
    with attach(view, STREAMING) as attached:
        one = respond(view, [Requests(asked, ("a" * 70,))], attached)[0].usage or {}
        (talk,) = converse(view, [sample_of(view, Draft("a", "b" * 60))], [["c" * 30]], [4], attached)
        both = [count for _, answer in talk for count in answer.usage]
    read = (71, 71, 72)  # the second continuation has two tokens, of which the last is only predicted
    rows = sum(1 for n in read for _ in range(n))
    assert one["keys_read_prefill"] * rows == pytest.approx(sum(_reads(n) for n in read))
    assert one["kv_tokens_seen"] == 71 + 4 and one["kv_bytes_logical"] == 75 * 3 * 2 * 2 * 8 * 4
    assert len(both) == 2
    assert report(both)["pairs_visible"] == sum(c.visible["prefill"] + c.visible["decode"] for c in both)


def _reads(n: int) -> int:
    """Keys that one head reads over a prompt of n under `STREAMING`."""
    with attach(small.view("llama"), STREAMING) as attached:
        nll(attached.view, [tuple(range(3, 3 + n))], [1], attached)
        return report(attached.counted([0]) or [])["pairs_read"] // (3 * 4)


# -- pictures ---------------------------------------------------------------------------------------------------------


def asked(key: bool = True) -> list[Sample]:
    pictures, texts = tiny_vlm.images(2, 0), ("Is there a dog?", "Is there a red cat here?", "Is there a dog?")
    named = zip(texts, (0, 0, 1), strict=True)
    drafts = [Draft(f"{i}", t, (pictures[k],), image_key=f"p{k}" if key else "") for i, (t, k) in enumerate(named)]
    return [sample_of(tiny_vlm.view("llava"), d) for d in drafts]


def pictured(method: Method, samples: list[Sample], share: bool = False) -> list[Generation]:
    with attach(tiny_vlm.view("llava"), method) as attached:
        return generate(tiny_vlm.view("llava"), samples, [5, 2, 4], attached, share=share)


@pytest.mark.parametrize("method", [STREAMING, ICD()], ids=lambda m: m.name)
def test_a_shared_beginning_belongs_to_every_prompt_that_has_it(method: Method) -> None:
    shared, apart = pictured(method, asked(), share=True), pictured(method, asked())
    for one, other in zip(shared, apart, strict=True):
        counts = ({k: v for k, v in of_sample(g.usage).items() if not k.startswith("method_")} for g in (one, other))
        assert next(counts) == next(counts) and one.kv_bytes_logical == other.kv_bytes_logical


def test_the_second_stream_holds_a_cache_too() -> None:
    plain = pictured(STREAMING, asked())  # one cache with every key
    two = pictured(ICD(), asked())
    per_token = plain[0].kv_bytes_logical / (plain[0].n_prompt + plain[0].n_new - 1)  # type: ignore[operator]
    assert (two[0].kv_bytes_logical or 0) > 2 * per_token * (two[0].n_prompt + two[0].n_new - 1)  # its prompt is longer


def test_another_picture_or_other_positions_change_every_call() -> None:
    view = tiny_vlm.view("llava")
    sample = transformed(view, Carve(), asked(key=False)[0])
    for method, samples in ((Carve(), [sample]), (ConcentricCausal(parts="positions"), asked()[:1])):
        with attach(view, method) as attached:
            one = of_sample(generate(view, samples, [4], attached)[0].usage)
        assert one["changed"] == 1 and one["phases"] == ["prefill", "decode"] and one["layers_dense"] == []


# -- mechanisms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "simulated"), [("both", True), ("mask", True), ("positions", False)])
def test_whatever_masks_a_dense_kernel_is_simulated(parts: Any, simulated: bool) -> None:
    made = pictured(ConcentricCausal(parts=parts), asked())
    assert {of_sample(g.usage)["simulated"] for g in made} == {simulated}


@dataclass(frozen=True, kw_only=True)
class DropsEverything(Method):
    """Would leave an empty cache."""

    name = "drops_everything"
    batching = "equal"
    prefill_is_dense = True

    def edit_cache(self, ctx: Call, layer_cache: Any) -> Tensor:
        return torch.empty(*layer_cache.keys.shape[:2], 0, dtype=torch.long)


def test_the_newest_key_stays_in_every_cache() -> None:
    view = small.view("llama")
    with attach(view, DropsEverything()) as attached:
        cache = view.model(torch.tensor([PROMPTS[0]]), past_key_values=attached.new_cache()).past_key_values
        made = generate(view, [PROMPTS[0]], [4], attached)[0]
    assert [layer.positions.tolist() for layer in cache.layers] == [[[[89], [89]]]] * 3
    assert of_sample(made.usage)["kv_tokens_kept"] == 1 and of_sample(made.usage)["keys_read"] == 2
    assert made.n_new == 4


@dataclass(frozen=True, kw_only=True)
class Reports(Method):
    """A number for each sample, and one for all of them."""

    name = "reports"

    def begin(self, request: Request) -> None:
        request.count("length", request.inputs.mask.sum(1))

    def logits(self, ctx: Call, z: Tensor) -> None:
        ctx.count("step", torch.full((len(z), 2), float(ctx.step)))
        ctx.count("flat", 7)


def test_what_a_method_reports_is_the_samples_own_and_ends_with_it() -> None:
    made = used(Reports(), PROMPTS, LIMITS)
    assert [m["method_length"] for m in made] == [90, 71, 40]
    assert [m["method_step"] for m in made] == [(n - 1) / 2 for n in LIMITS] and {m["method_flat"] for m in made} == {7}
