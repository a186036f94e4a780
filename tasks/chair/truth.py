"""What an image holds: the nodes of its annotated objects and those named in its reference captions (arXiv 1809.02156, 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from harness.errors import UserError
from tasks.chair.count import mentions
from tasks.chair.vocabulary import Vocabulary


def truth(
    image: int,
    objects: Mapping[int, Sequence[str]],
    references: Mapping[int, Sequence[str]],
    vocabulary: Vocabulary,
    normalise: Callable[[str], list[str]],
    ignore_unknown: bool = False,
    allow_missing: bool = False,
) -> list[str]:
    """The sorted nodes of one image. An image without annotations and captions is an error, unless `allow_missing`."""
    categories, captions = objects.get(image) or (), references.get(image) or ()
    if not categories and not captions and not allow_missing:
        raise UserError(
            f"chair: the image {image} has no ground truth, neither annotated objects nor reference captions, so every "
            "object in its caption would count as hallucinated. Add the annotation file that holds it, leave the image "
            "out, or say task.chair.allow_missing=true."
        )
    found = {vocabulary.nodes[c] for c in categories if _known(c, vocabulary, ignore_unknown)}
    return sorted(found.union(*(mentions(normalise(text), vocabulary).nodes for text in captions)))


def _near(category: str, vocabulary: Vocabulary) -> str:
    """The nearest name alone: 80 names would hide what there is to do."""
    near = get_close_matches(category, sorted(set(vocabulary.nodes.values())), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _known(category: str, vocabulary: Vocabulary, ignore_unknown: bool) -> bool:
    if category in vocabulary.nodes:
        return True
    if ignore_unknown:
        return False
    raise UserError(
        f"chair: the category '{category}' of the instances file is not in the vocabulary"
        f"{_near(category, vocabulary)}. Add a row to a copy of the list (task.chair.synonyms=FILE), or say "
        "task.chair.unknown_categories=ignore: then it is never part of the ground truth."
    )
