"""The proof of one cell: which of its samples it is made on, and what is compared there. See `attention.engaged`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.contracts.asker import Asker
from harness.contracts.probe import Probe
from harness.contracts.question import Question

if TYPE_CHECKING:
    from torch import Tensor

    from harness.attention.attach import Attached
    from harness.contracts.method import Method
    from harness.models.inputs import Sample
    from harness.models.view import View

STEPS = 2  # decode steps that a proof looks at, where as many are generated


def prove(
    view: View, method: Method, asker: Asker, questions: Sequence[Question], samples: Sequence[Sample],
    most_new: int, lowering: str, artifact: Mapping[str, Tensor],
) -> dict[str, Any]:  # fmt: skip
    """Evidence that a method changes what is scored of these questions, on the longest prompt of that kind; of a probe, that
    it saw something and changes nothing. `most_new`: new tokens of the longest answer. `NotEngaged`.
    """
    from harness.asking.transform import transformed
    from harness.attention import watched
    from harness.attention.engaged import prove, unmoved
    from harness.models.inputs import collate

    if not method.hooks:
        return unmoved(view, method)
    i, scored = _chosen(view, asker, questions, samples)
    prompt, steps = collate(view, [samples[i]]), min(STEPS, most_new - 1)
    if isinstance(method, Probe):
        return watched.prove(view, method, prompt, steps, scored)
    rewritten = method.rewrites_prompt and scored is None
    changed = collate(view, [transformed(view, method, samples[i])]) if rewritten else None
    return prove(
        view, method, prompt, steps=steps, lowering=lowering, changed=changed, artifact=artifact, scored=scored,
    )  # fmt: skip


def _chosen(
    view: View, asker: Asker, questions: Sequence[Question], samples: Sequence[Sample]
) -> tuple[int, Callable[[Attached | None], Tensor] | None]:
    """The sample, and how its scored numbers are computed; None: what is generated counts. As soon as one number comes from
    one pass over a text, that is where the method must act.
    """
    looks = [asker.scored(view, question, sample) for question, sample in zip(questions, samples, strict=True)]
    among = [k for k, look in enumerate(looks) if look is not None] or range(len(looks))
    i = max(among, key=lambda k: len(samples[k]))
    return i, looks[i]
