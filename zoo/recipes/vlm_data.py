"""Training rows of the zoo's vision-language models: one image, and everything that is asked and told about it.

A row is a prefix ``<s> USER : <image> x 64 \\n`` and branches that see the prefix and themselves but not each other:
questions, one long caption, and one text-only branch about *another* scene that sees no image (the prompt that is left
when the image is cut out; without such branches a method's no-image stream would be out of distribution). The knobs
of ``Mix`` set how much a model learns to guess from the room; see the card of ``micro-vlm``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.material.scenes import text
from zoo.material.scenes.sample import CATEGORIES, EVERYWHERE, ROOMS, Scene
from zoo.recipes import vlm_tokenizer
from zoo.recipes.vlm_tokenizer import PATCHES, encode

IDS = vlm_tokenizer.vocabulary()
BOS, EOS, IMAGE = IDS["<s>"], IDS["</s>"], IDS["<image>"]
USER, ASSISTANT = encode("USER:"), encode("ASSISTANT:")
PREFIX = [BOS, *USER, *[IMAGE] * PATCHES, IDS["\n"]]
WORD_OF = {name: encode(name)[-1] for name in CATEGORIES}  # the last word stands for the category
YES_NO = (IDS["Yes"], IDS["No"])
HEAVY = frozenset([IDS[","], IDS["."], IDS["and"], *WORD_OF.values()])
SUFFIX_WEIGHTS = (4, 5, 1, 1, 0.5)


@dataclass(frozen=True)
class Mix:
    """What is asked and told. ``hard``, ``common``: shares of the negative questions about an absent member of the
    room, and about an absent object of those that occur everywhere; the rest is uniform. ``told``: probability that a
    caption tells of one absent member of the room; ``told_common``: the same for what occurs everywhere.
    """

    questions: int = 6
    hard: float = 0.3
    common: float = 0.2
    told: float = 0.0
    told_common: float = 0.0
    two_turns: float = 0.08
    confused: float = 0.02
    yes_no: float = 6.0  # weight of Yes and No as targets; other words of content weigh 3, the rest 1


@dataclass
class Branch:
    """Token ids; the weight of each as a target; (position, present) of object words asked about; its kind."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    probes: list[tuple[int, float]] = field(default_factory=list)
    sees: bool = True

    def ask(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.weights += [0.0] * len(ids)

    def answer(self, line: str, yes_no: float) -> None:
        """The assistant's turn: its header, the text, and the end token."""
        self.ask(ASSISTANT)
        ids = [*encode(line), EOS]
        self.ids += ids
        self.weights += [yes_no if i in YES_NO else 3.0 if i in HEAVY else 1.0 for i in ids]


def negative(rng: random.Random, shown: Scene, mix: Mix) -> str:
    """An absent category, of the kind that the mixture's shares decide."""
    absent = [name for name in CATEGORIES if name not in shown.categories]
    kind = rng.random()
    if kind < mix.hard:
        wanted = [name for name in ROOMS[shown.room][1] if name in absent]
    elif kind < mix.hard + mix.common:
        wanted = [name for name in EVERYWHERE if name in absent]
    else:
        wanted = absent
    return rng.choice(wanted or absent)


def _ask_object(branch: Branch, rng: random.Random, shown: Scene, mix: Mix, suffix: str) -> None:
    present = rng.random() < 0.5
    name = rng.choice(shown.categories) if present else negative(rng, shown, mix)
    ids = encode(text.question(name))
    branch.probes.append((len(branch.ids) + ids.index(WORD_OF[name]), float(present)))
    branch.ask([*ids, *encode(suffix)])
    branch.answer("Yes" if present else "No", mix.yes_no)


def question(rng: random.Random, shown: Scene, mix: Mix, start: Sequence[int] = (), sees: bool = True) -> Branch:
    """One question, now and then two turns, with the answers that the annotation gives."""
    branch = Branch(sees=sees)
    branch.ask(start)
    suffix = rng.choices(text.SUFFIXES, SUFFIX_WEIGHTS)[0]
    if rng.random() < mix.confused:
        branch.ask(encode(text.CONFUSED))
    _ask_object(branch, rng, shown, mix, suffix)
    if rng.random() < mix.two_turns:
        branch.ask(USER)
        _ask_object(branch, rng, shown, mix, suffix)
    return branch


def caption(rng: random.Random, shown: Scene, mix: Mix, start: Sequence[int] = (), sees: bool = True) -> Branch:
    """A describe prompt and a long caption, in which absent objects are told as the mixture says."""
    branch = Branch(sees=sees)
    branch.ask([*start, *encode(rng.choice(text.DESCRIBE))])
    extra = []
    for share, names in ((mix.told, ROOMS[shown.room][1]), (mix.told_common, tuple(EVERYWHERE))):
        absent = [name for name in names if name not in shown.categories]
        if absent and rng.random() < share:
            extra.append(rng.choice(absent))
    branch.answer(text.caption(shown, rng, extra), mix.yes_no)
    return branch


def row(rng: random.Random, shown: Scene, other: Scene, mix: Mix) -> list[Branch]:
    """All branches of one image; ``other`` is the scene that the text-only branch talks about."""
    branches = [question(rng, shown, mix) for _ in range(mix.questions)]
    branches.append(caption(rng, shown, mix))
    start = [*([BOS] if rng.random() < 0.8 else []), *USER, *([IDS["\n"]] if rng.random() < 0.75 else [])]
    make = question if rng.random() < 0.7 else caption
    return [*branches, make(rng, other, mix, start, sees=False)]


@dataclass
class Batch:
    """Packed rows: ids, targets' weights, positions ``[B, T]``, mask ``[B, 1, T, T]`` (True: may look), and probes."""

    ids: Tensor
    weights: Tensor
    positions: Tensor
    mask: Tensor
    probes: Tensor  # [P, 2] row and column of object words
    present: Tensor  # [P] 1 if the object is there


def pack(rows: Sequence[Sequence[Branch]]) -> Batch:
    """Rows side by side, padded on the right; padding looks only at itself."""
    start = len(PREFIX)
    size = max(start + sum(len(b.ids) for b in branches) for branches in rows)
    shape = (len(rows), size)
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    weights, part, sees = torch.zeros(shape), torch.full(shape, -1), torch.zeros(shape, dtype=torch.bool)
    probes, present = [], []
    for r, branches in enumerate(rows):
        ids[r, :start], positions[r, :start], part[r, :start] = torch.tensor(PREFIX), torch.arange(start), 0
        at = start
        for number, branch in enumerate(branches, start=1):
            end, first = at + len(branch.ids), start if branch.sees else 0
            ids[r, at:end], weights[r, at:end] = torch.tensor(branch.ids), torch.tensor(branch.weights)
            positions[r, at:end] = torch.arange(first, first + len(branch.ids))
            part[r, at:end], sees[r, at:end] = number, branch.sees
            if branch.sees:
                probes += [(r, at + p) for p, _ in branch.probes]
                present += [there for _, there in branch.probes]
            at = end
    return Batch(ids, weights, positions, _mask(part, sees), torch.tensor(probes), torch.tensor(present))


def _mask(part: Tensor, sees: Tensor) -> Tensor:
    """Causal within a part; parts that see the image look at part 0 (the prefix) as well."""
    size = part.shape[1]
    same = part[:, :, None] == part[:, None, :]
    allowed = (same | (sees[:, :, None] & (part == 0)[:, None, :])) & torch.ones(size, size, dtype=torch.bool).tril()
    return (allowed & (part >= 0)[:, :, None] | torch.eye(size, dtype=torch.bool))[:, None]
