"""Claims about stored results: which cells they speak of, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.claims import Claim, Verdict, decide, load
from harness.records.cells import CellRecord

CLAIMS = {c.name: c for c in load()}
DECODING = {"search": "greedy"}
TASK = {"prompt": "help", "max_new_tokens": 512, "n_images": 500}
METRIC = {"name": "chair_s", "percent": True}


def cell(method: str, value: float, diff: tuple[float, bool] | None = None, **more: Any) -> CellRecord:
    """A finished CHAIR cell of P1 on LLaVA-1.5-7B; `value` and `diff` (and its significance) in percent."""
    given = {
        "model": "llava-1.5-7b",
        "task": TASK,
        "decoding": DECODING,
        "params": {},
        "limit": None,
        "groups": [],
    } | more
    stored = {"value": value / 100, "low": value / 100 - 0.01, "high": value / 100 + 0.01}
    change = diff and {"value": diff[0] / 100, "low": None, "high": None, "significant": diff[1]}
    return CellRecord(
        run_id=f"{given['model']}-{method}-{value}", path=Path("."), done=True,
        config={
            "labels": {"model": given["model"], "method": method, "task": "chair"},
            "identity": {
                "decoding": given["decoding"], "limit": given["limit"], "task": {"params": given["task"]},
                "method": {"params": given["params"]},
            },
            "task_facts": {"metrics": [METRIC], "by": []},
        },
        metrics={"values": {"chair_s": stored}, "vs_dense": change and {"chair_s": change}, "groups": given["groups"]},
    )  # fmt: skip


def judged(name: str, *cells: CellRecord) -> Verdict:
    return decide([CLAIMS[name]], cells)[0]


BASE = cell("dense", 46.0)


def test_a_claim_without_results_says_how_to_make_them() -> None:
    verdict = judged("vista.p1")
    assert verdict.status == "not tested" and "heed run suite=p1_chair" in verdict.reason


def test_a_significant_difference_reproduces_a_direction() -> None:
    verdict = judged("vista.p1", BASE, cell("vista", 25, (-21, True)))
    assert verdict.status == "reproduced" and verdict.measured == "llava-1.5-7b: -21"


def test_a_difference_by_chance_does_not() -> None:
    verdict = judged("vista.p1", BASE, cell("vista", 44, (-2, False)))
    assert verdict.status == "not reproduced" and "chance" in verdict.reason


def test_a_difference_that_cannot_be_told_tests_nothing() -> None:
    found = cell("vista", 44, (-20, False))
    found.metrics["vs_dense"]["chair_s"] |= {"p": None, "reason": "few clusters"}
    verdict = judged("vista.p1", BASE, found)
    assert verdict.status == "not tested" and "few clusters" in verdict.reason


def test_a_number_is_compared_with_the_suites() -> None:
    assert judged("vista.p1-value", BASE, cell("vista", 20.0, (-26, True))).status == "reproduced"
    verdict = judged("vista.p1-value", BASE, cell("vista", 30.0, (-16, True)))
    assert (verdict.status, verdict.expected) == ("not reproduced", "20.4 +- 2.5")


def test_the_base_row_itself_is_judged() -> None:
    assert judged("dense.p1-base", BASE).status == "reproduced"
    assert judged("dense.p1-base", cell("dense", 60.0)).status == "not reproduced"


def test_nothing_follows_where_the_base_row_is_far_or_missing() -> None:
    far = judged("vista.p1", cell("dense", 60.0), cell("vista", 25, (-35, True)))
    assert far.status == "not tested" and "base row is not the paper's" in far.reason
    assert "was not run" in judged("vista.p1", cell("vista", 25, (-35, True))).reason


def test_other_protocols_are_not_spoken_of() -> None:
    for other in (
        {"model": "micro-vlm"}, {"task": TASK | {"max_new_tokens": 64}}, {"task": TASK | {"prompt": "describe"}},
        {"decoding": {"search": "sample"}}, {"limit": 10},
    ):  # fmt: skip
        assert judged("vista.p1", BASE, cell("vista", 25, (-21, True), **other)).status == "not tested", other
    wrong = cell("pai", 22.0, (-20, True), params={"gamma": None})
    assert judged("pai.p1", BASE, wrong).status == "not tested"
    assert judged("pai.p1", BASE, cell("pai", 22.0, (-20, True), params={"gamma": 1.1})).status == "reproduced"


def test_a_trained_checkpoint_is_held_against_the_papers_base_row() -> None:
    task = {"prompt": "describe", "max_new_tokens": 512, "n_images": None}
    trained = cell("cca", 43.5, model="cca-llava-1-5-7b", task=task, params={"trained": True})
    assert judged("cca.p3", cell("dense", 46.0, task=task), trained).status == "reproduced"
    untrained = cell("cca", 43.5, model="cca-llava-1-5-7b", task=task, params={"trained": False})
    assert judged("cca.p3", cell("dense", 46.0, task=task), untrained).status == "not tested"


def test_all_models_must_agree_where_any_will_do() -> None:
    claim = made("direction", {"task": "chair", "metric": "chair_s", "run": "heed run"}, expected="down")
    one, two = (cell("vista", 25, (sign * 20.0, True), model=m) for m, sign in (("a", -1), ("b", 1)))
    assert decide([claim], [one])[0].status == "reproduced"
    both = decide([claim], [one, two])[0]
    assert both.status == "not reproduced" and both.measured == "a: -20; b: 20"


def test_a_trend_is_read_from_the_groups() -> None:
    groups = [
        {"by": {"length": n}, "values": {"chair_s": {"value": v}}} for n, v in ((256, 0.9), (512, 0.5), (1024, 0.1))
    ]
    claim = made("slope", {"task": "chair", "metric": "chair_s", "run": "heed run", "over": "length"}, expected="down")
    assert decide([claim], [cell("vista", 50, groups=groups)])[0].status == "reproduced"
    assert decide([claim], [cell("vista", 50, groups=groups[:1])])[0].status == "not tested"


def test_a_single_group_can_be_asked_for() -> None:
    groups = [{"by": {"set": "random"}, "values": {"chair_s": {"value": 0.9}}}]
    at = {"task": "chair", "metric": "chair_s", "run": "heed run", "at": {"set": "random"}}
    assert (
        decide([made("band", at, expected=90, tolerance=1.0)], [cell("vista", 1, groups=groups)])[0].status
        == "reproduced"
    )


def test_without_a_dense_row_there_is_no_direction() -> None:
    claim = made("direction", {"task": "chair", "metric": "chair_s", "run": "heed run"}, expected="down")
    verdict = decide([claim], [cell("vista", 25)])[0]
    assert verdict.status == "not tested" and "no dense row" in verdict.reason


def made(kind: str, cells: dict[str, Any], **more: Any) -> Claim:
    return Claim(  # type: ignore[arg-type]
        method="vista", id="x", kind=kind, statement="s", source="p", cells={"method": "vista"} | cells, **more
    )
