"""From text to the token ids a model sees: the `Tokens` protocol over a Hugging Face tokenizer.

* template `none`: the tokenizer's own special tokens (a leading bos, if it has one) around `prompt + answer_prefix`,
  never an eos. Chat messages become `User: ...` and `Assistant: ...` lines that end with `Assistant:`.
* template `chat`: the chat template with the assistant's header, then `answer_prefix` as text. The template writes its
  own bos, so nothing is added when its text is tokenised.
* `auto`: `chat` if the tokenizer (or the processor in its folder) has a chat template, otherwise `none`.

Images stand at the beginning of the first user message: as content parts `{"type": "image"}` where the chat template
knows them, otherwise as the family's placeholder text. Templates differ in what a message may hold (LLaVA's wants a
list of parts and drops plain strings without a word, older ones want strings and would print a list), so each form is
tried once on a probe. A vision-language template leaves the leading bos to the tokenizer, as its processor does
(`ProcessorMixin.apply_chat_template`, transformers/processing_utils.py): it is added unless the text begins with it.

Nothing is stripped: trailing spaces of a prompt are part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.contracts.tokens import Prompt
from harness.errors import UserError
from harness.models.digest import checkpoint_json, tokenizer_digest
from harness.models.template import DATE, ChatTemplate

UNLIMITED = int(1e30)  # transformers' own value for "no limit"; longer texts are our business, not a warning's
TEMPLATES = ("auto", "chat", "none")


PROBE = "heed probe"  # a text that no template writes by itself


class TextTokens:
    """Token ids for prompts, from a Hugging Face `tokenizer`. `template` is `auto`, `chat` or `none`; `placeholder` is
    what stands for an image in a plain prompt of a vision-language model (None: the model reads text only).
    """

    max_positions: int | None = None  # a tokenizer alone knows of no limit

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str,
        digest: str | None = None,
        template: str = "auto",
        placeholder: str | None = None,
        template_date: str = DATE,
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.digest = digest or _digest_of(tokenizer)
        self.template = _resolve_template(tokenizer, template, name)
        self.placeholder = placeholder
        self.template_date = template_date

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        template: str = "auto",
        trust_remote_code: bool = False,
        placeholder: str | None = None,
        template_date: str = DATE,
    ) -> TextTokens:
        """Read the tokenizer in `folder`. Raises `UserError` if there is none or it cannot be read."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=trust_remote_code, model_max_length=UNLIMITED
            )
        except (OSError, ValueError, ImportError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"The tokenizer in {folder} cannot be read: {_first_line(error)}") from error
        tokenizer.chat_template = _processor_template(folder) or tokenizer.chat_template
        digest = tokenizer_digest(folder)
        return cls(
            tokenizer, name=name, digest=digest, template=template, placeholder=placeholder, template_date=template_date
        )

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The tokenizer's chat template, whether prompts use it or not; None: it has none."""
        has_one = bool(getattr(self.tokenizer, "chat_template", None))
        return ChatTemplate(self.tokenizer, self.name, self.template_date) if has_one else None

    @property
    def date(self) -> str | None:
        """The day that the chat template writes into prompts; None where it writes none."""
        return self.chat_template.date if self.chat_template is not None else None

    def within(self, max_positions: int | None) -> TextTokens:
        """The same for a model that reads so many positions (None: no limit is known)."""
        found = copy(self)
        found.max_positions = max_positions
        return found

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def count(self, text: str) -> int:
        """Number of tokens of `text` without special tokens."""
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def prompt_text(self, prompt: Prompt, answer_prefix: str = "", n_images: int = 0) -> str:
        """The text behind `prompt_ids`: what the template makes of the prompt, then the answer's first words.

        `n_images` placeholders stand at the beginning of the first user message.
        """
        if n_images and self.placeholder is None:
            raise UserError(f"Model '{self.name}' reads text only, but the prompt has {n_images} image(s).")
        if self.template == "chat":
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
            return self._render(self._with_images(messages, n_images)) + answer_prefix
        marks = (self.placeholder or "") * n_images
        if isinstance(prompt, str):
            return marks + prompt + answer_prefix
        return _plain_dialogue(_before_first_user(prompt, marks)) + answer_prefix

    def prompt_ids(self, prompt: Prompt, answer_prefix: str = "", n_images: int = 0) -> list[int]:
        """The final token ids the model sees, ending where generation begins. An image is the one token of its
        placeholder here; `Vision.process` makes as many of it as the image has.
        """
        text = self.prompt_text(prompt, answer_prefix, n_images)
        return self.text_ids(text, self.adds_special(text))

    @cached_property
    def start_ids(self) -> tuple[int, ...]:
        """What the tokenizer itself puts before every text (its bos, if it adds one), whatever the chat template does."""
        probe = self.encode(PROBE)
        whole = list(self.tokenizer(PROBE)["input_ids"])
        starts = (i for i in range(len(whole) - len(probe) + 1) if whole[i : i + len(probe)] == probe)
        return tuple(whole[: next(starts, 0)])

    def adds_special(self, text: str) -> bool:
        """Whether the tokenizer's own special tokens belong around a rendered prompt."""
        if self.template != "chat":
            return True
        bos = self.tokenizer.bos_token
        return self.placeholder is not None and not (bos and text.startswith(bos))

    def text_ids(self, text: str, special: bool) -> list[int]:
        """Token ids of a rendered prompt. `special`: with the tokenizer's leading bos; never with an eos at the end."""
        if not special:
            return self.encode(text)
        ids = list(self.tokenizer(text)["input_ids"])
        eos = self.tokenizer.eos_token_id
        if eos is not None and ids[-1:] == [eos] and self.encode(text)[-1:] != [eos]:
            ids.pop()  # a tokenizer that closes every text; generation must go on from here
        return ids

    def _render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        assert self.chat_template is not None
        return self.chat_template.render(messages)

    def _with_images(self, messages: list[dict[str, str]], n_images: int) -> list[dict[str, Any]]:
        """Messages in the form that the chat template understands."""
        if n_images and not self._parts.images:
            messages = _before_first_user(messages, (self.placeholder or "") * n_images)
            n_images = 0
        if not (self._parts.text and (n_images or not self._parts.strings)):
            return list(messages)
        first = next((i for i, m in enumerate(messages) if m["role"] == "user"), None)
        images = [{"type": "image"}] * n_images
        return [
            {**m, "content": (images if i == first else []) + [{"type": "text", "text": m["content"]}]}
            for i, m in enumerate(messages)
        ]

    @cached_property
    def _parts(self) -> _Forms:
        """Which forms of a message's content the chat template understands."""
        part = {"type": "text", "text": PROBE}
        token = (self.placeholder or "").strip()
        plain, listed, shown = (self._try(c) for c in (PROBE, [part], [{"type": "image"}, part]))
        if plain is not None and listed is not None and PROBE not in plain + listed:
            raise UserError(
                f"The chat template of model '{self.name}' does not show what the user says: every prompt would be the same. "
                "Set the model's template=none, or repair the template in the tokenizer's files."
            )
        return _Forms(
            strings=PROBE in (plain or ""),
            text=_clean(listed or ""),
            images=bool(token) and _clean(shown or "") and token in (shown or ""),
        )

    def _try(self, content: Any) -> str | None:
        """What the template makes of one user message; None if it refuses: then this form is not understood."""
        try:
            return self._render([{"role": "user", "content": content}])
        except UserError:
            return None


