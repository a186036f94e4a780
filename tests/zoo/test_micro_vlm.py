"""The shipped pair loads offline, sees its scenes, and hallucinates: the biased one more than the careful one."""

import hashlib
import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

import zoo
from zoo.material.scenes import coco, text
from zoo.recipes import vlm_eval, vlm_legs, vlm_pools, vlm_tokenizer

NAMES = ("micro-vlm", "micro-vlm-careful")
FOLDERS = {name: Path(zoo.__file__).parent / name.replace("-", "_") for name in NAMES}
SCENES = 16


@pytest.fixture(scope="module")
def models() -> dict[str, vlm_eval.Model]:
    return {name: vlm_eval.Model(folder) for name, folder in FOLDERS.items()}


@pytest.fixture(scope="module")
def images() -> dict[int, list[str]]:
    return vlm_eval.contents(coco(vlm_eval.SEED, SCENES)[0])


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_plain_llava_of_the_stated_size(name: str) -> None:
    model = AutoModelForImageTextToText.from_pretrained(FOLDERS[name], local_files_only=True)
    assert type(model) is LlavaForConditionalGeneration
    assert sum(weight.numel() for weight in model.parameters()) <= 6_000_000


def test_both_together_are_small() -> None:
    assert sum(file.stat().st_size for folder in FOLDERS.values() for file in folder.iterdir()) < 16_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_processor_is_the_one_this_code_builds(models: dict[str, vlm_eval.Model], name: str) -> None:
    processor = models[name].processor
    assert processor.tokenizer.get_vocab() == vlm_tokenizer.vocabulary()
    assert processor.chat_template == vlm_tokenizer.TEMPLATE.strip()
    assert type(processor.image_processor).__name__ == "CLIPImageProcessorPil"


@pytest.mark.parametrize("name", NAMES)
def test_it_sees(models: dict[str, vlm_eval.Model], images: dict[int, list[str]], name: str) -> None:
    asked = vlm_eval.polls(images, random.Random(1))["random"]
    found = vlm_eval.pope(models[name], asked)
    assert found["accuracy"] > 85
    assert found["unknown"] == 0


def test_the_biased_one_says_yes_to_what_the_room_suggests(
    models: dict[str, vlm_eval.Model], images: dict[int, list[str]]
) -> None:
    asked = vlm_eval.polls(images, random.Random(1))["adversarial"]
    biased, careful = (vlm_eval.pope(models[name], asked) for name in NAMES)
    assert biased["accuracy"] < careful["accuracy"]
    assert biased["yes"] > careful["yes"]


@pytest.mark.parametrize("name", NAMES)
def test_its_captions_are_long_and_mostly_true(
    models: dict[str, vlm_eval.Model], images: dict[int, list[str]], name: str
) -> None:
    captions = models[name].asks([text.DESCRIBE[0]] * SCENES, list(images), 128)
    found = vlm_eval.chair(captions, [set(objects) for objects in images.values()])
    assert found["words"] > 35
    assert found["recall"] > 70
    assert found["chair_i"] < 35


def test_without_an_image_it_still_answers_yes_or_no(models: dict[str, vlm_eval.Model]) -> None:
    questions = [text.question(name) + text.SINGLE_WORD for name in ("person", "cup", "kite")]
    answers = models["micro-vlm"].asks(questions, None, 4)
    assert set(answers) <= {"Yes", "No"}


def test_batches_change_nothing(models: dict[str, vlm_eval.Model], images: dict[int, list[str]]) -> None:
    """Left padding and the mask make a batch of prompts of different lengths equal to single ones."""
    lines = [text.DESCRIBE[0], text.question("cup"), text.question("dog") + text.SINGLE_WORD]
    together = models["micro-vlm"].asks(lines, [0, 1, 2], 24)
    assert together == [models["micro-vlm"].asks([line], [i], 24)[0] for i, line in enumerate(lines)]


@pytest.mark.parametrize("name", NAMES)
def test_the_log_is_that_of_the_whole_recipe(name: str) -> None:
    leg = next(leg for leg, folder in vlm_legs.SHIPPED.items() if folder == FOLDERS[name].name)
    rows = [json.loads(line) for line in (FOLDERS[name] / "training_log.jsonl").read_text("utf-8").splitlines()]
    last = {row["leg"]: row["step"] for row in rows}
    assert last == {each: vlm_legs.LEGS[each].steps for each in vlm_legs.lineage(leg)}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=NAMES)
def test_the_card_belongs_to_these_weights_and_this_data(folder: Path) -> None:
    """Fails when the text, the tokenizer or the legs change: then train again and write a new card."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
    assert f"`{weights}`" in card
    assert f"`{vlm_pools.data_digest(seed=1)}`" in card


def test_weights_are_stored_in_bfloat16() -> None:
    model = AutoModelForImageTextToText.from_pretrained(FOLDERS["micro-vlm"], local_files_only=True)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
