"""One forward over named inputs: its outputs against the library's own, alone and in a batch, dense and under methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from harness.asking.decoding import GREEDY
from harness.asking.predict import PredictAsker, predict
from harness.attention.attach import attach, prepared
from harness.config.compose import compose
from harness.contracts.asker import Answer
from harness.contracts.call import Call
from harness.contracts.example import Example
from harness.contracts.method import Method
from harness.contracts.question import Predict, Unreadable
from harness.disk.reading import Entry
from harness.errors import UserError
from harness.plan.cells import cells
from harness.records.cells import read_cells
from harness.running.run import RunSettings, execute
from methods.dense import Dense
from methods.patterns.streaming import StreamingMask
from tasks.induction import Induction
from tests.models import small

ROWS = [tuple(5 + (7 * i * j + j * j) % 200 for j in range(40)) for i in (1, 2, 3)]
PLACES = [(3, 17, 39), (30, 31), (0,)]


def ask(view: Any, questions: list[Predict], method: Method | None = None) -> list[Answer]:
    asker, examples = PredictAsker(), [Example(str(i), q) for i, q in enumerate(questions)]
    samples = [asker.read(view, Induction(), e, share=True) for e in examples]
    attached = prepared(view, method or Dense())
    with attached.active():
        return asker.answer(view, questions, samples, attached, GREEDY, share=True)


def test_values_are_those_of_the_library_at_the_places_that_are_asked_for() -> None:
    view = small.view()
    for row, places in zip(ROWS, PLACES, strict=True):
        with torch.no_grad():
            logits = view.model(torch.tensor([row])).logits[0]
        (answer,) = ask(view, [Predict({"input_ids": row}, positions=places)])
        assert torch.tensor(answer.value) == pytest.approx(logits[list(places)], abs=1e-5)
        assert all(x == round(x, 6) for x in answer.value[0])
        best = ask(view, [Predict({"input_ids": row}, positions=places, take="argmax")])[0]
        assert best.value == logits[list(places)].argmax(-1).tolist()
        assert (best.n_prompt, best.n_new, best.finish) == (40, 0, "stop")


def test_any_output_can_be_asked_for() -> None:
    view = small.view()
    (answer,) = ask(view, [Predict({"input_ids": ROWS[0]}, output="hidden_states.2", decimals=3)])
    with torch.no_grad():
        expected = view.model(torch.tensor([ROWS[0]]), output_hidden_states=True).hidden_states[2][0]
    assert torch.tensor(answer.value) == pytest.approx(expected, abs=6e-4) and len(answer.value) == 40


class Raised(Method):
    """Edits the rows that predict what is scored."""

    name: ClassVar[str] = "raised"

    def scores(self, ctx: Call, s: Tensor) -> Tensor:
        return s * 3


class Cooled(Method):
    """Edits logits."""

    name: ClassVar[str] = "cooled"

    def logits(self, ctx: Call, z: Tensor) -> Tensor:
        return z / 2


@pytest.mark.parametrize("method", [Dense(), StreamingMask(sinks=2, recent=14, block_size=8), Raised(), Cooled()])
def test_an_answer_does_not_depend_on_its_company(method: Method) -> None:
    view = small.view()
    asked = [Predict({"input_ids": row}, positions=places) for row, places in zip(ROWS, PLACES, strict=True)]
    asked.insert(1, Predict({"input_ids": ROWS[0][:23]}, positions=(20,)))  # of another length
    together, alone = ask(view, asked, method), [ask(view, [q], method)[0] for q in asked]
    for a, b in zip(together, alone, strict=True):
        assert torch.tensor(a.value) == pytest.approx(torch.tensor(b.value), abs=1e-4)
        assert (a.usage or {}).get("density") == pytest.approx((b.usage or {}).get("density"))


def test_methods_act_on_what_is_answered_and_leave_nothing_behind() -> None:
    view, question = small.view(), Predict({"input_ids": ROWS[0]}, positions=(30, 39))
    before = predict(view, [question])[0]
    for method in (StreamingMask(sinks=2, recent=14, block_size=8), Raised(), Cooled()):
        with attach(view, method) as attached:
            assert float((predict(view, [question], attached)[0] - before).abs().max()) > 1e-3, method.name
    assert torch.equal(predict(view, [question])[0], before)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Predict({"input_idss": (1, 2)}), "no input 'input_idss'.*did you mean 'input_ids'"),
        (Predict({"attention_mask": (1, 1)}), "reads token ids"),
        (Predict({"input_ids": (5, 6)}, output="logit"), "no output 'logit'.*did you mean 'logits'"),
    ],
)
def test_a_name_that_the_model_does_not_know_is_named(question: Predict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ask(small.view(), [question])


def test_a_question_and_its_answer_stand_in_files() -> None:
    example = Example("a", Predict({"input_ids": (1, 2, 3)}, positions=(0, 2), take="argmax"), meta={"length": 3})
    assert (
        Example.from_row(example.to_row() | {"inputs": {"input_ids": [1, 2, 3]}, "positions": [0, 2]}, Predict)
        == example
    )
    asked = example.asks(Predict)
    assert asked.read(asked.write([4, 5])) == [4, 5] and asked.read(" ") is None
    for text, flag in (("[1]", "wrong_length"), ("[1, true]", "unparsed"), ('["1", 2]', "unparsed"), ("7", "unparsed")):
        with pytest.raises(Unreadable, match=flag):
            asked.read(text)
    with pytest.raises(UserError, match="'take' is 'best'"):
        Predict.from_row(Entry({"inputs": {"input_ids": [1]}, "take": "best"}))


def test_a_cell_is_proven_counted_and_refused_as_where_texts_are_scored(tmp_path: Path) -> None:
    folder = small.save(tmp_path / "model", max_position_embeddings=512)
    task = ["task=[induction]", "task.induction.lengths=[20,96]", "task.induction.samples=2"]
    methods = ["method=[dense,streaming,snapkv]", "method.streaming.block_size=8", "method.streaming.recent=24"]
    plan = cells(compose([f"model={folder}", *task, *methods, "method.streaming.sinks=4"]))
    found = {o.cell.method_label: o for o in execute(plan, RunSettings(tmp_path / "r", efficiency="off"))}
    assert {label: o.status for label, o in found.items()} == {
        "dense": "done",
        "streaming": "done",
        "snapkv": "refused",
    }
    assert "acts only after the prompt" in found["snapkv"].reason
    (streaming,) = [c for c in read_cells(tmp_path / "r") if c.labels["method"] == "streaming"]
    rows = {row["id"]: row for row in streaming.samples()}
    assert [rows[f"induction-20-{i}"].get("idle") for i in range(2)] == [True, True]  # within its window
    assert all(0 < rows[f"induction-96-{i}"]["usage"]["density"] < 1 for i in range(2))
