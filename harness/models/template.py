"""What a checkpoint's chat template makes of messages: the same every day, in a bounded number of steps, or a
`UserError` with the template's own words.

A chat template is a program that came with the checkpoint (Jinja, in the sandbox of transformers'
`utils/chat_template_utils.py`). It may refuse messages, hold a mistake, show nothing of what the user said, never end, or
ask for today's date: Llama 3.2 and gpt-oss write it into every prompt, so tomorrow's prompt would be another one. Here
the clock stands still, at `DATE` unless the model's option `template_date` says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date as Date
from typing import Any

from harness.errors import UserError

DATE = "2024-07-26"  # the day that Llama 3's templates write where nobody tells them another
CLOCK = "strftime_now"  # what a template calls to be told the date
DIRECTIVES = ("-d", "-m", *"aAbBcdeFHIjmMpSTuUVwWxXyYZ", "%")
STEPS = 1_000_000  # lines of a template that one rendering may run; real templates run a few hundred


class ChatTemplate:
    """The chat template of a tokenizer, that of model `name`, on the day `date` (YYYY-MM-DD)."""

    def __init__(self, tokenizer: Any, name: str, date: str = DATE) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.text = _default(tokenizer, name)
        self.date = date if CLOCK in self.text else None  # None: the template never asks
        if self.date is not None:
            self.text = _stopped_clock(Date.fromisoformat(date)) + self.text

    def render(self, messages: Sequence[Mapping[str, Any]], go_on: bool = False) -> str:
        """The text that the model reads, ending where the assistant's answer begins (`go_on`: with the last message, which
        is left open). `UserError` if the template fails.
        """
        end = {"add_generation_prompt": not go_on, "continue_final_message": go_on}
        try:
            with _bounded(STEPS):
                return str(
                    self.tokenizer.apply_chat_template(list(messages), chat_template=self.text, tokenize=False, **end)
                )
        except Exception as error:  # a template may raise whatever its author wrote
            roles = ", ".join(str(m.get("role")) for m in messages)
            raise UserError(
                f"The chat template of model '{self.name}' cannot render messages of the roles {roles}: "
                f"'{_words(error)}'. Choose a task without such messages, set the model's template=none, or repair the "
                "template in the tokenizer's files."
            ) from error


def _default(tokenizer: Any, name: str) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates, none of them called default
        raise UserError(f"The chat template of model '{name}' cannot be chosen: '{_words(error)}'.") from error


class _Endless(Exception):
    pass


@contextmanager
def _bounded(steps: int) -> Iterator[None]:
    """Inside, a template's code may run `steps` lines. Its compiled form is Python, so it can be counted as a debugger
    would, in every thread and without a clock.
    """
    left = steps

    def count(frame: Any, event: str, arg: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Endless(f"it was stopped after {steps} steps and may never end")
        return count

    def enter(frame: Any, event: str, arg: Any) -> Any:
        return count if frame.f_code.co_filename == "<template>" else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


def _stopped_clock(day: Date) -> str:
    """A macro in front of the template that stands in the place of its clock (a function cannot be handed in: the library
    lets plain data through only).
    """
    told = "".join(f"|replace('%{d}', {day.strftime(f'%{d}')!r})" for d in DIRECTIVES)
    return f"{{%- macro {CLOCK}(format) -%}}{{{{- format{told} -}}}}{{%- endmacro +%}}"


def _words(error: Exception) -> str:
    """What went wrong, in one line, with the line of the template where it is known."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    line = getattr(error, "lineno", None)
    return f"{text} (line {line})" if line else text
