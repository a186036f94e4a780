"""The vision-language model and what it is taught by: stock classes, and two auxiliary losses that are thrown away afterwards.

Image tokens that show an object should point at its word, and the answer should be known at the object's word inside the question;
the latter is what makes answers learnable so soon.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from zoo.material.scenes.sample import CATEGORIES, SIZE
from zoo.recipes import vlm_data, vlm_tokenizer
from zoo.recipes.vlm_pools import pixel_values
from zoo.recipes.vlm_tokenizer import PATCH, PATCHES


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
