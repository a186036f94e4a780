"""Which examples share a batch, and what happens when a batch does not fit into memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch

from harness.errors import UserError
from harness.models.inputs import forget_pictures
from harness.models.rotary import Turn

T = TypeVar("T")
R = TypeVar("R")
Mode = Literal["any", "equal", "one"]
SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")  # in allocators' messages


class OutOfMemory(UserError):
    """One example alone does not fit into memory."""


def plan_batches(
    lengths: Sequence[int], new: Sequence[int], budget: int, mode: Mode = "any", turn: Turn | None = None,
    tails: Sequence[int] | None = None,
) -> list[list[int]]:  # fmt: skip
    """Indices of the examples of each batch: every example once, longest first, so that a lack of memory shows early.

    `lengths` and `new` are prompt and answer tokens; a batch costs `size x (longest prompt + longest answer)` tokens
    and stays within `budget`, except for a single example that exceeds it alone. `equal` batches equal prompt lengths
    only (no padding), `one` does not batch. `turn`: the length at which the model's rotary frequencies change, on whose
    sides nobody's answer may depend on another's length. `tails`: tokens of each question that are read one by one; equal
    ones batch. The plan depends on nothing but the arguments.
    """
    if len(lengths) != len(new):
        raise ValueError("plan_batches needs one answer length for each prompt length")
    batches: list[list[int]] = []
    tails = tails or [0] * len(lengths)
    for i in sorted(range(len(lengths)), key=lambda i: (-tails[i], -lengths[i], -new[i], i)):
        alike = bool(batches) and tails[i] == tails[batches[-1][0]]
        if not alike or not _joins(i, batches[-1], lengths, new, budget, mode, turn):
            batches.append([])
        batches[-1].append(i)
    return batches


def plan_groups(keys: Sequence[str], lengths: Sequence[int], new: Sequence[int], budget: int) -> list[list[int]]:
    """Batches of whole groups (prompts of one picture, which share its prefill), up to `budget` padded tokens each.

    A group that exceeds the budget by itself is cut. The order of the groups is that of their first prompts, so the
    plan depends on nothing but the arguments.
    """
    groups: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    batches: list[list[int]] = [[]]
    for group in groups.values():
        if batches[-1] and _cost([*batches[-1], *group], lengths, new) > budget:
            batches.append([])
        for i in group:
            if batches[-1] and _cost([*batches[-1], i], lengths, new) > budget:
                batches.append([])
            batches[-1].append(i)
    return [b for b in batches if b]


def _cost(batch: Sequence[int], lengths: Sequence[int], new: Sequence[int]) -> int:
    return len(batch) * max(lengths[i] + new[i] for i in batch)


def _joins(
    i: int, batch: list[int], lengths: Sequence[int], new: Sequence[int], budget: int, mode: Mode, turn: Turn | None
) -> bool:
    if mode == "one" or (mode == "equal" and lengths[i] != lengths[batch[0]]):
        return False
    longest = lengths[batch[0]]  # batches are filled in descending order
    most = max(new[j] for j in (*batch, i))
    if turn is not None and not turn.together(longest, lengths[i], most):
        return False
    return (len(batch) + 1) * (longest + most) <= budget


def backoff(fn: Callable[[list[T]], list[R]], batch: Sequence[T], length: Callable[[T], int] | None = None) -> list[R]:
    """`fn(batch)`; when memory runs out, the same on halves of it, in order. `fn` returns one result for each item.

    `length(item)` gives the tokens shown when a single item does not fit (by default `len`, where that works).
    Raises `OutOfMemory` for such an item; every other exception passes.
    """
    items = list(batch)
    done, message = _attempt(fn, items)
    if done is not None:
        return done
    free_memory()
    if len(items) == 1:
        raise OutOfMemory(
            f"One example of {_size(items[0], length)} tokens does not fit into memory ({message}); "
            "use shorter examples, a smaller dtype, device_map=auto or a larger device."
        )
    half = (len(items) + 1) // 2
    return backoff(fn, items[:half], length) + backoff(fn, items[half:], length)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is an allocator's refusal, on a GPU or on a CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def free_memory() -> None:
    """Give back what nothing refers to any more, and the pictures that were only kept to save time."""
    forget_pictures()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _attempt(fn: Callable[[list[T]], list[R]], items: list[T]) -> tuple[list[R] | None, str]:
    """The results, or None and the allocator's words. Returning drops the traceback, whose frames hold tensors."""
    try:
        return fn(items), ""
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None, (str(error).strip().splitlines() or ["out of memory"])[0]


def _size(item: object, length: Callable[..., int] | None) -> str:
    if length is not None:
        return str(length(item))
    return str(len(item)) if hasattr(item, "__len__") else "unknown many"
