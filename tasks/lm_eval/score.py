"""The score of one document: lm-evaluation-harness's own filters and `process_results` on the stored responses."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from harness.contracts.example import Example
from harness.contracts.metric import Score
from harness.contracts.question import GenerateUntil, OneRequest, Requests, RollingLogLikelihood
from harness.errors import UserError
from tasks.lm_eval.build import INFINITE, plain
from tasks.lm_eval.library import Loaded
from tasks.lm_eval.rules import Key, Rule


def score(loaded: Loaded, rules: Mapping[Key, Rule], example: Example, answer: list[Any] | None) -> Score:
    """Our numbers of a document; `parsed` holds, for each filter, the filtered responses and the library's own values.

    Without responses nothing is added, and the score is flagged `empty`; a missing generation counts as an empty text.
    """
    meta, requests = example.meta, example.asks(Requests).requests
    name, flags = meta["task"], ("empty",) if answer is None else ()
    if answer is None and any(one.type != GenerateUntil.type for one in requests):
        return Score({}, None, flags)
    given = [""] * len(requests) if answer is None else answer
    responses = [_response(one, value) for one, value in zip(requests, given, strict=True)]
    task, doc = loaded.tasks[name], _doc(loaded, meta)
    by_filter = _filtered(task, doc, example, responses)
    numbers: dict[str, float] = {}
    parsed: dict[str, Any] = {}
    for chosen, filtered in by_filter.items():
        values = task.process_results(deepcopy(doc), list(filtered))
        parsed[chosen] = {"filtered": plain(filtered), "metrics": plain(dict(values))}
        for metric, value in values.items():
            rule = rules.get((name, metric, chosen))
            numbers |= rule.of(value) if rule is not None else {}
    if any(abs(n) >= INFINITE for n in numbers.values()):
        flags = (*flags, "infinite")
    return Score(numbers, parsed, flags)


def _response(one: OneRequest, value: Any) -> Any:
    """As the library expects it: (log-likelihood, is greedy), a log-likelihood, or a text."""
    if isinstance(one, GenerateUntil):
        return value
    return _nats(value) if isinstance(one, RollingLogLikelihood) else (_nats(value[0]), value[1])


def _nats(value: Any) -> float:
    found = float(value)
    return float("-inf") if not found > -INFINITE else found  # a token that cannot be; NaN counts as one


def _doc(loaded: Loaded, meta: Mapping[str, Any]) -> Any:
    """The document itself: its stored form has lost what JSON does not know."""
    docs, at = loaded.docs[meta["task"]], meta["doc_id"]
    doc = docs[at] if at < len(docs) else None
    if plain(doc) != meta["doc"]:
        raise UserError(
            f"Document {at} of the lm-eval task '{meta['task']}' is another one than that of the example: the data changed "
            "since it was made. Make the examples anew."
        )
    return doc


def _filtered(task: Any, doc: Any, example: Example, responses: list[Any]) -> dict[str, list[Any]]:
    """Filtered responses by the name of the filter. A task that repeats a greedy request gets the same answer again."""
    from lm_eval.api.instance import Instance

    repeats, requests = task.get_config("repeats") or 1, example.asks(Requests).requests
    instances = [
        Instance(
            request_type=request.type, doc=doc, arguments=(), idx=i, resps=[response] * repeats,
            metadata=(example.meta["task"], example.meta["doc_id"], repeats),
        )
        for i, (request, response) in enumerate(zip(requests, responses, strict=True))
    ]  # fmt: skip
    for one in task._filters:
        one.apply(instances)
    return {key: [i.filtered_resps[key] for i in instances] for key in instances[0].filtered_resps}
