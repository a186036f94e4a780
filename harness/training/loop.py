"""One optimisation loop: AdamW, any learning-rate curve, clipping, a log, checkpoints and exact resumption.

The loop owns no data. ``loss_at(step)`` returns the loss of a step and must depend on nothing but the step and the
weights; then a run that was interrupted and resumed equals one that was not. The clock never decides anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.disk.whole import whole_file


@dataclass(frozen=True)
class Settings:
    """What the loop does. Weight decay touches matrices only, never biases or norms."""

    steps: int
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    log_every: int = 50
    save_every: int = 200


def warmup_then(step: int, peak: float, warmup: int) -> float:
    """Linear from 0 to ``peak`` over ``warmup`` steps, ``peak`` afterwards."""
    return peak * min(1.0, (step + 1) / max(1, warmup))


def optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas)


def fit(
    model: nn.Module,
    settings: Settings,
    loss_at: Callable[[int], tuple[Tensor, dict[str, float]]],
    lr_at: Callable[[int], float],
    out: Path,
    report: Callable[[int], dict[str, float]] | None = None,
    report_every: int = 500,
) -> None:
    """Train ``model`` in place from the last checkpoint in ``out``, or from step 0.

    ``loss_at`` returns a scalar loss and numbers for the log (their mean over ``log_every`` steps is written);
    ``report`` is called every ``report_every`` steps and after the last one, in evaluation mode and without gradients.
    Writes ``log.jsonl`` and ``state.pt`` (weights, optimiser, step).
    """
    out.mkdir(parents=True, exist_ok=True)
    optim = optimizer(model, settings)
    first, spent = _resume(model, optim, out)
    began, window = time.monotonic() - spent, []
    model.train()
    for step in range(first, settings.steps):
        for group in optim.param_groups:
            group["lr"] = lr_at(step)
        loss, numbers = loss_at(step)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"gradient norm {float(norm)} at step {step}")
        optim.step()
        window.append({"loss": float(loss.detach()), **numbers})
        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            _log(out, {"step": done, "lr": lr_at(step), "seconds": time.monotonic() - began, **_means(window)})
            window = []
        if report and (done % report_every == 0 or done == settings.steps):
            model.eval()
            with torch.no_grad():
                _log(out, {"step": done, **report(done)})
            model.train()
        if done % settings.save_every == 0 or done == settings.steps:
            _save(model, optim, done, time.monotonic() - began, out)


def _means(window: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in window for name in row)
    return {n: sum(row[n] for row in window if n in row) / sum(n in row for row in window) for n in names}


def _log(out: Path, row: dict[str, float]) -> None:
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}) + "\n")


def _save(model: nn.Module, optim: torch.optim.Optimizer, step: int, spent: float, out: Path) -> None:
    """An interrupted write never costs the last checkpoint."""
    state = {"model": model.state_dict(), "optimizer": optim.state_dict(), "step": step, "spent": spent}
    with whole_file(out / "state.pt") as file:
        torch.save(state, file)


def _resume(model: nn.Module, optim: torch.optim.Optimizer, out: Path) -> tuple[int, float]:
    path = out / "state.pt"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optim.load_state_dict(state["optimizer"])
    _cut_log(out / "log.jsonl", state["step"])
    return int(state["step"]), float(state["spent"])


def _cut_log(path: Path, step: int) -> None:
    """Drop log lines written after the checkpoint; they will be written again."""
    if path.exists():
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
