"""What the model says to a batch of samples, by the kind of task: the text and the counts of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.attention.usage import of_sample

if TYPE_CHECKING:
    from harness.asking.decoding import Decoding
    from harness.asking.generate import Generation
    from harness.attention.attach import Attached
    from harness.contracts.example import Example
    from harness.contracts.task import Task
    from harness.models.inputs import Sample
    from harness.models.view import View


def answers(
    view: View, task: Task, examples: Sequence[Example], samples: Sequence[Sample], attached: Attached,
    decoding: Decoding, share: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    """`prompt_sha256` (of the ids that were read first), `text`, `n_prompt_tokens`, `n_new_tokens`, `finish` and `usage` for
    each sample under the active method.

    `share`: prompts about one picture go on from one prefill.
    """
    if task.kind == "nll":
        return _likelihoods(view, examples, samples, attached)
    if task.kind == "requests":
        from harness.asking.requests import respond

        return respond(view, examples, attached, decoding)
    from harness.asking.dialogue import converse
    from harness.asking.generate import generate

    limits = [e.max_new_tokens for e in examples]
    if any(e.turns for e in examples):
        outs = converse(view, samples, [e.turns for e in examples], limits, attached, decoding)
    else:
        outs = generate(view, samples, limits, attached, decoding, share=share)
    return [said(s, o) for s, o in zip(samples, outs, strict=True)]


def said(sample: Sample, o: Generation) -> dict[str, Any]:
    """The part of a sample's row that tells what was read and generated."""
    return {
        "prompt_sha256": sample.digest, "text": o.text, "n_prompt_tokens": o.n_prompt, "n_new_tokens": o.n_new, "finish": o.finish,
        "usage": of_sample(o.usage) | {"kv_bytes_logical": o.kv_bytes_logical},
    }  # fmt: skip


def _likelihoods(
    view: View, examples: Sequence[Example], samples: Sequence[Sample], attached: Attached
) -> list[dict[str, Any]]:
    from harness.asking.likelihood import nll

    losses = nll(view, [s.ids for s in samples], [e.n_scored for e in examples], attached)
    counts = attached.counted([0] * len(samples))
    return [
        {
            "prompt_sha256": s.digest,
            "text": json.dumps([round(x, 6) for x in loss]),
            "n_prompt_tokens": len(s),
            "n_new_tokens": 0,
            "finish": "stop",
            "usage": of_sample(counts[b : b + 1] if counts else []),
        }
        for b, (loss, s) in enumerate(zip(losses, samples, strict=True))
    ]
