"""Batched greedy generation on `transformers`' own `generate`.

Greedy means greedy: sampling settings, penalties and suppressed tokens that a checkpoint's generation config carries
are put aside for the call; only its stop ids count. Prompts are padded on the left, a row ends at its own stop id or
its own limit, and the prefill computes the logits of the last position only (`logits_to_keep`, set by the library).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from harness.generation import kv
from harness.models.view import View

NewCache = Callable[[], Any]  # returns an empty transformers Cache, or None for the library's default


@dataclass(frozen=True)
class Generation:
    """One answer. `ids` are the new ones, the stop id included if there is one; `text` has no special tokens."""

    text: str
    ids: tuple[int, ...]
    n_prompt: int
    n_new: int
    finish: Literal["stop", "length"]
    kv_bytes_logical: int  # the sample alone
    kv_bytes_physical: int  # memory of the batch's cache / batch size


@torch.no_grad()
def generate(
    view: View, prompts: Sequence[Sequence[int]], max_new_tokens: Sequence[int], new_cache: NewCache | None = None
) -> list[Generation]:
    """Continue `prompts` (token ids) greedily, each by at most `max_new_tokens[b]`.

    `new_cache` makes the key-value cache of this call; None takes the library's default. Raises `UserError` if a row
    exceeds the model's length.
    """
    if not prompts or len(prompts) != len(max_new_tokens) or min(map(len, prompts)) < 1 or min(max_new_tokens) < 1:
        raise ValueError("generate needs non-empty prompts and one positive limit for each")
    for prompt, limit in zip(prompts, max_new_tokens, strict=True):
        view.check_length(len(prompt) + limit)
    stop = view.stop_ids
    ids, mask = pad_left(prompts, view.pad_id, view.device)
    extra = {} if new_cache is None else {"past_key_values": new_cache()}
    with _plain_config(view, max(max_new_tokens)):
        out = view.model.generate(
            input_ids=ids,
            attention_mask=mask,
            stopping_criteria=StoppingCriteriaList([_OwnEnd(ids, max_new_tokens, stop)]),
            **extra,
        )
    new = [
        _trim(row, n, stop) for row, n in zip(out.sequences[:, ids.shape[1] :].tolist(), max_new_tokens, strict=True)
    ]
    # the last new token was never read, so it is not in the cache
    logical = kv.logical(out.past_key_values, [len(p) + len(n) - 1 for p, n in zip(prompts, new, strict=True)])
    physical = kv.physical(out.past_key_values, len(prompts))
    return [
        Generation(
            text=view.decode(row[:-1] if row[-1] in stop else row),
            ids=tuple(row),
            n_prompt=len(prompt),
            n_new=len(row),
            finish="stop" if row[-1] in stop else "length",
            kv_bytes_logical=size,
            kv_bytes_physical=physical,
        )
        for prompt, row, size in zip(prompts, new, logical, strict=True)
    ]


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask `[B, n]` (int64), padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows], device=device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=device)
    return ids, mask


class _OwnEnd(StoppingCriteria):
    """A row is finished at a stop id or at its own number of new tokens."""

    def __init__(self, prompt: Tensor, limits: Sequence[int], stop: Sequence[int]) -> None:
        self.full = torch.tensor(limits, device=prompt.device) + prompt.shape[1]
        self.stop = torch.tensor(stop, device=prompt.device, dtype=prompt.dtype)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return (self.full <= input_ids.shape[1]) | torch.isin(input_ids[:, -1], self.stop)


@contextmanager
def _plain_config(view: View, max_new_tokens: int) -> Iterator[None]:
    """Only greedy settings inside; the model's generation config is back afterwards, whatever happens."""
    kept = view.model.generation_config
    view.model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=view.pad_id,
        bos_token_id=view.tokenizer.bos_token_id,
        use_cache=True,
        return_dict_in_generate=True,
    )
    try:
        yield
    finally:
        view.model.generation_config = kept


def _trim(row: list[int], limit: int, stop: Sequence[int]) -> list[int]:
    """The part of a generated row that belongs to its own answer."""
    for i, token in enumerate(row[:limit]):
        if token in stop:
            return row[: i + 1]
    return row[:limit]
