"""`View`: a loaded model seen the same way whatever its family. It knows where the layers are and what each does.

Shapes: B batch, n positions, H query heads, H_kv key heads, D head size, V vocabulary. What differs between families is
data (`families.py`); a method or a measurement never asks for a class name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from harness.contracts.tokens import Prompt
from harness.errors import UserError
from harness.models.families import Family, family_of
from harness.models.rotary import Turn, forget_lengths, turn_of
from harness.models.template import ChatTemplate
from harness.models.tokens import TextTokens
from harness.models.vision import Vision


class View:
    """One model with its tokenizer. Offers the `Tokens` protocol, so a task can be asked for examples with a view.

    `lm` is the part that generates: it has `generate` and takes `inputs_embeds`; the model itself unless the text
    decoder is a whole model inside it. `config` is the text decoder's: the object that its attention modules hold.
    """

    def __init__(
        self,
        model: Any,
        tokens: TextTokens,
        family: Family,
        max_positions: int | None = None,
        vision: Vision | None = None,
    ) -> None:
        self.model = model
        self.tokens = tokens
        self.facts = family  # the family's record
        self.family = family.model_type
        self.vision = vision  # None: reads text only
        self.lm = attrgetter(family.lm)(model) if family.lm else model
        inner = family.text_config and not family.lm
        self.config = getattr(model.config, family.text_config or "") if inner else self.lm.config
        self.layers: list[nn.Module] = list(attrgetter(family.layers)(self.lm))
        self.max_positions: int | None = max_positions or getattr(self.config, "max_position_embeddings", None)
        rotary = self.rotary
        self.turn: Turn | None = None if rotary is None else turn_of(rotary, self.config)  # where frequencies change
        if rotary is not None:
            forget_lengths(rotary)

    @classmethod
    def of(cls, model: Any, tokenizer: Any, name: str = "model", template: str = "auto") -> View:
        """A view of a model that is already in memory. `UserError` if its family is unknown."""
        tokens = tokenizer if isinstance(tokenizer, TextTokens) else TextTokens(tokenizer, name=name, template=template)
        return cls(model, tokens, family_of({"model_type": model.config.model_type}))

    # ---- size and place

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        return int(self.config.num_attention_heads)

    @property
    def n_kv_heads(self) -> int:
        return int(getattr(self.config, "num_key_value_heads", None) or self.n_heads)

    @property
    def head_dim(self) -> int:
        return int(self.attention(0).head_dim)

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the input embedding."""
        return self.lm.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm.dtype

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, tied ones counted once."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    # ---- parts

    def attention(self, i: int) -> Any:
        """The attention module of layer `i`."""
        return attrgetter(self.facts.attention)(self.layers[i])

    def o_proj(self, i: int) -> nn.Module:
        """The output projection of layer `i`; its input is the heads' outputs `[B, n, H * D]`."""
        return attrgetter(self.facts.o_proj)(self.attention(i))

    def mlp(self, i: int) -> nn.Module:
        """The feed-forward part of layer `i`."""
        return attrgetter(self.facts.mlp)(self.layers[i])

    def router(self, i: int) -> nn.Module | None:
        """The module that chooses the experts of layer `i`; None: the layer has none."""
        if self.facts.router is None:
            return None
        part, _, name = self.facts.router.rpartition(".")
        return getattr(attrgetter(part)(self.layers[i]), name, None)

    @property
    def routed_layers(self) -> list[int]:
        """The layers that have experts."""
        return [i for i in range(self.n_layers) if self.router(i) is not None]

    @property
    def lm_head(self) -> nn.Module:
        return self.lm.get_output_embeddings()

    # ---- what attention does

    def sliding_window(self, i: int) -> int | None:
        """Number of keys layer `i` may see, the query's own included (j > i - window); None: all of them."""
        if self.facts.window == "none":
            return None
        owner = self.config if self.facts.window == "config" else self.attention(i)
        return getattr(owner, "sliding_window", None) or None

    @property
    def has_sinks(self) -> bool:
        return self.facts.sinks is not None

    def sinks(self, i: int) -> Tensor | None:
        """Learned sink logits `[H]` of layer `i`, or None."""
        return getattr(self.attention(i), self.facts.sinks) if self.facts.sinks else None

    @property
    def softcap(self) -> float | None:
        """c of `c * tanh(S / c)` on attention logits, only where it is really applied."""
        return getattr(self.config, self.facts.softcap, None) if self.facts.softcap else None

    @property
    def final_softcap(self) -> float | None:
        """c of `c * tanh(z / c)` on the output logits."""
        return getattr(self.config, self.facts.final_softcap, None) if self.facts.final_softcap else None

    def rope(self, i: int, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """cos and sin of layer `i` at `positions` (int64 `[n]`), each `[n, R]` in the model's dtype; None: not rotary.

        R is D, or less for a partial rotation (the first R of D dimensions turn). The halves convention holds
        everywhere: `x * cos + rotate_half(x) * sin`. Families whose frequencies depend on the length take it from the
        largest position. Also None where a token has several coordinates (m-rope).
        """
        rotary = self.rotary
        if rotary is None:
            return None
        x = torch.empty(0, dtype=self.dtype, device=positions.device)
        kind = [self.config.layer_types[i]] if self.facts.rotary_by_layer_type else []
        cos, sin = rotary(x, positions[None], *kind)
        if self.facts.rotary_half:
            cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
        return cos[0], sin[0]

    @property
    def rotary(self) -> Any:
        """The module that makes cos and sin, or None."""
        return attrgetter(self.facts.rotary)(self.lm) if self.facts.rotary else None

    def attn_setting(self) -> str:
        """Name of the attention function in use."""
        return str(self.config._attn_implementation)

    def set_attn(self, name: str) -> None:
        """Use another attention function, in the text part of the model only."""
        key = None if self.facts.lm else self.facts.text_config
        self.lm.set_attn_implementation({key: name} if key else name)

    # ---- text

    @property
    def tokenizer(self) -> Any:
        return self.tokens.tokenizer

    @property
    def name(self) -> str:
        return self.tokens.name

    @property
    def digest(self) -> str:
        return self.tokens.digest

    @property
    def template(self) -> str:
        """`chat` or `none`: how prompts are rendered."""
        return self.tokens.template

    @property
    def chat_template(self) -> ChatTemplate | None:
        """The tokenizer's chat template, whether prompts use it or not."""
        return self.tokens.chat_template

    @property
    def date(self) -> str | None:
        """The day that the chat template writes into prompts; None where it writes none."""
        return self.tokens.date

    @property
    def start_ids(self) -> tuple[int, ...]:
        """What the tokenizer puts before every text (its bos, if it adds one)."""
        return self.tokens.start_ids

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without special tokens."""
        return self.tokens.encode(text)

    def count(self, text: str) -> int:
        """Number of tokens of `text` without special tokens."""
        return self.tokens.count(text)

    def prompt_ids(self, prompt: Prompt, answer_prefix: str = "", n_images: int = 0) -> list[int]:
        """The final token ids the model sees, ending where generation begins. Images: see `TextTokens.prompt_ids`."""
        return self.tokens.prompt_ids(prompt, answer_prefix, n_images)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens."""
        return self.tokens.decode(ids)

    @cached_property
    def stop_ids(self) -> list[int]:
        """Ids that end an answer: those of the generation config and the tokenizer's eos, in ascending order."""
        found: set[int] = set()
        declared = [getattr(getattr(m, "generation_config", None), "eos_token_id", None) for m in (self.model, self.lm)]
        for value in (*declared, self.tokenizer.eos_token_id):
            found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
        return sorted(found)

    @property
    def pad_id(self) -> int:
        """The id that fills batches; masked, so any valid id would do."""
        if self.tokenizer.pad_token_id is not None:
            return int(self.tokenizer.pad_token_id)
        return self.stop_ids[0] if self.stop_ids else 0

    def check_length(self, length: int) -> None:
        """`UserError` if `length` positions (prompt and answer) do not fit into the model."""
        if self.max_positions is not None and length > self.max_positions:
            raise UserError(
                f"{length} positions are needed, but model '{self.name}' has {self.max_positions}; "
                "shorten the task, or set max_positions if the model is known to reach further."
            )
