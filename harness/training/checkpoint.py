"""Where a training stands, whole on the disk or not at all: weights, optimiser, random numbers, step.

`state.pt` is read as tensors and plain values only, never as code. It is gone when the training is over: what leaves the
folder are safetensors.
"""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.disk.whole import whole_file
from harness.errors import UserError

STATE = "state.pt"


@dataclass
class Checkpoint:
    """`step`: updates of the weights done. `window`: numbers of the steps that were not logged yet."""

    step: int = 0
    window: list[dict[str, float]] = field(default_factory=list)
    before: float = 0.0  # seconds of earlier attempts
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds of all attempts together."""
        return self.before + time.monotonic() - self.began

    def save(self, folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Replace the stored state. An interrupted write never costs the one before."""
        state = {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "random": _random(),
            "step": self.step, "window": self.window, "spent": self.spent,
        }  # fmt: skip
        with whole_file(folder / STATE) as file:
            torch.save(state, file)


def begin(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Checkpoint:
    """What `folder` holds, loaded into network, optimiser and torch's generators; step 0 if it holds nothing. `UserError`
    for a state that cannot be read or belongs to another network.
    """
    file = folder / STATE
    if not file.exists():
        return Checkpoint()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        _restore(state["random"])
        return Checkpoint(state["step"], state["window"], state["spent"])
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError, pickle.UnpicklingError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"The checkpoint {file} cannot be used ({type(error).__name__}: {why}). Delete it and run the same command again: "
            "the training then starts from its first step."
        ) from error


def _random() -> dict[str, Any]:
    """The states of torch's generators, on the CPU and on every GPU."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def _restore(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
