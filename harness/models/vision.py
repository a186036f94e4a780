"""The eyes of a vision-language model: from pictures to rows of the text decoder's input.

Everything after the projector is the text decoder's: a picture becomes n rows `[n, d]` that replace the embeddings of n
image tokens. So pictures are encoded once and shared, and a prompt without its picture is the prompt without these
tokens. Image processors are the library's PIL ones (no torchvision), whatever class the checkpoint names.

One class per way of laying a picture out in tokens; families choose one by name (`Sight.kind` in `families.py`).
`Patches`: LLaVA-1.5, one square grid. `Tiles`: LLaVA-NeXT, the whole picture and then its tiles. `Merged`: Qwen2-VL and
Qwen2.5-VL, a grid as large as the picture, with three coordinates per token. `Queries`: InstructBLIP, a fixed number of
queries that have read the question too.

Sources in transformers 5.23: models/<family>/modeling_<family>.py (`get_image_features`, `get_rope_index`) and
models/<family>/processing_<family>.py (`replace_image_token`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.errors import UserError
from harness.models.families import Family, Sight

if TYPE_CHECKING:
    from harness.models.tokens import TextTokens

Tensors = Mapping[str, Tensor]


class Vision:
    """What all kinds share. B batch, T positions, d width of the text decoder."""

    pixel_key = "pixel_values"
    reads_text = False  # True: the rows of a picture depend on the question, so only equal prompts share them

    def __init__(self, model: Any, lm: Any, tokens: TextTokens, image_processor: Any, sight: Sight) -> None:
        self.model, self.lm, self.tokens = model, lm, tokens
        self.image_processor = image_processor
        self.layout = sight.kind
        self.tower = attrgetter(sight.tower)(model)
        self.image_token_id = _image_token(model.config, tokens)

    # ---- from pictures to token ids and tensors

    def process(self, text: str, images: Sequence[Any], special: bool) -> tuple[list[int], dict[str, Tensor]]:
        """Token ids with as many image tokens as the pictures have, and the processor's tensors. One sample.

        `special`: the tokenizer adds its bos (False where a chat template already wrote it). `UserError` unless there
        is one placeholder for each picture.
        """
        ids = self.tokens.text_ids(text, special)
        self._check_count(ids.count(self.image_token_id), len(images))
        tensors = self._tensors(text, images)
        return self._expand(ids, self.counts(tensors) if images else []), tensors

    def counts(self, tensors: Tensors) -> list[int]:
        """Number of image tokens of each picture."""
        raise NotImplementedError

    def _tensors(self, text: str, images: Sequence[Any]) -> dict[str, Tensor]:
        if not images:
            return {}
        made = self.image_processor([image.convert("RGB") for image in images], return_tensors="pt")
        return {key: torch.as_tensor(value) for key, value in made.items()}

    def _expand(self, ids: Sequence[int], counts: Sequence[int]) -> list[int]:
        left = iter(counts)
        return [x for i in ids for x in ([i] * next(left) if i == self.image_token_id else [i])]

    def _check_count(self, found: int, n_images: int) -> None:
        if found != n_images:
            raise UserError(
                f"The prompt of model '{self.tokens.name}' has {found} image placeholder(s) for {n_images} image(s). "
                f"Images stand at the beginning of the first user message by themselves; take "
                f"'{self.tokens.tokenizer.convert_ids_to_tokens(self.image_token_id)}' out of the text, or check that "
                "the chat template writes one for each image."
            )

    # ---- from tensors to rows of the decoder's input

    @torch.no_grad()
    def features(self, tensors: Tensors) -> Tensor:
        """`[n, d]`: the pictures of one sample, encoded and projected, in the order of its image tokens."""
        place = next(self.tower.parameters()).device
        moved = {key: value.to(place) for key, value in tensors.items()}
        moved[self.pixel_key] = moved[self.pixel_key].to(self.tower.dtype)
        rows = self.model.get_image_features(**moved, return_dict=True).pooler_output
        weight = self.lm.get_input_embeddings().weight
        return torch.cat([row.reshape(-1, weight.shape[1]) for row in rows]).to(weight.device, weight.dtype)

    def embed(self, ids: Tensor, features: Sequence[Tensor | None]) -> Tensor:
        """ids `[B, T]` -> inputs_embeds `[B, T, d]`; in row b, `features[b]` stands at the image tokens."""
        here = self.image_mask(ids) & _rows_with(features, ids)
        found, given = here.sum(1).tolist(), [0 if f is None else len(f) for f in features]
        if found != given:
            raise ValueError(f"image tokens of each row: {found}, rows of features: {given}")
        embeds = self.lm.get_input_embeddings()(ids)
        rows = [f.to(embeds) for f in features if f is not None]
        return embeds.masked_scatter(here[..., None], torch.cat(rows)) if rows else embeds

    def image_mask(self, ids: Tensor) -> Tensor:
        """bool `[B, T]`: where image tokens stand."""
        return ids == self.image_token_id

    def positions(self, ids: Tensor, mask: Tensor, tensors: Sequence[Tensors | None]) -> Tensor:
        """position_ids of a left-padded batch, as the library's `generate` makes them: int64 `[B, T]`."""
        return (mask.long().cumsum(-1) - 1).clamp(min=0)

    # ---- what a picture looks like from inside

    def grid(self, tensors: Tensors) -> list[tuple[int, int]] | None:
        """(rows, columns) of each picture's patches as they lie in its image tokens; None: no grid."""
        return None

    def maps_patches(self) -> bool:
        """Whether the tower's class token looks at patches that are image tokens one by one."""
        return False

    @torch.no_grad()
    def attention(self, tensors: Tensors, layers: Sequence[int]) -> list[Tensor]:
        """Softmaxed attention of the vision tower for the first picture: `[1, H, n, n]` for each of `layers` (negative
        from the end), CLS first. `UserError` where the tower has no CLS, or a Q-Former comes after it.
        """
        if self.reads_text or not self._has_cls():
            why = "a Q-Former between its patches and the decoder" if self.reads_text else "no class token"
            raise UserError(
                f"Model '{self.tokens.name}' has {why}, so the attention of its vision part says nothing about image "
                "tokens; methods that read it work on LLaVA-1.5 and LLaVA-NeXT."
            )
        pixels = tensors[self.pixel_key].flatten(0, -4)[:1].to(next(self.tower.parameters()))
        with _eager(self.tower):
            maps = self.tower(pixels, output_attentions=True).attentions
        return [maps[layer] for layer in layers]

    def identity(self) -> str:
        """Class name of the image processor that is really used."""
        return type(self.image_processor).__name__

    def _has_cls(self) -> bool:
        return any(name.endswith("class_embedding") for name, _ in self.tower.named_parameters())


