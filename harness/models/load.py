"""`ModelSpec`: which model, in which number format, on which device. Planning uses it without importing torch.

    spec = ModelSpec(path="micro-lm")
    spec.identity()        # what can change the model's numbers: digests, dtype, attention backend, template
    view = spec.load()     # the live model

Weights load from safetensors only, complete and of the right shapes, or not at all: a tensor that would be newly
initialised is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date as Date
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from harness.contracts.options import Within
from harness.errors import UserError, nearest
from harness.models import checkpoint, digest
from harness.models.families import FAMILIES, Family, family_of
from harness.models.quiet import quiet
from harness.models.source import Source, locate
from harness.models.template import DATE
from harness.models.tokens import TEMPLATES, TextTokens

if TYPE_CHECKING:
    from harness.models.view import View

DTYPES = {
    "float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16",
    "float16": "float16", "fp16": "float16", "float64": "float64",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model as a user names it. `dtype` auto: float32 for what ships with a package and on a CPU, otherwise the checkpoint's own."""

    path: str  # name of a model of a package, pkg://package.folder, local folder or hub id
    revision: str | None = None  # hub only: branch, tag or commit
    dtype: str = "auto"
    device: str = "auto"  # auto: cuda if there is one, else cpu
    device_map: str | None = None  # "auto" spreads a large model over all devices
    backend: str = "sdpa"  # attention function: sdpa, eager, flex_attention, flash_attention_2, ...
    trust_remote_code: bool = False
    template: str = "auto"  # auto: the chat template if there is one; chat; none
    max_positions: Annotated[int, Within(1, 2**24)] | None = None  # overrides the length that config.json states
    tokenizer: str | None = None  # the same, with another tokenizer
    template_date: str = DATE  # the day that a chat template is told when it asks for today's date

    @property
    def name(self) -> str:
        """The model's name for people."""
        return self.source().name

    def source(self) -> Source:
        """Where the model comes from. `UserError` if nothing has that name."""
        return locate(self.path, self.revision)

    def resolve(self) -> Path | None:
        """The local folder, or None for a hub id whose weights are not here yet."""
        return self.source().cached()

    def validate(self) -> None:
        """`UserError` for anything wrong that can be seen without loading weights."""
        self._check_settings()
        source = self.source()
        folder, config = self._config(source)
        checkpoint.check_code(config, folder, self.trust_remote_code)
        checkpoint.check_config(config, folder, family_of(config))
        self._check_backend(family_of(config))
        if source.folder is not None:
            checkpoint.weight_files(folder)
            checkpoint.check_processor(folder, family_of(config))
        tokenizer = self._tokenizer_source(source)
        if tokenizer.folder is not None:
            checkpoint.check_tokenizer(tokenizer.folder)

    def identity(self) -> dict[str, Any]:
        """Everything about the model that can change a number, and nothing else. Reads files, imports no torch.

        A local checkpoint is identified by its content. A hub repository is identified by its commit, which stands for
        all its files, so the identity is the same before and after the download.
        """
        self._check_settings()
        source = self.source()
        folder, config = self._config(source)
        own = source.folder is not None
        result: dict[str, Any] = {
            "weights": digest.weights_digest(checkpoint.weight_files(folder)) if own else None,
            "config": digest.config_digest(config, checkpoint.stop_ids(folder)) if own else None,
            "tokenizer": self._tokenizer_identity(source),
            "revision": source.commit(),
            "dtype": self._dtype(source, config, folder),
            "backend": self.backend,
            "template": self._template(self._tokenizer_source(source)),
        }
        if (date := self._date(self._tokenizer_source(source))) is not None:
            result["template_date"] = date
        if self.trust_remote_code and "auto_map" in config:
            result["code"] = digest.brought_code_digest(folder) if own else "revision"
        family = family_of(config)
        if family.sight is not None:
            result["image_processor"] = digest.processor_identity(folder) if own else None
        if self.max_positions not in (None, checkpoint.text_value(config, family, "max_position_embeddings")):
            result["max_positions"] = self.max_positions
        return result

    def tokens(self) -> TextTokens:
        """The tokenizer alone, without the model."""
        self._check_settings()
        source = self.source()
        other = self._tokenizer_source(source)
        folder = other.download(weights=False)
        checkpoint.check_tokenizer(folder)
        return TextTokens.load(
            folder, name=source.name, template=self.template, trust_remote_code=self.trust_remote_code,
            placeholder=placeholder_of(source), template_date=self.template_date,
        )  # fmt: skip

    def load(self) -> View:
        """The live model on its device, in evaluation mode. `UserError` for every defect of the checkpoint."""
        self.validate()
        if self.device.startswith("cuda") and not cuda_available():
            raise UserError(
                f"Model '{self.path}' asks for device='{self.device}', but there is no usable GPU; use auto."
            )
        source = self.source()
        folder = source.download(code=self.trust_remote_code)
        checkpoint.weight_files(folder)
        config = checkpoint.read_config(folder)
        _check_values(self, folder)
        tokens = self.tokens()
        family = family_of(config)
        checkpoint.check_processor(folder, family)
        model = _from_pretrained(self, folder, self._dtype(source, config, folder), family)
        from harness.models.finite import check_model

        view = _view(self, folder, model, tokens, family)
        check_model(view)
        return view

    def torch_device(self) -> str:
        """The device that `auto` means on this machine."""
        if self.device != "auto":
            return self.device
        return "cuda" if cuda_available() else "cpu"

    def _config(self, source: Source) -> tuple[Path, dict[str, Any]]:
        folder = source.metadata()
        return folder, checkpoint.read_config(folder)

    def _tokenizer_source(self, source: Source) -> Source:
        return locate(self.tokenizer) if self.tokenizer else source

    def _tokenizer_identity(self, source: Source) -> str | None:
        if source.folder is None and not self.tokenizer:
            return None  # the commit stands for it
        return tokenizer_identity(self._tokenizer_source(source))

    def _template(self, source: Source) -> str:
        """What `auto` means, where it can be seen; a hub repository keeps the word, its commit decides."""
        if self.template != "auto" or source.folder is None:
            return self.template
        return "chat" if checkpoint.has_chat_template(source.folder) else "none"

    def _date(self, source: Source) -> str | None:
        """The date of the chat template where it asks for one. A hub repository's template is not here before the
        download: its commit decides with the fixed default, and another date counts as another prompt.
        """
        if source.folder is None:
            return self.template_date if self.template_date != DATE else None
        return self.template_date if checkpoint.template_asks_for_date(source.folder) else None

    def _dtype(self, source: Source, config: Mapping[str, Any], folder: Path) -> str:
        if self.dtype != "auto":
            return DTYPES[self.dtype]
        on_cpu = self.torch_device() == "cpu" and not (self.device_map and cuda_available())
        return "float32" if source.kind == "shipped" or on_cpu else checkpoint.stored_dtype(config, folder)

    def _check_settings(self) -> None:
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise UserError(
                f"Unknown dtype '{self.dtype}' of model '{self.path}': {nearest(self.dtype, [*DTYPES, 'auto'])}"
            )
        if self.template not in TEMPLATES:
            raise UserError(
                f"Unknown template '{self.template}' of model '{self.path}': {nearest(self.template, TEMPLATES)}"
            )
        if not _is_date(self.template_date):
            raise UserError(
                f"template_date='{self.template_date}' of model '{self.path}' is no date; write it as YYYY-MM-DD, such as "
                f"{DATE}."
            )
        if self.device_map not in (None, "auto"):
            raise UserError(
                f"device_map='{self.device_map}' of model '{self.path}' is not supported; use null or auto."
            )
        if self.device_map and self.device != "auto":
            raise UserError(
                f"Model '{self.path}' has both device='{self.device}' and device_map='auto'; set one of them."
            )
        if self.device != "auto" and self.device.partition(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
            raise UserError(
                f"Unknown device '{self.device}' of model '{self.path}'; use auto, cpu, cuda or cuda:<number>."
            )
        if self.max_positions is not None and self.max_positions < 1:
            raise UserError(f"max_positions of model '{self.path}' must be at least 1.")

    def _check_backend(self, family: Family) -> None:
        if self.backend not in family.backends:
            raise UserError(
                f"Family '{family.model_type}' of model '{self.path}' has no attention backend '{self.backend}': "
                f"{nearest(self.backend, family.backends)}"
            )


def _is_date(text: str) -> bool:
    try:
        return Date.fromisoformat(text).isoformat() == text
    except (ValueError, TypeError):
        return False


def placeholder_of(source: Source) -> str | None:
    """What stands for an image in a plain prompt; None for a text model and for a folder with a tokenizer alone."""
    path = source.metadata() / "config.json"
    record = FAMILIES.get(str(digest.checkpoint_json(path).get("model_type"))) if path.is_file() else None
    return record.sight.placeholder if record and record.sight else None


def tokenizer_identity(source: Source | str) -> str:
    """The digest of a tokenizer's files, or its commit on the hub. `source`: as `ModelSpec.path`."""
    found = locate(source) if isinstance(source, str) else source
    if found.folder is None:
        return str(found.commit())
    checkpoint.check_tokenizer(found.folder)
    return digest.tokenizer_digest(found.folder)


def cuda_available() -> bool:
    """Whether torch would find a GPU; asked of the driver when torch is not loaded yet."""
    if "torch" in sys.modules:
        return bool(sys.modules["torch"].cuda.is_available())
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or not count.value:
        return False
    import torch  # a driver with a device: only torch knows whether it was built for it

    return torch.cuda.is_available()


def _view(spec: ModelSpec, folder: Path, model: Any, tokens: TextTokens, family: Family) -> View:
    """The model with its tokenizer and, if it can see, its eyes."""
    from harness.models import vision
    from harness.models.view import View

    if family.sight is None:
        return View(model, tokens, family, spec.max_positions)
    lm = attrgetter(family.lm)(model) if family.lm else model
    eyes = vision.load(folder, model, lm, tokens, family)
    return View(model, tokens, family, spec.max_positions, eyes)


def _from_pretrained(spec: ModelSpec, folder: Path, dtype: str, family: Family) -> Any:
    """The model, checked against its checkpoint: every tensor found, none left over, all shapes right. The attention
    backend is the text decoder's; a vision tower keeps the library's own.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText if family.sight else AutoModelForCausalLM
    backend: Any = {family.text_config: spec.backend} if family.sight else spec.backend
    with _readable(folder), quiet():
        model, info = auto.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), attn_implementation=backend, device_map=spec.device_map,
            trust_remote_code=spec.trust_remote_code, local_files_only=True, use_safetensors=True,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    _check_loading(folder, info)
    model.requires_grad_(False).eval()
    return model if spec.device_map else model.to(spec.torch_device())


def _check_values(spec: ModelSpec, folder: Path) -> None:
    """`UserError` for values in `config.json` that the library refuses."""
    from transformers import AutoConfig

    with _readable(folder), quiet():
        AutoConfig.from_pretrained(str(folder), trust_remote_code=spec.trust_remote_code, local_files_only=True)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """What the library says about a checkpoint it cannot make sense of is the user's to repair."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    values = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
    try:
        yield
    except (*values, ImportError, SafetensorError, StrictDataclassError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{folder} cannot be loaded ({type(error).__name__}: {why}); check its config.json.") from error


def _check_loading(folder: Path, info: Mapping[str, Any]) -> None:
    wrong = sorted(info["mismatched_keys"])
    if wrong:
        name, found, expected = wrong[0]
        raise UserError(
            f"{folder}: tensor '{name}' has shape {list(found)}, but config.json asks for {list(expected)} "
            f"(wrong shapes: {len(wrong)}); the weights belong to another configuration."
        )
    for key, what in (
        ("missing_keys", "Tensors that the model needs are not in the weights and would be random"),
        ("unexpected_keys", "Tensors in the weights have no place in the model"),
    ):
        names = sorted(info[key])
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise UserError(f"{folder}: {what}: {shown}. The weights and config.json do not belong together.")
