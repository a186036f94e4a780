"""What a sample's record says about its prompt."""

from __future__ import annotations

import pytest

from harness.analysis.board_rows import asked
from harness.asking.decoding import GREEDY
from harness.attention.attach import prepared
from harness.contracts.asker import Answer, asker_of
from harness.contracts.example import Example
from harness.contracts.question import Generate, LogLikelihood, Requests
from harness.models.inputs import ids_digest
from harness.models.tokens import TextTokens
from harness.models.view import View
from methods.dense import Dense
from tasks.passkey import Passkey
from tests.models import small


def answer(template: str, example: Example) -> Answer:
    view = View.of(small.model("llama"), TextTokens(small.tokenizer(chat=True), name="t", template=template))
    asker = asker_of(type(example.question))
    sample = asker.read(view, Passkey(), example, share=False)
    return asker.answer(view, [example.question], [sample], prepared(view, Dense()), GREEDY, share=False)[0]


def test_the_digest_of_a_prompt_is_that_of_the_ids_that_the_model_reads() -> None:
    example = Example("a", Generate("hi", max_new_tokens=2))
    chat, plain = (answer(template, example) for template in ("chat", "none"))
    assert plain.digest == ids_digest([[small.BOS, *small.tokenizer().encode("hi")[1:]]])
    assert chat.digest != plain.digest


@pytest.mark.parametrize("text", ["a", "b"])
def test_requests_digest_all_that_is_read(text: str) -> None:
    contexts = ("x y", f"x {text}")
    example = Example("a", Requests((LogLikelihood(0, " z"), LogLikelihood(1, " z")), contexts))
    ids = [small.tokenizer().encode(f"{context} z")[:-1] for context in contexts]
    assert answer("none", example).digest == ids_digest(ids)


def test_what_was_asked_is_found_in_records_of_every_age() -> None:
    assert asked({"asked_sha256": "a", "prompt_sha256": "p"}) == "a"
    assert asked({"prompt_sha256": "a"}) == "a" and asked({}) == ""
