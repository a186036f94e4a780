"""A method that rewrites what the model reads meets every turn of a conversation, and the history knows nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from harness.asking import dialogue
from harness.asking.decoding import GREEDY
from harness.asking.dialogue import DialogueAsker, converse
from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.contracts.question import Dialogue
from harness.errors import Unsupported
from harness.models.inputs import Sample, sample_of
from harness.plan.refusals import check_question
from methods.cache.snapkv import SnapKV
from methods.inputs.carve import Carve
from tasks.passkey import Passkey
from tests import tiny_vlm
from tests.models import small

MARK = "(briefly) "
TURNS = ("And the cat?", "Why is that?")


@dataclass(frozen=True, kw_only=True)
class Marking(Method):
    """Puts a mark before what the user says last."""

    name = "marking"
    met: ClassVar[list[Draft]] = []

    def transform(self, view: Any, draft: Draft, ask: Any) -> Draft:
        self.met.append(draft)
        if isinstance(draft.prompt, str):
            return replace(draft, prompt=MARK + draft.prompt)
        *before, last = draft.prompt
        return replace(draft, prompt=(*before, {**last, "content": MARK + last["content"]}))


def said(draft: Draft) -> list[str]:
    """What the user said in a draft."""
    if isinstance(draft.prompt, str):
        return [draft.prompt]
    return [message["content"] for message in draft.prompt if message["role"] == "user"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[Sample]]:
    """The samples that the model was given, a list for each turn."""
    found: list[list[Sample]] = []
    real = dialogue.generate

    def spy(view: Any, samples: Any, *rest: Any) -> Any:
        found.append(list(samples))
        return real(view, samples, *rest)

    monkeypatch.setattr(dialogue, "generate", spy)
    return found


def test_every_turn_is_rewritten_from_a_history_that_is_not(shown: list[list[Sample]]) -> None:
    view, question = small.view("llama"), Dialogue("Is there a dog?", max_new_tokens=4, turns=TURNS)
    Marking.met.clear()
    first = sample_of(view, Draft("a", str(question.prompt)))
    with attach(view, Marking()) as attached:
        (answer,) = DialogueAsker().answer(view, [question], [first], attached, GREEDY, share=False)
    assert [said(draft) for draft in Marking.met] == [["Is there a dog?", *TURNS][: n + 1] for n in range(3)]
    for n, (sample,) in enumerate(shown):
        assert said(sample.draft) == [*["Is there a dog?", *TURNS][:n], MARK + ["Is there a dog?", *TURNS][n]]
        assert sample.rewritten and list(sample.ids) == view.prompt_ids(sample.draft.prompt)
    assert answer.n_prompt == len(shown[-1][0]) and answer.digest == shown[0][0].digest
    assert len(answer.value) == 3 and answer.usage is not None and answer.usage["changed"] == 1


def test_an_answer_stands_in_the_history_as_it_was_given_under_the_method() -> None:
    view = small.view("llama")
    with attach(view, Marking()) as attached:
        (talk,) = converse(view, [sample_of(view, Draft("a", "Is there a dog?"))], [TURNS], [4], attached)
        answers = [answer.text for _, answer in talk]
        history = talk[2][0].draft.prompt
        again = generate(view, [replace(talk[2][0])], [4], attached)[0].text
    assert [m["content"] for m in history if m["role"] == "assistant"] == [a.strip() for a in answers[:2]]  # type: ignore[union-attr]
    assert again == answers[2]


def test_dialogues_of_several_lengths_go_side_by_side_under_such_a_method() -> None:
    view = small.view("llama")
    drafts = [Draft(name, f"What is {name}?") for name in ("a", "the river", "it")]
    turns, limits = [TURNS, (), TURNS[:1]], [4, 3, 5]
    with attach(view, Marking()) as attached:
        together = converse(view, [sample_of(view, d) for d in drafts], turns, limits, attached)
        alone = [
            converse(view, [sample_of(view, d)], [t], [n], attached)[0]
            for d, t, n in zip(drafts, turns, limits, strict=True)
        ]
    texts = [[[answer.text for _, answer in talk] for talk in found] for found in (together, alone)]
    assert texts[0] == texts[1] and [len(talk) for talk in texts[0]] == [3, 1, 2]


def test_carve_looks_for_what_each_turn_asks(monkeypatch: pytest.MonkeyPatch, shown: list[list[Sample]]) -> None:
    view, asked = tiny_vlm.view("llava"), []
    real = Carve.focus

    def focus(self: Carve, view: Any, draft: Draft, ask: Any) -> Any:
        asked.append(said(draft)[-1])
        return real(self, view, draft, ask)

    monkeypatch.setattr(Carve, "focus", focus)
    first = sample_of(view, Draft("a", "Is there a dog?", (tiny_vlm.images(1, 0)[0],)))
    with attach(view, Carve(mode="release")) as attached:
        converse(view, [first], [TURNS], [3], attached)
    assert asked == ["Is there a dog?", *TURNS]
    assert [len(sample.draft.images) for (sample,) in shown] == [2, 2, 2]  # the picture and its crop, never more


def test_questions_of_a_dialogue_are_not_read_token_by_token() -> None:
    class Talks(Passkey):
        asks = Dialogue

    method = SnapKV(question="decode")
    check_question(method, "snapkv", Passkey(), "passkey")
    with pytest.raises(Unsupported, match="does not say where its questions begin"):
        check_question(method, "snapkv", Talks(), "talks")
