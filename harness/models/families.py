"""What the harness must know about a model family, one record each. A new family is one more record in `FAMILIES`.

Facts were read in the modeling files of transformers 5.23 (`models/<family>/modeling_<family>.py`). No torch is
imported here, so that planning can tell an unsupported checkpoint from its `config.json` alone.

Two facts that are easy to get wrong: Gemma-3's `attn_logit_softcapping` is stored by the attention module but never
handed to the attention function, so no cap is applied to attention logits; Mistral and Phi-3 slide on every layer or on
none, while Qwen, Gemma-3 and gpt-oss decide per layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import UserError, nearest

FUSED = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")
HERE = "harness/models/families.py"


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where the parts of one family's modules are. Paths are dotted attribute names."""

    model_type: str  # `config.model_type`, the key under which the family is found
    layers: str = "model.layers"  # from the model with a language head
    rotary: str | None = "model.rotary_emb"  # from the model; None: positions are not rotary
    rotary_by_layer_type: bool = False  # the rotary module wants the layer's type as its third argument
    rotary_half: bool = False  # the rotary module returns D/2 columns; the full width repeats them
    attention: str = "self_attn"  # from a layer
    mlp: str = "mlp"  # from a layer
    o_proj: str = "o_proj"  # from the attention module; its input is the heads' outputs [B, n, H * D]
    window: Literal["none", "config", "module"] = (
        "none"  # where a layer's window stands: nowhere, one for all, per module
    )
    sinks: str | None = None  # attribute of the attention module: learned sink logits [H]
    softcap: str | None = None  # config key of a cap that is really applied to attention logits
    final_softcap: str | None = None  # config key of a cap applied to the output logits
    text_config: str | None = None  # key of the text part of a composite config
    backends: tuple[str, ...] = FUSED


_RECORDS = (
    Family(model_type="llama"),
    Family(model_type="qwen2", window="module"),
    Family(model_type="qwen3", window="module"),
    Family(model_type="mistral", window="config"),
    Family(model_type="phi3", window="config"),
    Family(
        model_type="gemma3_text", rotary_by_layer_type=True, window="module", final_softcap="final_logit_softcapping"
    ),
    Family(
        model_type="gemma3",
        layers="model.language_model.layers",
        rotary="model.language_model.rotary_emb",
        rotary_by_layer_type=True,
        window="module",
        text_config="text_config",
    ),
    Family(model_type="gpt2", layers="transformer.h", rotary=None, attention="attn", o_proj="c_proj"),
    Family(
        model_type="gpt_oss", rotary_half=True, window="module", sinks="sinks", backends=("eager", "flex_attention")
    ),
)
FAMILIES: dict[str, Family] = {record.model_type: record for record in _RECORDS}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a parsed `config.json`. Raises `UserError` for one that nobody described yet."""
    model_type = str(config.get("model_type", ""))
    if model_type not in FAMILIES:
        shown = f"model_type '{model_type}'" if model_type else "a config.json without model_type"
        raise UserError(
            f"The model has {shown}, which is no known family; {nearest(model_type, FAMILIES)} "
            f"To support it, add one record to {HERE}."
        )
    return FAMILIES[model_type]
