"""What tests of methods for vision-language models share: requests with pictures, answers and logits under a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.asking.decoding import GREEDY, Decoding
from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.models.inputs import Inputs, Sample, collate, sample_of
from harness.models.view import View
from methods.dense import Dense
from tests import tiny_vlm

QUESTIONS = ("Is there a cat?", "What is to be seen in this picture?", "Why?")


def samples(view: View, n: int = 3, seed: int = 0) -> list[Sample]:
    """Questions of different lengths about different pictures."""
    pictures = tiny_vlm.images(n, seed)
    return [sample_of(view, Draft(f"q{i}", QUESTIONS[i % 3], (pictures[i],))) for i in range(n)]


def answers(
    view: View, method: Method, asked: Sequence[Sample], new: int = 4, artifact: Mapping[str, Tensor] | None = None,
    decoding: Decoding = GREEDY,
) -> list[tuple[int, ...]]:  # fmt: skip
    """New token ids of one batch."""
    with attach(view, method, artifact=artifact) as attached:
        return [g.ids for g in generate(view, asked, [new] * len(asked), attached, decoding)]


@torch.no_grad()
def logits(
    view: View, method: Method, asked: Sequence[Sample], steps: int = 2, artifact: Mapping[str, Tensor] | None = None
) -> Tensor:
    """`[B, steps + 1, V]`: of the last prompt token and of each step, which is fed token 70 + step."""
    with attach(view, method, artifact=artifact) as attached:
        inputs = attached.begin(collate(view, asked))
        return forced(view, inputs, steps, attached.new_cache())


def forced(view: View, inputs: Inputs, steps: int, cache: Any = None) -> Tensor:
    """As `logits`, under whatever is attached."""
    rows, given = [], inputs.prefill()
    for i in range(steps + 1):
        out = view.lm(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        rows.append(out.logits[:, -1])
        given = {"input_ids": inputs.ids.new_full((len(inputs.ids), 1), 70 + i)} | inputs.further(1, i)
    return torch.stack(rows, dim=1)


def check_identity(view: View, method: Method, artifact: Mapping[str, Tensor] | None = None) -> None:
    """The same greedy tokens as dense, and logits within 1e-5."""
    asked = samples(view)
    assert answers(view, method, asked, artifact=artifact) == answers(view, Dense(), asked)
    torch.testing.assert_close(
        logits(view, method, asked, artifact=artifact), logits(view, Dense(), asked), atol=1e-5, rtol=0
    )


def check_request(view: View, method: Method, artifact: Mapping[str, Tensor] | None = None) -> None:
    """It acts; a batch equals its samples alone, in either order; nothing is left of it."""
    asked = samples(view)
    dense = logits(view, Dense(), asked)
    batch = logits(view, method, asked, artifact=artifact)
    assert (batch - dense).abs().amax((1, 2)).min() > 1e-4
    with torch.no_grad(), attach(view, method, artifact=artifact) as attached:
        for order in (asked, asked[::-1]):
            alone = [forced(view, attached.begin(collate(view, [s])), 2, attached.new_cache()) for s in order]
            alone = alone if order is asked else alone[::-1]
            torch.testing.assert_close(torch.cat(alone), batch, atol=2e-5, rtol=1e-4)
    assert torch.equal(logits(view, Dense(), asked), dense)


class Seen:
    """The first input or the output of modules, call by call, as hooks installed at this moment see them."""

    def __init__(self, modules: Mapping[int, Any], inputs: bool = False) -> None:
        self.calls: dict[int, list[Tensor]] = {i: [] for i in modules}
        self._handles = []
        for i, module in modules.items():
            if inputs:
                self._handles.append(module.register_forward_pre_hook(self._input(i)))
            else:
                self._handles.append(module.register_forward_hook(self._output(i)))

    def _input(self, i: int) -> Any:
        return lambda module, args: self.calls[i].append(args[0].clone())

    def _output(self, i: int) -> Any:
        return lambda module, args, out: self.calls[i].append((out[0] if isinstance(out, tuple) else out).clone())

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


@torch.no_grad()
def before_and_after(
    view: View, method: Method, modules: Mapping[int, Any], asked: Sequence[Sample], steps: int = 1,
    artifact: Mapping[str, Tensor] | None = None, inputs: bool = False,
) -> tuple[dict[int, list[Tensor]], dict[int, list[Tensor]]]:  # fmt: skip
    """What modules read or give out, before and after the method's edit, one tensor for each forward of the request."""
    old = Seen(modules, inputs)
    with attach(view, method, artifact=artifact) as attached:
        new = Seen(modules, inputs)
        given = attached.begin(collate(view, asked))
        for calls in (*old.calls.values(), *new.calls.values()):
            calls.clear()  # forwards of the method's own
        forced(view, given, steps, attached.new_cache())
        new.remove()
    old.remove()
    return old.calls, new.calls
