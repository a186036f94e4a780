"""Held-out accuracy of a zoo vision-language model: ``python -m zoo.recipes.vlm_eval DIR``.

POPE (arXiv 2305.10355: three splits, k = 3) and CHAIR (arXiv 1809.02156) on scenes of a seed that training never uses,
through the stock processor and ``generate``, greedy. The names of these scenes are exact, so finding them in a caption
needs no synonyms. Intervals are 95 %, clustered by image. All figures in percent.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.material.scenes import coco, draw, scene, text
from zoo.material.scenes.sample import CATEGORIES

SEED, SCENES = 77, 500
SPLITS = ("random", "popular", "adversarial")
NAMES = re.compile(rf"\b({'|'.join(sorted(CATEGORIES, key=len, reverse=True))})\b")


@dataclass(frozen=True)
class Poll:
    """One question: is there a ``name`` in scene ``image``?"""

    image: int
    name: str
    present: bool


def contents(instances: dict[str, Any]) -> dict[int, list[str]]:
    """Image id to distinct category names in the order of annotation."""
    names = {row["id"]: row["name"] for row in instances["categories"]}
    found: dict[int, dict[str, None]] = {row["id"]: {} for row in instances["images"]}
    for row in instances["annotations"]:
        found[row["image_id"]][names[row["category_id"]]] = None
    return {image: list(objects) for image, objects in found.items()}


def polls(images: dict[int, list[str]], rng: random.Random, k: int = 3) -> dict[str, list[Poll]]:
    """POPE's questions: per image and split ``k`` present objects, each followed by an absent one."""
    images = {image: objects for image, objects in images.items() if len(objects) >= k}
    counts = Counter(name for objects in images.values() for name in objects)
    near = {name: Counter[str]() for name in counts}
    for objects in images.values():
        for name in objects:
            near[name].update(other for other in objects if other != name)
    rankings: dict[str, Callable[[str], list[str]]] = {
        "random": lambda name: [],
        "popular": lambda name: [other for other, _ in counts.most_common()],
        "adversarial": lambda name: [other for other, _ in near[name].most_common()],
    }
    return {split: _split(images, list(counts), ranking, rng, k) for split, ranking in rankings.items()}


def _split(
    images: dict[int, list[str]], names: list[str], ranking: Callable[[str], list[str]], rng: random.Random, k: int
) -> list[Poll]:
    found = []
    for image, objects in images.items():
        used = set(objects)
        for name in objects[:k]:
            free = [other for other in ranking(name) if other not in used]
            absent = free[0] if free else rng.choice([other for other in names if other not in used])
            used.add(absent)
            found += [Poll(image, name, True), Poll(image, absent, False)]
    return found


class Model:
    """A checkpoint behind the stock processor and ``generate``."""

    def __init__(self, folder: Path, seed: int = SEED, rows: int = 60) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.processor.image_processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, backend="pil"
        )
        auto: Any = AutoModelForImageTextToText
        self.model = auto.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        self.seed, self.rows = seed, rows

    def says(self, dialogues: Sequence[list[dict[str, Any]]], images: Sequence[int] | None, new: int) -> list[str]:
        """Greedy answers to dialogues; ``images`` are scene numbers, None for text alone."""
        found: list[str] = []
        for start in range(0, len(dialogues), self.rows):
            some = dialogues[start : start + self.rows]
            texts = [self.processor.apply_chat_template(d, add_generation_prompt=True) for d in some]
            shown = [draw.image(scene(self.seed, i)) for i in images[start : start + self.rows]] if images else None
            inputs = self.processor(text=texts, images=shown, padding=True, return_tensors="pt")
            with torch.no_grad():
                out = self.model.generate(**inputs, max_new_tokens=new, do_sample=False)
            ids = out[:, inputs["input_ids"].shape[1] :]
            found += [said.strip() for said in self.processor.batch_decode(ids, skip_special_tokens=True)]
        return found

    def asks(self, lines: Sequence[str], images: Sequence[int] | None, new: int) -> list[str]:
        """Answers to single questions."""
        parts = [{"type": "image"}] if images is not None else []
        return self.says([[user(line, parts)] for line in lines], images, new)


