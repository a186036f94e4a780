"""One dense prefill for several methods gives what each gives alone, bit for bit, on every family."""

from __future__ import annotations

import pytest

from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.asking.side_by_side import prefill
from harness.attention.attach import attach, prepared
from harness.models.inputs import Sample
from tests.matrix import CASES, ROTARY
from tests.models import small

SHARING = [
    case for case in CASES if case.acts.prefill_is_dense and all(hook.shares_prefill for hook in case.acts.hooks)
]
PROMPT = 90
EQUAL = [tuple(10 + (7 * i * j + 3 * i + j * j) % 240 for j in range(PROMPT)) for i in range(3)]
RAGGED = [ids[-n:] for ids, n in zip(EQUAL, (90, 71, 64), strict=True)]


@pytest.mark.parametrize("family", small.FAMILIES)
@pytest.mark.parametrize("search", ["greedy", pytest.param("sample", marks=pytest.mark.slow)])
def test_every_method_goes_on_as_if_it_had_read_the_prompt_itself(family, search):
    view, decoding = small.view(family), Decoding(search=search, seed=3)
    for batching, prompts in (("any", RAGGED), ("equal", EQUAL)):
        methods = [c.acts for c in SHARING if c.acts.batching == batching and _serves(c, family)]
        samples, limits = [Sample(p) for p in prompts], [1, 9, 14]
        members = [prepared(view, m) for m in methods]
        together = prefill(view, samples, limits, members, decoding)
        for method, member in zip(methods, members, strict=True):
            with attach(view, method) as alone:
                wanted = generate(view, samples, limits, alone, decoding)
            assert together.go_on(member) == wanted, method.name
            assert member.report() == alone.report(), method.name


def _serves(case, family):
    """Position shifts need rotary positions."""
    return case.families != ROTARY or family != "gpt2"


def test_there_is_something_to_share():
    assert {c.acts.name for c in SHARING} == {"dense", "quest", "snapkv", "h2o", "streaming_kv"}


def test_rows_that_stop_at_once_do_not_disturb_the_others():
    samples, limits = [Sample(p) for p in EQUAL], [6, 6, 6]
    view, first = small.view("llama"), generate(small.view("llama"), samples, [1] * 3)[1].ids[0]
    view.model.generation_config.eos_token_id = [first]
    method = next(c.acts for c in SHARING if c.acts.name == "snapkv")
    with attach(view, method) as alone:
        wanted = generate(view, samples, limits, alone)
    member = prepared(view, method)
    assert prefill(view, samples, limits, [member]).go_on(member) == wanted
    assert wanted[1].n_new == 1 and wanted[1].finish == "stop" and max(w.n_new for w in wanted) > 1
    assert member.report() == alone.report()


def test_every_stop_id_of_the_checkpoint_ends_an_answer_also_where_nothing_was_generated_before():
    samples, limits, view = [Sample(p) for p in EQUAL], [9] * 3, small.view("llama")
    stop = next(t for t in generate(view, samples, limits)[1].ids[1:])
    fresh = small.view("llama")
    fresh.model.generation_config.eos_token_id = [1, stop]  # the tokenizer alone knows the first
    member = prepared(fresh, next(c.acts for c in SHARING if c.acts.name == "snapkv"))
    prefill(fresh, samples, limits, [member])
    assert fresh.stop_ids == [1, stop]


def test_the_model_is_what_it_was_and_only_one_prefill_ran():
    view, calls = small.view("llama"), []
    handle = view.layers[0].register_forward_pre_hook(
        lambda m, args, kwargs: calls.append((args[0] if args else kwargs["hidden_states"]).shape[1]), with_kwargs=True
    )
    before = view.attn_setting()
    try:
        members = [prepared(view, c.acts) for c in SHARING]
        samples = [Sample(p) for p in EQUAL]
        together = prefill(view, samples, [4] * 3, members)
        assert calls == [PROMPT]
        for member in members:
            together.go_on(member)
        assert set(calls[1:]) == {1}
    finally:
        handle.remove()
    assert view.attn_setting() == before
