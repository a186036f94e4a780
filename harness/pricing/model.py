"""The numbers of a model that its price depends on, read off `config.json` and the headers of the weight files.

They are those that `harness/efficiency/formulas.py` reads off a live model: the weights that multiply a token (biases
and norms are left out), the heads, the windows. A mixture of experts counts the experts that one token uses; its memory
counts them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.models import checkpoint
from harness.models.digest import read_header
from harness.models.families import Family, family_of

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Eyes:
    """The vision part: tokens of a picture in the prompt (None: they depend on the picture), operations to encode one,
    and whether what it sees depends on the question.
    """

    tokens: int | None
    flops: float
    reads_text: bool = False


@dataclass(frozen=True)
class Model:
    """`layer_weights` multiply one token in all layers together, `head_weights` in the language head. `windows`: for each
    layer the keys that a query may see, None for all. `element`: bytes of one number.
    """

    layer_weights: float
    head_weights: float
    windows: tuple[int | None, ...]
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    inner: int  # width of the feed-forward block
    vocabulary: int
    element: int = 4
    weight_bytes: float = 0.0  # of the whole model, in memory
    device: str = "cpu"
    fused: bool = True  # attention never holds all scores at once
    eyes: Eyes | None = None

    @property
    def layers(self) -> int:
        return len(self.windows)

    @property
    def kv_bytes(self) -> int:
        """Keys and values of one token in one layer."""
        return 2 * self.head_dim * self.kv_heads * self.element


def of(spec: Any, dtype: str) -> Model:
    """The numbers of a `ModelSpec` in a number format. `UserError` where the family is not known."""
    folder = spec.source().metadata()
    config = checkpoint.read_config(folder)
    return of_config(config, dtype, spec.torch_device(), spec.backend, folder)


def of_config(
    config: Mapping[str, Any], dtype: str, device: str = "cpu", backend: str = "sdpa", folder: Path | None = None
) -> Model:
    """The same from a parsed `config.json`; `folder` may hold the weights, whose size is then counted, not computed."""
    family = family_of(config)

    def get(*keys: str, default: Any = None) -> Any:
        found = (checkpoint.text_value(config, family, key) for key in keys)
        return next((value for value in found if value is not None), default)

    width, layers, heads = get("hidden_size", "n_embd"), get("num_hidden_layers", "n_layer"), _heads(get)
    if not (width and layers and heads):
        raise UserError(f"The config.json of family '{family.model_type}' does not say how large the model is.")
    kv, size = int(get("num_key_value_heads", default=heads)), int(get("head_dim", default=width // heads))
    inner = int(get("intermediate_size", "n_inner", default=4 * width))
    experts, active = get("num_local_experts", default=1), get("num_experts_per_tok", default=1)
    block = (2 if family.model_type == "gpt2" else 3) * width * inner  # gated blocks have three matrices
    route = width * experts if experts > 1 else 0
    attention = 2 * width * size * (heads + kv)
    head = int(get("vocab_size")) * width
    element = BYTES[dtype]
    tied = get("tie_word_embeddings", default=family.model_type in ("gpt2", "gemma3", "gemma3_text"))
    whole = layers * (attention + route + experts * block) + (1 if tied else 2) * head
    return Model(
        layer_weights=layers * (attention + route + active * block), head_weights=head,
        windows=tuple(_window(family, get, i) for i in range(layers)),
        heads=heads, kv_heads=kv, head_dim=size, width=width, inner=inner * active, vocabulary=int(get("vocab_size")),
        element=element, weight_bytes=element * (_stored(folder) or whole),
        device=device.partition(":")[0], fused=backend != "eager", eyes=_eyes(config, family, width),
    )  # fmt: skip


def _heads(get: Any) -> int:
    return int(get("num_attention_heads", "n_head", default=0))


def _window(family: Family, get: Any, layer: int) -> int | None:
    """As the library decides it: one for all layers, by a list of layer types, or (older files) by a rule."""
    window = get("sliding_window")
    if family.window == "none" or window is None:
        return None
    if family.window == "config":
        return int(window)
    types = get("layer_types")
    if types:
        return int(window) if types[layer] == "sliding_attention" else None
    every = get("sliding_window_pattern")
    if every:
        return int(window) if (layer + 1) % int(every) else None
    slides = get("use_sliding_window") and layer >= int(get("max_window_layers", default=0))
    return int(window) if slides else None


def _stored(folder: Path | None) -> int:
    """Numbers in the weight files of a folder; 0 if they are not here."""
    if folder is None or not any(folder.glob("*.safetensors")):
        return 0
    tensors = (t for path in checkpoint.weight_files(folder) for t in read_header(path).values())
    return sum(prod(t["shape"]) for t in tensors)


def _eyes(config: Mapping[str, Any], family: Family, width: int) -> Eyes | None:
    """A vision transformer of one picture size; what depends on the picture stays unknown."""
    if family.sight is None:
        return None
    own = config.get("vision_config") or {}
    keys = ("hidden_size", "num_hidden_layers", "intermediate_size", "image_size", "patch_size")
    d, layers, inner, side, patch = (own.get(key) for key in keys)
    if family.sight.kind == "Queries":
        tokens = config.get("num_query_tokens")
    elif family.sight.kind == "Patches" and side and patch:
        full = config.get("vision_feature_select_strategy", "default") == "full"
        tokens = (side // patch) ** 2 + int(full)
    else:
        tokens = None
    flops = 0.0
    if d and layers and inner and side and patch:
        patches = (side // patch) ** 2
        seen = patches + 1  # and the class token
        tower = seen * layers * (2 * (4 * d * d + 2 * d * inner) + 4 * d * seen)
        flops = tower + 2 * patches * (3 * patch * patch * d + d * width + width * width)  # patches, tower, projector
    return Eyes(tokens, flops, family.sight.kind == "Queries")