def user(line: str, parts: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    return {"role": "user", "content": [*parts, {"type": "text", "text": line}]}


def interval(right: Sequence[float], clusters: Sequence[int]) -> tuple[float, float]:
    """Mean and half of its 95 % interval, in percent, from sums of residuals by cluster."""
    mean = sum(right) / len(right)
    sums: dict[int, float] = {}
    for value, cluster in zip(right, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    return 100 * mean, 196 * math.sqrt(sum(s * s for s in sums.values())) / len(right)


def graded(asked: Sequence[Poll], answers: Sequence[str]) -> dict[str, float]:
    """Accuracy with its interval, share of yes, share of answers that are neither; in percent."""
    yes = [answer.lower().startswith("yes") for answer in answers]
    no = [answer.lower().startswith("no") for answer in answers]
    right = [float(y if poll.present else n) for poll, y, n in zip(asked, yes, no, strict=True)]
    mean, half = interval(right, [poll.image for poll in asked])
    share, unknown = 100 * sum(yes) / len(yes), 100 * (1 - (sum(yes) + sum(no)) / len(yes))
    return {"accuracy": mean, "half": half, "yes": share, "unknown": unknown}


def pope(model: Model, asked: Sequence[Poll], suffix: str = text.SINGLE_WORD, image: bool = True) -> dict[str, float]:
    """One question at a time; ``image`` False leaves the image out."""
    lines = [text.question(poll.name) + suffix for poll in asked]
    return graded(asked, model.asks(lines, [poll.image for poll in asked] if image else None, 4))


def pope_chat(model: Model, asked: Sequence[Poll], suffix: str = text.SINGLE_WORD) -> dict[str, float]:
    """The six questions of an image in one dialogue, the image in the first turn only."""
    by_image: dict[int, list[Poll]] = {}
    for poll in asked:
        by_image.setdefault(poll.image, []).append(poll)
    dialogues: dict[int, list[dict[str, Any]]] = {image: [] for image in by_image}
    order, answers = [], []
    for turn in range(max(map(len, by_image.values()))):
        for image, questions in by_image.items():
            parts = [] if turn else [{"type": "image"}]
            dialogues[image].append(user(text.question(questions[turn].name) + suffix, parts))
            order.append(questions[turn])
        said = model.says(list(dialogues.values()), list(by_image), 4)
        for dialogue, answer in zip(dialogues.values(), said, strict=True):
            dialogue.append({"role": "assistant", "content": answer})
        answers += said
    return graded(order, answers)


def chair(captions: Sequence[str], truth: Sequence[set[str]]) -> dict[str, float]:
    """CHAIR_s, CHAIR_i with interval, recall, words; CHAIR_i of names in the first and second half of a caption."""
    told = [[(m.group(), m.start() < len(line) / 2) for m in NAMES.finditer(line)] for line in captions]
    wrong = [[name not in there for name, _ in names] for names, there in zip(told, truth, strict=True)]
    halves = {
        part: [w for names, bad in zip(told, wrong, strict=True) for (_, e), w in zip(names, bad, strict=True) if e == early]
        for part, early in (("first_half", True), ("second_half", False))
    }  # fmt: skip
    flat = [float(w) for bad in wrong for w in bad]
    mean, half = interval(flat, [image for image, bad in enumerate(wrong) for _ in bad]) if flat else (0.0, 0.0)
    found = sum(len({name for name, _ in names} & there) for names, there in zip(told, truth, strict=True))
    s_mean, s_half = interval([float(any(bad)) for bad in wrong], range(len(wrong)))
    return {
        "chair_s": s_mean, "chair_s_half": s_half, "chair_i": mean, "chair_i_half": half,
        "recall": 100 * found / sum(map(len, truth)), "words": sum(len(line.split()) for line in captions) / len(captions),
        **{f"chair_i_{part}": 100 * sum(bad) / max(1, len(bad)) for part, bad in halves.items()},
    }  # fmt: skip


def measure(folder: Path, seed: int = SEED, n: int = SCENES, more: bool = True) -> dict[str, dict[str, float]]:
    """All figures of a checkpoint; ``more`` adds the polls without image, in dialogue, and with the other suffixes."""
    model = Model(folder, seed)
    images = contents(coco(seed, n)[0])
    asked = polls(images, random.Random(seed))
    found = {f"pope {split}": pope(model, asked[split]) for split in SPLITS}
    for i, prompt in enumerate(text.DESCRIBE if more else text.DESCRIBE[:1]):
        captions = model.asks([prompt] * n, list(range(n)), 128)
        found["captions" if i == 0 else f"captions: {prompt}"] = chair(captions, [set(images[i]) for i in range(n)])
    if more:
        for split in SPLITS:
            found[f"pope {split}, no image"] = pope(model, asked[split], image=False)
            found[f"pope {split}, chat"] = pope_chat(model, asked[split])
        for suffix in text.SUFFIXES:
            if suffix != text.SINGLE_WORD:
                found[f"pope random,{suffix or ' no suffix'}"] = pope(model, asked["random"], suffix)
    return found


def shown(figures: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.1f}" for key, value in figures.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=SCENES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true", help="the three splits and one caption prompt only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args.folder, args.seed, args.n, not args.quick)
    for name, figures in found.items():
        print(f"{name}: {shown(figures)}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
