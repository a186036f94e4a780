"""What is in a scene: a room, objects by their COCO names, their boxes and how well each one can be seen.

Six rooms of four members each make *adversarial* questions hard, four objects that occur in every room (three of them
small) make *popular* ones hard. A share ``unseen`` of the drawn instances is painted almost transparently: annotated but
practically invisible, as in real annotations. Every scene comes from ``Random(seed * 1000003 + index)`` alone, so asking
for more scenes never changes the first ones. Nothing here needs a library.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

SIZE = 112  # pixels, both sides of an image
CORE, UNSEEN = 0.55, 0.03

# Room: weight and members in telling order.
ROOMS: dict[str, tuple[int, tuple[str, ...]]] = {
    "dining room": (5, ("dining table", "cup", "fork", "bowl")),
    "office": (4, ("laptop", "keyboard", "mouse", "book")),
    "living room": (4, ("couch", "tv", "vase", "clock")),
    "street": (4, ("car", "truck", "bicycle", "stop sign")),
    "farm": (2, ("cow", "sheep", "horse", "dog")),
    "beach": (2, ("boat", "kite", "surfboard", "umbrella")),
}
EVERYWHERE: dict[str, float] = {"person": 0.35, "chair": 0.4, "bottle": 0.4, "cell phone": 0.4}  # probability per scene
CATEGORY_IDS: dict[str, int] = {
    "person": 1, "bicycle": 2, "car": 3, "truck": 8, "boat": 9, "stop sign": 13, "dog": 18, "horse": 19, "sheep": 20,
    "cow": 21, "umbrella": 28, "kite": 38, "surfboard": 42, "bottle": 44, "cup": 47, "fork": 48, "bowl": 51, "chair": 62,
    "couch": 63, "dining table": 67, "tv": 72, "laptop": 73, "mouse": 74, "keyboard": 76, "cell phone": 77, "book": 84,
    "clock": 85, "vase": 86,
}  # fmt: skip
CATEGORIES: tuple[str, ...] = tuple(CATEGORY_IDS)

# Width by height of a category's pictogram, and the range of its longer side in pixels.
SMALL, MEDIUM, LARGE = (13, 20), (18, 32), (26, 42)
SHAPES: dict[str, tuple[float, tuple[int, int]]] = {
    "person": (0.5, LARGE), "chair": (0.65, (16, 26)), "bottle": (0.42, SMALL), "cell phone": (0.55, SMALL),
    "dining table": (1.6, LARGE), "cup": (1.1, (14, 24)), "fork": (0.36, MEDIUM), "bowl": (1.6, MEDIUM),
    "laptop": (1.3, MEDIUM), "keyboard": (2.3, MEDIUM), "mouse": (0.7, (13, 22)), "book": (1.25, MEDIUM),
    "couch": (1.8, LARGE), "tv": (1.35, LARGE), "vase": (0.55, MEDIUM), "clock": (1.0, (14, 26)),
    "car": (1.9, LARGE), "truck": (1.7, LARGE), "bicycle": (1.6, MEDIUM), "stop sign": (0.6, MEDIUM),
    "cow": (1.45, LARGE), "sheep": (1.35, MEDIUM), "horse": (1.15, LARGE), "dog": (1.3, MEDIUM),
    "boat": (1.0, LARGE), "kite": (0.75, MEDIUM), "surfboard": (0.36, LARGE), "umbrella": (1.0, MEDIUM),
}  # fmt: skip
INTRUDER, COPY = 0.35, 0.12
MOST_OVERLAP, TRIES = 0.12, 8


@dataclass(frozen=True)
class Placed:
    """One drawn instance. ``box``: left, top, width, height in pixels; ``opacity``: 0 (nothing to see) to 1."""

    category: str
    category_id: int
    box: tuple[int, int, int, int]
    opacity: float


@dataclass(frozen=True)
class Scene:
    """A room with its objects in telling order; ``key`` seeds everything that is drawn or said about it."""

    room: str
    objects: tuple[Placed, ...]
    key: int

    @property
    def categories(self) -> tuple[str, ...]:
        """Distinct categories in telling order."""
        return tuple(dict.fromkeys(placed.category for placed in self.objects))

    def random(self, purpose: str) -> random.Random:
        """A generator of this scene for one purpose; different purposes never disturb each other."""
        return random.Random(f"{self.key}/{purpose}")


def scene(seed: int, index: int, core: float = CORE, unseen: float = UNSEEN) -> Scene:
    """Scene number ``index`` of a seed. ``core``: probability of each member of the room; ``unseen``: see the module."""
    key = seed * 1000003 + index
    rng = random.Random(key)
    room = rng.choices(list(ROOMS), [weight for weight, _ in ROOMS.values()])[0]
    names = [name for name in _categories(rng, room, core) for _ in range(2 if rng.random() < COPY else 1)]
    boxes = _boxes(rng, names)
    placed = []
    for name, box in zip(names, boxes, strict=True):
        opacity = rng.uniform(0.0, 0.12) if rng.random() < unseen else rng.uniform(0.5, 1.0)
        placed.append(Placed(name, CATEGORY_IDS[name], box, round(opacity, 3)))
    return Scene(room, tuple(placed), key)


def telling_order(room: str, names: set[str]) -> list[str]:
    """The room's members in their order, then what occurs everywhere, then intruders."""
    first = [*ROOMS[room][1], *EVERYWHERE]
    return [name for name in dict.fromkeys([*first, *CATEGORIES]) if name in names]


def _categories(rng: random.Random, room: str, core: float) -> list[str]:
    others = [name for other, (_, members) in ROOMS.items() if other != room for name in members]
    while True:
        names = {name for name in ROOMS[room][1] if rng.random() < core}
        names |= {name for name, share in EVERYWHERE.items() if rng.random() < share}
        while rng.random() < INTRUDER:
            names.add(rng.choice(others))
        if 3 <= len(names) <= 7:
            return telling_order(room, names)


def _boxes(rng: random.Random, names: list[str]) -> list[tuple[int, int, int, int]]:
    """Boxes that overlap by at most 12 % of the smaller one where eight tries allow it; the best try otherwise."""
    placed: list[tuple[int, int, int, int]] = []
    for name in names:
        ratio, (low, high) = SHAPES[name]
        side = rng.uniform(low, high)
        width, height = round(side * min(1.0, ratio)), round(side / max(1.0, ratio))
        best, least = (0, 0, width, height), float("inf")
        for _ in range(TRIES):
            box = (rng.randint(0, SIZE - width), rng.randint(0, SIZE - height), width, height)
            worst = max((_overlap(box, other) for other in placed), default=0.0)
            if worst < least:
                best, least = box, worst
            if worst <= MOST_OVERLAP:
                break
        placed.append(best)
    return placed


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Common area as a share of the smaller box."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height) / min(a[2] * a[3], b[2] * b[3])
