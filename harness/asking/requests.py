"""Answers to several requests at once (`contracts.question.Requests`); `contracts/request_tokens.py` makes token ids of them.

Log-likelihoods are sums over the scored ids of log-softmax in float32. Rows are padded on the right; texts that differ in
their last token alone (the letters of a multiple choice) are read once. Only the scored positions get logits, and never
more than `likelihood.LOGITS` at once, except for methods that edit logits: they are given the last rows of the forward, as in
generation.

A generated text ends before the first of its stop strings. The model stops at its own stop ids and at every token whose
text contains a stop string; a stop string that is spread over several tokens does not end the computation, and what was
written behind it is cut off. Both ways give the same text.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness.asking.batches import plan_batches
from harness.asking.decoding import GREEDY, Decoding
from harness.asking.generation import Generation, generate
from harness.asking.likelihood import LOGITS, in_pieces, keywords, nonfinite, pad_right
from harness.attention.refusals import check_fixed
from harness.attention.usage import Counts, of_sample
from harness.contracts.asker import Answer, Asker, Given
from harness.contracts.example import Example
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.contracts.question import GenerateUntil, Requests, RollingLogLikelihood
from harness.contracts.request_tokens import TokenRequest, asked
from harness.contracts.task import Task
from harness.errors import UserError
from harness.models.inputs import Sample, ids_digest
from harness.models.view import View

if TYPE_CHECKING:
    from harness.attention.attach import Attached

IMPOSSIBLE = -1e30  # in place of minus infinity (a token that a method rules out), which JSON does not have

Row = tuple[int, ...]  # token ids
# log-likelihood, whether greedy decoding would write it, what was read
Found = tuple[float, bool, tuple[Counts, ...]]
Scored = tuple[int, float, bool, tuple[Counts, ...]]  # the same of the request with this number


class RequestsAsker(Asker):
    """Asks `Requests`. The sample is the longest thing that the model reads of them."""

    def read(self, view: View, task: Task, example: Example, share: bool) -> Sample:
        return Sample(longest(view, example.asks(Requests)), Draft(example.id, ""))

    def given(self, view: View, method: Method, question: Requests, sample: Sample) -> Given:
        new = (one.max_new_tokens for one in question.requests if isinstance(one, GenerateUntil))
        return Given(sample, len(sample), max(new, default=0))

    def answer(
        self, view: View, questions: Sequence[Requests], samples: Sequence[Sample], attached: Attached,
        decoding: Decoding, share: bool,
    ) -> list[Answer]:  # fmt: skip
        return respond(view, questions, attached, decoding)

    def scored(self, view: View, question: Requests, sample: Sample) -> Callable[[Attached | None], Tensor] | None:
        return (lambda attached: log_likelihoods(view, question, attached)) if scores(question) else None


def respond(
    view: View,
    questions: Sequence[Requests],
    attached: Attached | None = None,
    decoding: Decoding = GREEDY,
) -> list[Answer]:
    """One answer for each question: the digest is of all ids that are read, tokens and usage are over all its requests (for
    generations with the bytes of the largest cache), `finish` is `length` if a generation reached its limit.

    Forwards hold at most as many tokens as `len(questions)` times the longest thing asked. `UserError` for a search
    other than greedy where something is generated, and for methods that rewrite prompts.
    """
    if attached is not None:
        check_fixed(attached.method)
    parts = [asked(view, q, view.max_positions) for q in questions]
    flat = [(i, one) for i, of_example in enumerate(parts) for one in of_example]
    budget = len(questions) * max((one.positions for _, one in flat), default=1)
    mode = attached.batching if attached is not None else "any"
    scored = [(i, one) for i, one in flat if not one.max_new_tokens]
    open_ = [(i, one) for i, one in flat if one.max_new_tokens]
    if open_ and decoding.search != "greedy":
        raise UserError(
            f"decoding.search={decoding.search}, but the texts that this task asks for are generated greedily; leave out "
            "decoding.search, or set it to greedy."
        )
    values: list[list[Scored]] = [[] for _ in questions]
    texts: list[list[Any]] = [[] for _ in questions]
    likelihoods = _likelihoods(view, [one for _, one in scored], attached, budget, mode)
    for (i, one), value in zip(scored, likelihoods, strict=True):
        values[i].append((one.request, *value))
    for (i, one), made in zip(
        open_, _generations(view, [one for _, one in open_], attached, budget, mode), strict=True
    ):
        texts[i].append((one, made))
    return [_answer(view, q, parts[i], values[i], texts[i]) for i, q in enumerate(questions)]


def longest(view: View, question: Requests) -> Row:
    """What the model reads at most for one question."""
    return max((one.read for one in asked(view, question, view.max_positions)), key=len, default=(view.pad_id,))


def scores(question: Requests) -> bool:
    """Whether a number comes from one pass over a text; else everything is generated."""
    return any(not isinstance(one, GenerateUntil) for one in question.requests)


def log_likelihoods(view: View, question: Requests, attached: Attached | None) -> Tensor:
    """Those that are asked for, as `respond` computes them: float64 `[n]`."""
    wanted = [one for one in asked(view, question, view.max_positions) if not one.max_new_tokens]
    mode = attached.batching if attached is not None else "any"
    found = _likelihoods(view, wanted, attached, max(one.positions for one in wanted), mode)
    return torch.tensor([value for value, *_ in found], dtype=torch.float64)


def _answer(
    view: View,
    question: Requests,
    parts: Sequence[TokenRequest],
    values: Sequence[Scored],
    texts: Sequence[tuple[TokenRequest, Generation]],
) -> Answer:
    rolling = [isinstance(one, RollingLogLikelihood) for one in question.requests]
    responses: list[Any] = [0.0 if whole else "" for whole in rolling]
    for number, value, is_greedy, _ in values:
        if rolling[number]:
            responses[number] += value
        else:
            responses[number] = [_finite(value), is_greedy]
    responses = [_finite(r) if isinstance(r, float) else r for r in responses]
    ended = True
    for one, generation in texts:
        responses[one.request], stopped = _cut(view, generation, one.until)
        ended = ended and stopped
    usage = of_sample([c for *_, counts in values for c in counts] + [c for _, g in texts for c in g.usage])
    if texts:
        usage["kv_bytes_logical"] = max(g.kv_bytes_logical or 0 for _, g in texts)
    read = [len(one.read) for one in parts]
    return Answer(
        responses, ids_digest([one.read for one in parts]), sum(read), sum(g.n_new for _, g in texts),
        "stop" if ended else "length", usage, longest=max(read, default=1),
    )  # fmt: skip


def _finite(value: float) -> float:
    return round(value, 6) if math.isfinite(value) and value > IMPOSSIBLE else IMPOSSIBLE


# -- likelihoods ------------------------------------------------------------------------------------------------------


def _likelihoods(
    view: View, wanted: Sequence[TokenRequest], attached: Attached | None, budget: int, mode: Any
) -> list[Found]:
    """Log-likelihood and is-greedy of each. What is read twice with different last tokens is computed once."""
    groups: dict[tuple[Row, int], list[int]] = {}
    for i, one in enumerate(wanted):
        groups.setdefault((one.read, one.n_scored), []).append(i)
    rows, alike = [row for row, _ in groups], list(groups.values())
    found: dict[int, Found] = {}
    for batch in plan_batches([len(r) for r in rows], [0] * len(rows), budget, mode, view.turn):
        members = [[(i, wanted[i]) for i in alike[b]] for b in batch]
        found |= _forward(view, [rows[b] for b in batch], members, attached)
    return [found[i] for i in range(len(wanted))]


@torch.no_grad()
def _forward(
    view: View, rows: Sequence[Row], members: Sequence[Sequence[tuple[int, TokenRequest]]], attached: Attached | None
) -> dict[int, Found]:
    """One forward over `rows`; `members[b]` are the numbers and texts that row b answers, all with as many scored ids."""
    for row in rows:
        view.check_length(len(row))
    ids, mask = pad_right(rows, view.pad_id, view.device)
    start = min(len(row) - one.n_scored for row, group in zip(rows, members, strict=True) for _, one in group)
    scored = [len(row) - group[0][1].n_scored for row, group in zip(rows, members, strict=True)]
    inputs = keywords(rows, ids, mask, scored, attached)
    inputs["logits_to_keep"] = torch.arange(start, ids.shape[1], device=ids.device)
    targets = _targets(rows, members, start, ids)
    logprobs, best = _chosen(view, inputs, targets, attached)
    counts = attached.counted([0] * len(rows)) if attached is not None else None
    found: dict[int, Found] = {}
    for b, group in enumerate(members):
        end = len(rows[b]) - start
        used = (counts[b],) if counts else ()
        for column, (i, one) in enumerate(group):
            span = slice(end - one.n_scored, end)
            greedy = bool((best[b, span] == targets[b, span, column]).all())
            value = float(logprobs[b, span, column].double().sum())
            if math.isnan(value):
                raise nonfinite(view, rows[b], scored[b], attached)
            found[i] = (value, greedy, used)
    return found


def _targets(
    rows: Sequence[Row], members: Sequence[Sequence[tuple[int, TokenRequest]]], start: int, ids: Tensor
) -> Tensor:  # fmt: skip
    """`[B, S, K]`: what positions `start`.. predict in each of the texts that a row answers (they differ at its end)."""
    width = max(map(len, members))
    targets = torch.zeros(ids.shape[0], ids.shape[1] - start, width, dtype=torch.long)
    for b, group in enumerate(members):
        for column, (_, one) in enumerate(group):
            targets[b, : len(rows[b]) - start, column] = torch.tensor(one.ids[start + 1 :])
    return targets.to(ids.device)


def _chosen(view: View, inputs: dict[str, Any], targets: Tensor, attached: Attached | None) -> tuple[Tensor, Tensor]:
    """Log probabilities `[B, S, K]` of `targets`, and the most likely ids `[B, S]`."""
    edits = attached is not None and any(h.whole_rows for h in attached.method.hooks)
    parts = in_pieces(view, inputs, targets, sys.maxsize if edits else LOGITS, _pick)
    return torch.cat([p for p, _ in parts], dim=1), torch.cat([b for _, b in parts], dim=1)


def _pick(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits, targets = logits.float(), targets.to(logits.device)
    chosen = logits.gather(-1, targets) - logits.logsumexp(-1, keepdim=True)
    return chosen.to(targets.device), logits.argmax(-1)


# -- generations ------------------------------------------------------------------------------------------------------


def _generations(
    view: View, wanted: Sequence[TokenRequest], attached: Attached | None, budget: int, mode: Any
) -> list[Generation]:
    """Greedy continuations, those with the same stop strings together."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, one in enumerate(wanted):
        groups.setdefault(one.until, []).append(i)
    found: dict[int, Generation] = {}
    for until, members in groups.items():
        ending = cast(View, Ending(view, stop_ids(view, until)))
        lengths, limits = [len(wanted[i].ids) for i in members], [wanted[i].max_new_tokens for i in members]
        for batch in plan_batches(lengths, limits, budget, mode, view.turn):
            outs = generate(ending, [wanted[members[b]].ids for b in batch], [limits[b] for b in batch], attached)
            found |= {members[b]: out for b, out in zip(batch, outs, strict=True)}
    return [found[i] for i in range(len(wanted))]


class Ending:
    """The same view with more ids that end an answer."""

    def __init__(self, view: View, stop: Sequence[int]) -> None:
        self._view, self.stop_ids = view, sorted({*view.stop_ids, *stop})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


_PIECES: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()


def stop_ids(view: View, until: Sequence[str]) -> list[int]:
    """Ids of the tokens whose own text, special tokens included, contains one of the stop strings."""
    if view not in _PIECES:
        size = len(view.tokenizer)
        _PIECES[view] = view.tokenizer.batch_decode([[i] for i in range(size)], skip_special_tokens=False)
    strings = [s for s in until if s]
    return [i for i, piece in enumerate(_PIECES[view]) if any(s in piece for s in strings)]


def _cut(view: View, generation: Generation, until: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether the answer came to an end before its limit."""
    text = view.decode(generation.ids)
    eos = view.tokenizer.eos_token_id
    ends = [*until, view.tokenizer.decode([eos])] if eos is not None else list(until)
    short = text
    for end in ends:
        short = short.split(end)[0] if end else short
    return short, generation.finish == "stop" or short != text
