"""What a sample's record says about its prompt."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.board_rows import asked
from harness.asking.answers import answers
from harness.asking.decoding import GREEDY
from harness.attention.attach import prepared
from harness.contracts.call import Draft
from harness.contracts.example import Example
from harness.models.inputs import ids_digest, sample_of
from harness.models.tokens import TextTokens
from harness.models.view import View
from methods.dense import Dense
from tasks.lm_eval import LmEval
from tasks.passkey import Passkey
from tests.models import small


def row(template: str, example: Example, task: Any) -> dict[str, Any]:
    view = View.of(small.model("llama"), TextTokens(small.tokenizer(chat=True), name="t", template=template))
    sample = sample_of(view, Draft(example.id, example.prompt))
    return answers(view, task, [example], [sample], prepared(view, Dense()), GREEDY, share=False)[0]


def test_the_digest_of_a_prompt_is_that_of_the_ids_that_the_model_reads() -> None:
    example = Example(id="a", prompt="hi", max_new_tokens=2)
    chat, plain = (row(template, example, Passkey()) for template in ("chat", "none"))
    assert plain["prompt_sha256"] == ids_digest([[small.BOS, *small.tokenizer().encode("hi")[1:]]])
    assert chat["prompt_sha256"] != plain["prompt_sha256"]


@pytest.mark.parametrize("text", ["a", "b"])
def test_requests_digest_all_that_is_read(text: str) -> None:
    contexts = ["x y", f"x {text}"]
    requests = [{"type": "loglikelihood", "context": i, "continuation": " z"} for i in range(2)]
    example = Example(id="a", meta={"contexts": contexts, "requests": requests})
    ids = [small.tokenizer().encode(f"{context} z")[:-1] for context in contexts]
    assert row("none", example, LmEval(tasks=("hellaswag",)))["prompt_sha256"] == ids_digest(ids)


def test_what_was_asked_is_found_in_records_of_every_age() -> None:
    assert asked({"asked_sha256": "a", "prompt_sha256": "p"}) == "a"
    assert asked({"prompt_sha256": "a"}) == "a" and asked({}) == ""
