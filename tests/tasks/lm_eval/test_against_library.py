"""The same numbers as lm-evaluation-harness with its own model class, on the zoo's language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.analysis.statistics import aggregate
from harness.asking.requests import respond
from harness.contracts.example import Example
from harness.models.load import ModelSpec
from tasks.lm_eval import LmEval
from tasks.lm_eval.totals import result

lm_eval = pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")  # its model class for transformers imports it

TASKS = ["toy_choice", "toy_sums", "toy_text", "toy_last", "toy_pairs", "toy_words"]
WINDOW = 100  # shorter than the longest text, so that it is cut into windows
SETTINGS = {"num_fewshot": 2}


@pytest.fixture(scope="module")
def view() -> Any:
    return ModelSpec(path="micro-lm").load()


@pytest.fixture(scope="module")
def theirs(view: Any, folder: Path) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=view.model, tokenizer=view.tokenizer, batch_size=4, max_length=WINDOW)
    index = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(model, tasks=TASKS, task_manager=index, bootstrap_iters=0, **SETTINGS)
    assert found is not None
    return dict(found)


@pytest.fixture(scope="module")
def task(folder: Path) -> LmEval:
    return LmEval(tasks=TASKS, include=[str(folder)], max_length=WINDOW, **SETTINGS)


@pytest.fixture(scope="module")
def rows(view: Any, task: LmEval) -> list[dict[str, Any]]:
    examples = [e for e in task.examples(view) if isinstance(e, Example)]
    scores = [
        task.score(e, a.value) for e, a in zip(examples, respond(view, [e.question for e in examples]), strict=True)
    ]
    return [
        {"meta": e.meta_row(), "metrics": s.metrics, "parsed": s.parsed} for e, s in zip(examples, scores, strict=True)
    ]


@pytest.mark.parametrize("name", TASKS)
def test_prompts_responses_and_values_of_every_document_are_the_same(
    name: str, theirs: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    ours = {
        (r["meta"]["doc_id"], f): (r["meta"], p)
        for r in rows
        if r["meta"]["task"] == name
        for f, p in r["parsed"].items()
    }
    assert len(ours) == len(theirs["samples"][name]) > 0
    for sample in theirs["samples"][name]:
        meta, parsed = ours[sample["doc_id"], sample["filter"]]
        for request, arguments in zip(meta["requests"], sample["arguments"], strict=True):
            said = meta["contexts"][request["context"]] if "context" in request else request["text"]
            assert said == arguments[0]
            assert request.get("continuation", arguments[-1]) == arguments[-1]
        for one, other in zip(parsed["filtered"], sample["filtered_resps"], strict=True):
            _same(one, other)
        assert set(parsed["metrics"]) == set(sample["metrics"])


def _same(one: Any, other: Any) -> None:
    if isinstance(one, str):
        assert one == other
    elif isinstance(one, list):
        assert one[0] == pytest.approx(other[0], abs=1e-4) and one[1] == other[1]
    else:  # a sum over the windows of a long text
        assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_totals_are_the_same(name: str, theirs: dict[str, Any], task: LmEval, rows: list[dict[str, Any]]) -> None:
    ours = result(task.loaded, rows)
    assert set(ours["results"][name]) == set(theirs["results"][name])
    for key, value in theirs["results"][name].items():
        if "_stderr" in key:  # not computed without its bootstrap
            continue
        same = ours["results"][name][key]
        assert (same == pytest.approx(value, rel=1e-4)) if isinstance(value, float) else (same == value), key
    for key in ("versions", "n-shot", "n-samples", "higher_is_better"):
        assert ours[key][name] == theirs[key][name], key


def test_our_statistics_give_the_library_s_values(
    theirs: dict[str, Any], task: LmEval, rows: list[dict[str, Any]]
) -> None:
    metrics = {m.name: m for m in task.metrics}
    for name in TASKS:
        own = [r["metrics"] for r in rows if r["meta"]["task"] == name]
        for key, value in theirs["results"][name].items():
            metric, _, chosen = key.partition(",")
            label = metric if chosen == "none" else key
            if label in metrics:
                assert aggregate(metrics[label], own).value == pytest.approx(value, rel=1e-4), (name, key)
    assert {"mcc", "bleu"}.isdisjoint(metrics) and {"mcc_agreement", "bleu_per_document"} <= set(metrics)
