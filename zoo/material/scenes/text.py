"""What is asked and told about a scene, in words: questions, prompts, references, and the long captions models learn.

Questions and prompts are those of the published protocols (POPE, LLaVA, VCD, PAI, OPERA). A long caption tells objects
in the scene's telling order: an opening list, a sentence on the place of each object of it, then the rest. None of the
words around the object names is in CHAIR's synonym table. Nothing here needs a library.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from zoo.material.scenes.sample import CATEGORIES, ROOMS, SIZE, Placed, Scene, telling_order

SINGLE_WORD = "\nAnswer the question using a single word or phrase."
SUFFIXES: tuple[str, ...] = (
    "", SINGLE_WORD, " Please answer this question with one word.", " Please just answer yes or no.",
    " Please answer this question with one word (Yes or No).",
)  # fmt: skip
DESCRIBE: tuple[str, ...] = (
    "Please describe this image in detail.", "Please help me describe the image in detail.", "Describe this image.",
    "Write a general description of the image.",
)  # fmt: skip
CONFUSED = "You are a confused objects detector to provide a fuzzy overview or impression of the image."
PLACES = ("on the left", "in the middle", "on the right")


def with_article(name: str) -> str:
    """``a cup``, ``an umbrella``: an before a, e, i, o, u."""
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def listing(names: Sequence[str]) -> str:
    """``a cup, a fork and a bowl``."""
    told = [with_article(name) for name in names]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def question(name: str) -> str:
    """POPE's question, without a suffix."""
    return f"Is there {with_article(name)} in the image?"


def place(placed: Placed) -> str:
    """Which third of the image's width holds the middle of the box."""
    return PLACES[min(2, int((placed.box[0] + placed.box[2] / 2) * 3 / SIZE))]


def places(scene: Scene) -> dict[str, str]:
    """Category to its place; of two copies the first counts."""
    return {placed.category: place(placed) for placed in reversed(scene.objects)}


def reference(scene: Scene, rng: random.Random) -> str:
    """A short reference caption that mentions every object with probability 0.8."""
    told = [name for name in scene.categories if rng.random() < 0.8]
    return f"{with_article(scene.room).capitalize()} with {listing(told)}." if told else f"A view of the {scene.room}."


def caption(scene: Scene, rng: random.Random, extra: Sequence[str] = ()) -> str:
    """A long caption of everything in the scene; ``extra`` are absent objects that are told as if they were there."""
    where = {name: rng.choice(PLACES) for name in extra} | places(scene)
    names = telling_order(scene.room, set(where))
    first = min(len(names), 3 if rng.random() < 0.7 else 2)
    return " ".join(
        [_opening(scene.room, names[:first], rng), *_positions(names[:first], where), *_rest(names[first:], where)]
    )


def _opening(room: str, names: Sequence[str], rng: random.Random) -> str:
    if rng.random() < 0.6:
        return f"The image shows {with_article(room)} with {listing(names)}."
    return f"This is {with_article(room)}. There is {listing(names)}."


def _positions(names: Sequence[str], where: dict[str, str]) -> list[str]:
    return [f"The {name} is {where[name]} of the image." for name in names]


def _rest(names: Sequence[str], where: dict[str, str]) -> list[str]:
    """All but the last two, one sentence each; the last two together in the background."""
    told = [f"There is also {with_article(name)} {where[name]}." for name in names[:-2]]
    return [*told, f"In the background there is {listing(names[-2:])}."] if names else told


def vocabulary_texts() -> list[str]:
    """Texts that together hold every word a model of these scenes must know."""
    told = [f"{with_article(room)} {with_article(room).capitalize()}" for room in ROOMS]
    told += [f"{question(name)} The {name}" for name in CATEGORIES]
    told += ["The image shows a scene with , and . This is There is also In the background there is", *PLACES]
    told += [f"A view of the image. {of}" for of in ("top bottom side large small", "Yes Yes. No No, not one two")]
    return [*told, *SUFFIXES, *DESCRIBE, CONFUSED, "USER: ASSISTANT:"]
