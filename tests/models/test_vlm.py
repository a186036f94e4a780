"""Vision-language views: through embeddings and explicit positions every family computes what the library's own road
from processor to `generate` computes; pictures are encoded once; what is missing or does not fit is one clear sentence.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from harness.errors import UserError
from harness.models import shipped
from harness.models.families import FAMILIES, family_of
from harness.models.load import ModelSpec
from harness.models.tokens import TextTokens
from harness.models.view import View
from harness.models.vision import Patches
from tests import tiny_vlm

NEW = 10
QWEN = ("qwen2_vl", "qwen2_5_vl")
SQUARE = ("llava", "vipllava", "llava_next")
LONG = "What is in the picture, and what is beside it?"
SHORT = "Who?"
Sample = tuple[list[int], dict[str, Tensor]]


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=tiny_vlm.FAMILIES)
def view(request: pytest.FixtureRequest) -> View:
    return tiny_vlm.view(request.param)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("models")
    return lambda family: (base / family) if (base / family).is_dir() else tiny_vlm.save(family, base / family)


def sample(view: View, text: str, *pictures: Image.Image) -> Sample:
    """Expanded ids and tensors of one request."""
    assert view.vision is not None
    prompt = view.tokens.prompt_text(text, n_images=len(pictures))
    return view.vision.process(prompt, pictures, view.tokens.adds_special(prompt))


def batch(view: View, samples: Sequence[Sample], features: Sequence[Tensor | None] | None = None) -> dict[str, Any]:
    """Left-padded embeddings, mask and positions: what the engine feeds to `view.lm`."""
    assert view.vision is not None
    width = max(len(ids) for ids, _ in samples)
    ids = torch.tensor([[view.pad_id] * (width - len(i)) + i for i, _ in samples])
    mask = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i, _ in samples])
    tensors = [t or None for _, t in samples]
    found = features or [None if t is None else view.vision.features(t) for t in tensors]
    return {
        "inputs_embeds": view.vision.embed(ids, found), "attention_mask": mask,
        "position_ids": view.vision.positions(ids, mask, tensors),
    }  # fmt: skip


def generate(view: View, inputs: dict[str, Any]) -> list[list[int]]:
    return view.lm.generate(**inputs, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False).tolist()


def logits(view: View, samples: Sequence[Sample], steps: Sequence[int] = ()) -> Tensor:
    """Last logits `[B, 1 + len(steps), V]` of the prompt and of further tokens, one at a time on the cache."""
    inputs = batch(view, samples)
    out = view.lm(**inputs, use_cache=True, logits_to_keep=1)
    rows, mask, positions = [out.logits[:, -1]], inputs["attention_mask"], inputs["position_ids"][..., -1:]
    for n, token in enumerate(steps):
        mask = torch.cat((mask, mask.new_ones(len(mask), 1)), dim=1)
        out = view.lm(
            input_ids=torch.full((len(mask), 1), token), attention_mask=mask, position_ids=positions + n + 1,
            past_key_values=out.past_key_values, use_cache=True,
        )  # fmt: skip
        rows.append(out.logits[:, -1])
    return torch.stack(rows, dim=1)


def library(view: View, text: str, pictures: Sequence[Image.Image]) -> tuple[dict[str, Any], list[int]]:
    """The library's processor and `generate` on the same rendered prompt: its inputs, its new tokens."""
    family = view.family
    prompt = view.tokens.prompt_text(text, n_images=len(pictures))
    processor = tiny_vlm.processor(family, tiny_vlm.image_processor(family), tiny_vlm.tokenizer(family))
    inputs = processor(text=prompt, images=list(pictures), return_tensors="pt")
    new = view.model.generate(**inputs, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
    return inputs, new[0, -NEW:].tolist()


# ---- the same as the library


def test_a_view_comes_back_from_a_folder(view: View) -> None:
    assert view.n_layers == 4 and view.n_heads == 4 and view.n_kv_heads == 2 and view.head_dim == 16
    assert all(view.attention(i).config is view.config for i in range(4))
    assert view.vision is not None and view.dtype == torch.float32
    assert view.max_positions == 4096 and view.pad_id == tiny_vlm.ID["<pad>"]
    assert view.stop_ids == [tiny_vlm.ID["<|im_end|>" if view.family in QWEN else "</s>"]]
    assert view.lm_head.weight.shape == (tiny_vlm.VOCABULARY, 64)
    assert view.o_proj(0).in_features == 64 and view.sliding_window(0) is None
    assert not any(p.requires_grad for p in view.model.parameters())


def test_rotation_is_known_where_it_is_one_position(view: View) -> None:
    turned = view.rope(0, torch.arange(5))
    assert turned is None if view.family in QWEN else turned is not None and turned[0].shape == (5, 16)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ids_and_tensors_are_the_processors(view: View, seed: int) -> None:
    pictures = tiny_vlm.images(1, seed)
    theirs, _ = library(view, LONG, pictures)
    ids, tensors = sample(view, LONG, *pictures)
    assert ids == theirs["input_ids"][0].tolist()
    for key, tensor in tensors.items():
        assert torch.equal(tensor, theirs[key]), key
    assert set(theirs) - set(tensors) <= {"input_ids", "attention_mask", "mm_token_type_ids"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_generation_is_the_models_own(view: View, seed: int) -> None:
    pictures = tiny_vlm.images(1, seed)
    _, theirs = library(view, LONG, pictures)
    assert generate(view, batch(view, [sample(view, LONG, *pictures)])) == [theirs]


def test_several_pictures_in_one_prompt(view: View) -> None:
    pictures = tiny_vlm.images(2, 3)
    if view.family == "instructblip":
        with pytest.raises(UserError, match=r"reads one image per prompt, but this one has 2"):
            sample(view, LONG, *pictures)
        return
    _, theirs = library(view, LONG, pictures)
    assert generate(view, batch(view, [sample(view, LONG, *pictures)])) == [theirs]


def test_a_padded_batch_is_its_samples(view: View) -> None:
    one, two = tiny_vlm.images(2, 4)
    samples = [sample(view, LONG, one), sample(view, SHORT, two), sample(view, SHORT)]
    together = logits(view, samples, steps=(20, 30, 40))
    for i, alone in enumerate(samples):
        torch.testing.assert_close(together[i : i + 1], logits(view, [alone], steps=(20, 30, 40)), atol=1e-4, rtol=0)
    assert generate(view, batch(view, samples)) == [generate(view, batch(view, [s]))[0] for s in samples]


def test_the_picture_matters_and_so_does_its_absence(view: View) -> None:
    one, two = (picture.resize((90, 70)) for picture in tiny_vlm.images(2, 5))
    seen, other, blind = (logits(view, [s]) for s in (sample(view, LONG, one), sample(view, LONG, two), cut(view, one)))
    assert (seen - other).abs().max() > 1e-2 and (seen - blind).abs().max() > 1e-2


def cut(view: View, picture: Image.Image) -> Sample:
    """The same prompt with the image tokens cut out."""
    assert view.vision is not None
    ids, _ = sample(view, LONG, picture)
    return [i for i in ids if i != view.vision.image_token_id], {}


def test_a_prompt_without_its_picture_is_plain_text(view: View) -> None:
    ids, _ = cut(view, tiny_vlm.images(1)[0])
    plain = view.lm(input_ids=torch.tensor([ids]), logits_to_keep=1).logits
    torch.testing.assert_close(logits(view, [(ids, {})]), plain, atol=1e-5, rtol=0)
    inputs = batch(view, [(ids, {})])
    again = view.lm.generate(input_ids=torch.tensor([ids]), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
    assert generate(view, inputs) == again[:, len(ids) :].tolist()


# ---- pictures are encoded once


def test_kept_features_are_what_encoding_anew_gives(view: View) -> None:
    assert view.vision is not None
    one, two = (sample(view, LONG, picture) for picture in tiny_vlm.images(2, 6))
    kept = [view.vision.features(t) for _, t in (one, two)]
    assert [len(f) for f in kept] == [view.vision.image_mask(torch.tensor([ids])).sum().item() for ids, _ in (one, two)]
    assert all(torch.equal(a, view.vision.features(t)) for a, (_, t) in zip(kept, (one, two), strict=True))
    shared = batch(view, [one, two], kept)
    assert all(torch.equal(shared[key], anew) for key, anew in batch(view, [one, two]).items())


def test_features_belong_to_the_picture_alone_unless_the_family_reads_the_question(view: View) -> None:
    assert view.vision is not None
    picture = tiny_vlm.images(1, 7)[0]
    a, b = (view.vision.features(sample(view, text, picture)[1]) for text in (LONG, SHORT))
    assert torch.equal(a, b) is not view.vision.reads_text
    assert view.vision.reads_text is (view.family == "instructblip")


def test_features_that_do_not_fit_are_refused(view: View) -> None:
    assert view.vision is not None
    ids, tensors = sample(view, LONG, tiny_vlm.images(1)[0])
    with pytest.raises(ValueError, match="image tokens of each row"):
        view.vision.embed(torch.tensor([ids]), [view.vision.features(tensors)[1:]])


# ---- positions


@pytest.mark.parametrize("family", QWEN)
def test_positions_are_those_of_generate(family: str) -> None:
    view = tiny_vlm.view(family)
    assert view.vision is not None
    pictures = [p.resize(size) for p, size in zip(tiny_vlm.images(2, 8), [(150, 60), (60, 110)], strict=True)]
    samples = [sample(view, LONG, pictures[0]), sample(view, SHORT, pictures[1])]
    inputs = batch(view, samples)
    ids = torch.tensor([[view.pad_id] * (inputs["attention_mask"].shape[1] - len(i)) + i for i, _ in samples])
    theirs = view.model._prepare_position_ids_for_generation(ids, {
        "attention_mask": inputs["attention_mask"], "mm_token_type_ids": view.vision.image_mask(ids).int(),
        "image_grid_thw": torch.cat([t["image_grid_thw"] for _, t in samples]),
    })  # fmt: skip
    view.model.model.rope_deltas = None
    assert inputs["position_ids"].shape == (4, 2, ids.shape[1]) and torch.equal(inputs["position_ids"], theirs)
    grids = [view.vision.grid(t) for _, t in samples]
    assert grids[0] != grids[1]
    for i, (rows, columns) in enumerate(g[0] for g in grids if g):
        place = inputs["position_ids"][1:, i, view.vision.image_mask(ids)[i]]
        assert (place.amax(1) - place.amin(1)).tolist() == [0, rows - 1, columns - 1]


@pytest.mark.parametrize("family", QWEN)
def test_a_request_between_two_others_changes_nothing(family: str) -> None:
    """Trap J: the library keeps `rope_deltas` on the model object."""
    view = tiny_vlm.view(family)
    pictures = tiny_vlm.images(2, 9)
    first, second, blind = sample(view, LONG, pictures[0]), sample(view, SHORT, pictures[1]), sample(view, LONG)
    alone = {
        id(s): (logits(view, [s], steps=(20, 30)), generate(view, batch(view, [s]))) for s in (first, second, blind)
    }
    library(view, SHORT, pictures[:1])
    assert view.model.model.rope_deltas is not None
    for request in (first, blind, second, first):
        kept, tokens = alone[id(request)]
        assert torch.equal(logits(view, [request], steps=(20, 30)), kept)
        assert generate(view, batch(view, [request])) == tokens


def test_text_between_pictures_in_one_batch(view: View) -> None:
    """A row without a picture between two with one, whatever its text says."""
    one, two = tiny_vlm.images(2, 10)
    samples = [sample(view, SHORT, one), sample(view, LONG), sample(view, SHORT, two)]
    for i, expected in enumerate(samples):
        torch.testing.assert_close(logits(view, samples)[i], logits(view, [expected])[0], atol=1e-4, rtol=0)


# ---- what is seen of the picture


def test_grids(view: View) -> None:
    assert view.vision is not None
    ids, tensors = sample(view, LONG, tiny_vlm.images(1)[0].resize((140, 60)))
    found = view.vision.grid(tensors)
    if view.family in QWEN:
        assert found == [(2, 5)] and ids.count(view.vision.image_token_id) == 10
    else:
        assert found == (None if view.family == "instructblip" else [(4, 4)])


@pytest.mark.parametrize(("family", "size"), [("llava", (56, 56)), ("qwen2_vl", (112, 56)), ("qwen2_5_vl", (112, 84))])
def test_rows_of_features_lie_in_the_grid_row_by_row(family: str, size: tuple[int, int]) -> None:
    """Painting over one cell of the picture changes that cell's token most."""
    view = tiny_vlm.view(family)
    assert view.vision is not None
    picture = tiny_vlm.images(1, 12)[0].resize(size)
    _, tensors = sample(view, SHORT, picture)
    plain, ((rows, columns),) = view.vision.features(tensors), view.vision.grid(tensors) or []
    side = size[0] // columns
    for row, column in [(0, 0), (0, columns - 1), (rows - 1, 1), (1, 2)]:
        painted = picture.copy()
        painted.paste((255, 0, 0), (column * side, row * side, (column + 1) * side, (row + 1) * side))
        moved = (view.vision.features(sample(view, SHORT, painted)[1]) - plain).norm(dim=-1)
        assert moved.argmax() == row * columns + column


def test_the_base_grid_of_tiles_comes_first() -> None:
    """LLaVA-NeXT: the first 16 rows are the whole picture, as LLaVA would encode it."""
    view = tiny_vlm.view("llava_next")
    assert view.vision is not None
    _, tensors = sample(view, LONG, tiny_vlm.images(1, 11)[0])
    base = view.model.model.vision_tower(tensors["pixel_values"][0, :1], output_hidden_states=True).hidden_states[-2]
    expected = view.model.model.multi_modal_projector(base[:, 1:])[0]
    torch.testing.assert_close(view.vision.features(tensors)[:16], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(150, 40), (40, 150), (56, 56), (160, 159), (57, 113), (41, 97)])
def test_tiles_are_counted_right_for_every_shape(size: tuple[int, int]) -> None:
    view = tiny_vlm.view("llava_next")
    assert view.vision is not None
    ids, tensors = sample(view, SHORT, tiny_vlm.images(1)[0].resize(size))
    assert len(view.vision.features(tensors)) == ids.count(view.vision.image_token_id)


@pytest.mark.parametrize("family", SQUARE)
def test_attention_of_the_tower(family: str) -> None:
    view = tiny_vlm.view(family)
    assert view.vision is not None
    _, tensors = sample(view, LONG, tiny_vlm.images(1)[0])
    tower, before = view.model.model.vision_tower, view.vision.features(tensors)
    first, last = view.vision.attention(tensors, [0, -1])
    assert first.shape == last.shape == (1, 4, 17, 17)
    torch.testing.assert_close(last.sum(-1), torch.ones(1, 4, 17))
    assert torch.equal(view.vision.attention(tensors, [2])[0], last) and not torch.equal(first, last)
    assert tower.config._attn_implementation == "sdpa" and view.attn_setting() == "sdpa"
    with pytest.raises(IndexError):
        view.vision.attention(tensors, [7])
    assert tower.config._attn_implementation == "sdpa"
    assert torch.equal(view.vision.features(tensors), before)


@pytest.mark.parametrize("family", [*QWEN, "instructblip"])
def test_a_tower_without_a_class_token_says_so(family: str) -> None:
    view = tiny_vlm.view(family)
    assert view.vision is not None
    _, tensors = sample(view, LONG, tiny_vlm.images(1)[0])
    with pytest.raises(UserError, match=r"has (no class token|a Q-Former between)"):
        view.vision.attention(tensors, [-1])


def test_the_attention_setting_is_the_text_decoders(view: View) -> None:
    assert view.vision is not None
    parts = [m.config for m in view.model.modules() if isinstance(m, PreTrainedModel)]
    others = [config for config in parts if config is not view.config]
    before = [c._attn_implementation for c in others]
    one = sample(view, LONG, tiny_vlm.images(1)[0])
    dense = logits(view, [one])
    view.set_attn("eager")
    try:
        assert view.attn_setting() == "eager"
        assert all(view.attention(i).config._attn_implementation == "eager" for i in range(4))
        assert [c._attn_implementation for c in others] == before
        torch.testing.assert_close(logits(view, [one]), dense, atol=1e-4, rtol=0)
    finally:
        view.set_attn("sdpa")
    assert view.attn_setting() == "sdpa" and torch.equal(logits(view, [one]), dense)


def test_the_backend_of_a_spec_is_the_text_decoders(saved: Callable[[str], Path]) -> None:
    for family in ("llava", "instructblip", "qwen2_vl"):
        view = tiny_vlm.spec(saved(family), backend="eager").load()
        assert view.vision is not None
        assert view.attn_setting() == "eager" and view.vision.tower.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", sorted(name for name in shipped.names() if "vlm" in name))
def test_the_zoos_members_load_in_full_precision(name: str) -> None:
    view = ModelSpec(path=name, device="cpu").load()
    assert view.vision is not None and view.dtype == torch.float32
    ids, tensors = sample(view, "Is there a cup?", tiny_vlm.images(1)[0].resize((112, 112)))
    assert view.vision.grid(tensors) == [(8, 8)] and ids.count(view.vision.image_token_id) == 64
    assert len(generate(view, batch(view, [(ids, tensors)]))[0]) == NEW


def test_a_decoder_that_slides_is_seen(tmp_path: Path) -> None:
    """The facts about attention are those of the decoder's own family."""
    config = {"model_type": "llava_next", "text_config": {"model_type": "mistral"}}
    assert family_of(config).window == "config" and family_of({"model_type": "llava_next"}).window == "none"
    folder = tiny_vlm.save("llava_next", tmp_path / "m")
    stored = json.loads((folder / "config.json").read_text())
    stored["text_config"] |= {"model_type": "mistral", "sliding_window": 9}
    (folder / "config.json").write_text(json.dumps(stored))
    assert tiny_vlm.spec(folder).load().sliding_window(1) == 9


def test_a_tower_without_a_class_token_is_counted_right() -> None:
    """SigLIP: `default` drops a patch, `full` keeps them all, and only then do they lie in a grid."""
    import transformers as hf

    cases: tuple[tuple[Any, int], ...] = (("full", 16), ("default", 15))
    for strategy, n in cases:
        config = hf.LlavaConfig(
            vision_config=hf.SiglipVisionConfig(**tiny_vlm.TOWER), text_config=hf.LlamaConfig(**tiny_vlm.DECODER),
            image_token_index=tiny_vlm.ID["<image>"], vision_feature_select_strategy=strategy,
        )  # fmt: skip
        model = hf.AutoModelForImageTextToText.from_config(config).eval()
        tokens = TextTokens(tiny_vlm.tokenizer("llava"), name="siglip", placeholder="<image>\n")
        eyes = Patches(model, model, tokens, tiny_vlm.image_processor("llava"), FAMILIES["llava"].sight)  # type: ignore[arg-type]
        ids, tensors = eyes.process("<image>\nWhy?", tiny_vlm.images(1), True)
        assert ids.count(eyes.image_token_id) == len(eyes.features(tensors)) == n
        assert eyes.grid(tensors) == ([(4, 4)] if n == 16 else None)
        with pytest.raises(UserError, match="no class token"):
            eyes.attention(tensors, [-1])


def test_other_towers_are_refused() -> None:
    with pytest.raises(UserError, match=r"vision part 'pixtral', which is not supported.*clip_vision_model"):
        family_of({"model_type": "llava", "vision_config": {"model_type": "pixtral"}})


def test_a_flat_config_is_read(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Qwen2-VL's checkpoints have the text values at the top of config.json."""
    view = tiny_vlm.view("qwen2_vl")
    folder = Path(shutil.copytree(saved("qwen2_vl"), tmp_path / "m"))
    stored = json.loads((folder / "config.json").read_text())
    text = stored.pop("text_config")
    rope = text.pop("rope_parameters")
    scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    for key in ("model_type", "layer_types"):
        text.pop(key, None)
    stored |= text | {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}
    (folder / "config.json").write_text(json.dumps(stored))
    flat = tiny_vlm.spec(folder).load()
    assert flat.max_positions == 4096 and flat.attention(0).config is flat.config
    one = sample(view, LONG, tiny_vlm.images(1)[0])
    assert torch.equal(logits(flat, [one]), logits(view, [one]))
    assert tiny_vlm.spec(folder, max_positions=4096).identity() == tiny_vlm.spec(folder).identity()


def test_a_text_that_writes_the_image_token_stays_text(view: View) -> None:
    """In a row without a picture it is an ordinary token, beside a row that has one as well."""
    token = "<|image_pad|>" if view.family in QWEN else "<image>"
    strange: Sample = (view.prompt_ids(f"What is {token}?"), {})
    assert view.vision is not None and strange[0].count(view.vision.image_token_id) == 1
    seen = sample(view, LONG, tiny_vlm.images(1)[0])
    together = logits(view, [strange, seen])
    for i, alone in enumerate((strange, seen)):
        torch.testing.assert_close(together[i], logits(view, [alone])[0], atol=1e-4, rtol=0)


# ---- prompts

TALK = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
)


def test_text_only_prompts_render(view: View) -> None:
    text = view.tokens.prompt_text(TALK, "So")
    assert all(
        text.index(a) < text.index(b) for a, b in zip(["brief", "One", "Two"], ["One", "Two", "Three"], strict=True)
    )
    assert text.endswith("So") and "<image>" not in text and "image_pad" not in text and "'type'" not in text
    ids = view.prompt_ids(TALK, "So")
    assert ids.count(tiny_vlm.ID["<s>"]) == (0 if view.family in QWEN else 1)
    assert ids == view.vision.process(text, [], view.tokens.adds_special(text))[0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llava", "Be brief. USER: <image>\nOne? ASSISTANT: Two. USER: Three? ASSISTANT:"),
        (
            "qwen2_vl",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
            "One?<|im_end|>\n<|im_start|>assistant\nTwo.<|im_end|>\n<|im_start|>user\nThree?<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        ("instructblip", "Be brief.\nUser: One?\nAssistant: Two.\nUser: Three?\nAssistant:"),
    ],
)
def test_images_stand_at_the_beginning_of_the_first_user_message(family: str, expected: str) -> None:
    assert tiny_vlm.view(family).tokens.prompt_text(TALK, n_images=1) == expected


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llava", "<image>\n<image>\nWhy? Because"),
        ("qwen2_5_vl", "<|vision_start|><|image_pad|><|vision_end|>" * 2 + "Why? Because"),
        ("instructblip", "Why? Because"),
    ],
)
def test_without_a_template_placeholders_come_first(family: str, expected: str, saved: Callable[[str], Path]) -> None:
    tokens = tiny_vlm.spec(saved(family), template="none").tokens()
    assert tokens.prompt_text("Why?", " Because", n_images=2) == expected
    if family == "llava":
        assert tokens.prompt_text(TALK, n_images=1).startswith("Be brief.\nUser: <image>\nOne?\nAssistant: Two.")
        assert tokens.prompt_ids("Why?", n_images=1)[0] == tiny_vlm.ID["<s>"]


