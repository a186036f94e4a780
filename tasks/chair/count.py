"""From normalised tokens to objects, and from objects to the numbers of one caption.

CHAIR_i, recall, precision and F1 are ratios of sums over all captions, so a caption contributes numerators and denominators:

    CHAIR_i = sum(hallucinated) / sum(nodes)     recall    = sum(covered) / sum(truth)
    F1 = sum(2 covered) / sum(mentioned + truth) precision = sum(covered) / sum(mentioned)

F1 is the harmonic mean of the last two: with sums c, m, g it is 2 (c/m) (c/g) / (c/m + c/g) = 2c / (m + g).
Sources: arXiv 1809.02156 (CHAIR), shikiw/OPERA `chair.py` (recall, length), PAI (precision, F1).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tasks.chair.vocabulary import DOUBLES, Vocabulary


@dataclass(frozen=True)
class Mentions:
    """`nodes`: categories in the order of the caption, with repetitions; `positions`: their places among `length` tokens."""

    nodes: tuple[str, ...]
    positions: tuple[int, ...]
    length: int


def mentions(tokens: Sequence[str], vocabulary: Vocabulary) -> Mentions:
    """Steps 3 to 5: join double words, drop the seat of a toilet, keep what the vocabulary knows."""
    words = _joined(tokens)
    dropped = "seat" if "toilet" in words and "seat" in words else None
    found = [(i, vocabulary.nodes[w]) for i, w in enumerate(words) if w in vocabulary.nodes and w != dropped]
    return Mentions(tuple(node for _, node in found), tuple(i for i, _ in found), len(words))


def _joined(tokens: Sequence[str]) -> list[str]:
    """Pairs of the table become one word, greedily from the left; a pair uses up both of its words."""
    words, i = [], 0
    while i < len(tokens):
        pair = " ".join(tokens[i : i + 2])
        words.append(DOUBLES.get(pair, tokens[i]))
        i += 2 if pair in DOUBLES else 1
    return words


def numbers(found: Mentions, truth: Collection[str]) -> dict[str, float]:
    """The metrics of one caption: what it counts for in each sum."""
    wrong = [node not in truth for node in found.nodes]
    late = [2 * position >= found.length for position in found.positions]
    mentioned = set(found.nodes)
    covered = len(mentioned & set(truth))
    return {
        "chair_s": float(any(wrong)),
        "hallucinated": float(sum(wrong)),
        "nodes": float(len(wrong)),
        "covered": float(covered),
        "covered_twice": 2.0 * covered,
        "mentioned": float(len(mentioned)),
        "truth": float(len(truth)),
        "mentioned_and_truth": float(len(mentioned) + len(truth)),
        "length": float(found.length),
        "hallucinated_late": float(sum(w and on for w, on in zip(wrong, late, strict=True))),
        "nodes_late": float(sum(late)),
    }
