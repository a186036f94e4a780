"""The table of hooks: what follows from it for every method of the repository is what was true before there was one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.asking.decoding import Decoding
from harness.attention import idle
from harness.attention.attach import attach
from harness.contracts.hooks import HOOKS
from harness.contracts.method import Method
from harness.contracts.question import Generate
from harness.efficiency.subjects import AttentionAlone
from harness.errors import UserError
from harness.plan import refusals, sharing
from harness.pricing import burden
from methods.activations.capture import Capture
from methods.cache.kvpress import KVPress
from tests import tiny
from tests.matrix import CASES as TEXT_CASES
from tests.methods.picture_matrix import CASES as PICTURE_CASES
from tests.models import small

METHODS: dict[str, Method] = {str(case): case.acts for case in (*TEXT_CASES, *PICTURE_CASES)}
FAR = 10**5  # tokens, beyond every budget here
METHODS |= {"kvpress": KVPress(), "capture": Capture(what=("heads",))}

# What holds for each method, written down before there was a table, when each reader had a list of names:
#   shares      goes on from a dense prefill that other methods use, too
#   leaves_out  is there to leave keys out; `late`: what it leaves out only the next forward misses
#   unchanged   an answer for which nothing was left out is dense's by construction
#   tracks      needs a cache with every key of every layer
#   remembers   loses something where a model reads everything anew
#   rows        must see the logits of a text at once
#   lowered     the run's `lowering` is part of its identity
#   hooked      makes the library's small steps slower
#   alone       its attention function can be timed alone
#   searches    brings its own search
#   generates   refused where a given text is scored in one pass; `free`: also where its token ids are fixed
HELD = {
    "dense": "shares alone",
    "power": "leaves_out unchanged lowered hooked alone",
    "power_hybrid": "leaves_out unchanged lowered hooked alone",
    "sliding": "leaves_out unchanged lowered hooked alone",
    "stride_slash": "leaves_out unchanged lowered hooked alone",
    "dilated": "leaves_out unchanged lowered hooked alone",
    "longnet": "leaves_out unchanged lowered hooked alone",
    "streaming": "leaves_out unchanged lowered hooked alone",
    "quest": "shares leaves_out unchanged tracks remembers hooked alone generates",
    "quest_group": "shares leaves_out unchanged tracks remembers hooked alone generates",
    "snapkv": "shares leaves_out unchanged tracks remembers hooked alone generates",
    "snapkv_per_head": "shares leaves_out unchanged tracks remembers hooked alone generates",
    "h2o": "shares leaves_out unchanged late tracks remembers hooked alone generates",
    "streaming_kv": "shares leaves_out unchanged late tracks remembers hooked alone generates",
    "kvpress": "shares leaves_out unchanged tracks remembers hooked generates",
    "vcd": "remembers rows hooked",
    "icd": "remembers rows hooked",
    "vdd": "remembers rows hooked",
    "m3id": "remembers rows hooked",
    "dola": "rows hooked",
    "pai": "remembers rows hooked",
    "paint": "remembers rows hooked",
    "vaf": "hooked alone",
    "var": "hooked",
    "vhr": "remembers hooked",
    "vista": "remembers rows hooked",
    "iri": "remembers hooked",
    "carve": "generates free",
    "cca": "remembers hooked",
    "opera": "searches remembers generates",
    "capture": "hooked generates",
}


def refused(check: Any, *args: Any) -> bool:
    """Whether a check raises."""
    try:
        check(*args)
    except UserError:
        return True
    return False


def timed_alone(method: Method) -> bool:
    """Whether nothing that it does stands outside the attention function."""
    subject = AttentionAlone(small.view("llama"), {"method": method}, "auto", 1, 0, torch.device("cpu"))
    return "outside the attention function" not in subject.refusals().get("method", "")


def what_holds(method: Method) -> set[str]:
    """The words of `HELD`, from those who ask the table today."""
    task = SimpleNamespace(asks=Generate, needs_images=False)
    price = burden.of(method, 1, "auto")
    found = {
        "shares": sharing.route(SimpleNamespace(method=method, task=task), Decoding()) is not None,  # type: ignore[arg-type]
        "leaves_out": method.leaves_out,
        "late": method.budget_on == "context" and idle.context(method, 90, 40) < 90 + 39,
        "unchanged": idle.equals_dense(method, FAR, 4, {"changed": 0}),
        "tracks": method.tracks_keys,
        "remembers": any(hook.remembers for hook in method.hooks),
        "rows": any(hook.whole_rows for hook in method.hooks),
        "lowered": any(hook.is_lowered for hook in method.hooks),
        "hooked": price.hooked,
        "alone": timed_alone(method),
        "generates": refused(refusals.check_scored, method),
        "free": refused(refusals.check_fixed, method),
        "searches": method.searches,
    }
    assert price.acts == bool(method.hooks)
    return {word for word, holds in found.items() if holds}


@pytest.mark.parametrize("label", HELD)
def test_the_table_says_of_every_method_what_was_true_before_there_was_one(label: str) -> None:
    assert what_holds(METHODS[label]) == set(HELD[label].split())


# The same for methods of one hook, that say that their prefill is dense.
HELD_BY_ONE = {
    "around": "shares unchanged hooked",
    "transform": "free",
    "begin": "remembers",
    "layer_in": "hooked",
    "mask": "hooked alone",
    "pattern": "leaves_out unchanged lowered hooked alone",
    "select": "shares leaves_out unchanged tracks remembers hooked alone",
    "scores": "hooked alone",
    "probs": "hooked alone",
    "edit_output": "hooked alone",
    "edit_cache": "shares leaves_out unchanged late tracks remembers hooked alone",
    "heads": "hooked",
    "attn_out": "hooked",
    "router": "hooked",
    "mlp_out": "hooked",
    "layer_out": "hooked",
    "logits": "rows hooked",
    "generate": "remembers searches",
}


@pytest.mark.parametrize("name", HOOKS)
def test_what_follows_from_each_hook_alone(name: str) -> None:
    one = type("One", (Method,), {name: lambda self, *given: nullcontext(), "prefill_is_dense": True})
    assert what_holds(one()) == {*HELD_BY_ONE[name].split(), "generates"}


def test_every_method_of_the_repository_is_looked_at() -> None:
    assert set(HELD) == set(METHODS)


@pytest.mark.parametrize("label", [str(case) for case in TEXT_CASES])
@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_a_run_is_simulated_where_the_table_says_that_a_mask_is_computed(label: str, lowering: str) -> None:
    method, view = METHODS[label], tiny.view("llama")
    with torch.no_grad(), attach(view, method, lowering) as attached:
        view.model(tiny.ids(90), past_key_values=attached.new_cache())
        simulated = attached.report().get("simulated", False)
    assert simulated == burden.is_mask(method, lowering)


@dataclass(frozen=True, kw_only=True)
class Hidden(Method):
    """Hides the first token behind a mask."""

    name = "hidden"

    def mask(self, ctx: Any, shown: torch.Tensor) -> torch.Tensor:
        hidden = shown.clone()
        hidden[..., 1:, 0] = False
        return hidden


def test_a_mask_of_its_own_is_simulated_under_every_lowering() -> None:
    view = tiny.view("llama")
    with torch.no_grad(), attach(view, Hidden(), "gather") as attached:
        view.model(tiny.ids(20))
        assert attached.report()["simulated"] and burden.is_mask(Hidden(), "gather")


def test_hooks_are_found_for_the_class_in_the_order_of_the_table() -> None:
    class Inner(Hidden):
        def logits(self, ctx: Any, z: Any) -> Any:
            return z

        def transform(self, view: Any, draft: Any, ask: Any) -> Any:
            return draft

    assert [hook.name for hook in Inner.hooks] == ["transform", "mask", "logits"]
    assert Inner().hooks is Inner.hooks and Method.hooks == () and [hook.name for hook in Hidden.hooks] == ["mask"]


FACTS = {
    "require", "lower", "validate", "check", "layers", "idle", "receptive_field", "blocks", "lesson",
}  # fmt: skip


def test_every_function_of_a_method_is_a_fact_or_a_hook_with_a_record() -> None:
    functions = {name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")}
    assert functions - FACTS == set(HOOKS)
    assert all(hook.name == name for name, hook in HOOKS.items())