@dataclass(frozen=True)
class _Forms:
    """What a message's content may be: a plain string, a list of text parts, a list with image parts."""

    strings: bool
    text: bool
    images: bool


def _clean(text: str) -> bool:
    """Whether the probe was rendered as text, and not as the printed form of a list."""
    return PROBE in text and "'type'" not in text and '"type"' not in text


def _before_first_user(messages: Sequence[Mapping[str, str]], marks: str) -> list[dict[str, str]]:
    """A copy with `marks` before the text of the first user message."""
    copy = [dict(m) for m in messages]
    for message in copy:
        if message["role"] == "user":
            message["content"] = marks + message["content"]
            break
    return copy


def _processor_template(folder: Path) -> str | None:
    """The chat template of a processor that was saved in the older way. It knows images, the tokenizer's may not.

    `chat_template.jinja`, the newer way, is read by the tokenizer itself.
    """
    path = Path(folder) / "chat_template.json"
    if (Path(folder) / "chat_template.jinja").is_file() or not path.is_file():
        return None
    found = checkpoint_json(path).get("chat_template")
    return found if isinstance(found, str) else None


def _resolve_template(tokenizer: Any, template: str, name: str) -> str:
    if template not in TEMPLATES:
        raise UserError(f"Unknown template '{template}' of model '{name}'; use one of {', '.join(TEMPLATES)}.")
    has_one = bool(getattr(tokenizer, "chat_template", None))
    if template == "chat" and not has_one:
        raise UserError(
            f"Model '{name}' has no chat template; set template=none, or template=auto to use one where there is one."
        )
    return ("chat" if has_one else "none") if template == "auto" else template


def _plain_dialogue(messages: Sequence[Mapping[str, str]]) -> str:
    """Messages as plain text for a model without a chat template; a system message is a paragraph of its own."""
    lines = [m["content"] if m["role"] == "system" else f"{m['role'].capitalize()}: {m['content']}" for m in messages]
    return "\n".join([*lines, "Assistant:"])


def _digest_of(tokenizer: Any) -> str:
    """Digest of a tokenizer that lives in memory only (tests)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{content}\0{getattr(tokenizer, 'chat_template', None)}".encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
