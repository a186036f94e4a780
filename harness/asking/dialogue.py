"""Conversations: every further user message follows the model's own answer to the one before.

All dialogues of a batch go turn by turn, so their prompts stay in step. The whole history is read again at every turn; the
picture stands in the first user message only. `Method.transform` meets every turn, as it would meet the same history in a
request of its own: what it makes of a turn is what the model reads there, and the next turn's history knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.asking.decoding import GREEDY, Decoding
from harness.asking.generate import GenerateAsker
from harness.asking.generation import Generation, generate
from harness.asking.transform import transformed
from harness.attention.usage import of_sample
from harness.contracts.asker import Answer, Given
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.contracts.question import Dialogue
from harness.models.inputs import Sample, sample_of
from harness.models.view import View

if TYPE_CHECKING:
    from harness.attention.attach import Attached

MESSAGE = 16  # tokens of the template around a message, about


class DialogueAsker(GenerateAsker):
    """Asks `Dialogue`."""

    def given(self, view: View, method: Method, question: Dialogue, sample: Sample) -> Given:  # type: ignore[override]
        first = super().given(view, method, question, sample)
        said = sum(view.count(turn) + MESSAGE for turn in question.turns)
        return first._replace(length=first.length + said + len(question.turns) * question.max_new_tokens)

    def answer(  # type: ignore[override]
        self, view: View, questions: Sequence[Dialogue], samples: Sequence[Sample], attached: Attached,
        decoding: Decoding, share: bool,
    ) -> list[Answer]:  # fmt: skip
        turns, limits = [q.turns for q in questions], [q.max_new_tokens for q in questions]
        return [_joined(talk) for talk in converse(view, samples, turns, limits, attached, decoding)]


Said = tuple[Sample, Generation]  # what the model was shown in a turn, and what it answered


def converse(
    view: View,
    first: Sequence[Sample],
    turns: Sequence[Sequence[str]],
    max_new_tokens: Sequence[int],
    attached: Attached | None = None,
    decoding: Decoding = GREEDY,
) -> list[list[Said]]:
    """For each dialogue its turns, one after the other."""
    said: list[list[Said]] = [[] for _ in first]
    plain = dict(enumerate(first))
    for turn in range(max(map(len, turns)) + 1):
        active = sorted(plain)
        shown = [plain[i] if attached is None else transformed(view, attached.method, plain[i]) for i in active]
        made = generate(view, shown, [max_new_tokens[i] for i in active], attached, decoding)
        for i, sample, answer in zip(active, shown, made, strict=True):
            said[i].append((sample, answer))
        going = {i: _go_on(plain[i].draft, said[i][-1][1].text, turns[i][turn]) for i in active if turn < len(turns[i])}
        plain = {i: sample_of(view, draft) for i, draft in going.items()}
    return said


def _go_on(draft: Draft, answer: str, question: str) -> Draft:
    said: tuple[Mapping[str, Any], ...] = (
        ({"role": "user", "content": draft.prompt},) if isinstance(draft.prompt, str) else tuple(draft.prompt)
    )
    more = ({"role": "assistant", "content": answer.strip()}, {"role": "user", "content": question})
    return replace(draft, prompt=(*said, *more))


def _joined(talk: Sequence[Said]) -> Answer:
    """The digest is of what was read first, bytes and the length of the prompt are those of the last turn; new tokens and
    usage count all turns.
    """
    answers = [answer for _, answer in talk]
    usage = of_sample(tuple(c for a in answers for c in a.usage)) | {"kv_bytes_logical": answers[-1].kv_bytes_logical}
    finish = "length" if any(a.finish == "length" for a in answers) else "stop"
    n_new = sum(a.n_new for a in answers)
    return Answer([a.text for a in answers], talk[0][0].digest, answers[-1].n_prompt, n_new, finish, usage)
