"""Training as a lesson: its identity, what is stored, who learns it when two want it, and `kill -9` at any moment."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import learn, main
from harness.errors import UserError
from harness.plan.training import training
from harness.records.learned import lesson_id, look, place
from harness.training.lesson import Training
from tests.training.toy import Toy

ROOT = Path(__file__).parents[2]
HEAVY = Toy(length=40, ballast=3_000_000)  # a checkpoint of 36 MB


def folder_of(recipe: Toy, root: Path) -> Path:
    return place(root, lesson_id(Training(recipe)))


def process(recipe: Toy, root: Path) -> subprocess.Popen[bytes]:
    code = (
        "from pathlib import Path, PosixPath; from harness.cli import learn; from tests.training.toy import Toy; "
        f"learn({recipe!r}, Path({str(root)!r}))"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)


# -- identity


def test_everything_that_decides_the_weights_is_in_the_identity() -> None:
    base = lesson_id(Training(Toy()))
    changed = (Toy(seed=1), Toy(length=25), Toy(rate=0.02), Toy(first=Toy()), Toy(first=Toy(seed=1)))
    assert len({base, *(lesson_id(Training(each)) for each in changed)}) == 6


def test_places_are_not(tmp_path: Path) -> None:
    """They say only that there is a place."""
    one, other = (Toy(diary=tmp_path / name) for name in "ab")
    assert lesson_id(Training(one)) == lesson_id(Training(other))


def test_the_source_of_the_recipe_is_and_the_stored_identity_gives_the_same_id(tmp_path: Path) -> None:
    learn(Toy(), tmp_path)
    stored = json.loads((folder_of(Toy(), tmp_path) / "config.json").read_text())["identity"]
    assert stored["recipe"]["target"] == "tests.training.toy.Toy" and len(stored["recipe"]["source"]) == 16


def test_a_recipe_in_the_file_that_was_started_has_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "__module__", "__main__")
    with pytest.raises(UserError, match="Put it in a module"):
        learn(Toy(), tmp_path)


# -- what is stored


def test_weights_and_curve_are_stored_and_read_the_second_time(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    first, log = learn(Toy(diary=diary), tmp_path)
    again, _ = learn(Toy(diary=diary), tmp_path)
    assert len(diary.read_text().splitlines()) == 1
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    assert first.tables["curve"] == again.tables["curve"]
    assert log.is_file() and not (log.parent / "working").exists()


def test_a_recipe_goes_on_from_the_weights_of_the_one_before(tmp_path: Path) -> None:
    second = Toy(first=Toy(), rate=0.0)
    before, _ = learn(Toy(), tmp_path)
    after, _ = learn(second, tmp_path)
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)


def test_what_was_learned_before_is_not_needed_once_the_next_is_there(tmp_path: Path) -> None:
    second = Toy(first=Toy())
    learn(second, tmp_path)
    (folder_of(Toy(), tmp_path) / "learned.safetensors").unlink()
    learn(second, tmp_path)
    with pytest.raises(UserError, match=r"learned\.safetensors"):
        learn(replace(second, seed=1), tmp_path)


# -- processes


def test_two_processes_that_want_the_same_learn_it_once(tmp_path: Path) -> None:
    recipe = replace(HEAVY, length=20, diary=tmp_path / "diary")
    both = [process(recipe, tmp_path) for _ in range(2)]
    assert [each.wait(timeout=120) for each in both] == [0, 0]
    assert len((tmp_path / "diary").read_text().splitlines()) == 1
    assert look(folder_of(recipe, tmp_path)) == ("learned", "")


def killed(root: Path, writing: bool, wait: float) -> bool:
    """Go on with `HEAVY` and kill it `wait` seconds after its first step of this attempt, or while it writes a checkpoint.
    Whether a training without an end is left.
    """
    folder = folder_of(HEAVY, root)
    working = folder / "working"
    known = stamp(working)
    child = process(HEAVY, root)
    while child.poll() is None and stamp(working) == known:
        time.sleep(0.002)
    time.sleep(wait)
    while child.poll() is None and writing and not list(working.glob(".state.pt.*.part")):
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    return (working / "state.pt").exists() and not (folder / "DONE").exists()


def stamp(working: Path) -> int:
    file = working / "state.pt"
    return file.stat().st_mtime_ns if file.exists() else 0


def test_kills_at_any_moment_end_with_the_weights_of_an_uninterrupted_training(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    learn(HEAVY, whole)
    rng = random.Random(3)
    left = [killed(cut, writing, rng.uniform(0, 0.05)) for writing in (False, True, True, False)]
    assert sum(left) >= 2  # most kills struck in the middle
    learn(HEAVY, cut)
    for name in ("learned.safetensors", "tables/curve.json"):
        assert (folder_of(HEAVY, whole) / name).read_bytes() == (folder_of(HEAVY, cut) / name).read_bytes()


def test_the_lesson_of_a_recipe_asks_for_the_weights_before_it_only_when_it_learns(tmp_path: Path) -> None:
    training(Toy(first=Toy()), tmp_path, lambda words: None).identity()
    assert not list(tmp_path.iterdir())


def test_the_status_of_a_results_folder_says_how_far_a_training_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Toy.loss

    def loss(self: Toy, network: Any, step: int) -> Any:
        if step == 12:
            raise KeyboardInterrupt
        return real(self, network, step)

    monkeypatch.setattr(Toy, "loss", loss)
    with pytest.raises(KeyboardInterrupt):
        learn(Toy(), tmp_path)
    (folder_of(Toy(), tmp_path) / "working" / "log.jsonl").open("a").write('{"step": 13, "lo')  # as a crash leaves it
    assert main(["status", f"results={tmp_path}"]) == 0
    assert re.search(r"to learn toy, seed 0: step 10, loss \d", capsys.readouterr().out)
