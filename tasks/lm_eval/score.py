"""The score of one document: lm-evaluation-harness's own filters and `process_results` on the stored responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from harness.contracts.example import Example
from harness.contracts.metric import Score
from harness.errors import UserError
from tasks.lm_eval.build import INFINITE, plain
from tasks.lm_eval.library import Loaded
from tasks.lm_eval.rules import Key, Rule


def score(loaded: Loaded, rules: Mapping[Key, Rule], example: Example, text: str | None) -> Score:
    """Our numbers of a document; `parsed` holds, for each filter, the filtered responses and the library's own values.

    Responses that are missing or of another form add nothing and are flagged `empty`, `unparsed` or `wrong_length`;
    a missing generation counts as an empty text.
    """
    meta = example.meta
    name, requests = meta["task"], meta["requests"]
    responses, flags = read(text, requests)
    if responses is None:
        return Score({}, None, flags)
    task, doc = loaded.tasks[name], _doc(loaded, meta)
    by_filter = _filtered(task, doc, meta, responses)
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


def read(text: str | None, requests: list[Mapping[str, Any]]) -> tuple[list[Any] | None, tuple[str, ...]]:
    """The responses as the library expects them: (log-likelihood, is greedy), a log-likelihood, or a text."""
    if not text or not text.strip():
        generated = all(r["type"] == "generate_until" for r in requests)
        return ([""] * len(requests) if generated else None), ("empty",)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None, ("unparsed",)
    if not isinstance(found, list):
        return None, ("unparsed",)
    if len(found) != len(requests):
        return None, ("wrong_length",)
    try:
        return [_response(r["type"], one) for r, one in zip(requests, found, strict=True)], ()
    except (TypeError, ValueError):
        return None, ("unparsed",)


def _response(kind: str, value: Any) -> Any:
    if kind == "generate_until":
        if not isinstance(value, str):
            raise TypeError("a generation is a text")
        return value
    if kind == "loglikelihood_rolling":
        return _nats(value)
    nats, greedy = value
    return _nats(nats), bool(greedy)


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


def _filtered(task: Any, doc: Any, meta: Mapping[str, Any], responses: list[Any]) -> dict[str, list[Any]]:
    """Filtered responses by the name of the filter. A task that repeats a greedy request gets the same answer again."""
    from lm_eval.api.instance import Instance

    repeats = task.get_config("repeats") or 1
    instances = [
        Instance(
            request_type=request["type"], doc=doc, arguments=(), idx=i, resps=[response] * repeats,
            metadata=(meta["task"], meta["doc_id"], repeats),
        )
        for i, (request, response) in enumerate(zip(meta["requests"], responses, strict=True))
    ]  # fmt: skip
    for one in task._filters:
        one.apply(instances)
    return {key: [i.filtered_resps[key] for i in instances] for key in instances[0].filtered_resps}