def test_a_template_that_wants_strings_gets_placeholders(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("llava"), tmp_path / "m"))
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[assistant]"
    (folder / "chat_template.jinja").write_text(template)
    tokens = tiny_vlm.spec(folder).tokens()
    assert tokens.prompt_text("Why?", n_images=1) == "<s>[user] <image>\nWhy? [assistant]"
    assert tokens.prompt_ids("Why?", n_images=1).count(tiny_vlm.ID["<s>"]) == 1


def test_the_older_file_of_a_processors_template_counts(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("llava"), tmp_path / "m"))
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert tiny_vlm.spec(folder).tokens().prompt_text("Why?", n_images=1) == "USER: <image>\nWhy? ASSISTANT:"
    assert tiny_vlm.spec(folder).identity()["template"] == "chat"


def test_a_text_model_refuses_images() -> None:
    from tests.models import small

    with pytest.raises(UserError, match=r"reads text only, but the prompt has 1 image"):
        small.view().prompt_ids("Why?", n_images=1)


# ---- mistakes


def test_placeholders_and_images_must_agree(view: View) -> None:
    assert view.vision is not None
    pictures, token = tiny_vlm.images(2), "<|image_pad|>" if view.family in QWEN else "<image>"
    text = view.tokens.prompt_text(f"What is {token}?", n_images=1)
    with pytest.raises(UserError, match=r"placeholder\(s\) for [01] image\(s\).*first user message"):
        view.vision.process(text, pictures[:1], True)
    if view.family != "instructblip":
        with pytest.raises(UserError, match=r"has 0 image placeholder\(s\) for 1 image"):
            view.vision.process("What?", pictures[:1], True)


