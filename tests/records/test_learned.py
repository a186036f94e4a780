"""What a lesson learned is stored once, whatever happens to the process that learns it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.contracts.lesson import LOG, Learned
from harness.contracts.table import Column, Table
from harness.disk.whole import read_json, write_json
from harness.errors import UserError
from harness.records import learned, seal

STEPS = 6
REPOSITORY = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from harness.records import learned, seal
from tests.records.test_learned import Sum

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

root, where = Path(sys.argv[1]), sys.argv[2]
if where == "before DONE":
    seal.write = die
if where == "after DONE":
    learned._clear = die
learned.obtain(Sum(dies_at=int(where) if where.isdigit() else 0), root, print)
"""


@dataclass(frozen=True)
class Sum:
    """Adds 1, 2, ... `STEPS` with a checkpoint after each. `dies_at`: the step in which the process is killed."""

    label: str = "a sum"
    start: int = 0
    dies_at: int = 0

    def identity(self) -> Mapping[str, Any]:
        return {"target": "Sum", "start": self.start}

    def learn(self, folder: Path, progress: Callable[[str], None]) -> Learned:
        state = read_json(folder / "state.json") if (folder / "state.json").exists() else {"step": 0, "sum": self.start}
        for step in range(state["step"] + 1, STEPS + 1):
            if step == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            state = {"step": step, "sum": state["sum"] + step}
            write_json(folder / "state.json", state)
            progress(f"step {step}")
        (folder / LOG).write_text(json.dumps(state) + "\n")
        return Learned(
            {"sum": torch.tensor([float(state["sum"])])}, {"sums": Table((Column("sum"),), ((state["sum"],),))}
        )


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def folder_of(root: Path, lesson: Sum | None = None) -> Path:
    return learned.place(root, learned.lesson_id(lesson or Sum()))


def test_it_is_learned_once_and_read_ever_after(tmp_path: Path) -> None:
    told: list[str] = []
    first = learned.obtain(Sum(), tmp_path, told.append)
    assert first.tensors["sum"].tolist() == [21.0] and first.tables["sums"].rows == ((21,),)
    assert told == ["learning a sum", *(f"step {n}" for n in range(1, STEPS + 1))]
    again = learned.obtain(Sum(label="called otherwise"), tmp_path, told.append)
    assert again == first and len(told) == 1 + STEPS
    assert sorted(content(folder_of(tmp_path))) == [
        "DONE",
        "config.json",
        "learned.safetensors",
        LOG,
        "tables/sums.csv",
        "tables/sums.json",
    ]
    assert learned.obtain(Sum(start=1), tmp_path, told.append).tensors["sum"].tolist() == [22.0]


@pytest.mark.parametrize("where", ["1", "4", str(STEPS), "before DONE", "after DONE"])
def test_killed_anywhere_it_goes_on_and_ends_like_an_uninterrupted_one(tmp_path: Path, where: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, where], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    folder, told = folder_of(tmp_path), []
    assert (folder / learned.WORKING).is_dir()
    assert learned.look(folder)[0] == ("learned" if where == "after DONE" else "to learn")
    found = learned.obtain(Sum(), tmp_path, told.append)
    steps = [text for text in told if text.startswith("step")]
    assert len(steps) == (STEPS + 1 - int(where) if where.isdigit() else 0)  # what was done is not done again
    assert found == learned.obtain(Sum(), tmp_path / "calm", told.append)
    records = {name: data for name, data in content(folder).items() if name != ".lock"}  # that of the killed process
    assert records == content(folder_of(tmp_path / "calm"))


def test_who_comes_second_waits_and_reads_what_the_first_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "PATIENCE", 0.01)
    waiting, told = threading.Event(), []

    class Slow(Sum):
        def learn(self, folder: Path, progress: Callable[[str], None]) -> Learned:
            assert learned.look(folder.parent)[0] == "being learned"
            assert waiting.wait(10)
            return super().learn(folder, progress)

    first = threading.Thread(target=learned.obtain, args=(Slow(), tmp_path, lambda _: None))
    first.start()
    while learned.look(folder_of(tmp_path))[0] != "being learned":
        time.sleep(0.01)

    def note(text: str) -> None:
        told.append(text)
        waiting.set()

    assert learned.obtain(Sum(), tmp_path, note).tensors["sum"].tolist() == [21.0]
    first.join()
    assert set(told) == {"waiting for a sum, which another process is learning"}


@pytest.mark.parametrize("name", ["config.json", "learned.safetensors", LOG, "tables/sums.csv", "tables/sums.json"])
@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_a_folder_that_was_changed_is_an_error_that_names_the_file(tmp_path: Path, name: str, how: str) -> None:
    learned.obtain(Sum(), tmp_path, print)
    file = folder_of(tmp_path) / name
    if how == "edited":
        file.write_bytes(file.read_bytes().replace(b"2", b"3") + b" ")
    else:
        file.unlink()
    with pytest.raises(UserError, match=r"was changed after the lesson was finished.*or delete the folder") as error:
        learned.obtain(Sum(), tmp_path, print)
    assert str(file) in str(error.value) and learned.look(file.parents[name.count("/")])[0] == "damaged"


def test_a_folder_that_was_begun_by_another_lesson_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"schema": learned.SCHEMA, "identity": {"target": "Other"}})
    with pytest.raises(UserError, match="its identity has the id"):
        learned.obtain(Sum(), tmp_path, print)
    assert not seal.is_there(folder) and learned.look(folder)[0] == "damaged"


def test_what_cannot_be_learned_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    class Hopeless(Sum):
        def learn(self, folder: Path, progress: Callable[[str], None]) -> Learned:
            raise UserError("There is nothing to learn from.")

    with pytest.raises(UserError, match="nothing to learn from"):
        learned.obtain(Hopeless(), tmp_path, print)
    assert learned.look(folder_of(tmp_path))[0] == "to learn"
    assert learned.obtain(Sum(), tmp_path, print).tensors["sum"].tolist() == [21.0]
