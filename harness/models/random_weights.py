"""`RandomSpec`: random weights of a known shape, for what does not depend on their values: speed and memory.

    view = RandomSpec(shape="llama-3.1-8b", layers=2).load()

It stands where a `ModelSpec` stands. Fewer layers than the shape has keep the cost of each layer and of the language
head what it is, so a laptop can time a large model's layers; the name says so wherever the model is shown. There is no
tokenizer: prompts are token ids. Weights are drawn as the library initialises them (numbers of ordinary size: zeros or
denormals would be faster or slower than a trained model's).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

from harness.contracts.options import Within
from harness.errors import UserError, nearest
from harness.identity.run_id import canonical, sha256
from harness.models.load import DTYPES, _readable, cuda_available
from harness.models.rotary import forget_lengths
from harness.models.shapes import Shape, shape

if TYPE_CHECKING:
    from harness.models.view import View


ROOM = 0.9  # share of the free memory that weights may take: requests need some, too


@dataclass(frozen=True, kw_only=True)
class RandomSpec:
    """A model of random weights as a user names it. `dtype` auto: float32 on a CPU, otherwise the shape's own."""

    shape: str  # a file of configs/shape, or a folder with a config.json
    layers: Annotated[int, Within(1, 10_000)] | None = None  # None: all that the shape has
    dtype: str = "auto"
    device: str = "auto"  # auto: cuda if there is one, else cpu
    backend: str = "sdpa"
    seed: int = 0

    @cached_property
    def found(self) -> Shape:
        """The shape itself. `UserError` if nothing has that name."""
        return shape(self.shape)

    @property
    def all_layers(self) -> int:
        """How many layers the whole shape has."""
        inner = self.found.config.get(self.found.family.text_config or "") or self.found.config
        return int(inner.get("num_hidden_layers") or inner.get("n_layer") or 0)

    @property
    def name(self) -> str:
        """For people: that the weights are random, and how much of the shape is there."""
        total = self.all_layers
        part = "" if self.layers in (None, total) else f", {self.layers} of {total} layers"
        return f"{self.found.name} (random weights{part})"

    def validate(self) -> None:
        """`UserError` for anything wrong that can be seen without making weights."""
        family = self.found.family
        if self.backend not in family.backends:
            raise UserError(f"backend={self.backend} of shape '{self.shape}': {nearest(self.backend, family.backends)}")
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise UserError(f"Unknown dtype '{self.dtype}': {nearest(self.dtype, [*DTYPES, 'auto'])}")
        if self.device != "auto" and self.device.partition(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
            raise UserError(f"Unknown device '{self.device}'; use auto, cpu, cuda or cuda:<number>.")
        if self.device.startswith("cuda") and not cuda_available():
            raise UserError(f"device='{self.device}' was asked for, but there is no usable GPU; use auto.")
        if self.layers is not None and not 1 <= self.layers <= self.all_layers:
            raise UserError(
                f"bench.layers={self.layers}: shape '{self.shape}' has {self.all_layers} layers, so it must be between 1 "
                f"and {self.all_layers}, or null for all of them."
            )

    def identity(self) -> dict[str, Any]:
        """What decides the speed of the model: its shape, how much of it, number format and attention function."""
        return {
            "random": True,
            "config": f"sha256:{sha256(canonical(self.found.config))}",
            "layers": self.layers or self.all_layers,
            "dtype": self.torch_dtype(),
            "backend": self.backend,
        }

    def torch_device(self) -> str:
        """The device that `auto` means on this machine."""
        return self.device if self.device != "auto" else ("cuda" if cuda_available() else "cpu")

    def torch_dtype(self) -> str:
        """The number format that `auto` means there."""
        if self.dtype != "auto":
            return DTYPES[self.dtype]
        stored = str(self.found.config.get("torch_dtype") or self.found.config.get("dtype") or "bfloat16")
        return "float32" if self.torch_device() == "cpu" else stored

    def load(self) -> View:
        """The live model on its device, in evaluation mode. `UserError` if it would not fit into memory."""
        import torch

        self._check_room()
        torch.manual_seed(self.seed)
        return self._view(self.torch_device())

    def skeleton(self) -> View:
        """The model without any weights (on the meta device): its facts can be asked and positions be rotated, nothing
        else is computed.
        """
        import torch

        view = self._view("meta")
        if view.facts.rotary:
            owner, _, name = view.facts.rotary.rpartition(".")
            owner = attrgetter(owner)(view.lm)
            with torch.device(self.torch_device()):
                setattr(owner, name, type(getattr(owner, name))(config=view.config))
            forget_lengths(getattr(owner, name))
        return view

    def _view(self, device: str) -> View:
        import torch
        from transformers import AutoModelForCausalLM

        from harness.models.view import View

        with _readable(self.found.folder or self.found.name), torch.device(device):  # type: ignore[arg-type]
            model = AutoModelForCausalLM.from_config(
                self._config(), dtype=getattr(torch, self.torch_dtype()), attn_implementation=self.backend
            )
        model.requires_grad_(False).eval()
        return View(model, NoTokens(self.name), self.found.family)  # type: ignore[arg-type]

    def _config(self) -> Any:
        from transformers import AutoConfig

        values = {k: v for k, v in self.found.config.items() if k != "torch_dtype"}
        folder = self.found.folder
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True) if folder else _for_model(values)
        inner = getattr(config, self.found.family.text_config) if self.found.family.text_config else config
        if self.layers is not None:
            inner.num_hidden_layers = self.layers
            if getattr(inner, "layer_types", None):
                inner.layer_types = list(inner.layer_types)[: self.layers]
        return config

    def _check_room(self) -> None:
        """Say it before the machine swaps or the process is killed, with the number of layers that would fit."""
        import psutil
        import torch

        view, device = self.skeleton(), torch.device(self.torch_device())
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
        room = free * ROOM
        if view.weight_bytes <= room:
            return
        layer = sum(p.numel() * p.element_size() for p in view.layers[0].parameters())
        fit = int(room - (view.weight_bytes - layer * view.n_layers)) // layer
        less = f"take fewer layers (bench.layers={fit} would fit), or " if fit >= 1 else ""
        raise UserError(
            f"{self.name} in {self.torch_dtype()} needs {view.weight_bytes / 2**30:.1f} GiB for its weights, and "
            f"{free / 2**30:.1f} GiB are free on {device}; {less}choose a smaller number format (bench.dtype=bfloat16) "
            "or a smaller shape."
        )


def _for_model(values: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**values)


class NoTokens:
    """In place of a tokenizer: random weights can read token ids, but no text."""

    template, digest, placeholder, chat_template, date, start_ids = "none", "", None, None, None, ()
    tokenizer = SimpleNamespace(
        pad_token_id=0, eos_token_id=None, bos_token_id=None, unk_token_id=None, chat_template=None
    )

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, *_: Any, **__: Any) -> Any:
        """Refused, as everything else that would need a vocabulary."""
        raise UserError(f"Model '{self.name}' has no tokenizer: it can be timed, but it cannot read text.")

    count = decode = prompt_text = prompt_ids = text_ids = adds_special = encode
