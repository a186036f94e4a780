"""The recipe: packed rows equal the stock forward pass, legs resume exactly, and two steps leave folders that load."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from harness.cli import learn
from zoo.material.scenes import draw, scene, text
from zoo.material.scenes.sample import CATEGORIES
from zoo.recipes import vlm_data, vlm_legs, vlm_pools, vlm_tokenizer, vlm_train
from zoo.recipes.vlm_data import Mix
from zoo.recipes.vlm_network import Trainee
from zoo.recipes.vlm_recipe import MicroVLM, recipe
from zoo.recipes.vlm_tokenizer import encode


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every leg two steps long, on eight scenes."""
    pools = {name: replace(pool, scenes=8) for name, pool in vlm_legs.POOLS.items()}
    legs = {name: replace(leg, steps=2, batch=2, frozen=0, warmup=1) for name, leg in vlm_legs.LEGS.items()}
    for table, values in ((vlm_legs.POOLS, pools), (vlm_legs.LEGS, legs)):
        for name, value in values.items():
            monkeypatch.setitem(table, name, value)  # type: ignore[misc]
    monkeypatch.setattr(MicroVLM, "log_every", 1)


def test_a_packed_row_equals_separate_calls_of_the_stock_model() -> None:
    trainee = Trainee(0).eval()
    shown = scene(1, 0)
    branches = vlm_data.row(random.Random(0), shown, scene(1, 1), Mix())
    packed = vlm_data.pack([branches])
    pixels = vlm_pools.pixel_values(np.asarray(draw.image(shown))[None])
    model = trainee.model
    with torch.no_grad():
        features = model.model.multi_modal_projector(trainee.patch_states(pixels))
        embedded = model.get_input_embeddings()(packed.ids)
        embedded = embedded.masked_scatter((packed.ids == vlm_data.IMAGE)[..., None], features)
        hidden = model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=torch.zeros(packed.mask.shape).masked_fill(~packed.mask, torch.finfo(torch.float32).min),
            position_ids=packed.positions,
        ).last_hidden_state
        at = len(vlm_data.PREFIX)
        for branch in branches:
            ids = torch.tensor([[*(vlm_data.PREFIX if branch.sees else []), *branch.ids]])
            alone = model(input_ids=ids, pixel_values=pixels if branch.sees else None).logits[0, -1]
            at += len(branch.ids)
            assert torch.allclose(model.lm_head(hidden[0, at - 1]), alone, atol=1e-5)


def test_pixels_are_those_of_the_image_processor() -> None:
    image = draw.image(scene(1, 2))
    stock = vlm_tokenizer.processor().image_processor(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(vlm_pools.pixel_values(np.asarray(image)[None]), stock, atol=1e-6)


def test_a_prompt_is_the_prefix_and_a_branch() -> None:
    processor = vlm_tokenizer.processor()
    line = text.question("cup") + text.SINGLE_WORD
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": line}]}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    ids = processor(text=prompt, images=draw.image(scene(1, 0)))["input_ids"][0]
    assert list(ids) == [*vlm_data.PREFIX, *encode(line), *encode("ASSISTANT:")]


def test_patch_labels_need_eighteen_percent() -> None:
    labels = np.zeros((112, 112), np.uint8)
    labels[:5, :7] = 3  # 35 of 196 pixels
    labels[14:18, :8] = 4  # 32
    found = vlm_pools.patch_labels(labels)
    assert found[0] == 0 or 35 >= 0.18 * 196
    assert found[8] == 0
    assert found.sum() == (3 if 35 >= 0.18 * 196 else 0)


def test_patch_labels_of_a_scene_are_its_visible_categories() -> None:
    shown = scene(1, 0)
    found = vlm_pools.patch_labels(draw.render(shown)[1])
    names = {CATEGORIES[i - 1] for i in found if i}
    assert names and names <= set(shown.categories)


def test_rates_fall_and_the_tower_rests_first() -> None:
    made = recipe("learn", 0, Path())
    leg = made.leg
    assert made.rates(leg.frozen - 1)[0] == 0.0
    assert made.rates(leg.steps - 1) == pytest.approx((leg.vision[1], leg.lr[1]), rel=1e-3)
    assert len(made.optimizer(made.network()).param_groups) == 2
    assert vlm_legs.along(0, 10, (2.0, 1.0)) == 2.0
    assert vlm_legs.along(10, 10, (2.0, 1.0)) == 1.0


def test_the_last_legs_go_on_from_the_same_one() -> None:
    assert recipe("biased", 1, Path()).after() == recipe("careful", 1, Path()).after() == recipe("settle", 1, Path())
    assert recipe("patches", 1, Path()).after() is None


def test_an_interrupted_leg_ends_like_an_uninterrupted_one(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = tmp_path / "pools"
    whole = learn(recipe("learn", 0, pools), tmp_path / "whole")[0].tensors
    real, calls = MicroVLM.loss, []

    def fails_once(*args: object) -> object:
        calls.append(args)
        if len(calls) == 4:  # the second step of the second leg
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(MicroVLM, "loss", fails_once)
    with pytest.raises(KeyboardInterrupt):
        learn(recipe("learn", 0, pools), tmp_path / "cut")
    again = learn(recipe("learn", 0, pools), tmp_path / "cut")[0].tensors
    assert len(calls) == 6  # the first leg is not learned again; the second has no checkpoint yet
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
def test_the_whole_recipe_leaves_two_folders_that_load(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["vlm_train", "--seed", "0", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "pools")]
    argv += ["--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert vlm_train.main() == 0
    for name in vlm_legs.SHIPPED.values():
        folder = tmp_path / "out" / name
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        assert AutoProcessor.from_pretrained(folder, local_files_only=True).tokenizer.padding_side == "left"
        assert sum(p.numel() for p in model.parameters()) < 6_000_000
        assert (folder / "training_log.jsonl").read_text(encoding="utf-8").count(
            "\n"
        ) == 2 * 5  # five legs lead to each of them
