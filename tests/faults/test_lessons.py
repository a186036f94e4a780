"""Lessons that go wrong cost only the cells that need them, and what was seen before is not looked at again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config.compose import compose
from harness.models.load import ModelSpec
from harness.plan import planned
from harness.plan.cells import cells
from harness.records import learned
from harness.running.run import execute
from harness.running.settings import Outcome, Progress, RunSettings
from tests.faults import runs
from tests.faults.toys import VARIABLE
from tests.models import small


def outcomes(model: Path, root: Path, *overrides: str) -> dict[str, Outcome]:
    """By method and task, of a run in this process."""
    plan = runs.plan(model, *overrides)
    found = execute(plan, RunSettings(root, efficiency="off", batch_tokens=500))
    return {f"{o.cell.method_label} {o.cell.task_label}": o for o in found}


def told(monkeypatch: pytest.MonkeyPatch, **what: Any) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps(what))


def test_a_lesson_that_several_cells_need_is_learned_once(model, tmp_path, monkeypatch):
    log = tmp_path / "log"
    told(monkeypatch, log=str(log))
    found = outcomes(model, tmp_path, runs.LEARNED, runs.SIX, "+task.more={_target_: tests.faults.toys.Toy, n: 7}")
    assert {name: o.status for name, o in found.items()} == dict.fromkeys(
        ("dense toy", "learned toy", "dense more", "learned more"), "done"
    )
    assert log.read_text().splitlines().count("learned") == 1
    (folder,) = (tmp_path / "learned").iterdir()
    lesson = {"id": folder.name, "label": "learned on tiny"}
    for cell in (runs.cell_of(tmp_path, "learned"), runs.cell_of(tmp_path, "dense")):
        stored = cell.config["needs"]
        base = next(c for c in runs.read_cells(tmp_path) if c.run_id == stored["baseline"])
        assert base.labels == cell.labels | {"method": "dense"}
        assert stored["lessons"] == ([lesson] if cell.labels["method"] == "learned" else [])
    assert runs.cell_of(tmp_path, "learned").config["identity"]["lessons"] == [folder.name]


@pytest.mark.parametrize(
    ("fault", "bug", "says"),
    [({"lesson": True}, False, "the prompts teach nothing"), ({"look": "t1"}, True, "the probe does not like t1")],
    ids=["nothing can be learned", "the probe raises"],
)
def test_a_lesson_that_fails_fails_the_cells_that_need_it_and_no_other(model, tmp_path, monkeypatch, fault, bug, says):
    log = tmp_path / "log"
    told(monkeypatch, log=str(log), **fault)
    two = [runs.LEARNED, runs.SCALED, runs.SIX, "+task.more={_target_: tests.faults.toys.Toy, n: 7}"]
    found = outcomes(model, tmp_path, *two)
    failed = {name for name, o in found.items() if o.status == "failed"}
    assert failed == {"learned toy", "learned more"} and all(says in found[name].reason for name in failed)
    assert all(found[name].bug == bug and ("Traceback" in found[name].reason) == bug for name in failed)
    assert {o.status for name, o in found.items() if name not in failed} == {"done"}
    looked = log.read_text().splitlines().count("look t1")
    assert looked == 1  # what failed is not tried again for the next cell
    told(monkeypatch)
    assert {o.status for o in outcomes(model, tmp_path, *two).values()} == {"kept", "done"}


def test_a_lesson_that_was_killed_goes_on_with_the_example_that_it_had_not_seen(model, tmp_path):
    log, root = tmp_path / "log", tmp_path / "results"
    assert runs.run(model, root, runs.LEARNED, die="t1", log=str(log)).returncode == -signal.SIGKILL
    again = runs.run(model, root, runs.LEARNED, log=str(log))
    assert again.returncode == 0, again
    assert [line for line in log.read_text().splitlines() if "look" in line] == [
        "look t0",
        "look t1",
        "look t1",
        "look t2",
    ]
    assert runs.run(model, tmp_path / "calm", runs.LEARNED).returncode == 0
    assert runs.records(root) == runs.records(tmp_path / "calm")
    (one,), (other,) = ((folder / "learned").iterdir() for folder in (root, tmp_path / "calm"))
    assert (one / "DONE").read_bytes() == (other / "DONE").read_bytes()


def test_an_edited_lesson_is_named_and_dense_goes_on(model, tmp_path):
    outcomes(model, tmp_path, runs.LEARNED, runs.SIX)
    (folder,) = (tmp_path / "learned").iterdir()
    file = folder / learned.TENSORS
    file.write_bytes(file.read_bytes() + b" ")
    found = outcomes(model, tmp_path, runs.LEARNED, runs.SEVEN)
    assert found["dense toy"].status == "done" and found["learned toy"].status == "failed"
    reason = found["learned toy"].reason
    assert f"{file} was changed after the lesson was finished" in reason and f"delete the folder {folder}" in reason


def test_of_a_model_that_cannot_be_loaded_nothing_is_learned_and_each_cell_says_why(model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    plan = runs.plan(broken, runs.LEARNED)
    (broken / "model.safetensors").unlink()
    found = execute(plan, RunSettings(tmp_path, efficiency="off"))
    assert [o.status for o in found] == ["failed", "failed"] and not any(o.bug for o in found)
    assert learned.look(learned.place(tmp_path, plan[1].needs.lesson_ids[0]))[0] == "to learn"


def test_the_dry_run_and_the_status_show_what_is_to_be_learned(model, tmp_path, capsys):
    command = runs.command(model, tmp_path, runs.LEARNED)[len(runs.HEED) :]
    plan = runs.plan(model, runs.LEARNED)
    (folder,) = (learned.place(tmp_path, key) for key in planned.lessons_of(plan))

    def shown(*verb: str) -> str:
        assert main(list(verb)) == 0
        return " ".join(capsys.readouterr().out.split())

    planned.write(tmp_path, "sweep-x", command, plan)
    assert "lesson learned on tiny (for 1 cell): to learn" in shown(*command, "--dry-run") and not folder.exists()
    assert "1 lesson: 1 to learn to learn learned on tiny" in shown("status", f"results={tmp_path}")
    execute(plan, RunSettings(tmp_path, efficiency="off"))
    assert "lesson learned on tiny (for 1 cell): learned" in shown(*command, "--dry-run")
    assert "1 lesson: 1 learned" in shown("status", f"results={tmp_path}")
    (folder / learned.TENSORS).unlink()
    for said in (shown(*command, "--dry-run"), shown("status", f"results={tmp_path}")):
        assert (
            "damaged" in said and f"{learned.TENSORS} was changed after the lesson was finished: it is missing" in said
        )


def test_what_an_earlier_version_learned_is_told_of_once_with_the_option_that_uses_it(model, tmp_path):
    earlier = tmp_path / "artifacts" / "learned-0123456789abcdef.safetensors"
    earlier.parent.mkdir()
    earlier.write_bytes(b"")
    said: list[str] = []

    class Heard(Progress):
        def tell(self, text: str) -> None:
            said.append(text)

    for task in (runs.SIX, runs.SEVEN):
        execute(runs.plan(model, runs.LEARNED, task), RunSettings(tmp_path, efficiency="off"), Heard())
    assert len(said) == 1 and f"To use the file, set method.learned.artifact={earlier}." in said[0]


def test_each_of_several_models_is_loaded_once_for_its_lesson_and_its_cells(model, tmp_path, monkeypatch):
    other = small.save(tmp_path / "other", seed=1)
    loaded: list[str] = []
    load = ModelSpec.load
    monkeypatch.setattr(ModelSpec, "load", lambda spec: loaded.append(spec.name) or load(spec))
    plan = cells(compose([f"model=[{model},{other}]", *runs.COMMON, runs.SIX, runs.LEARNED]))
    found = execute(plan, RunSettings(tmp_path / "r", efficiency="off"))
    assert [o.status for o in found] == ["done"] * 4 and len(list((tmp_path / "r" / "learned").iterdir())) == 2
    assert loaded == [model.name, "other"]
