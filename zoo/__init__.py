"""The zoo: micro models that ship with the repository, each with the recipe that trained it.

Importing this package needs no torch. A member is a folder that ``from_pretrained`` accepts; its card is README.md.
"""

from __future__ import annotations

from pathlib import Path

MEMBERS: dict[str, str] = {
    "micro-lm": "micro_lm",
    "micro-vlm": "micro_vlm",
    "micro-vlm-careful": "micro_vlm_careful",
}


def path(name: str) -> Path:
    """The folder of a member's checkpoint; unknown names raise ``KeyError`` with the known ones."""
    if name not in MEMBERS:
        raise KeyError(f"no zoo member {name!r}; known: {', '.join(sorted(MEMBERS))}")
    return Path(__file__).parent / MEMBERS[name]
