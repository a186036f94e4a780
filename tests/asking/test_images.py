"""Generation about pictures: sharing, searches, batches and conversations, on tiny models of every family."""

from __future__ import annotations

import pytest
import torch

from harness.asking.decoding import Decoding, noise, processors
from harness.asking.dialogue import converse
from harness.asking.generation import _can_share, generate
from harness.contracts.inputs import Draft
from harness.models.inputs import Memory, Sample, collate, features, memory, sample_of
from harness.models.view import View
from tests import tiny_vlm

QUESTIONS = [("Is there a dog?", 0), ("Is there a red cat here?", 0), ("Describe it.", 1), ("Is there a dog?", 2)]
LIMITS = [6, 4, 6, 5]


def samples(view: View) -> list[Sample]:
    pictures = tiny_vlm.images(3, 0)
    return [
        sample_of(view, Draft(f"e{i}", text, (pictures[k],), image_key=f"picture-{k}"))
        for i, (text, k) in enumerate(QUESTIONS)
    ]


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
@pytest.mark.parametrize(
    "decoding", [Decoding(), Decoding("beam", num_beams=3), Decoding("sample", seed=3)], ids=lambda d: d.search
)
def test_a_batch_of_pictures_gives_what_each_gives_alone(family: str, decoding: Decoding) -> None:
    view = tiny_vlm.view(family)
    together = generate(view, samples(view), LIMITS, decoding=decoding)
    alone = [generate(view, [s], [n], decoding=decoding)[0] for s, n in zip(samples(view), LIMITS, strict=True)]
    assert [g.ids for g in together] == [g.ids for g in alone]
    assert [g.n_new for g in together] <= LIMITS


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
@pytest.mark.parametrize("decoding", [Decoding(), Decoding("sample", seed=3)], ids=lambda d: d.search)
def test_a_shared_prefill_changes_no_answer(family: str, decoding: Decoding) -> None:
    view = tiny_vlm.view(family)
    apart = generate(view, samples(view), LIMITS, decoding=decoding)
    assert [g.ids for g in generate(view, samples(view), LIMITS, decoding=decoding, share=True)] == [
        g.ids for g in apart
    ]


def test_pictures_are_encoded_and_prefilled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    view = tiny_vlm.view("llava")
    memory(view).clear()
    encoded, read = [], []
    real = type(view.vision).features
    monkeypatch.setattr(type(view.vision), "features", lambda self, t: encoded.append(1) or real(self, t))
    handle = view.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: read.append((args[0] if args else kwargs["hidden_states"]).shape[:2]),
        with_kwargs=True,
    )
    with handle:
        generate(view, samples(view), [1] * 4, share=True)
    assert len(encoded) == 3
    assert read[0][0] == 3, "one prefix for each picture"
    assert sum(rows * n for rows, n in read) < sum(map(len, samples(view)))


def test_a_picture_that_was_changed_is_encoded_anew() -> None:
    view = tiny_vlm.view("llava")
    one, other = tiny_vlm.images(2, 1)
    known = sample_of(view, Draft("a", "Is there a dog?", (one,), image_key="same"))
    free = sample_of(view, Draft("b", "Is there a dog?", (other,)))
    assert torch.equal(features(view, known), features(view, known))
    assert not torch.equal(features(view, known), features(view, free))


def test_a_beam_search_is_the_librarys_own() -> None:
    view = tiny_vlm.view("llava")
    sample = samples(view)[0]
    inputs = collate(view, [sample])
    expected = view.model.generate(
        input_ids=inputs.ids, attention_mask=inputs.mask, **sample.tensors, num_beams=3, do_sample=False,
        max_new_tokens=6, eos_token_id=view.stop_ids, pad_token_id=view.pad_id,
    )[0, len(sample) :].tolist()  # fmt: skip
    got = generate(view, [sample], [6], decoding=Decoding("beam", num_beams=3))[0]
    assert list(got.ids) == expected[: len(got.ids)]


def test_sampling_draws_from_the_models_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    processor = processors(Decoding("sample", temperature=2.0, seed=1), ["x"], 0)
    counts = torch.zeros(4)
    for i in range(4000):
        row = logits
        for p in processor[:-1]:
            row = p(None, row)
        counts[(row.log_softmax(-1) + noise(1, f"x{i}", 0, 4)).argmax()] += 1
    assert torch.allclose(counts / 4000, (logits / 2).softmax(-1)[0], atol=0.03)


def test_nucleus_sampling_leaves_out_the_tail() -> None:
    logits = torch.tensor([[0.0, 5.0, 4.0, -9.0]])
    *warpers, gumbel = processors(Decoding("sample", top_p=0.9, seed=1), ["x"], 0)
    for p in warpers:
        logits = p(None, logits)
    for step in range(20):
        assert int(gumbel(torch.zeros(1, step), logits).argmax()) in (1, 2)


def test_the_seed_and_the_example_decide_the_draw() -> None:
    assert torch.equal(noise(1, "a", 0, 8), noise(1, "a", 0, 8))
    others = [noise(2, "a", 0, 8), noise(1, "b", 0, 8), noise(1, "a", 1, 8)]
    assert not any(torch.equal(noise(1, "a", 0, 8), other) for other in others)


def test_a_conversation_shows_the_answers_back() -> None:
    view = tiny_vlm.view("llava")
    first, turns = samples(view)[:2], [("Is there a cat?", "Is there a tree?"), ("Describe it.",)]
    got = converse(view, first, turns, [4, 4])
    answers = [[answer.text for _, answer in talk] for talk in got]
    assert [len(a) for a in answers] == [3, 2]
    draft = first[0].draft
    again = Draft(
        draft.id,
        (
            {"role": "user", "content": draft.prompt},
            {"role": "assistant", "content": answers[0][0].strip()},
            {"role": "user", "content": turns[0][0]},
        ),
        draft.images,
    )
    assert generate(view, [sample_of(view, again)], [4])[0].text == answers[0][1]


def test_memory_forgets_what_was_used_least_recently() -> None:
    kept = Memory(limit=3 * 40)
    for name in "abc":
        kept.keep(name, torch.zeros(10))
    assert kept.get("a") is not None
    kept.keep("d", torch.zeros(10))
    assert kept.get("b") is None and kept.get("a") is not None and kept.bytes == 120


def test_every_turn_of_a_conversation_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    import harness.asking.generation as module

    drawn: list[list[str]] = []
    real = processors
    monkeypatch.setattr(module, "processors", lambda d, keys, width: drawn.append(list(keys)) or real(d, keys, width))
    view = tiny_vlm.view("llava")
    converse(view, samples(view)[:1], [["And a cat?", "Why?"]], [2], decoding=Decoding("sample"))
    assert drawn[0] == ["e0"] and len({key for keys in drawn for key in keys}) == 3


def test_one_token_behind_the_picture_is_not_shared() -> None:
    """A forward of one token on a cache looks like a decode step to a method."""
    view = tiny_vlm.view("llava")
    assert view.vision is not None
    whole = samples(view)[0]
    end = whole.prefix(view.vision.image_token_id)
    for more, shared in ((1, False), (2, True)):
        assert (
            _can_share(view, [Sample(whole.ids[: end + more], whole.draft, whole.tensors)], None, Decoding()) == shared
        )


def test_what_is_kept_twice_counts_once() -> None:
    kept = Memory(1 << 20)
    for _ in range(3):
        kept.keep("a", torch.zeros(8))
    assert kept.bytes == 32
