"""From text to the token ids a model sees: the `Tokens` protocol over a Hugging Face tokenizer.

* template `none`: the tokenizer's own special tokens (a leading bos, if it has one) around `prompt + answer_prefix`,
  never an eos. Chat messages become `User: ...` and `Assistant: ...` lines that end with `Assistant:`.
* template `chat`: the chat template with the assistant's header, then `answer_prefix` as text. The template writes its
  own bos, so nothing is added when its text is tokenised.
* `auto`: `chat` if the tokenizer has a chat template, otherwise `none`.

Nothing is stripped: trailing spaces of a prompt are part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.contracts.task import Prompt
from harness.errors import UserError
from harness.models.digest import tokenizer_digest

UNLIMITED = int(1e30)  # transformers' own value for "no limit"; longer texts are our business, not a warning's
TEMPLATES = ("auto", "chat", "none")


class TextTokens:
    """Token ids for prompts, from a Hugging Face `tokenizer`. `template` is `auto`, `chat` or `none`."""

    def __init__(self, tokenizer: Any, *, name: str, digest: str | None = None, template: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.digest = digest or _digest_of(tokenizer)
        self.template = _resolve_template(tokenizer, template, name)

    @classmethod
    def load(cls, folder: Path, *, name: str, template: str = "auto", trust_remote_code: bool = False) -> TextTokens:
        """Read the tokenizer in `folder`. Raises `UserError` if there is none or it cannot be read."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=trust_remote_code, model_max_length=UNLIMITED
            )
        except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
            raise UserError(f"The tokenizer in {folder} cannot be read: {_first_line(error)}") from error
        return cls(tokenizer, name=name, digest=tokenizer_digest(folder), template=template)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def count(self, text: str) -> int:
        """Number of tokens of `text` without special tokens."""
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def prompt_text(self, prompt: Prompt, answer_prefix: str = "") -> str:
        """The text behind `prompt_ids`: what the template makes of the prompt, then the answer's first words."""
        if self.template == "chat":
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return str(text) + answer_prefix
        return (prompt if isinstance(prompt, str) else _plain_dialogue(prompt)) + answer_prefix

    def prompt_ids(self, prompt: Prompt, answer_prefix: str = "") -> list[int]:
        """The final token ids the model sees, ending where generation begins."""
        text = self.prompt_text(prompt, answer_prefix)
        if self.template == "chat":
            return self.encode(text)
        ids = list(self.tokenizer(text)["input_ids"])
        eos = self.tokenizer.eos_token_id
        if eos is not None and ids[-1:] == [eos] and self.encode(text)[-1:] != [eos]:
            ids.pop()  # a tokenizer that closes every text; generation must go on from here
        return ids


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
