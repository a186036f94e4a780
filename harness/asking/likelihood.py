"""Teacher-forced likelihood: how surprising a text is to the model, token by token.

Only the positions that are scored get logits. If these would still be large (vocabulary x long window) the output
matrix is applied to a few positions at a time, so `[T, V]` never exists at once; both ways give the same numbers. A method
that edits logits gets them all at once, the last rows of the forward, as in generation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.attention.blame import blame
from harness.attention.usage import of_sample
from harness.contracts.asker import Answer, Asker
from harness.contracts.example import Example
from harness.contracts.inputs import Draft
from harness.contracts.question import Likelihood
from harness.contracts.task import Task
from harness.errors import UserError
from harness.models.inputs import Inputs, Sample
from harness.models.view import View

if TYPE_CHECKING:
    from harness.asking.decoding import Decoding
    from harness.attention.attach import Attached

LOGITS = 1 << 28  # most logits that exist at once: 1 GiB in float32


class LikelihoodAsker(Asker):
    """Asks `Likelihood`."""

    def read(self, view: View, task: Task, example: Example, share: bool) -> Sample:
        return Sample(example.asks(Likelihood).ids, Draft(example.id, ""))

    def answer(
        self, view: View, questions: Sequence[Likelihood], samples: Sequence[Sample], attached: Attached,
        decoding: Decoding, share: bool,
    ) -> list[Answer]:  # fmt: skip
        losses = nll(view, [s.ids for s in samples], [q.n_scored for q in questions], attached)
        counts = attached.counted([0] * len(samples))
        return [
            Answer(
                [round(x, 6) for x in loss], s.digest, len(s), 0, usage=of_sample(counts[b : b + 1] if counts else [])
            )
            for b, (loss, s) in enumerate(zip(losses, samples, strict=True))
        ]

    def scored(self, view: View, question: Likelihood, sample: Sample) -> Callable[[Attached | None], Tensor]:
        return lambda attached: torch.tensor(nll(view, [sample.ids], [question.n_scored], attached)[0])


@torch.no_grad()
def nll(
    view: View,
    rows: Sequence[Sequence[int]],
    n_scored: Sequence[int],
    attached: Attached | None = None,
    max_logits: int = LOGITS,
) -> list[list[float]]:
    """Negative log-likelihood (nats, float32) of the last `n_scored[b]` ids of each row, given everything before them.

    Rows may differ in length; they are padded on the right. A first token has nothing before it, so `n_scored[b] <
    len(rows[b])`.
    """
    if len(rows) != len(n_scored) or any(not 0 < n < len(row) for row, n in zip(rows, n_scored, strict=True)):
        raise ValueError("every row needs at least one scored token and one token before it")
    for row in rows:
        view.check_length(len(row))
    ids, mask = pad_right(rows, view.pad_id, view.device)
    start = min(len(row) - n for row, n in zip(rows, n_scored, strict=True)) - 1
    # position t predicts token t + 1; the last row predicts nothing and is kept for methods that edit logits: the rows
    # they are given are the last ones
    edits = attached is not None and any(h.whole_rows for h in attached.method.hooks)
    keep = torch.arange(start, ids.shape[1] - (0 if edits else 1), device=ids.device)
    scored = [len(row) - n - 1 for row, n in zip(rows, n_scored, strict=True)]
    inputs = keywords(rows, ids, mask, scored, attached) | {"logits_to_keep": keep}
    targets = ids[:, start + 1 :]
    if edits:
        found = _cross_entropy(view.lm(**inputs).logits[:, :-1], targets)
    else:
        found = torch.cat(in_pieces(view, inputs, targets, max_logits, _cross_entropy), dim=1)
    ends = [len(row) - 1 - start for row in rows]
    losses = [loss[end - n : end] for loss, end, n in zip(found.tolist(), ends, n_scored, strict=True)]
    for row, first, loss in zip(rows, scored, losses, strict=True):
        if any(map(math.isnan, loss)):
            raise nonfinite(view, row, first, attached)
    return losses


def nonfinite(view: View, row: Sequence[int], first: int, attached: Attached | None) -> UserError:
    """The error for a text whose likelihood, scored from column `first` on, is no number."""
    ids, mask = pad_right([row], view.pad_id, view.device)
    return blame(
        view, lambda method: keywords([row], ids, mask, [first], method), attached, "the likelihoods of a text"
    )


def keywords(
    rows: Sequence[Sequence[int]], ids: Tensor, mask: Tensor, scored: Sequence[int], attached: Attached | None
) -> dict[str, Any]:
    """Keywords of one forward over right-padded texts whose logits are scored from column `scored[b]` on. The batch is
    announced to the method at work, and read at the positions and with the cache that it wants.
    """
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if attached is None:
        return given
    samples = tuple(Sample(tuple(row)) for row in rows)
    inputs = attached.begin(Inputs(samples, ids, mask, scored=torch.tensor(scored, device=ids.device)))
    if inputs.positions is not None:
        given["position_ids"] = inputs.positions
    cache = attached.new_cache()
    return given if cache is None else given | {"past_key_values": cache, "use_cache": True}


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask `[B, n]` (int64), padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([list(r) + [pad] * (width - len(r)) for r in rows], device=device)
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows], device=device)
    return ids, mask


def in_pieces(
    view: View, inputs: dict[str, Any], targets: Tensor, most: int, read: Callable[[Tensor, Tensor], Any]
) -> list[Any]:
    """What `read` makes of the logits `[B, S, V]` of one forward and of `targets` `[B, S, ..]`; where there would be more than
    `most` logits at once, the output matrix is applied to some of the positions at a time, and there is a result for each piece.
    """
    per_position = targets.shape[0] * int(view.config.vocab_size)
    if targets.shape[1] * per_position <= most:
        return [read(view.lm(**inputs).logits, targets)]
    step = max(1, most // per_position)
    with _hidden_states(view) as caught:
        view.lm(**inputs)
    pieces = zip(caught[0].split(step, dim=1), targets.split(step, dim=1), strict=True)
    return [read(_capped(view.lm_head(hidden), view.final_softcap), part) for hidden, part in pieces]


@contextmanager
def _hidden_states(view: View) -> Iterator[list[Tensor]]:
    """Catch what would enter the output matrix `[B, S, d]` and let only its first position through."""
    caught: list[Tensor] = []

    def cut(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        caught.append(args[0])
        return (args[0][:, :1], *args[1:])

    handle = view.lm_head.register_forward_pre_hook(cut)
    try:
        yield caught
    finally:
        handle.remove()


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """`[B, S]` from logits `[B, S, V]`; log-softmax in float32."""
    flat = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.to(logits.device).flatten(), reduction="none"
    )
    return flat.view(targets.shape)