def test_the_qformer_reads_everything_or_nothing() -> None:
    with pytest.raises(UserError, match=r"401 tokens for the Q-Former .* reads 128|400 tokens"):
        sample(tiny_vlm.view("instructblip"), "x" * 400, tiny_vlm.images(1)[0])


def test_a_t5_instructblip_is_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("instructblip"), tmp_path / "m"))
    stored = json.loads((folder / "config.json").read_text())
    stored["text_config"]["model_type"] = "t5"
    (folder / "config.json").write_text(json.dumps(stored))
    for call in (tiny_vlm.spec(folder).validate, tiny_vlm.spec(folder).load):
        with pytest.raises(UserError, match=r"'instructblip' with a language model 't5'.*encoder.*one of: llama"):
            call()


def lose_the_processor(folder: Path) -> None:
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)


def test_a_missing_image_processor_is_named(view: View, saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved(view.family), tmp_path / "m"))
    lose_the_processor(folder)
    for call in (tiny_vlm.spec(folder).validate, tiny_vlm.spec(folder).load):
        with pytest.raises(UserError, match=r"no image processor: preprocessor_config\.json"):
            call()


def test_a_missing_qformer_tokenizer_is_named(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("instructblip"), tmp_path / "m"))
    shutil.rmtree(folder / "qformer_tokenizer")
    with pytest.raises(UserError, match=r"no folder qformer_tokenizer"):
        tiny_vlm.spec(folder).validate()


