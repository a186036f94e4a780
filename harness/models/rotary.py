"""Rotary embeddings whose frequencies depend on the length of what is read: what an answer owes to its own prompt, and
what it must not owe to others.

Two rope types of transformers (`modeling_rope_utils.py`, `dynamic_rope_update`) look at the largest position of a forward.
`longrope` (Phi-3) turns to a second set of frequencies beyond the original length. `dynamic` (NTK) computes new ones for every
length beyond it, and remembers them for shorter prompts that come later. Both take one set for the whole batch. So here a
`dynamic` module forgets before every forward, which a prompt alone does not notice (it only grows), and requests share a
batch only where none of them changes the frequencies of another (`Turn`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Turn:
    """Up to `at` positions the frequencies are the original ones. `once`: beyond, there is one other set; else every length
    has its own.
    """

    at: int
    once: bool

    def stays(self, longest: int, new: int) -> bool:
        """Whether a batch with prompts of at most `longest` tokens and answers of at most `new` keeps the original ones."""
        return longest + new <= self.at

    def together(self, longest: int, shortest: int, new: int) -> bool:
        """Whether every request of such a batch meets the frequencies that it would meet alone."""
        return longest == shortest or self.stays(longest, new) or (self.once and shortest > self.at)


def turn_of(rotary: Any, config: Any) -> Turn | None:
    """When the frequencies of a model's rotary module change; None: never."""
    kinds = _kinds(rotary)
    ends = [rotary.original_max_seq_len for kind in kinds.values() if "dynamic" in kind]
    once = not ends
    for layer_type, kind in kinds.items():
        if kind == "longrope":
            facts = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
            ends.append(facts["original_max_position_embeddings"])
    return Turn(int(min(ends)), once and len(set(ends)) == 1) if ends else None


def forget_lengths(rotary: Any) -> None:
    """Let a `dynamic` module begin every forward as it was made."""
    if any("dynamic" in kind for kind in _kinds(rotary).values()):
        rotary.register_forward_pre_hook(_reset)


def _reset(rotary: Any, args: Any) -> None:
    rotary.max_seq_len_cached = rotary.original_max_seq_len
    for layer_type in _kinds(rotary):
        prefix = "" if layer_type is None else f"{layer_type}_"
        setattr(rotary, f"{prefix}inv_freq", getattr(rotary, f"{prefix}original_inv_freq"))
        if prefix:
            setattr(rotary, f"{prefix}max_seq_len_cached", rotary.original_max_seq_len)


def _kinds(rotary: Any) -> dict[str | None, str]:
    """Layer type (None: all layers alike) -> rope type."""
    kinds = rotary.rope_type
    return dict(kinds) if isinstance(kinds, dict) else {None: str(kinds)}