class Patches(Vision):
    """LLaVA-1.5: every picture is one square of patches."""

    def _square(self, tensors: Tensors) -> tuple[int, int]:
        """(rows, columns) of the patches of one picture the tower reads."""
        height, width = tensors[self.pixel_key].shape[-2:]
        patch = self.model.config.vision_config.patch_size
        return height // patch, width // patch

    def _extra(self) -> int:
        """Tokens beside the patches: the class token if it is kept, one patch less if there is none to drop."""
        dropped = getattr(self.model.config, "vision_feature_select_strategy", "default") == "default"
        return int(self._has_cls()) - int(dropped)

    def counts(self, tensors: Tensors) -> list[int]:
        rows, columns = self._square(tensors)
        return [rows * columns + self._extra()] * len(tensors[self.pixel_key])

    def maps_patches(self) -> bool:
        return type(self) is Patches and self._has_cls() and self._extra() == 0

    def grid(self, tensors: Tensors) -> list[tuple[int, int]] | None:
        return [self._square(tensors)] * len(tensors[self.pixel_key]) if self._extra() == 0 else None


class Tiles(Patches):
    """LLaVA-NeXT: the whole picture as one square (the base grid), then its tiles without padding, a newline token at
    the end of each of their rows. Pixels `[images, tiles, 3, h, w]`.
    """

    def counts(self, tensors: Tensors) -> list[int]:
        rows, columns = self._square(tensors)
        base = rows * columns + self._extra()
        return [base + self._fine(size.tolist(), (rows, columns)) for size in tensors["image_sizes"]]

    def _fine(self, size: list[int], square: tuple[int, int]) -> int:
        """Tokens of the tiles of a picture of `size` (height, width), newlines included (`pack_image_features`)."""
        from transformers.models.llava_next import modeling_llava_next as library

        config = self.model.config
        grid = library.get_anyres_image_grid_shape(size, config.image_grid_pinpoints, config.vision_config.image_size)
        whole = torch.empty(1, grid[0] * square[0], grid[1] * square[1], device="meta")
        _, rows, columns = library.unpad_image(whole, size).shape
        return rows * (columns + 1)


class Merged(Vision):
    """Qwen2-VL and Qwen2.5-VL: a grid of the picture's own shape, 2 x 2 patches merged into one token, and
    (time, row, column) coordinates for the rotation (m-rope).
    """

    def _merged(self, tensors: Tensors) -> Tensor:
        """int64 `[images, 2]`: rows and columns in tokens."""
        return tensors["image_grid_thw"][:, 1:] // self.model.config.vision_config.spatial_merge_size

    def counts(self, tensors: Tensors) -> list[int]:
        return self._merged(tensors).prod(1).tolist()

    def grid(self, tensors: Tensors) -> list[tuple[int, int]] | None:
        return [(rows, columns) for rows, columns in self._merged(tensors).tolist()]

    def positions(self, ids: Tensor, mask: Tensor, tensors: Sequence[Tensors | None]) -> Tensor:
        """int64 `[4, B, T]`: the text position, then (time, row, column), as `_prepare_position_ids_for_generation`
        makes them; nothing that the model keeps from an earlier request (`rope_deltas`) is read or written.
        """
        text = super().positions(ids, mask, tensors)
        grids = [t["image_grid_thw"] for t in tensors if t is not None]
        if not grids:
            return text.expand(4, -1, -1)
        kinds = (self.image_mask(ids) & _rows_with(tensors, ids)).int()
        seen, _ = self.model.model.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=torch.cat(grids).to(ids.device), attention_mask=mask
        )
        return torch.cat((text[None], seen))


