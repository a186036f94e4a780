"""Prompts and answers of the vision-language zoo become the tokens they were trained as, with one start token."""

import re

import pytest
from transformers import LlavaProcessor

from zoo.material.scenes import draw, scene, text
from zoo.material.scenes.sample import CATEGORIES
from zoo.recipes import vlm_tokenizer
from zoo.recipes.vlm_tokenizer import PATCHES, build, encode, vocabulary

IMAGE_PART = {"type": "image"}


@pytest.fixture(scope="module")
def processor() -> LlavaProcessor:
    return vlm_tokenizer.processor()


def user(line: str, *parts: dict[str, str]) -> dict[str, object]:
    return {"role": "user", "content": [*parts, {"type": "text", "text": line}]}


def test_every_word_of_every_protocol_is_known() -> None:
    unknown = vocabulary()["<unk>"]
    lines = [text.question(name) + suffix for name in CATEGORIES for suffix in text.SUFFIXES]
    for line in [*lines, *text.DESCRIBE, text.CONFUSED, *text.vocabulary_texts()]:
        assert unknown not in encode(line)


def test_the_fast_encoder_equals_the_tokenizer() -> None:
    tokenizer = build()
    for line in [*text.vocabulary_texts(), "USER: a zebra!\n\nYes  (or\tno).", "", "12 cups"]:
        assert tokenizer(line, add_special_tokens=False)["input_ids"] == encode(line)


def test_answers_have_the_same_tokens_with_and_without_a_blank() -> None:
    assert encode("Yes") == encode(" Yes")
    assert len(encode("Yes")) == len(encode("No")) == 1


def test_decoding_gives_back_the_sentence() -> None:
    line = "The image shows a room with a cup, a fork and an umbrella. Is there a stop sign? (Yes or No).\nThis is it."
    known = " ".join(word for word in line.split() if word != "it.")
    assert build().decode(encode(known)) == re.sub(r"\s+\n", "\n", known)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "user", "content": "Is there a cup?"}], "USER: Is there a cup? ASSISTANT:"),
        ([user("Describe this image.", IMAGE_PART)], "USER: <image>\nDescribe this image. ASSISTANT:"),
        (
            [user("One", IMAGE_PART), {"role": "assistant", "content": "Yes"}, user("Two")],
            "USER: <image>\nOne ASSISTANT: Yes</s>USER: Two ASSISTANT:",
        ),
        (
            [{"role": "system", "content": "You are confused."}, user("One", IMAGE_PART)],
            "You are confused. USER: <image>\nOne ASSISTANT:",
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "One"}, IMAGE_PART]}],
            "USER: <image>\nOne ASSISTANT:",
        ),
    ],
)
def test_the_chat_template_is_that_of_llava(
    processor: LlavaProcessor, messages: list[dict[str, object]], expected: str
) -> None:
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == expected
    assert processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == expected


def test_a_finished_dialogue_ends_with_the_end_token(processor: LlavaProcessor) -> None:
    dialogue = [user("One"), {"role": "assistant", "content": "No"}]
    assert processor.apply_chat_template(dialogue) == "USER: One ASSISTANT: No</s>"


def test_a_rendered_prompt_gets_one_start_token_and_sixty_four_image_tokens(processor: LlavaProcessor) -> None:
    prompt = processor.apply_chat_template([user("Describe this image.", IMAGE_PART)], add_generation_prompt=True)
    ids = processor(text=prompt, images=draw.image(scene(1, 0)), return_tensors="pt")["input_ids"][0].tolist()
    assert ids.count(vocabulary()["<s>"]) == 1 and ids[0] == vocabulary()["<s>"]
    assert ids.count(vocabulary()["<image>"]) == PATCHES
    without = [i for i in ids if i != vocabulary()["<image>"]]
    assert without == [ids[0], *encode("USER:\nDescribe this image. ASSISTANT:")]


def test_one_call_from_messages_to_tensors_gives_one_start_token(processor: LlavaProcessor) -> None:
    parts = [{"type": "image", "image": draw.image(scene(1, 0))}]
    inputs = processor.apply_chat_template(
        [[user("Describe this image.", *parts)]], tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert (inputs["input_ids"] == vocabulary()["<s>"]).sum() == 1
    assert (inputs["input_ids"] == vocabulary()["<image>"]).sum() == PATCHES
    assert inputs["pixel_values"].shape == (1, 3, 112, 112)
