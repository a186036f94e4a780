"""ICD (Wang et al. 2024, arXiv 2403.18715): contrast with what the model says under a disturbing instruction.

The second stream sees the same picture and question, but is told to be somebody who sees badly. Then, as in VCD,
`out = (1 + alpha) l - alpha l'` and -inf wherever `l < max l + log beta`. Defaults (release, LLaVA on POPE): alpha 1,
beta 0.1, sampling; the prefix is one of the five of its script, the others are a matter of `prefix`.

Where the prefix goes: in the release it replaces the system message of LLaVA. `place: auto` does that where the chat
template knows a system role, and otherwise puts it before the question (ours). Not offered: InstructBLIP, where it goes
to the text of the Q-Former.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.contracts.call import Request
from harness.contracts.inputs import Draft
from methods.contrast.two_stream import Contrast

if TYPE_CHECKING:
    from harness.contracts.inputs import Inputs
    from harness.contracts.model import Model

PREFIX = "You are a confused objects detector to provide a fuzzy overview or impression of the image."


@dataclass(frozen=True, kw_only=True)
class ICD(Contrast):
    """Contrast with a disturbing instruction."""

    name = "icd"
    title = "ICD: contrast with a disturbing instruction"
    paper = "2403.18715"
    options = Contrast.options | {
        "prefix": "the disturbing instruction",
        "place": "system: as the system message; question: before the first user message; auto: system if there is one",
    }

    prefix: str = PREFIX
    place: Literal["auto", "system", "question"] = "auto"

    def validate(self) -> None:
        super().validate()
        self.require(bool(self.prefix.strip()), "prefix", "an empty instruction disturbs nobody")
        self.require(self.place in ("auto", "system", "question"), "place", "it is 'auto', 'system' or 'question'")

    def negatives(self, request: Request) -> tuple[Inputs, ...]:
        as_system = self.place == "system" or (self.place == "auto" and has_system_role(request.view))
        return (request.with_drafts(lambda draft: disturbed(draft, self.prefix, as_system)),)


def has_system_role(view: Model) -> bool:
    """Whether the chat template in use writes system messages."""
    return view.template == "chat" and "system" in str(view.tokenizer.chat_template)


def disturbed(draft: Draft, prefix: str, as_system: bool) -> Draft:
    """The draft with `prefix` as its system message, or before the text of its first user message."""
    messages: tuple[Mapping[str, str], ...]
    messages = ({"role": "user", "content": draft.prompt},) if isinstance(draft.prompt, str) else tuple(draft.prompt)
    if as_system:
        rest = tuple(m for m in messages if m["role"] != "system")
        return replace(draft, prompt=({"role": "system", "content": prefix}, *rest))
    if isinstance(draft.prompt, str):
        return replace(draft, prompt=f"{prefix} {draft.prompt}")
    first = next((i for i, m in enumerate(messages) if m["role"] == "user"), 0)
    changed = dict(messages[first]) | {"content": f"{prefix} {messages[first]['content']}"}
    return replace(draft, prompt=(*messages[:first], changed, *messages[first + 1 :]))