def test_an_unreadable_image_processor_is_named(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("qwen2_vl"), tmp_path / "m"))
    config = json.loads((folder / "preprocessor_config.json").read_text()) | {"image_processor_type": "Nobody"}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"image processor in .* cannot be read"):
        tiny_vlm.spec(folder).load()


def test_a_tokenizer_without_the_image_token_is_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    from tests.models import small

    small.tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=r"no image token 8"):
        tiny_vlm.spec(saved("qwen2_vl"), tokenizer=str(tmp_path / "other")).load()


# ---- identity


def test_identity_is_stable_and_names_the_image_processor(
    view: View, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = saved(view.family)
    found = tiny_vlm.spec(folder).identity()
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert tiny_vlm.spec(copy).identity() == found and json.loads(json.dumps(found)) == found
    assert view.vision is not None and found["image_processor"].partition(":")[0] == view.vision.identity()
    assert tiny_vlm.spec(copy, max_positions=4096).identity() == found
    assert tiny_vlm.save(view.family, tmp_path / "again") and tiny_vlm.spec(tmp_path / "again").identity() == found


def processor_file(folder: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The file, all of it, and the part about images."""
    path = next(p for p in (folder / "processor_config.json", folder / "preprocessor_config.json") if p.is_file())
    whole = json.loads(path.read_text())
    return path, whole, whole.get("image_processor", whole)


def test_identity_follows_what_the_processor_does(view: View, saved: Callable[[str], Path], tmp_path: Path) -> None:
    before = tiny_vlm.spec(saved(view.family)).identity()
    folder = Path(shutil.copytree(saved(view.family), tmp_path / "m"))
    path, whole, part = processor_file(folder)
    part["image_processor_type"] = part["image_processor_type"].removesuffix("Pil") + "Fast"
    path.write_text(json.dumps(whole))
    assert tiny_vlm.spec(folder).identity() == before  # the PIL class is used whatever the name
    part["image_mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(whole))
    assert tiny_vlm.spec(folder).identity()["image_processor"] != before["image_processor"]


def test_a_cached_hub_model_brings_all_its_parts(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """The second tokenizer of InstructBLIP is among the small files that are fetched; the commit is the identity."""
    from huggingface_hub.utils import filter_repo_objects

    from harness.models.source import SMALL_FILES
    from tests.models.test_load import hub_cache, offline_python

    files = ["qformer_tokenizer/tokenizer.json", "qformer_tokenizer/vocab.txt", "preprocessor_config.json"]
    assert list(filter_repo_objects(files, allow_patterns=SMALL_FILES)) == files
    hub_cache(tmp_path, saved("instructblip"), "0123456789abcdef0123456789abcdef01234567")
    code = (
        "s.validate(); print(s.identity()['image_processor'], (s.source().download() / 'qformer_tokenizer').is_dir())"
    )
    done = offline_python(tmp_path, code)
    assert done.stdout.split() == ["None", "True"], done.stderr


def test_text_models_keep_their_identity(tmp_path: Path) -> None:
    from tests.models import small

    assert "image_processor" not in tiny_vlm.spec(small.save(tmp_path / "m")).identity()


def test_planning_needs_no_torch(saved: Callable[[str], Path]) -> None:
    code = (
        "import sys; from harness.models.load import ModelSpec; "
        f"s = ModelSpec(path={str(saved('instructblip'))!r}, device='cpu'); s.validate(); s.identity(); "
        "assert not {'torch', 'transformers', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_every_family_with_eyes_is_tested() -> None:
    assert set(tiny_vlm.FAMILIES) == {name for name, record in FAMILIES.items() if record.sight}
    assert all(eyes.identity().endswith("Pil") for eyes in (tiny_vlm.view(f).vision for f in tiny_vlm.FAMILIES) if eyes)
