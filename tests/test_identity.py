"""The run id: everything that can change a number, and nothing else."""

from dataclasses import dataclass

import pytest

from harness import identity
from harness.config import compose
from harness.plan import cells

BASE = ["method=[dense,power]", "task=[passkey]"]


def ids(*overrides):
    return {c.method_label: c.run_id for c in cells(compose([*BASE, *overrides]))}


@pytest.mark.parametrize(
    "override",
    [
        "batch_tokens=64",
        "efficiency=full",
        "results=elsewhere",
        "tracking=offline",
        "model.micro-lm.device=cpu",
        "dry_run=true",
    ],
)
def test_what_cannot_change_a_number_stays_out(override):
    assert ids() == ids(override)


@pytest.mark.parametrize(
    "override",
    ["seed=7", "limit=3", "model.micro-lm.dtype=bfloat16", "model.micro-lm.backend=eager",
     "task.passkey.trials=3", "task.passkey.policy=contains"],
)  # fmt: skip
def test_what_can_change_a_number_changes_every_id(override):
    before, after = ids(), ids(override)
    assert all(before[m] != after[m] for m in before)


def test_a_method_parameter_changes_that_method_alone():
    before, after = ids(), ids("method.power.window_blocks=6")
    assert before["dense"] == after["dense"] and before["power"] != after["power"]


def test_equal_meaning_equal_id():
    written_out = compose(BASE).method.power.window_blocks
    assert ids() == ids(f"method.power.window_blocks={written_out}")


def test_an_equal_cell_under_two_labels_is_one_cell():
    plan = cells(compose([*BASE, "+method.again=${method.power}"]))
    assert len(plan) == 2


def test_id_from_the_stored_identity():
    import json

    for cell in cells(compose(BASE)):
        stored = json.loads(json.dumps(cell.config("ci")))
        assert identity.run_id(stored["identity"]) == cell.run_id


def test_dense_comes_first_for_each_task():
    plan = cells(compose(["method=[power,quest]", "task=[passkey,ruler]"]))
    assert [c.method_label for c in plan] == ["dense", "power", "quest"] * 2


def test_a_comment_or_docstring_in_the_source_does_not_count(tmp_path):
    one, two, three = (tmp_path / f"{n}.py" for n in "abc")
    one.write_text('"""Doc."""\n\ndef f(x):\n    """Say."""\n    return x + 1  # why\n')
    two.write_text("def f(x):\n    return (x\n        + 1)\n")
    three.write_text("def f(x):\n    return x + 2\n")
    assert identity.code_digest(one) == identity.code_digest(two) != identity.code_digest(three)


def test_what_guessing_scores_is_stored_and_is_no_part_of_the_identity():
    (cell,) = cells(compose(["model=micro-vlm", "method=[dense]", "task=[pope]"]))
    assert cell.config("ci")["task_facts"]["chance"] == dict.fromkeys(
        ("accuracy", "accuracy_random", "accuracy_popular", "accuracy_adversarial"), 0.5
    )
    assert "chance" not in identity.canonical(cell.identity)


def test_the_path_of_a_data_file_is_replaced_by_its_content(tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "sub" / "b.txt", tmp_path / "c.txt"]
    files[1].parent.mkdir()
    for file, text in zip(files, ("one two three. " * 50, "one two three. " * 50, "four five six. " * 50), strict=True):
        file.write_text(text)
    a, b, c = ({c.run_id for c in cells(compose(["task=perplexity", f"task.perplexity.path={f}"]))} for f in files)
    assert a == b != c


def test_whole_numbers_are_written_one_way():
    @dataclass(frozen=True)
    class Part:
        x: float

    assert identity.extension_identity(Part(2.0))["params"] == identity.extension_identity(Part(2))["params"]


def test_source_follows_imports_of_the_same_package():
    from methods.cache.snapkv import SnapKV

    name = SnapKV.__module__
    found = set(identity.imported(identity.module_file(name), name))
    assert "methods.cache.rows" in found  # a helper's change is the method's change


def test_lowering_counts_for_patterns_alone():
    before, after = ids(), ids("lowering=dense")
    assert before["dense"] == after["dense"] and before["power"] != after["power"]


def test_a_limit_that_takes_nothing_away_does_not_count():
    assert ids() == ids("limit=100000") != ids("limit=2")


def test_golden_run_id():
    """A change here means that every stored result gets a new id: raise VERSION and say so in the changelog."""
    assert (
        identity.run_id({"version": 1, "seed": 0, "method": {"params": {"b": 2, "a": [1, "x"]}}}) == "58fffa285c2b6d98"
    )
