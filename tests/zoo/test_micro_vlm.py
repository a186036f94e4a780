"""The shipped pair loads offline, sees its scenes, and hallucinates: the biased one more than the careful one."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

import zoo
from tests.zoo.measured import measured
from zoo.material.scenes import text
from zoo.recipes import vlm_legs, vlm_pools, vlm_tokenizer

NAMES = ("micro-vlm", "micro-vlm-careful")
FOLDERS = {name: Path(zoo.__file__).parent / name.replace("-", "_") for name in NAMES}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, float]]:
    """(model, task) -> metric -> value, on 16 scenes."""
    found = measured(
        tmp_path_factory.mktemp("results"), f"model=[{','.join(NAMES)}]", "method=[dense]", "task=[pope,chair]", "seed=77",
        "task.pope.scenes=16", "task.pope.n_images=null", "task.pope.max_new_tokens=4", "task.chair.scenes=16",
        "task.chair.n_images=null", "task.chair.max_new_tokens=128",
    )  # fmt: skip
    return {
        (model, task): {name: value["value"] for name, value in m["values"].items()}
        for (model, _, task), m in found.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_plain_llava_of_the_stated_size(name: str) -> None:
    model = AutoModelForImageTextToText.from_pretrained(FOLDERS[name], local_files_only=True)
    assert type(model) is LlavaForConditionalGeneration
    assert sum(weight.numel() for weight in model.parameters()) <= 6_000_000


def test_both_together_are_small() -> None:
    assert sum(file.stat().st_size for folder in FOLDERS.values() for file in folder.iterdir()) < 16_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_processor_is_the_one_this_code_builds(name: str) -> None:
    processor = AutoProcessor.from_pretrained(FOLDERS[name], local_files_only=True)
    assert processor.tokenizer.get_vocab() == vlm_tokenizer.vocabulary()
    assert processor.chat_template == vlm_tokenizer.TEMPLATE.strip()
    assert type(vlm_tokenizer.processor().image_processor).__name__ == "CLIPImageProcessorPil"


@pytest.mark.parametrize("name", NAMES)
def test_it_sees(figures: dict[tuple[str, str], dict[str, float]], name: str) -> None:
    assert figures[name, "pope"]["accuracy_random"] > 0.85
    assert figures[name, "pope"]["unknown"] == 0


def test_the_biased_one_says_yes_to_what_the_room_suggests(figures: dict[tuple[str, str], dict[str, float]]) -> None:
    biased, careful = (figures[name, "pope"] for name in NAMES)
    assert biased["accuracy_adversarial"] < careful["accuracy_adversarial"]
    assert biased["yes_ratio_adversarial"] > careful["yes_ratio_adversarial"]


@pytest.mark.parametrize("name", NAMES)
def test_its_captions_are_long_and_mostly_true(figures: dict[tuple[str, str], dict[str, float]], name: str) -> None:
    found = figures[name, "chair"]
    assert found["length"] > 35
    assert found["recall"] > 0.70
    assert found["chair_i"] < 0.35


def test_without_an_image_it_still_answers_yes_or_no() -> None:
    """The stream without image of methods that contrast two needs that."""
    processor = AutoProcessor.from_pretrained(FOLDERS["micro-vlm"], local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(
        FOLDERS["micro-vlm"], dtype=torch.float32, local_files_only=True
    )
    for name in ("person", "cup", "kite"):
        content = [{"type": "text", "text": text.question(name) + text.SINGLE_WORD}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        ids = processor(text=prompt, return_tensors="pt")["input_ids"]
        told = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
        assert processor.decode(told, skip_special_tokens=True).strip() in ("Yes", "No")


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
