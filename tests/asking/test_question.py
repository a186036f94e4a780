"""The question read token by token: where it is split, that dense does not mind, and what each method then sees."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from harness.asking.batches import plan_batches
from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.asking.side_by_side import prefill
from harness.attention import apart
from harness.attention.attach import attach, prepared
from harness.attention.engaged import prove
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.efficiency.measure import timed_request
from harness.errors import NotEngaged, UserError
from harness.models.inputs import Sample, collate, sample_of
from harness.models.load import ModelSpec
from harness.models.tokens import TextTokens
from harness.models.view import View
from methods.cache.h2o import HeavyHitters
from methods.cache.snapkv import SnapKV
from methods.cache.streaming_kv import StreamingKV
from methods.dense import Dense
from methods.selection.quest import Quest
from tests.models import small

CONTEXT, TAIL = 60, 9
IDS = [tuple(10 + (7 * i * j + 3 * i + j * j) % 240 for j in range(CONTEXT + TAIL)) for i in range(3)]
EQUAL = [Sample(ids, context=CONTEXT) for ids in IDS]
RAGGED = [Sample(ids[-n:], context=n - TAIL) for ids, n in zip(IDS, (69, 51, 44), strict=True)]
METHODS: tuple[Method, ...] = (
    Quest(page=4, budget=12, dense_layers=1, question="decode"),
    SnapKV(window=4, capacity=12, question="decode"),
    HeavyHitters(heavy=6, recent=6, question="decode"),
    StreamingKV(sinks=4, recent=12, question="decode"),
)
methods = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


# ---- where it begins

TEXT = "One fact. Another fact.\nWhat is the fact?"
TEMPLATES = {
    "none": None,
    "chat": "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>",
    "trimmed": "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }} [end]\n{% endfor %}[assistant]",
}


def view_with(template: str) -> View:
    spec = ModelSpec(path="micro-lm")
    tokenizer = copy.deepcopy(spec.tokens().tokenizer)
    tokenizer.chat_template = TEMPLATES[template]
    return View.of(small.model("llama"), TextTokens(tokenizer, name="split", template="auto"))


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("asked", ["What is the fact?", "\nWhat is the fact?", "act?", " is the fact?  "])
def test_the_context_ends_where_the_question_begins_on_the_ids_of_the_whole_prompt(template: str, asked: str) -> None:
    view = view_with(template)
    draft = Draft("a", TEXT.removesuffix(asked.rstrip()) + asked, (), " The fact is", "", asked)
    whole = sample_of(view, draft)
    split = apart.apart(view, whole)
    assert split.ids == whole.ids and split.context is not None and 0 < split.tail < len(whole)
    text = view.tokens.prompt_text(draft.prompt, draft.answer_prefix)
    before = text[: text.rindex(asked.rstrip())].removeprefix("<s>")
    assert before.startswith(view.decode(split.ids[: split.context]))  # nothing of the question is prefilled
    longer = view.decode(split.ids[: split.context + 1])
    assert len(longer) > len(before) or not before.startswith(longer)  # and everything before it is
    assert view.decode(split.ids[split.context :]).endswith("The fact is")


def test_messages_are_split_in_their_last_one() -> None:
    view = view_with("chat")
    told = (
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "What is it?"},
    )
    split = apart.apart(view, sample_of(view, Draft("a", told, (), "", "", "What is it?")))
    assert view.decode(split.ids[: split.context]).count("What is it?") == 1


def test_a_question_that_is_not_there_or_has_nothing_before_it_is_named() -> None:
    view = view_with("none")
    for prompt, asked, reason in (("Some text", "What?", "not in the prompt"), ("What?", "What?", "no context")):
        bare = Sample(tuple(view.encode(prompt)), Draft("one", prompt, (), "", "", asked))
        with pytest.raises(UserError, match=f"Example 'one'.*{reason}"):
            apart.apart(view, bare)


# ---- dense reads the same in either way


@pytest.mark.parametrize("family", small.FAMILIES)
@pytest.mark.parametrize(
    "decoding", [Decoding(), Decoding("sample", seed=3), Decoding("beam", num_beams=3)], ids=lambda d: d.search
)
def test_dense_answers_as_to_the_whole_prompt(family: str, decoding: Decoding) -> None:
    view, limits = small.view(family), [8, 3, 12]
    whole = [replace(s, context=None) for s in RAGGED]
    with attach(view, Dense()) as attached:
        answers, expected = (generate(view, s, limits, attached, decoding) for s in (RAGGED, whole))
    assert [a.ids for a in answers] == [e.ids for e in expected]
    assert [(a.n_prompt, a.kv_bytes_logical) for a in answers] == [(e.n_prompt, e.kv_bytes_logical) for e in expected]


def test_questions_of_one_length_batch_together_and_others_do_not() -> None:
    assert plan_batches([9, 8, 7, 6], [1] * 4, 100, "any", tails=[2, 3, 2, 3]) == [[1, 3], [0, 2]]
    assert plan_batches([9, 8, 9, 8], [1] * 4, 100, "equal", tails=[2, 2, 2, 3]) == [[3], [0, 2], [1]]
    with pytest.raises(ValueError, match="one length"):
        collate(small.view("llama"), [EQUAL[0], replace(EQUAL[1], context=CONTEXT + 1)]).tail  # noqa: B018


# ---- what a method sees


@methods
def test_a_batch_equals_its_samples_and_side_by_side_equals_alone_bit_for_bit(method: Method) -> None:
    view, limits = small.view("llama"), [6, 1, 9]
    samples = RAGGED if method.batching == "any" else EQUAL
    with attach(view, method) as attached:
        together = generate(view, samples, limits, attached)
        report = attached.report()
        alone = [generate(view, [s], [n], attached)[0] for s, n in zip(samples, limits, strict=True)]
    assert [g.ids for g in together] == [g.ids for g in alone]
    others = [m for m in METHODS if m.batching == method.batching and m != method]
    members = [prepared(view, m) for m in (method, *others, method)]
    shared = prefill(view, samples, limits, members)
    for member in (members[-1], members[0]):
        assert shared.go_on(member) == together and member.report() == report


@methods
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_first_token_of_the_answer_sees_the_method_only_if_the_question_is_decoded(
    method: Method, phase: str
) -> None:
    """With the question in the prefill, the last prompt position computes dense's logits to the bit."""
    view, sample = small.view("llama"), EQUAL[0] if phase == "decode" else replace(EQUAL[0], context=None)
    rows = []
    for m in (Dense(), replace(method, question=phase)):  # type: ignore[type-var]
        with attach(view, m) as attached:
            inputs, cache = attached.begin(collate(view, [sample])), attached.new_cache()
            given = inputs.prefill()
            if inputs.tail:
                cache, given = apart.read(view, inputs, cache), {"input_ids": inputs.ids[:, -1:]}
            rows.append(view.lm(**given, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1])
    assert torch.equal(*rows) == (phase == "prefill")


