"""The recipe of ``micro-vlm`` and ``micro-vlm-careful``: ``python -m zoo.recipes.vlm_train --out DIR --seed S``.

Everything that decides the result is data in this file: the models, the pools of scenes, the legs. The leg ``patches``
teaches the vision tower which category covers a patch; ``learn``, ``match`` and ``settle`` train everything on packed
rows; two short legs from there end in the shipped models. They differ in their scenes (the biased one sees fuller rooms,
in which a fifth of the objects is annotated but invisible) and in the share of hard negative questions. Balanced
negatives in ``match`` matter: with few hard ones the rooms alone explain most answers, and matching is learned late.
Two auxiliary losses are thrown away afterwards: image tokens that show an object should point at its word, and the
answer should be known at the object's word inside the question; the latter is what makes answers learnable so soon.

An interrupted run leaves ``state.pt`` in the leg's folder under ``--work`` and goes on from it.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, GenerationConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from harness.training import loop
from zoo.material.scenes import draw
from zoo.material.scenes.sample import CATEGORIES, SIZE, Scene, scene
from zoo.recipes import vlm_data, vlm_tokenizer
from zoo.recipes.vlm_data import Mix
from zoo.recipes.vlm_tokenizer import MEAN, PATCH, PATCHES, STD

PLAIN = Mix()


@dataclass(frozen=True)
class Pool:
    """Training scenes, drawn once. Rooms are fuller than in the test (core 0.55): a built-in shift."""

    scenes: int
    core: float
    unseen: float
    offset: int  # which seeds: training never uses a seed below a million

    def seed(self, seed: int) -> int:
        return 1_000_000 + 100 * seed + self.offset


@dataclass(frozen=True)
class Leg:
    """``lr`` and ``vision`` (learning rate of the vision tower) fall along a half cosine from first to last.

    ``word``: weight of the object-word loss, first and last; ``frozen``: first steps in which the tower rests.
    """

    after: str | None
    pool: str
    steps: int
    batch: int
    lr: tuple[float, float]
    vision: tuple[float, float]
    mix: Mix = PLAIN
    word: tuple[float, float] = (0.0, 0.0)
    patch: float = 0.2
    frozen: int = 0
    warmup: int = 30


POOLS = {
    "full": Pool(16_000, 0.75, 0.10, 1),
    "fine": Pool(10_000, 0.70, 0.05, 2),
    "noisy": Pool(5_000, 0.80, 0.20, 3),
}
LEGS = {
    "patches": Leg(None, "full", 800, 64, (1.5e-3, 7.5e-5), (1.5e-3, 7.5e-5)),
    "learn": Leg(
        "patches", "full", 400, 16, (1.5e-3, 1.293e-3), (2e-4, 2e-4), Mix(hard=0.2, common=0.1, told=0.05, yes_no=3.0),
        word=(1.0, 0.689), patch=0.3, frozen=120,
    ),
    "match": Leg(
        "learn", "fine", 200, 12, (1.3e-3, 1.206e-3), (3e-4, 3e-4), Mix(hard=0.45, common=0.3), word=(1.0, 0.829)
    ),
    "settle": Leg(
        "match", "fine", 900, 12, (1.1e-3, 5e-5), (1e-4, 1e-5), Mix(hard=0.45, common=0.25),
        word=(1.0, 0.2), patch=0.3, warmup=60,
    ),
    "biased": Leg(
        "settle", "noisy", 200, 16, (8e-4, 4e-5), (5e-5, 5e-6), Mix(hard=0.0, common=0.0)
    ),
    "careful": Leg("settle", "fine", 130, 16, (6e-4, 3e-5), (5e-5, 5e-6), Mix(hard=0.5, common=0.25)),
}  # fmt: skip
SHIPPED = {"biased": "micro_vlm", "careful": "micro_vlm_careful"}
SAVE_EVERY, LOG_EVERY = 100, 25


def config() -> LlavaConfig:
    """1.8 M parameters, all classes stock. The last vision layer is used; CLIP's class token is dropped."""
    vision = CLIPVisionConfig(
        image_size=SIZE, patch_size=PATCH, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, projection_dim=128,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=-(-len(vlm_tokenizer.vocabulary()) // 8) * 8, hidden_size=128, intermediate_size=256,
        num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4, head_dim=32, max_position_embeddings=1024,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=vlm_data.IMAGE, image_seq_length=PATCHES,
        vision_feature_layer=-1, vision_feature_select_strategy="default", tie_word_embeddings=False,
    )  # fmt: skip


class Trainee(nn.Module):
    """The model and the parts that only training needs: a patch classifier and a unit that reads object words."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.model = LlavaForConditionalGeneration(config())
        self.patches = nn.Linear(128, len(CATEGORIES) + 1)
        self.word = nn.Linear(128, 1)

    def patch_states(self, pixels: Tensor) -> Tensor:
        """Vision features of the patches, ``[B, 64, 128]``; pixels ``[B, 3, 112, 112]``."""
        return self.model.model.vision_tower(pixels).last_hidden_state[:, 1:]


# --- pools ----------------------------------------------------------------------------------------------------------


def patch_labels(labels: np.ndarray) -> np.ndarray:
    """``[112, 112]`` categories by pixel to ``[64]`` by patch: the most frequent one if it covers 18 %, else 0."""
    side = SIZE // PATCH
    cells = labels.reshape(side, PATCH, side, PATCH).swapaxes(1, 2).reshape(PATCHES, -1)
    counts = np.stack([np.bincount(cell, minlength=len(CATEGORIES) + 1) for cell in cells])[:, 1:]
    return np.where(counts.max(1) >= 0.18 * PATCH * PATCH, counts.argmax(1) + 1, 0).astype(np.uint8)


def draw_pool(pool: Pool, seed: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[N, 112, 112, 3]`` and patch labels ``[N, 64]``, both uint8, drawn once and kept on disk."""
    name = f"pool_{pool.seed(seed)}_{pool.scenes}_{pool.core}_{pool.unseen}_v{draw.VERSION}"
    image_path, label_path = folder / f"{name}.npy", folder / f"{name}_labels.npy"
    if not label_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images = np.lib.format.open_memmap(image_path, "w+", np.uint8, (pool.scenes, SIZE, SIZE, 3))
        labels = np.zeros((pool.scenes, PATCHES), np.uint8)
        for i in range(pool.scenes):
            image, by_pixel = draw.render(scene(pool.seed(seed), i, pool.core, pool.unseen))
            images[i], labels[i] = np.asarray(image), patch_labels(by_pixel)
        images.flush()
        np.save(label_path, labels)
    return np.load(image_path, mmap_mode="r"), np.load(label_path)


def pixel_values(images: np.ndarray) -> Tensor:
    """What the image processor makes of images of the right size: ``[B, 3, 112, 112]``."""
    return (torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


# --- losses ---------------------------------------------------------------------------------------------------------


def patch_loss(trainee: Trainee, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the category of every patch."""
    logits = trainee.patches(trainee.patch_states(pixel_values(images))).flatten(0, 1)
    target = torch.from_numpy(labels.astype(np.int64)).flatten()
    right = (logits.detach().argmax(-1) == target).float()
    numbers = {"object": float(right[target > 0].mean()), "background": float(right[target == 0].mean())}
    return F.cross_entropy(logits, target), numbers


def packed_loss(
    trainee: Trainee, batch: vlm_data.Batch, images: np.ndarray, labels: np.ndarray, word: float, patch: float
) -> tuple[Tensor, dict[str, float]]:
    """Weighted mean cross-entropy of the answers plus the two auxiliary losses; logits only where they count."""
    model = trainee.model
    features = model.model.multi_modal_projector(trainee.patch_states(pixel_values(images)))
    embedded = model.get_input_embeddings()(batch.ids)
    embedded = embedded.masked_scatter((batch.ids == vlm_data.IMAGE)[..., None], features)
    mask = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, torch.finfo(torch.float32).min)
    hidden = model.model.language_model(
        inputs_embeds=embedded, attention_mask=mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    target, weight = batch.ids[:, 1:], batch.weights[:, 1:]
    at = weight > 0
    logits, target, weight = model.lm_head(hidden[:, :-1][at]), target[at], weight[at]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    numbers = _accuracies(logits.detach(), target) | {"answers": float(loss.detach())}
    seen = trainee.word(hidden[batch.probes[:, 0], batch.probes[:, 1]])[:, 0]
    numbers["word"] = float(((seen.detach() > 0) == (batch.present > 0)).float().mean())
    loss = loss + word * F.binary_cross_entropy_with_logits(seen, batch.present)
    pointing = pointing_loss(model, features, labels)
    return loss + patch * pointing, numbers | {"pointing": float(pointing.detach())}


def pointing_loss(model: LlavaForConditionalGeneration, features: Tensor, labels: np.ndarray) -> Tensor:
    """Image tokens that show an object should have the largest product with the embedding of its word."""
    target = torch.from_numpy(labels.astype(np.int64))
    names = model.get_input_embeddings()(torch.tensor(list(vlm_data.WORD_OF.values())))
    return F.cross_entropy(8 * features[target > 0] @ names.T, target[target > 0] - 1)


def _accuracies(logits: Tensor, target: Tensor) -> dict[str, float]:
    right = (logits.argmax(-1) == target).float()
    yes_no = (target == vlm_data.IDS["Yes"]) | (target == vlm_data.IDS["No"])
    names = torch.isin(target, torch.tensor(list(vlm_data.WORD_OF.values())))
    return {"yes_no": float(right[yes_no].mean()), "names": float(right[names].mean())}


# --- legs -----------------------------------------------------------------------------------------------------------


class Data:
    """The steps of a leg. Every step depends on the seed, the leg and its number only."""

    def __init__(self, name: str, seed: int, pools: Path) -> None:
        self.name, self.seed, self.folder = name, seed, pools
        self.leg = LEGS[name]
        self.pool = POOLS[self.leg.pool]

    @functools.cached_property
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """All images and patch labels of the pool."""
        return draw_pool(self.pool, self.seed, self.folder)

    def rng(self, step: int) -> random.Random:
        return random.Random(f"{self.seed}/{self.name}/{step}")

    def scene(self, index: int) -> Scene:
        return scene(self.pool.seed(self.seed), index, self.pool.core, self.pool.unseen)

    def patches(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Half of the batches mirrored; the labels with them."""
        rng = self.rng(step)
        chosen = sorted(rng.sample(range(self.pool.scenes), self.leg.batch))
        images, labels = (values[chosen] for values in self.drawn)
        if rng.random() < 0.5:
            side = SIZE // PATCH
            images, labels = images[:, :, ::-1], labels.reshape(-1, side, side)[:, :, ::-1].reshape(-1, PATCHES)
        return images, labels

    def rows(self, step: int) -> tuple[list[int], list[list[vlm_data.Branch]]]:
        """The images of a step and what is said about them; text-only branches talk about scenes beyond the pool."""
        rng = self.rng(step)
        chosen = rng.sample(range(self.pool.scenes), self.leg.batch)
        others = [self.scene(rng.randrange(10**6, 2 * 10**6)) for _ in chosen]
        return chosen, [
            vlm_data.row(rng, self.scene(i), other, self.leg.mix) for i, other in zip(chosen, others, strict=True)
        ]

    def packed(self, step: int) -> tuple[vlm_data.Batch, np.ndarray, np.ndarray]:
        chosen, rows = self.rows(step)
        images, labels = self.drawn
        return vlm_data.pack(rows), images[chosen], labels[chosen]


def along(step: int, steps: int, ends: tuple[float, float]) -> float:
    """Half a cosine from the first value to the last."""
    return ends[1] + (ends[0] - ends[1]) * 0.5 * (1 + math.cos(math.pi * step / steps))


def optimizer(trainee: Trainee) -> torch.optim.AdamW:
    """Two groups: the vision tower and the rest. Biases and norms decay as well; they are few."""
    tower = list(trainee.model.model.vision_tower.parameters())
    known = {id(p) for p in tower}
    rest = [p for p in trainee.parameters() if id(p) not in known]
    return torch.optim.AdamW([{"params": tower}, {"params": rest}], lr=0.0, betas=(0.9, 0.98), weight_decay=0.02)


def set_rates(optim: torch.optim.Optimizer, leg: Leg, step: int) -> None:
    rest = loop.warmup_then(step, along(step, leg.steps, leg.lr), leg.warmup)
    tower = loop.warmup_then(step - leg.frozen, along(step, leg.steps, leg.vision), leg.warmup)
    optim.param_groups[0]["lr"], optim.param_groups[1]["lr"] = max(0.0, tower), rest


def run_leg(name: str, seed: int, work: Path) -> Trainee:
    """The model at the end of a leg, trained now, resumed, or read; earlier legs are run first if need be."""
    leg = LEGS[name]
    folder, finished = work / name, work / name / "finished.pt"
    trainee = Trainee(seed) if leg.after is None or finished.exists() else run_leg(leg.after, seed, work)
    if finished.exists():
        trainee.load_state_dict(torch.load(finished, weights_only=True))
        return trainee
    folder.mkdir(parents=True, exist_ok=True)
    data, optim = Data(name, seed, work), optimizer(trainee)
    first, spent = _resume(trainee, optim, folder)
    began, window = time.monotonic() - spent, []
    trainee.train()
    for step in range(first, leg.steps):
        set_rates(optim, leg, step)
        loss, numbers = _loss(trainee, data, step)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(trainee.parameters(), 1.0))
        if not math.isfinite(norm):
            raise FloatingPointError(f"gradient norm {norm} at step {step} of leg {name}")
        optim.step()
        window.append({"loss": float(loss.detach()), **numbers})
        done, seconds = step + 1, time.monotonic() - began
        if done % LOG_EVERY == 0 or done == leg.steps:
            _log(folder / "log.jsonl", {"leg": name, "step": done, "seconds": round(seconds, 1), **_means(window)})
            window = []
        if done % SAVE_EVERY == 0:
            _write({"model": trainee.state_dict(), "optimizer": optim.state_dict(), "step": done, "spent": seconds},
                   folder / "state.pt")  # fmt: skip
    _write(trainee.state_dict(), finished)
    (folder / "state.pt").unlink(missing_ok=True)
    return trainee


def _loss(trainee: Trainee, data: Data, step: int) -> tuple[Tensor, dict[str, float]]:
    if data.leg.after is None:
        return patch_loss(trainee, *data.patches(step))
    word = data.leg.word[0] + (data.leg.word[1] - data.leg.word[0]) * step / data.leg.steps
    return packed_loss(trainee, *data.packed(step), word=word, patch=data.leg.patch)


def _means(window: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(sum(row[key] for row in window) / len(window), 4) for key in window[0]}


def _log(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _write(state: Any, path: Path) -> None:
    """To a temporary name and renamed, so that an interrupted write never costs the last checkpoint."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def _resume(trainee: Trainee, optim: torch.optim.Optimizer, folder: Path) -> tuple[int, float]:
    log, path = folder / "log.jsonl", folder / "state.pt"
    if not path.exists():
        log.unlink(missing_ok=True)
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    trainee.load_state_dict(state["model"])
    optim.load_state_dict(state["optimizer"])
    rows = [line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= state["step"]]
    log.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return int(state["step"]), float(state["spent"])


# --- what is shipped ------------------------------------------------------------------------------------------------


def lineage(name: str) -> list[str]:
    """The legs that lead to one, first to last."""
    after = LEGS[name].after
    return [*(lineage(after) if after else []), name]


def ship(model: LlavaForConditionalGeneration, out: Path) -> None:
    """Weights in bfloat16, configuration, tokenizer, image processor and chat template."""
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False)
    nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    vlm_tokenizer.save(out)


def ship_leg(name: str, seed: int, work: Path, out: Path) -> None:
    """Run a leg and everything before it, and write the finished folder with the log of all its legs."""
    ship(run_leg(name, seed, work).model, out)
    log = "".join((work / leg / "log.jsonl").read_text(encoding="utf-8") for leg in lineage(name))
    (out / "training_log.jsonl").write_text(log, encoding="utf-8")


def data_digest(seed: int, steps: tuple[int, ...] = (0, 100)) -> str:
    """First 16 hex digits of the sha256 over packed rows of some steps: tells whether the text is still the same."""
    data = [Data(name, seed, Path()) for name, leg in LEGS.items() if leg.after]
    rows = [[[(b.ids, b.weights) for b in row] for row in d.rows(step)[1]] for d in data for step in steps]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="1 is the shipped pair")
    parser.add_argument("--out", type=Path, required=True, help="receives the folders micro_vlm and micro_vlm_careful")
    parser.add_argument("--work", type=Path, help="pools and checkpoints; run again with the same folder to resume")
    parser.add_argument("--leg", nargs="+", choices=list(LEGS), default=list(SHIPPED))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = args.work or Path("build") / "zoo_vlm" / f"seed{args.seed}"
    for name in args.leg:
        if name in SHIPPED:
            ship_leg(name, args.seed, work, args.out / SHIPPED[name])
        else:
            run_leg(name, args.seed, work)


if __name__ == "__main__":
    main()
