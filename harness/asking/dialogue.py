"""Conversations: every further user message follows the model's own answer to the one before (POPE chat of PAI).

All dialogues of a batch go turn by turn, so their prompts stay in step. The whole history is read again at every turn;
the picture stands in the first user message only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.asking.decoding import GREEDY, Decoding
from harness.asking.generate import Generation, generate
from harness.contracts.call import Draft
from harness.models.inputs import Sample, sample_of
from harness.models.view import View

if TYPE_CHECKING:
    from harness.attention.attach import Attached


def converse(
    view: View,
    first: Sequence[Sample],
    turns: Sequence[Sequence[str]],
    max_new_tokens: Sequence[int],
    attached: Attached | None = None,
    decoding: Decoding = GREEDY,
) -> list[Generation]:
    """One answer per dialogue: `text` is a JSON list of the answers to all its turns, `ids` and bytes are those of the last
    one, `n_new` and `usage` count all of them.
    """
    answers: list[list[Generation]] = [[] for _ in first]
    drafts = [s.draft for s in first]
    samples = dict(enumerate(first))
    for turn in range(max(map(len, turns)) + 1):
        active = sorted(samples)
        limits = [max_new_tokens[i] for i in active]
        made = generate(view, [samples[i] for i in active], limits, attached, decoding)
        for i, answer in zip(active, made, strict=True):
            answers[i].append(answer)
        samples = {}
        for i in (i for i in active if turn < len(turns[i])):
            drafts[i] = _go_on(drafts[i], answers[i][-1].text, turns[i][turn])
            samples[i] = sample_of(view, drafts[i])
    return [_joined(a) for a in answers]


def positions_needed(view: View, sample: Sample, turns: Sequence[str], max_new_tokens: int) -> int:
    """About how many positions a whole dialogue needs: template words around a message count as 16."""
    return len(sample) + sum(view.count(t) + 16 for t in turns) + (len(turns) + 1) * max_new_tokens


def _go_on(draft: Draft, answer: str, question: str) -> Draft:
    said: tuple[Mapping[str, Any], ...] = (
        ({"role": "user", "content": draft.prompt},) if isinstance(draft.prompt, str) else tuple(draft.prompt)
    )
    more = ({"role": "assistant", "content": answer.strip()}, {"role": "user", "content": question})
    return replace(draft, prompt=(*said, *more))


def _joined(answers: Sequence[Generation]) -> Generation:
    return replace(
        answers[-1],
        text=json.dumps([a.text for a in answers], ensure_ascii=False),
        n_new=sum(a.n_new for a in answers),
        usage=tuple(c for a in answers for c in a.usage),
        finish="length" if any(a.finish == "length" for a in answers) else "stop",
    )
