"""The question read token by token, after a prefill of the context alone (`contracts.method.AfterContext`).

The prompt is tokenised as a whole, so the model sees the ids that it sees without the split; where the question begins is
found by comparison with the ids of the text before it. A token across the border belongs to the question, which the
prefill must not see.

Rows of a batch are aligned at their ends and their questions have one length, so every row's context ends in one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import DynamicCache

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.models.inputs import Inputs, Sample
    from harness.models.view import View


def apart(view: View, sample: Sample) -> Sample:
    """The sample with its context marked. `UserError` if the question is not at the end of what the model reads, or there
    is nothing before it.
    """
    draft = sample.draft
    text = view.tokens.prompt_text(draft.prompt, draft.answer_prefix)
    asked = draft.question.rstrip()  # templates strip the ends of messages
    at = text.removesuffix(draft.answer_prefix).rfind(asked) if asked else -1
    if at < 0:
        raise UserError(
            f"Example '{draft.id}': the question that it declares ({draft.question[:60]!r}) is not in the prompt as the "
            "model reads it, so it cannot be read apart from its context."
        )
    n = _common(sample.ids, view.tokens.text_ids(text[:at], view.tokens.adds_special(text)))
    if n == 0:
        raise UserError(f"Example '{draft.id}' has no context before its question that could be prefilled alone.")
    return replace(sample, context=n)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids both begin with; less than all of `a`."""
    same = (x == y for x, y in zip(a[:-1], b, strict=False))
    return next((i for i, equal in enumerate(same) if not equal), min(len(a) - 1, len(b)))


def read(view: View, inputs: Inputs, cache: Any = None) -> Any:
    """Prefill the contexts, then read the questions up to their last token, whose forward gives the first token of the
    answer. Returns the cache.
    """
    cache = read_context(view, inputs, cache)
    read_question(view, inputs, cache)
    return cache


def read_context(view: View, inputs: Inputs, cache: Any = None) -> Any:
    """The prefill, up to where the questions begin. Returns the cache (None: a new one of the library's)."""
    cache = DynamicCache(config=view.config) if cache is None else cache
    _forward(view, inputs, slice(0, inputs.ids.shape[1] - inputs.tail), cache)
    return cache


def read_question(view: View, inputs: Inputs, cache: Any) -> None:
    """All tokens of the questions but the last, one at a time."""
    width = inputs.ids.shape[1]
    for i in range(width - inputs.tail, width - 1):
        _forward(view, inputs, slice(i, i + 1), cache)


def _forward(view: View, inputs: Inputs, columns: slice, cache: Any) -> None:
    view.lm(
        input_ids=inputs.ids[:, columns], attention_mask=inputs.mask[:, : columns.stop],
        position_ids=positions(inputs)[..., columns], past_key_values=cache, use_cache=True, logits_to_keep=1,
    )  # fmt: skip


def positions(inputs: Inputs) -> Tensor:
    """Of every token, padding not counted, as the library's own `generate` numbers them."""
    if inputs.positions is not None:
        return inputs.positions
    return (inputs.mask.cumsum(1) - 1).clamp(min=0)