class Queries(Vision):
    """InstructBLIP: a fixed number of queries (Q-Former) reads picture and question; they stand before the bos."""

    reads_text = True

    def __init__(self, *args: Any, qformer_tokenizer: Any) -> None:
        super().__init__(*args)
        self.qformer_tokenizer = qformer_tokenizer

    def process(self, text: str, images: Sequence[Any], special: bool) -> tuple[list[int], dict[str, Tensor]]:
        """See `Vision.process`; the text has no placeholder, and a prompt has one picture."""
        ids = self.tokens.text_ids(text, special)
        self._check_count(ids.count(self.image_token_id), 0)
        if len(images) > 1:
            raise UserError(
                f"Model '{self.tokens.name}' (InstructBLIP) reads one image per prompt, but this one has {len(images)}."
            )
        tensors = self._tensors(text, images)
        return [self.image_token_id] * sum(self.counts(tensors) if images else []) + ids, tensors

    def counts(self, tensors: Tensors) -> list[int]:
        return [self.model.config.num_query_tokens] * len(tensors[self.pixel_key])

    def _tensors(self, text: str, images: Sequence[Any]) -> dict[str, Tensor]:
        """Pixels, and the prompt once more for the Q-Former."""
        if not images:
            return {}
        question = self.qformer_tokenizer(text, return_tensors="pt", truncation=False)
        limit = self.model.config.qformer_config.max_position_embeddings
        if question["input_ids"].shape[1] > limit:
            raise UserError(
                f"The prompt has {question['input_ids'].shape[1]} tokens for the Q-Former of model "
                f"'{self.tokens.name}', which reads {limit}; shorten it (nothing is cut here)."
            )
        return super()._tensors(text, images) | {
            "qformer_input_ids": question["input_ids"], "qformer_attention_mask": question["attention_mask"]
        }  # fmt: skip


KINDS: dict[str, type[Vision]] = {kind.__name__: kind for kind in (Patches, Tiles, Merged, Queries)}


def load(folder: Path, model: Any, lm: Any, tokens: TextTokens, family: Family) -> Vision:
    """The eyes of a model that was loaded from `folder`. `UserError` if its image processor cannot be read."""
    from transformers import AutoImageProcessor, AutoTokenizer

    assert family.sight is not None
    try:
        processor = AutoImageProcessor.from_pretrained(str(folder), backend="pil", local_files_only=True)
        more = {}
        if family.sight.qformer:
            reader = AutoTokenizer.from_pretrained(str(folder / "qformer_tokenizer"), local_files_only=True)
            more["qformer_tokenizer"] = reader
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        why = why if len(why) <= 200 else f"{why[:200].rstrip()} ..."  # the library lists every class that it has
        raise UserError(
            f"The image processor in {folder} cannot be read: {why} Copy preprocessor_config.json (or "
            f"processor_config.json) of a '{family.model_type}' checkpoint there."
        ) from error
    return KINDS[family.sight.kind](model, lm, tokens, processor, family.sight, **more)


def _image_token(config: Any, tokens: TextTokens) -> int:
    """The id of the image token; `UserError` if the tokenizer does not know it."""
    found = getattr(config, "image_token_id", None)
    if found is None:
        raise UserError(
            f"config.json of model '{tokens.name}' names no image token (image_token_id or image_token_index); "
            "take the checkpoint's current version."
        )
    known = tokens.tokenizer.added_tokens_decoder  # id -> token, for those that are split off before anything else
    token = str(known[found].content) if found in known else None
    if token is None or tokens.encode(token) != [found]:
        raise UserError(
            f"The tokenizer of model '{tokens.name}' has no image token {found} among its special ones; it belongs to "
            "another checkpoint."
        )
    return int(found)


def _rows_with(given: Sequence[Any], ids: Tensor) -> Tensor:
    """bool `[B, 1]`: rows that have a picture."""
    return torch.tensor([g is not None for g in given], device=ids.device)[:, None]


@contextmanager
def _eager(tower: Any) -> Iterator[None]:
    """The vision part computes its attention openly, so that it can be returned."""
    before = tower.config._attn_implementation
    tower.set_attn_implementation("eager")
    try:
        yield
    finally:
        tower.set_attn_implementation(before)
