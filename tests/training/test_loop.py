"""The optimisation loop: what it writes, what it leaves alone, and how it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import UserError
from harness.training.checkpoint import STATE
from harness.training.log import curve
from harness.training.loop import fit
from tests.training.toy import Toy


def run(folder: Path, recipe: Toy) -> nn.Module:
    network = recipe.network()
    fit(recipe, network, folder, lambda words: None)
    return network


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def interrupted(folder: Path, recipe: Toy, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that raises in the middle of step `at`."""
    real = Toy.loss

    def loss(self: Toy, network: nn.Module, step: int) -> Any:
        if step == at:
            raise KeyboardInterrupt
        return real(self, network, step)

    monkeypatch.setattr(Toy, "loss", loss)
    with pytest.raises(KeyboardInterrupt):
        run(folder, recipe)
    monkeypatch.undo()


@pytest.mark.parametrize("at", [0, 1, 2, 7, 10, 23])
def test_a_training_that_was_interrupted_ends_with_the_weights_and_the_curve_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    expected = run(whole, Toy()).state_dict()
    interrupted(cut, Toy(), at, monkeypatch)
    torch.manual_seed(99)  # another process has drawn other random numbers by now
    found = run(cut, Toy()).state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert curve(cut / "log.jsonl") == curve(whole / "log.jsonl")


def test_dropout_draws_from_the_seed_of_the_recipe_and_the_caller_keeps_its_own(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        network = Toy().network()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        fit(Toy(), network, tmp_path / name, lambda words: None)
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(network.state_dict()["0.weight"])
    assert torch.equal(*weights)


def test_the_log_holds_means_rates_and_reports(tmp_path: Path) -> None:
    run(tmp_path, Toy())
    found = rows(tmp_path)
    assert [row["step"] for row in found if "loss" in row] == [5, 10, 15, 20, 24]
    assert [row["step"] for row in found if "held_out" in row] == [8, 16, 24]
    assert found[0]["seen"] == 2.0  # the mean of steps 0 to 4
    assert found[0]["lr"] == 0.01
    assert [column.name for column in curve(tmp_path / "log.jsonl").columns] == [
        "step",
        "lr",
        "loss",
        "seen",
        "held_out",
    ]


def test_it_learns(tmp_path: Path) -> None:
    run(tmp_path, Toy(length=200))
    found = [row["loss"] for row in rows(tmp_path) if "loss" in row]
    assert found[-1] < found[0] / 2


def test_people_are_told_where_it_stands(tmp_path: Path) -> None:
    told: list[str] = []
    fit(Toy(), Toy().network(), tmp_path, told.append)
    assert told[0].startswith("training toy, seed 0: step 5 of 24, loss ")
    assert told[0].endswith(" s left") and told[-1].endswith(" 0 s left")


def test_a_training_that_diverges_is_said_with_step_loss_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"toy, seed 0 diverged at step \d+ of 24: its loss is .*Lower its learning rate"
    ):
        run(tmp_path, Toy(rate=1e30))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 torn", b"\x80\x02c__builtin__\neval\n."], ids=["empty", "torn", "code"]
)
def test_a_damaged_checkpoint_is_named_and_never_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt cannot be used .*Delete it"):
        run(tmp_path, Toy())


def test_the_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    run(tmp_path, Toy())
    with pytest.raises(UserError, match=r"state\.pt cannot be used .*ballast"):
        run(tmp_path, Toy(ballast=3))
