"""The one optimisation loop: a step, the log, checkpoints. A killed training goes on from its checkpoint to the same weights.

The loop owns no data: the recipe gives the loss of every step (`contracts/recipe.py`). The clock decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.contracts.recipe import Recipe
from harness.errors import UserError
from harness.training.checkpoint import begin
from harness.training.log import Log


def fit(recipe: Recipe, network: nn.Module, folder: Path, progress: Callable[[str], None]) -> None:
    """Train `network` in place, from the last checkpoint in `folder` or from step 0. `UserError` if the training diverges.

    Keeps `log.jsonl` and `state.pt` there. Torch's generators are the caller's again afterwards.
    """
    optimizer = recipe.optimizer(network)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        state = begin(folder, network, optimizer)
        log = Log(folder, recipe.log_every, state)
        network.train()
        for step in range(state.step, recipe.steps):
            numbers = _step(recipe, network, optimizer, step)
            state.step = step + 1
            last = state.step == recipe.steps
            if log.add(numbers, max(recipe.rates(step)), flush=last):
                progress(log.words(recipe))
            if recipe.report_every and (state.step % recipe.report_every == 0 or last):
                log.write({"step": state.step, **_report(recipe, network, state.step)})
            if state.step % recipe.save_every == 0 or last:
                state.save(folder, network, optimizer)


def _step(recipe: Recipe, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
    """One update of the weights; the loss and the recipe's own numbers."""
    for group, rate in zip(optimizer.param_groups, recipe.rates(step), strict=True):
        group["lr"] = rate
    loss, numbers = recipe.loss(network, step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    if not torch.isfinite(norm):
        raise _diverged(recipe, step, loss, norm)
    optimizer.step()
    return {"loss": float(loss.detach()), **numbers}


def _report(recipe: Recipe, network: nn.Module, done: int) -> dict[str, float]:
    network.eval()
    try:
        with torch.no_grad():
            return dict(recipe.report(network, done))
    finally:
        network.train()


def _diverged(recipe: Recipe, step: int, loss: Tensor, norm: Tensor) -> UserError:
    rate = max(recipe.rates(step))
    return UserError(
        f"The training of {recipe.label} diverged at step {step} of {recipe.steps}: its loss is {float(loss.detach()):.4g}, "
        f"the norm of its gradients {float(norm):.4g}. Lower its learning rate ({rate:.3g} here), warm up for longer, or take "
        "another seed."
    )
