"""What the harness must know about a model family, one record each. A new family is one more record in `FAMILIES`.

Facts were read in the modeling files of transformers 5.23 (`models/<family>/modeling_<family>.py`). No torch is
imported here, so that planning can tell an unsupported checkpoint from its `config.json` alone.

A vision-language model is a text decoder with eyes: its record says where the decoder is, the facts about attention
come from the record of the decoder's own family (`text_config.model_type`), and `sight` describes the rest.

Two facts that are easy to get wrong: Gemma-3's `attn_logit_softcapping` is stored by the attention module but never
handed to the attention function, so no cap is applied to attention logits; Mistral and Phi-3 slide on every layer or on
none, while Qwen, Gemma-3 and gpt-oss decide per layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.errors import UserError, nearest

FUSED = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")
HERE = "harness/models/families.py"


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a family sees. Paths are from the whole model."""

    kind: str  # the class in `vision.py` that serves it
    placeholder: str = "<image>\n"  # what stands for one image in a plain prompt
    tower: str = "model.vision_tower"  # the vision transformer
    towers: tuple[str, ...] = ()  # model types of the tower that `kind` can count tokens for; empty: the family's own
    qformer: bool = False  # a second tokenizer (folder qformer_tokenizer) feeds the question to the vision part


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where the parts of one family's modules are. Paths are dotted attribute names."""

    model_type: str  # `config.model_type`, the key under which the family is found
    lm: str = ""  # from the model: the part that generates text; empty: the model itself
    layers: str = "model.layers"  # from the part with a language head
    rotary: str | None = "model.rotary_emb"  # from there; None: positions are not one rotary number per token
    rotary_by_layer_type: bool = False  # the rotary module wants the layer's type as its third argument
    rotary_half: bool = False  # the rotary module returns D/2 columns; the full width repeats them
    attention: str = "self_attn"  # from a layer
    mlp: str = "mlp"  # from a layer
    # from a layer, where it has experts: the module that returns router logits, and weights and numbers of the chosen experts;
    # None: the family has no experts
    router: str | None = None
    o_proj: str = "o_proj"  # from the attention module; its input is the heads' outputs [B, n, H * D]
    window: Literal["none", "config", "module"] = (
        "none"  # where a layer's window stands: nowhere, one for all, per module
    )
    sinks: str | None = None  # attribute of the attention module: learned sink logits [H]
    softcap: str | None = None  # config key of a cap that is really applied to attention logits
    final_softcap: str | None = None  # config key of a cap applied to the output logits
    rereads: bool = False  # `generate` drops the cache and reads all anew where longrope turns
    text_config: str | None = None  # key of the text part of a composite config
    backends: tuple[str, ...] = FUSED
    sight: Sight | None = None  # None: reads text only
    decoders: tuple[str, ...] = ()  # model types of the text decoder, the default first; empty: its own kind


DECODERS = ("llama", "mistral", "qwen2")
INHERITED = (
    "rotary_by_layer_type", "rotary_half", "attention", "mlp", "router", "o_proj", "window", "sinks", "softcap", "final_softcap",
    "backends",
)  # fmt: skip

_RECORDS = (
    Family(model_type="llama"),
    Family(model_type="qwen2", window="module"),
    Family(model_type="qwen3", window="module"),
    Family(model_type="qwen3_moe", window="module", router="mlp.gate"),
    Family(model_type="mistral", window="config"),
    Family(model_type="phi3", window="config", rereads=True),
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
        model_type="gpt_oss",
        rotary_half=True,
        window="module",
        sinks="sinks",
        backends=("eager", "flex_attention"),
        router="mlp.router",
    ),
    *(
        Family(
            model_type=name,
            layers="model.language_model.layers",
            rotary="model.language_model.rotary_emb",
            text_config="text_config",
            sight=Sight(kind=kind, towers=("clip_vision_model", "siglip_vision_model")),
            decoders=DECODERS,
        )
        for name, kind in (("llava", "Patches"), ("vipllava", "Patches"), ("llava_next", "Tiles"))
    ),
    *(
        Family(
            model_type=name,
            layers="model.language_model.layers",
            rotary=None,  # three coordinates per token: a rotation is no function of one position
            window="module",
            text_config="text_config",
            backends=("sdpa", "eager", "flash_attention_2", "flash_attention_3"),
            sight=Sight(kind="Merged", placeholder="<|vision_start|><|image_pad|><|vision_end|>", tower="model.visual"),
        )
        for name in ("qwen2_vl", "qwen2_5_vl")
    ),
    Family(
        model_type="instructblip",
        lm="language_model",
        text_config="text_config",
        sight=Sight(kind="Queries", placeholder="", tower="vision_model", qformer=True),
        decoders=("llama",),
    ),
)
FAMILIES: dict[str, Family] = {record.model_type: record for record in _RECORDS}
ROUTED = tuple(name for name, record in FAMILIES.items() if record.router)  # mixtures of experts


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a parsed `config.json`. Raises `UserError` for one that nobody described yet."""
    model_type = str(config.get("model_type", ""))
    if model_type not in FAMILIES:
        shown = f"model_type '{model_type}'" if model_type else "a config.json without model_type"
        raise UserError(
            f"The model has {shown}, which is no known family; {nearest(model_type, FAMILIES)} "
            f"To support it, add one record to {HERE}."
        )
    record = FAMILIES[model_type]
    if record.sight and record.sight.towers:
        _check_tower(record, record.sight.towers, config)
    return _with_decoder(record, config) if record.decoders else record


def _check_tower(record: Family, known: tuple[str, ...], config: Mapping[str, Any]) -> None:
    own = (config.get("vision_config") or {}).get("model_type") or known[0]
    if own not in known:
        raise UserError(
            f"The model is '{record.model_type}' with a vision part '{own}', which is not supported; "
            f"{nearest(own, known)}"
        )


def _with_decoder(record: Family, config: Mapping[str, Any]) -> Family:
    """The record with the facts of the text decoder that this checkpoint really has."""
    own = (config.get(record.text_config or "") or {}).get("model_type") or record.decoders[0]
    if own not in record.decoders:
        why = "it reads the prompt with an encoder of its own" if own == "t5" else "nobody described it yet"
        raise UserError(
            f"The model is '{record.model_type}' with a language model '{own}', which is not supported ({why}). "
            f"Use a checkpoint whose text_config.model_type is one of: {', '.join(record.decoders)}."
        )
    return replace(record, **{key: getattr(FAMILIES[own], key) for key in INHERITED})
