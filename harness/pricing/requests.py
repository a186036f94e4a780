"""How many prompts a task asks, and how long prompts and answers are, in tokens.

Best known from samples that some cell of the same task and tokenizer has stored (`earlier.py`); else from what the task
states: `size()`, its `lengths` if it has some, and `max_new_tokens`. The stated answer is the longest one allowed.
Pictures count as many tokens as the model makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.contracts.question import Generate
from harness.contracts.task import Task
from harness.pricing.model import Model

ANSWER = Generate().max_new_tokens  # tokens of an answer where the task does not say: the contract's default
QUESTION = 32  # tokens of the text beside a picture


@dataclass(frozen=True)
class Group:
    """`count` requests of `prompt` tokens that are expected to make `new` tokens and may make `limit`."""

    count: int
    prompt: int
    new: int
    limit: int


@dataclass(frozen=True)
class Workload:
    """All requests of a task. `shows`: each shows a picture; `pictures`: how many there are, None: not known. `assumed`:
    what is a guess.
    """

    groups: tuple[Group, ...]
    shows: bool = False
    pictures: int | None = None
    recorded: bool = False
    assumed: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return sum(g.count for g in self.groups)

    @property
    def prompt(self) -> int:
        return sum(g.count * g.prompt for g in self.groups)

    @property
    def new(self) -> int:
        return sum(g.count * g.new for g in self.groups)


def stated(task: Task, model: Model | None, limit: int | None) -> Workload | None:
    """What the task says of itself; None if it does not say how many requests there are, or nothing tells their length."""
    n, tokens = task.size()
    if not n:
        return None
    told = task.max_new_tokens
    answer = 0 if task.asks.one_pass else int(told or ANSWER)
    assumed = [] if told or task.asks.one_pass else [f"answers of {ANSWER} tokens"]
    if task.needs_images:
        shown = model.eyes.tokens if model and model.eyes else None
        if shown is None:
            return None
        groups = [Group(n, shown + QUESTION, answer, answer)]
        assumed.append(f"questions of {QUESTION} tokens beside a picture")
    else:
        groups = _by_length(task, n, tokens, answer)
    return Workload(_limited(groups, n, limit), shows=task.needs_images, assumed=tuple(assumed))


def _by_length(task: Task, n: int, tokens: int, answer: int) -> list[Group]:
    """One group for each of the task's `lengths`, if they explain its size; else all requests of the mean length."""
    lengths = task.lengths
    if isinstance(lengths, Sequence) and lengths and all(isinstance(x, int) for x in lengths) and n % len(lengths) == 0:
        each, total = n // len(lengths), sum(lengths)
        for inside in (answer, 0):  # lengths with the answers in them, or without
            if tokens == each * (total + (answer - inside) * len(lengths)):
                return [Group(each, max(1, x - inside), answer, answer) for x in lengths]
    return [Group(n, max(1, round(tokens / n) - answer), answer, answer)]


def _limited(groups: Sequence[Group], n: int, limit: int | None) -> tuple[Group, ...]:
    """What `limit` leaves: examples are taken evenly over the groups, remainders from the first ones."""
    if limit is None or limit >= n:
        return tuple(groups)
    each, more = divmod(limit, len(groups))
    taken = (replace(g, count=min(g.count, each + (i < more))) for i, g in enumerate(groups))
    return tuple(g for g in taken if g.count)


def recorded(rows: Sequence[tuple[int, int]], count: int, pictures: int | None, limit: int) -> Workload:
    """From (prompt, new) tokens of stored samples, which stand for `count` requests. `limit`: what an answer may take, at
    least what one took.
    """
    found: dict[int, list[int]] = {}
    for prompt, new in rows:
        found.setdefault(prompt, []).append(new)
    most = max(limit, max((new for _, new in rows), default=0))
    stand = count / max(1, len(rows))
    groups = (Group(round(len(new) * stand), n, round(sum(new) / len(new)), most) for n, new in found.items())
    return Workload(tuple(groups), bool(pictures), pictures, recorded=True)
