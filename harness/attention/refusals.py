"""What a method refuses whatever runs it, by what it says of itself: a model without eyes, a task without pictures, a text that
is fixed or scored as it stands. The plan and the run ask here, and so say it in the same words. Imports no torch.
"""

from __future__ import annotations

from typing import Protocol

from harness.contracts.method import Method
from harness.contracts.probe import Probe
from harness.contracts.task import Task
from harness.errors import NotEngaged, Unsupported


class Named(Protocol):
    """A model, loaded or not."""

    @property
    def name(self) -> str:
        """Shown to people."""
        ...


def check_eyes(method: Method, model: Named, sees: bool) -> None:
    """`Unsupported` if a method for pictures meets a model without eyes."""
    if "images" in method.needs and not sees:
        raise Unsupported(
            f"{method.group.capitalize()} '{method.name}' works on pictures, but model '{model.name}' reads text only; choose a "
            f"vision-language model, or a {method.group} for text."
        )


def check_pictures(method: Method, shown: bool) -> None:
    """`Unsupported` if a method for pictures is shown none."""
    if "images" in method.needs and not shown:
        raise pictureless(method)


def pictureless(method: Method) -> Unsupported:
    """What is said of a method that works on pictures where there are none."""
    return Unsupported(
        f"{method.group.capitalize()} '{method.name}' works on pictures, and this task shows none; choose a task with pictures "
        f"(`heed list tasks`), or a {method.group} for text."
    )


def check_scored(method: Method) -> None:
    """`Unsupported` for a method that cannot change a text that is scored as it stands, in one pass. Dense changes nothing anyway."""
    if not method.hooks:
        return
    if method.prefill_is_dense or method.searches:
        raise Unsupported(
            f"Method '{method.name}' acts only after the prompt, and this task scores the prompt itself in one pass, "
            "so its number would be dense's. Use a task that generates, or a method that acts in prefill."
        )
    check_fixed(method)


def check_fixed(method: Method) -> None:
    """`Unsupported` for a method that writes another prompt, where the task gives the token ids themselves."""
    if method.rewrites_prompt:
        raise Unsupported(
            f"Method '{method.name}' rewrites the prompt before the model reads it, and this task fixes the prompt "
            "token by token; choose a task that generates from a plain prompt."
        )


def check_watched(method: Method, task: Task) -> None:
    """`Unsupported` for a probe on questions of several prompts: there is no one request that it could look at."""
    if isinstance(method, Probe) and not task.asks.one_prompt:
        raise several(method)


def several(method: Method) -> Unsupported:
    """What is said of a probe where several prompts are asked for one example."""
    return Unsupported(
        f"Probe '{method.name}' looks at one prompt for each example, and an example of this task asks several at once; choose a "
        "task that asks one."
    )


def unchanged(method: Method, why: str) -> NotEngaged:
    """What is said of a method whose budget covers everything; `why` is the method's own sentence."""
    return NotEngaged(f"Method '{method.name}' would not change this model on this task: {why}.")
