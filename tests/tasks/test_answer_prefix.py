"""A text that ends with the first words of its answer: with a chat template they stand behind the assistant's header,
without one the model reads the same bytes as ever.
"""

from __future__ import annotations

import copy
import hashlib

import pytest

from harness.contracts.example import Example
from harness.contracts.task import Task
from harness.models.load import ModelSpec
from harness.models.tokens import TextTokens
from tasks.passkey import Passkey
from tasks.recall import Recall
from tasks.ruler import Ruler

HEADER = "<assistant>"
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}"
    + HEADER
    + "{% endif %}"
)
TASKS = {
    "grid": Passkey(lengths=[256, 512], depths=[0, 50, 100], trials=2),
    "essay": Passkey(lengths=[256], depths=[50], trials=2, filler="essay"),
    "landmark": Passkey(style="landmark", lengths=[0, 1000], trials=2),
    "longlora": Passkey(style="longlora", lengths=[1], trials=2),
    "infinitebench": Passkey(style="infinitebench", lengths=[58], trials=1),
    "recall": Recall(facts=[2, 6], lengths=[256], samples=2),
    "recall_messages": Recall(facts=[2], lengths=[256], samples=2, style="messages"),
    "ruler": Ruler(tasks=("niah_single_1", "vt", "cwe", "fwe", "qa_1"), lengths=[512], samples=1),
}
# sha256 of the texts that micro-lm (no chat template) reads, from before the answer's first words were kept apart
PLAIN = {
    "grid": "d08e6a26cd11a72e",
    "essay": "f4f0391ba62de896",
    "landmark": "145cd8dfa9289584",
    "longlora": "86272d705475dbdf",
    "infinitebench": "78cc1098a98ba19a",
    "recall": "5ec20cad412af52a",
    "ruler": "120616545509cbdd",
}


def tokens(template: str) -> TextTokens:
    own = ModelSpec(path="micro-lm").tokens()
    if template == "none":
        return own
    tokenizer = copy.deepcopy(own.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return TextTokens(tokenizer, name="chat", template="chat")


def rendered(task: Task, template: str) -> list[str]:
    reader = tokens(template)
    found = [e for e in task.examples(reader) if isinstance(e, Example)]
    assert found
    return [reader.prompt_text(e.question.prompt, e.question.answer_prefix) for e in found]


@pytest.mark.parametrize("name", TASKS)
def test_a_chat_model_goes_on_behind_its_header(name: str) -> None:
    for text in rendered(TASKS[name], "chat"):
        asked, _, begun = text.rpartition(HEADER)
        assert begun.rstrip().endswith((" is", " are", ":")), begun
        assert begun.strip() not in asked.splitlines()[-1]  # the user's turn ends with the question


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_without_template_reads_what_it_read_before(name: str) -> None:
    found = "\0".join(rendered(TASKS[name], "none"))
    assert hashlib.sha256(found.encode()).hexdigest()[:16] == PLAIN[name]
