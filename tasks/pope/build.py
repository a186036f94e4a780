"""POPE's three question sets from annotated images (arXiv 2305.10355, section 5; AoiDragon/POPE `main.py`, `utils.py`).

Each image is asked about its first k objects, and after each of them about one that is absent: a random one, the most
frequent one, or the one that most often stands beside the object just asked about. All sorts are stable. The reference
draws from Python's global generator without a seed; here `Random(seed)` draws the images, then the random, popular and
adversarial questions, in the reference's order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from harness.errors import UserError
from tasks.coco import Annotations
from tasks.pope.questions import SPLITS, Question

TEMPLATE = "Is there a {} in the image?"


@dataclass(frozen=True)
class Polled:
    """The selected images and what the popular and adversarial questions are drawn from."""

    images: Mapping[str, tuple[str, ...]]  # file name -> its objects
    frequency: Mapping[str, int]  # object -> number of images that hold it, in first-seen order
    beside: Mapping[str, tuple[str, ...]]  # object -> other objects of the same images, most frequent first


def build(
    annotations: Annotations, seed: int = 0, k: int = 3, n_images: int | None = None, typo: bool = False
) -> list[Question]:
    """All questions of the three sets, `2k` an image and set, numbered from 1 within each."""
    rng = Random(seed)
    polled = poll(annotations, rng, k, n_images)
    return [question for split in SPLITS for question in _file(polled, split, rng, k, typo)]


def poll(annotations: Annotations, rng: Random, k: int, n_images: int | None) -> Polled:
    """Draw `n_images` of the images with at least `k` objects (None: take all, in file order) and count."""
    rich = {annotations.images[i]: o for i, o in annotations.objects.items() if len(o) >= k and i in annotations.images}
    if len(rich) < (n_images or 1):
        raise UserError(
            f"pope asks about {n_images or 1} images with at least {k} objects, but the annotations hold {len(rich)} of "
            "them: lower task.pope.n_images or task.pope.k, or give more images."
        )
    names = list(rich) if n_images is None else rng.sample(list(rich), n_images)
    images = {name: rich[name] for name in names}
    frequency = Counter(o for objects in images.values() for o in objects)
    return Polled(images, dict(frequency), _beside(images))


def question_text(name: str, typo: bool = False) -> str:
    """`an` before a small vowel. The reference changes every `a` of the template then (`typo`): `in the imange?`."""
    if name[:1] not in tuple("aeiou"):
        return TEMPLATE.format(name)
    return (TEMPLATE.replace("a", "an") if typo else TEMPLATE.replace(" a ", " an ")).format(name)


def _beside(images: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    counts: dict[str, Counter[str]] = {}
    for objects in images.values():
        for one in objects:
            counts.setdefault(one, Counter()).update(other for other in objects if other != one)
    return {one: tuple(_by_count(others)) for one, others in counts.items()}


def _by_count(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: -counts[name])


def _file(polled: Polled, split: str, rng: Random, k: int, typo: bool) -> Iterator[Question]:
    popular = _by_count(polled.frequency)
    number = 0
    for image, objects in polled.images.items():
        asked: set[str] = set()
        for present in objects[:k]:
            asked.add(present)
            ranked = {"popular": popular, "adversarial": polled.beside[present]}.get(split, ())
            absent = next((o for o in ranked if o not in objects and o not in asked), None)
            absent = absent or _random(list(polled.frequency), {*objects, *asked}, rng, image)
            asked.add(absent)
            for name, label in ((present, "yes"), (absent, "no")):
                number += 1
                yield Question(image, question_text(name, typo), label, split, number, f"the annotations of {image}")


def _random(known: Sequence[str], taken: set[str], rng: Random, image: str) -> str:
    """Drawn anew while it is taken, as in the reference, which would never end where nothing is left."""
    if taken.issuperset(known):
        raise UserError(
            f"pope finds no object left that is absent from {image}: the images hold only {len(known)} kinds of objects. "
            "Lower pope.k or give more images."
        )
    while (name := rng.choice(known)) in taken:
        pass
    return name