def test_what_stays_is_chosen_by_the_context_alone() -> None:
    """SnapKV: the last queries of the context vote, 12 of its 60 keys stay, and the 9 tokens of the question come on top."""
    view, method = small.view("llama"), METHODS[1]
    kept = []
    for sample in (EQUAL[0], Sample(EQUAL[0].ids[:CONTEXT]), Sample(EQUAL[0].ids)):
        with attach(view, method) as attached:
            inputs, cache = attached.begin(collate(view, [sample])), attached.new_cache()
            if inputs.tail:
                apart.read(view, inputs, cache)
            else:
                view.lm(**inputs.prefill(), past_key_values=cache, use_cache=True)
            kept.append([layer.positions[0].tolist() for layer in cache.layers])
    split, context, whole = kept
    added = [*range(CONTEXT, CONTEXT + TAIL - 1)]
    assert split == [[head + added for head in layer] for layer in context]
    assert whole != context and all(len(head) == 12 for layer in context for head in layer)
    method = replace(METHODS[2], heavy=0.1, recent=0.1)  # type: ignore[type-var]
    with attach(view, method) as attached:  # shares of the 60 tokens of the context, also after question and answer
        cache = apart.read(view, attached.begin(collate(view, [EQUAL[0]])), attached.new_cache())
    assert {layer.keys.shape[2] for layer in cache.layers} == {12}


@methods
def test_the_proof_covers_the_way_in_which_samples_are_read(method: Method) -> None:
    view, calls = small.view("llama"), []
    handle = view.layers[0].register_forward_pre_hook(
        lambda m, args, kwargs: calls.append((args[0] if args else kwargs["hidden_states"]).shape[1]), with_kwargs=True
    )
    with handle:
        proof = prove(view, method, collate(view, [EQUAL[0]]))
    assert calls == 3 * [CONTEXT, *[1] * (TAIL + 2)]  # dense, the method, dense
    assert proof["restored"] and proof["logits_moved"] > 0 and proof["density_decode"] < 1 == proof["density_prefill"]
    with pytest.raises(NotEngaged, match=r"did not act|would not change"):
        prove(view, SnapKV(window=4, capacity=CONTEXT, question="decode"), collate(view, [EQUAL[0]]))


def test_the_time_to_first_token_holds_the_forwards_of_the_question() -> None:
    view, calls = small.view("llama"), []
    for sample in (EQUAL[0], replace(EQUAL[0], context=None)):
        with attach(view, METHODS[0]) as attached, view.layers[0].register_forward_hook(lambda *_: calls.append(1)):
            *_, left = timed_request(view, [sample], 3, attached)
        assert left.prompt == CONTEXT + TAIL and left.caches[0][0].get_seq_length() == CONTEXT + TAIL + 3
        assert len(calls) == (1 + TAIL + 3 if sample.context else 1 + 3)
        calls.clear()


def test_a_sample_that_is_shortened_keeps_its_question() -> None:
    short = EQUAL[0].shortened(30)
    assert (len(short), short.tail, short.context) == (30, TAIL, 30 - TAIL)
    assert short.ids == EQUAL[0].ids[:21] + EQUAL[0].ids[CONTEXT:]
    assert Sample(EQUAL[0].ids).shortened(30).ids == EQUAL[0].ids[:30]
    assert EQUAL[0].shortened(500).ids == EQUAL[0].ids and EQUAL[0].shortened(500).context == CONTEXT
