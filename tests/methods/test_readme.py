"""`methods/README.md`: its example works as printed, its tables say what the classes say."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import torch

from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.hooks import HOOKS, Hook
from harness.contracts.method import Method
from methods.cache.kvpress import KVPress
from tests import tiny
from tests.matrix import CASES as TEXT_CASES
from tests.methods.picture_matrix import CASES as PICTURE_CASES

README = Path(__file__).parents[2] / "methods" / "README.md"


def test_the_example_method_runs_and_reads_what_it_says() -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)[0]
    space: dict = {"__name__": "doubling"}
    exec(compile(code, str(README), "exec", dont_inherit=True), space)
    method, view, ids = space["Doubling"](first=10, block_size=8), tiny.view("llama"), tiny.ids(60)
    method.validate()
    with torch.no_grad(), attach(view, method) as attached:
        view.model(ids)
        read = attached.report()["pairs_read"]
    assert read == 4 * sum(min(i + 1, 10 * 2**layer) for layer in range(3) for i in range(60))
    assert prove(view, method, ids)["logits_moved"] > 0
    assert method.idle(10) and not method.idle(11)


def rows(first: str) -> dict[str, dict[str, str]]:
    """The table whose header begins with `first`: first cell -> its row by header."""
    lines = README.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(first))
    header, found = cells(lines[start]), {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found[cells(line)[0]] = dict(zip(header, cells(line), strict=False))
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def signature(name: str) -> str:
    """`name(its arguments)` of a hook."""
    return f"`{name}({', '.join(list(inspect.signature(getattr(Method, name)).parameters)[1:])})`"


def facts(hook: Hook) -> str:
    return ", ".join(f"`{f.name}`" for f in fields(hook) if getattr(hook, f.name) is True) or "-"


def test_the_hooks_are_listed_with_their_arguments_and_facts_in_the_order_of_the_table() -> None:
    assert [(name, row["facts"]) for name, row in rows("| hook |").items()] == [
        (signature(name), facts(hook)) for name, hook in HOOKS.items()
    ]


def test_the_columns_of_the_text_methods_are_their_facts() -> None:
    listed = rows("| name | paper | what is read or kept |")
    methods = {f"`{case.acts.name}`": case.acts for case in TEXT_CASES} | {"`kvpress`": KVPress()}
    assert set(listed) == set(methods)
    for name, row in listed.items():
        method = methods[name]
        acts = "-" if not method.hooks else "both" if len(method.phases) == 2 else "".join(method.phases)
        prompt = "dense" if method.prefill_is_dense else "sparse"
        assert (row["paper"], row["acts"], row["prompt"], row["batch"]) == (method.paper, acts, prompt, method.batching)


def test_the_columns_of_the_picture_methods_are_their_facts() -> None:
    listed = rows("| name | paper | what it changes |")
    methods = {f"`{case.acts.name}`": case.acts for case in PICTURE_CASES}
    assert set(listed) - set(methods) == {"`moda`"} and set(methods) < set(listed)
    for name, method in methods.items():
        shares = method.prefix_safe and method.batching == "any" and not (method.rewrites_prompt or method.tracks_keys)
        assert (listed[name]["paper"], listed[name]["shares"]) == (method.paper, "yes" if shares else "no")
        assert ("second stream" in listed[name]["extra forwards"]) == ("second_stream" in method.needs)
